//! Loads at several levels: from their summaries to a table, a file for other programs, and figures.

use super::figures::load_frame;
use super::table::number;
use crate::export::csv_text;
use crate::figure::{Axis, Figure, Guide, LineFigure, Point, Role, Series};
use crate::svg::Embed;
use crate::table::TableOptions;
use cotenant_store::serving::{
    LevelOf, LevelVerdict, LoadManifest, LoadSummary, Ranged, SeriesManifest, SeriesPoint, SeriesSummary,
};
use std::collections::BTreeMap;

/// What is kept of a load, by name.
pub(super) fn measured(s: &LoadSummary) -> BTreeMap<String, Ranged> {
    let exact = |v: f64| Ranged { value: v, low: v, high: v };
    let mut out = BTreeMap::from([
        ("offered_per_s".to_owned(), exact(s.offered_per_s)),
        ("completed_per_s".to_owned(), exact(s.completed_per_s)),
        ("in_flight".to_owned(), exact(s.in_flight)),
        ("tokens_per_s".to_owned(), s.output_tokens_per_s),
    ]);
    if let Some(g) = s.goodput {
        out.insert("goodput_per_s".into(), exact(g.per_s));
        out.insert("slo_share".into(), g.share);
    }
    for name in ["ttft", "tpot", "itl", "e2e"] {
        let Some(spread) = s.times.get(name) else { continue };
        out.insert(format!("{name}_p50_ms"), spread.p50);
        out.insert(format!("{name}_p99_ms"), spread.p99);
    }
    out
}

/// The levels of a series from the summaries of its loads, in any order. `verdict` says whether loads of one level keep the
/// limits of a search.
pub fn summarize_series(
    manifest: &SeriesManifest,
    loads: &[(LoadManifest, LoadSummary)],
    verdict: &dyn Fn(&[LoadSummary]) -> Option<LevelVerdict>,
) -> SeriesSummary {
    let level = |l: &LoadManifest| l.level.map_or(0.0, |l| l.value);
    let mut levels: Vec<f64> = loads.iter().map(|l| level(&l.0)).collect();
    levels.sort_by(f64::total_cmp);
    levels.dedup();
    let points: Vec<SeriesPoint> = levels
        .iter()
        .map(|&at| {
            let of: Vec<LoadSummary> =
                loads.iter().filter(|l| level(&l.0) == at).map(|l| l.1.clone()).collect();
            let each: Vec<_> = of.iter().map(measured).collect();
            let mut metrics = BTreeMap::new();
            for name in each.iter().flat_map(|m| m.keys()) {
                let all: Vec<Ranged> = each.iter().filter_map(|m| m.get(name)).copied().collect();
                let mean = all.iter().map(|r| r.value).sum::<f64>() / all.len() as f64;
                let low = all.iter().map(|r| r.low).fold(f64::MAX, f64::min);
                let high = all.iter().map(|r| r.high).fold(f64::MIN, f64::max);
                metrics.insert(name.clone(), Ranged { value: mean, low, high });
            }
            let mut limits: Vec<String> = of.iter().flat_map(|s| s.client.limits.clone()).collect();
            limits.dedup();
            SeriesPoint {
                level: at,
                loads: of.len() as u32,
                requests: of.iter().map(|s| s.requests - s.outside).sum(),
                failed: of.iter().flat_map(|s| s.failed.values()).sum(),
                metrics,
                verdict: manifest.search.and_then(|_| verdict(&of)),
                limits,
            }
        })
        .collect();
    let judged = |kept: bool| {
        points.iter().filter(move |p| p.verdict.is_some_and(|v| v.kept() == kept)).map(|p| p.level)
    };
    let broken = judged(false).next();
    // A level that keeps the limits above one that does not was luck.
    let kept = judged(true).rfind(|k| broken.is_none_or(|b| *k < b));
    SeriesSummary { kept, broken, points }
}

fn unit(over: LevelOf) -> (&'static str, &'static str) {
    match over {
        LevelOf::Rate => ("requests/s", "requests per second, offered"),
        LevelOf::Concurrency => ("users", "users of the closed loop"),
    }
}

/// The levels as lines of text, and what a search found.
pub fn render_series(m: &SeriesManifest, s: &SeriesSummary) -> String {
    let search = m.search;
    let judged = s.points.iter().any(|p| p.metrics.contains_key("slo_share"));
    let mut head = vec![
        unit(m.over).0,
        "loads",
        "requests",
        "failed",
        "completed/s",
        "tokens/s",
        "TTFT p50",
        "TTFT p99",
        "TPOT p50",
        "TPOT p99",
        "e2e p99, ms",
    ];
    if judged {
        head.extend(["within limits", "goodput/s"]);
    }
    if search.is_some() {
        head.push("verdict");
    }
    let right: Vec<usize> = (0..13).filter(|&i| i < head.len()).collect();
    let mut table = crate::table::table(TableOptions::default(), &head, &right);
    for p in &s.points {
        let get = |name: &str| p.metrics.get(name).map(|r| number(r.value)).unwrap_or_default();
        let mut row =
            vec![number(p.level), p.loads.to_string(), p.requests.to_string(), p.failed.to_string()];
        row.extend(
            [
                "completed_per_s",
                "tokens_per_s",
                "ttft_p50_ms",
                "ttft_p99_ms",
                "tpot_p50_ms",
                "tpot_p99_ms",
                "e2e_p99_ms",
            ]
            .map(get),
        );
        if judged {
            let share = p.metrics.get("slo_share").map(|r| {
                format!(
                    "{} [{}, {}] %",
                    number(100.0 * r.value),
                    number(100.0 * r.low),
                    number(100.0 * r.high)
                )
            });
            row.extend([share.unwrap_or_default(), get("goodput_per_s")]);
        }
        if search.is_some() {
            row.push(p.verdict.map(words).unwrap_or_default().to_owned());
        }
        table.add_row(row);
    }
    let mut out = format!("{table}\n");
    if let Some(search) = search {
        let unit = unit(m.over).0;
        let asked = format!("{} % of requests within the limits", number(100.0 * search.attain));
        out.push_str(&match (s.kept, s.broken) {
            (Some(k), Some(b)) => {
                format!("highest load with {asked}: {} {unit}; {} {unit} is too much\n", number(k), number(b))
            }
            (Some(k), None) => format!("{asked} up to the end of the range, {} {unit}\n", number(k)),
            (None, Some(b)) => format!(
                "{} {unit}, the lowest load of those that were tried, is too much for {asked}\n",
                number(b)
            ),
            (None, None) => "nothing was found out about the limits\n".to_owned(),
        });
    }
    for p in &s.points {
        for l in &p.limits {
            out.push_str(&format!(
                "at {} {} the numbers are the client's: {l}\n",
                number(p.level),
                unit(m.over).0
            ));
        }
    }
    out
}

fn words(v: LevelVerdict) -> &'static str {
    match v {
        LevelVerdict::Kept => "kept",
        LevelVerdict::KeptPerhaps => "kept, perhaps",
        LevelVerdict::BrokenPerhaps => "broken, perhaps",
        LevelVerdict::Broken => "broken",
    }
}

/// Every number of every level, a row for each: `level`, `loads`, `metric`, `value`, `low`, `high`.
pub fn series_csv(m: &SeriesManifest, s: &SeriesSummary) -> String {
    let over = match m.over {
        LevelOf::Rate => "rate",
        LevelOf::Concurrency => "concurrency",
    };
    let mut rows = Vec::new();
    for p in &s.points {
        let mut row = |name: &str, r: Ranged| {
            let [value, low, high] = [r.value, r.low, r.high].map(|v| v.to_string());
            rows.push([p.level.to_string(), p.loads.to_string(), name.to_owned(), value, low, high]);
        };
        for (name, r) in &p.metrics {
            row(name, *r);
        }
        for (name, n) in [("requests", p.requests), ("failed", p.failed)] {
            let n = n as f64;
            row(name, Ranged { value: n, low: n, high: n });
        }
    }
    csv_text([over, "loads", "metric", "value", "low", "high"], rows)
}

/// Throughput, latency and goodput against the level: files by name.
pub fn series_figures(m: &SeriesManifest, s: &SeriesSummary, one: &LoadManifest) -> Vec<(String, String)> {
    let curve = |name: &str, label: &str, colour: usize| {
        let points = s.points.iter().filter_map(|p| {
            let r = p.metrics.get(name)?;
            let note = format!("{} {}: {}", number(p.level), unit(m.over).0, number(r.value));
            Some(Point { x: p.level, y: r.value, low: r.low, high: r.high, note })
        });
        Series { name: label.to_owned(), role: Role::Measured, colour, points: points.collect() }
    };
    let spread = |time: &str, limit_ms: Option<f64>| {
        let curves = vec![
            curve(&format!("{time}_p50_ms"), "median", 0),
            curve(&format!("{time}_p99_ms"), "99th percentile", 1),
        ];
        (curves, limit_ms.map(|at| Guide { at, vertical: false, label: "limit".to_owned() }))
    };
    let slo = one.slo.unwrap_or_default();
    let tokens = vec![curve("tokens_per_s", "output tokens", 0)];
    let good = vec![
        curve("completed_per_s", "all that came back", 0),
        curve("goodput_per_s", "within the limits", 1),
    ];
    let all = [
        ("figure-1-throughput", "Throughput", "output tokens per second", (tokens, None)),
        ("figure-2-latency", "Latency of a request", "end to end, ms", spread("e2e", slo.e2e_ms)),
        ("figure-3-first-token", "Time to the first token", "TTFT, ms", spread("ttft", slo.ttft_ms)),
        ("figure-4-token-time", "Time per output token", "TPOT, ms", spread("tpot", slo.tpot_ms)),
        ("figure-5-goodput", "Goodput: requests within the limits", "requests per second", (good, None)),
    ];
    let mut out = Vec::new();
    for (file, title, y, (series, limit)) in all {
        if series.iter().any(|s| s.points.is_empty()) {
            continue;
        }
        let figure = LineFigure {
            frame: load_frame(one, title.to_owned()),
            x: Axis { label: unit(m.over).1.to_owned(), log: false, zero: true },
            y: Axis { label: y.to_owned(), log: false, zero: true },
            series,
            guides: limit.into_iter().collect(),
        };
        out.push((format!("{file}.svg"), Figure::Line(figure).svg(Embed::Standalone)));
    }
    out
}
