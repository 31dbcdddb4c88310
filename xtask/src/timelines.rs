//! `cargo xtask timelines [RUN]`: makes recorded kernel time lines of models from a run on a real GPU. Without RUN it
//! only writes the list of those that are there, after files were copied in from a GPU host.
//!
//! RUN is the folder of `cotenant run … --keep-traces`: its traces hold every kernel of the iterations of the
//! phases `solo-traced`, and its records say when each iteration began and ended, how long iterations took without
//! the kernel clock, and what the GPU's counters said meanwhile. One file for each workload goes to
//! `devices/timelines/DEVICE/`. With `--times-only` RUN needs no traces: the files that exist keep their kernels and
//! get the times and counters of its phases `solo`.

use clap::Args as ClapArgs;
use cotenant_sim::recorded::align::{self, Launch, Median, Transfer};
use cotenant_sim::recorded::class::class_of;
use cotenant_sim::recorded::{
    FORMAT, Measured, Provenance, Recorded, RecordedKernel, SPREAD_SHARES, Step, Workload,
};
use cotenant_store::format::{GpuState, TenantRecord};
use cotenant_store::{Run, load};
use cotenant_timeline::Trace;
use cotenant_timeline::format::Shape;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Time lines, from the repository root.
const FOLDER: &str = "devices/timelines";
/// Source file that embeds them.
const LIST: &str = "crates/sim/src/recorded/files.rs";
/// Share of a counter's windows from which on it tells of the phase.
const WITHIN: f64 = 0.7;
/// CUPTI's number of copies from the device to the host.
const TO_HOST: u8 = 2;
/// Longest name of a kernel that is kept, characters.
const NAME: usize = 160;

#[derive(ClapArgs)]
pub struct Args {
    /// Folder of a run on a real GPU, made with --keep-traces; without it the list of time lines is written anew
    run: Option<PathBuf>,
    /// Take no kernels from the run, only wall and event times and counters, for the time lines that exist
    #[arg(long, requires = "run")]
    times_only: bool,
    /// Name of the device card; by default the built-in card of the run's device
    #[arg(long)]
    device: Option<String>,
    /// Folder that gets the folder of the device
    #[arg(long, default_value = FOLDER)]
    out: PathBuf,
}

type Failure = String;

pub fn run(args: &Args) -> Result<(), Failure> {
    let Some(folder_of_run) = &args.run else { return embed() };
    let run = load(folder_of_run).map_err(|e| e.to_string())?;
    if run.manifest.simulated {
        return Err(format!("record time lines of {}: it is a simulated run", folder_of_run.display()));
    }
    let device = match &args.device {
        Some(d) => d.clone(),
        None => card_of(&run.manifest.device.name)?,
    };
    let folder = args.out.join(&device);
    if args.times_only {
        return retime(&run, &folder);
    }
    let traces = read_traces(&folder_of_run.join("traces"))?;
    std::fs::create_dir_all(&folder).map_err(|e| format!("make {}: {e}", folder.display()))?;
    let mut written = 0;
    for (stem, recorded) in recorded(&run, &traces, &device)? {
        let path = folder.join(format!("{stem}.json"));
        let text = recorded.to_json().map_err(|e| e.to_string())?;
        std::fs::write(&path, &text).map_err(|e| format!("write {}: {e}", path.display()))?;
        println!(
            "{}: {} launches of {} kernels, {} iterations ({} left out), wall {:.2} ms, kernels {:.2} ms, {} KiB",
            path.display(),
            recorded.steps.len(),
            recorded.kernels.len(),
            recorded.iterations,
            recorded.dropped,
            recorded.wall_ns as f64 / 1e6,
            recorded.busy_ns as f64 / 1e6,
            text.len() / 1024,
        );
        written += 1;
    }
    if written == 0 {
        return Err(format!(
            "find a model with a phase solo-traced and its trace in {}: run it with measure.traced and --keep-traces",
            folder_of_run.display()
        ));
    }
    // Elsewhere, on a GPU host say, there need not be a checkout.
    if args.out == Path::new(FOLDER) { embed() } else { Ok(()) }
}

/// Gives the time lines in `folder` the times and counters of the phases `solo` of a run.
fn retime(run: &Run, folder: &Path) -> Result<(), Failure> {
    let mut changed = 0;
    for trial in &run.manifest.trials {
        for tenant in &trial.tenants {
            let Some(workload) = workload(tenant)? else { continue };
            let path = folder.join(format!("{}.json", workload.file_stem()));
            let mut solo = solo(run, &trial.id, &tenant.name);
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            if solo.walls.is_empty() {
                continue;
            }
            let mut r = Recorded::from_json(&text).map_err(|e| format!("read {}: {e}", path.display()))?;
            let before = r.wall_ns;
            let m = &run.manifest;
            solo.times(&mut r);
            r.provenance.times = Some(format!("{}/{}, {}", m.name, trial.id, m.provenance.started));
            r.check().map_err(|e| format!("{e} ({})", path.display()))?;
            let text = r.to_json().map_err(|e| e.to_string())?;
            std::fs::write(&path, text).map_err(|e| format!("write {}: {e}", path.display()))?;
            let [before, now] = [before, r.wall_ns].map(|ns| ns as f64 / 1e6);
            println!("{}: wall {before:.2} ms, now {now:.2} ms", path.display());
            changed += 1;
        }
    }
    if changed == 0 {
        return Err(format!("find a time line in {} of a workload that the run has alone", folder.display()));
    }
    Ok(())
}

/// Writes the list of time lines that the program carries: all files below [`FOLDER`].
fn embed() -> Result<(), Failure> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().ok_or("find the repository root above xtask/")?;
    let path = root.join(LIST);
    let text = list(&root.join(FOLDER))?;
    std::fs::write(&path, text).map_err(|e| format!("write {LIST}: {e}"))
}

fn list(folder: &Path) -> Result<String, Failure> {
    let fail = |e: std::io::Error| format!("read {}: {e}", folder.display());
    let names = |dir: &Path| -> Result<Vec<String>, Failure> {
        let mut out = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(fail)? {
            out.push(entry.map_err(fail)?.file_name().to_string_lossy().into_owned());
        }
        out.sort();
        Ok(out)
    };
    let mut text = String::from(
        "//! Generated by `cargo xtask timelines`; do not edit.\n\n/// Device, file stem and text of each time line.\n\
         #[rustfmt::skip]\npub(super) const FILES: &[(&str, &str, &str)] = &[\n",
    );
    for device in names(folder)? {
        for file in names(&folder.join(&device))? {
            let Some(stem) = file.strip_suffix(".json") else { continue };
            let path = format!("../../../../{FOLDER}/{device}/{file}");
            let _ = writeln!(text, "    ({device:?}, {stem:?}, include_str!({path:?})),");
        }
    }
    text.push_str("];\n");
    Ok(text)
}

fn card_of(device: &str) -> Result<String, Failure> {
    let cards = cotenant_model::builtin_names();
    let found = cards.iter().find(|n| cotenant_model::builtin(n).is_some_and(|c| c.device == device));
    found
        .map(|n| (*n).to_owned())
        .ok_or_else(|| format!("find the card of {device} among {}: name it with --device", cards.join(", ")))
}

/// A trace with its kernels by start.
struct Kept {
    trace: Trace,
    launches: Vec<Launch>,
    transfers: Vec<Transfer>,
    /// Shape of each kernel number in `launches`.
    shapes: Vec<Shape>,
}

fn read_traces(folder: &Path) -> Result<Vec<Kept>, Failure> {
    let fail = |e: std::io::Error| format!("read the folder {}: {e}", folder.display());
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        if path.extension().is_some_and(|e| e == "trace") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|p| Ok(kept(Trace::read(p).map_err(|e| format!("{e} ({})", p.display()))?))).collect()
}

/// Numbers kernels by what the simulator tells apart: name, grid, block, registers, shared memory. (Sites would
/// tell nodes of a graph apart, and so every launch.)
fn kept(trace: Trace) -> Kept {
    let mut number: HashMap<Shape, u32> = HashMap::new();
    let mut shapes = Vec::new();
    let mut launches = Vec::with_capacity(trace.kernels.len());
    for k in &trace.kernels {
        let site = trace.sites.get(k.site as usize);
        let Some(shape) = site.and_then(|s| trace.shapes.get(s.shape as usize)) else { continue };
        let kernel = *number.entry(*shape).or_insert_with(|| {
            shapes.push(*shape);
            shapes.len() as u32 - 1
        });
        launches.push(Launch { start_ns: k.start_ns, duration_ns: k.duration_ns, kernel });
    }
    launches.sort_unstable();
    let transfers = trace
        .transfers
        .iter()
        .map(|t| Transfer {
            start_ns: t.start_ns,
            duration_ns: t.duration_ns,
            to_host: t.direction == TO_HOST,
        })
        .collect();
    Kept { trace, launches, transfers, shapes }
}

/// What the phases of one tenant alone told.
#[derive(Default)]
struct Solo {
    /// Traced iterations, `CLOCK_MONOTONIC`.
    traced: Vec<(u64, u64)>,
    walls: Vec<u64>,
    events: Vec<u64>,
    busy: Vec<u64>,
    tokens: u64,
    states: Vec<GpuState>,
}

impl Solo {
    /// Puts in what was measured without the kernel clock. There are wall times: the caller has looked.
    fn times(&mut self, r: &mut Recorded) {
        self.walls.sort_unstable();
        let at = |share: f64| {
            let i = (share * (self.walls.len().saturating_sub(1)) as f64).round() as usize;
            self.walls.get(i).copied().unwrap_or(0)
        };
        r.wall_spread_ns = SPREAD_SHARES.map(at);
        r.wall_ns = r.wall_spread_ns[SPREAD_SHARES.len() / 2];
        r.event_ns = align::median(&mut self.events);
        r.measured = means(&self.states);
    }
}

fn recorded(run: &Run, traces: &[Kept], device: &str) -> Result<Vec<(String, Recorded)>, Failure> {
    let mut out: BTreeMap<String, Recorded> = BTreeMap::new();
    for trial in &run.manifest.trials {
        for tenant in &trial.tenants {
            let Some(workload) = workload(tenant)? else { continue };
            let solo = solo(run, &trial.id, &tenant.name);
            if solo.traced.is_empty() || solo.walls.is_empty() {
                continue;
            }
            let inside = |k: &Kept| {
                let in_it = |&(from, to): &(u64, u64)| {
                    let at = |t| k.launches.partition_point(|l| l.start_ns < t);
                    at(to) - at(from)
                };
                solo.traced.iter().map(in_it).sum::<usize>()
            };
            let Some(trace) = traces.iter().max_by_key(|k| inside(k)).filter(|k| inside(k) > 0) else {
                continue;
            };
            let Some(median) = align::align(&solo.traced, &trace.launches, &trace.transfers) else {
                continue;
            };
            let facts = run
                .outcomes
                .iter()
                .rev()
                .find(|o| o.trial == trial.id)
                .and_then(|o| o.facts.get(&tenant.name))
                .cloned()
                .unwrap_or_default();
            let stem = workload.file_stem();
            let r = assemble(run, &trial.id, device, workload, solo, trace, median, &facts);
            r.check().map_err(|e| format!("{e} ({stem})"))?;
            // Of a workload that several trials ran, the one with the most iterations.
            if out.get(&stem).is_none_or(|o| o.iterations < r.iterations) {
                out.insert(stem, r);
            }
        }
    }
    Ok(out.into_iter().collect())
}

/// The workload of a model tenant in a closed loop without pauses; `None` for others.
fn workload(t: &TenantRecord) -> Result<Option<Workload>, Failure> {
    let open = !t.load.arrivals.is_null() || t.load.gap_ns.0 > 0;
    if t.kind != "torch" || open || t.workload.get("device").is_some_and(|d| d != "cuda") {
        return Ok(None);
    }
    let text = |key: &str| {
        let v = t.workload.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        v.ok_or_else(|| format!("read tenant {} of the manifest: it has no workload.{key}", t.name))
    };
    let number = |key: &str| t.workload.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0) as u32;
    let on = |key: &str| t.workload.get(key).and_then(serde_json::Value::as_bool).unwrap_or(false);
    let mode = text("mode")?;
    Ok(Some(Workload {
        model: text("model")?,
        dtype: text("dtype")?,
        batch: number("batch"),
        sequence: number("sequence"),
        tokens: if mode == "decode" { number("tokens") } else { 0 },
        cuda_graph: on("cuda_graph"),
        compile: on("compile"),
        attention: text("attention")?,
        mode,
    }))
}

fn solo(run: &Run, trial: &str, tenant: &str) -> Solo {
    let mut s = Solo::default();
    let phases = run.repeats.iter().filter(|r| r.trial == trial).flat_map(|r| &r.phases);
    for p in phases {
        let Some(t) = p.tenants.iter().find(|t| t.name == tenant && p.tenants.len() == 1) else { continue };
        match (p.phase.as_str(), p.begun_ns) {
            ("solo", _) => {
                s.walls.extend(&t.requests_ns);
                s.events.extend(t.event_ns.iter().filter(|e| **e > 0));
                let n = t.requests_ns.len().max(1) as u64;
                s.tokens = t.tokens / n;
                s.states.extend(p.state.clone());
            }
            ("solo-traced", Some(begun)) => {
                s.traced.extend(t.spans_ns.iter().map(|(a, b)| (begun + a, begun + b)));
                s.busy.extend(&t.busy_ns);
            }
            _ => {}
        }
    }
    s.traced.sort_unstable();
    s
}

#[expect(clippy::too_many_arguments, reason = "the parts of one record, each from another place")]
fn assemble(
    run: &Run,
    trial: &str,
    device: &str,
    workload: Workload,
    mut solo: Solo,
    kept: &Kept,
    median: Median,
    facts: &BTreeMap<String, serde_json::Value>,
) -> Recorded {
    let fact = |key: &str| facts.get(key).and_then(serde_json::Value::as_str).unwrap_or("").to_owned();
    let reserved = facts.get("memory_reserved").and_then(serde_json::Value::as_u64).unwrap_or(0);
    let pid = kept.trace.pid;
    let process = solo.states.iter().filter_map(|s| s.process_memory_bytes.get(&pid).copied()).max();
    // Only the shapes of this sequence, numbered as they come.
    let mut number: BTreeMap<u32, u32> = BTreeMap::new();
    let mut kernels = Vec::new();
    let steps = median
        .steps
        .iter()
        .map(|s| {
            let kernel = *number.entry(s.kernel).or_insert_with(|| {
                kernels.push(kernel(&kept.trace, &kept.shapes[s.kernel as usize]));
                kernels.len() as u32 - 1
            });
            Step { kernel, ..*s }
        })
        .collect();
    let m = &run.manifest;
    let mut out = Recorded {
        format: FORMAT,
        device: device.to_owned(),
        workload,
        provenance: Provenance {
            run: format!("{}/{trial}", m.name),
            started: m.provenance.started.clone(),
            device: m.device.name.clone(),
            driver: m.device.driver.clone().unwrap_or_default(),
            cuda: fact("cuda"),
            torch: fact("torch"),
            transformers: fact("transformers"),
            weights: fact("weights"),
            recorder: format!("cotenant {}, {}", m.provenance.version, m.provenance.git_revision),
            times: None,
        },
        iterations: median.iterations,
        dropped: median.dropped,
        tokens_per_iteration: solo.tokens,
        memory_bytes: process.unwrap_or(reserved),
        wall_ns: 0,
        wall_spread_ns: [0; SPREAD_SHARES.len()],
        event_ns: 0,
        traced_wall_ns: median.wall_ns,
        busy_ns: align::median(&mut solo.busy),
        tail_ns: median.tail_ns,
        between_ns: median.between_ns,
        measured: Measured::default(),
        host_reads: median.host_reads.clone(),
        kernels,
        steps,
    };
    solo.times(&mut out);
    out
}

fn kernel(trace: &Trace, shape: &Shape) -> RecordedKernel {
    let name = trace.names.get(shape.name as usize).map_or("", String::as_str);
    RecordedKernel {
        name: name.chars().take(NAME).collect(),
        class: class_of(name),
        grid: shape.grid,
        block: shape.block,
        registers: shape.registers.into(),
        static_shared: shape.static_shared,
        dynamic_shared: shape.dynamic_shared,
        demand: None,
    }
}

/// Means of the counters over the phases, to a hundredth: over those that their windows lie in, where there are any.
fn means(states: &[GpuState]) -> Measured {
    let within = |s: &&GpuState| s.gpm_share.is_none_or(|share| share >= WITHIN);
    let any = states.iter().any(|s| s.gpm_share.is_some() && within(&s));
    let mean = |f: fn(&GpuState) -> Option<f64>| {
        let v: Vec<f64> = states.iter().filter(|s| !any || within(s)).filter_map(f).collect();
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        (!v.is_empty()).then(|| (mean * 100.0).round() / 100.0)
    };
    Measured {
        dram_pct: mean(|s| s.dram_pct),
        tensor_pct: mean(|s| s.tensor_pct),
        sm_active_pct: mean(|s| s.sm_active_pct),
        sm_occupancy_pct: mean(|s| s.sm_occupancy_pct),
        sm_clock_mhz: mean(|s| s.sm_clock_mhz),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_a_run_is_refused() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let out = dir.path().join("out");
        let args = Args { run: Some(dir.path().into()), times_only: false, device: None, out };
        assert!(run(&args).is_err());
        assert!(!dir.path().join("out").exists());
    }

    #[test]
    fn cards_are_found_by_the_devices_own_name() {
        let card = cotenant_model::builtin("h100-sxm5-80gb").expect("built in");
        assert_eq!(card_of(&card.device), Ok("h100-sxm5-80gb".to_owned()));
        assert!(card_of("Voodoo 2").is_err_and(|e| e.contains("--device")));
    }

    #[test]
    fn the_list_names_every_file_of_the_folder_and_is_committed() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
        let text = list(&root.join(FOLDER)).expect("listed");
        assert!(text.contains("distilgpt2-forward-fp16-b8-s128"));
        assert_eq!(
            std::fs::read_to_string(root.join(LIST)).expect("committed"),
            text,
            "run cargo xtask timelines"
        );
    }

    /// The recorded times alone replace those of a time line, whose kernels stay.
    #[test]
    fn times_come_from_a_run_without_traces() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
        let (name, device) = ("bert-forward-fp16-b8-s128.json", "h100-sxm5-80gb");
        let dir = tempfile::tempdir().expect("temporary folder");
        let folder = dir.path().join(device);
        std::fs::create_dir(&folder).expect("made");
        let text = std::fs::read_to_string(root.join(FOLDER).join(device).join(name)).expect("committed");
        let before = Recorded::from_json(&text).expect("a time line");
        let old = Recorded { wall_ns: 9_000_000, ..before.clone() };
        std::fs::write(folder.join(name), old.to_json().expect("printed")).expect("written");
        let args = Args {
            run: Some(root.join("results").join(device).join("models-solo")),
            times_only: true,
            device: None,
            out: dir.path().into(),
        };
        assert_eq!(run(&args), Ok(()));
        let text = std::fs::read_to_string(folder.join(name)).expect("written");
        let after = Recorded::from_json(&text).expect("a time line");
        assert_eq!(after.steps, before.steps);
        let moved = after.wall_ns as f64 / before.wall_ns as f64 - 1.0;
        assert!(moved.abs() < 0.1, "{} ns, not near {}", after.wall_ns, before.wall_ns);
        assert!(after.provenance.times.is_some_and(|t| t.starts_with("models-solo/bert, 2026-")));
        // A folder without one of the run's workloads is refused.
        std::fs::remove_file(folder.join(name)).expect("removed");
        assert!(run(&args).is_err_and(|e| e.contains("alone")));
    }

    #[test]
    fn means_are_over_the_phases_that_told() {
        let state = |dram| GpuState { dram_pct: dram, ..GpuState::default() };
        let m = means(&[state(Some(2.0)), state(None), state(Some(3.0))]);
        assert_eq!((m.dram_pct, m.tensor_pct), (Some(2.5), None));
        // Counters whose windows lie outside of the phase count only where there are no others.
        let outside = GpuState { gpm_share: Some(0.3), ..state(Some(9.0)) };
        let within = GpuState { gpm_share: Some(0.9), ..state(Some(4.0)) };
        assert_eq!(means(&[outside.clone(), within]).dram_pct, Some(4.0));
        assert_eq!(means(&[outside]).dram_pct, Some(9.0));
    }
}
