//! What a metric's name means: its label, unit, direction, and how its values are printed.

use crate::scale::significant;
use cotenant_stats::Better;
use cotenant_store::format::{Estimate, TrialRecord};

/// The part before the tenant: `slowdown` of `slowdown.copy`.
pub fn base(metric: &str) -> &str {
    metric.split_once('.').map_or(metric, |(b, _)| b)
}

/// The tenant a metric is of, if of one.
pub fn tenant(metric: &str) -> Option<&str> {
    metric.split_once('.').map(|(_, t)| t)
}

/// Whether lower or higher values are better.
pub fn better(metric: &str) -> Better {
    match base(metric) {
        "speedup" | "throughput_ratio" | "bandwidth_gbs" | "stp" | "fairness" | "sm_clock_mhz"
        | "utilization_pct" => Better::Higher,
        _ => Better::Lower,
    }
}

/// Unit after a value; `×` for ratios.
pub fn unit(metric: &str) -> &'static str {
    match base(metric) {
        "speedup" | "ratio" | "slowdown" | "throughput_ratio" | "stp" => "×",
        "bandwidth_gbs" => "GB/s",
        "sm_clock_mhz" => "MHz",
        "power_w" => "W",
        "utilization_pct" => "%",
        b if b.ends_with("_ms") => "ms",
        _ => "",
    }
}

/// Plain words for a metric, without the tenant: `slowdown`, `time alone`.
pub fn words(metric: &str) -> String {
    let known = match base(metric) {
        "speedup" => "speedup",
        "ratio" => "shared / sequential time",
        "slowdown" => "slowdown",
        "solo_ms" => "launch time alone",
        "shared_ms" => "launch time shared",
        "p50_ms" => "median request, shared",
        "p99_ms" => "p99 request, shared",
        "solo_request_p50_ms" => "median request, alone",
        "solo_p99_ms" => "p99 request, alone",
        "throughput_ratio" => "launch rate shared / alone",
        "bandwidth_gbs" => "bandwidth alone",
        "stp" => "system throughput (STP)",
        "fairness" => "fairness (min / max slowdown)",
        "sm_clock_mhz" => "SM clock",
        "power_w" => "power",
        "utilization_pct" => "utilisation by nvidia-smi",
        other => return other.replace('_', " "),
    };
    known.to_owned()
}

/// Words with the tenant: `slowdown of copy`.
pub fn title(metric: &str) -> String {
    match tenant(metric) {
        Some(t) => match words(metric).split_once(',') {
            Some((what, when)) => format!("{what} of {t},{when}"),
            None => format!("{} of {t}", words(metric)),
        },
        None if base(metric) == "slowdown" => "slowdown, mean of tenants".to_owned(),
        None => words(metric),
    }
}

/// Ratios first, then times, then the machine: the order of metrics in a table.
pub fn rank(metric: &str) -> usize {
    const ORDER: [&str; 17] = [
        "speedup",
        "ratio",
        "slowdown",
        "stp",
        "fairness",
        "throughput_ratio",
        "solo_ms",
        "shared_ms",
        "solo_request_p50_ms",
        "p50_ms",
        "solo_p99_ms",
        "p99_ms",
        "bandwidth_gbs",
        "utilization_pct",
        "sm_clock_mhz",
        "power_w",
        "",
    ];
    ORDER.iter().position(|o| *o == base(metric)).unwrap_or(ORDER.len() - 1)
}

/// A value with four significant figures, without unit.
pub fn value(v: f64) -> String {
    significant(v, 4)
}

/// A value with its unit: `1.900×`, `12.34 ms`.
pub fn with_unit(metric: &str, v: f64) -> String {
    match unit(metric) {
        "" => value(v),
        "×" => format!("{}×", value(v)),
        u => format!("{} {u}", value(v)),
    }
}

/// An interval: `[1.880, 1.920]`.
pub fn interval(e: &Estimate) -> String {
    format!("[{}, {}]", value(e.low), value(e.high))
}

/// A relative difference in percent with its sign: `+2.1 %`.
pub fn percent(share: f64) -> String {
    let p = share * 100.0;
    if !p.is_finite() {
        return "–".to_owned();
    }
    if p.abs() < 0.05 {
        return "0.0 %".to_owned();
    }
    let digits = usize::from(p.abs() < 100.0);
    let sign = if p > 0.0 { "+" } else { "−" };
    format!("{sign}{:.digits$} %", p.abs())
}

/// The stored references of a trial for `metric`, as (source, value). A reference for the inverse metric
/// (`speedup` and `ratio`) is turned over.
pub fn references(trial: &TrialRecord, metric: &str) -> Vec<(String, f64)> {
    let inverse = match metric {
        "speedup" => "ratio",
        "ratio" => "speedup",
        _ => "",
    };
    let usable = trial.references.iter().filter(|r| r.value.is_finite());
    let direct: Vec<(String, f64)> =
        usable.clone().filter(|r| r.metric == metric).map(|r| (r.source.clone(), r.value)).collect();
    let turned =
        usable.filter(|r| r.metric == inverse && r.value != 0.0).map(|r| (r.source.clone(), 1.0 / r.value));
    let missing: Vec<(String, f64)> = turned.filter(|(s, _)| direct.iter().all(|(d, _)| d != s)).collect();
    direct.into_iter().chain(missing).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_metric_and_tenant() {
        assert_eq!((base("p99_ms.a.b"), tenant("p99_ms.a.b")), ("p99_ms", Some("a.b")));
        assert_eq!(title("slowdown.copy"), "slowdown of copy");
        assert_eq!(title("p99_ms.copy"), "p99 request of copy, shared");
        assert_eq!(with_unit("slowdown", 1.9), "1.900×");
        assert_eq!(with_unit("solo_ms.x", 12.345), "12.35 ms");
        assert!(rank("speedup") < rank("slowdown.a") && rank("slowdown.a") < rank("unknown"));
    }

    #[test]
    fn percentages_carry_their_sign() {
        assert_eq!(percent(0.021), "+2.1 %");
        assert_eq!(percent(-1.5), "−150 %");
        assert_eq!(percent(1e-5), "0.0 %");
        assert_eq!(percent(f64::NAN), "–");
    }
}
