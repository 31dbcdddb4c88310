//! Gaussian kernel density estimates: a histogram without bins.
//!
//! Bandwidth rules: Scott, "Multivariate density estimation", 1992; Silverman, "Density estimation for statistics
//! and data analysis", 1986, section 3.4.

use crate::quantile::quantile_sorted;
use crate::welch::mean_variance;
use crate::{StatsError, sorted};

/// How wide the kernels are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bandwidth {
    /// `n^(-1/5)` standard deviations: the default of SciPy.
    Scott,
    /// `(3n/4)^(-1/5)` standard deviations (SciPy's `silverman`).
    Silverman,
    /// `0.9 n^(-1/5)` times the smaller of standard deviation and interquartile range over 1.349 (Silverman's rule of
    /// thumb, his equation 3.31): a few far values do not blur the rest.
    Robust,
    /// As given, in the data's unit.
    Fixed(f64),
}

/// A density over one variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Kde {
    points: Vec<f64>,
    width: f64,
}

/// Kernels further away than this many bandwidths add less than 1e-31 of their peak and are left out.
const REACH: f64 = 12.0;

impl Kde {
    /// The density of `xs`.
    ///
    /// # Errors
    /// Fewer than two observations, a value that is not finite, or observations without spread: all equal, they have
    /// no density.
    pub fn new(xs: &[f64], bandwidth: Bandwidth) -> Result<Self, StatsError> {
        let points = sorted(xs, "a density", 2)?;
        let n = points.len() as f64;
        let deviation = mean_variance(&points).1.max(0.0).sqrt();
        let width = match bandwidth {
            Bandwidth::Scott => deviation * n.powf(-0.2),
            Bandwidth::Silverman => deviation * (0.75 * n).powf(-0.2),
            Bandwidth::Robust => {
                let quartiles = (quantile_sorted(&points, 0.75) - quantile_sorted(&points, 0.25)) / 1.349;
                let spread = if quartiles > 0.0 { quartiles.min(deviation) } else { deviation };
                0.9 * spread * n.powf(-0.2)
            }
            Bandwidth::Fixed(width) => width,
        };
        if !(width.is_finite() && width > 0.0) {
            return Err(StatsError::Parameter {
                name: "bandwidth",
                value: width,
                expected: "a positive number",
            });
        }
        Ok(Kde { points, width })
    }

    /// Standard deviation of each kernel, in the data's unit.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// The density at `x`, per unit of the data. O(observations near `x`).
    pub fn at(&self, x: f64) -> f64 {
        let reach = REACH * self.width;
        let from = self.points.partition_point(|p| *p < x - reach);
        let to = self.points.partition_point(|p| *p <= x + reach);
        let sum: f64 = self.points[from..to]
            .iter()
            .map(|p| {
                let z = (x - p) / self.width;
                (-0.5 * z * z).exp()
            })
            .sum();
        sum / (self.points.len() as f64 * self.width * (2.0 * std::f64::consts::PI).sqrt())
    }

    /// The density at `count` points evenly from `low` to `high`, as `(x, density)`. Empty for fewer than two points
    /// or ends that are not finite.
    pub fn grid(&self, low: f64, high: f64, count: usize) -> Vec<(f64, f64)> {
        if count < 2 || !(low.is_finite() && high.is_finite()) {
            return Vec::new();
        }
        let step = (high - low) / (count - 1) as f64;
        (0..count)
            .map(|i| {
                let x = low + step * i as f64;
                (x, self.at(x))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_kernel_is_the_normal_density() {
        let k = Kde::new(&[0.0, 0.0], Bandwidth::Fixed(1.0)).unwrap();
        assert!((k.at(0.0) - 0.3989422804014327).abs() < 1e-15);
        assert!((k.at(1.0) - 0.24197072451914337).abs() < 1e-15);
        assert_eq!(k.at(100.0), 0.0);
    }

    #[test]
    fn no_density_without_spread() {
        assert!(Kde::new(&[1.0; 5], Bandwidth::Scott).is_err());
        assert!(Kde::new(&[1.0], Bandwidth::Scott).is_err());
        assert!(Kde::new(&[1.0, 2.0], Bandwidth::Fixed(-1.0)).is_err());
    }

    #[test]
    fn far_values_do_not_blur_the_robust_density() {
        let mut xs: Vec<f64> = (0..200).map(|i| 10.0 + 0.001 * f64::from(i)).collect();
        xs.extend([100.0, 120.0]);
        let (scott, robust) =
            (Kde::new(&xs, Bandwidth::Scott).unwrap(), Kde::new(&xs, Bandwidth::Robust).unwrap());
        assert!(robust.width() < 0.03 && scott.width() > 1.0);
    }

    proptest! {
        #[test]
        fn a_density_is_positive_and_sums_to_one(xs in prop::collection::vec(-1e3f64..1e3, 2..60)) {
            let Ok(k) = Kde::new(&xs, Bandwidth::Scott) else { return Ok(()) };
            let (low, high) = (xs.iter().copied().fold(f64::MAX, f64::min), xs.iter().copied().fold(f64::MIN, f64::max));
            let (low, high) = (low - 9.0 * k.width(), high + 9.0 * k.width());
            let grid = k.grid(low, high, 2001);
            let step = (high - low) / 2000.0;
            // The trapezoidal rule is exact to rounding for a smooth function that vanishes at both ends.
            let sum: f64 = grid.iter().map(|g| g.1).sum::<f64>() * step;
            prop_assert!((sum - 1.0).abs() < 1e-6, "{}", sum);
            prop_assert!(grid.iter().all(|g| g.1 >= 0.0));
        }
    }
}
