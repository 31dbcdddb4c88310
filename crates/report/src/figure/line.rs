//! Lines with bands and markers: slowdown against size, loaded latency against bandwidth.

use super::frame::{Axis, Frame, Key, Mark, Plot, WIDTH, legend, legend_height, x_axis, y_axis, y_margin};
use crate::scale::Scale;
use crate::svg::{Anchor, COLOURS, Embed, Shape, Svg, fit, text_width};

/// A line figure. Points that cannot be drawn (not finite, or not positive on a logarithmic axis) are left out.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LineFigure {
    /// Title, badge, foot.
    pub frame: Frame,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
    /// Lines to read against.
    pub guides: Vec<Guide>,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Measured here, or a reference.
    pub role: Role,
    /// Colour number. A reference takes the colour of the series that it belongs to.
    pub colour: usize,
    /// Points; drawn in order of x.
    pub points: Vec<Point>,
}

/// Where a series comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Ours: solid line, filled markers, band.
    Measured,
    /// Someone else's, by number of the source: broken line, hollow markers.
    Reference(usize),
    /// Smallest and largest of what another series is the mean of: a light area behind it, without a line.
    Range,
}

/// One point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Position.
    pub x: f64,
    /// Value.
    pub y: f64,
    /// Interval, low end; equal to `y` if there is none.
    pub low: f64,
    /// Interval, high end.
    pub high: f64,
    /// Tooltip.
    pub note: String,
}

/// A straight line to read against, for example at slowdown 1 or at the L2 capacity.
#[derive(Debug, Clone, PartialEq)]
pub struct Guide {
    /// Position on its axis.
    pub at: f64,
    /// At a fixed x rather than a fixed y.
    pub vertical: bool,
    /// Label; may be empty.
    pub label: String,
}

impl LineFigure {
    fn drawable(&self, p: &Point) -> bool {
        let fits = |v: f64, log: bool| v.is_finite() && (!log || v > 0.0);
        fits(p.x, self.x.log) && fits(p.y, self.y.log)
    }

    /// A single series of our own needs no key.
    fn keys(&self) -> Vec<Key> {
        let alone = self.series.len() < 2 && self.series.iter().all(|s| s.role == Role::Measured);
        // Areas mean the same for all series: one key is enough.
        let first = self.series.iter().position(|s| s.role == Role::Range);
        let told = |i: usize, s: &Series| !alone && (s.role != Role::Range || first == Some(i));
        let series = self
            .series
            .iter()
            .enumerate()
            .filter(|(i, s)| told(*i, s))
            .map(|(_, s)| Key { label: s.name.clone(), mark: s.mark() });
        // Level guides are named here, where no line crosses the name.
        let level = self.guides.iter().filter(|g| !g.vertical && !g.label.is_empty());
        series.chain(level.map(|g| Key { label: g.label.clone(), mark: Mark::Guide })).collect()
    }

    /// Draws the figure.
    pub fn svg(&self, embed: Embed) -> String {
        let keys = self.keys();
        let head = self.frame.head_height(WIDTH);
        let top = head + legend_height(&keys, WIDTH) + 8.0;
        let bottom = top + 290.0;
        let height = bottom + 46.0 + self.frame.foot_height();

        let points = || self.series.iter().flat_map(|s| &s.points).filter(|p| self.drawable(p));
        let mut ys: Vec<f64> = points().flat_map(|p| [p.y, p.low, p.high]).collect();
        let range = ys
            .iter()
            .filter(|y| y.is_finite())
            .fold((f64::MAX, f64::MIN), |(a, b), y| (a.min(*y), b.max(*y)));
        // A guide is worth room if it is near the data.
        let near = |at: f64| {
            at <= range.1 * 1.5 + 1e-12 && at >= range.0 - 1.5 * (range.1 - range.0).max(0.2 * range.1)
        };
        ys.extend(self.guides.iter().filter(|g| !g.vertical && near(g.at)).map(|g| g.at));
        let y = Scale::over(ys, (bottom, top), self.y.log, self.y.zero);
        let left = y_margin(&y, &self.y.label);
        let plot = Plot { left, right: WIDTH - 18.0, top, bottom };
        let x = Scale::over(points().map(|p| p.x), (left, plot.right), self.x.log, false);

        let mut svg = Svg::new(
            WIDTH,
            height,
            &format!("{}: {} against {}", self.frame.title, self.y.label, self.x.label),
        );
        self.frame.head(&mut svg, WIDTH);
        legend(&mut svg, &keys, head, WIDTH);
        y_axis(&mut svg, plot, &y, &self.y.label);
        x_axis(&mut svg, plot, &x, &self.x.label);
        self.draw_guides(&mut svg, plot, &x, &y);
        if points().next().is_none() {
            svg.text(
                "ct-label",
                ((left + plot.right) / 2.0, (top + bottom) / 2.0),
                Anchor::Middle,
                "no data",
            );
        }
        // References below our own.
        let (ours, theirs): (Vec<&Series>, Vec<&Series>) =
            self.series.iter().partition(|s| s.role == Role::Measured);
        for s in theirs.into_iter().chain(ours) {
            let mut kept: Vec<&Point> = s.points.iter().filter(|p| self.drawable(p)).collect();
            kept.sort_by(|a, b| a.x.total_cmp(&b.x));
            s.draw(&mut svg, &kept, &x, &y);
        }
        self.frame.foot(&mut svg, WIDTH, height);
        svg.finish(embed)
    }

    fn draw_guides(&self, svg: &mut Svg, plot: Plot, x: &Scale, y: &Scale) {
        for g in &self.guides {
            let scale = if g.vertical { x } else { y };
            if !g.at.is_finite() || !scale.holds(g.at) {
                continue;
            }
            let at = scale.at(g.at);
            if g.vertical {
                svg.line("ct-guide", (at, plot.top), (at, plot.bottom));
                let label = fit(&g.label, 11.0, 160.0);
                // To the left of the line where the right has no room.
                let (dx, anchor) = if at + text_width(&label, 11.0) + 8.0 > plot.right {
                    (-5.0, Anchor::End)
                } else {
                    (5.0, Anchor::Start)
                };
                svg.text("ct-tick", (at + dx, plot.top + 10.0), anchor, &label);
            } else {
                svg.line("ct-guide", (plot.left, at), (plot.right, at));
            }
        }
    }
}

impl Series {
    fn shape(&self) -> Shape {
        match self.role {
            Role::Measured => Shape::nth(self.colour),
            Role::Reference(source) => Shape::nth(source + 3),
            Role::Range => Shape::nth(self.colour),
        }
    }

    fn classes(&self) -> (String, String) {
        let c = self.colour % COLOURS;
        match self.role {
            Role::Measured => (format!("ct-line ct-s{c}"), format!("ct-f{c}")),
            Role::Reference(s) => (format!("ct-thin ct-s{c} ct-dash{}", s % 3), format!("ct-ref ct-s{c}")),
            Role::Range => (format!("ct-edge ct-s{c}"), String::new()),
        }
    }

    fn mark(&self) -> Mark {
        let (line, marker) = self.classes();
        if self.role == Role::Range {
            let area = format!("ct-range ct-f{}", self.colour % COLOURS);
            return Mark::Area { line, area };
        }
        Mark::Line { line, marker, shape: self.shape() }
    }

    fn draw(&self, svg: &mut Svg, points: &[&Point], x: &Scale, y: &Scale) {
        let (line, marker) = self.classes();
        let c = self.colour % COLOURS;
        svg.begin("ct-series", &self.name);
        let low = |p: &Point| if p.low.is_finite() { p.low.min(p.y) } else { p.y };
        let high = |p: &Point| if p.high.is_finite() { p.high.max(p.y) } else { p.y };
        if self.role == Role::Range {
            for p in points {
                let (a, b) = ((x.at(p.x), y.at(low(p))), (x.at(p.x), y.at(high(p))));
                svg.begin("", &p.note);
                svg.line(&line, a, b);
                svg.line(&line, (a.0 - 4.0, a.1), (a.0 + 4.0, a.1));
                svg.line(&line, (b.0 - 4.0, b.1), (b.0 + 4.0, b.1));
                svg.end();
            }
        }
        if points.len() > 1 && points.iter().any(|p| high(p) > low(p)) {
            let upper = points.iter().map(|p| (x.at(p.x), y.at(high(p))));
            let lower = points.iter().rev().map(|p| (x.at(p.x), y.at(low(p))));
            let class = if self.role == Role::Range { "ct-range" } else { "ct-band" };
            svg.polyline(&format!("{class} ct-f{c}"), &upper.chain(lower).collect::<Vec<_>>(), true);
        }
        if self.role == Role::Range {
            svg.end();
            return;
        }
        if points.len() > 1 {
            svg.polyline(&line, &points.iter().map(|p| (x.at(p.x), y.at(p.y))).collect::<Vec<_>>(), false);
        }
        for p in points {
            if high(p) > low(p) && self.role == Role::Measured {
                svg.line(&format!("ct-thin ct-s{c}"), (x.at(p.x), y.at(low(p))), (x.at(p.x), y.at(high(p))));
            }
            let r = if points.len() > 60 { 2.2 } else { 3.6 };
            svg.marker(&marker, self.shape(), (x.at(p.x), y.at(p.y)), r, &p.note);
        }
        svg.end();
    }
}
