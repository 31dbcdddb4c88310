//! Small panels over the repeats: clocks, power, temperature, with marked repeats pointed out.

use super::frame::{Frame, WIDTH};
use crate::scale::{Scale, plain};
use crate::svg::{Anchor, COLOURS, Embed, Shape, Svg, fit};

/// Panels that share one axis of repeats.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Strip {
    /// Title, badge, foot.
    pub frame: Frame,
    /// Panels from top to bottom.
    pub panels: Vec<Panel>,
    /// Sections of the axis (trials): first position and name, ascending.
    pub sections: Vec<(usize, String)>,
    /// Marked positions with the reason.
    pub marks: Vec<(usize, String)>,
}

/// One quantity.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Panel {
    /// Name with unit.
    pub label: String,
    /// One value per position; `None` where it was not sampled.
    pub values: Vec<Option<f64>>,
}

const PANEL: f64 = 44.0;
const LEFT: f64 = 128.0;

impl Strip {
    /// Draws the figure.
    pub fn svg(&self, embed: Embed) -> String {
        let n = self.panels.iter().map(|p| p.values.len()).max().unwrap_or(0);
        let top = self.frame.head_height(WIDTH) + 4.0;
        let bottom = top + PANEL * self.panels.len() as f64;
        let height = bottom + 34.0 + self.frame.foot_height();
        let right = WIDTH - 18.0;
        let x = Scale::linear(-0.5, n.max(1) as f64 - 0.5, (LEFT, right));

        let mut svg =
            Svg::new(WIDTH, height, &format!("{}: machine state over the repeats", self.frame.title));
        self.frame.head(&mut svg, WIDTH);
        for (position, name) in &self.sections {
            let at = x.at(*position as f64 - 0.5);
            svg.begin("ct-section", name);
            svg.line("ct-grid", (at, top), (at, bottom));
            svg.end();
        }
        for (i, panel) in self.panels.iter().enumerate() {
            panel.draw(&mut svg, top + PANEL * i as f64, &x, (LEFT, right), i);
        }
        for (position, reason) in &self.marks {
            let at = (x.at(*position as f64), bottom + 6.0);
            svg.marker("ct-f1", Shape::Triangle, at, 4.0, &format!("repeat {}: {reason}", position + 1));
        }
        if n == 0 {
            svg.text("ct-label", (WIDTH / 2.0, top + 10.0), Anchor::Middle, "no data");
        }
        let label = if self.marks.is_empty() {
            "Repeats in the order they ran".to_owned()
        } else {
            format!("Repeats in the order they ran; ▲ {} marked", self.marks.len())
        };
        svg.text("ct-label", ((LEFT + right) / 2.0, bottom + 27.0), Anchor::Middle, &label);
        self.frame.foot(&mut svg, WIDTH, height);
        svg.finish(embed)
    }
}

impl Panel {
    fn draw(&self, svg: &mut Svg, top: f64, x: &Scale, (left, right): (f64, f64), colour: usize) {
        let known: Vec<f64> = self.values.iter().flatten().copied().filter(|v| v.is_finite()).collect();
        let (low, high) = known.iter().fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
        let y = Scale::over(known.iter().copied(), (top + PANEL - 9.0, top + 8.0), false, false);
        let c = colour % COLOURS;
        svg.begin("ct-panel", &self.label);
        svg.rect("ct-lane", (left, top + 3.0), (right - left, PANEL - 6.0), "");
        svg.text("ct-label", (14.0, top + 18.0), Anchor::Start, &fit(&self.label, 12.0, LEFT - 22.0));
        if !known.is_empty() {
            let range = if low == high { plain(low) } else { format!("{} – {}", plain(low), plain(high)) };
            svg.text("ct-tick", (14.0, top + 33.0), Anchor::Start, &fit(&range, 11.0, LEFT - 22.0));
        }
        // A gap where nothing was sampled breaks the line.
        let mut piece: Vec<(f64, f64)> = Vec::new();
        for (i, value) in self.values.iter().map(Some).chain([None]).enumerate() {
            match value.copied().flatten().filter(|v| v.is_finite()) {
                Some(v) => piece.push((x.at(i as f64), y.at(v))),
                None => {
                    if let [one] = piece[..] {
                        svg.marker(&format!("ct-f{c}"), Shape::Circle, one, 1.8, "");
                    }
                    if piece.len() > 1 {
                        svg.polyline(&format!("ct-thin ct-s{c}"), &piece, false);
                    }
                    piece.clear();
                }
            }
        }
        svg.end();
    }
}
