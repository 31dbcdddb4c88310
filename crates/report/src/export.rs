//! A run's numbers as a table for other programs.

use crate::metric;
use cotenant_store::format::{Manifest, Summary};

/// A head and its rows, which are as long as it, as the text of a file.
pub(crate) fn csv_text<C: AsRef<[u8]>, R: AsRef<[u8]>>(
    head: impl IntoIterator<Item = C>,
    rows: impl IntoIterator<Item = impl IntoIterator<Item = R>>,
) -> String {
    let mut out = csv::Writer::from_writer(Vec::new());
    // Writing to memory does not fail.
    let _ = out.write_record(head);
    for row in rows {
        let _ = out.write_record(row);
    }
    out.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Columns of `metrics.csv`. They are only added to at the end.
const HEAD: [&str; 13] = [
    "run",
    "simulated",
    "device",
    "trial",
    "series",
    "sharing",
    "x",
    "status",
    "metric",
    "tenant",
    "value",
    "low",
    "high",
];

/// Every metric of every trial, a row for each: value, 95 % interval, and the number of observations in the last column
/// `n`. Sweep variables follow as `var.NAME`. A trial without numbers has one row without a metric.
pub fn metrics_csv(manifest: &Manifest, summary: &Summary) -> String {
    let mut names: Vec<&str> =
        manifest.trials.iter().flat_map(|t| t.vars.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    let vars = names.iter().map(|n| format!("var.{n}"));
    let head: Vec<String> =
        HEAD.iter().map(|h| (*h).to_owned()).chain(["n".to_owned(), "unit".to_owned()]).chain(vars).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for s in &summary.trials {
        let Some(t) = manifest.trials.iter().find(|t| t.id == s.trial) else { continue };
        let mode = t.sharing.get("mode").and_then(|m| m.as_str()).unwrap_or_default();
        let x = t.x.map(|x| x.to_string()).unwrap_or_default();
        let start = [
            &manifest.name,
            &summary.simulated.to_string(),
            &manifest.device.name,
            &t.id,
            &t.series,
            mode,
            &x,
            &s.status,
        ]
        .map(str::to_owned);
        let end: Vec<String> =
            names.iter().map(|n| t.vars.get(*n).map(f64::to_string).unwrap_or_default()).collect();
        let mut row = |middle: [String; 7]| {
            rows.push(start.iter().chain(&middle).chain(&end).cloned().collect());
        };
        for (name, e) in &s.metrics {
            row([
                metric::base(name).to_owned(),
                metric::tenant(name).unwrap_or_default().to_owned(),
                e.value.to_string(),
                e.low.to_string(),
                e.high.to_string(),
                e.n.to_string(),
                metric::unit(name).to_owned(),
            ]);
        }
        if s.metrics.is_empty() {
            row(Default::default());
        }
    }
    csv_text(head, rows)
}
