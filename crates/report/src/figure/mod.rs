//! Figures from plain data. They know nothing of runs: `crate::figures` turns records into them.

mod bars;
mod curves;
mod density;
mod frame;
mod heat;
mod iterations;
mod line;
mod strip;
mod telemetry;
mod timeline;

pub use bars::{Bar, BarFigure, BarGroup, ReferenceMark};
pub use curves::{CurveFigure, CurvePanel, PlainCurve};
pub use density::{Curve, DensityFigure, DensityPanel};
pub use frame::{Axis, Frame};
pub use heat::HeatMap;
pub use iterations::{Dots, IterationFigure, IterationPanel, Stretch};
pub use line::{Guide, LineFigure, Point, Role, Series};
pub use strip::{Panel, Strip};
pub use telemetry::{Counter, TelemetryFigure};
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
    /// Densities of durations.
    Density(DensityFigure),
    /// Panels of plain curves.
    Curves(CurveFigure),
    /// Durations of iterations over time.
    Iterations(IterationFigure),
    /// GPU counters under a time line.
    Telemetry(TelemetryFigure),
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
            Figure::Density(f) => f.svg(embed),
            Figure::Curves(f) => f.svg(embed),
            Figure::Iterations(f) => f.svg(embed),
            Figure::Telemetry(f) => f.svg(embed),
        }
    }
}
