//! `cargo xtask kernels [--check]`: CUDA sources to PTX and to the table of registers that `ptxas` allocates.
//!
//! The tools come from pinned wheels, unpacked once into `.ctk/`. Text that depends on the machine (comments, paths)
//! is dropped from the PTX, so that the same sources give the same bytes anywhere.

use serde::Serialize;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The PTX version written into the generated files; `ptxas` then checks that nothing newer is used.
///
/// The compiler of CUDA 13.0 writes 9.0, which only drivers from 580 load, though the kernels use nothing newer than
/// `wgmma` (8.0, drivers from 525).
const PTX_VERSION: &str = "8.0";
/// Name and version of the pinned compiler wheel, kept in the resource table.
const COMPILER: &str = "13.0.88";
/// Pinned wheels with their hashes.
const TOOLKIT: &str = include_str!("../toolkit.txt");

/// Arguments of `cargo xtask kernels`.
#[derive(clap::Args)]
pub struct Args {
    /// Compare with the committed files instead of writing them
    #[arg(long)]
    check: bool,
}

/// What could not be done; reads after "failed to".
type Failure = String;

/// One generated PTX module.
struct ModuleSpec {
    /// Stem of the source and of the PTX file.
    name: &'static str,
    /// Virtual architecture of the PTX.
    arch: &'static str,
    /// Architecture whose registers are recorded.
    measured: &'static str,
    /// Further architectures that must assemble.
    also: &'static [&'static str],
}

const MODULES: [ModuleSpec; 2] = [
    ModuleSpec { name: "portable", arch: "compute_80", measured: "sm_90", also: &["sm_80", "sm_100"] },
    ModuleSpec { name: "sm90a", arch: "compute_90a", measured: "sm_90a", also: &[] },
];

/// What one thread and one block of an entry point take, as `ptxas -v` reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct Resources {
    module: String,
    registers: u32,
    static_shared: u32,
    stack: u32,
    spill_stores: u32,
    spill_loads: u32,
}

/// `resources.json`.
#[derive(Serialize)]
struct Table {
    generated_by: &'static str,
    ptxas: &'static str,
    architectures: BTreeMap<&'static str, &'static str>,
    entries: BTreeMap<String, Resources>,
}

/// Runs the task.
///
/// # Errors
/// A tool that cannot be fetched or that fails, a spilling kernel, or (with `--check`) a file that differs.
pub fn run(args: &Args) -> Result<(), Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .ok_or("find the repository root above xtask/")?
        .to_path_buf();
    let toolkit = Toolkit::unpacked(&root)?;
    let scratch = root.join("target").join("xtask-kernels");
    fs::create_dir_all(&scratch).map_err(|e| format!("create {}: {e}", scratch.display()))?;

    let mut entries = BTreeMap::new();
    let mut files = Vec::new();
    for m in &MODULES {
        let ptx = toolkit.compile(&root, &scratch, m)?;
        let path = scratch.join(format!("{}.clean.ptx", m.name));
        fs::write(&path, &ptx).map_err(|e| format!("write {}: {e}", path.display()))?;
        for arch in m.also {
            toolkit.assemble(&path, arch)?;
        }
        let log = toolkit.assemble(&path, m.measured)?;
        let found = parse_ptxas(&log, m.name)?;
        let stated = entry_points(&ptx).count();
        if found.len() != stated {
            return Err(format!(
                "match ptxas's report of {}: {} entries, the PTX has {stated}",
                m.name,
                found.len()
            ));
        }
        entries.extend(found);
        files.push((format!("{}.ptx", m.name), ptx));
    }
    refuse_spills(&entries)?;
    let table = Table {
        generated_by: "cargo xtask kernels",
        ptxas: COMPILER,
        architectures: MODULES.iter().map(|m| (m.name, m.measured)).collect(),
        entries,
    };
    let json = serde_json::to_string_pretty(&table).map_err(|e| format!("write resources.json: {e}"))?;
    files.push(("resources.json".into(), json + "\n"));

    let folder = root.join("crates").join("kernels").join("ptx");
    if args.check {
        return files.iter().try_for_each(|(name, text)| compare(&folder.join(name), text));
    }
    fs::create_dir_all(&folder).map_err(|e| format!("create {}: {e}", folder.display()))?;
    for (name, text) in &files {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|e| format!("write {}: {e}", path.display()))?;
        println!("{name}: {} bytes", text.len());
    }
    Ok(())
}

/// The unpacked CUDA tools.
struct Toolkit {
    home: PathBuf,
}

impl Toolkit {
    /// Fetches the pinned wheels into `.ctk/` unless those very ones are there already.
    fn unpacked(root: &Path) -> Result<Toolkit, Failure> {
        let base = root.join(".ctk");
        let home = base.join("nvidia").join("cu13");
        let marker = base.join("toolkit.txt");
        if fs::read_to_string(&marker).is_ok_and(|have| have == TOOLKIT) {
            return Ok(Toolkit { home });
        }
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err("fetch the CUDA tools: the pinned wheels are for x86-64 Linux".into());
        }
        let wheels = base.join("wheels");
        // Only what this task made is removed.
        for old in [&wheels, &base.join("nvidia")] {
            if old.exists() {
                fs::remove_dir_all(old).map_err(|e| format!("clear {}: {e}", old.display()))?;
            }
        }
        fs::create_dir_all(&wheels).map_err(|e| format!("create {}: {e}", wheels.display()))?;
        let pins = root.join("xtask").join("toolkit.txt");
        let mut pip = Command::new("python3");
        pip.args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--require-hashes",
        ]);
        pip.arg("--requirement").arg(&pins).arg("--dest").arg(&wheels);
        output_of(&mut pip)?;
        for wheel in sorted(&wheels)? {
            output_of(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&base))?;
        }
        for folder in [home.join("bin"), home.join("nvvm").join("bin")] {
            for tool in sorted(&folder)? {
                make_executable(&tool)?;
            }
        }
        fs::remove_dir_all(&wheels).map_err(|e| format!("clear {}: {e}", wheels.display()))?;
        fs::write(&marker, TOOLKIT).map_err(|e| format!("write {}: {e}", marker.display()))?;
        Ok(Toolkit { home })
    }

    fn tool(&self, name: &str) -> Command {
        Command::new(self.home.join("bin").join(name))
    }

    /// Source to cleaned PTX.
    fn compile(&self, root: &Path, scratch: &Path, m: &ModuleSpec) -> Result<String, Failure> {
        let out = scratch.join(format!("{}.ptx", m.name));
        let mut nvcc = self.tool("nvcc");
        nvcc.current_dir(root.join("kernels"))
            .args(["-std=c++17", "-ptx", "-arch", m.arch])
            .arg("-I")
            .arg(self.home.join("include").join("cccl"))
            .arg(format!("{}.cu", m.name))
            .arg("-o")
            .arg(&out);
        output_of(&mut nvcc)?;
        let raw = fs::read_to_string(&out).map_err(|e| format!("read {}: {e}", out.display()))?;
        clean_ptx(&raw)
    }

    /// Assembles and returns the verbose report.
    fn assemble(&self, ptx: &Path, arch: &str) -> Result<String, Failure> {
        let cubin = ptx.with_extension(format!("{arch}.cubin"));
        output_of(self.tool("ptxas").args(["-v", "-arch", arch]).arg(ptx).arg("-o").arg(cubin))
    }
}

/// Runs a command and returns what it printed (both streams).
fn output_of(command: &mut Command) -> Result<String, Failure> {
    let name = command.get_program().to_owned();
    let shown = Path::new(&name).file_name().map_or_else(|| name.clone(), OsStr::to_owned);
    let out = command.output().map_err(|e| format!("start {}: {e}", shown.display()))?;
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    if out.status.success() {
        Ok(text)
    } else {
        Err(format!("run {}: {}\n{text}", shown.display(), out.status))
    }
}

fn sorted(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let read = fs::read_dir(folder).map_err(|e| format!("list {}: {e}", folder.display()))?;
    let mut paths: Vec<_> = read.filter_map(Result::ok).map(|e| e.path()).filter(|p| p.is_file()).collect();
    paths.sort();
    Ok(paths)
}

#[cfg(unix)]
fn make_executable(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(|e| format!("make {} executable: {e}", path.display()))
}

#[cfg(not(unix))]
fn make_executable(_path: &Path) -> Result<(), Failure> {
    Ok(())
}

/// Drops comments and blank lines, sets [`PTX_VERSION`], and names the generator on top.
fn clean_ptx(raw: &str) -> Result<String, Failure> {
    let mut text = format!("// Generated by `cargo xtask kernels` (nvcc {COMPILER}); do not edit.\n");
    let mut versions = 0;
    for line in raw.lines() {
        let bare = line.trim();
        if bare.is_empty() || bare.starts_with("//") {
            continue;
        }
        if bare.starts_with(".version ") {
            versions += 1;
            text.push_str(&format!(".version {PTX_VERSION}\n"));
            continue;
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if versions == 1 {
        Ok(text)
    } else {
        Err(format!("find one .version line in the PTX: there are {versions}"))
    }
}

/// Names of the entry points of a PTX module.
fn entry_points(ptx: &str) -> impl Iterator<Item = &str> {
    ptx.lines().filter_map(|l| l.trim().strip_prefix(".visible .entry ")).map(|l| l.trim_end_matches('('))
}

/// Reads the report of `ptxas -v`: per entry a "Compiling" line, a line with the stack frame and spills, and a line
/// with registers and shared memory.
fn parse_ptxas(log: &str, module: &str) -> Result<BTreeMap<String, Resources>, Failure> {
    let mut entries: BTreeMap<String, Resources> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in log.lines() {
        if let Some(rest) = line.split("Compiling entry function '").nth(1) {
            let name = rest.split('\'').next().unwrap_or_default().to_owned();
            entries.insert(name.clone(), Resources { module: module.into(), ..Resources::default() });
            current = Some(name);
        }
        let Some(entry) = current.as_ref().and_then(|n| entries.get_mut(n)) else { continue };
        if line.contains("bytes stack frame") {
            entry.stack = number_before(line, " bytes stack frame")?;
            entry.spill_stores = number_before(line, " bytes spill stores")?;
            entry.spill_loads = number_before(line, " bytes spill loads")?;
        }
        if line.contains("Used ") && line.contains(" registers") {
            entry.registers = number_before(line, " registers")?;
            if line.contains(" bytes smem") {
                entry.static_shared = number_before(line, " bytes smem")?;
            }
        }
    }
    match entries.iter().find(|(_, r)| r.registers == 0) {
        Some((name, _)) => Err(format!("find the registers of {name} in ptxas's report")),
        None => Ok(entries),
    }
}

fn number_before(line: &str, what: &str) -> Result<u32, Failure> {
    line.split(what)
        .next()
        .and_then(|head| head.rsplit(|c: char| !c.is_ascii_digit()).next())
        .and_then(|n| n.parse().ok())
        .ok_or_else(|| format!("read the number before `{}` in `{line}`", what.trim()))
}

fn refuse_spills(entries: &BTreeMap<String, Resources>) -> Result<(), Failure> {
    let bad: Vec<_> = entries
        .iter()
        .filter(|(_, r)| r.spill_stores + r.spill_loads + r.stack > 0)
        .map(|(n, r)| {
            format!(
                "{n} ({} B stack, {} B spill stores, {} B spill loads)",
                r.stack, r.spill_stores, r.spill_loads
            )
        })
        .collect();
    if bad.is_empty() { Ok(()) } else { Err(format!("keep kernels out of local memory: {}", bad.join(", "))) }
}

/// Compares a committed file with what the sources give.
fn compare(path: &Path, fresh: &str) -> Result<(), Failure> {
    const HINT: &str = "run `cargo xtask kernels` and commit crates/kernels/ptx";
    let have = fs::read_to_string(path).map_err(|e| format!("read {}: {e}; {HINT}", path.display()))?;
    if have == fresh {
        return Ok(());
    }
    let differing = have.lines().zip(fresh.lines()).position(|(a, b)| a != b);
    let line = differing.unwrap_or_else(|| have.lines().count().min(fresh.lines().count()));
    let show = |text: &str| text.lines().nth(line).unwrap_or("(end of file)").to_owned();
    Err(format!(
        "match {}: it differs from what the sources give, first at line {}\n  committed: {}\n  generated: {}\n{HINT}",
        path.display(),
        line + 1,
        show(&have),
        show(fresh)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "ptxas info    : 0 bytes gmem\n\
        ptxas info    : Compiling entry function 'smem_vector' for 'sm_90'\n\
        ptxas info    : Function properties for smem_vector\n    \
        0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
        ptxas info    : Used 29 registers, used 1 barriers, 16384 bytes smem\n\
        ptxas info    : Compile time = 1.0 ms\n\
        ptxas info    : Compiling entry function 'greedy' for 'sm_90'\n    \
        8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads\n\
        ptxas info    : Used 255 registers, 400 bytes cmem[0]\n";

    #[test]
    fn the_report_of_ptxas_is_read() {
        let r = parse_ptxas(LOG, "portable").unwrap();
        assert_eq!((r["smem_vector"].registers, r["smem_vector"].static_shared), (29, 16384));
        assert_eq!((r["greedy"].registers, r["greedy"].static_shared), (255, 0));
        assert_eq!((r["greedy"].stack, r["greedy"].spill_stores, r["greedy"].spill_loads), (8, 12, 16));
    }

    #[test]
    fn spills_are_refused_by_name() {
        let e = refuse_spills(&parse_ptxas(LOG, "portable").unwrap()).unwrap_err();
        assert!(e.contains("greedy") && !e.contains("smem_vector"), "{e}");
    }

    #[test]
    fn an_entry_without_registers_is_an_error() {
        let cut = "ptxas info    : Compiling entry function 'lost' for 'sm_90'\n";
        assert!(parse_ptxas(cut, "portable").unwrap_err().contains("lost"));
    }

    #[test]
    fn cleaning_sets_the_version_and_drops_what_depends_on_the_machine() {
        let raw = "//\n// /home/someone\n.version 9.0\n.target sm_80\n\n\t// begin inline asm\n\tret;\n";
        let text = clean_ptx(raw).unwrap();
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), [".version 8.0", ".target sm_80", "\tret;"]);
        assert!(clean_ptx("ret;").is_err());
    }

    #[test]
    fn a_difference_is_shown_with_its_line() {
        let folder = std::env::temp_dir().join(format!("xtask-compare-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("x.ptx");
        fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(compare(&path, "one\ntwo\n"), Ok(()));
        let e = compare(&path, "one\nthree\n").unwrap_err();
        assert!(e.contains("line 2") && e.contains("generated: three"), "{e}");
        assert!(compare(&path, "one\ntwo\nmore\n").unwrap_err().contains("generated: more"));
        fs::remove_dir_all(&folder).unwrap();
    }
}
