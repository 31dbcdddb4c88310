//! Two runs side by side, and a run beside the values that others give for the same trials.

use crate::samples::{TrialSamples, samples};
use crate::{RunData, metric};
use cotenant_stats::{Judge, StatsError, Verdict, holm, mann_whitney};
use cotenant_store::format::{Estimate, TenantRecord, TrialRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How to compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompareOptions {
    judge: Judge,
}

impl Default for CompareOptions {
    /// Values within ±2 % are the same; tests at 5 % after Holm's correction.
    fn default() -> Self {
        CompareOptions { judge: Judge::default() }
    }
}

impl CompareOptions {
    /// Values whose ratio lies within 1 ± `tolerance` are the same.
    ///
    /// # Errors
    /// A tolerance outside 0..1.
    pub fn with_tolerance(tolerance: f64) -> Result<Self, StatsError> {
        Ok(CompareOptions { judge: Judge::with_tolerance(tolerance)? })
    }
}

/// What identifies a run in a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunLabel {
    /// Experiment.
    pub name: String,
    /// Device name.
    pub device: String,
    /// Simulated GPU.
    pub simulated: bool,
    /// Start, RFC 3339.
    pub started: String,
    /// Version of the binary and git revision.
    pub version: String,
}

/// Run `b` against a base: run `a`, or the reference values stored with `b`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The base; `None` if it is the stored references, whose sources stand in the rows.
    pub a: Option<RunLabel>,
    /// The one judged.
    pub b: RunLabel,
    /// One row per trial and metric that both have, in plan order.
    pub rows: Vec<ComparisonRow>,
    /// Errors of `b`, host-bound trials left out. Against run `a` over the rows `speedup` and, of each trial,
    /// `slowdown.T` for every tenant, but the mean `slowdown` where all tenants are equal (same kernel,
    /// parameters and shape): which of two equal tenants comes first is a coin toss, and neither run can be held
    /// to the other's toss. Against references over all rows of a source.
    pub errors: Vec<ErrorSummary>,
    /// Errors of `b` against run `a` in request percentiles (`p50_ms`, then `p99_ms`), one for each that has
    /// rows; host-bound trials included, as these times are what such trials are about.
    #[serde(default)]
    pub request_errors: Vec<ErrorSummary>,
    /// Trials that only `a` has values for.
    pub only_in_a: Vec<String>,
    /// Trials that only `b` has values for.
    pub only_in_b: Vec<String>,
    /// References that `b` has no value for: trial, metric and source.
    pub missing: Vec<String>,
    /// Trials of the same name that differ in sharing, protocol, baseline or tenants: compared, with care.
    pub planned_differently: Vec<String>,
}

impl Comparison {
    /// The worst error over all sources in percent; `None` if nothing could be compared.
    pub fn worst_error_pct(&self) -> Option<f64> {
        self.errors.iter().map(|e| 100.0 * e.worst).reduce(f64::max)
    }
}

/// One metric of one trial on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ComparisonRow {
    /// Trial.
    pub trial: String,
    /// Metric.
    pub metric: String,
    /// Source of the reference that stands for `a`; `None` between two runs.
    pub source: Option<String>,
    /// In run `a`, or the reference (`n` = 0, an interval without width).
    pub a: Estimate,
    /// In run `b`.
    pub b: Estimate,
    /// `(b - a) / a`.
    pub difference: f64,
    /// Of `b` over `a`.
    pub verdict: Verdict,
    /// Launch- or process-bound in either run: left out of the error.
    pub host_bound: bool,
}

/// A row whose base has a 95 % interval that reaches further than this from its value to either side is undecided
/// in reality: it has two values, by the order of arrival or by where memory lay.
const UNDECIDED: f64 = 0.10;

/// Errors over many rows, as shares.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorSummary {
    /// Against what: the name of run `a`, or the source of the references.
    pub against: String,
    /// Rows.
    pub rows: usize,
    /// Mean of |difference|.
    pub mean: f64,
    /// Largest |difference|.
    pub worst: f64,
    /// Where the largest is: trial and metric.
    pub worst_at: String,
    /// The same without the rows that are undecided in the base: those whose 95 % interval there reaches more
    /// than 10 % from the value. `None` if no row is left.
    #[serde(default)]
    pub decided: Option<DecidedErrors>,
}

/// Errors over the rows that the base itself decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DecidedErrors {
    /// Rows.
    pub rows: usize,
    /// Mean of |difference|.
    pub mean: f64,
    /// Largest |difference|.
    pub worst: f64,
    /// Where the largest is: trial and metric.
    pub worst_at: String,
}

impl DecidedErrors {
    /// Over rows with a finite difference; `None` without one.
    fn of<'r>(rows: impl Iterator<Item = &'r ComparisonRow>) -> Option<Self> {
        let mut s = DecidedErrors { rows: 0, mean: 0.0, worst: 0.0, worst_at: String::new() };
        for row in rows.filter(|r| r.difference.is_finite()) {
            let d = row.difference.abs();
            s.rows += 1;
            s.mean += d;
            if d > s.worst || s.worst_at.is_empty() {
                (s.worst, s.worst_at) = (d, format!("{} {}", row.trial, row.metric));
            }
        }
        s.mean /= s.rows.max(1) as f64;
        (s.rows > 0).then_some(s)
    }
}

impl ErrorSummary {
    /// Over rows with a finite difference; `None` without one.
    fn of(against: &str, rows: &[&ComparisonRow]) -> Option<Self> {
        let all = DecidedErrors::of(rows.iter().copied())?;
        Some(ErrorSummary {
            against: against.to_owned(),
            rows: all.rows,
            mean: all.mean,
            worst: all.worst,
            worst_at: all.worst_at,
            decided: DecidedErrors::of(rows.iter().copied().filter(|r| decided(&r.a))),
        })
    }
}

/// Whether an estimate has one value: its interval stays within 10 % of it.
fn decided(e: &Estimate) -> bool {
    let reach = (e.high - e.value).max(e.value - e.low);
    reach <= UNDECIDED * e.value.abs()
}

fn label(run: &RunData) -> RunLabel {
    let p = &run.manifest.provenance;
    RunLabel {
        name: run.manifest.name.clone(),
        device: run.manifest.device.name.clone(),
        simulated: run.manifest.simulated,
        started: p.started.clone(),
        version: format!("{} ({})", p.version, p.git_revision),
    }
}

/// Metrics that are compared: slowdowns, speedup and its inverse, launch times, percentiles of requests and
/// iterations, rates and energy.
fn compared(name: &str) -> bool {
    const BASES: [&str; 23] = [
        "slowdown",
        "speedup",
        "ratio",
        "solo_ms",
        "shared_ms",
        "p50_ms",
        "p99_ms",
        "solo_request_p50_ms",
        "solo_p99_ms",
        "slowdown_p50",
        "slowdown_p99",
        "solo_p50_ms",
        "event_ms",
        "solo_event_ms",
        "kernel_ms",
        "solo_kernel_ms",
        "throughput",
        "solo_throughput",
        "tokens_per_s",
        "solo_tokens_per_s",
        "joules_per_iteration",
        "joules_per_token",
        "spread",
    ];
    BASES.contains(&metric::base(name))
}

/// Metrics whose differences make up the error: the speedup, and one per directed slowdown or, among equal
/// tenants, their mean (the ratio says the same again).
fn counted(name: &str, equal_tenants: bool) -> bool {
    name == "speedup" || (metric::base(name) == "slowdown" && metric::tenant(name).is_some() != equal_tenants)
}

/// Several tenants that differ in nothing but their names.
fn equal_tenants(trial: &TrialRecord) -> bool {
    let mut tenants = trial.tenants.iter();
    let Some(first) = tenants.next() else { return false };
    let same = |t: &TenantRecord| TenantRecord { name: first.name.clone(), ..t.clone() } == *first;
    // A share or priority of its own tells a tenant from the others.
    let alike = |v: &serde_json::Value| match v.as_array() {
        Some(of_tenants) => of_tenants.windows(2).all(|w| w[0] == w[1]),
        None => true,
    };
    let sharing = trial.sharing.as_object().is_none_or(|o| o.values().all(alike));
    trial.tenants.len() > 1 && sharing && tenants.all(same)
}

/// [`compare_with`] the default options.
pub fn compare(a: &RunData, b: &RunData) -> Comparison {
    compare_with(a, b, &CompareOptions::default())
}

/// Compares run `b` with run `a`, trial by trial and metric by metric.
///
/// The verdict on a row is `same` if the quotient of the two intervals lies within the tolerance, `faster` or
/// `slower` if the intervals are disjoint or a Mann–Whitney test of the per-repeat values is significant after
/// Holm's correction over all rows, else `ambiguous`.
pub fn compare_with(a: &RunData, b: &RunData, options: &CompareOptions) -> Comparison {
    let samples_a = samples(&a.manifest, &a.repeats, &a.outcomes);
    let samples_b = samples(&b.manifest, &b.repeats, &b.outcomes);
    let mut rows = Vec::new();
    let mut p_values = Vec::new();
    let mut planned_differently = Vec::new();
    for ta in &a.summary.trials {
        let Some(tb) = b.summary.trials.iter().find(|t| t.trial == ta.trial) else { continue };
        let sa = samples_a.iter().find(|s| s.trial.id == ta.trial);
        let sb = samples_b.iter().find(|s| s.trial.id == ta.trial);
        if let (Some(sa), Some(sb)) = (sa, sb)
            && !same_plan(sa.trial, sb.trial)
        {
            planned_differently.push(ta.trial.clone());
        }
        let host_bound = [sa, sb].iter().flatten().any(|s| s.trial.host_bound);
        let mut names: Vec<&String> =
            ta.metrics.keys().filter(|m| compared(m) && tb.metrics.contains_key(*m)).collect();
        names.sort_by_key(|m| (metric::rank(m), (*m).clone()));
        for name in names {
            let (Some(&ea), Some(&eb)) = (ta.metrics.get(name), tb.metrics.get(name)) else { continue };
            p_values.push(test(sa, sb, name));
            rows.push(ComparisonRow {
                trial: ta.trial.clone(),
                metric: name.clone(),
                source: None,
                a: ea,
                b: eb,
                difference: (eb.value - ea.value) / ea.value,
                verdict: Verdict::Ambiguous,
                host_bound,
            });
        }
    }
    for (row, p) in rows.iter_mut().zip(holm(&p_values)) {
        row.verdict = judge_row(&options.judge, row, p);
    }
    let equal = |trial: &str| a.manifest.trials.iter().any(|t| t.id == trial && equal_tenants(t));
    let judged: Vec<&ComparisonRow> =
        rows.iter().filter(|r| !r.host_bound && counted(&r.metric, equal(&r.trial))).collect();
    let error = ErrorSummary::of(&a.manifest.name, &judged);
    let of_requests = |base: &str| {
        let rows: Vec<&ComparisonRow> = rows.iter().filter(|r| metric::base(&r.metric) == base).collect();
        ErrorSummary::of(&format!("{} {base}", a.manifest.name), &rows)
    };
    let request_errors = ["p50_ms", "p99_ms"].into_iter().filter_map(of_requests).collect();
    Comparison {
        a: Some(label(a)),
        b: label(b),
        errors: error.into_iter().collect(),
        request_errors,
        rows,
        only_in_a: without_values(a, b),
        only_in_b: without_values(b, a),
        missing: Vec::new(),
        planned_differently,
    }
}

/// p-value of the per-repeat values of one metric; 1 where there are none (requests of kernels).
fn test(a: Option<&TrialSamples>, b: Option<&TrialSamples>, name: &str) -> f64 {
    let values = |s: Option<&TrialSamples>| {
        s.and_then(|s| s.values.get(name).or_else(|| s.by_repeat.get(name))).cloned().unwrap_or_default()
    };
    mann_whitney(&values(b), &values(a)).map_or(1.0, |t| t.p)
}

fn judge_row(judge: &Judge, row: &ComparisonRow, adjusted_p: f64) -> Verdict {
    let Some(r) = quotient(&row.b, &row.a) else { return Verdict::Ambiguous };
    judge.ratio(r.value, r.low, r.high, metric::better(&row.metric), Some(adjusted_p))
}

/// `b` over `a` with the quotient of their intervals; `None` where one reaches down to 0.
pub(crate) fn quotient(b: &Estimate, a: &Estimate) -> Option<Estimate> {
    (a.low > 0.0 && b.low > 0.0).then(|| Estimate {
        value: b.value / a.value,
        low: b.low / a.high,
        high: b.high / a.low,
        n: a.n.min(b.n),
    })
}

fn same_plan(a: &TrialRecord, b: &TrialRecord) -> bool {
    a.sharing == b.sharing && a.protocol == b.protocol && a.baseline == b.baseline && a.tenants == b.tenants
}

fn without_values(of: &RunData, other: &RunData) -> Vec<String> {
    let has =
        |run: &RunData, id: &str| run.summary.trials.iter().any(|t| t.trial == id && !t.metrics.is_empty());
    let ids = of.summary.trials.iter().map(|t| t.trial.clone());
    ids.filter(|id| has(of, id) && !has(other, id)).collect()
}

/// [`compare_reference_with`] the default options.
pub fn compare_reference(run: &RunData, source_filter: Option<&str>) -> Comparison {
    compare_reference_with(run, source_filter, &CompareOptions::default())
}

/// Compares a run with the references stored in its manifest whose source contains `source_filter` (in any
/// case; `None`: all). A reference is taken as exact.
pub fn compare_reference_with(
    run: &RunData,
    source_filter: Option<&str>,
    options: &CompareOptions,
) -> Comparison {
    let wanted = source_filter.map(str::to_lowercase);
    let (mut rows, mut missing): (Vec<ComparisonRow>, Vec<String>) = (Vec::new(), Vec::new());
    for trial in &run.manifest.trials {
        let summary = run.summary.trials.iter().find(|t| t.trial == trial.id);
        for r in trial.references.iter().filter(|r| r.value.is_finite()) {
            if wanted.as_ref().is_some_and(|w| !r.source.to_lowercase().contains(w)) {
                continue;
            }
            let Some(&ours) = summary.and_then(|s| s.metrics.get(&r.metric)) else {
                missing.push(format!("{} {} ({})", trial.id, r.metric, r.source));
                continue;
            };
            let mut row = ComparisonRow {
                trial: trial.id.clone(),
                metric: r.metric.clone(),
                source: Some(r.source.clone()),
                a: Estimate { value: r.value, low: r.value, high: r.value, n: 0 },
                b: ours,
                difference: (ours.value - r.value) / r.value,
                verdict: Verdict::Ambiguous,
                host_bound: trial.host_bound,
            };
            row.verdict = judge_row(&options.judge, &row, 1.0);
            rows.push(row);
        }
    }
    let mut sources: Vec<&str> = Vec::new();
    for source in rows.iter().filter_map(|r| r.source.as_deref()) {
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    let of_source = |s: &str| -> Vec<&ComparisonRow> {
        rows.iter().filter(|r| r.source.as_deref() == Some(s) && !r.host_bound).collect()
    };
    let errors = sources.into_iter().filter_map(|s| ErrorSummary::of(s, &of_source(s))).collect();
    Comparison {
        a: None,
        b: label(run),
        errors,
        request_errors: Vec::new(),
        rows,
        only_in_a: Vec::new(),
        only_in_b: Vec::new(),
        missing,
        planned_differently: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(sharing: &str, kernels: [&str; 2]) -> TrialRecord {
        let tenant = |name: &str, kernel: &str| {
            format!(
                r#"{{"name": "{name}", "kernel": "{kernel}", "blocks": 132, "threads": 128, "launches": 1, "request": 1,
                    "params": {{"ilp": 4}}}}"#
            )
        };
        let text = format!(
            r#"{{"id": "t", "series": "s", "x": null, "vars": {{}}, "sharing": {sharing}, "protocol": "fixed",
                "baseline": "same-share", "tenants": [{}, {}], "references": [], "host_bound": false}}"#,
            tenant("a-1", kernels[0]),
            tenant("a-2", kernels[1])
        );
        serde_json::from_str(&text).expect("a trial")
    }

    #[test]
    fn equal_tenants_have_no_identity() {
        let streams = r#"{"mode": "streams", "priority": []}"#;
        assert!(equal_tenants(&trial(streams, ["smem", "smem"])));
        assert!(!equal_tenants(&trial(streams, ["smem", "copy"])));
        assert!(equal_tenants(&trial(r#"{"mode": "mps", "percentage": [50, 50]}"#, ["smem", "smem"])));
        assert!(!equal_tenants(&trial(r#"{"mode": "streams", "priority": [-5, 0]}"#, ["smem", "smem"])));
        assert!(counted("slowdown", true) && !counted("slowdown.a-1", true));
        assert!(counted("slowdown.a-1", false) && !counted("slowdown", false));
        assert!(counted("speedup", true) && counted("speedup", false) && !counted("ratio", true));
    }

    #[test]
    fn what_reality_does_not_decide_is_reported_apart() {
        let row = |trial: &str, low: f64, high: f64, difference: f64| ComparisonRow {
            trial: trial.into(),
            metric: "slowdown".into(),
            source: None,
            a: Estimate { value: 1.5, low, high, n: 20 },
            b: Estimate { value: 1.5 * (1.0 + difference), low: 1.5, high: 1.5, n: 8 },
            difference,
            verdict: Verdict::Ambiguous,
            host_bound: false,
        };
        let rows = [row("toss", 1.03, 1.96, -0.3), row("sure", 1.49, 1.51, 0.1)];
        let s = ErrorSummary::of("run", &rows.iter().collect::<Vec<_>>()).expect("rows");
        assert_eq!((s.rows, s.worst, s.worst_at.as_str()), (2, 0.3, "toss slowdown"));
        let d = s.decided.expect("one row");
        assert_eq!((d.rows, d.mean, d.worst_at.as_str()), (1, 0.1, "sure slowdown"));
        assert!(ErrorSummary::of("run", &[&rows[0]]).expect("a row").decided.is_none());
        assert!(ErrorSummary::of("run", &[]).is_none());
    }
}
