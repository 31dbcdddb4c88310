//! A piecewise-linear curve through measured points: the form in which a card stores what has no formula.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Points `(x, y)` with strictly growing `x` and non-decreasing `y`; constant outside the measured range.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Curve(pub Vec<(f64, f64)>);

impl Curve {
    /// Value at `x`, interpolated; the first or last value outside the points; 0 without points.
    pub fn at(&self, x: f64) -> f64 {
        let p = &self.0;
        let (Some(first), Some(last)) = (p.first(), p.last()) else { return 0.0 };
        if x <= first.0 {
            return first.1;
        }
        if x >= last.0 {
            return last.1;
        }
        let hi = p.partition_point(|q| q.0 <= x);
        let (a, b) = (p[hi - 1], p[hi]);
        a.1 + (b.1 - a.1) * (x - a.0) / (b.0 - a.0)
    }

    /// The same curve with every `x` multiplied by `kx` and every `y` by `ky` (both positive).
    pub fn scaled(&self, kx: f64, ky: f64) -> Curve {
        Curve(self.0.iter().map(|&(x, y)| (x * kx, y * ky)).collect())
    }

    /// The same shares counted from the value at `x`, which becomes 0 as all before it: `(y - y₀)/(1 - y₀)`.
    pub fn from_zero_at(&self, x: f64) -> Curve {
        let zero = self.at(x).min(0.99);
        Curve(self.0.iter().map(|&(x, y)| (x, ((y - zero) / (1.0 - zero)).max(0.0))).collect())
    }

    /// The first point, if there is one.
    pub fn first(&self) -> Option<(f64, f64)> {
        self.0.first().copied()
    }

    /// The last point, if there is one.
    pub fn last(&self) -> Option<(f64, f64)> {
        self.0.last().copied()
    }

    /// Why this is not a curve, or `None` if it is one: no points, a value that is not finite or negative,
    /// `x` not growing, or `y` falling.
    pub fn fault(&self) -> Option<String> {
        if self.0.is_empty() {
            return Some("has no points; give at least one [x, y]".into());
        }
        for (i, &(x, y)) in self.0.iter().enumerate() {
            if !(x.is_finite() && y.is_finite() && x >= 0.0 && y >= 0.0) {
                return Some(format!("point {i} is ({x}, {y}); both must be finite and not negative"));
            }
        }
        for (i, w) in self.0.windows(2).enumerate() {
            if w[1].0 <= w[0].0 {
                return Some(format!(
                    "point {} has x = {}, not above its predecessor's {}",
                    i + 1,
                    w[1].0,
                    w[0].0
                ));
            }
            if w[1].1 < w[0].1 {
                return Some(format!(
                    "point {} has y = {}, below its predecessor's {}",
                    i + 1,
                    w[1].1,
                    w[0].1
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolates_and_clamps() {
        let c = Curve(vec![(1.0, 10.0), (3.0, 30.0)]);
        assert_eq!(c.at(0.0), 10.0);
        assert_eq!(c.at(2.0), 20.0);
        assert_eq!(c.at(3.0), 30.0);
        assert_eq!(c.at(9.0), 30.0);
        assert_eq!(Curve::default().at(5.0), 0.0);
    }

    #[test]
    fn scaling_moves_both_axes() {
        let c = Curve(vec![(1.0, 10.0), (3.0, 30.0)]).scaled(2.0, 0.5);
        assert_eq!(c.at(4.0), 10.0);
    }

    #[test]
    fn shares_are_counted_from_a_point() {
        let c = Curve(vec![(1.0, 0.1), (2.0, 0.2), (3.0, 1.0)]).from_zero_at(2.0);
        assert_eq!((c.at(1.0), c.at(2.0), c.at(3.0)), (0.0, 0.0, 1.0));
    }

    #[test]
    fn faults_are_named() {
        assert!(Curve::default().fault().is_some_and(|f| f.contains("no points")));
        assert!(Curve(vec![(0.0, 1.0), (0.0, 2.0)]).fault().is_some_and(|f| f.contains("point 1")));
        assert!(Curve(vec![(0.0, 2.0), (1.0, 1.0)]).fault().is_some_and(|f| f.contains("below")));
        assert!(Curve(vec![(0.0, f64::NAN)]).fault().is_some());
        assert_eq!(Curve(vec![(0.0, 2.0), (1.0, 2.0)]).fault(), None);
    }
}
