//! Verdicts on ratios: faster, slower, same, or ambiguous (method rule 7).

use crate::StatsError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What can be said of a ratio of two times or rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Better than the base, beyond doubt.
    Faster,
    /// Worse than the base, beyond doubt.
    Slower,
    /// Equal to the base within the tolerance, beyond doubt.
    Same,
    /// The data do not tell.
    Ambiguous,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::Same => "same",
            Verdict::Ambiguous => "ambiguous",
        })
    }
}

/// Which direction of a metric is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Times, slowdowns.
    Lower,
    /// Speedups, rates.
    Higher,
}

/// The rule by which a verdict is given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judge {
    /// Two values are the same if the interval of their ratio lies within 1 ± this.
    pub tolerance: f64,
    /// Level of the corrected test.
    pub alpha: f64,
}

impl Default for Judge {
    /// ±2 %, α = 0.05.
    fn default() -> Self {
        Judge { tolerance: 0.02, alpha: 0.05 }
    }
}

impl Judge {
    /// A judge with a checked tolerance.
    ///
    /// # Errors
    /// A tolerance outside 0..1.
    pub fn with_tolerance(tolerance: f64) -> Result<Self, StatsError> {
        if (0.0..1.0).contains(&tolerance) {
            Ok(Judge { tolerance, ..Judge::default() })
        } else {
            Err(StatsError::Parameter {
                name: "tolerance",
                value: tolerance,
                expected: "a share from 0 to below 1",
            })
        }
    }

    /// Verdict on a ratio `value` (new over base) with its interval `[low, high]`.
    ///
    /// - `Same` if the whole interval lies within 1 ± tolerance: an equivalence, not a failure to find a
    ///   difference. It comes first, so that a difference too small to matter is not called one, however
    ///   significant.
    /// - `Faster` or `Slower` if the interval leaves out 1, or if the test of the difference is significant after
    ///   Holm's correction (`adjusted_p`, if one was made).
    /// - `Ambiguous` otherwise, and for values that are not finite.
    pub fn ratio(&self, value: f64, low: f64, high: f64, better: Better, adjusted_p: Option<f64>) -> Verdict {
        if !(value.is_finite() && low.is_finite() && high.is_finite()) || low > high {
            return Verdict::Ambiguous;
        }
        if low >= 1.0 - self.tolerance && high <= 1.0 + self.tolerance {
            return Verdict::Same;
        }
        let significant = adjusted_p.is_some_and(|p| p <= self.alpha);
        let above = low > 1.0 || (significant && value > 1.0);
        let below = high < 1.0 || (significant && value < 1.0);
        match (above, below, better) {
            (true, false, Better::Lower) | (false, true, Better::Higher) => Verdict::Slower,
            (false, true, Better::Lower) | (true, false, Better::Higher) => Verdict::Faster,
            _ => Verdict::Ambiguous,
        }
    }

    /// Verdict on two independent estimates, `new` and `base`, each `(value, low, high)`: as [`Judge::ratio`]
    /// on the quotient of the intervals (`new.low / base.high` to `new.high / base.low`, conservative), which
    /// leaves out 1 exactly when the two are disjoint. Ambiguous unless both are positive.
    pub fn independent(&self, new: (f64, f64, f64), base: (f64, f64, f64), better: Better) -> Verdict {
        if !(new.1 > 0.0 && base.1 > 0.0) {
            return Verdict::Ambiguous;
        }
        self.ratio(new.0 / base.0, new.1 / base.2, new.2 / base.1, better, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lower(value: f64, low: f64, high: f64) -> Verdict {
        Judge::default().ratio(value, low, high, Better::Lower, None)
    }

    #[test]
    fn each_verdict_has_its_case() {
        assert_eq!(lower(1.9, 1.85, 1.95), Verdict::Slower);
        assert_eq!(lower(0.9, 0.85, 0.95), Verdict::Faster);
        assert_eq!(lower(1.0, 0.99, 1.01), Verdict::Same);
        assert_eq!(lower(1.05, 0.95, 1.2), Verdict::Ambiguous);
    }

    #[test]
    fn a_small_but_certain_difference_is_the_same() {
        assert_eq!(lower(1.005, 1.004, 1.006), Verdict::Same);
    }

    #[test]
    fn a_wide_interval_around_one_is_ambiguous_and_never_the_same() {
        assert_eq!(lower(1.0, 0.9, 1.1), Verdict::Ambiguous);
        assert_eq!(lower(1.0, 0.99, 1.021), Verdict::Ambiguous);
    }

    #[test]
    fn the_corrected_test_may_decide_where_intervals_do_not() {
        let j = Judge::default();
        assert_eq!(j.ratio(1.1, 0.99, 1.2, Better::Lower, Some(0.01)), Verdict::Slower);
        assert_eq!(j.ratio(1.1, 0.99, 1.2, Better::Lower, Some(0.06)), Verdict::Ambiguous);
    }

    #[test]
    fn a_higher_speedup_is_faster() {
        let j = Judge::default();
        assert_eq!(j.ratio(1.9, 1.8, 2.0, Better::Higher, None), Verdict::Faster);
        assert_eq!(j.independent((1.0, 0.99, 1.01), (2.0, 1.9, 2.1), Better::Higher), Verdict::Slower);
        assert_eq!(j.independent((2.0, 1.9, 2.1), (2.0, 1.95, 2.05), Better::Higher), Verdict::Ambiguous);
        assert_eq!(j.independent((2.0, 1.99, 2.01), (2.0, 2.0, 2.0), Better::Higher), Verdict::Same);
    }

    #[test]
    fn nonsense_is_ambiguous() {
        assert_eq!(lower(f64::NAN, 1.0, 2.0), Verdict::Ambiguous);
        assert_eq!(lower(1.0, 2.0, 0.5), Verdict::Ambiguous);
        assert_eq!(lower(1.0, 1.0, f64::INFINITY), Verdict::Ambiguous);
        assert_eq!(
            Judge::default().independent((1.0, 1.0, 1.0), (0.0, 0.0, 0.0), Better::Lower),
            Verdict::Ambiguous
        );
        assert!(Judge::with_tolerance(1.5).is_err());
    }
}
