//! Figures from plain data. They know nothing of runs: `crate::figures` turns records into them.

mod bars;
mod frame;
mod heat;
mod line;
mod strip;
mod timeline;

pub use bars::{Bar, BarFigure, BarGroup, ReferenceMark};
pub use frame::{Axis, Frame};
pub use heat::HeatMap;
pub use line::{Guide, LineFigure, Point, Role, Series};
pub use strip::{Panel, Strip};
pub use timeline::{Lane, Timeline, TimelinePhase};

use crate::svg::Embed;

/// Any figure.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    /// Lines with bands and markers.
    Line(LineFigure),
    /// Grouped bars with interval whiskers.
    Bars(BarFigure),
    /// Launches of each tenant over time.
    Timeline(Timeline),
    /// Quantities over repeats, one small panel each.
    Strip(Strip),
    /// A matrix of values.
    Heat(HeatMap),
}

impl Figure {
    /// Draws the figure. The same data give the same bytes.
    pub fn svg(&self, embed: Embed) -> String {
        match self {
            Figure::Line(f) => f.svg(embed),
            Figure::Bars(f) => f.svg(embed),
            Figure::Timeline(f) => f.svg(embed),
            Figure::Strip(f) => f.svg(embed),
            Figure::Heat(f) => f.svg(embed),
        }
    }
}
