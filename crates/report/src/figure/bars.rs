//! Grouped bars with interval whiskers and, over each bar, the values that others give for it.

use super::frame::{Axis, Frame, Key, Mark, Plot, WIDTH, legend, legend_height, x_label, y_axis, y_margin};
use crate::scale::{Scale, significant};
use crate::svg::{Anchor, COLOURS, Embed, Shape, Svg, fit, text_width, wrap};

/// A bar figure; bars start at zero.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BarFigure {
    /// Title, badge, foot.
    pub frame: Frame,
    /// Label of the group axis.
    pub x_label: String,
    /// Vertical axis; `log` is not used.
    pub y: Axis,
    /// Names of the series; the index is the colour.
    pub series: Vec<String>,
    /// Names of the reference sources; the index is the marker.
    pub sources: Vec<String>,
    /// Groups from left to right.
    pub groups: Vec<BarGroup>,
    /// Values to read against, with a label.
    pub guides: Vec<(f64, String)>,
}

/// Bars that stand together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BarGroup {
    /// Label below.
    pub label: String,
    /// The bars.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    /// Index into [`BarFigure::series`].
    pub series: usize,
    /// Value; a bar without a finite value is not drawn, its references are.
    pub value: f64,
    /// Interval, low end.
    pub low: f64,
    /// Interval, high end.
    pub high: f64,
    /// Tooltip.
    pub note: String,
    /// Values of others for the same bar.
    pub references: Vec<ReferenceMark>,
}

/// Someone else's value for a bar.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceMark {
    /// Index into [`BarFigure::sources`].
    pub source: usize,
    /// Value.
    pub value: f64,
    /// Tooltip.
    pub note: String,
}

/// Marker of the `i`-th source.
fn source_shape(i: usize) -> Shape {
    [Shape::Diamond, Shape::Triangle, Shape::Circle, Shape::Square][i % 4]
}

impl BarFigure {
    /// Draws the figure.
    pub fn svg(&self, embed: Embed) -> String {
        let count: usize = self.groups.iter().map(|g| g.bars.len()).sum();
        // Many bars get a wider figure rather than hairlines.
        let width = WIDTH.max(80.0 + 20.0 * count as f64 + 14.0 * self.groups.len() as f64).min(1600.0);
        let keys = self.keys();
        let head = self.frame.head_height(width);
        let top = head + legend_height(&keys, width) + 16.0;
        let bottom = top + 250.0;

        let values = self.groups.iter().flat_map(|g| &g.bars).flat_map(|b| {
            [b.value, b.low, b.high]
                .into_iter()
                .chain(b.references.iter().map(|r| r.value))
                .collect::<Vec<_>>()
        });
        let y = Scale::over(values.chain(self.guides.iter().map(|g| g.0)), (bottom, top), false, true);
        let left = y_margin(&y, &self.y.label);
        let plot = Plot { left, right: width - 18.0, top, bottom };
        let slot = (plot.right - plot.left) / self.groups.len().max(1) as f64;

        let lines: Vec<Vec<String>> =
            self.groups.iter().map(|g| wrap(&g.label, 11.0, slot - 6.0, 3)).collect();
        let cut = lines.iter().flatten().any(|l| l.ends_with('…'));
        let longest = self.groups.iter().map(|g| text_width(&g.label, 11.0)).fold(0.0, f64::max).min(130.0);
        let label_height =
            if cut { longest + 8.0 } else { 15.0 * lines.iter().map(Vec::len).max().unwrap_or(1) as f64 };
        let height = bottom + label_height + 34.0 + self.frame.foot_height();

        let mut svg = Svg::new(width, height, &format!("{}: {}", self.frame.title, self.y.label));
        self.frame.head(&mut svg, width);
        legend(&mut svg, &keys, head, width);
        y_axis(&mut svg, plot, &y, &self.y.label);
        for (at, _) in self.guides.iter().filter(|g| y.holds(g.0)) {
            svg.line("ct-guide", (plot.left, y.at(*at)), (plot.right, y.at(*at)));
        }
        for (i, group) in self.groups.iter().enumerate() {
            let x = plot.left + slot * i as f64;
            self.draw_group(&mut svg, group, x, slot, &y);
            let middle = x + slot / 2.0;
            if cut {
                // Turned labels end at the axis, so that each stands under its group.
                let label = fit(&group.label, 11.0, 130.0);
                svg.vertical_text(
                    "ct-tick",
                    (middle + 4.0, bottom + 8.0 + text_width(&label, 11.0) / 2.0),
                    &label,
                );
            } else {
                for (l, line) in lines[i].iter().enumerate() {
                    svg.text("ct-tick", (middle, bottom + 16.0 + 14.0 * l as f64), Anchor::Middle, line);
                }
            }
        }
        svg.line("ct-axis", (plot.left, y.at(0.0)), (plot.right, y.at(0.0)));
        if count == 0 {
            svg.text(
                "ct-label",
                ((left + plot.right) / 2.0, (top + bottom) / 2.0),
                Anchor::Middle,
                "no data",
            );
        }
        x_label(&mut svg, plot, bottom + label_height + 22.0, &self.x_label);
        self.frame.foot(&mut svg, width, height);
        svg.finish(embed)
    }

    fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        if self.series.len() > 1 || !self.sources.is_empty() {
            keys.extend(self.series.iter().enumerate().map(|(i, name)| Key {
                label: name.clone(),
                mark: Mark::Box(format!("ct-f{}", i % COLOURS)),
            }));
        }
        keys.extend(self.sources.iter().enumerate().map(|(i, name)| Key {
            label: name.clone(),
            mark: Mark::Marker { class: "ct-reference".to_owned(), shape: source_shape(i) },
        }));
        keys.extend(self.guides.iter().map(|(_, label)| Key { label: label.clone(), mark: Mark::Guide }));
        keys
    }

    fn draw_group(&self, svg: &mut Svg, group: &BarGroup, x: f64, slot: f64, y: &Scale) {
        let n = group.bars.len().max(1) as f64;
        let bar = (slot * 0.76 / n).min(58.0);
        let from = x + (slot - bar * n) / 2.0;
        for (i, b) in group.bars.iter().enumerate() {
            let (x, w) = (from + bar * i as f64, bar * 0.88);
            let middle = x + bar / 2.0;
            let mut peak = y.at(0.0);
            if b.value.is_finite() {
                let (a, z) = (y.at(b.value), y.at(0.0));
                let class = format!("ct-f{}", b.series % COLOURS);
                svg.rect(&class, (middle - w / 2.0, a.min(z)), (w, (z - a).abs()), &b.note);
                peak = peak.min(a);
                if b.low.is_finite() && b.high.is_finite() && b.high > b.low {
                    let (lo, hi) = (y.at(b.low), y.at(b.high));
                    let cap = (w * 0.16).clamp(2.0, 6.0);
                    svg.line("ct-whisker", (middle, lo), (middle, hi));
                    svg.line("ct-whisker", (middle - cap, lo), (middle + cap, lo));
                    svg.line("ct-whisker", (middle - cap, hi), (middle + cap, hi));
                    peak = peak.min(hi);
                }
            }
            let marks: Vec<&ReferenceMark> = b.references.iter().filter(|r| r.value.is_finite()).collect();
            for (k, r) in marks.iter().enumerate() {
                // Beside each other across the bar, clear of the whisker in its middle.
                let share =
                    if marks.len() == 1 { -0.3 } else { -0.3 + 0.6 * k as f64 / (marks.len() - 1) as f64 };
                let at = (middle + share * w, y.at(r.value));
                svg.marker("ct-reference", source_shape(r.source), at, 4.2, &r.note);
                peak = peak.min(at.1 - 4.5);
            }
            if b.value.is_finite() && bar >= 30.0 {
                svg.text("ct-value", (middle, peak - 5.0), Anchor::Middle, &significant(b.value, 3));
            }
        }
    }
}
