//! Empirical distributions of the times of a trial's servers, alone and together.

use crate::RunData;
use crate::figure::{Axis, CurveFigure, CurvePanel, Figure, PlainCurve};
use crate::figures::frame;
use crate::iterations::counted;
use crate::programs::together;
use crate::samples::TrialSamples;
use crate::servers::{gaps_of, is_server};
use cotenant_stats::{Sketch, quantiles};
use cotenant_store::format::PhaseTenant;
use cotenant_store::serving::ServedPhase;

/// Steps of a curve: more would not be seen.
const POINTS: usize = 200;
/// Servers up to which each has a curve of its own.
const EACH: usize = 4;
/// Colour of what servers did alone.
const ALONE: usize = EACH;

/// What has a panel.
#[derive(Clone, Copy)]
enum Time {
    Ttft,
    Tpot,
    Gap,
    Latency,
}

const PANELS: [(Time, &str); 4] = [
    (Time::Ttft, "time to first token, ms"),
    (Time::Tpot, "time per output token, ms"),
    (Time::Gap, "gap between chunks, ms"),
    (Time::Latency, "latency of a request, ms"),
];

fn shares() -> Vec<f64> {
    (0..=POINTS).map(|i| i as f64 / POINTS as f64).collect()
}

/// Quantiles of a time of these servers in the phases of one name, all repeats together; empty without an observation.
fn curve(s: &TrialSamples, phase: &str, names: &[&str], time: Time) -> Vec<(f64, f64)> {
    let runs: Vec<(&PhaseTenant, &ServedPhase)> = s
        .repeats
        .iter()
        .flat_map(|r| &r.phases)
        .filter(|p| p.phase == phase)
        .flat_map(|p| &p.tenants)
        .filter(|t| names.contains(&t.name.as_str()))
        .filter_map(|t| Some((t, t.served.as_deref()?)))
        .collect();
    if let Time::Gap = time {
        let mut all = Sketch::default();
        runs.iter().for_each(|(_, served)| all.merge(&gaps_of(served), 1.0));
        return shares().into_iter().filter_map(|p| Some((all.quantile(p)?, p))).collect();
    }
    let of = |(run, served): &(&PhaseTenant, &ServedPhase)| -> Vec<f64> {
        let list = match time {
            Time::Ttft => &served.ttft_ns,
            Time::Tpot => &served.tpot_ns,
            Time::Gap | Time::Latency => &run.requests_ns,
        };
        let kept = list.get(counted(run)).unwrap_or_default();
        kept.iter().filter(|ns| **ns > 0).map(|ns| *ns as f64 / 1e6).collect()
    };
    let values: Vec<f64> = runs.iter().flat_map(of).collect();
    let shares = shares();
    quantiles(&values, &shares).unwrap_or_default().into_iter().zip(shares).collect()
}

/// A figure of a trial with servers: TTFT, TPOT, gaps between chunks and latency. `None` without a request.
pub(crate) fn distributions(run: &RunData, s: &TrialSamples) -> Option<Figure> {
    let names: Vec<&str> = s.trial.tenants.iter().filter(|t| is_server(t)).map(|t| t.name.as_str()).collect();
    let shared = together(s) == Some("shared");
    // Curves: name, colour, phase, servers.
    let mut drawn: Vec<(String, usize, &str, Vec<&str>)> = Vec::new();
    match (shared, names.len() <= EACH) {
        (true, true) => {
            drawn.extend(names.iter().enumerate().map(|(i, n)| ((*n).to_owned(), i, "shared", vec![*n])));
        }
        (true, false) => drawn.push(("all, together".to_owned(), 0, "shared", names.clone())),
        (false, _) => {}
    }
    let alone = if shared { "each alone" } else { "" };
    drawn.push((alone.to_owned(), if shared { ALONE } else { 0 }, "solo", names));
    let axis = |label: &str, zero: bool| Axis { label: label.to_owned(), log: false, zero };
    let panels: Vec<CurvePanel> = PANELS
        .iter()
        .map(|(time, label)| CurvePanel {
            x: axis(label, false),
            y: axis(if let Time::Gap = time { "share of gaps" } else { "share of requests" }, true),
            curves: drawn
                .iter()
                .map(|(name, colour, phase, of)| PlainCurve {
                    name: name.clone(),
                    colour: *colour,
                    points: curve(s, phase, of, *time),
                })
                .filter(|c| !c.points.is_empty())
                .collect(),
            guides: Vec::new(),
        })
        .filter(|p| !p.curves.is_empty())
        .collect();
    let frame = frame(&run.manifest, format!("Distributions of the times of requests: {}", s.trial.id));
    (!panels.is_empty()).then_some(Figure::Curves(CurveFigure { frame, panels }))
}
