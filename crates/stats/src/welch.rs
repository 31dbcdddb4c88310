//! Welch's t test: whether two independent samples have the same mean, without assuming equal variances.
//!
//! Source: Welch, "The generalization of 'Student's' problem when several different population variances are
//! involved", Biometrika 34, 1947, with the degrees of freedom of Satterthwaite.

use crate::special::student_two_sided;
use crate::{StatsError, check};
use serde::{Deserialize, Serialize};

/// Result of Welch's test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Welch {
    /// Difference of the means over its standard error; positive where the first is larger.
    pub t: f64,
    /// Degrees of freedom, not a whole number in general.
    pub df: f64,
    /// Two-sided p-value.
    pub p: f64,
}

/// Mean and variance (n - 1) in two passes.
pub(crate) fn mean_variance(xs: &[f64]) -> (f64, f64) {
    let n = xs.len() as f64;
    let mean = xs.iter().sum::<f64>() / n;
    let squares: f64 = xs.iter().map(|x| (x - mean) * (x - mean)).sum();
    // What the mean lost to rounding, taken out again.
    let rest: f64 = xs.iter().map(|x| x - mean).sum();
    (mean + rest / n, (squares - rest * rest / n) / (n - 1.0))
}

/// Welch's t test of `a` against `b`.
///
/// Two samples without spread give p = 1 where they are equal and p = 0 where not.
///
/// # Errors
/// Fewer than two observations in a sample, or a value that is not finite.
pub fn welch(a: &[f64], b: &[f64]) -> Result<Welch, StatsError> {
    check(a, "a t test", 2)?;
    check(b, "a t test", 2)?;
    let ((mean_a, var_a), (mean_b, var_b)) = (mean_variance(a), mean_variance(b));
    let (na, nb) = (a.len() as f64, b.len() as f64);
    let (ea, eb) = (var_a / na, var_b / nb);
    let error = (ea + eb).sqrt();
    let difference = mean_a - mean_b;
    if error <= 0.0 {
        let same = difference == 0.0;
        let t = if same { 0.0 } else { difference.signum() * f64::MAX };
        return Ok(Welch { t, df: na + nb - 2.0, p: if same { 1.0 } else { 0.0 } });
    }
    // Shares first: squares of tiny variances would vanish.
    let (sa, sb) = (ea / (ea + eb), eb / (ea + eb));
    let df = 1.0 / (sa * sa / (na - 1.0) + sb * sb / (nb - 1.0));
    let t = difference / error;
    Ok(Welch { t, df, p: student_two_sided(t, df).clamp(0.0, 1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_variances_by_hand() {
        // Means 2 and 4, variances 1, n = 3: t = -2 / sqrt(2/3), df = 4.
        let w = welch(&[1.0, 2.0, 3.0], &[3.0, 4.0, 5.0]).unwrap();
        assert!((w.t + 2.0 / (2.0f64 / 3.0).sqrt()).abs() < 1e-14 && (w.df - 4.0).abs() < 1e-12);
        assert!((w.p - 0.07048399691021993).abs() < 1e-12, "{}", w.p);
    }

    #[test]
    fn samples_without_spread() {
        assert_eq!(welch(&[2.0; 4], &[2.0; 3]).unwrap().p, 1.0);
        let w = welch(&[2.0; 4], &[3.0; 3]).unwrap();
        assert_eq!(w.p, 0.0);
        assert!(w.t.is_finite() && w.t < 0.0);
        assert!(welch(&[1.0], &[1.0, 2.0]).is_err());
    }

    proptest! {
        #[test]
        fn swapping_samples_turns_the_sign_only(
            a in prop::collection::vec(-1e3f64..1e3, 2..30), b in prop::collection::vec(-1e3f64..1e3, 2..30),
        ) {
            let (x, y) = (welch(&a, &b).unwrap(), welch(&b, &a).unwrap());
            prop_assert!((0.0..=1.0).contains(&x.p) && (x.p - y.p).abs() < 1e-12);
            prop_assert!(x.df >= a.len().min(b.len()) as f64 - 1.0 - 1e-9);
            prop_assert!(x.df <= (a.len() + b.len()) as f64 - 2.0 + 1e-6);
        }
    }
}
