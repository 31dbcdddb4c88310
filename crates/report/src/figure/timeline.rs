//! Overlap timeline: the launches of each tenant in each phase of one repeat, all phases on one scale.

use super::frame::{Frame, WIDTH};
use crate::scale::{Scale, plain};
use crate::svg::{Anchor, COLOURS, Embed, Svg, fit};

/// A timeline.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timeline {
    /// Title, badge, foot.
    pub frame: Frame,
    /// Phases from top to bottom.
    pub phases: Vec<TimelinePhase>,
}

/// One phase.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TimelinePhase {
    /// Name, for example `shared`.
    pub name: String,
    /// A remark at the right, for example the overlap.
    pub remark: String,
    /// Shade the time in which all lanes are active.
    pub shade_overlap: bool,
    /// Tenants.
    pub lanes: Vec<Lane>,
}

/// One tenant's launches.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Lane {
    /// Tenant.
    pub name: String,
    /// Colour number.
    pub colour: usize,
    /// Start and end of each launch, ns since the phase began.
    pub spans_ns: Vec<(u64, u64)>,
    /// Tooltip.
    pub note: String,
}

const ROW: f64 = 20.0;
const LEFT: f64 = 196.0;

impl Timeline {
    /// Draws the figure.
    pub fn svg(&self, embed: Embed) -> String {
        let rows: usize = self.phases.iter().map(|p| p.lanes.len().max(1)).sum();
        let top = self.frame.head_height(WIDTH) + 4.0;
        let bottom = top + ROW * rows as f64 + 10.0 * self.phases.len() as f64;
        let height = bottom + 40.0 + self.frame.foot_height();
        let end = self.phases.iter().flat_map(|p| &p.lanes).flat_map(|l| &l.spans_ns).map(|s| s.1).max();
        let right = WIDTH - 18.0;
        let (unit, per_unit) = match end.unwrap_or(0) {
            0..=9_999 => ("ns", 1.0),
            10_000..=9_999_999 => ("µs", 1e3),
            10_000_000..=9_999_999_999 => ("ms", 1e6),
            _ => ("s", 1e9),
        };
        let x = Scale::linear(0.0, end.unwrap_or(1).max(1) as f64 / per_unit, (LEFT, right));

        let mut svg =
            Svg::new(WIDTH, height, &format!("{}: launches of each tenant over time", self.frame.title));
        self.frame.head(&mut svg, WIDTH);
        for tick in x.ticks(7, false) {
            svg.line("ct-grid", (x.at(tick), top), (x.at(tick), bottom));
            svg.text("ct-tick", (x.at(tick), bottom + 15.0), Anchor::Middle, &plain(tick));
        }
        let mut y = top + 2.0;
        for phase in &self.phases {
            let phase_height = ROW * phase.lanes.len().max(1) as f64;
            svg.begin("ct-phase", &phase.remark);
            svg.text("ct-label", (14.0, y + 14.0), Anchor::Start, &fit(&phase.name, 12.0, 84.0));
            for (i, lane) in phase.lanes.iter().enumerate() {
                let row = y + ROW * i as f64;
                svg.rect("ct-lane", (LEFT, row + 2.0), (right - LEFT, ROW - 4.0), "");
                svg.text("ct-tick", (LEFT - 8.0, row + 14.0), Anchor::End, &fit(&lane.name, 11.0, 92.0));
                let class = format!("ct-f{}", lane.colour % COLOURS);
                let boxes = boxes(&lane.spans_ns, |ns| x.at(ns as f64 / per_unit));
                svg.spans(&class, row + 4.0, ROW - 8.0, &boxes, &format!("{}: {}", lane.name, lane.note));
            }
            if phase.shade_overlap {
                for (a, b) in common(&phase.lanes) {
                    let (a, b) = (x.at(a as f64 / per_unit), x.at(b as f64 / per_unit));
                    svg.rect("ct-both", (a, y), (b - a, phase_height), &phase.remark);
                }
            }
            svg.end();
            y += phase_height + 10.0;
        }
        if rows == 0 {
            svg.text("ct-label", (WIDTH / 2.0, bottom), Anchor::Middle, "no data");
        }
        let label = format!("Time since the phase began [{unit}]");
        svg.text("ct-label", ((LEFT + right) / 2.0, bottom + 33.0), Anchor::Middle, &label);
        self.frame.foot(&mut svg, WIDTH, height);
        svg.finish(embed)
    }
}

/// Launches wider than this are drawn one by one, with a seam between two that follow each other at once.
const SEAM_FROM: f64 = 2.5;

/// Spans as `(x, width)`: at least half a unit wide, and narrow ones joined where no gap could be seen, so that
/// a phase of many short launches stays a small drawing.
pub(crate) fn boxes(spans: &[(u64, u64)], x: impl Fn(u64) -> f64) -> Vec<(f64, f64)> {
    let mut sorted = spans.to_vec();
    sorted.sort_unstable();
    let mut out: Vec<(f64, f64)> = Vec::new();
    for (start, end) in sorted {
        let (a, b) = (x(start), x(end.max(start)));
        match out.last_mut() {
            Some((left, width)) if b - a < SEAM_FROM && a - (*left + *width) < 0.15 => {
                *width = width.max(b - *left)
            }
            _ => out.push((a, (b - a).max(0.5))),
        }
    }
    for (_, width) in &mut out {
        *width = (*width - 0.7).max(0.4);
    }
    out
}

/// The times in which every lane is active (see [`active`]).
fn common(lanes: &[Lane]) -> Vec<(u64, u64)> {
    let mut lanes = lanes.iter().map(|l| active(&l.spans_ns));
    let Some(first) = lanes.next() else { return Vec::new() };
    lanes.fold(first, |a, b| intersect(&a, &b))
}

/// The union of spans; gaps below 2 % of the whole are closed, so that the pauses between launches do not
/// break the shade into slivers.
fn active(spans: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut sorted: Vec<(u64, u64)> = spans.iter().copied().filter(|(a, b)| b > a).collect();
    sorted.sort_unstable();
    let (Some(first), Some(last)) = (sorted.first(), sorted.iter().map(|s| s.1).max()) else {
        return Vec::new();
    };
    let gap = (last - first.0) / 50;
    let mut out: Vec<(u64, u64)> = Vec::new();
    for (a, b) in sorted {
        match out.last_mut() {
            Some(open) if a <= open.1.saturating_add(gap) => open.1 = open.1.max(b),
            _ => out.push((a, b)),
        }
    }
    out
}

fn intersect(a: &[(u64, u64)], b: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        let (start, end) = (a[i].0.max(b[j].0), a[i].1.min(b[j].1));
        if start < end {
            out.push((start, end));
        }
        if a[i].1 < b[j].1 { i += 1 } else { j += 1 }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(spans: &[(u64, u64)]) -> Lane {
        Lane { spans_ns: spans.to_vec(), ..Lane::default() }
    }

    #[test]
    fn common_time_is_the_intersection() {
        assert_eq!(common(&[lane(&[(0, 100)]), lane(&[(50, 150)])]), [(50, 100)]);
        assert_eq!(common(&[lane(&[(0, 100)]), lane(&[(100, 150)])]), []);
        assert_eq!(common(&[lane(&[(0, 100), (200, 300)]), lane(&[(50, 250)])]), [(50, 100), (200, 250)]);
        assert_eq!(common(&[lane(&[(0, 499), (500, 1000)]), lane(&[(0, 1000)])]), [(0, 1000)]);
        assert_eq!(common(&[]), []);
    }

    #[test]
    fn many_short_launches_become_few_boxes() {
        let spans: Vec<(u64, u64)> = (0..10_000).map(|i| (i * 10, i * 10 + 9)).collect();
        assert!(boxes(&spans, |ns| ns as f64 / 1000.0).len() < 10);
        assert_eq!(boxes(&[(0, 10), (10, 30)], |ns| ns as f64).len(), 2);
    }
}
