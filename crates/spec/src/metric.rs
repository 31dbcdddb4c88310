//! Names of metrics, as a summary has them.

use crate::error::{Checked, ErrorKind, Issue, suggest};
use crate::raw::{At, Trial};

/// Metrics of a whole trial.
pub const TRIAL_METRICS: [&str; 8] =
    ["speedup", "ratio", "slowdown", "stp", "fairness", "utilization_pct", "sm_clock_mhz", "power_w"];
/// Metrics of one tenant, written `metric.TENANT`.
pub const TENANT_METRICS: [&str; 9] = [
    "slowdown",
    "throughput_ratio",
    "solo_ms",
    "shared_ms",
    "solo_request_p50_ms",
    "p50_ms",
    "solo_p99_ms",
    "p99_ms",
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
            suggest(base, "metrics of a tenant", &TENANT_METRICS),
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
