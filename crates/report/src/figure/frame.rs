//! What all figures share: title, badge, legend, foot, axes.

use crate::scale::{Scale, Unit};
use crate::svg::{Anchor, Shape, Svg, fit, text_width, wrap};

/// Width of a figure in units; a page scales it.
pub(crate) const WIDTH: f64 = 720.0;
const TITLE: f64 = 15.0;
/// Bold letters of the wider usual fonts, over the widths that [`text_width`] knows.
const BOLD: f64 = 1.15;
const TEXT: f64 = 12.0;

/// Title, badge and foot of a figure.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    /// Headline; empty: none.
    pub title: String,
    /// A word that must not be missed, for example `SIMULATED`.
    pub badge: Option<String>,
    /// One small line at the bottom: device, version, date.
    pub foot: String,
}

/// One axis.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Axis {
    /// Label with unit.
    pub label: String,
    /// Logarithmic.
    pub log: bool,
    /// Starts at zero (linear axes).
    pub zero: bool,
}

impl Frame {
    /// Draws title and badge; gives the y below them.
    pub(crate) fn head(&self, svg: &mut Svg, width: f64) -> f64 {
        let mut right = width - 12.0;
        if let Some(badge) = &self.badge {
            let badge = fit(badge, 11.0, 200.0);
            let w = text_width(&badge, 11.5) + 14.0;
            svg.rect("ct-badge-box", (right - w, 9.0), (w, 18.0), "");
            svg.text("ct-badge-text", (right - w / 2.0, 21.8), Anchor::Middle, &badge);
            right -= w + 10.0;
        }
        if self.title.is_empty() {
            return if self.badge.is_some() { 34.0 } else { 12.0 };
        }
        let lines = wrap(&self.title, TITLE * BOLD, right - 14.0, 2);
        for (i, line) in lines.iter().enumerate() {
            svg.text("ct-title", (14.0, 24.0 + 19.0 * i as f64), Anchor::Start, line);
        }
        20.0 + 19.0 * lines.len() as f64
    }

    /// Height of title and badge, before there is a drawing.
    pub(crate) fn head_height(&self, width: f64) -> f64 {
        self.head(&mut Svg::new(width, 1.0, ""), width)
    }

    /// Height that the foot takes.
    pub(crate) fn foot_height(&self) -> f64 {
        if self.foot.is_empty() { 6.0 } else { 22.0 }
    }

    /// Draws the foot at the bottom of a figure `height` high.
    pub(crate) fn foot(&self, svg: &mut Svg, width: f64, height: f64) {
        if !self.foot.is_empty() {
            svg.text("ct-foot", (14.0, height - 8.0), Anchor::Start, &fit(&self.foot, 10.0, width - 28.0));
        }
    }
}

/// One entry of a legend.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub label: String,
    pub mark: Mark,
}

/// How a legend entry looks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Mark {
    /// Filled box of this class.
    Box(String),
    /// Line and marker: classes of each.
    Line { line: String, marker: String, shape: Shape },
    /// A marker alone.
    Marker { class: String, shape: Shape },
    /// A line to read against.
    Guide,
    /// A line of this class.
    Stroke(String),
    /// A line over an area: classes of each.
    Area { line: String, area: String },
}

/// Lays a legend out in rows; gives its height.
pub(crate) fn legend_height(keys: &[Key], width: f64) -> f64 {
    let rows = rows(keys, width);
    if rows.is_empty() { 0.0 } else { 20.0 * rows.len() as f64 + 4.0 }
}

fn key_width(key: &Key) -> f64 {
    30.0 + text_width(&fit(&key.label, TEXT, 300.0), TEXT) + 16.0
}

fn rows(keys: &[Key], width: f64) -> Vec<Vec<&Key>> {
    let mut rows: Vec<Vec<&Key>> = Vec::new();
    let mut used = f64::INFINITY;
    for key in keys {
        let w = key_width(key);
        if used + w > width - 28.0 {
            rows.push(Vec::new());
            used = 0.0;
        }
        used += w;
        if let Some(row) = rows.last_mut() {
            row.push(key);
        }
    }
    rows
}

/// Draws a legend from `top` down.
pub(crate) fn legend(svg: &mut Svg, keys: &[Key], top: f64, width: f64) {
    for (r, row) in rows(keys, width).into_iter().enumerate() {
        let y = top + 20.0 * r as f64 + 9.0;
        let mut x = 14.0;
        for key in row {
            match &key.mark {
                Mark::Box(class) => svg.rect(class, (x + 6.0, y - 5.5), (11.0, 11.0), ""),
                Mark::Line { line, marker, shape } => {
                    svg.line(line, (x, y), (x + 24.0, y));
                    svg.marker(marker, *shape, (x + 12.0, y), 3.4, "");
                }
                Mark::Stroke(line) => svg.line(line, (x, y), (x + 24.0, y)),
                Mark::Area { line, area } => {
                    svg.rect(area, (x, y), (24.0, 7.0), "");
                    svg.line(line, (x, y), (x + 24.0, y));
                }
                Mark::Guide => svg.line("ct-guide", (x, y), (x + 24.0, y)),
                Mark::Marker { class, shape } => svg.marker(class, *shape, (x + 12.0, y), 4.2, ""),
            }
            svg.text("ct-key", (x + 30.0, y + 4.0), Anchor::Start, &fit(&key.label, TEXT, 300.0));
            x += key_width(key);
        }
    }
}

/// The rectangle that data are drawn in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Plot {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

/// Draws the y axis with grid, ticks and label.
pub(crate) fn y_axis(svg: &mut Svg, plot: Plot, scale: &Scale, label: &str) {
    let unit = Unit::of_label(label);
    for tick in scale.ticks(6, unit == Unit::Bytes) {
        let y = scale.at(tick);
        svg.line("ct-grid", (plot.left, y), (plot.right, y));
        svg.text("ct-tick", (plot.left - 7.0, y + 3.8), Anchor::End, &unit.tick(tick));
    }
    let middle = (plot.top + plot.bottom) / 2.0;
    svg.vertical_text("ct-label", (18.0, middle), &fit(label, TEXT, plot.bottom - plot.top + 40.0));
}

/// Draws the x axis with ticks and label.
pub(crate) fn x_axis(svg: &mut Svg, plot: Plot, scale: &Scale, label: &str) {
    let unit = Unit::of_label(label);
    svg.line("ct-axis", (plot.left, plot.bottom), (plot.right, plot.bottom));
    let mut free_from = f64::NEG_INFINITY;
    for tick in scale.ticks(8, unit == Unit::Bytes) {
        let (x, text) = (scale.at(tick), unit.tick(tick));
        svg.line("ct-axis", (x, plot.bottom), (x, plot.bottom + 4.0));
        let half = text_width(&text, 11.0) / 2.0;
        if x - half >= free_from {
            svg.text("ct-tick", (x, plot.bottom + 17.0), Anchor::Middle, &text);
            free_from = x + half + 6.0;
        }
    }
    x_label(svg, plot, plot.bottom + 36.0, label);
}

/// Draws the label below an x axis.
pub(crate) fn x_label(svg: &mut Svg, plot: Plot, y: f64, label: &str) {
    let label = fit(label, TEXT, plot.right - plot.left);
    svg.text("ct-label", ((plot.left + plot.right) / 2.0, y), Anchor::Middle, &label);
}

/// Left margin that the widest tick of a y axis needs.
pub(crate) fn y_margin(scale: &Scale, label: &str) -> f64 {
    let unit = Unit::of_label(label);
    let widest = scale
        .ticks(6, unit == Unit::Bytes)
        .into_iter()
        .map(|t| text_width(&unit.tick(t), 11.0))
        .fold(0.0, f64::max);
    widest + 38.0
}
