//! A matrix of values as shades of one colour, each with its number.

use super::frame::{Frame, WIDTH};
use crate::scale::significant;
use crate::svg::{Anchor, Embed, Svg, fit, text_width};

/// A heat map.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeatMap {
    /// Title, badge, foot.
    pub frame: Frame,
    /// Label above the columns.
    pub x_label: String,
    /// Label of the rows.
    pub y_label: String,
    /// Column names.
    pub columns: Vec<String>,
    /// Row names.
    pub rows: Vec<String>,
    /// Values by row, then column; missing ones are left blank.
    pub cells: Vec<Vec<Option<f64>>>,
    /// Value shown as no colour at all, for example slowdown 1; the smallest value if absent.
    pub floor: Option<f64>,
}

impl HeatMap {
    /// Draws the figure.
    pub fn svg(&self, embed: Embed) -> String {
        let names = self.rows.iter().map(|r| text_width(r, 11.0)).fold(0.0, f64::max).min(150.0);
        let left = names + 40.0;
        let columns = self.columns.len().max(1) as f64;
        let width = WIDTH.max(left + 18.0 + 46.0 * columns).min(1600.0);
        let cell = ((width - 18.0 - left) / columns).min(110.0);
        let row = 30.0;
        let top = self.frame.head_height(width) + 44.0;
        let bottom = top + row * self.rows.len() as f64;
        let height = bottom + 10.0 + self.frame.foot_height();

        let known = || self.cells.iter().flatten().flatten().copied().filter(|v| v.is_finite());
        let low = self.floor.unwrap_or_else(|| known().fold(f64::INFINITY, f64::min));
        let high = known().fold(f64::NEG_INFINITY, f64::max);

        let mut svg =
            Svg::new(width, height, &format!("{}: {} by {}", self.frame.title, self.y_label, self.x_label));
        self.frame.head(&mut svg, width);
        svg.text(
            "ct-label",
            (left, top - 26.0),
            Anchor::Start,
            &fit(&self.x_label, 12.0, width - left - 18.0),
        );
        svg.vertical_text(
            "ct-label",
            (18.0, (top + bottom) / 2.0),
            &fit(&self.y_label, 12.0, bottom - top + 40.0),
        );
        for (c, name) in self.columns.iter().enumerate() {
            let x = left + cell * (c as f64 + 0.5);
            svg.text("ct-tick", (x, top - 8.0), Anchor::Middle, &fit(name, 11.0, cell - 4.0));
        }
        for (r, name) in self.rows.iter().enumerate() {
            let y = top + row * r as f64;
            svg.text("ct-tick", (left - 8.0, y + 19.0), Anchor::End, &fit(name, 11.0, 150.0));
            for (c, column) in self.columns.iter().enumerate() {
                let value =
                    self.cells.get(r).and_then(|v| v.get(c)).copied().flatten().filter(|v| v.is_finite());
                let (at, size) = ((left + cell * c as f64, y), (cell - 2.0, row - 2.0));
                let Some(v) = value else {
                    svg.rect("ct-lane", at, size, &format!("{name}, {column}: no value"));
                    continue;
                };
                // Halves first: the difference of two huge values would overflow.
                let span = high / 2.0 - low / 2.0;
                let share = if span > 0.0 { (v / 2.0 - low / 2.0) / span } else { 0.5 };
                let text = significant(v, 3);
                svg.rect("ct-lane", at, size, "");
                svg.shade(
                    "ct-f0",
                    at,
                    size,
                    0.04 + 0.96 * share.clamp(0.0, 1.0),
                    &format!("{name}, {column}: {text}"),
                );
                let class = if share > 0.55 { "ct-value ct-on" } else { "ct-value" };
                svg.text(
                    class,
                    (at.0 + size.0 / 2.0, y + 19.0),
                    Anchor::Middle,
                    &fit(&text, 11.0, cell - 4.0),
                );
            }
        }
        self.frame.foot(&mut svg, width, height);
        svg.finish(embed)
    }
}
