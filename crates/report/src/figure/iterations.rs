//! How long each iteration took, over the time at which it began, with the parts of the phase by who was active.

use super::frame::{Frame, Key, Mark, Plot, WIDTH, legend, legend_height, y_axis, y_margin};
use crate::scale::{Scale, plain};
use crate::svg::{Anchor, COLOURS, Embed, Shape, Svg, fit, text_width};

/// Panels over one axis of time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IterationFigure {
    /// Title, badge, foot.
    pub frame: Frame,
    /// Label of the vertical axes, with unit.
    pub y_label: String,
    /// End of the time axis, ns since the phase began.
    pub end_ns: u64,
    /// Parts of the phase, in order of time.
    pub parts: Vec<Stretch>,
    /// Panels from top to bottom, one per workload.
    pub panels: Vec<IterationPanel>,
}

/// A stretch of time with a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stretch {
    /// `all`, `some`, `one`.
    pub active: String,
    /// Start, ns since the phase began.
    pub from_ns: u64,
    /// End.
    pub to_ns: u64,
}

/// Iterations of the tenants of one workload.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IterationPanel {
    /// What it shows.
    pub title: String,
    /// Level to compare with and its label, for example the median alone.
    pub baseline: Option<(f64, String)>,
    /// One list of points per tenant.
    pub dots: Vec<Dots>,
    /// Median of all its tenants within each stretch: index of the stretch, value and label.
    pub levels: Vec<(usize, f64, String)>,
}

/// One tenant's iterations.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dots {
    /// Tenant.
    pub name: String,
    /// Colour number.
    pub colour: usize,
    /// Start of each iteration, ns since the phase began, and its duration in the unit of the axis.
    pub points: Vec<(u64, f64)>,
    /// Tooltip.
    pub note: String,
}

const PANEL: f64 = 150.0;

/// Unit of a time axis that ends at `end` ns: its name, and nanoseconds in one.
pub(crate) fn time_unit(end: u64) -> (&'static str, f64) {
    match end {
        0..=9_999 => ("ns", 1.0),
        10_000..=9_999_999 => ("µs", 1e3),
        10_000_000..=9_999_999_999 => ("ms", 1e6),
        _ => ("s", 1e9),
    }
}

/// Shades the stretches behind panels from `top` to `bottom` and names them above.
pub(crate) fn draw_stretches(
    svg: &mut Svg,
    parts: &[Stretch],
    x: &Scale,
    per_unit: f64,
    (top, bottom): (f64, f64),
) {
    if parts.len() < 2 {
        return;
    }
    for part in parts {
        let (a, b) = (x.at(part.from_ns as f64 / per_unit), x.at(part.to_ns as f64 / per_unit));
        let class = match part.active.as_str() {
            "all" => "ct-both",
            "some" => "ct-some",
            _ => "ct-none",
        };
        let name = format!("{} active", part.active);
        svg.rect(class, (a, top), (b - a, bottom - top), &name);
        if b - a > text_width(&name, 11.0) + 6.0 {
            svg.text("ct-tick", ((a + b) / 2.0, top - 5.0), Anchor::Middle, &name);
        } else if b - a > text_width(&part.active, 11.0) + 2.0 {
            svg.text("ct-tick", ((a + b) / 2.0, top - 5.0), Anchor::Middle, &part.active);
        }
        svg.line("ct-guide", (b, top), (b, bottom));
    }
}

impl IterationFigure {
    /// Draws the figure.
    pub fn svg(&self, embed: Embed) -> String {
        let keys = self.keys();
        let head = self.frame.head_height(WIDTH);
        let top = head + legend_height(&keys, WIDTH) + 22.0;
        let rows = self.panels.len().max(1) as f64;
        let bottom = top + (PANEL + 26.0) * rows;
        let height = bottom + 38.0 + self.frame.foot_height();
        let scales: Vec<Scale> = self.panels.iter().map(|p| p.scale((PANEL, 0.0))).collect();
        let left = scales.iter().map(|s| y_margin(s, &self.y_label)).fold(52.0, f64::max);
        let right = WIDTH - 18.0;
        let (unit, per_unit) = time_unit(self.end_ns);
        let x = Scale::linear(0.0, self.end_ns.max(1) as f64 / per_unit, (left, right));

        let mut svg = Svg::new(WIDTH, height, &format!("{}: {} over time", self.frame.title, self.y_label));
        self.frame.head(&mut svg, WIDTH);
        legend(&mut svg, &keys, head, WIDTH);
        draw_stretches(&mut svg, &self.parts, &x, per_unit, (top, bottom - 8.0));
        for (i, panel) in self.panels.iter().enumerate() {
            let at = top + (PANEL + 26.0) * i as f64 + 18.0;
            panel.draw(&mut svg, Plot { left, right, top: at, bottom: at + PANEL }, self, &x, per_unit);
        }
        for tick in x.ticks(8, false) {
            svg.text("ct-tick", (x.at(tick), bottom + 9.0), Anchor::Middle, &plain(tick));
        }
        if self.panels.is_empty() {
            svg.text("ct-label", (WIDTH / 2.0, top + PANEL / 2.0), Anchor::Middle, "no data");
        }
        let label = format!("Start of the iteration since the phase began [{unit}]");
        svg.text("ct-label", ((left + right) / 2.0, bottom + 29.0), Anchor::Middle, &label);
        self.frame.foot(&mut svg, WIDTH, height);
        svg.finish(embed)
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self
            .panels
            .iter()
            .flat_map(|p| &p.dots)
            .map(|d| Key {
                label: d.name.clone(),
                mark: Mark::Marker { class: format!("ct-f{}", d.colour % COLOURS), shape: d.shape() },
            })
            .collect();
        if self.panels.iter().any(|p| !p.levels.is_empty()) {
            keys.push(Key { label: "median of the part".into(), mark: Mark::Stroke("ct-level".into()) });
        }
        if self.panels.iter().any(|p| p.baseline.is_some()) {
            keys.push(Key { label: "median alone".into(), mark: Mark::Guide });
        }
        keys
    }
}

impl Dots {
    /// Colours come around after six; the shapes tell the rounds apart.
    fn shape(&self) -> Shape {
        Shape::nth(self.colour / COLOURS)
    }
}

/// Largest part of the axis that a few far values may take from the rest.
const CLIP_AT: f64 = 2.5;

impl IterationPanel {
    fn values(&self) -> Vec<f64> {
        let all = self.dots.iter().flat_map(|d| &d.points).map(|p| p.1);
        all.filter(|v| v.is_finite() && *v >= 0.0).collect()
    }

    /// Highest value drawn: all of them, unless a few lie far beyond the rest.
    fn ceiling(&self) -> f64 {
        let values = self.values();
        let high = values.iter().copied().fold(0.0, f64::max);
        let most = cotenant_stats::quantile(&values, 0.99).unwrap_or(0.0);
        let others = self.levels.iter().map(|l| l.1).chain(self.baseline.as_ref().map(|b| b.0));
        let others = others.filter(|v| v.is_finite()).fold(0.0, f64::max);
        (if most > 0.0 && high > CLIP_AT * most { CLIP_AT * most } else { high }).max(others)
    }

    fn scale(&self, span: (f64, f64)) -> Scale {
        let top = self.ceiling() * 1.06;
        Scale::linear(0.0, if top.is_finite() && top > 0.0 { top } else { 1.0 }, span)
    }

    fn draw(&self, svg: &mut Svg, plot: Plot, figure: &IterationFigure, x: &Scale, per_unit: f64) {
        let y = self.scale((plot.bottom, plot.top));
        let ceiling = self.ceiling();
        svg.begin("ct-panel", "");
        let above = self.values().iter().filter(|v| **v > ceiling).count();
        let mut title = self.title.clone();
        if above > 0 {
            title.push_str(&format!(" · ▲ {above} above the axis"));
        }
        svg.text(
            "ct-panel-title",
            (plot.left + 6.0, plot.top - 3.0),
            Anchor::Start,
            &fit(&title, 12.0, 480.0),
        );
        y_axis(svg, plot, &y, &figure.y_label);
        svg.line("ct-axis", (plot.left, plot.bottom), (plot.right, plot.bottom));
        let r = match self.dots.iter().map(|d| d.points.len()).sum::<usize>() {
            0..=200 => 2.6,
            201..=800 => 2.0,
            _ => 1.5,
        };
        for d in &self.dots {
            let class = format!("ct-f{} ct-dots", d.colour % COLOURS);
            let usable = || d.points.iter().filter(|p| p.1.is_finite());
            let at = |p: &(u64, f64)| (x.at(p.0 as f64 / per_unit), y.at(p.1));
            let within: Vec<(f64, f64)> = usable().filter(|p| p.1 <= ceiling).map(at).collect();
            svg.markers(&class, d.shape(), &within, r, &format!("{}: {}", d.name, d.note));
            let beyond: Vec<(f64, f64)> =
                usable().filter(|p| p.1 > ceiling).map(|p| (at(p).0, plot.top + 3.0)).collect();
            svg.markers(&class, Shape::Triangle, &beyond, 3.2, &format!("{}: above the axis", d.name));
        }
        if let Some((level, label)) = self.baseline.as_ref().filter(|b| b.0.is_finite()) {
            svg.line("ct-guide", (plot.left, y.at(*level)), (plot.right, y.at(*level)));
            svg.text(
                "ct-tick",
                (plot.right - 2.0, y.at(*level) - 4.0),
                Anchor::End,
                &fit(label, 11.0, 200.0),
            );
        }
        for (part, level, label) in self.levels.iter().filter(|l| l.1.is_finite()) {
            let stretch = figure.parts.get(*part);
            let (from, to) = stretch.map_or((0, figure.end_ns), |s| (s.from_ns, s.to_ns));
            let (a, b) = (x.at(from as f64 / per_unit), x.at(to as f64 / per_unit));
            svg.line("ct-level", (a, y.at(*level)), (b, y.at(*level)));
            if b - a > text_width(label, 11.0) + 4.0 {
                let above = y.at(*level) - 5.0;
                let line = if above < plot.top + 9.0 { y.at(*level) + 13.0 } else { above };
                svg.text("ct-value ct-halo", (a + 4.0, line), Anchor::Start, label);
            }
        }
        svg.end();
    }
}
