//! Summaries for other programs: comma-separated values, a row for each number.

use crate::export::csv_text;
use cotenant_store::serving::{LoadSummary, Ranged, Spread};

/// Rows of a load's summary.
#[derive(Default)]
struct Rows {
    /// Of which class the next ones are; empty: of all requests.
    class: String,
    all: Vec<[String; 7]>,
}

impl Rows {
    /// A number with its interval.
    fn ranged(&mut self, name: &str, unit: &str, statistic: &str, r: Ranged) {
        self.add([name, unit, statistic], [r.value, r.low, r.high].map(|v| v.to_string()));
    }

    /// A number without an interval; those cells are empty.
    fn exact(&mut self, name: &str, unit: &str, statistic: &str, value: f64) {
        self.add([name, unit, statistic], [value.to_string(), String::new(), String::new()]);
    }

    fn add(&mut self, words: [&str; 3], numbers: [String; 3]) {
        let [name, unit, statistic] = words.map(str::to_owned);
        let [value, low, high] = numbers;
        self.all.push([name, unit, statistic, value, low, high, self.class.clone()]);
    }

    fn spread(&mut self, name: &str, t: &Spread) {
        self.exact(name, "values", "n", t.n as f64);
        for (statistic, r) in [
            ("mean", t.mean),
            ("p50", t.p50),
            ("p90", t.p90),
            ("p95", t.p95),
            ("p99", t.p99),
            ("p99.9", t.p999),
        ] {
            self.ranged(name, "ms", statistic, r);
        }
        self.exact(name, "ms", "max", t.max);
    }
}

/// Every number of a load's summary, a row for each: `name`, `unit`, `statistic`, `value`, `low`, `high`, `class`. Names are those
/// of `summary.json`; the class is empty for what is of all requests.
pub fn load_csv(s: &LoadSummary) -> String {
    let mut rows = Rows::default();
    for (name, n) in [
        ("requests", s.requests),
        ("outside", s.outside),
        ("ok", s.ok),
        ("capped", s.capped),
        ("resent", s.resent),
        ("by_chunks", s.by_chunks),
        ("short", s.short),
        ("failed", s.failed.values().sum()),
    ] {
        rows.exact(name, "requests", "count", n as f64);
    }
    for (kind, n) in &s.failed {
        rows.exact(&format!("failed.{kind}"), "requests", "count", *n as f64);
    }
    rows.exact("window", "s", "length", (s.window.to_ns - s.window.from_ns) as f64 / 1e9);
    rows.exact("offered_per_s", "requests/s", "mean", s.offered_per_s);
    rows.exact("completed_per_s", "requests/s", "mean", s.completed_per_s);
    rows.exact("in_flight", "requests", "mean", s.in_flight);
    rows.ranged("output_tokens_per_s", "tokens/s", "mean", s.output_tokens_per_s);
    rows.exact("total_tokens_per_s", "tokens/s", "mean", s.total_tokens_per_s);
    for (name, tokens) in [("prompt_tokens", s.prompt_tokens), ("output_tokens", s.output_tokens)] {
        tokens.into_iter().for_each(|n| rows.exact(name, "tokens", "mean", n));
    }
    if let Some(g) = s.goodput {
        rows.exact("goodput_per_s", "requests/s", "mean", g.per_s);
        rows.ranged("slo_share", "1", "mean", g.share);
    }
    for (name, spread) in &s.times {
        rows.spread(name, spread);
    }
    rows.exact("client.cpu_s_per_1000", "s", "mean", s.client.cpu_s_per_1000);
    rows.exact("client.cpu_share", "1", "mean", s.client.cpu_share);
    rows.exact("client.busiest", "1", "max", s.client.busiest);
    rows.exact("client.peak_in_flight", "requests", "max", f64::from(s.client.peak_in_flight));
    for c in &s.classes {
        rows.class.clone_from(&c.name);
        rows.exact("requests", "requests", "count", c.requests as f64);
        rows.exact("failed", "requests", "count", c.failed as f64);
        for (name, spread) in &c.times {
            rows.spread(name, spread);
        }
    }
    csv_text(["name", "unit", "statistic", "value", "low", "high", "class"], rows.all)
}
