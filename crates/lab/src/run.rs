//! One run: every trial of an experiment on a backend, into a run folder, surviving failures and interruption.

use crate::backend::{Backend, TELEMETRY_HEADER, TrialError};
use crate::measure::{Measuring, OfServers};
use crate::serving::SERVER_METRICS_HEADER;
use crate::{provenance, sharing};
use cotenant_spec::plan::{Plan, Protocol, TenantPlan, TrialPlan, Workload};
use cotenant_store::format::{
    FORMAT, FigureRecord, LoadRecord, Manifest, OutcomeRecord, ReferenceRecord, RepeatRecord, StoppingRecord,
    TenantRecord, TimingRecord, TrialRecord, WarningRecord,
};
use cotenant_store::{RunFolder, StoreError};
use cotenant_units::Nanos;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

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
                trials: f.trials.clone(),
            })
            .collect(),
        stopping: StoppingRecord {
            min_repeats: plan.stopping.min_repeats,
            max_repeats: plan.stopping.max_repeats,
            precision: plan.stopping.precision,
            budget_ns: plan.stopping.budget_ns,
            warmup: plan.stopping.warmup,
            setups: plan.stopping.setups,
            traced: plan.stopping.traced,
            watchdog_ns: plan.stopping.watchdog_ns,
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
        tenants: t.tenants.iter().map(tenant_record).collect(),
        references: t
            .references
            .iter()
            .map(|r| ReferenceRecord { source: r.source.clone(), metric: r.metric.clone(), value: r.value })
            .collect(),
        host_bound: t.host_bound,
        pin: t.pin,
    }
}

fn tenant_record(p: &TenantPlan) -> TenantRecord {
    let workload = match &p.workload {
        Workload::Kernel(_) => serde_json::Value::Null,
        Workload::Torch(t) => {
            let mut setup = serde_json::to_value(&t.setup).unwrap_or_default();
            if let Some(fields) = setup.as_object_mut() {
                fields.insert("python".into(), t.python.clone().into());
            }
            setup
        }
        // Values of environment variables may be secrets; their names are enough.
        Workload::Command(c) => serde_json::json!({
            "argv": c.argv,
            "protocol": if c.opaque { "opaque" } else { "lines" },
            "env": c.env.keys().collect::<Vec<_>>(),
        }),
        Workload::Server(s) => serde_json::json!({
            "server": s.setup,
            "load": s.load,
            "env": s.env.keys().collect::<Vec<_>>(),
        }),
    };
    let shape = p.kernel().map(|k| k.kernel.shape);
    TenantRecord {
        name: p.name.clone(),
        kernel: p.kernel().map_or_else(String::new, |k| k.kernel.kernel.into()),
        blocks: shape.map_or(0, |s| s.blocks),
        threads: shape.map_or(0, |s| s.threads),
        launches: p.kernel().map_or(0, |k| k.launches),
        request: p.kernel().map_or(0, |k| k.request),
        params: p.kernel().map(|k| k.kernel.params.clone()).unwrap_or_default(),
        kind: p.kind().into(),
        role: p.role.clone(),
        workload,
        load: LoadRecord {
            iterations: p.load.iterations,
            warmup: p.load.warmup,
            gap_ns: p.load.gap,
            arrivals: p
                .load
                .arrivals
                .as_ref()
                .map(|a| serde_json::to_value(a).unwrap_or_default())
                .unwrap_or_default(),
        },
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
    backend.set_logs(&folder.path().join("logs"));
    backend.set_watchdog(Duration::from_nanos(plan.stopping.watchdog_ns.0));
    backend.expect(plan);
    if let Some(gap) = backend.telemetry_facts().gap {
        folder.append_warning(&WarningRecord {
            format: FORMAT,
            trial: None,
            kind: "no-gpm".into(),
            message: format!("the GPU's counters (occupancy, DRAM, pipes) are not told: {gap}"),
            advice: "see docs/telemetry.md for what each GPU and mode tells".into(),
        })?;
    }
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
    let mut facts: BTreeMap<String, BTreeMap<String, serde_json::Value>> = BTreeMap::new();
    let (begun, mut setup_time) = (Instant::now(), Duration::ZERO);
    let mut measuring = Measuring::new(trial, &layout, &plan.stopping, attempt, plan.seed);
    let mut sink = |r: RepeatRecord, servers: OfServers| {
        // Requests first: a repeat that is there has its requests too.
        let kept = folder
            .append_requests(&servers.requests)
            .and_then(|()| folder.append_server_metrics(SERVER_METRICS_HEADER, &servers.metrics));
        observer.repeat_done(trial, &r, plan.stopping.max_repeats);
        kept.and_then(|()| folder.append_repeat(&r)).map_err(|e| {
            let words = e.to_string();
            store_failure = Some(e);
            TrialError::Failed(words)
        })
    };
    let ran = (0..plan.stopping.setups.max(1)).try_for_each(|setup| {
        let opening = Instant::now();
        let mut session = backend.open(trial, setup)?;
        setup_time += opening.elapsed();
        grants = session.grants();
        let ran = measuring.run_setup(&mut *session, &mut sink);
        for (tenant, key, value) in session.facts() {
            facts.entry(trial.tenants[tenant].name.clone()).or_default().insert(key, value);
        }
        ran
    });
    let whole = begun.elapsed();
    let telemetry = backend.telemetry_facts();
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
        facts: BTreeMap::new(),
        capacity_per_s: BTreeMap::new(),
        timing: None,
    };
    Ok(match measured {
        Ok(m) => {
            for w in &m.warnings {
                folder.append_warning(w)?;
            }
            let nanos = |d: Duration| Nanos(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
            let timing = TimingRecord {
                setup_ns: nanos(setup_time),
                phases_ns: nanos(m.phases.wall),
                own_ns: nanos(whole.saturating_sub(setup_time + m.phases.wall)),
                phases_cpu_ns: nanos(m.phases.cpu),
                telemetry_cpu_share: telemetry.cpu_share,
                gpm_age_ns: telemetry.gpm_age_ns,
            };
            OutcomeRecord {
                facts,
                capacity_per_s: m.capacity_per_s,
                timing: Some(timing),
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
