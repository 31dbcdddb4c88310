//! Quantiles and outliers.
//!
//! Quantiles are of Hyndman and Fan's type 7 (linear interpolation of the order statistics at `(n - 1) p`), the
//! default of NumPy and R, so that our percentiles agree with what a user computes from the stored samples.

use crate::{StatsError, sorted};
use serde::{Deserialize, Serialize};

/// The `p`-quantile of `xs` (`p` in 0..=1), type 7. `xs` need not be sorted.
///
/// # Errors
/// No observation, a value that is not finite, or `p` outside 0..=1.
pub fn quantile(xs: &[f64], p: f64) -> Result<f64, StatsError> {
    if !(0.0..=1.0).contains(&p) {
        return Err(StatsError::Parameter { name: "p", value: p, expected: "a share from 0 to 1" });
    }
    Ok(quantile_sorted(&sorted(xs, "a quantile", 1)?, p))
}

/// The quantiles at these shares, in their order: the values are sorted once.
///
/// # Errors
/// As [`quantile`].
pub fn quantiles(xs: &[f64], shares: &[f64]) -> Result<Vec<f64>, StatsError> {
    let v = sorted(xs, "a quantile", 1)?;
    shares
        .iter()
        .map(|&p| match p {
            0.0..=1.0 => Ok(quantile_sorted(&v, p)),
            _ => Err(StatsError::Parameter { name: "p", value: p, expected: "a share from 0 to 1" }),
        })
        .collect()
}

/// The median (type 7: mean of the two middle values when their number is even).
///
/// # Errors
/// See [`quantile`].
pub fn median(xs: &[f64]) -> Result<f64, StatsError> {
    quantile(xs, 0.5)
}

/// As [`quantile`] for a non-empty sorted slice of finite values and `p` in 0..=1. NaN for an empty slice.
pub fn quantile_sorted(v: &[f64], p: f64) -> f64 {
    let Some(last) = v.len().checked_sub(1) else { return f64::NAN };
    let h = last as f64 * p.clamp(0.0, 1.0);
    let i = (h.floor() as usize).min(last);
    let (a, b) = (v[i], v[(i + 1).min(last)]);
    // Written so that equal neighbours give exactly their value, and the result never leaves [a, b].
    (a + (h - i as f64) * (b - a)).clamp(a, b)
}

/// Where an observation lies relative to Tukey's fences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outlier {
    /// Within 1.5 interquartile ranges of the quartiles.
    No,
    /// Beyond 1.5, within 3.
    Mild,
    /// Beyond 3.
    Severe,
}

/// Marks each observation by Tukey's fences (1.5 and 3 interquartile ranges beyond the quartiles). Nothing is
/// removed: a median needs no cleaning, but a report should say how many there were.
///
/// With fewer than four observations nothing is marked.
///
/// # Errors
/// A value that is not finite.
pub fn mark_outliers(xs: &[f64]) -> Result<Vec<Outlier>, StatsError> {
    let v = sorted(xs, "outliers", 0)?;
    if v.len() < 4 {
        return Ok(vec![Outlier::No; v.len()]);
    }
    let (q1, q3) = (quantile_sorted(&v, 0.25), quantile_sorted(&v, 0.75));
    let iqr = q3 - q1;
    Ok(xs
        .iter()
        .map(|&x| {
            let beyond = (q1 - x).max(x - q3);
            if beyond > 3.0 * iqr {
                Outlier::Severe
            } else if beyond > 1.5 * iqr {
                Outlier::Mild
            } else {
                Outlier::No
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn several_are_what_each_is_alone() {
        let xs = [3.0, 1.0, 2.0, 9.0];
        let each: Vec<f64> =
            [0.0, 0.5, 0.9, 1.0].iter().map(|&p| quantile(&xs, p).expect("a share")).collect();
        assert_eq!(quantiles(&xs, &[0.0, 0.5, 0.9, 1.0]).expect("shares"), each);
        assert!(quantiles(&xs, &[0.5, 1.5]).is_err() && quantiles(&[], &[0.5]).is_err());
    }

    #[test]
    fn small_samples_by_hand() {
        assert_eq!(median(&[3.0]), Ok(3.0));
        assert_eq!(median(&[4.0, 1.0]), Ok(2.5));
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 0.25), Ok(1.75));
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0], 1.0), Ok(4.0));
    }

    #[test]
    fn bad_input_is_named() {
        assert_eq!(median(&[]), Err(StatsError::TooFew { what: "a quantile", got: 0, need: 1 }));
        assert!(matches!(median(&[1.0, f64::NAN]), Err(StatsError::NotFinite { index: 1, .. })));
        let e = quantile(&[1.0], 99.0).unwrap_err();
        assert_eq!(e.to_string(), "use p = 99: a share from 0 to 1 expected");
    }

    #[test]
    fn a_far_value_is_marked_and_its_neighbours_are_not() {
        let marks = mark_outliers(&[10.0, 10.1, 9.9, 10.05, 9.95, 10.45, 30.0]).unwrap();
        assert_eq!(marks[6], Outlier::Severe);
        assert_eq!(marks[5], Outlier::No);
        assert_eq!(mark_outliers(&[1.0, 1.0, 1.0, 1.0, 1.1]).unwrap()[4], Outlier::Severe);
        assert_eq!(mark_outliers(&[1.0, 99.0]).unwrap(), [Outlier::No, Outlier::No]);
    }

    proptest! {
        #[test]
        fn quantiles_grow_with_p_and_stay_in_range(
            xs in prop::collection::vec(-1e9f64..1e9, 1..50), p in 0.0f64..=1.0, q in 0.0f64..=1.0,
        ) {
            let (lo, hi) = (p.min(q), p.max(q));
            let (a, b) = (quantile(&xs, lo).unwrap(), quantile(&xs, hi).unwrap());
            prop_assert!(a <= b);
            prop_assert!(a >= quantile(&xs, 0.0).unwrap() && b <= quantile(&xs, 1.0).unwrap());
        }
    }
}
