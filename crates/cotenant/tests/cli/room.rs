//! A working folder of its own for each test, and the program run in it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// The program under test.
pub const EXE: &str = env!("CARGO_BIN_EXE_cotenant");

/// Longest time that a verb may take here; a hang fails the test instead of stopping it.
const PATIENCE: Duration = Duration::from_secs(120);

/// An empty folder, removed at the end.
pub struct Room {
    dir: tempfile::TempDir,
}

/// How a call ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; -1 where a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Demands an exit code, and returns the call for more.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e} in:\n{}", self.out))
    }

    /// The run folder that the last line of the output names.
    #[track_caller]
    pub fn run_folder(&self) -> &str {
        let page =
            self.out.lines().rev().find_map(|l| l.strip_prefix("report: ")).expect("a report is named");
        page.strip_suffix("/report.html").expect("the report is in the run folder")
    }
}

impl Room {
    pub fn new() -> Room {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("tmp")).expect("a folder for temporary files");
        Room { dir }
    }

    /// Where programs that are started here put temporary files.
    pub fn tmp(&self) -> PathBuf {
        self.dir.path().join("tmp")
    }

    /// What lies there, by name.
    pub fn scratch(&self) -> Vec<String> {
        let all = std::fs::read_dir(self.tmp()).expect("the folder for temporary files");
        all.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
    }

    /// What every process has in its environment that was started in this room, directly or not.
    fn mark(&self) -> (&'static str, PathBuf) {
        ("TMPDIR", self.tmp())
    }

    /// Command lines of all processes that were started in this room, directly or not, and have not ended.
    pub fn processes(&self) -> Vec<String> {
        let (name, value) = self.mark();
        let mark = format!("{name}={}", value.display());
        let of = |entry: std::fs::DirEntry| {
            let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
            let marked = read("environ").split(|b| *b == 0).any(|v| v == mark.as_bytes());
            let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            marked.then_some(line)
        };
        let all = std::fs::read_dir("/proc").expect("/proc");
        all.filter_map(|e| of(e.ok()?)).collect()
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into the room.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("write into the room");
        path
    }

    /// The program with its arguments, in this room, on a machine that shows no GPU.
    pub fn command(&self, args: &[&str]) -> assert_cmd::Command {
        let mut c = assert_cmd::Command::new(EXE);
        c.args(args).current_dir(self.path()).timeout(PATIENCE).env(self.mark().0, self.mark().1);
        for (k, v) in no_gpu() {
            c.env(k, v);
        }
        for k in SCRUBBED {
            c.env_remove(k);
        }
        c
    }

    /// Runs to the end.
    pub fn cotenant(&self, args: &[&str]) -> Ran {
        Self::ran(self.command(args))
    }

    /// Runs a prepared command to the end.
    pub fn ran(mut c: assert_cmd::Command) -> Ran {
        let o = c.output().expect("the program starts and ends in time");
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).expect("output is UTF-8");
        Ran { code: o.status.code().unwrap_or(-1), out: text(&o.stdout), err: text(&o.stderr) }
    }

    /// Starts the program and returns at once.
    pub fn start(&self, args: &[&str]) -> std::process::Child {
        self.start_program(Path::new(EXE), args)
    }

    /// The same, of a program that is another copy.
    pub fn start_program(&self, exe: &Path, args: &[&str]) -> std::process::Child {
        let mut c = std::process::Command::new(exe);
        c.args(args).current_dir(self.path()).envs(no_gpu()).env(self.mark().0, self.mark().1);
        for k in SCRUBBED {
            c.env_remove(k);
        }
        c.stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// All run folders in `runs/`, oldest name first.
    pub fn runs(&self) -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> = std::fs::read_dir(self.path().join("runs"))
            .map(|d| d.filter_map(|e| Some(e.ok()?.path())).collect())
            .unwrap_or_default();
        all.sort();
        all
    }
}

/// A file of JSON lines.
#[track_caller]
pub fn json_lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
}

/// An environment in which neither the driver nor NVML shows a GPU, whatever the machine has.
fn no_gpu() -> [(&'static str, &'static str); 2] {
    [("CUDA_VISIBLE_DEVICES", ""), ("COTENANT_NVML", "/nonexistent/libnvidia-ml.so.1")]
}

/// What a developer's shell may have set that would change what is tested.
const SCRUBBED: [&str; 6] = [
    "COTENANT_DEVICE",
    "COTENANT_WORKER_EXE",
    "COTENANT_CUBLAS",
    "CUDA_MPS_PIPE_DIRECTORY",
    "COLUMNS",
    "RUST_BACKTRACE",
];

/// What differs from call to call, for snapshots: times, versions and revisions, temporary folders.
pub const FILTERS: [(&str, &str); 6] = [
    (r"\d{8}T\d{6}Z", "[STAMP]"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "[TIME]"),
    (r"0\.\d+\.\d+ \([0-9a-f]{12}(-dirty)?\)|0\.\d+\.\d+ \(unknown\)", "[VERSION]"),
    (r"/(private/)?tmp/\.tmp[A-Za-z0-9]{6}", "[ROOM]"),
    (r"/[^\s:]*/\.tmp[A-Za-z0-9]{6}", "[ROOM]"),
    (r"[ \t]+\n", "\n"),
];

/// Compares text with its stored snapshot, after [`FILTERS`].
macro_rules! snap {
    ($name:expr, $text:expr) => {
        insta::with_settings!({
            prepend_module_to_snapshot => false,
            omit_expression => true,
            filters => crate::room::FILTERS.to_vec(),
        }, { insta::assert_snapshot!($name, $text) })
    };
}
pub(crate) use snap;
