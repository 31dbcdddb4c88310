//! Hodges–Lehmann estimates of how far one sample lies from another.
//!
//! The problem: the estimate is the median of all `n·m` differences and its interval two other order statistics of
//! them, but for a thousand values each a list of the differences would be a million long and its sorting the
//! longest step of a report. With both samples sorted, the number of differences up to a value is counted in
//! `n + m` steps, and the k-th smallest is the smallest value with a count of at least k: found by halving the
//! range of the 2⁶⁴ doubles at most 64 times. The result is one of the differences, to the last bit.

use crate::hypothesis::{mann_whitney_exact, mann_whitney_tail};
use crate::interval::{Interval, Method};
use crate::{StatsError, check, normal, sorted};
use serde::{Deserialize, Serialize};

/// A shift with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Shift {
    /// Median of all differences `a[i] - b[j]`.
    pub value: f64,
    /// Its interval, from inverting the Mann–Whitney test. `level` is what was asked for, or what the whole range of
    /// the differences reaches where the samples are too small for that.
    pub interval: Interval,
}

/// Position of a double in the order of all doubles.
fn ordinal(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn from_ordinal(n: u64) -> f64 {
    f64::from_bits(if n >> 63 == 1 { n & !(1 << 63) } else { !n })
}

/// How many differences `a[i] - b[j]` are at most `v`; both sorted ascending.
fn count_up_to(a: &[f64], b: &[f64], v: f64) -> usize {
    let (mut j, mut count) = (0, 0);
    for x in a {
        // The larger a[i], the larger b[j] must be: j only grows.
        while j < b.len() && x - b[j] > v {
            j += 1;
        }
        count += b.len() - j;
    }
    count
}

/// The k-th smallest (from 1) of the differences of two sorted samples without an empty one.
fn kth(a: &[f64], b: &[f64], k: usize) -> f64 {
    let mut low = ordinal(a[0] - b[b.len() - 1]);
    let mut high = ordinal(a[a.len() - 1] - b[0]);
    while low < high {
        let middle = low + (high - low) / 2;
        if count_up_to(a, b, from_ordinal(middle)) >= k { high = middle } else { low = middle + 1 }
    }
    // -0 and +0 are neighbours in this order and equal in every other.
    from_ordinal(high) + 0.0
}

fn median_difference(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() * b.len();
    let upper = kth(a, b, n / 2 + 1);
    if n % 2 == 1 {
        return upper;
    }
    let lower = kth(a, b, n / 2);
    (lower + 0.5 * (upper - lower)).clamp(lower, upper)
}

/// Hodges–Lehmann estimate of the shift of `a` over `b`: the median of all differences `a[i] - b[j]`.
///
/// O((n + m) log), without a list of the differences.
///
/// # Errors
/// An empty sample, or a value that is not finite.
pub fn hodges_lehmann_shift(a: &[f64], b: &[f64]) -> Result<f64, StatsError> {
    let (a, b) = (sorted(a, "a shift", 1)?, sorted(b, "a shift", 1)?);
    Ok(median_difference(&a, &b))
}

/// [`hodges_lehmann_shift`] with its interval at `level`: the order statistics c and `n·m + 1 - c` of the
/// differences, where c is the largest number with P(U < c) ≤ (1 - level) / 2 under the Mann–Whitney null
/// distribution (exact for samples like those of [`crate::mann_whitney`], else normal with continuity correction).
/// Hollander, Wolfe and Chicken, section 4.3.
///
/// # Errors
/// An empty sample, a value that is not finite, or a level outside 0..1.
pub fn hodges_lehmann_interval(a: &[f64], b: &[f64], level: f64) -> Result<Shift, StatsError> {
    check(&[level], "a shift", 1)?;
    if !(level > 0.0 && level < 1.0) {
        return Err(StatsError::Parameter {
            name: "level",
            value: level,
            expected: "a share between 0 and 1",
        });
    }
    let (a, b) = (sorted(a, "a shift", 1)?, sorted(b, "a shift", 1)?);
    let (n1, n2) = (a.len(), b.len());
    let (tail, pairs) = ((1.0 - level) / 2.0, n1 * n2);
    let c = if mann_whitney_exact(n1, n2) {
        // P(U ≤ c - 1) = P(U ≥ n1·n2 - c + 1); few enough to try one after the other.
        (1..=pairs / 2).take_while(|c| mann_whitney_tail(n1, n2, pairs + 1 - c) <= tail).last().unwrap_or(0)
    } else {
        let (x, y) = (n1 as f64, n2 as f64);
        let sigma = (x * y * (x + y + 1.0) / 12.0).sqrt();
        let c = x * y / 2.0 + 0.5 + normal::quantile(tail) * sigma;
        if c < 1.0 { 0 } else { c as usize }
    };
    let value = median_difference(&a, &b);
    let (low, high, level) = if c == 0 {
        let reached =
            if mann_whitney_exact(n1, n2) { 1.0 - 2.0 * mann_whitney_tail(n1, n2, pairs) } else { 0.0 };
        (kth(&a, &b, 1), kth(&a, &b, pairs), reached.max(0.0).min(level))
    } else {
        (kth(&a, &b, c), kth(&a, &b, pairs + 1 - c), level)
    };
    Ok(Shift { value, interval: Interval { low, high, level, method: Method::OrderStatistics } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn differences(a: &[f64], b: &[f64]) -> Vec<f64> {
        let mut d: Vec<f64> = a.iter().flat_map(|x| b.iter().map(move |y| x - y)).collect();
        d.sort_unstable_by(f64::total_cmp);
        d
    }

    #[test]
    fn a_shift_despite_an_outlier() {
        let b = [1.0, 2.0, 3.0, 4.0, 5.0];
        let a = [3.0, 4.0, 5.0, 6.0, 700.0];
        assert_eq!(hodges_lehmann_shift(&a, &b), Ok(2.0));
        let s = hodges_lehmann_interval(&a, &b, 0.95).unwrap();
        // Tables: n = m = 5, c = 3 (P(U ≤ 2) = 4/252).
        let d = differences(&a, &b);
        assert_eq!((s.value, s.interval.low, s.interval.high), (2.0, d[2], d[22]));
        assert_eq!(s.interval.level, 0.95);
    }

    #[test]
    fn samples_too_small_for_the_level_say_so() {
        // 3 and 3: the whole range reaches 1 - 2/20 = 90 %.
        let s = hodges_lehmann_interval(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.5], 0.95).unwrap();
        assert_eq!((s.interval.low, s.interval.high), (0.5, 5.0));
        assert!((s.interval.level - 0.9).abs() < 1e-12);
        assert!(hodges_lehmann_interval(&[1.0], &[1.0], 1.0).is_err());
        assert!(hodges_lehmann_interval(&[1.0], &[], 0.9).is_err());
    }

    proptest! {
        #[test]
        fn order_statistics_are_those_of_the_list(
            a in prop::collection::vec(prop_oneof![-9i32..9, -10000i32..10000], 1..40),
            b in prop::collection::vec(-1e3f64..1e3, 1..40), k in 0usize..1600,
        ) {
            let a: Vec<f64> = a.into_iter().map(|x| f64::from(x) / 8.0).collect();
            let (x, y) = (sorted(&a, "x", 1).unwrap(), sorted(&b, "y", 1).unwrap());
            let d = differences(&a, &b);
            let k = k % d.len();
            prop_assert_eq!(kth(&x, &y, k + 1), d[k]);
        }

        #[test]
        fn the_interval_holds_the_estimate_and_moves_with_it(
            a in prop::collection::vec(-100i32..100, 1..30), b in prop::collection::vec(-100i32..100, 1..30),
        ) {
            let f = |v: &[i32], by: f64| v.iter().map(|x| f64::from(*x) + by).collect::<Vec<_>>();
            let s = hodges_lehmann_interval(&f(&a, 0.0), &f(&b, 0.0), 0.95).unwrap();
            prop_assert!(s.interval.low <= s.value && s.value <= s.interval.high);
            let moved = hodges_lehmann_interval(&f(&a, 64.0), &f(&b, 0.0), 0.95).unwrap();
            prop_assert_eq!(moved.value, s.value + 64.0);
            prop_assert_eq!(moved.interval.low, s.interval.low + 64.0);
        }
    }
}
