//! Bootstrap intervals: percentile and BCa (Efron 1987, "Better bootstrap confidence intervals").
//!
//! The generator is PCG-64 with a given seed; indices are drawn by multiplication, so a seed gives the same
//! resamples on every machine and with every version of this crate's dependencies.

use crate::interval::{Interval, Method};
use crate::quantile::quantile_sorted;
use crate::{StatsError, check, normal};
use rand::Rng;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

/// How to resample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bootstrap {
    /// Number of resamples.
    pub resamples: usize,
    /// Seed.
    pub seed: u64,
    /// Confidence level, for example 0.95.
    pub level: f64,
}

impl Default for Bootstrap {
    /// 2,000 resamples, 95 %.
    fn default() -> Self {
        Bootstrap { resamples: 2000, seed: 0x5eed_c07e, level: 0.95 }
    }
}

impl Bootstrap {
    /// The statistic of each resample of `n` items, given the indices drawn; unsorted, in order of drawing.
    ///
    /// Resampling by index lets the items be anything, for example whole repeats with all their requests.
    pub fn distribution(&self, n: usize, mut statistic: impl FnMut(&[usize]) -> f64) -> Vec<f64> {
        let mut rng = Pcg64Mcg::seed_from_u64(self.seed);
        let mut draw = vec![0usize; n];
        (0..self.resamples)
            .map(|_| {
                for slot in &mut draw {
                    *slot = index_below(rng.next_u64(), n);
                }
                statistic(&draw)
            })
            .collect()
    }

    /// Percentile interval of `statistic` over resamples of `xs`.
    ///
    /// # Errors
    /// No observation, a value that is not finite, or a level outside 0..1.
    pub fn percentile(&self, xs: &[f64], statistic: impl Fn(&[f64]) -> f64) -> Result<Interval, StatsError> {
        check(xs, "a bootstrap interval", 1)?;
        percentile_interval(&self.values(xs, &statistic), self.level)
    }

    /// BCa interval of `statistic` over resamples of `xs`: corrected for bias and for a spread that changes
    /// with the value. Falls back to the percentile interval where the correction is not defined (all
    /// resamples on one side of the estimate, or a jackknife without spread).
    ///
    /// # Errors
    /// As [`Bootstrap::percentile`].
    pub fn bca(&self, xs: &[f64], statistic: impl Fn(&[f64]) -> f64) -> Result<Interval, StatsError> {
        check(xs, "a bootstrap interval", 1)?;
        bca_interval(&self.values(xs, &statistic), xs, statistic, self.level)
    }

    fn values(&self, xs: &[f64], statistic: &impl Fn(&[f64]) -> f64) -> Vec<f64> {
        let mut sample = vec![0.0; xs.len()];
        self.distribution(xs.len(), |draw| {
            for (slot, &i) in sample.iter_mut().zip(draw) {
                *slot = xs[i];
            }
            statistic(&sample)
        })
    }
}

/// An index below `n` from 64 random bits, by multiplication: bias below n / 2^64, which no sample can show.
fn index_below(bits: u64, n: usize) -> usize {
    ((u128::from(bits) * n as u128) >> 64) as usize
}

/// Percentile interval of a bootstrap distribution.
///
/// # Errors
/// No value, one that is not finite, or a level outside 0..1.
pub fn percentile_interval(distribution: &[f64], level: f64) -> Result<Interval, StatsError> {
    let tail = tail(level)?;
    let v = crate::sorted(distribution, "a bootstrap interval", 1)?;
    Ok(Interval {
        low: quantile_sorted(&v, tail),
        high: quantile_sorted(&v, 1.0 - tail),
        level,
        method: Method::BootstrapPercentile,
    })
}

/// BCa interval from a bootstrap distribution of `statistic` over `xs`; see [`Bootstrap::bca`].
///
/// # Errors
/// As [`percentile_interval`], or a value of `xs` that is not finite.
pub fn bca_interval(
    distribution: &[f64],
    xs: &[f64],
    statistic: impl Fn(&[f64]) -> f64,
    level: f64,
) -> Result<Interval, StatsError> {
    let plain = percentile_interval(distribution, level)?;
    check(xs, "a bootstrap interval", 1)?;
    let tail = tail(level)?;
    let v = crate::sorted(distribution, "a bootstrap interval", 1)?;
    let estimate = statistic(xs);

    // Bias: where the estimate stands among the resamples, ties counted half.
    let less = v.partition_point(|&x| x < estimate);
    let less_or_equal = v.partition_point(|&x| x <= estimate);
    let z0 = normal::quantile((less + less_or_equal) as f64 / (2.0 * v.len() as f64));

    // Acceleration from the jackknife.
    let n = xs.len() as f64;
    let mut rest = Vec::with_capacity(xs.len());
    let leave_one_out: Vec<f64> = (0..xs.len())
        .map(|skip| {
            rest.clear();
            rest.extend(xs.iter().enumerate().filter(|&(i, _)| i != skip).map(|(_, x)| *x));
            if rest.is_empty() { estimate } else { statistic(&rest) }
        })
        .collect();
    let mean = leave_one_out.iter().sum::<f64>() / n;
    let (mut cubes, mut squares) = (0.0, 0.0);
    for x in &leave_one_out {
        let u = (n - 1.0) * (mean - x);
        squares += u * u;
        cubes += u * u * u;
    }
    let acceleration = (cubes / n.powi(3)) / (6.0 * (squares / n.powi(2)).powf(1.5));
    if !z0.is_finite() || !acceleration.is_finite() {
        return Ok(plain);
    }
    let at = |z: f64| normal::cdf(z0 + (z0 + z) / (1.0 - acceleration * (z0 + z)));
    let z = normal::quantile(tail);
    let (a, b) = (at(z), at(-z));
    if a.is_nan() || b.is_nan() || a > b {
        return Ok(plain);
    }
    Ok(Interval {
        low: quantile_sorted(&v, a),
        high: quantile_sorted(&v, b),
        level,
        method: Method::BootstrapBca,
    })
}

fn tail(level: f64) -> Result<f64, StatsError> {
    if level > 0.0 && level < 1.0 {
        Ok((1.0 - level) / 2.0)
    } else {
        Err(StatsError::Parameter { name: "level", value: level, expected: "a share between 0 and 1" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantile::median;
    use proptest::prelude::*;

    fn mean(xs: &[f64]) -> f64 {
        xs.iter().sum::<f64>() / xs.len() as f64
    }

    #[test]
    fn the_seed_decides_the_result() {
        let xs: Vec<f64> = (0..40).map(|i| f64::from(i * i % 17)).collect();
        let b = Bootstrap { resamples: 500, seed: 7, level: 0.95 };
        assert_eq!(b.bca(&xs, mean), b.bca(&xs, mean));
        assert_ne!(b.bca(&xs, mean), Bootstrap { seed: 8, ..b }.bca(&xs, mean));
    }

    #[test]
    fn the_stream_of_draws_is_pinned() {
        // A change of generator would silently change every stored interval.
        let b = Bootstrap { resamples: 1, seed: 1, level: 0.95 };
        let mut first = Vec::new();
        b.distribution(8, |draw| {
            first = draw.to_vec();
            0.0
        });
        assert_eq!(first, [6, 1, 3, 5, 2, 4, 3, 5]);
    }

    #[test]
    fn a_constant_sample_has_an_interval_of_no_width() {
        let i = Bootstrap::default().bca(&[2.5; 9], |v| median(v).unwrap_or(f64::NAN)).unwrap();
        assert_eq!((i.low, i.high, i.method), (2.5, 2.5, Method::BootstrapPercentile));
    }

    #[test]
    fn coverage_of_the_mean_is_near_the_level() {
        // 300 samples of 30 from a skewed distribution with mean 1; nominal 95 %.
        let mut rng = Pcg64Mcg::seed_from_u64(42);
        let mut hit = 0;
        for seed in 0..300 {
            let xs: Vec<f64> = (0..30)
                .map(|_| -(((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64).ln())
                .collect();
            let i = Bootstrap { resamples: 400, seed, level: 0.95 }.bca(&xs, mean).unwrap();
            hit += u32::from(i.low <= 1.0 && 1.0 <= i.high);
        }
        assert!((265..=298).contains(&hit), "{hit} of 300");
    }

    proptest! {
        #[test]
        fn intervals_are_ordered_and_inside_the_data(
            xs in prop::collection::vec(-1e6f64..1e6, 1..20), seed in 0u64..1000,
        ) {
            let b = Bootstrap { resamples: 100, seed, level: 0.9 };
            let (lo, hi) = (xs.iter().copied().fold(f64::MAX, f64::min), xs.iter().copied().fold(f64::MIN, f64::max));
            for i in [b.bca(&xs, |v| median(v).unwrap_or(f64::NAN)).unwrap(), b.percentile(&xs, |v| median(v).unwrap_or(f64::NAN)).unwrap()] {
                prop_assert!(i.low <= i.high && i.low >= lo && i.high <= hi);
            }
        }
    }
}
