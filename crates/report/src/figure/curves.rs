//! Panels of plain curves one above the other, each with axes of its own: distributions of times, quantities over time.

use super::frame::{Axis, Frame, Key, Mark, Plot, WIDTH, legend, legend_height, x_axis, y_axis};
use crate::scale::Scale;
use crate::svg::{Anchor, COLOURS, Embed, Svg, fit};

/// Panels of curves.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CurveFigure {
    /// Title, badge, foot.
    pub frame: Frame,
    /// Panels from top to bottom.
    pub panels: Vec<CurvePanel>,
}

/// One panel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CurvePanel {
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// The curves.
    pub curves: Vec<PlainCurve>,
    /// Vertical lines to read against, with a label.
    pub guides: Vec<(f64, String)>,
}

/// One curve. Points that are not finite, or not positive on a logarithmic axis, are left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlainCurve {
    /// Name in the legend; curves of one name share an entry.
    pub name: String,
    /// Colour number.
    pub colour: usize,
    /// `(x, y)`, ascending in x.
    pub points: Vec<(f64, f64)>,
}

const PANEL: f64 = 120.0;
const LEFT: f64 = 74.0;

impl CurveFigure {
    /// Draws the figure.
    pub fn svg(&self, embed: Embed) -> String {
        let mut keys: Vec<Key> = Vec::new();
        for c in self.panels.iter().flat_map(|p| &p.curves) {
            if !c.name.is_empty() && keys.iter().all(|k| k.label != c.name) {
                keys.push(Key { label: c.name.clone(), mark: Mark::Stroke(c.class()) });
            }
        }
        let head = self.frame.head_height(WIDTH);
        let top = head + legend_height(&keys, WIDTH) + 6.0;
        let step = PANEL + 54.0;
        let height = top + step * self.panels.len().max(1) as f64 + self.frame.foot_height();
        let what: Vec<&str> = self.panels.iter().map(|p| p.y.label.as_str()).collect();
        let mut svg = Svg::new(WIDTH, height, &format!("{}: {}", self.frame.title, what.join("; ")));
        self.frame.head(&mut svg, WIDTH);
        legend(&mut svg, &keys, head, WIDTH);
        for (i, panel) in self.panels.iter().enumerate() {
            panel.draw(&mut svg, top + step * i as f64 + 8.0);
        }
        if self.panels.is_empty() {
            svg.text("ct-label", (WIDTH / 2.0, top + PANEL / 2.0), Anchor::Middle, "no data");
        }
        self.frame.foot(&mut svg, WIDTH, height);
        svg.finish(embed)
    }
}

impl PlainCurve {
    fn class(&self) -> String {
        format!("ct-line ct-s{}", self.colour % COLOURS)
    }
}

impl CurvePanel {
    fn draw(&self, svg: &mut Svg, top: f64) {
        let plot = Plot { left: LEFT, right: WIDTH - 18.0, top, bottom: top + PANEL };
        let fits = |v: f64, log: bool| v.is_finite() && (!log || v > 0.0);
        let drawable = |p: &&(f64, f64)| fits(p.0, self.x.log) && fits(p.1, self.y.log);
        let points = || self.curves.iter().flat_map(|c| &c.points).filter(drawable);
        let x = Scale::over(points().map(|p| p.0), (plot.left, plot.right), self.x.log, self.x.zero);
        let y = Scale::over(points().map(|p| p.1), (plot.bottom, plot.top), self.y.log, self.y.zero);
        svg.begin("ct-panel", "");
        y_axis(svg, plot, &y, &self.y.label);
        x_axis(svg, plot, &x, &self.x.label);
        for c in &self.curves {
            let line: Vec<(f64, f64)> =
                c.points.iter().filter(drawable).map(|p| (x.at(p.0), y.at(p.1))).collect();
            svg.begin("ct-series", &c.name);
            svg.polyline(&c.class(), &line, false);
            svg.end();
        }
        for (at, label) in self.guides.iter().filter(|g| x.holds(g.0)) {
            let at = x.at(*at);
            svg.line("ct-guide", (at, plot.top), (at, plot.bottom));
            svg.text("ct-tick ct-halo", (at + 4.0, plot.top + 10.0), Anchor::Start, &fit(label, 11.0, 160.0));
        }
        svg.end();
    }
}
