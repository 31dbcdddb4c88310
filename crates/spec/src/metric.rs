//! Names of metrics, as a summary has them.

use crate::error::{Checked, ErrorKind, Issue, suggest};
use crate::raw::{At, Trial};

/// Metrics of a whole trial.
pub const TRIAL_METRICS: &[&str] = &[
    "speedup",
    "ratio",
    "slowdown",
    "slowdown_p50",
    "antt",
    "stp",
    "fairness",
    "jain",
    "spread",
    "throughput",
    "tokens_per_s",
    "goodput_per_s",
    "p50_ms",
    "p99_ms",
    "latency_p50_ms",
    "latency_p90_ms",
    "latency_p95_ms",
    "latency_p99_ms",
    "latency_p999_ms",
    "ttft_p50_ms",
    "ttft_p90_ms",
    "ttft_p95_ms",
    "ttft_p99_ms",
    "ttft_p999_ms",
    "tpot_p50_ms",
    "tpot_p90_ms",
    "tpot_p95_ms",
    "tpot_p99_ms",
    "tpot_p999_ms",
    "event_ms",
    "joules_per_iteration",
    "joules_per_token",
    "tokens_per_joule",
    "energy_ratio",
    "clock_ratio",
    "start_spread_us",
    "utilization_pct",
    "graphics_pct",
    "sm_active_pct",
    "sm_occupancy_pct",
    "dram_pct",
    "tensor_pct",
    "tensor_hmma_pct",
    "tensor_imma_pct",
    "tensor_dfma_pct",
    "fp64_pct",
    "fp32_pct",
    "fp16_pct",
    "integer_pct",
    "sm_clock_mhz",
    "power_w",
];
/// Metrics of one tenant, written `metric.TENANT`.
pub const TENANT_METRICS: &[&str] = &[
    "slowdown",
    "slowdown_p50",
    "slowdown_p99",
    "throughput_ratio",
    "solo_ms",
    "shared_ms",
    "solo_request_p50_ms",
    "slowdown_ttft",
    "slowdown_tpot",
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
    "solo_goodput_per_s",
    "goodput_per_s",
    "solo_total_tokens_per_s",
    "total_tokens_per_s",
    "solo_slo_pct",
    "slo_pct",
    "solo_failed_pct",
    "failed_pct",
    "solo_batch",
    "batch",
    "solo_queue",
    "queue",
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
    "solo_joules_per_iteration",
    "solo_joules_per_token",
    "solo_graphics_pct",
    "solo_sm_active_pct",
    "solo_sm_occupancy_pct",
    "solo_dram_pct",
    "solo_tensor_pct",
    "solo_tensor_hmma_pct",
    "solo_tensor_imma_pct",
    "solo_tensor_dfma_pct",
    "solo_fp64_pct",
    "solo_fp32_pct",
    "solo_fp16_pct",
    "solo_integer_pct",
    "solo_sm_clock_mhz",
    "solo_power_w",
    "bandwidth_gbs",
];

/// Refuses a metric that no summary has, or one of a tenant that is not among `tenants`.
pub(crate) fn check(metric: &At<String>, path: &str, tenants: &[&str]) -> Checked<()> {
    let text = metric.value.as_str();
    let unknown = |message: String, help: String| {
        Err(Issue::new(ErrorKind::UnknownName, metric.span, path, message).help(help))
    };
    match text.split_once('.') {
        None if TRIAL_METRICS.contains(&text) => Ok(()),
        None if TENANT_METRICS.contains(&text) => unknown(
            format!("the metric `{text}` belongs to a tenant"),
            format!("write `{text}.TENANT`, with one of: {}", tenants.join(", ")),
        ),
        None => {
            let mut names = TRIAL_METRICS.to_vec();
            names.extend(TENANT_METRICS.iter().filter(|m| !TRIAL_METRICS.contains(m)));
            unknown(format!("there is no metric `{text}`"), suggest(text, "metrics", &names))
        }
        Some((base, _)) if !TENANT_METRICS.contains(&base) => unknown(
            format!("there is no metric `{base}` of a tenant"),
            suggest(base, "metrics of a tenant", TENANT_METRICS),
        ),
        Some((_, tenant)) if !tenants.contains(&tenant) => {
            unknown(format!("no tenant here is named `{tenant}`"), suggest(tenant, "tenants", tenants))
        }
        Some(_) => Ok(()),
    }
}

/// Refuses a list of reference values that is not as long as the trial has cells.
pub(crate) fn check_references(trial: &Trial, path: &str, cells: usize) -> Checked<()> {
    for (i, r) in trial.reference.iter().flatten().enumerate() {
        let field = format!("{path}.reference[{i}].values");
        if let Some(values) = r.value.values.as_ref().filter(|v| v.value.len() != cells) {
            let message =
                format!("`{field}` has {} values, but the trial has {cells} cells", values.value.len());
            return Err(Issue::new(ErrorKind::Impossible, values.span, field, message)
                .help("one value per cell, in the order of the cells; `nan` where there is none"));
        }
    }
    Ok(())
}
