//! The figures of a run: those that the experiment names, an overlap timeline of each trial, and the machine's
//! state over the repeats.

use crate::figure::{
    Axis, Bar, BarFigure, BarGroup, Figure, Frame, Guide, Lane, LineFigure, Panel, Point, ReferenceMark,
    Role, Series, Strip, Timeline, TimelinePhase,
};
use crate::iterations::has_programs;
use crate::samples::{TrialSamples, samples};
use crate::scale::{Unit, plain};
use crate::svg::Embed;
use crate::{RunData, metric, program_figures, server_figures};
use cotenant_store::format::{
    Estimate, FigureRecord, GpuState, Manifest, RepeatRecord, Summary, TrialRecord,
};
use cotenant_units::Nanos;

/// Trials up to which one figure of a kind is drawn for each.
const EACH: usize = 24;

/// Draws the figures of a run as standalone SVG files: `(file name, content)`.
pub fn figures_for(run: &RunData) -> Vec<(String, String)> {
    experiment_figures(run)
        .into_iter()
        .enumerate()
        .map(|(i, (what, figure))| {
            let name: String =
                what.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
            (format!("figure-{}-{}.svg", i + 1, name.trim_matches('-')), figure.svg(Embed::Standalone))
        })
        .collect()
}

/// The figures that the manifest names, each with what it draws: its metric, or its kind and trial. Where it names none,
/// runs with models or programs have those of [`program_figures::defaults`], and runs of kernels none.
pub fn experiment_figures(run: &RunData) -> Vec<(String, Figure)> {
    let named = &run.manifest.figures;
    let records = if named.is_empty() { program_figures::defaults(run) } else { named.clone() };
    let all = samples(&run.manifest, &run.repeats, &run.outcomes);
    let mut out = Vec::new();
    for f in &records {
        let trials: Vec<&TrialRecord> = run.manifest.trials.iter().filter(|t| wanted(f, &t.id)).collect();
        let chosen = all.iter().filter(|s| wanted(f, &s.trial.id));
        let data =
            Data { manifest: &run.manifest, summary: &run.summary, trials, several: records.len() > 1 };
        let each = |draw: &dyn Fn(&TrialSamples) -> Option<Figure>| -> Vec<(String, Figure)> {
            let drawn = chosen.clone().filter_map(|s| Some((format!("{} {}", f.kind, s.trial.id), draw(s)?)));
            drawn.take(EACH).collect()
        };
        match f.kind.as_str() {
            "line" => out.push((f.metric.clone(), data.line(f))),
            "kde" => out.extend(each(&|s| program_figures::density(run, s, f))),
            "ecdf" => out.extend(each(&|s| server_figures::distributions(run, s))),
            "iterations" => out.extend(each(&|s| program_figures::iterations(run, s, f))),
            "telemetry" => out.extend(each(&|s| program_figures::telemetry(run, s))),
            "matrix" => out.extend(program_figures::matrices(run, &data.trials, f)),
            _ => out.push((f.metric.clone(), data.bars(f))),
        }
    }
    out
}

/// Whether a figure is of this trial: its list is empty, or one entry matches, `*` standing for any part.
fn wanted(f: &FigureRecord, trial: &str) -> bool {
    f.trials.is_empty() || f.trials.iter().any(|p| matches(p, trial))
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Title, badge and foot that every figure of a run carries.
pub fn frame(manifest: &Manifest, title: impl Into<String>) -> Frame {
    let p = &manifest.provenance;
    let revision: String = p.git_revision.chars().take(12).collect();
    Frame {
        title: title.into(),
        badge: manifest.simulated.then(|| "SIMULATED".to_owned()),
        foot: format!(
            "{} · {} · cotenant {} ({revision}) · {}",
            manifest.name, manifest.device.name, p.version, p.started
        ),
    }
}

struct Data<'a> {
    manifest: &'a Manifest,
    summary: &'a Summary,
    /// Those that the figure is of.
    trials: Vec<&'a TrialRecord>,
    /// There are other figures beside it.
    several: bool,
}

impl Data<'_> {
    fn estimate(&self, trial: &str, metric: &str) -> Option<Estimate> {
        self.summary.trials.iter().find(|t| t.trial == trial)?.metrics.get(metric).copied()
    }

    fn title(&self, f: &FigureRecord) -> String {
        if self.several {
            // Words for requests of kernels do not fit iterations of models: there the label says it.
            let label = without_unit(&f.y_label);
            let what = if !label.is_empty() && self.trials.iter().any(|t| has_programs(t)) {
                label.to_owned()
            } else {
                metric::words(&f.metric)
            };
            format!("{}: {what}", self.manifest.title)
        } else {
            self.manifest.title.clone()
        }
    }

    /// The metrics that a figure draws: itself, or with `.*` at its end one for each tenant.
    fn metrics(&self, f: &FigureRecord) -> Vec<String> {
        let Some(stem) = f.metric.strip_suffix(".*") else { return vec![f.metric.clone()] };
        let tenants = self.trials.iter().flat_map(|t| &t.tenants).map(|t| format!("{stem}.{}", t.name));
        distinct(tenants)
    }

    /// Sources of references for these metrics, in order of appearance.
    fn sources(&self, metrics: &[String]) -> Vec<String> {
        let all = self.trials.iter().flat_map(|t| metrics.iter().flat_map(|m| metric::references(t, m)));
        distinct(all.map(|(source, _)| source))
    }

    fn line(&self, f: &FigureRecord) -> Figure {
        let metrics = self.metrics(f);
        let names = distinct(self.trials.iter().map(|t| t.series.clone()));
        let sources = self.sources(&metrics);
        let mut series: Vec<Series> = Vec::new();
        let mut references: Vec<Series> = Vec::new();
        for name in &names {
            let trials: Vec<&TrialRecord> =
                self.trials.iter().copied().filter(|t| &t.series == name).collect();
            for metric in &metrics {
                let label = series_label(name, metric, names.len(), metrics.len());
                let colour = series.len();
                let ours = trials.iter().filter_map(|t| {
                    let (x, e) = (t.x?, self.estimate(&t.id, metric)?);
                    let note = note(&t.id, metric, &e);
                    Some(Point { x, y: e.value, low: e.low, high: e.high, note })
                });
                let ours: Vec<Point> = ours.collect();
                let range: Vec<Point> = trials.iter().filter_map(|t| self.range(t, metric)).collect();
                if range.iter().any(|p| p.high > p.low) {
                    let name = "least to most of the tenants".to_owned();
                    references.push(Series { name, role: Role::Range, colour, points: range });
                }
                series.push(Series { name: label.clone(), role: Role::Measured, colour, points: ours });
                for (s, source) in sources.iter().enumerate() {
                    let points: Vec<Point> = trials
                        .iter()
                        .filter_map(|t| {
                            let x = t.x?;
                            let (_, y) =
                                metric::references(t, metric).into_iter().find(|(r, _)| r == source)?;
                            let note = format!("{source}, {}: {}", t.id, metric::with_unit(metric, y));
                            Some(Point { x, y, low: y, high: y, note })
                        })
                        .collect();
                    if !points.is_empty() {
                        let name = if names.len() * metrics.len() > 1 {
                            format!("{label} · {source}")
                        } else {
                            source.clone()
                        };
                        references.push(Series { name, role: Role::Reference(s), colour, points });
                    }
                }
            }
        }
        let compared = references.iter().any(|s| matches!(s.role, Role::Reference(_)));
        if let ([only], true) = (&mut series[..], compared) {
            only.name = self.ours();
        }
        series.retain(|s| !s.points.is_empty());
        series.extend(references);
        Figure::Line(LineFigure {
            frame: frame(self.manifest, self.title(f)),
            x: Axis { label: f.x_label.clone(), log: f.log_x, zero: false },
            y: Axis { label: f.y_label.clone(), log: false, zero: false },
            series,
            guides: unity(&f.metric)
                .map(|label| Guide { at: 1.0, vertical: false, label })
                .into_iter()
                .collect(),
        })
    }

    /// Smallest and largest value over the tenants of a trial, for a metric that is the mean over them.
    fn range(&self, t: &TrialRecord, metric: &str) -> Option<Point> {
        if !metric.ends_with("_ms") {
            return None;
        }
        let of = |name: &str| self.estimate(&t.id, &format!("{metric}.{name}")).map(|e| e.value);
        let values: Vec<f64> = t.tenants.iter().filter_map(|t| of(&t.name)).collect();
        let (low, high) = values.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let (x, mean) = (t.x?, self.estimate(&t.id, metric)?.value);
        let note =
            format!("{}: {} to {}", t.id, metric::with_unit(metric, low), metric::with_unit(metric, high));
        (values.len() > 1).then_some(Point { x, y: mean, low, high, note })
    }

    fn ours(&self) -> String {
        if self.manifest.simulated {
            "simulated".to_owned()
        } else {
            format!("measured, {}", self.manifest.device.name)
        }
    }

    fn bars(&self, f: &FigureRecord) -> Figure {
        let metrics = self.metrics(f);
        let trials = &self.trials;
        let by_x = trials.iter().all(|t| t.x.is_some());
        let unique = |t: &TrialRecord| trials.iter().filter(|o| o.series == t.series).count() == 1;
        let all_unique = trials.iter().copied().all(unique);
        let unit = Unit::of_label(&f.x_label);
        let label = |t: &TrialRecord| match t.x {
            Some(x) if by_x => unit.tick(x),
            _ if all_unique => t.series.clone(),
            _ if !t.vars.is_empty() => {
                let parts: Vec<String> = t.vars.iter().map(|(k, v)| format!("{k} {}", plain(*v))).collect();
                parts.join(", ")
            }
            _ => t.id.clone(),
        };
        let mut order: Vec<&TrialRecord> = trials.clone();
        if by_x {
            // Stable: trials at one x keep the plan's order.
            order.sort_by(|a, b| a.x.unwrap_or(0.0).total_cmp(&b.x.unwrap_or(0.0)));
        }
        // A group per label; where every label is a series' own name, colour would say nothing more.
        let coloured = by_x || !all_unique;
        let names =
            if coloured { distinct(trials.iter().map(|t| t.series.clone())) } else { vec![self.ours()] };
        let sources = self.sources(&metrics);
        let mut groups: Vec<BarGroup> = Vec::new();
        for t in order {
            let label = label(t);
            let bars: Vec<Bar> = metrics
                .iter()
                .enumerate()
                .filter_map(|(m, metric)| {
                    let series = if coloured { names.iter().position(|n| *n == t.series)? } else { 0 };
                    self.bar(t, metric, series * metrics.len() + m, &sources)
                })
                .collect();
            if bars.is_empty() {
                continue;
            }
            match groups.iter_mut().find(|g| g.label == label) {
                Some(group) => group.bars.extend(bars),
                None => groups.push(BarGroup { label, bars }),
            }
        }
        let mut series: Vec<String> = names
            .iter()
            .flat_map(|n| metrics.iter().map(|m| series_label(n, m, names.len(), metrics.len())))
            .collect();
        if let [only] = &mut series[..] {
            *only = self.ours();
        }
        Figure::Bars(BarFigure {
            frame: frame(self.manifest, self.title(f)),
            x_label: f.x_label.clone(),
            y: Axis { label: f.y_label.clone(), log: false, zero: true },
            series,
            sources,
            groups,
            guides: unity(&f.metric).map(|label| (1.0, label)).into_iter().collect(),
        })
    }

    fn bar(&self, t: &TrialRecord, metric: &str, series: usize, sources: &[String]) -> Option<Bar> {
        let references: Vec<ReferenceMark> = metric::references(t, metric)
            .into_iter()
            .filter_map(|(source, value)| {
                let note = format!("{source}, {}: {}", t.id, metric::with_unit(metric, value));
                Some(ReferenceMark { source: sources.iter().position(|s| *s == source)?, value, note })
            })
            .collect();
        let estimate = self.estimate(&t.id, metric);
        if estimate.is_none() && references.is_empty() {
            return None;
        }
        let e = estimate.unwrap_or(Estimate { value: f64::NAN, low: f64::NAN, high: f64::NAN, n: 0 });
        Some(Bar {
            series,
            value: e.value,
            low: e.low,
            high: e.high,
            note: note(&t.id, metric, &e),
            references,
        })
    }
}

/// The words of an axis label: `median iteration` of `median iteration [ms]` and of `median iteration, ms`.
fn without_unit(label: &str) -> &str {
    let words = label.split(['[', '(']).next().unwrap_or(label).trim();
    match words.rsplit_once(", ") {
        Some((words, "ms" | "s" | "µs" | "ns" | "%" | "W" | "J" | "MHz" | "GB/s")) => words,
        _ => words,
    }
}

fn series_label(series: &str, metric: &str, series_count: usize, metric_count: usize) -> String {
    match (series_count > 1, metric_count > 1, metric::tenant(metric)) {
        (true, true, Some(tenant)) => format!("{series} · {tenant}"),
        (false, true, Some(tenant)) => tenant.to_owned(),
        _ => series.to_owned(),
    }
}

fn note(trial: &str, metric: &str, e: &Estimate) -> String {
    format!(
        "{trial}: {} {} (n = {})",
        metric::with_unit(metric, e.value),
        metric::interval_of(metric, e),
        e.n
    )
}

/// What the value 1 means for a ratio.
fn unity(metric: &str) -> Option<String> {
    let text = match metric::base(metric) {
        "slowdown" | "throughput_ratio" => "1: no interference",
        "speedup" => "1: no gain over taking turns",
        "ratio" => "1: as long as taking turns",
        _ => return None,
    };
    Some(text.to_owned())
}

fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for name in names {
        if !out.contains(&name) {
            out.push(name);
        }
    }
    out
}

/// The repeat of a trial whose shared makespan is the median one; the last if there is no shared phase.
pub(crate) fn typical_repeat<'a>(samples: &TrialSamples<'a>) -> Option<&'a RepeatRecord> {
    let makespan = |r: &RepeatRecord| r.phases.iter().find(|p| p.phase == "shared").map(|p| p.makespan_ns);
    let mut shared: Vec<(Nanos, &RepeatRecord)> =
        samples.repeats.iter().filter_map(|r| Some((makespan(r)?, *r))).collect();
    shared.sort_by_key(|(ns, r)| (*ns, r.repeat));
    shared.get(shared.len() / 2).map(|s| s.1).or(samples.repeats.last().copied())
}

/// Overlap timeline of one repeat of a trial: the repeat whose shared makespan is the median one (the last if
/// there is no shared phase). `None` if no repeat was recorded.
pub fn timeline(manifest: &Manifest, samples: &TrialSamples) -> Option<Figure> {
    let repeat = typical_repeat(samples)?;
    let colour = |name: &str| samples.trial.tenants.iter().position(|t| t.name == name).unwrap_or(0);
    let phases = repeat.phases.iter().map(|p| TimelinePhase {
        name: p.phase.clone(),
        remark: match p.overlap {
            Some(o) => format!("{}: {}, overlap {:.1} %", p.phase, p.makespan_ns, 100.0 * o),
            None => format!("{}: {}", p.phase, p.makespan_ns),
        },
        shade_overlap: p.phase == "shared" && p.tenants.len() > 1,
        lanes: p
            .tenants
            .iter()
            .map(|t| Lane {
                name: t.name.clone(),
                colour: colour(&t.name),
                spans_ns: if t.spans_ns.is_empty() {
                    vec![(t.start_ns.0, t.end_ns.0)]
                } else {
                    t.spans_ns.clone()
                },
                note: format!(
                    "{} launches, {} counted, {} each",
                    t.launches,
                    t.counted,
                    Nanos(if t.time_ns.is_finite() { t.time_ns.max(0.0) as u64 } else { 0 })
                ),
            })
            .collect(),
    });
    let title = format!("Who ran when: {}, repeat {}", samples.trial.id, repeat.repeat + 1);
    let frame = Frame { foot: String::new(), ..frame(manifest, title) };
    Some(Figure::Timeline(Timeline { frame, phases: phases.collect() }))
}

/// Clocks, power, temperature and utilisation over repeats (one value each: the median of its phases), for a
/// whole run or one trial. `None` if nothing was sampled.
pub fn machine_state(run: &RunData, trial: Option<&str>) -> Option<Figure> {
    let repeats: Vec<&RepeatRecord> =
        run.repeats.iter().filter(|r| trial.is_none_or(|id| r.trial == id)).collect();
    type Pick = fn(&GpuState) -> Option<f64>;
    let picks: [(&str, Pick); 5] = [
        ("SM clock [MHz]", |s| s.sm_clock_mhz),
        ("Memory [MHz]", |s| s.memory_clock_mhz),
        ("Power [W]", |s| s.power_w),
        ("Temperature [°C]", |s| s.temperature_c),
        ("Utilisation [%]", |s| s.utilization_pct),
    ];
    let panels: Vec<Panel> = picks
        .iter()
        .map(|(label, pick)| Panel {
            label: (*label).to_owned(),
            values: repeats
                .iter()
                .map(|r| {
                    let states = r.phases.iter().filter_map(|p| p.state.as_ref());
                    cotenant_stats::median(&states.filter_map(pick).collect::<Vec<f64>>()).ok()
                })
                .collect(),
        })
        .filter(|p| p.values.iter().any(Option::is_some))
        .collect();
    if panels.is_empty() {
        return None;
    }
    let mut sections: Vec<(usize, String)> = Vec::new();
    for (i, r) in repeats.iter().enumerate() {
        if i > 0 && repeats[i - 1].trial != r.trial {
            sections.push((i, r.trial.clone()));
        }
    }
    let marks = repeats.iter().enumerate().filter(|(_, r)| !r.marked.is_empty());
    let marks = marks.map(|(i, r)| (i, r.marked.join("; "))).collect();
    let title = trial
        .map_or_else(|| "Clocks and power over the run".to_owned(), |t| format!("Clocks and power, {t}"));
    let mut frame = frame(&run.manifest, title);
    if trial.is_some() {
        frame.foot = String::new();
    }
    Some(Figure::Strip(Strip { frame, panels, sections, marks }))
}

#[cfg(test)]
mod tests {
    use super::{matches, without_unit};

    #[test]
    fn labels_lose_their_units() {
        assert_eq!(without_unit("median iteration [ms]"), "median iteration");
        assert_eq!(without_unit("p99 latency of DistilBERT, ms"), "p99 latency of DistilBERT");
        assert_eq!(without_unit("iterations per second, all tenants"), "iterations per second, all tenants");
    }

    #[test]
    fn patterns_match_with_stars_for_any_part() {
        for (pattern, text, yes) in [
            ("pair-a", "pair-a", true),
            ("pair-a", "pair-ab", false),
            ("pair-*", "pair-", true),
            ("*", "", true),
            ("*-mps*", "gpt2-mps-50", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(matches(pattern, text), yes, "{pattern} {text}");
        }
    }
}
