//! Figures of trials with models and programs: densities, iterations over time, counters under the time line, and the
//! matrix of directed slowdowns.

use crate::RunData;
use crate::figure::{
    Counter, Curve, DensityFigure, DensityPanel, Dots, Figure, HeatMap, IterationFigure, IterationPanel,
    Lane, Stretch, TelemetryFigure,
};
use crate::figures::{frame, typical_repeat};
use crate::iterations::{Clock, duration, has_programs, is_program, median, of_repeat};
use crate::labels::Workloads;
use crate::metric;
use crate::programs::together;
use crate::samples::TrialSamples;
use crate::scale::significant;
use cotenant_stats::{Bandwidth, Kde, quantile};
use cotenant_store::format::{FigureRecord, PhaseRecord, TenantRecord, TrialRecord};

/// Points of a density curve.
const GRID: usize = 480;
/// Curves of a panel up to which each is named at its median.
const NAMED: usize = 4;
/// Counters drawn under a time line.
const COUNTERS: usize = 8;

/// The clock that a figure's metric asks for.
fn clock_of(name: &str) -> Clock {
    let base = metric::base(name);
    let named = base.strip_prefix("solo_").unwrap_or(base).strip_suffix("_ms").and_then(Clock::named);
    named.unwrap_or(Clock::Latency)
}

/// Phases of this clock: kernel times are known of the traced ones only.
fn phase_of(phase: &str, clock: Clock) -> String {
    match clock {
        Clock::Kernel | Clock::Busy => format!("{phase}-traced"),
        _ => phase.to_owned(),
    }
}

fn axis_of(clock: Clock) -> &'static str {
    match clock {
        Clock::Wall => "iteration [ms]",
        Clock::Latency => "latency [ms]",
        Clock::Event => "event time [ms]",
        Clock::Kernel => "kernel time, sum [ms]",
        Clock::Busy => "kernel time, union [ms]",
    }
}

/// Tenants of each workload with their index in the trial, in order of appearance.
fn by_workload(trial: &TrialRecord) -> Vec<(String, Vec<(usize, &TenantRecord)>)> {
    let names = Workloads::of([trial]);
    let mut out: Vec<(String, Vec<(usize, &TenantRecord)>)> = Vec::new();
    for (i, t) in trial.tenants.iter().enumerate().filter(|(_, t)| is_program(t)) {
        let name = names.name(t);
        match out.iter_mut().find(|o| o.0 == name) {
            Some(group) => group.1.push((i, t)),
            None => out.push((name, vec![(i, t)])),
        }
    }
    out
}

fn ms(v: f64) -> String {
    format!("{} ms", significant(v, 3))
}

fn pooled(s: &TrialSamples, phase: &str, tenants: &[(usize, &TenantRecord)], clock: Clock) -> Vec<f64> {
    let phase = phase_of(phase, clock);
    let of = |t: &TenantRecord| {
        s.repeats.iter().flat_map(|r| of_repeat(r, &phase, &t.name, clock)).collect::<Vec<_>>()
    };
    tenants.iter().flat_map(|(_, t)| of(t)).collect()
}

/// Densities of the counted iterations of all repeats, one panel per workload. `None` without an iteration.
pub fn density(run: &RunData, s: &TrialSamples, f: &FigureRecord) -> Option<Figure> {
    let clock = clock_of(&f.metric);
    let shared = together(s) == Some("shared");
    let panels: Vec<DensityPanel> = by_workload(s.trial)
        .into_iter()
        .filter_map(|(title, tenants)| {
            let alone = pooled(s, "solo", &tenants, clock);
            let mut curves = Vec::new();
            if shared {
                for &(i, t) in &tenants {
                    let values = pooled(s, "shared", &[(i, t)], clock);
                    curves.push((t.name.clone(), i, false, values));
                }
            }
            let name = if shared { "alone".to_owned() } else { title.clone() };
            let first = tenants.first().map_or(0, |t| t.0);
            curves.push((name, first, shared, alone));
            panel(title, curves)
        })
        .collect();
    if panels.is_empty() {
        return None;
    }
    let label = if f.x_label.is_empty() { axis_of(clock).to_owned() } else { f.x_label.clone() };
    let frame = frame(&run.manifest, format!("Density of {}: {}", words_of(clock), s.trial.id));
    Some(Figure::Density(DensityFigure { frame, x_label: label, panels }))
}

fn words_of(clock: Clock) -> &'static str {
    match clock {
        Clock::Wall | Clock::Latency => "iteration times",
        Clock::Event => "event times",
        Clock::Kernel | Clock::Busy => "kernel times",
    }
}

/// Curves `(name, colour, baseline, values)` over one range, from below the smallest to the largest 99th percentile.
fn panel(title: String, curves: Vec<(String, usize, bool, Vec<f64>)>) -> Option<DensityPanel> {
    let curves: Vec<_> = curves.into_iter().filter(|c| !c.3.is_empty()).collect();
    let densities: Vec<Kde> = curves
        .iter()
        .filter_map(|c| {
            let middle = median(&c.3)?;
            // Equal times have no density: a narrow peak stands for them.
            let peak = Bandwidth::Fixed((0.002 * middle.abs()).max(1e-9));
            Kde::new(&c.3, Bandwidth::Robust).or_else(|_| Kde::new(&[middle, middle], peak)).ok()
        })
        .collect();
    if curves.is_empty() || densities.len() != curves.len() {
        return None;
    }
    let (mut low, mut high) = (f64::MAX, 0f64);
    for (c, k) in curves.iter().zip(&densities) {
        low = low.min(quantile(&c.3, 0.005).ok()? - 3.0 * k.width());
        high = high.max(quantile(&c.3, 0.99).ok()? + 3.0 * k.width());
    }
    let low = low.max(0.0);
    let all = || curves.iter().flat_map(|c| &c.3);
    let beyond = all().filter(|v| **v > high).count();
    let longest = all().copied().fold(0.0, f64::max);
    let note = if beyond > 0 {
        format!("{beyond} of {} beyond {}, up to {}", all().count(), ms(high), ms(longest))
    } else {
        String::new()
    };
    // Of many tenants only the first and the last are named; the legend and the tooltips have the others.
    let medians: Vec<f64> = curves.iter().filter(|c| !c.2).filter_map(|c| median(&c.3)).collect();
    let (first, last) = medians.iter().fold((f64::MAX, f64::MIN), |(a, b), m| (a.min(*m), b.max(*m)));
    let named = |m: f64| medians.len() <= NAMED || m <= first || m >= last;
    let curves = curves
        .iter()
        .zip(&densities)
        .map(|((name, colour, baseline, values), k)| {
            let middle = median(values);
            let label = middle.map_or_else(String::new, |m| format!("{name} {}", ms(m)));
            Curve {
                name: name.clone(),
                colour: *colour,
                baseline: *baseline,
                points: k.grid(low, high, GRID),
                median: middle,
                note: format!(
                    "{name} {} (median of {} iterations, bandwidth {})",
                    middle.map_or_else(String::new, ms),
                    values.len(),
                    ms(k.width())
                ),
                label: if *baseline || middle.is_some_and(named) { label } else { String::new() },
            }
        })
        .collect();
    Some(DensityPanel { title, note, curves })
}

/// Neighbouring stretches of one kind as one.
fn stretches(phase: &PhaseRecord) -> Vec<Stretch> {
    let mut out: Vec<Stretch> = Vec::new();
    for p in &phase.parts {
        match out.last_mut() {
            Some(last) if last.active == p.active && last.to_ns >= p.from_ns.0 => last.to_ns = p.to_ns.0,
            _ => out.push(Stretch { active: p.active.clone(), from_ns: p.from_ns.0, to_ns: p.to_ns.0 }),
        }
    }
    out
}

/// The phase of a trial that is drawn over time: of its typical repeat the one in which its tenants are together.
fn drawn<'a>(s: &TrialSamples<'a>) -> Option<(u32, &'a PhaseRecord)> {
    let repeat = typical_repeat(s)?;
    let phase = together(s)?;
    repeat.phases.iter().find(|p| p.phase == phase).map(|p| (repeat.repeat, p))
}

/// Every iteration of one repeat over time, one panel per workload, with the parts by who was active. `None` without
/// an iteration.
pub fn iterations(run: &RunData, s: &TrialSamples, f: &FigureRecord) -> Option<Figure> {
    let clock = match clock_of(&f.metric) {
        Clock::Kernel | Clock::Busy => Clock::Latency,
        other => other,
    };
    let (number, phase) = drawn(s)?;
    let parts = stretches(phase);
    let whole = [Stretch { active: "all".into(), from_ns: 0, to_ns: phase.makespan_ns.0 }];
    let levels_of: &[Stretch] = if parts.is_empty() { &whole } else { &parts };
    let panels: Vec<IterationPanel> = by_workload(s.trial)
        .into_iter()
        .filter_map(|(title, tenants)| {
            let mut within: Vec<Vec<f64>> = vec![Vec::new(); levels_of.len()];
            let mut dots = Vec::new();
            for (i, t) in &tenants {
                let Some(ran) = phase.tenants.iter().find(|p| p.name == t.name) else { continue };
                let points: Vec<(u64, f64)> = ran
                    .spans_ns
                    .iter()
                    .enumerate()
                    .filter_map(|(i, span)| Some((span.0, duration(ran, i, clock)?)))
                    .collect();
                for (i, span) in ran.spans_ns.iter().enumerate() {
                    let part = levels_of.iter().position(|p| p.from_ns <= span.0 && span.1 <= p.to_ns);
                    if let (Some(part), Some(v)) = (part, duration(ran, i, clock)) {
                        within[part].push(v);
                    }
                }
                let note = format!("{} iterations, {} counted", ran.launches, ran.counted);
                dots.push(Dots { name: t.name.clone(), colour: *i, points, note });
            }
            let alone =
                (phase.phase == "shared").then(|| median(&pooled(s, "solo", &tenants, clock))).flatten();
            let levels =
                within.iter().enumerate().filter_map(|(i, v)| median(v).map(|m| (i, m, ms(m)))).collect();
            let baseline = alone.map(|m| (m, format!("alone {}", ms(m))));
            (!dots.is_empty()).then_some(IterationPanel { title, baseline, dots, levels })
        })
        .collect();
    if panels.is_empty() {
        return None;
    }
    let y_label = if f.y_label.is_empty() { axis_of(clock).to_owned() } else { f.y_label.clone() };
    let frame = frame(&run.manifest, format!("Every iteration: {}, repeat {}", s.trial.id, number + 1));
    Some(Figure::Iterations(IterationFigure { frame, y_label, end_ns: phase.makespan_ns.0, parts, panels }))
}

/// Counters of the GPU under the time line of one repeat. `None` where the run has no telemetry on the clock of the
/// spans, or none in that time.
pub fn telemetry(run: &RunData, s: &TrialSamples) -> Option<Figure> {
    let (number, phase) = drawn(s)?;
    let (telemetry, begun) = (run.telemetry.as_ref()?, phase.begun_ns?);
    let end = phase.makespan_ns.0;
    let parts = stretches(phase);
    let mut names: Vec<&String> = telemetry
        .columns
        .keys()
        .filter(|n| n.ends_with("_pct") || matches!(n.as_str(), "power_w" | "sm_clock_mhz"))
        .collect();
    names.sort_by_key(|n| (metric::rank(n), n.as_str()));
    let counters: Vec<Counter> = names
        .into_iter()
        .filter_map(|name| {
            let samples = telemetry.between(name, begun, begun.saturating_add(end));
            let used = samples.iter().any(|s| s.1.abs() >= 0.05);
            let points: Vec<(i64, f64)> = samples.iter().map(|(at, v)| ((at - begun) as i64, *v)).collect();
            let means = parts
                .iter()
                .enumerate()
                .filter_map(|(i, p)| {
                    let inside: Vec<f64> = points
                        .iter()
                        .filter(|(at, _)| (p.from_ns..=p.to_ns).contains(&(*at as u64)))
                        .map(|p| p.1)
                        .collect();
                    let mean = inside.iter().sum::<f64>() / inside.len() as f64;
                    (!inside.is_empty()).then_some((i, mean))
                })
                .collect();
            used.then(|| Counter {
                label: capital(&metric::words(name)),
                unit: metric::unit(name).to_owned(),
                points,
                full: name.ends_with("_pct").then_some(100.0),
                means,
            })
        })
        .take(COUNTERS)
        .collect();
    if counters.is_empty() {
        return None;
    }
    let lanes = phase.tenants.iter().map(|t| Lane {
        name: t.name.clone(),
        colour: s.trial.tenants.iter().position(|p| p.name == t.name).unwrap_or(0),
        spans_ns: t.spans_ns.clone(),
        note: format!("{} iterations, {} counted", t.launches, t.counted),
    });
    let frame = frame(&run.manifest, format!("GPU counters: {}, repeat {}", s.trial.id, number + 1));
    Some(Figure::Telemetry(TelemetryFigure { frame, end_ns: end, parts, lanes: lanes.collect(), counters }))
}

/// Directed slowdowns of every pair: rows are who is slowed, columns by whom; on the diagonal two of a kind, their mean.
/// One matrix for each sharing mode, with its name.
pub fn matrices(run: &RunData, trials: &[&TrialRecord], f: &FigureRecord) -> Vec<(String, Figure)> {
    let name = if f.metric.is_empty() { "slowdown_p50" } else { metric::base(&f.metric) };
    let pairs: Vec<&TrialRecord> = trials.iter().copied().filter(|t| t.tenants.len() == 2).collect();
    let workloads = Workloads::of(pairs.iter().copied());
    let mut modes: Vec<String> = Vec::new();
    for t in &pairs {
        let mode = crate::html::mode(t);
        if !modes.contains(&mode) {
            modes.push(mode);
        }
    }
    let mut out = Vec::new();
    for mode in &modes {
        // Values by (victim, aggressor).
        let mut cells: Vec<((String, String), Vec<f64>)> = Vec::new();
        for t in pairs.iter().filter(|t| crate::html::mode(t) == *mode) {
            let Some(summary) = run.summary.trials.iter().find(|s| s.trial == t.id) else { continue };
            for (victim, aggressor) in [(0, 1), (1, 0)] {
                let (victim, aggressor) = (&t.tenants[victim], &t.tenants[aggressor]);
                // A kernel beside a model has its slowdown by launches.
                let of = |base: &str| summary.metrics.get(&format!("{base}.{}", victim.name));
                let value =
                    of(name).or_else(|| name.starts_with("slowdown").then(|| of("slowdown")).flatten());
                let Some(value) = value else { continue };
                let key = (workloads.name(victim), workloads.name(aggressor));
                match cells.iter_mut().find(|c| c.0 == key) {
                    Some(cell) => cell.1.push(value.value),
                    None => cells.push((key, vec![value.value])),
                }
            }
        }
        let seen = |n: &String| cells.iter().any(|c| c.0.0 == *n || c.0.1 == *n);
        let names: Vec<String> = workloads.names().into_iter().filter(seen).collect();
        if names.is_empty() {
            continue;
        }
        let value = |row: &String, column: &String| {
            let cell = cells.iter().find(|c| c.0.0 == *row && c.0.1 == *column)?;
            Some(cell.1.iter().sum::<f64>() / cell.1.len() as f64)
        };
        let title = if modes.len() > 1 {
            format!("{}: {}", capital(&metric::words(name)), mode)
        } else {
            format!("{} of every pair", capital(&metric::words(name)))
        };
        let map = HeatMap {
            frame: frame(&run.manifest, title),
            x_label: "beside".into(),
            y_label: "tenant".into(),
            columns: names.clone(),
            rows: names.clone(),
            cells: names.iter().map(|r| names.iter().map(|c| value(r, c)).collect()).collect(),
            floor: name.starts_with("slowdown").then_some(1.0),
        };
        out.push((format!("matrix {name} {mode}"), Figure::Heat(map)));
    }
    out
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}

/// The figures of a run with models or programs whose experiment names none: a matrix where there are pairs of several
/// workloads, lines where a series has three positions or more, and for few trials their densities and iterations.
pub fn defaults(run: &RunData) -> Vec<FigureRecord> {
    let trials: Vec<&TrialRecord> = run.manifest.trials.iter().filter(|t| has_programs(t)).collect();
    let record = |kind: &str, metric: &str, x: &str, y: &str, trials: &[String]| FigureRecord {
        kind: kind.into(),
        metric: metric.into(),
        x_label: x.into(),
        y_label: y.into(),
        log_x: false,
        trials: trials.to_vec(),
    };
    let mut out = Vec::new();
    let pairs: Vec<&TrialRecord> = trials.iter().copied().filter(|t| t.tenants.len() == 2).collect();
    if pairs.len() > 2 && Workloads::of(pairs.iter().copied()).names().len() > 1 {
        out.push(record("matrix", "slowdown_p50", "", "", &[]));
    }
    let positions = |series: &str| {
        let mut xs: Vec<f64> = trials.iter().filter(|t| t.series == series).filter_map(|t| t.x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        xs.len()
    };
    if trials.iter().any(|t| positions(&t.series) > 2) {
        let counts = trials.iter().all(|t| t.x == Some(t.tenants.len() as f64));
        let x = if counts { "number of tenants" } else { "x" };
        out.push(record("line", "p50_ms", x, "median latency [ms]", &[]));
        out.push(record("line", "throughput", x, "iterations per second, all tenants", &[]));
    }
    if trials.len() <= 3 {
        for t in &trials {
            let id = std::slice::from_ref(&t.id);
            out.push(record("kde", "p50_ms", "", "", id));
            out.push(record("iterations", "p50_ms", "", "", id));
        }
    }
    out
}
