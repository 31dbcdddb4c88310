//! Intervals of medians and of ratios.

use crate::bootstrap::Bootstrap;
use crate::quantile::quantile_sorted;
use crate::{StatsError, check, sorted};
use serde::{Deserialize, Serialize};

/// How an interval was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Two order statistics chosen by the binomial distribution: no assumption on the data's distribution.
    OrderStatistics,
    /// Percentile bootstrap. Used for medians of fewer than six observations, where no pair of order
    /// statistics reaches 95 %; such an interval tends to be too narrow.
    BootstrapPercentile,
    /// Bias-corrected and accelerated bootstrap.
    BootstrapBca,
}

/// An interval and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Nominal confidence level. Order statistics reach at least this.
    pub level: f64,
    /// How it was made.
    pub method: Method,
}

impl Interval {
    /// Whether `x` lies in it, ends included.
    pub fn contains(&self, x: f64) -> bool {
        self.low <= x && x <= self.high
    }

    /// Whether it has no point in common with `other`.
    pub fn disjoint(&self, other: &Interval) -> bool {
        self.high < other.low || other.high < self.low
    }
}

/// A median with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Median {
    /// The median.
    pub value: f64,
    /// Its interval.
    pub interval: Interval,
    /// Observations.
    pub n: usize,
}

impl Median {
    /// The larger distance from the median to an end of the interval, as a share of the median. Zero when the
    /// interval has no width; infinite when the median is zero and the interval is not.
    pub fn relative_half_width(&self) -> f64 {
        let half = (self.interval.high - self.value).max(self.value - self.interval.low);
        if half == 0.0 { 0.0 } else { half / self.value.abs() }
    }
}

/// Fewest observations for which a pair of order statistics covers the median with 95 %: `1 - 2 · 0.5⁶` is
/// 96.9 %, `1 - 2 · 0.5⁵` only 93.8 %.
pub const ORDER_STATISTICS_FROM: usize = 6;

/// The 1-based rank `l` of the lower order statistic of the interval `[x_(l), x_(n+1-l)]` that covers the median
/// with at least `level`: the largest `l` with `P(Bin(n, ½) ≤ l - 1) ≤ (1 - level) / 2`. `None` if even the
/// whole range covers less (n too small).
pub fn median_rank(n: usize, level: f64) -> Option<usize> {
    let tail = (1.0 - level) / 2.0;
    // Terms of the binomial distribution in logarithms: 0.5^n underflows beyond n = 1074.
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut below = 0.0;
    for k in 0..n {
        below += log_term.exp();
        if below > tail {
            return (k > 0).then_some(k);
        }
        log_term += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    None
}

/// The median of `xs` with its 95 % interval: distribution-free order statistics from six observations on, below
/// that a percentile bootstrap with a fixed seed (the interval says which).
///
/// # Errors
/// No observation, or a value that is not finite.
pub fn median_interval(xs: &[f64]) -> Result<Median, StatsError> {
    let v = sorted(xs, "a median", 1)?;
    let (n, level) = (v.len(), 0.95);
    let value = quantile_sorted(&v, 0.5);
    let interval = match median_rank(n, level) {
        Some(rank) => {
            Interval { low: v[rank - 1], high: v[n - rank], level, method: Method::OrderStatistics }
        }
        None => Bootstrap { level, ..Bootstrap::default() }.percentile(&v, |sample| {
            let mut s = sample.to_vec();
            s.sort_unstable_by(f64::total_cmp);
            quantile_sorted(&s, 0.5)
        })?,
    };
    Ok(Median { value, interval, n })
}

/// The median of the pairwise ratios `numerator[i] / denominator[i]` with its interval.
///
/// For observations that were taken next to each other (one shared and one solo phase of the same repeat): what
/// drifts slowly, such as clocks, cancels in each ratio, where a ratio of two medians would keep it.
///
/// # Errors
/// Slices of different lengths, no pair, a value that is not finite, or a denominator that is not positive.
pub fn paired_ratio(numerator: &[f64], denominator: &[f64]) -> Result<Median, StatsError> {
    if numerator.len() != denominator.len() {
        return Err(StatsError::Unpaired { left: numerator.len(), right: denominator.len() });
    }
    check(denominator, "a ratio", 1)?;
    check(numerator, "a ratio", 1)?;
    if let Some(&value) = denominator.iter().find(|d| **d <= 0.0) {
        return Err(StatsError::Parameter { name: "denominator", value, expected: "a positive number" });
    }
    let ratios: Vec<f64> = numerator.iter().zip(denominator).map(|(a, b)| a / b).collect();
    median_interval(&ratios)
}

/// Whether the 95 % interval of the median of `samples` lies within `target` (a share, 0.01 for ±1 %) of it:
/// the stopping rule. False for no samples, and for samples with a value that is not finite.
pub fn precise_enough(samples: &[f64], target: f64) -> bool {
    median_interval(samples).is_ok_and(|m| m.relative_half_width() <= target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranks_are_those_of_the_printed_tables() {
        // Conover, Practical Nonparametric Statistics, table of sign-test intervals, 95 %.
        for (n, l) in
            [(6, 1), (8, 1), (9, 2), (12, 3), (15, 4), (20, 6), (25, 8), (30, 10), (50, 18), (100, 40)]
        {
            assert_eq!(median_rank(n, 0.95), Some(l), "n = {n}");
        }
        for n in 0..6 {
            assert_eq!(median_rank(n, 0.95), None);
        }
        // Beyond the underflow of 0.5^n: about n/2 - 0.98 sqrt(n).
        let l = median_rank(10_000, 0.95).unwrap();
        assert!((4901..=4903).contains(&l), "{l}");
    }

    #[test]
    fn few_observations_say_that_they_were_bootstrapped() {
        let m = median_interval(&[1.0, 1.2, 0.9]).unwrap();
        assert_eq!(m.interval.method, Method::BootstrapPercentile);
        assert_eq!((m.value, m.interval.low, m.interval.high), (1.0, 0.9, 1.2));
        let one = median_interval(&[5.0]).unwrap();
        assert_eq!((one.interval.low, one.interval.high), (5.0, 5.0));
    }

    #[test]
    fn drift_cancels_in_paired_ratios() {
        // Both phases get 50 % slower over the run; the ratio is 2 all along.
        let solo: Vec<f64> = (0..20).map(|i| 1.0 + 0.025 * f64::from(i)).collect();
        let shared: Vec<f64> = solo.iter().map(|s| 2.0 * s).collect();
        let m = paired_ratio(&shared, &solo).unwrap();
        assert_eq!((m.value, m.interval.low, m.interval.high), (2.0, 2.0, 2.0));
        assert!(paired_ratio(&[1.0], &[0.0]).is_err());
        assert!(paired_ratio(&[1.0], &[]).is_err());
    }

    #[test]
    fn precision_is_a_share_of_the_median() {
        let tight: Vec<f64> = (0..20).map(|i| 100.0 + 0.01 * f64::from(i % 5)).collect();
        assert!(precise_enough(&tight, 0.01));
        let loose: Vec<f64> = (0..20).map(|i| 100.0 + f64::from(i)).collect();
        assert!(!precise_enough(&loose, 0.01));
        assert!(!precise_enough(&[], 0.01));
        assert!(!precise_enough(&[1.0, f64::NAN, 1.0, 1.0, 1.0, 1.0, 1.0], 0.01));
        assert!(precise_enough(&[0.0; 8], 0.01));
    }

    proptest! {
        #[test]
        fn the_median_lies_in_its_interval_and_scales(
            xs in prop::collection::vec(0.001f64..1e6, 1..60), k in 1u32..20,
        ) {
            let m = median_interval(&xs).unwrap();
            prop_assert!(m.interval.contains(m.value));
            // A power of two scales exactly.
            let f = f64::from(1u32 << k);
            let scaled: Vec<f64> = xs.iter().map(|x| x * f).collect();
            let s = median_interval(&scaled).unwrap();
            prop_assert_eq!(s.value, m.value * f);
            prop_assert_eq!(s.interval.low, m.interval.low * f);
        }
    }
}
