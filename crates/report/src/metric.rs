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
        "speedup" | "throughput_ratio" | "bandwidth_gbs" | "stp" | "fairness" | "jain" | "sm_clock_mhz"
        | "solo_sm_clock_mhz" | "clock_ratio" | "tokens_per_joule" => Better::Higher,
        b if b.ends_with("failed_pct") || b.ends_with("kv_pct") => Better::Lower,
        b if b.ends_with("throughput")
            || b.ends_with("tokens_per_s")
            || b.ends_with("goodput_per_s")
            || b.ends_with("_pct") =>
        {
            Better::Higher
        }
        _ => Better::Lower,
    }
}

/// Shares that are printed in percent.
fn in_percent(metric: &str) -> bool {
    matches!(base(metric), "launch_bound" | "trace_overhead" | "spread")
}

/// Unit after a value; `×` for ratios.
pub fn unit(metric: &str) -> &'static str {
    match base(metric) {
        "speedup" | "ratio" | "slowdown" | "slowdown_p50" | "slowdown_p99" | "slowdown_ttft"
        | "slowdown_tpot" | "throughput_ratio" | "stp" | "antt" | "energy_ratio" | "clock_ratio" => "×",
        "launch_bound" | "trace_overhead" | "spread" => "%",
        "bandwidth_gbs" => "GB/s",
        "sm_clock_mhz" | "solo_sm_clock_mhz" => "MHz",
        "power_w" | "solo_power_w" => "W",
        "start_spread_us" => "µs",
        b if b.ends_with("_pct") => "%",
        b if b.ends_with("_ms") => "ms",
        b if b.ends_with("throughput") => "it/s",
        b if b.ends_with("tokens_per_s") => "tok/s",
        b if b.ends_with("goodput_per_s") => "req/s",
        "tokens_per_joule" => "tok/J",
        b if b.contains("joules_per") => "J",
        _ => "",
    }
}

/// Plain words for a metric, without the tenant: `slowdown`, `time alone`.
pub fn words(metric: &str) -> String {
    let name = base(metric);
    let known = match name {
        "speedup" => "speedup",
        "ratio" => "shared / sequential time",
        "slowdown" => "slowdown",
        "slowdown_p50" => "slowdown of the median iteration",
        "slowdown_p99" => "slowdown of the 99th percentile",
        "slowdown_ttft" => "slowdown of the median TTFT",
        "slowdown_tpot" => "slowdown of the median TPOT",
        "goodput_per_s" => "requests within their limits per second",
        "solo_goodput_per_s" => "requests within their limits per second, alone",
        "total_tokens_per_s" => "tokens per second, with those of prompts",
        "solo_total_tokens_per_s" => "tokens per second with those of prompts, alone",
        "tokens_per_joule" => "tokens per joule",
        "slo_pct" => "requests within their limits",
        "solo_slo_pct" => "requests within their limits, alone",
        "failed_pct" => "requests that failed",
        "batch" => "requests in the server's batch",
        "solo_batch" => "requests in the server's batch, alone",
        "queue" => "requests in the server's queue",
        "solo_queue" => "requests in the server's queue, alone",
        "queue_time_ms" => "mean time in the server's queue",
        "solo_queue_time_ms" => "mean time in the server's queue, alone",
        "kv_pct" => "KV cache in use, most",
        "solo_kv_pct" => "KV cache in use, most, alone",
        "preemptions" => "requests preempted",
        "solo_preemptions" => "requests preempted, alone",
        "solo_failed_pct" => "requests that failed, alone",
        "solo_ms" => "launch time alone",
        "shared_ms" => "launch time shared",
        "p50_ms" => "median request, shared",
        "p99_ms" => "p99 request, shared",
        "solo_request_p50_ms" => "median request, alone",
        "solo_p50_ms" => "median iteration, alone",
        "solo_p99_ms" => "p99 request, alone",
        "p90_ms" => "p90 iteration, shared",
        "solo_p90_ms" => "p90 iteration, alone",
        "p95_ms" => "p95 iteration, shared",
        "solo_p95_ms" => "p95 iteration, alone",
        "mean_ms" => "mean iteration, shared",
        "solo_mean_ms" => "mean iteration, alone",
        "std_ms" => "standard deviation of iterations, shared",
        "solo_std_ms" => "standard deviation of iterations, alone",
        "min_ms" => "shortest iteration, shared",
        "solo_min_ms" => "shortest iteration, alone",
        "max_ms" => "longest iteration, shared",
        "solo_max_ms" => "longest iteration, alone",
        "p50_all_ms" => "median iteration, all active",
        "p50_some_ms" => "median iteration, some finished",
        "p50_one_ms" => "median iteration, the others finished",
        "event_ms" => "event time, shared",
        "solo_event_ms" => "event time, alone",
        "kernel_ms" => "kernel time (sum), shared",
        "solo_kernel_ms" => "kernel time (sum), alone",
        "busy_ms" => "kernel time (union), shared",
        "solo_busy_ms" => "kernel time (union), alone",
        "kernels" => "kernels per iteration",
        "launch_bound" => "time alone without a kernel",
        "trace_overhead" => "cost of the kernel clock",
        "throughput_ratio" => "launch rate shared / alone",
        "throughput" => "iterations per second",
        "solo_throughput" => "iterations per second, alone",
        "tokens_per_s" => "tokens per second",
        "solo_tokens_per_s" => "tokens per second, alone",
        "joules_per_iteration" => "energy per iteration",
        "solo_joules_per_iteration" => "energy per iteration, alone",
        "joules_per_token" => "energy per token",
        "solo_joules_per_token" => "energy per token, alone",
        "energy_ratio" => "energy shared / alone",
        "bandwidth_gbs" => "bandwidth alone",
        "stp" => "system throughput (STP)",
        "antt" => "mean slowdown (ANTT)",
        "fairness" => "fairness (min / max slowdown)",
        "jain" => "fairness (Jain's index of progress)",
        "spread" => "spread of equal tenants (max / min median − 1)",
        "start_spread_us" => "spread of the starts",
        "sm_clock_mhz" => "SM clock",
        "solo_sm_clock_mhz" => "SM clock, alone",
        "clock_ratio" => "SM clock together / alone",
        "power_w" => "power",
        "solo_power_w" => "power, alone",
        "utilization_pct" => "utilisation by nvidia-smi",
        _ => return request_words(name).unwrap_or_else(|| counter_words(name)),
    };
    known.to_owned()
}

/// Words of a percentile over a server's requests: `median TTFT`, `p99.9 latency of a request, alone`.
fn request_words(name: &str) -> Option<String> {
    let (field, alone) = match name.strip_prefix("solo_") {
        Some(field) => (field, ", alone"),
        None => (name, ""),
    };
    let (stem, percentile) = field.strip_suffix("_ms")?.rsplit_once('_')?;
    let what = match stem {
        "latency" => "latency of a request",
        "ttft" => "TTFT",
        "tpot" => "TPOT",
        "itl" => "gap between chunks",
        "normalised" => "latency per output token",
        "late" => "time from intended to sent",
        _ => return None,
    };
    let percentile = match percentile {
        "p50" => "median",
        "p999" => "p99.9",
        "p90" | "p95" | "p99" => percentile,
        _ => return None,
    };
    Some(format!("{percentile} {what}{alone}"))
}

/// Words of a GPU counter by its field's name, or the name itself with spaces: `DRAM`, `SM occupancy, alone`.
fn counter_words(name: &str) -> String {
    if !name.ends_with("_pct") {
        return name.replace('_', " ");
    }
    let (field, alone) = match name.strip_prefix("solo_") {
        Some(field) => (field, ", alone"),
        None => (name, ""),
    };
    let words: Vec<String> = field
        .trim_end_matches("_pct")
        .split('_')
        .map(|w| match w {
            "sm" | "dram" | "fp64" | "fp32" | "fp16" | "hmma" | "imma" | "dfma" => w.to_uppercase(),
            _ => w.to_owned(),
        })
        .collect();
    format!("{}{alone}", words.join(" "))
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

/// Ratios first, then times, then rates, energy and the machine: the order of metrics in a table.
pub fn rank(metric: &str) -> usize {
    const ORDER: &[&str] = &[
        "speedup",
        "ratio",
        "slowdown",
        "slowdown_p50",
        "slowdown_p99",
        "slowdown_ttft",
        "slowdown_tpot",
        "antt",
        "stp",
        "fairness",
        "jain",
        "spread",
        "throughput_ratio",
        "solo_ms",
        "shared_ms",
        "solo_request_p50_ms",
        "latency_p50_ms",
        "latency_p90_ms",
        "latency_p95_ms",
        "latency_p99_ms",
        "latency_p999_ms",
        "solo_ttft_p50_ms",
        "ttft_p50_ms",
        "solo_ttft_p90_ms",
        "ttft_p90_ms",
        "solo_ttft_p95_ms",
        "ttft_p95_ms",
        "solo_ttft_p99_ms",
        "ttft_p99_ms",
        "solo_ttft_p999_ms",
        "ttft_p999_ms",
        "solo_tpot_p50_ms",
        "tpot_p50_ms",
        "solo_tpot_p90_ms",
        "tpot_p90_ms",
        "solo_tpot_p95_ms",
        "tpot_p95_ms",
        "solo_tpot_p99_ms",
        "tpot_p99_ms",
        "solo_tpot_p999_ms",
        "tpot_p999_ms",
        "solo_itl_p50_ms",
        "itl_p50_ms",
        "solo_itl_p99_ms",
        "itl_p99_ms",
        "solo_normalised_p50_ms",
        "normalised_p50_ms",
        "solo_late_p99_ms",
        "late_p99_ms",
        "solo_slo_pct",
        "slo_pct",
        "solo_goodput_per_s",
        "goodput_per_s",
        "solo_failed_pct",
        "failed_pct",
        "solo_batch",
        "batch",
        "solo_queue",
        "queue",
        "solo_queue_time_ms",
        "queue_time_ms",
        "solo_kv_pct",
        "kv_pct",
        "solo_preemptions",
        "preemptions",
        "solo_p50_ms",
        "p50_ms",
        "p50_all_ms",
        "p50_some_ms",
        "p50_one_ms",
        "solo_p90_ms",
        "p90_ms",
        "solo_p95_ms",
        "p95_ms",
        "solo_p99_ms",
        "p99_ms",
        "solo_mean_ms",
        "mean_ms",
        "solo_std_ms",
        "std_ms",
        "solo_min_ms",
        "min_ms",
        "solo_max_ms",
        "max_ms",
        "solo_event_ms",
        "event_ms",
        "solo_kernel_ms",
        "kernel_ms",
        "solo_busy_ms",
        "busy_ms",
        "kernels",
        "launch_bound",
        "trace_overhead",
        "solo_throughput",
        "throughput",
        "solo_tokens_per_s",
        "tokens_per_s",
        "solo_total_tokens_per_s",
        "total_tokens_per_s",
        "energy_ratio",
        "solo_joules_per_iteration",
        "joules_per_iteration",
        "solo_joules_per_token",
        "joules_per_token",
        "tokens_per_joule",
        "bandwidth_gbs",
        "start_spread_us",
        "sm_active_pct",
        "solo_sm_active_pct",
        "sm_occupancy_pct",
        "solo_sm_occupancy_pct",
        "dram_pct",
        "solo_dram_pct",
        "tensor_pct",
        "solo_tensor_pct",
        "utilization_pct",
        "clock_ratio",
        "sm_clock_mhz",
        "solo_sm_clock_mhz",
        "power_w",
        "solo_power_w",
    ];
    ORDER.iter().position(|o| *o == base(metric)).unwrap_or(ORDER.len())
}

/// A value with four significant figures, without unit.
pub fn value(v: f64) -> String {
    significant(v, 4)
}

/// A value with its unit: `1.900×`, `12.34 ms`; shares in percent.
pub fn with_unit(metric: &str, v: f64) -> String {
    if in_percent(metric) {
        return format!("{} %", significant(100.0 * v, 3));
    }
    match unit(metric) {
        "" => value(v),
        "×" => format!("{}×", value(v)),
        u => format!("{} {u}", value(v)),
    }
}

/// A value in the unit that [`with_unit`] prints, without it.
pub fn bare(metric: &str, v: f64) -> String {
    value(if in_percent(metric) { 100.0 * v } else { v })
}

/// An interval of a metric in the unit that [`with_unit`] prints: `[1.880, 1.920]`.
pub fn interval_of(metric: &str, e: &Estimate) -> String {
    if in_percent(metric) {
        format!("[{}, {}]", significant(100.0 * e.low, 3), significant(100.0 * e.high, 3))
    } else {
        interval(e)
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
        assert_eq!(with_unit("launch_bound.x", 0.4251), "42.5 %");
        assert_eq!(
            interval_of("spread", &Estimate { value: 0.2, low: 0.1, high: 0.3, n: 9 }),
            "[10.0, 30.0]"
        );
        assert_eq!(words("solo_sm_occupancy_pct.x"), "SM occupancy, alone");
        assert_eq!(words("solo_ttft_p999_ms.x"), "p99.9 TTFT, alone");
        assert_eq!(words("latency_p50_ms"), "median latency of a request");
        assert_eq!(words("itl_p99_ms.x"), "p99 gap between chunks");
        assert_eq!((unit("goodput_per_s.x"), better("goodput_per_s.x")), ("req/s", Better::Higher));
        assert_eq!((unit("tokens_per_joule"), better("tokens_per_joule")), ("tok/J", Better::Higher));
        assert_eq!(words("something_else"), "something else");
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
