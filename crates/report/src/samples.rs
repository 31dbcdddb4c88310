//! From repeats to observations: one value of each metric per repeat of a trial.

use cotenant_store::format::{Manifest, OutcomeRecord, PhaseRecord, PhaseTenant, RepeatRecord, TrialRecord};
use std::collections::BTreeMap;

/// The repeats of one trial that count, and what is observed in them.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialSamples<'a> {
    /// The trial.
    pub trial: &'a TrialRecord,
    /// `done`, `failed`, `skipped` or `unfinished`.
    pub status: String,
    /// Outcome of the attempt that counts, if it ended.
    pub outcome: Option<&'a OutcomeRecord>,
    /// Repeats that count, in order.
    pub repeats: Vec<&'a RepeatRecord>,
    /// Marked repeats that were left out.
    pub left_out: u32,
    /// Observations by metric; ratios are of values from the same repeat.
    pub values: BTreeMap<String, Vec<f64>>,
    /// Solo and shared launch times of each tenant from the same repeats, ns: the pairs behind `slowdown.T`.
    pub pairs: BTreeMap<String, (Vec<f64>, Vec<f64>)>,
    /// Overlap of the shared phase of each repeat, 0..1.
    pub overlaps: Vec<f64>,
    /// One value per repeat of metrics that a summary takes over all iterations together: for tests between runs.
    pub by_repeat: BTreeMap<String, Vec<f64>>,
}

/// Observations of each trial of a run, in plan order.
pub fn samples<'a>(
    manifest: &'a Manifest,
    repeats: &'a [RepeatRecord],
    outcomes: &'a [OutcomeRecord],
) -> Vec<TrialSamples<'a>> {
    manifest
        .trials
        .iter()
        .map(|t| trial_samples(t, manifest.stopping.min_repeats, repeats, outcomes))
        .collect()
}

fn trial_samples<'a>(
    trial: &'a TrialRecord,
    min_repeats: u32,
    repeats: &'a [RepeatRecord],
    outcomes: &'a [OutcomeRecord],
) -> TrialSamples<'a> {
    let of_trial = repeats.iter().filter(|r| r.trial == trial.id);
    let mut ended = outcomes.iter().filter(|o| o.trial == trial.id);
    // Only the highest attempt counts: an interrupted trial is run again from its first repeat.
    let attempt = of_trial.clone().map(|r| r.attempt).chain(ended.clone().map(|o| o.attempt)).max();
    let outcome = ended.rfind(|o| Some(o.attempt) == attempt);
    let by_number: BTreeMap<u32, &RepeatRecord> =
        of_trial.filter(|r| Some(r.attempt) == attempt).map(|r| (r.repeat, r)).collect();
    let clean = by_number.values().filter(|r| r.marked.is_empty()).count();
    let drop_marked = clean >= (min_repeats.max(1) as usize);
    let kept: Vec<&RepeatRecord> =
        by_number.values().copied().filter(|r| !drop_marked || r.marked.is_empty()).collect();
    let mut s = TrialSamples {
        trial,
        status: outcome.map_or("unfinished", |o| o.status.as_str()).to_owned(),
        outcome,
        left_out: (by_number.len() - kept.len()) as u32,
        values: BTreeMap::new(),
        pairs: BTreeMap::new(),
        overlaps: Vec::new(),
        by_repeat: BTreeMap::new(),
        repeats: kept,
    };
    for repeat in s.repeats.clone() {
        s.observe(repeat);
    }
    s
}

impl TrialSamples<'_> {
    pub(crate) fn push(&mut self, metric: impl Into<String>, value: f64) {
        if value.is_finite() {
            self.values.entry(metric.into()).or_default().push(value);
        }
    }

    pub(crate) fn push_ok<E>(&mut self, metric: impl Into<String>, value: Result<f64, E>) {
        if let Ok(value) = value {
            self.push(metric, value);
        }
    }

    /// Mean shared over mean solo time of a tenant's launches or iterations in one repeat.
    pub(crate) fn slowdown_in(&self, repeat: &RepeatRecord, tenant: &str) -> Option<f64> {
        let of = |kind: &str| -> Option<f64> {
            let phases = repeat.phases.iter().filter(|p| p.phase == kind);
            mean_time(&phases.filter_map(|p| find(p, tenant)).collect::<Vec<_>>())
        };
        Some(of("shared")? / of("solo")?)
    }

    fn observe(&mut self, repeat: &RepeatRecord) {
        let phases = |kind: &'static str| repeat.phases.iter().filter(move |p| p.phase == kind);
        let shared = phases("shared").next();
        let sequential = phases("sequential").next();
        let trial = self.trial;
        let mut slowdowns = Vec::new();
        for (index, tenant) in trial.tenants.iter().enumerate() {
            let name = &tenant.name;
            let solo_runs: Vec<&PhaseTenant> = phases("solo").filter_map(|p| find(p, name)).collect();
            let solo = mean_time(&solo_runs);
            if let Some(t) = solo {
                self.push(format!("solo_ms.{name}"), t / 1e6);
                if let Some(traffic) = self.traffic_bytes(index) {
                    self.push(format!("bandwidth_gbs.{name}"), traffic / t);
                }
            }
            let Some(in_shared) = shared.and_then(|p| find(p, name)) else { continue };
            let Some(t) = mean_time(&[in_shared]) else { continue };
            self.push(format!("shared_ms.{name}"), t / 1e6);
            if let Some(alone) = solo {
                self.push(format!("slowdown.{name}"), t / alone);
                let pair = self.pairs.entry(name.clone()).or_default();
                pair.0.push(alone);
                pair.1.push(t);
                slowdowns.push(t / alone);
            }
            if let (Some(a), Some(b)) = (solo_runs.first().and_then(|p| rate(p)), rate(in_shared)) {
                self.push(format!("throughput_ratio.{name}"), b / a);
            }
        }
        if !slowdowns.is_empty() && slowdowns.len() == trial.tenants.len() {
            let n = slowdowns.len() as f64;
            self.push("slowdown", slowdowns.iter().sum::<f64>() / n);
            if slowdowns.len() > 1 {
                self.push("stp", slowdowns.iter().map(|s| 1.0 / s).sum());
                if let Ok(fairness) = cotenant_stats::min_max_fairness(&slowdowns) {
                    self.push("fairness", fairness);
                }
            }
        }
        if let (Some(q), Some(s)) = (sequential, shared) {
            let (q, s) = (q.makespan_ns.0 as f64, s.makespan_ns.0 as f64);
            if q > 0.0 && s > 0.0 {
                self.push("speedup", q / s);
                self.push("ratio", s / q);
            }
        }
        if let Some(overlap) = shared.and_then(|p| p.overlap).filter(|o| o.is_finite()) {
            self.overlaps.push(overlap);
        }
        self.observe_state(repeat);
        crate::programs::observe(self, repeat);
    }

    fn observe_state(&mut self, repeat: &RepeatRecord) {
        // While the tenants are together, or where they never are, over all phases: what one of them did to the card
        // before must not stand for what they do to it together.
        let shared = repeat.phases.iter().any(|p| p.phase == "shared");
        let wanted = |p: &&PhaseRecord| p.phase == "shared" || !(shared || p.phase.ends_with("-traced"));
        let states = || repeat.phases.iter().filter(wanted).filter_map(|p| p.state.as_ref());
        let tenants = repeat.phases.iter().filter(wanted).flat_map(|p| &p.tenants);
        let stamped: Vec<f64> = tenants.filter_map(|t| t.sm_clock_mhz).collect();
        let clocks: Vec<f64> = states().filter_map(|s| s.sm_clock_mhz).collect();
        // Stamps taken inside the kernels see the clock while it worked; NVML's samples may fall between.
        let clock = cotenant_stats::median(if stamped.is_empty() { &clocks } else { &stamped });
        let power = cotenant_stats::median(&states().filter_map(|s| s.power_w).collect::<Vec<_>>());
        let busy = cotenant_stats::median(&states().filter_map(|s| s.utilization_pct).collect::<Vec<_>>());
        for (metric, value) in [("sm_clock_mhz", clock), ("power_w", power), ("utilization_pct", busy)] {
            self.push_ok(metric, value);
        }
        let mut counters: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for state in states() {
            for (name, v) in crate::state::counters(state) {
                counters.entry(name).or_default().push(v);
            }
        }
        for (name, v) in counters {
            self.push_ok(name, cotenant_stats::median(&v));
        }
    }

    /// Bytes of global memory that one launch of tenant `index` moves, for kernels whose loop makes one pass over
    /// `bytes` of each buffer per iteration.
    fn traffic_bytes(&self, index: usize) -> Option<f64> {
        let tenant = self.trial.tenants.get(index)?;
        let iterations = *self.outcome?.iterations.get(index)?;
        let bytes = *tenant.params.get("bytes")?;
        let directions = match tenant.kernel.as_str() {
            "copy" | "copy-paper" => 2.0,
            "read" | "write" => 1.0,
            _ => return None,
        };
        let traffic = bytes * directions * iterations as f64;
        (traffic > 0.0).then_some(traffic)
    }

    /// Request latencies of `tenant` in phases of this kind, ns, one list per repeat; empty lists are left out.
    pub fn requests(&self, tenant: &str, phase: &str) -> Vec<Vec<f64>> {
        let of_repeat = |r: &&RepeatRecord| -> Vec<f64> {
            let tenants = r.phases.iter().filter(|p| p.phase == phase).filter_map(|p| find(p, tenant));
            tenants.flat_map(|t| t.requests_ns.iter().map(|&ns| ns as f64)).collect()
        };
        self.repeats.iter().map(of_repeat).filter(|l: &Vec<f64>| !l.is_empty()).collect()
    }
}

fn find<'a>(phase: &'a PhaseRecord, tenant: &str) -> Option<&'a PhaseTenant> {
    phase.tenants.iter().find(|t| t.name == tenant)
}

/// Mean launch time over phases, ns; `None` without a usable one.
fn mean_time(runs: &[&PhaseTenant]) -> Option<f64> {
    let times: Vec<f64> = runs.iter().map(|t| t.time_ns).filter(|t| t.is_finite() && *t > 0.0).collect();
    (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64)
}

/// Launches per nanosecond between the first start and the last end.
fn rate(tenant: &PhaseTenant) -> Option<f64> {
    let span = tenant.end_ns.saturating_sub(tenant.start_ns).0;
    (span > 0 && tenant.launches > 0).then(|| f64::from(tenant.launches) / span as f64)
}
