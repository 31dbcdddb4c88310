//! Pairwise tests of iteration times: each model or program shared against alone, and tenants of the same workload
//! against each other while they share.
//!
//! Two levels, because iterations of one repeat depend on each other. By repeat: one value per repeat, its median;
//! these are independent, few, and paired (solo and shared, or both tenants, are of the same repeat). By iteration: all
//! of them, as papers do it; their p-values are too small, and the summary says by how much they depend.

use crate::iterations::{Clock, is_program, median, of_repeat, open_loop};
use crate::programs::together;
use crate::samples::TrialSamples;
use crate::summary::estimate;
use cotenant_stats::{
    Better, Judge, Verdict, hodges_lehmann_interval, holm, kolmogorov_smirnov, mann_whitney, median_interval,
    welch, wilcoxon_signed_rank,
};
use cotenant_store::format::{Estimate, LevelTests, PairTest, TestResult, TrialSummary};

/// Kind of a test of one tenant against itself alone.
pub const SHARED_SOLO: &str = "shared-solo";
/// Kind of a test of two tenants that share.
pub const TENANTS: &str = "tenants";

/// Fewest repeats on a side for which disjoint intervals of medians decide: four against four that do not overlap have
/// a chance of 2 in 70, three against three of 1 in 10.
const DISJOINT_FROM: usize = 4;

/// Iteration times, one list per repeat.
type Repeats = Vec<Vec<f64>>;

/// All comparisons of a trial, not yet adjusted and without a verdict.
pub(crate) fn compare_iterations(s: &TrialSamples) -> Vec<PairTest> {
    let programs: Vec<_> = s.trial.tenants.iter().filter(|t| is_program(t)).collect();
    let mut out = Vec::new();
    for (i, tenant) in programs.iter().enumerate() {
        let mut clocks = vec![Clock::Wall, Clock::Event];
        if open_loop(tenant) {
            clocks.push(Clock::Latency);
        }
        for &clock in &clocks {
            let of = |phase: &str, name: &str| -> Repeats {
                s.repeats.iter().map(|r| of_repeat(r, phase, name, clock)).collect()
            };
            let shared = of("shared", &tenant.name);
            out.extend(test(
                SHARED_SOLO,
                [&tenant.name, &tenant.name],
                clock,
                &shared,
                &of("solo", &tenant.name),
            ));
            if together(s) != Some("shared") {
                continue;
            }
            for other in
                programs[i + 1..].iter().filter(|o| o.kind == tenant.kind && o.workload == tenant.workload)
            {
                out.extend(test(
                    TENANTS,
                    [&tenant.name, &other.name],
                    clock,
                    &shared,
                    &of("shared", &other.name),
                ));
            }
        }
    }
    out
}

fn test(kind: &str, [a, b]: [&str; 2], clock: Clock, left: &Repeats, right: &Repeats) -> Option<PairTest> {
    let pairs: Vec<(f64, f64)> =
        left.iter().zip(right).filter_map(|(a, b)| Some((median(a)?, median(b)?))).collect();
    let (medians_a, medians_b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    let ratios: Vec<f64> =
        medians_a.iter().zip(&medians_b).filter(|p| *p.1 > 0.0).map(|(a, b)| a / b).collect();
    let paired = wilcoxon_signed_rank(&medians_a, &medians_b).ok()?;
    Some(PairTest {
        kind: kind.to_owned(),
        a: a.to_owned(),
        b: b.to_owned(),
        clock: clock.name().to_owned(),
        ratio: estimate(&ratios)?,
        paired: result(paired.statistic, paired.p),
        by_repeat: level(&medians_a, &medians_b)?,
        by_iteration: level(&left.concat(), &right.concat())?,
        verdict: String::new(),
    })
}

pub(crate) fn result(statistic: f64, p: f64) -> TestResult {
    TestResult { statistic, p, adjusted_p: p }
}

fn level(a: &[f64], b: &[f64]) -> Option<LevelTests> {
    let shift = hodges_lehmann_interval(a, b, 0.95).ok()?;
    let u = mann_whitney(a, b).ok()?;
    let d = kolmogorov_smirnov(a, b).ok()?;
    let base = median(b)?;
    Some(LevelTests {
        n_a: a.len() as u32,
        n_b: b.len() as u32,
        shift_ms: Estimate {
            value: shift.value,
            low: shift.interval.low,
            high: shift.interval.high,
            n: (a.len() + b.len()) as u32,
        },
        shift_level: shift.interval.level,
        shift_relative: if base > 0.0 { shift.value / base } else { 0.0 },
        superiority: u.statistic / (a.len() * b.len()) as f64,
        welch: welch(a, b).ok().map(|w| result(w.t, w.p)),
        mann_whitney: result(u.statistic, u.p),
        kolmogorov_smirnov: result(d.statistic, d.p),
    })
}

/// Adjusts the tests over the whole run, each kind of test being a family of its own, and gives the verdicts; that on a
/// tenant's latency shared against alone stands as the verdict on `slowdown_p50.T` too.
///
/// Shared against alone is judged as a slowdown is. Tenants against each other are expected to be equal and there are
/// many pairs of them, so one interval that leaves out 1 is not enough: the adjusted paired test has to be
/// significant, or the intervals of the two medians have to be disjoint.
pub(crate) fn judge(trials: &mut [TrialSummary], all: &[TrialSamples]) {
    type Pick = fn(&mut PairTest) -> Option<&mut TestResult>;
    let picks: [Pick; 7] = [
        |t| Some(&mut t.paired),
        |t| t.by_repeat.welch.as_mut(),
        |t| Some(&mut t.by_repeat.mann_whitney),
        |t| Some(&mut t.by_repeat.kolmogorov_smirnov),
        |t| t.by_iteration.welch.as_mut(),
        |t| Some(&mut t.by_iteration.mann_whitney),
        |t| Some(&mut t.by_iteration.kolmogorov_smirnov),
    ];
    for pick in picks {
        let mut family: Vec<&mut TestResult> =
            trials.iter_mut().flat_map(|t| &mut t.tests).filter_map(pick).collect();
        let adjusted = holm(&family.iter().map(|t| t.p).collect::<Vec<_>>());
        for (t, p) in family.iter_mut().zip(adjusted) {
            t.adjusted_p = p;
        }
    }
    let judge = Judge::default();
    for (trial, s) in trials.iter_mut().zip(all) {
        let TrialSummary { tests, verdicts, .. } = trial;
        for t in tests {
            let verdict = if t.kind == SHARED_SOLO {
                let (r, p) = (t.ratio, t.paired.adjusted_p);
                judge.ratio(r.value, r.low, r.high, Better::Lower, Some(p))
            } else {
                between(&judge, t, s)
            };
            t.verdict = verdict.to_string();
            // Of the clocks, the one that the percentiles of the summary are of.
            let open = s.trial.tenants.iter().any(|o| o.name == t.a && open_loop(o));
            let shown = if open { Clock::Latency } else { Clock::Wall };
            if t.kind == SHARED_SOLO && t.clock == shown.name() {
                verdicts.insert(format!("slowdown_p50.{}", t.a), t.verdict.clone());
            }
        }
    }
}

/// The verdict on two tenants of the same workload; see [`judge`].
fn between(judge: &Judge, t: &PairTest, s: &TrialSamples) -> Verdict {
    let within = |v: f64| (v - 1.0).abs() <= judge.tolerance;
    if within(t.ratio.low) && within(t.ratio.high) {
        return Verdict::Same;
    }
    let of_repeats = |tenant: &str| {
        let clock = Clock::named(&t.clock).unwrap_or(Clock::Wall);
        let medians: Vec<f64> =
            s.repeats.iter().filter_map(|r| median(&of_repeat(r, "shared", tenant, clock))).collect();
        median_interval(&medians).ok().filter(|m| m.n >= DISJOINT_FROM)
    };
    let disjoint = match (of_repeats(&t.a), of_repeats(&t.b)) {
        (Some(a), Some(b)) => a.interval.disjoint(&b.interval),
        _ => false,
    };
    match (disjoint || t.paired.adjusted_p <= judge.alpha, t.ratio.value > 1.0) {
        (true, true) => Verdict::Slower,
        (true, false) => Verdict::Faster,
        (false, _) => Verdict::Ambiguous,
    }
}
