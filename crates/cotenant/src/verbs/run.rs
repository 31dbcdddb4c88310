//! `cotenant run`.

use super::report::{derive, read};
use crate::cli::RunArgs;
use crate::device;
use crate::exit::{Code, Failure};
use cotenant_lab::cuda::Options;
use cotenant_lab::provenance::rfc3339;
use cotenant_lab::run::{Observer, RunError, Tally, manifest, run as run_trials};
use cotenant_report::render_table;
use cotenant_spec::plan::{Plan, TrialPlan};
use cotenant_spec::{Spec, builtin, matches};
use cotenant_store::RunFolder;
use cotenant_store::format::{OutcomeRecord, RepeatRecord};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// Revision the binary was built from.
pub(super) const GIT_REVISION: &str = env!("COTENANT_GIT_REVISION");

/// Runs an experiment, or the rest of one.
pub fn run(a: RunArgs) -> Result<Code, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    // A second handler cannot be set in one process; then the first keeps working.
    let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
    match &a.resume {
        Some(path) => resume(&a, path, interrupted),
        None => start(&a, interrupted),
    }
}

fn start(a: &RunArgs, interrupted: Arc<AtomicBool>) -> Result<Code, Failure> {
    let (text, name) = source(a.experiment.as_deref().unwrap_or_default())?;
    let overrides = overrides(&a.set)?;
    let spec = Spec::parse(&text, &name)?;
    let selector = device::select(&a.device)?;
    let options = Options { join_mps: a.join_mps, ..Options::default() };
    let mut backend = device::open(&selector, options, interrupted)?;
    let mut plan = spec.resolve(backend.sizes(), &overrides)?;
    select_trials(&mut plan, &a.only)?;
    check_loads(&plan.trials)?;
    let m = manifest(&plan, &*backend, &text, &overrides, GIT_REVISION);
    let stamp: String = rfc3339(SystemTime::now()).chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let mut folder = RunFolder::create(&a.out, &stamp, &m)?;
    finish(a, &plan, &mut *backend, &mut folder)
}

fn resume(a: &RunArgs, path: &Path, interrupted: Arc<AtomicBool>) -> Result<Code, Failure> {
    let (mut folder, stored) = RunFolder::resume(path)?;
    let m = &stored.manifest;
    let spec = Spec::parse(&m.spec_text, "manifest.json: spec_text")?;
    let overrides = overrides(&m.overrides)?;
    let selector = device::select(&m.device.selector)?;
    let options = Options { join_mps: a.join_mps, ..Options::default() };
    let mut backend = device::open(&selector, options, interrupted)?;
    if backend.device().uuid_hash != m.device.uuid_hash || backend.device().name != m.device.name {
        return Err(Failure::new(
            Code::NoDevice,
            format!(
                "resume {}: it ran on another GPU ({}; this is {}); trials of two GPUs must not mix in one run",
                path.display(),
                m.device.name,
                backend.device().name
            ),
        ));
    }
    let mut plan = spec.resolve(backend.sizes(), &overrides)?;
    plan.trials.retain(|t| m.trials.iter().any(|r| r.id == t.id));
    check_loads(plan.trials.iter().filter(|t| !folder.has_outcome(&t.id)))?;
    finish(a, &plan, &mut *backend, &mut folder)
}

/// Loads that cannot be used are better known before a server takes minutes to start.
fn check_loads<'a>(trials: impl IntoIterator<Item = &'a TrialPlan>) -> Result<(), Failure> {
    cotenant_lab::serving::check(trials)
        .map_err(|e| Failure::new(Code::BadInput, format!("use the loads of the experiment: {e}")))
}

fn finish(
    a: &RunArgs,
    plan: &Plan,
    backend: &mut dyn cotenant_lab::backend::Backend,
    folder: &mut RunFolder,
) -> Result<Code, Failure> {
    backend.set_seed(plan.seed);
    if a.keep_traces {
        backend.set_traces(&folder.path().join("traces"));
    }
    let mut observer = Live::new(a.quiet || a.json, backend.simulated(), &backend.device().name);
    let result = run_trials(plan, backend, folder, &mut observer);
    observer.bar.finish_and_clear();
    // Whatever happened, what was measured is summarised and shown.
    let shown = read(folder.path()).and_then(|data| Ok((derive(folder.path(), &data)?, data)));
    let ((page, data), result) = match (shown, result) {
        // A disk that took no repeat takes no summary either: the first refusal is the one to tell.
        (Err(_), Err(RunError::Store(e))) => return Err(e.into()),
        (Err(e), _) => return Err(e),
        (Ok(s), r) => (s, r),
    };
    if a.json {
        super::print_json(&data.summary)?;
    } else {
        super::print_text(&format!(
            "{}\nreport: {}",
            render_table(&data.manifest, &data.summary),
            page.display()
        ));
    }
    match result {
        Ok(tally) => Ok(verdict(tally)),
        Err(RunError::Interrupted(p)) => Err(Failure::new(
            Code::Interrupted,
            format!("run all trials: interrupted; continue with --resume {p}"),
        )),
        Err(RunError::Store(e)) => Err(e.into()),
    }
}

fn verdict(t: Tally) -> Code {
    match t {
        Tally { failed: 1.., .. } => Code::TrialsFailed,
        Tally { done: 0, skipped: 1.., .. } => Code::NothingRan,
        _ => Code::Ok,
    }
}

/// Text and file name of an experiment: a file where there is one, else a built-in name.
fn source(what: &str) -> Result<(String, String), Failure> {
    let path = Path::new(what);
    if path.is_file() {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Failure::new(Code::BadInput, format!("read the experiment {what}: {e}")))?;
        return Ok((text, what.to_owned()));
    }
    match builtin().iter().find(|b| b.name == what) {
        Some(b) => Ok((b.text.to_owned(), format!("{what}.toml"))),
        None => Err(Failure::new(
            Code::BadInput,
            format!(
                "find the experiment `{what}`: it is no file, and no built-in name (see `cotenant experiments`)"
            ),
        )),
    }
}

fn overrides(set: &[String]) -> Result<Vec<(String, String)>, Failure> {
    set.iter()
        .map(|s| {
            s.split_once('=').map(|(k, v)| (k.trim().to_owned(), v.trim().to_owned())).ok_or_else(|| {
                Failure::new(
                    Code::BadInput,
                    format!(
                        "understand --set {s}: it should be key=value, for example measure.budget=\"5s\""
                    ),
                )
            })
        })
        .collect()
}

fn select_trials(plan: &mut Plan, only: &[String]) -> Result<(), Failure> {
    if only.is_empty() {
        return Ok(());
    }
    let all: Vec<String> = plan.trials.iter().map(|t| t.id.clone()).collect();
    for o in only {
        if !all.iter().any(|id| matches(o, id)) {
            return Err(Failure::new(
                Code::BadInput,
                format!("select --only {o}: the trials are {}", all.join(", ")),
            ));
        }
    }
    plan.trials.retain(|t| only.iter().any(|o| matches(o, &t.id)));
    Ok(())
}

/// Progress on the terminal.
struct Live {
    bar: ProgressBar,
    simulated: bool,
    device: String,
    shown: bool,
}

impl Live {
    fn new(quiet: bool, simulated: bool, device: &str) -> Live {
        let bar = ProgressBar::new(0);
        if quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} trials, {eta} left  {wide_msg}")
        {
            bar.set_style(style);
        }
        Live { bar, simulated, device: device.to_owned(), shown: !quiet }
    }
}

impl Observer for Live {
    fn trial_started(&mut self, index: usize, of: usize, trial: &TrialPlan) {
        if index == 0 {
            self.bar.set_length(of as u64);
            let kind = if self.simulated { "simulated " } else { "" };
            if self.shown {
                eprintln!("{of} trials on {kind}{}", self.device);
            }
        }
        self.bar.set_message(format!("{}: setting up", trial.id));
    }

    fn repeat_done(&mut self, trial: &TrialPlan, r: &RepeatRecord, max: u32) {
        let times: Vec<String> =
            r.phases.iter().map(|p| format!("{} {:.2} ms", p.phase, p.makespan_ns.millis())).collect();
        self.bar.set_message(format!("{} repeat {}/{max}: {}", trial.id, r.repeat + 1, times.join(", ")));
    }

    fn trial_ended(&mut self, trial: &TrialPlan, o: &OutcomeRecord) {
        self.bar.inc(1);
        if self.shown {
            let why = o.reason.as_deref().or(o.stopped_by.as_deref()).unwrap_or_default();
            let line = format!("{:<8} {} ({why})", o.status, trial.id);
            // Without a terminal the bar draws nothing, and its println neither: then plain lines.
            if self.bar.is_hidden() { eprintln!("{line}") } else { self.bar.println(line) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_part() {
        assert!(matches("ilp1", "ilp1"));
        assert!(!matches("ilp1", "ilp10"));
        assert!(matches("ilp*", "ilp10"));
        assert!(matches("*-t128", "ilp4-t128"));
        assert!(matches("a*b*c", "aXbYc"));
        assert!(!matches("a*b*c", "aXcYb"));
        assert!(matches("*", ""));
    }

    #[test]
    fn overrides_need_an_equals_sign() {
        assert_eq!(overrides(&["a.b = 3".into()]).ok(), Some(vec![("a.b".into(), "3".into())]));
        assert!(overrides(&["a.b".into()]).is_err());
    }
}
