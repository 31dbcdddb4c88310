//! What the repeats of a trial say together: when it is precise enough, which ones are suspect, what to warn of.

use crate::backend::{Phase, Session};
use crate::measure::MIN_OVERLAP;
use crate::sharing::Layout;
use cotenant_spec::plan::{Baseline, Sharing, Stopping, TrialPlan};
use cotenant_store::format::{FORMAT, PhaseRecord, WarningRecord};

/// SM clock under this share of the trial's median marks a repeat.
const CLOCK_DROP: f64 = 0.97;
/// By so much more of the SMs than its limit a client must be seen on, percent, before the limit counts as without
/// effect: granted SMs and counters are rounded.
const BEYOND_LIMIT: f64 = 3.0;

/// `None` of none.
pub(crate) fn mean(v: &[f64]) -> Option<f64> {
    (!v.is_empty()).then(|| v.iter().sum::<f64>() / v.len() as f64)
}

/// What the repeats so far say about precision, clocks and overlap.
pub(crate) struct History {
    phases: Vec<Phase>,
    /// Per phase: times of its tenants, one list each.
    times: Vec<Vec<Vec<f64>>>,
    clocks: Vec<Vec<f64>>,
    /// Per phase: SMs with work, percent.
    active: Vec<Vec<f64>>,
    overlaps: Vec<f64>,
    throttled: Vec<String>,
    dropped: u32,
}

impl History {
    pub fn new(phases: &[Phase]) -> History {
        History {
            phases: phases.to_vec(),
            times: vec![Vec::new(); phases.len()],
            clocks: vec![Vec::new(); phases.len()],
            active: vec![Vec::new(); phases.len()],
            overlaps: Vec::new(),
            throttled: Vec::new(),
            dropped: 0,
        }
    }

    /// Takes a phase in; returns what marks the repeat.
    pub fn note(&mut self, which: usize, r: &PhaseRecord) -> Vec<String> {
        let mut marks = Vec::new();
        let times = &mut self.times[which];
        times.resize(times.len().max(r.tenants.len()), Vec::new());
        for (list, t) in times.iter_mut().zip(&r.tenants) {
            list.push(t.time_ns);
        }
        self.overlaps.extend(r.overlap);
        self.active[which].extend(r.state.as_ref().and_then(|s| s.sm_active_pct));
        let told = mean(&r.tenants.iter().filter_map(|t| t.sm_clock_mhz).collect::<Vec<_>>())
            .or(r.state.as_ref().and_then(|s| s.sm_clock_mhz));
        if let Some(now) = told {
            let seen = &mut self.clocks[which];
            if seen.len() >= 3 && cotenant_stats::median(seen).is_ok_and(|m| now < m * CLOCK_DROP) {
                marks.push(format!("SM clock fell to {now:.0} MHz in a {} phase", r.phase));
                self.dropped += 1;
            }
            seen.push(now);
        }
        for reason in r.state.iter().flat_map(|s| &s.throttle) {
            marks.push(format!("throttled: {reason}"));
            self.throttled.push(reason.clone());
        }
        marks
    }

    /// SM clock together and alone (mean of the tenants), MHz: medians over the repeats.
    fn clocks_together_and_alone(&self) -> Option<(f64, f64)> {
        let of = |wanted: fn(Phase) -> bool| -> Vec<f64> {
            let these = self.phases.iter().zip(&self.clocks).filter(|(p, _)| wanted(**p));
            these.filter_map(|(_, seen)| cotenant_stats::median(seen).ok()).collect()
        };
        let together = mean(&of(|p| p == Phase::Shared))?;
        Some((together, mean(&of(|p| matches!(p, Phase::Solo(_))))?))
    }

    /// MPS clients that were seen alone on more of the SMs than their limit is: tenant, SMs in use and limit, percent.
    fn beyond_limits(&self, sharing: &Sharing, baseline: Baseline) -> Vec<(usize, f64, f64)> {
        let Sharing::Mps { percentage, .. } = sharing else { return Vec::new() };
        if baseline == Baseline::WholeGpu {
            return Vec::new();
        }
        let alone = self.phases.iter().zip(&self.active).filter_map(|(phase, active)| {
            let Phase::Solo(tenant) = *phase else { return None };
            let limit = *percentage.get(tenant)?;
            let used = cotenant_stats::median(active).ok()?;
            (used > limit + BEYOND_LIMIT).then_some((tenant, used, limit))
        });
        alone.collect()
    }

    pub fn precise(&self, target: f64) -> bool {
        self.times.iter().flatten().all(|t| cotenant_stats::precise_enough(t, target))
    }

    pub fn warnings(
        &self,
        trial: &TrialPlan,
        layout: &Layout,
        stopping: &Stopping,
        stopped_by: &str,
    ) -> Vec<WarningRecord> {
        let mut out = Vec::new();
        let mut warn = |kind: &str, message: String, advice: &str| {
            out.push(WarningRecord {
                format: FORMAT,
                trial: Some(trial.id.clone()),
                kind: kind.into(),
                message,
                advice: advice.into(),
            });
        };
        let overlap = cotenant_stats::median(&self.overlaps).unwrap_or(1.0);
        if layout.time_sliced {
            warn(
                "time-sliced",
                "processes without MPS take turns; their spans overlap on the clock but not on the GPU"
                    .into(),
                "read the slowdown as the cost of turns, not of shared resources",
            );
        } else if overlap < MIN_OVERLAP
            && layout.shared_phase
            && trial.tenants.len() > 1
            // Pauses are what was asked for.
            && trial.tenants.iter().all(|t| t.load.gap.0 == 0 && t.load.arrivals.is_none())
        {
            warn(
                "low-overlap",
                format!("all tenants ran together for {:.0} % of the shared phase only", overlap * 100.0),
                "not colocated in the sense of the method: either they serialise (then that is the finding) or \
                 their lengths differ (then use protocol = \"steady\")",
            );
        }
        if stopped_by != "precision" {
            warn(
                "imprecise",
                format!(
                    "the 95 % interval of some median is wider than ±{:.1} % ({stopped_by} reached)",
                    stopping.precision * 100.0
                ),
                "raise measure.repeats or measure.budget, or accept the printed interval",
            );
        }
        if self.dropped > 0 {
            warn(
                "clock-drop",
                format!("the SM clock fell by more than 3 % in {} phases", self.dropped),
                "those repeats are marked and left out where enough clean ones remain",
            );
        }
        if let Some((together, alone)) = self.clocks_together_and_alone()
            && (together / alone - 1.0).abs() > 1.0 - CLOCK_DROP
        {
            warn(
                "clock-differs",
                format!(
                    "the SM clock was {together:.0} MHz together and {alone:.0} MHz alone ({:+.0} %)",
                    100.0 * (together / alone - 1.0)
                ),
                "the slowdown holds the difference of the clocks, which contention for SMs and memory does not explain",
            );
        }
        for (tenant, used, limit) in self.beyond_limits(&trial.sharing, trial.baseline) {
            let name = trial.tenants.get(tenant).map_or("?", |t| t.name.as_str());
            warn(
                "limit-without-effect",
                format!(
                    "tenant {name} alone kept {used:.0} % of the SMs at work, and its limit is {limit:.0} %"
                ),
                "the limit did not reach the process that uses the GPU; do not read this trial as one with limits",
            );
        }
        let mut reasons = self.throttled.clone();
        reasons.sort_unstable();
        reasons.dedup();
        if !reasons.is_empty() {
            warn(
                "throttled",
                format!("the GPU reported: {}", reasons.join(", ")),
                "compare clocks between phases before reading a slowdown as contention",
            );
        }
        out
    }
}

/// Where a session was given other SMs than were asked for.
pub(crate) fn grant_warnings(session: &dyn Session, trial: &TrialPlan) -> Vec<WarningRecord> {
    session
        .grants()
        .into_iter()
        .filter_map(|g| {
            let (asked, given) = (g.asked_sms?, g.given_sms?);
            (asked != given).then(|| WarningRecord {
                format: FORMAT,
                trial: Some(trial.id.clone()),
                kind: "grant-differs".into(),
                message: format!("tenant {} asked for {asked} SMs and was given {given}", g.tenant),
                advice: "ask for a multiple of the granularity that `cotenant doctor` prints".into(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_a_client_exceeds_is_warned_of() {
        let mut history = History::new(&[Phase::Solo(0), Phase::Shared, Phase::Solo(1)]);
        history.active = vec![vec![64.0, 66.0, 67.0], vec![90.0], vec![48.0]];
        let beyond = |percentage| {
            let mps = Sharing::Mps { percentage, priority: Vec::new(), pinned_memory: Vec::new() };
            (
                history.beyond_limits(&mps, Baseline::SameShare),
                history.beyond_limits(&mps, Baseline::WholeGpu),
            )
        };
        assert_eq!(beyond(vec![50.0, 50.0]), (vec![(0, 66.0, 50.0)], vec![]));
        assert_eq!(beyond(Vec::new()).0, []);
        assert_eq!(beyond(vec![65.0, 50.0]).0, []);
    }
}
