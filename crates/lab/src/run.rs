//! One run: every trial of an experiment on a backend, into a run folder, surviving failures and interruption.

use crate::backend::{Backend, TELEMETRY_HEADER, TrialError};
use crate::measure::Measuring;
use crate::{provenance, sharing};
use cotenant_spec::plan::{Plan, Protocol, TrialPlan};
use cotenant_store::format::{
    FORMAT, FigureRecord, Manifest, OutcomeRecord, ReferenceRecord, RepeatRecord, StoppingRecord,
    TenantRecord, TrialRecord, WarningRecord,
};
use cotenant_store::{RunFolder, StoreError};

/// What a run tells whoever watches it.
pub trait Observer {
    /// A trial begins; `index` counts from 0 over the trials still to do.
    fn trial_started(&mut self, index: usize, of: usize, trial: &TrialPlan);
    /// A repeat ended.
    fn repeat_done(&mut self, trial: &TrialPlan, record: &RepeatRecord, max_repeats: u32);
    /// A trial ended.
    fn trial_ended(&mut self, trial: &TrialPlan, outcome: &OutcomeRecord);
}

/// Why a run stopped early. What was measured before stands in its folder.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The folder could not be written or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The user asked to stop.
    #[error("run all trials: interrupted; continue with `--resume {0}`")]
    Interrupted(String),
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Trials with numbers.
    pub done: usize,
    /// Trials that failed.
    pub failed: usize,
    /// Trials this machine cannot do.
    pub skipped: usize,
}

/// The manifest of a plan on a backend.
pub fn manifest(
    plan: &Plan,
    backend: &dyn Backend,
    spec_text: &str,
    overrides: &[(String, String)],
    git_revision: &str,
) -> Manifest {
    Manifest {
        format: FORMAT,
        name: plan.name.clone(),
        title: plan.title.clone(),
        summary: plan.summary.clone(),
        section: plan.section.clone(),
        simulated: backend.simulated(),
        device: backend.device().clone(),
        trials: plan.trials.iter().map(trial_record).collect(),
        figures: plan
            .figures
            .iter()
            .map(|f| FigureRecord {
                kind: f.kind.clone(),
                metric: f.metric.clone(),
                x_label: f.x_label.clone(),
                y_label: f.y_label.clone(),
                log_x: f.log_x,
            })
            .collect(),
        stopping: StoppingRecord {
            min_repeats: plan.stopping.min_repeats,
            max_repeats: plan.stopping.max_repeats,
            precision: plan.stopping.precision,
            budget_ns: plan.stopping.budget_ns,
            warmup: plan.stopping.warmup,
            setups: plan.stopping.setups,
        },
        provenance: provenance::gather(plan.seed, git_revision),
        spec_text: spec_text.to_owned(),
        overrides: overrides.iter().map(|(k, v)| format!("{k}={v}")).collect(),
    }
}

fn trial_record(t: &TrialPlan) -> TrialRecord {
    TrialRecord {
        id: t.id.clone(),
        series: t.series.clone(),
        x: t.x,
        vars: t.vars.clone(),
        sharing: serde_json::to_value(&t.sharing).unwrap_or_default(),
        protocol: match t.protocol {
            Protocol::Fixed => "fixed".into(),
            Protocol::Steady => "steady".into(),
        },
        baseline: serde_json::to_value(t.baseline)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default(),
        tenants: t
            .tenants
            .iter()
            .map(|p| TenantRecord {
                name: p.name.clone(),
                kernel: p.kernel.kernel.into(),
                blocks: p.kernel.shape.blocks,
                threads: p.kernel.shape.threads,
                launches: p.launches,
                request: p.request,
                params: p.kernel.params.clone(),
            })
            .collect(),
        references: t
            .references
            .iter()
            .map(|r| ReferenceRecord { source: r.source.clone(), metric: r.metric.clone(), value: r.value })
            .collect(),
        host_bound: t.host_bound,
    }
}

/// Runs the trials of `plan` that the folder has no outcome for yet.
///
/// # Errors
/// [`RunError`]; a failing trial is not an error of the run.
pub fn run(
    plan: &Plan,
    backend: &mut dyn Backend,
    folder: &mut RunFolder,
    observer: &mut dyn Observer,
) -> Result<Tally, RunError> {
    folder.telemetry_header(TELEMETRY_HEADER)?;
    let mut tally = Tally::default();
    let todo: Vec<&TrialPlan> = plan.trials.iter().filter(|t| !folder.has_outcome(&t.id)).collect();
    for o in folder.outcomes() {
        count(&mut tally, &o.status);
    }
    for (i, trial) in todo.iter().enumerate() {
        observer.trial_started(i, todo.len(), trial);
        let attempt = folder.next_attempt(&trial.id);
        let outcome = one(plan, backend, folder, observer, trial, attempt)?;
        folder.append_telemetry(&backend.drain_telemetry())?;
        if outcome.status == "interrupted" {
            return Err(RunError::Interrupted(folder.path().display().to_string()));
        }
        folder.append_outcome(&outcome)?;
        count(&mut tally, &outcome.status);
        observer.trial_ended(trial, &outcome);
    }
    Ok(tally)
}

fn count(tally: &mut Tally, status: &str) {
    match status {
        "done" => tally.done += 1,
        "skipped" => tally.skipped += 1,
        _ => tally.failed += 1,
    }
}

fn one(
    plan: &Plan,
    backend: &mut dyn Backend,
    folder: &mut RunFolder,
    observer: &mut dyn Observer,
    trial: &TrialPlan,
    attempt: u32,
) -> Result<OutcomeRecord, StoreError> {
    let layout = sharing::mode(&trial.sharing).layout(trial);
    let mut store_failure: Option<StoreError> = None;
    let mut grants = Vec::new();
    let mut measuring = Measuring::new(trial, &layout, &plan.stopping, attempt);
    let mut sink = |r: RepeatRecord| {
        observer.repeat_done(trial, &r, plan.stopping.max_repeats);
        folder.append_repeat(&r).map_err(|e| {
            let words = e.to_string();
            store_failure = Some(e);
            TrialError::Failed(words)
        })
    };
    let ran = (0..plan.stopping.setups.max(1)).try_for_each(|setup| {
        let mut session = backend.open(trial, setup)?;
        grants = session.grants();
        measuring.run_setup(&mut *session, &mut sink)
    });
    let measured = ran.map(|()| measuring.finish());
    if let Some(e) = store_failure {
        return Err(e);
    }
    let outcome = |status: &str, reason: Option<String>| OutcomeRecord {
        format: FORMAT,
        trial: trial.id.clone(),
        attempt,
        status: status.into(),
        reason,
        stopped_by: None,
        iterations: Vec::new(),
        grants: Vec::new(),
    };
    Ok(match measured {
        Ok(m) => {
            for w in &m.warnings {
                folder.append_warning(w)?;
            }
            OutcomeRecord {
                stopped_by: Some(m.stopped_by.into()),
                iterations: m.iterations,
                grants,
                ..outcome("done", None)
            }
        }
        Err(TrialError::Interrupted) => outcome("interrupted", None),
        Err(TrialError::Unavailable(why)) => {
            folder.append_warning(&WarningRecord {
                format: FORMAT,
                trial: Some(trial.id.clone()),
                kind: "unavailable".into(),
                message: format!("skipped: {why}"),
                advice: "see `cotenant doctor` for what this machine lacks".into(),
            })?;
            outcome("skipped", Some(why))
        }
        Err(TrialError::Failed(why)) => outcome("failed", Some(why)),
    })
}
