//! GPU counters under the time line of the tenants: everything on one axis of time.

use super::frame::{Frame, WIDTH};
use super::iterations::{Stretch, draw_stretches, time_unit};
use super::timeline::{Lane, boxes};
use crate::scale::{Scale, plain, significant};
use crate::svg::{Anchor, COLOURS, Embed, Svg, fit};

/// Lanes of tenants above panels of counters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TelemetryFigure {
    /// Title, badge, foot.
    pub frame: Frame,
    /// End of the time axis, ns since the phase began.
    pub end_ns: u64,
    /// Parts of the phase, in order of time.
    pub parts: Vec<Stretch>,
    /// Tenants from top to bottom.
    pub lanes: Vec<Lane>,
    /// Counters from top to bottom.
    pub counters: Vec<Counter>,
}

/// One quantity over time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Counter {
    /// Name.
    pub label: String,
    /// Unit of its values, for example `%`.
    pub unit: String,
    /// Time in ns since the phase began (before it: negative), and value; ascending.
    pub points: Vec<(i64, f64)>,
    /// Highest value that there can be, for example 100 %; the axis then begins at 0.
    pub full: Option<f64>,
    /// Mean within each part, by its index.
    pub means: Vec<(usize, f64)>,
}

const LANE: f64 = 18.0;
const PANEL: f64 = 56.0;
const LEFT: f64 = 150.0;

impl TelemetryFigure {
    /// Draws the figure.
    pub fn svg(&self, embed: Embed) -> String {
        let top = self.frame.head_height(WIDTH) + 20.0;
        let panels = top + LANE * self.lanes.len() as f64 + 8.0;
        let bottom = panels + PANEL * self.counters.len() as f64;
        let height = bottom + 40.0 + self.frame.foot_height();
        let right = WIDTH - 18.0;
        let (unit, per_unit) = time_unit(self.end_ns);
        let x = Scale::linear(0.0, self.end_ns.max(1) as f64 / per_unit, (LEFT, right));

        let mut svg = Svg::new(WIDTH, height, &format!("{}: GPU counters over time", self.frame.title));
        self.frame.head(&mut svg, WIDTH);
        draw_stretches(&mut svg, &self.parts, &x, per_unit, (top, bottom));
        for tick in x.ticks(7, false) {
            svg.line("ct-grid", (x.at(tick), top), (x.at(tick), bottom));
            svg.text("ct-tick", (x.at(tick), bottom + 15.0), Anchor::Middle, &plain(tick));
        }
        for (i, lane) in self.lanes.iter().enumerate() {
            let row = top + LANE * i as f64;
            svg.text("ct-tick", (LEFT - 8.0, row + 13.0), Anchor::End, &fit(&lane.name, 11.0, LEFT - 22.0));
            let class = format!("ct-f{}", lane.colour % COLOURS);
            let spans = boxes(&lane.spans_ns, |ns| x.at(ns as f64 / per_unit));
            svg.spans(&class, row + 3.0, LANE - 6.0, &spans, &format!("{}: {}", lane.name, lane.note));
        }
        for (i, counter) in self.counters.iter().enumerate() {
            counter.draw(&mut svg, panels + PANEL * i as f64, &x, per_unit, &self.parts, i);
        }
        if self.counters.is_empty() {
            svg.text(
                "ct-label",
                (WIDTH / 2.0, bottom),
                Anchor::Middle,
                "no counter was sampled in this phase",
            );
        }
        let label = format!("Time since the phase began [{unit}]");
        svg.text("ct-label", ((LEFT + right) / 2.0, bottom + 33.0), Anchor::Middle, &label);
        self.frame.foot(&mut svg, WIDTH, height);
        svg.finish(embed)
    }
}

impl Counter {
    fn draw(&self, svg: &mut Svg, top: f64, x: &Scale, per_unit: f64, parts: &[Stretch], colour: usize) {
        let known = || self.points.iter().filter(|p| p.1.is_finite());
        let (low, high) = known().fold((f64::MAX, f64::MIN), |(a, b), p| (a.min(p.1), b.max(p.1)));
        // A share of a few percent is drawn against what it reaches, with the number beside it.
        let y = match self.full {
            Some(full) if full > 0.0 => {
                let reach = if high > 0.0 { (high * 1.15).min(full.max(high)) } else { full };
                Scale::linear(0.0, reach, (top + PANEL - 8.0, top + 8.0))
            }
            _ => Scale::over(known().map(|p| p.1), (top + PANEL - 8.0, top + 8.0), false, false),
        };
        let c = colour % COLOURS;
        let right = x.at(f64::MAX);
        svg.begin("ct-panel", &self.label);
        svg.line("ct-axis", (LEFT, top + PANEL - 4.0), (right, top + PANEL - 4.0));
        svg.text("ct-label", (14.0, top + 20.0), Anchor::Start, &fit(&self.label, 12.0, LEFT - 22.0));
        if known().next().is_some() {
            let range = if low == high {
                format!("{} {}", significant(low, 3), self.unit)
            } else {
                format!("{} – {} {}", significant(low, 3), significant(high, 3), self.unit)
            };
            svg.text("ct-tick", (14.0, top + 35.0), Anchor::Start, &fit(&range, 11.0, LEFT - 22.0));
        }
        // A sample stands for the time up to the next one.
        let mut line: Vec<(f64, f64)> = Vec::new();
        for (at, v) in known() {
            let (px, py) = (x.at(*at as f64 / per_unit), y.at(*v));
            if let Some((_, last)) = line.last().copied() {
                line.push((px, last));
            }
            line.push((px, py));
        }
        if let (Some(first), Some(last)) = (line.first().copied(), line.last().copied()) {
            let base = y.at(if self.full.is_some() { 0.0 } else { f64::MIN });
            let mut area = vec![(first.0, base)];
            area.extend(&line);
            area.push((last.0, base));
            svg.polyline(&format!("ct-band ct-f{c}"), &area, true);
            svg.polyline(&format!("ct-thin ct-s{c}"), &line, false);
        }
        for (part, mean) in self.means.iter().filter(|m| m.1.is_finite()) {
            let Some(stretch) = parts.get(*part) else { continue };
            let (a, b) = (x.at(stretch.from_ns as f64 / per_unit), x.at(stretch.to_ns as f64 / per_unit));
            let label = significant(*mean, 3);
            svg.line("ct-level", (a, y.at(*mean)), (b, y.at(*mean)));
            if b - a > crate::svg::text_width(&label, 11.0) + 6.0 {
                let above = y.at(*mean) - 4.0;
                let at = if above < top + 12.0 { y.at(*mean) + 12.0 } else { above };
                svg.text("ct-value ct-halo", ((a + b) / 2.0, at), Anchor::Middle, &label);
            }
        }
        svg.end();
    }
}
