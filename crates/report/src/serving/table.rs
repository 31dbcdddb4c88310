//! The table of a load.

use crate::table::TableOptions;
use cotenant_store::serving::{ClassSummary, LoadManifest, LoadSummary, Ranged, Spread};
use std::fmt::Write as _;

/// Name, heading and what it is of each time, in the table's order.
const TIMES: [(&str, &str); 10] = [
    ("ttft", "TTFT, from intended"),
    ("ttft_sent", "TTFT, from sent"),
    ("first_chunk", "first chunk, from sent"),
    ("tpot", "TPOT"),
    ("itl", "ITL, by chunk"),
    ("itl_token", "ITL, by token"),
    ("e2e", "end to end, from intended"),
    ("e2e_sent", "end to end, from sent"),
    ("normalised", "normalised, a token"),
    ("lateness", "sent after intended"),
];

/// A number with four digits that count.
pub(super) fn number(v: f64) -> String {
    let digits = match v.abs() {
        a if a >= 1000.0 => 0,
        a if a >= 100.0 => 1,
        a if a >= 10.0 => 2,
        _ => 3,
    };
    format!("{v:.digits$}")
}

fn with_interval(r: Ranged) -> String {
    format!("{} [{}, {}]", number(r.value), number(r.low), number(r.high))
}

/// Model and server of a load, and whether they are simulated: the first words about it everywhere.
pub fn served_by(m: &LoadManifest) -> String {
    let simulated = if m.simulated { " · SIMULATED" } else { "" };
    format!("{} on {}{simulated}", m.model, m.url)
}

/// The summary as lines of text: what was asked, what came, the times in ms, and what to know of them.
pub fn render_load(s: &LoadSummary) -> String {
    let mut out = String::new();
    let mut line = |l: String| {
        out.push_str(&l);
        out.push('\n');
    };
    let failed: u64 = s.failed.values().sum();
    line(format!(
        "{} requests, {} count ({}), {} ok, {failed} failed",
        s.requests,
        s.requests - s.outside,
        s.window.how,
        s.ok
    ));
    for (kind, n) in &s.failed {
        line(format!("  failed: {n} {kind}"));
    }
    let seconds = (s.window.to_ns - s.window.from_ns) as f64 / 1e9;
    line(format!(
        "{} s: offered {}/s, completed {}/s, {} in flight",
        number(seconds),
        number(s.offered_per_s),
        number(s.completed_per_s),
        number(s.in_flight)
    ));
    line(format!(
        "output {} tokens/s, with prompts {} tokens/s",
        with_interval(s.output_tokens_per_s),
        number(s.total_tokens_per_s)
    ));
    if let (Some(prompt), Some(output)) = (s.prompt_tokens, s.output_tokens) {
        line(format!("a request: prompt {} tokens, answer {}", number(prompt), number(output)));
    }
    if let Some(g) = s.goodput {
        let limits: Vec<String> =
            [("TTFT", g.slo.ttft_ms), ("TPOT", g.slo.tpot_ms), ("end to end", g.slo.e2e_ms)]
                .iter()
                .filter_map(|(name, limit)| Some(format!("{name} ≤ {} ms", number((*limit)?))))
                .collect();
        line(format!(
            "goodput {}/s: {} of {} ({} %) within {}",
            number(g.per_s),
            g.good,
            g.of,
            with_interval(Ranged {
                value: g.share.value * 100.0,
                low: g.share.low * 100.0,
                high: g.share.high * 100.0
            }),
            limits.join(", ")
        ));
    }
    let head = ["ms", "mean", "p50", "p90", "p95", "p99", "p99.9", "max"];
    let mut table = crate::table::table(TableOptions::default(), &head, &[1, 2, 3, 4, 5, 6, 7]);
    for (name, heading) in TIMES {
        if let Some(t) = s.times.get(name) {
            table.add_row(row(heading, t));
        }
    }
    let _ = writeln!(out, "{table}");
    if !s.classes.is_empty() {
        let _ = writeln!(out, "{}", by_class(&s.classes));
    }
    if s.bucketed {
        out.push_str(
            "requests are too many to hold each: quantiles are of counts in buckets, right to 0.27 %\n",
        );
    }
    for l in &s.client.limits {
        out.push_str(&format!("these numbers are the client's: {l}\n"));
    }
    if s.by_chunks > 0 {
        out.push_str(&format!("{} answers came without usage: their tokens are chunks\n", s.by_chunks));
    }
    if s.short > 0 {
        out.push_str(&format!("{} answers ended before the tokens asked for\n", s.short));
    }
    out
}

fn row(heading: &str, t: &Spread) -> Vec<String> {
    let mut cells = vec![heading.to_owned()];
    cells.extend([t.mean, t.p50, t.p90, t.p95, t.p99].map(with_interval));
    cells.push(number(t.p999.value));
    cells.push(number(t.max));
    cells
}

/// The classes of a load, a row for each.
fn by_class(classes: &[ClassSummary]) -> comfy_table::Table {
    let head = [
        "by class, ms",
        "requests",
        "failed",
        "TTFT p50",
        "TTFT p99",
        "TPOT p50",
        "TPOT p99",
        "end to end p50",
        "end to end p99",
    ];
    let mut table = crate::table::table(TableOptions::default(), &head, &[1, 2, 3, 4, 5, 6, 7, 8]);
    for c in classes {
        let mut row = vec![c.name.clone(), c.requests.to_string(), c.failed.to_string()];
        for name in ["ttft", "tpot", "e2e"] {
            let of = |value: fn(&Spread) -> f64| c.times.get(name).map(value).map(number).unwrap_or_default();
            row.extend([of(|t| t.p50.value), of(|t| t.p99.value)]);
        }
        table.add_row(row);
    }
    table
}
