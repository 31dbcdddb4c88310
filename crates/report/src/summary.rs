//! The statistics of a run: every metric of every trial with its interval, and the verdicts.

use crate::iterations::{has_programs, is_program};
use crate::samples::{TrialSamples, samples};
use crate::{pairs, programs, regimes};
use cotenant_stats::{Better, Bounded, Grouped, Judge, holm, median_interval, wilcoxon_signed_rank};
use cotenant_store::format::{
    Estimate, FORMAT, Manifest, OutcomeRecord, RepeatRecord, Summary, TrialSummary,
};
use std::collections::BTreeMap;

/// Computes `summary.json` from the records of a run alone.
///
/// Of each trial only the highest attempt counts. Repeats that were marked (clock drop, throttling) are left out
/// if at least `min_repeats` clean ones remain. Ratios are medians of per-repeat ratios. Besides the metrics
/// listed at `TrialSummary::metrics` it gives, where the records allow: `solo_request_p50_ms.T` and
/// `throughput_ratio.T` (launch rate shared over alone), `power_w`, `utilization_pct`, and for two tenants or
/// more `stp` (Σ 1/slowdown) and `fairness` (smallest over largest slowdown).
///
/// Models and programs have besides the metrics of [`crate::programs`], and `distributions`, `tests` and `parts`.
///
/// A verdict is given on each `slowdown.T`: by its interval, or by Wilcoxon's signed-rank test of shared against
/// solo times with Holm's correction over all slowdowns of the run.
pub fn summarize(manifest: &Manifest, repeats: &[RepeatRecord], outcomes: &[OutcomeRecord]) -> Summary {
    let all = samples(manifest, repeats, outcomes);
    let mut trials: Vec<TrialSummary> =
        all.iter().map(|s| summarize_trial(s, manifest.provenance.seed)).collect();
    verdicts(&all, &mut trials);
    pairs::judge(&mut trials, &all);
    let regimes = regimes::pairs(&all, &trials);
    Summary { format: FORMAT, name: manifest.name.clone(), simulated: manifest.simulated, trials, regimes }
}

fn summarize_trial(s: &TrialSamples, seed: u64) -> TrialSummary {
    let mut metrics: BTreeMap<String, Estimate> =
        s.values.iter().filter_map(|(name, v)| Some((name.clone(), estimate(v)?))).collect();
    for tenant in s.trial.tenants.iter().filter(|t| !is_program(t)) {
        let name = &tenant.name;
        for (phase, p50, p99) in
            [("shared", "p50_ms", "p99_ms"), ("solo", "solo_request_p50_ms", "solo_p99_ms")]
        {
            for (metric, e) in [p50, p99].into_iter().zip(request_percentiles(&s.requests(name, phase), seed))
            {
                metrics.insert(format!("{metric}.{name}"), e);
            }
        }
    }
    let (mut distributions, mut tests, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    if has_programs(s.trial) {
        distributions = programs::distributions(s, seed);
        parts = programs::parts(s, seed);
        tests = pairs::compare_iterations(s);
        programs::pooled(s, &distributions, &parts, seed, &mut metrics);
    }
    TrialSummary {
        trial: s.trial.id.clone(),
        status: s.status.clone(),
        repeats: s.repeats.len() as u32,
        left_out: s.left_out,
        overlap: cotenant_stats::median(&s.overlaps).ok(),
        metrics,
        verdicts: BTreeMap::new(),
        distributions,
        tests,
        parts,
    }
}

/// Median with its 95 % interval; `None` for no observations.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let m = median_interval(values).ok()?;
    Some(Estimate { value: m.value, low: m.interval.low, high: m.interval.high, n: m.n as u32 })
}

/// Median and 99th percentile of all requests, ms, with a 95 % bootstrap interval over whole repeats: requests of one
/// repeat share their conditions and are not independent. With a single repeat its requests are resampled. Nothing for
/// no request.
fn request_percentiles(repeats: &[Vec<f64>], seed: u64) -> Vec<Estimate> {
    let views: Vec<&[f64]> = repeats.iter().map(Vec::as_slice).collect();
    let Ok(requests) = Grouped::new(&views) else { return Vec::new() };
    let n = requests.len() as u32;
    let found = requests.quantiles(&[0.5, 0.99], &programs::bootstrap(seed)).unwrap_or_default();
    let ms = |b: Bounded| Estimate { value: b.value / 1e6, low: b.low / 1e6, high: b.high / 1e6, n };
    found.into_iter().map(ms).collect()
}

fn verdicts(all: &[TrialSamples], trials: &mut [TrialSummary]) {
    let mut tests = Vec::new();
    for (i, s) in all.iter().enumerate() {
        for (tenant, (solo, shared)) in &s.pairs {
            let p = wilcoxon_signed_rank(shared, solo).map_or(1.0, |t| t.p);
            tests.push((i, format!("slowdown.{tenant}"), p));
        }
    }
    let adjusted = holm(&tests.iter().map(|t| t.2).collect::<Vec<_>>());
    let judge = Judge::default();
    for ((i, metric, _), p) in tests.into_iter().zip(adjusted) {
        if let Some(e) = trials[i].metrics.get(&metric) {
            let verdict = judge.ratio(e.value, e.low, e.high, Better::Lower, Some(p));
            trials[i].verdicts.insert(metric, verdict.to_string());
        }
    }
}
