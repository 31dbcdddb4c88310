//! The statistics of a run: every metric of every trial with its interval, and the verdicts.

use crate::samples::{TrialSamples, samples};
use cotenant_stats::quantile::quantile_sorted;
use cotenant_stats::{
    Better, Bootstrap, Judge, holm, median_interval, percentile_interval, wilcoxon_signed_rank,
};
use cotenant_store::format::{
    Estimate, FORMAT, Manifest, OutcomeRecord, RepeatRecord, Summary, TrialSummary,
};
use std::collections::BTreeMap;

/// Resamples behind the interval of a request percentile. Fewer than for means: each one sorts all requests.
const REQUEST_RESAMPLES: usize = 400;

/// Computes `summary.json` from the records of a run alone.
///
/// Of each trial only the highest attempt counts. Repeats that were marked (clock drop, throttling) are left out
/// if at least `min_repeats` clean ones remain. Ratios are medians of per-repeat ratios. Besides the metrics
/// listed at `TrialSummary::metrics` it gives, where the records allow: `solo_request_p50_ms.T` and
/// `throughput_ratio.T` (launch rate shared over alone), `power_w`, `utilization_pct`, and for two tenants or
/// more `stp` (Σ 1/slowdown) and `fairness` (smallest over largest slowdown).
///
/// A verdict is given on each `slowdown.T`: by its interval, or by Wilcoxon's signed-rank test of shared against
/// solo times with Holm's correction over all slowdowns of the run.
pub fn summarize(manifest: &Manifest, repeats: &[RepeatRecord], outcomes: &[OutcomeRecord]) -> Summary {
    let all = samples(manifest, repeats, outcomes);
    let mut trials: Vec<TrialSummary> =
        all.iter().map(|s| summarize_trial(s, manifest.provenance.seed)).collect();
    verdicts(&all, &mut trials);
    Summary { format: FORMAT, name: manifest.name.clone(), simulated: manifest.simulated, trials }
}

fn summarize_trial(s: &TrialSamples, seed: u64) -> TrialSummary {
    let mut metrics: BTreeMap<String, Estimate> =
        s.values.iter().filter_map(|(name, v)| Some((name.clone(), estimate(v)?))).collect();
    for tenant in &s.trial.tenants {
        let name = &tenant.name;
        for (phase, p50, p99) in
            [("shared", "p50_ms", "p99_ms"), ("solo", "solo_request_p50_ms", "solo_p99_ms")]
        {
            let requests = s.requests(name, phase);
            for (metric, p) in [(p50, 0.5), (p99, 0.99)] {
                if let Some(e) = request_percentile(&requests, p, seed) {
                    metrics.insert(format!("{metric}.{name}"), e);
                }
            }
        }
    }
    TrialSummary {
        trial: s.trial.id.clone(),
        status: s.status.clone(),
        repeats: s.repeats.len() as u32,
        left_out: s.left_out,
        overlap: cotenant_stats::median(&s.overlaps).ok(),
        metrics,
        verdicts: BTreeMap::new(),
    }
}

/// Median with its 95 % interval; `None` for no observations.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let m = median_interval(values).ok()?;
    Some(Estimate { value: m.value, low: m.interval.low, high: m.interval.high, n: m.n as u32 })
}

/// The `p`-quantile of all requests, ms, with a 95 % bootstrap interval over whole repeats: requests of one
/// repeat share their conditions and are not independent. With a single repeat its requests are resampled.
fn request_percentile(repeats: &[Vec<f64>], p: f64, seed: u64) -> Option<Estimate> {
    let single: Vec<Vec<f64>>;
    let groups: &[Vec<f64>] = match repeats {
        [] => return None,
        [one] => {
            single = one.iter().map(|&x| vec![x]).collect();
            &single
        }
        many => many,
    };
    let mut pool: Vec<f64> = groups.concat();
    let n = pool.len() as u32;
    let value = quantile_unsorted(&mut pool, p);
    let bootstrap = Bootstrap { resamples: REQUEST_RESAMPLES, seed, level: 0.95 };
    let distribution = bootstrap.distribution(groups.len(), |draw| {
        pool.clear();
        for &i in draw {
            pool.extend_from_slice(&groups[i]);
        }
        quantile_unsorted(&mut pool, p)
    });
    let interval = percentile_interval(&distribution, 0.95).ok()?;
    // The percentile interval of a quantile may miss the estimate by interpolation; it never should in print.
    let (low, high) = (interval.low.min(value), interval.high.max(value));
    Some(Estimate { value: value / 1e6, low: low / 1e6, high: high / 1e6, n })
}

/// Type-7 quantile by selection: O(n), reorders `v`.
fn quantile_unsorted(v: &mut [f64], p: f64) -> f64 {
    let Some(last) = v.len().checked_sub(1) else { return f64::NAN };
    let i = ((last as f64 * p).floor() as usize).min(last);
    let (_, at, above) = v.select_nth_unstable_by(i, f64::total_cmp);
    let next = above.iter().copied().fold(f64::INFINITY, f64::min);
    let pair = [*at, if next.is_finite() { next } else { *at }];
    quantile_sorted(&pair, last as f64 * p - i as f64)
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
