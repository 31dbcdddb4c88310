//! Iterations of models and programs as the records have them: which count, and how long they took by each clock.

use cotenant_store::format::{PhasePart, PhaseRecord, PhaseTenant, RepeatRecord, TenantRecord, TrialRecord};
use std::ops::Range;

/// What a duration of an iteration is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clock {
    /// Host clock, start to end.
    Wall,
    /// Host clock, from the intended arrival to the end; equal to [`Clock::Wall`] in a closed loop.
    Latency,
    /// Two CUDA events around the iteration.
    Event,
    /// Sum of the device times of its kernels (traced phases).
    Kernel,
    /// Time in which at least one of its kernels ran (traced phases).
    Busy,
}

impl Clock {
    /// All of them.
    pub const ALL: [Clock; 5] = [Clock::Wall, Clock::Latency, Clock::Event, Clock::Kernel, Clock::Busy];

    /// The clock of this name.
    pub fn named(name: &str) -> Option<Self> {
        Clock::ALL.into_iter().find(|c| c.name() == name)
    }

    /// Name in a summary.
    pub fn name(self) -> &'static str {
        match self {
            Clock::Wall => "wall",
            Clock::Latency => "latency",
            Clock::Event => "event",
            Clock::Kernel => "kernel",
            Clock::Busy => "busy",
        }
    }
}

/// A tenant that is measured iteration by iteration: a model or a program, not a kernel of ours.
pub fn is_program(tenant: &TenantRecord) -> bool {
    tenant.kind != "kernel"
}

/// Any tenant of the trial is a model or a program.
pub fn has_programs(trial: &TrialRecord) -> bool {
    trial.tenants.iter().any(is_program)
}

/// Requests arrive on their own rather than when the last has ended.
pub fn open_loop(tenant: &TenantRecord) -> bool {
    !tenant.load.arrivals.is_null()
}

/// Two tenants that do the same work under the same load.
pub fn equal_work(a: &TenantRecord, b: &TenantRecord) -> bool {
    a.kind == b.kind && a.workload == b.workload && a.load == b.load
}

/// The largest group of two or more programs that do the same work; of equally large ones the first.
pub fn equal_group(trial: &TrialRecord) -> Vec<&TenantRecord> {
    let mut best: Vec<&TenantRecord> = Vec::new();
    for t in trial.tenants.iter().filter(|t| is_program(t)) {
        let group: Vec<&TenantRecord> =
            trial.tenants.iter().filter(|o| is_program(o) && equal_work(t, o)).collect();
        if group.len() > best.len().max(1) {
            best = group;
        }
    }
    best
}

/// The tenant's part of the phases of this kind in a repeat.
pub fn runs<'a>(
    repeat: &'a RepeatRecord,
    phase: &'a str,
    tenant: &'a str,
) -> impl Iterator<Item = (&'a PhaseRecord, &'a PhaseTenant)> {
    let of_kind = repeat.phases.iter().filter(move |p| p.phase == phase);
    of_kind.filter_map(move |p| Some((p, p.tenants.iter().find(|t| t.name == tenant)?)))
}

/// Indices of the counted iterations.
pub fn counted(run: &PhaseTenant) -> Range<usize> {
    let from = (run.counted_from as usize).min(run.spans_ns.len());
    let to = from.saturating_add(run.counted as usize).min(run.spans_ns.len());
    from..to
}

/// Duration of iteration `i`, ms; `None` where this clock did not tell it.
pub fn duration(run: &PhaseTenant, i: usize, clock: Clock) -> Option<f64> {
    let known = |list: &[u64]| list.get(i).copied().filter(|ns| *ns > 0);
    let ns = match clock {
        Clock::Wall => run.spans_ns.get(i).and_then(|(a, b)| b.checked_sub(*a)),
        // One latency for each iteration, or none to be trusted.
        Clock::Latency if run.requests_ns.len() == run.spans_ns.len() => run.requests_ns.get(i).copied(),
        Clock::Latency => return duration(run, i, Clock::Wall),
        Clock::Event => known(&run.event_ns),
        // An iteration without a kernel really took no kernel time.
        Clock::Kernel => run.kernel_ns.get(i).copied(),
        Clock::Busy => run.busy_ns.get(i).copied(),
    };
    ns.map(|ns| ns as f64 / 1e6)
}

/// Durations of the counted iterations, ms, in the order of time.
pub fn durations(run: &PhaseTenant, clock: Clock) -> Vec<f64> {
    counted(run).filter_map(|i| duration(run, i, clock)).collect()
}

/// [`durations`] of a tenant over the phases of this kind in a repeat.
pub fn of_repeat(repeat: &RepeatRecord, phase: &str, tenant: &str, clock: Clock) -> Vec<f64> {
    runs(repeat, phase, tenant).flat_map(|(_, run)| durations(run, clock)).collect()
}

/// Iterations per second over the counted iterations, from the start of the first to the end of the last.
pub fn rate_per_s(run: &PhaseTenant) -> Option<f64> {
    if let Some(served) = &run.served {
        // Requests overlap: each counts by the part of it that lies in the window.
        let parts = run.spans_ns.iter().map(|(a, b)| share(served.window_ns, (*a, *b)));
        return per_second(served.window_ns, parts.sum());
    }
    let range = counted(run);
    let spans = run.spans_ns.get(range)?;
    let (first, last) = (spans.first()?.0, spans.iter().map(|s| s.1).max()?);
    let ns = last.checked_sub(first).filter(|ns| *ns > 0)?;
    Some(spans.len() as f64 * 1e9 / ns as f64)
}

/// Part of a stretch that lies in a window, 0..1; of a moment: whether it does.
fn share((from, to): (u64, u64), (a, b): (u64, u64)) -> f64 {
    if b <= a {
        return f64::from(u8::from(a >= from && a < to));
    }
    b.min(to).saturating_sub(a.max(from)) as f64 / (b - a) as f64
}

fn per_second((from, to): (u64, u64), n: f64) -> Option<f64> {
    let ns = to.checked_sub(from).filter(|ns| *ns > 0)?;
    Some(n * 1e9 / ns as f64)
}

/// Tokens per second; `None` where none were told. A server's tokens count by when they came: the first with the first
/// content, the others evenly from then on to the last.
pub fn tokens_per_s(run: &PhaseTenant) -> Option<f64> {
    let Some(s) = &run.served else { return Some(rate_per_s(run)? * tokens_per_iteration(run)?) };
    let mut sum = 0.0;
    for (i, (sent, _)) in run.spans_ns.iter().enumerate() {
        let (Some(ttft), Some(tpot), Some(tokens)) = (s.ttft_ns.get(i), s.tpot_ns.get(i), s.tokens.get(i))
        else {
            continue;
        };
        // Of an open loop it counts from the intended time.
        let late = if s.open { s.late_ns.get(i).copied().unwrap_or(0) } else { 0 };
        let first = (sent + ttft).saturating_sub(late);
        let rest = u64::from(tokens.saturating_sub(1));
        sum += share(s.window_ns, (first, first))
            + rest as f64 * share(s.window_ns, (first, first + rest * tpot));
    }
    per_second(s.window_ns, sum)
}

/// Tokens per iteration; `None` where none were told.
pub fn tokens_per_iteration(run: &PhaseTenant) -> Option<f64> {
    (run.tokens > 0 && run.launches > 0).then(|| run.tokens as f64 / f64::from(run.launches))
}

/// The part of a phase that iteration `i` lies wholly in.
pub fn part_of<'a>(phase: &'a PhaseRecord, run: &PhaseTenant, i: usize) -> Option<&'a PhasePart> {
    let (from, to) = *run.spans_ns.get(i)?;
    phase.parts.iter().find(|p| p.from_ns.0 <= from && to <= p.to_ns.0)
}

/// Median, or `None` for nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    cotenant_stats::median(values).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotenant_units::Nanos;

    fn run() -> PhaseTenant {
        PhaseTenant {
            name: "a".into(),
            time_ns: 1e6,
            start_ns: Nanos(0),
            end_ns: Nanos(4_000_000),
            launches: 4,
            counted: 2,
            spans_ns: (0..4).map(|i| (i * 1_000_000, (i + 1) * 1_000_000)).collect(),
            requests_ns: vec![1_500_000; 4],
            sm_clock_mhz: None,
            counted_from: 1,
            event_ns: vec![900_000, 0, 800_000, 900_000],
            kernel_ns: Vec::new(),
            busy_ns: Vec::new(),
            kernels: Vec::new(),
            tokens: 4096,
            cpu_ns: None,
            cpu_wait_ns: None,
            served: None,
        }
    }

    #[test]
    fn only_counted_iterations_count() {
        let mut r = run();
        assert_eq!(counted(&r), 1..3);
        assert_eq!(durations(&r, Clock::Wall), [1.0, 1.0]);
        assert_eq!(durations(&r, Clock::Latency), [1.5, 1.5]);
        assert_eq!(durations(&r, Clock::Event), [0.8], "an event time of 0 was not told");
        assert!(durations(&r, Clock::Busy).is_empty());
        assert_eq!(rate_per_s(&r), Some(1000.0));
        assert_eq!(tokens_per_iteration(&r), Some(1024.0));
        (r.counted_from, r.counted) = (3, 99);
        assert_eq!(counted(&r), 3..4);
        r.requests_ns.pop();
        assert_eq!(durations(&r, Clock::Latency), [1.0], "latencies that do not match are not used");
        r.counted = 0;
        assert_eq!(rate_per_s(&r), None);
    }

    #[test]
    fn requests_that_overlap_count_by_their_parts_in_the_window() {
        // Two users, each answer 10 ms and 5 tokens: the first after 2 ms, then one every 2 ms. The window ends at the
        // last request sent, so that the users' running out does not count.
        let spans = vec![(0, 10), (5, 15), (10, 20), (15, 25)];
        let mut r = run();
        r.spans_ns = spans.into_iter().map(|(a, b)| (a * 1_000_000, b * 1_000_000)).collect();
        r.served = Some(Box::new(cotenant_store::serving::ServedPhase {
            window_ns: (0, 15_000_000),
            ttft_ns: vec![2_000_000; 4],
            tpot_ns: vec![2_000_000; 4],
            tokens: vec![5; 4],
            ..Default::default()
        }));
        // Whole, whole, half, none: 2.5 requests in 15 ms.
        assert!((rate_per_s(&r).expect("a rate") - 2.5 / 0.015).abs() < 1e-9);
        // Five of the first; of the second five (its last at 15, the end); of the third its first at 12 and 1.5 of four.
        let tokens = tokens_per_s(&r).expect("tokens") * 0.015;
        assert!((tokens - (5.0 + 5.0 + 1.0 + 1.5)).abs() < 1e-9, "{tokens}");
    }
}
