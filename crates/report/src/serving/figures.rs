//! Figures of one load: how its times are distributed, and how it went.

use super::summary::times;
use crate::figure::{Axis, CurveFigure, CurvePanel, Figure, Frame, PlainCurve};
use crate::svg::Embed;
use cotenant_stats::quantile;
use cotenant_store::StoredLoad;
use cotenant_store::serving::{LoadManifest, LoadSummary, RequestRecord};
use std::collections::BTreeMap;

/// Most points of a curve: more would not be seen.
const POINTS: usize = 200;

/// Title, badge and foot of every figure of a load.
pub fn load_frame(m: &LoadManifest, title: String) -> Frame {
    let revision: String = m.provenance.git_revision.chars().take(12).collect();
    Frame {
        title,
        badge: m.simulated.then(|| "SIMULATED".to_owned()),
        foot: format!(
            "{} on {} · cotenant {} ({revision}) · {}",
            m.model, m.url, m.provenance.version, m.provenance.started
        ),
    }
}

/// Empirical distributions of the times of the window's requests, and the load over time: files by name.
pub fn load_figures(stored: &StoredLoad, summary: &LoadSummary) -> Vec<(String, String)> {
    let m = &stored.manifest;
    let mut out = Vec::new();
    for (name, figure) in [
        ("figure-1-times.svg", distributions(m, &stored.requests, summary)),
        ("figure-2-over-time.svg", over_time(m, &stored.requests, summary)),
    ] {
        if !figure.panels.is_empty() {
            out.push((name.to_owned(), Figure::Curves(figure).svg(Embed::Standalone)));
        }
    }
    out
}

fn axis(label: &str, log: bool, zero: bool) -> Axis {
    Axis { label: label.to_owned(), log, zero }
}

fn distributions(m: &LoadManifest, requests: &[RequestRecord], summary: &LoadSummary) -> CurveFigure {
    let w = &summary.window;
    let counted =
        |r: &&RequestRecord| r.index >= m.warmup && r.intended_ns >= w.from_ns && r.intended_ns <= w.to_ns;
    let mut by_name: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for r in requests.iter().filter(counted) {
        for (name, ms) in times(r) {
            by_name.entry(name).or_default().push(ms);
        }
    }
    let limit = |f: fn(&cotenant_store::serving::Slo) -> Option<f64>| {
        m.slo.as_ref().and_then(f).map(|ms| (ms, "limit".to_owned())).into_iter().collect::<Vec<_>>()
    };
    let rows = [
        ("ttft", "time to first token, from the intended time, ms", limit(|s| s.ttft_ms)),
        ("tpot", "time per output token, ms", limit(|s| s.tpot_ms)),
        ("e2e", "end to end, from the intended time, ms", limit(|s| s.e2e_ms)),
    ];
    let panels = rows.into_iter().filter_map(|(name, label, guides)| {
        let values = by_name.get(name)?;
        let points: Vec<(f64, f64)> = (0..=POINTS)
            .filter_map(|i| {
                let p = i as f64 / POINTS as f64;
                Some((quantile(values, p).ok()?, p))
            })
            .collect();
        let curve = PlainCurve { name: String::new(), colour: 0, points };
        Some(CurvePanel {
            x: axis(label, false, false),
            y: axis("share of requests", false, true),
            curves: vec![curve],
            guides,
        })
    });
    CurveFigure {
        frame: load_frame(m, "Distributions of the times of requests".into()),
        panels: panels.collect(),
    }
}

/// Requests in flight, output tokens per second and time to first token in equal stretches from the first request to the last end.
fn over_time(m: &LoadManifest, requests: &[RequestRecord], summary: &LoadSummary) -> CurveFigure {
    let frame = load_frame(m, "The load over time".into());
    let end = requests.iter().map(|r| r.end_ns).max().unwrap_or(0);
    if end == 0 {
        return CurveFigure { frame, panels: Vec::new() };
    }
    // Some tens of requests a stretch, but not more stretches than can be seen.
    let stretches = (requests.len() / 4).clamp(10, POINTS);
    let length = (end / stretches as u64 + 1).max(1);
    let middle = |i: usize| (i as f64 + 0.5) * length as f64 / 1e9;
    let mut busy = vec![0.0; stretches];
    let mut tokens = vec![0.0; stretches];
    let mut first: Vec<Vec<f64>> = vec![Vec::new(); stretches];
    for r in requests {
        let Some(sent) = r.sent_ns else { continue };
        spread(sent, r.end_ns, length, &mut busy, (r.end_ns.saturating_sub(sent)) as f64 / length as f64);
        if let (Some(from), Some(to), true) = (r.first_content_ns, r.last_content_ns, r.ok()) {
            spread(from, to, length, &mut tokens, f64::from(r.output_tokens) * 1e9 / length as f64);
            let at = (r.intended_ns / length) as usize;
            if let Some(all) = first.get_mut(at) {
                all.push((from.saturating_sub(r.intended_ns)) as f64 / 1e6);
            }
        }
    }
    let curve = |values: &[f64]| PlainCurve {
        name: String::new(),
        colour: 0,
        points: values.iter().enumerate().map(|(i, v)| (middle(i), *v)).collect(),
    };
    let of_first = |share: f64, name: &str, colour: usize| PlainCurve {
        name: name.to_owned(),
        colour,
        points: first
            .iter()
            .enumerate()
            .filter_map(|(i, all)| Some((middle(i), quantile(all, share).ok()?)))
            .collect(),
    };
    let guides = || {
        let at = |ns: u64, label: &str| (ns as f64 / 1e9, label.to_owned());
        let last = requests.iter().map(|r| r.intended_ns).max().unwrap_or(0);
        let first = requests.iter().map(|r| r.intended_ns).min().unwrap_or(0);
        let mut all = Vec::new();
        if summary.window.from_ns > first {
            all.push(at(summary.window.from_ns, "counts from here"));
        }
        if summary.window.to_ns < last {
            all.push(at(summary.window.to_ns, "to here"));
        }
        all
    };
    let x = || axis("time since the start, s", false, true);
    let panel =
        |label: &str, curves| CurvePanel { x: x(), y: axis(label, false, true), curves, guides: guides() };
    let panels = vec![
        panel("requests in flight", vec![curve(&busy)]),
        panel("output tokens per s", vec![curve(&tokens)]),
        panel(
            "TTFT, ms",
            vec![of_first(0.5, "median of a stretch", 0), of_first(1.0, "longest of a stretch", 1)],
        ),
    ];
    CurveFigure { frame, panels }
}

/// Adds an amount to the stretches that lie between two moments, to each what its part of the time is.
fn spread(from: u64, to: u64, length: u64, out: &mut [f64], amount: f64) {
    let last = out.len().saturating_sub(1);
    let (a, b) = ((from / length) as usize, ((to / length) as usize).min(last));
    if to <= from {
        if let Some(v) = out.get_mut(a) {
            *v += amount;
        }
        return;
    }
    for (i, v) in out.iter_mut().enumerate().take(b + 1).skip(a) {
        let (start, end) = (i as u64 * length, (i as u64 + 1) * length);
        let part = to.min(end).saturating_sub(from.max(start)) as f64 / (to - from) as f64;
        *v += amount * part;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_spread_by_time_and_none_is_lost() {
        let mut out = vec![0.0; 4];
        spread(50, 250, 100, &mut out, 2.0);
        assert_eq!(out, [0.5, 1.0, 0.5, 0.0]);
        spread(399, 399, 100, &mut out, 1.0);
        assert_eq!(out[3], 1.0);
    }
}
