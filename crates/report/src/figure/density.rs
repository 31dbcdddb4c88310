//! Densities of durations: one panel per workload, one curve per tenant and phase, clipped tails counted.

use super::frame::{Frame, Key, Mark, Plot, WIDTH, legend, legend_height, x_axis};
use crate::scale::Scale;
use crate::svg::{Anchor, COLOURS, Embed, Shape, Svg, fit, text_width};

/// Panels of densities, each with axes of its own: a model of 4 ms and one of 90 ms would not fit one.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DensityFigure {
    /// Title, badge, foot.
    pub frame: Frame,
    /// Label of the horizontal axes, with unit.
    pub x_label: String,
    /// Panels from top to bottom.
    pub panels: Vec<DensityPanel>,
}

/// One panel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DensityPanel {
    /// What it shows, for example a model's name.
    pub title: String,
    /// What was cut off its tails; may be empty.
    pub note: String,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// One density.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Curve {
    /// Name in the legend; curves of one name share an entry.
    pub name: String,
    /// Colour number.
    pub colour: usize,
    /// Drawn as a broken line without area: what the others are to be compared with.
    pub baseline: bool,
    /// `(x, density)`, ascending.
    pub points: Vec<(f64, f64)>,
    /// Where its median is.
    pub median: Option<f64>,
    /// Label at its median; may be empty.
    pub label: String,
    /// Tooltip.
    pub note: String,
}

const PANEL: f64 = 150.0;
/// Highest peak of a baseline, in peaks of the rest.
const CUT_AT: f64 = 2.5;
const LEFT: f64 = 40.0;

impl DensityFigure {
    /// Draws the figure.
    pub fn svg(&self, embed: Embed) -> String {
        let keys = self.keys();
        let head = self.frame.head_height(WIDTH);
        let top = head + legend_height(&keys, WIDTH) + 6.0;
        let panel_height = PANEL + 60.0;
        let height = top + panel_height * self.panels.len().max(1) as f64 + self.frame.foot_height();
        let mut svg =
            Svg::new(WIDTH, height, &format!("{}: density over {}", self.frame.title, self.x_label));
        self.frame.head(&mut svg, WIDTH);
        legend(&mut svg, &keys, head, WIDTH);
        for (i, panel) in self.panels.iter().enumerate() {
            panel.draw(&mut svg, top + panel_height * i as f64, &self.x_label);
        }
        if self.panels.is_empty() {
            svg.text("ct-label", (WIDTH / 2.0, top + PANEL / 2.0), Anchor::Middle, "no data");
        }
        self.frame.foot(&mut svg, WIDTH, height);
        svg.finish(embed)
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = Vec::new();
        let curves = || self.panels.iter().flat_map(|p| &p.curves);
        for c in curves().filter(|c| !c.baseline).chain(curves().filter(|c| c.baseline)) {
            if !c.name.is_empty() && keys.iter().all(|k| k.label != c.name) {
                let mark = if c.baseline {
                    Mark::Stroke(c.line())
                } else {
                    Mark::Area { line: c.line(), area: format!("ct-band ct-f{}", c.colour % COLOURS) }
                };
                keys.push(Key { label: c.name.clone(), mark });
            }
        }
        keys
    }
}

impl Curve {
    /// The points, but of stretches that lie on the axis only the ends.
    fn outline(&self) -> Vec<(f64, f64)> {
        let points: Vec<(f64, f64)> =
            self.points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
        let floor = 5e-4 * points.iter().map(|p| p.1).fold(0.0, f64::max);
        let low = |i: usize| points.get(i).is_none_or(|p| p.1 <= floor);
        let inner = |i: usize| i > 0 && i + 1 < points.len() && low(i - 1) && low(i) && low(i + 1);
        points.iter().enumerate().filter(|(i, _)| !inner(*i)).map(|(_, p)| *p).collect()
    }

    fn line(&self) -> String {
        let c = self.colour % COLOURS;
        // Colours come around after six; the dashes tell the rounds apart.
        let dash = match (self.baseline, self.colour / COLOURS) {
            (true, _) => " ct-dash0",
            (false, 0) => "",
            (false, 1) => " ct-dash2",
            (false, _) => " ct-dash1",
        };
        format!("ct-line ct-s{c}{dash}")
    }
}

impl DensityPanel {
    fn draw(&self, svg: &mut Svg, top: f64, x_label: &str) {
        let plot =
            Plot { left: LEFT, right: WIDTH - 18.0, top: top + 22.0, bottom: top + 22.0 + PANEL - 20.0 };
        let drawable = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
        let points = || self.curves.iter().flat_map(|c| &c.points).filter(drawable);
        let (low, high) = points().fold((f64::MAX, f64::MIN), |(a, b), p| (a.min(p.0), b.max(p.0)));
        let x = if low < high {
            Scale::linear(low, high, (plot.left, plot.right))
        } else {
            Scale::over([low, high], (plot.left, plot.right), false, false)
        };
        let peak_of = |baseline: bool| {
            let of = self.curves.iter().filter(|c| c.baseline == baseline).flat_map(|c| &c.points);
            of.filter(drawable).map(|p| p.1).fold(0.0, f64::max)
        };
        // A baseline that is much narrower than the rest would press them flat: its peak is cut instead.
        let (own, base) = (peak_of(false), peak_of(true));
        let cut = own > 0.0 && base > CUT_AT * own;
        let peak = if cut { CUT_AT * own } else { own.max(base) };
        let mut note = self.note.clone();
        if cut {
            let more = if note.is_empty() { "" } else { "; " };
            note.push_str(&format!("{more}broken line cut at {:.0} % of its height", 100.0 * peak / base));
        }
        let y = Scale::linear(0.0, if peak > 0.0 { peak * 1.12 } else { 1.0 }, (plot.bottom, plot.top));
        svg.begin("ct-panel", "");
        svg.text("ct-panel-title", (plot.left, top + 8.0), Anchor::Start, &fit(&self.title, 12.0, 280.0));
        svg.text("ct-tick", (plot.right, top + 8.0), Anchor::End, &fit(&note, 11.0, 380.0));
        svg.vertical_text("ct-label", (18.0, (plot.top + plot.bottom) / 2.0), "density");
        x_axis(svg, plot, &x, x_label);
        // Baselines on top: thin, and hidden by an area otherwise.
        let (base, own): (Vec<&Curve>, Vec<&Curve>) = self.curves.iter().partition(|c| c.baseline);
        let mut labels: Vec<(f64, &Curve)> = Vec::new();
        for c in own.into_iter().chain(base) {
            let line: Vec<(f64, f64)> = c.outline().into_iter().map(|p| (x.at(p.0), y.at(p.1))).collect();
            svg.begin("ct-series", &c.note);
            if let (Some(first), Some(last), false) = (line.first(), line.last(), c.baseline) {
                let area: Vec<(f64, f64)> = [(first.0, plot.bottom)]
                    .into_iter()
                    .chain(line.iter().copied())
                    .chain([(last.0, plot.bottom)])
                    .collect();
                svg.polyline(&format!("ct-band ct-f{}", c.colour % COLOURS), &area, true);
            }
            svg.polyline(&c.line(), &line, false);
            if let Some(m) = c.median.filter(|m| x.holds(*m)) {
                let class = format!("ct-f{}", c.colour % COLOURS);
                svg.marker(&class, Shape::Triangle, (x.at(m), plot.bottom - 2.5), 3.6, &c.note);
                if !c.label.is_empty() {
                    labels.push((x.at(m), c));
                }
            }
            svg.end();
        }
        self.draw_labels(svg, plot, labels, &y);
        svg.end();
    }

    /// Labels at the medians, above their curve's peak and above each other; where there is no room not at all (the
    /// tooltip has them).
    fn draw_labels(&self, svg: &mut Svg, plot: Plot, mut labels: Vec<(f64, &Curve)>, y: &Scale) {
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut taken: Vec<(f64, f64, f64)> = Vec::new();
        for (at, curve) in labels {
            let half = text_width(&curve.label, 11.0) / 2.0;
            let at = at.clamp(plot.left + half, (plot.right - half).max(plot.left + half));
            let peak = curve.points.iter().map(|p| p.1).filter(|d| d.is_finite()).fold(0.0, f64::max);
            let free = |line: f64| {
                taken.iter().all(|(a, b, l)| (l - line).abs() > 11.0 || at - half > *b || at + half < *a)
            };
            let steps = (0..8).map(|k| y.at(peak) - 4.0 - 13.0 * f64::from(k));
            let line = steps.map(|l| l.max(plot.top + 2.0)).find(|l| free(*l));
            if let Some(line) = line {
                let class = format!("ct-value ct-halo ct-t{}", curve.colour % COLOURS);
                svg.text(&class, (at, line), Anchor::Middle, &curve.label);
                taken.push((at - half - 4.0, at + half + 4.0, line));
            }
        }
    }
}
