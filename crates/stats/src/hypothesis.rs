//! Rank tests, the pseudo-median, and Holm's correction for many tests.
//!
//! Sources: Hollander, Wolfe and Chicken, "Nonparametric statistical methods", 3rd ed., chapters 3 and 4;
//! Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979. All tests are
//! two-sided and agree with SciPy to 1e-9 (see `tests/scipy.rs`).

use crate::quantile::quantile_sorted;
use crate::{StatsError, check, normal};
use serde::{Deserialize, Serialize};

/// Result of a two-sided test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Test {
    /// The statistic: U of the first sample, the sum of positive ranks, the number of positive differences, or D.
    pub statistic: f64,
    /// Two-sided p-value.
    pub p: f64,
    /// From the exact distribution rather than an approximation for many observations.
    pub exact: bool,
}

/// Mid-ranks (1-based) of `xs`, and `Σ (t³ - t)` over groups of `t` ties.
fn ranks(xs: &[f64]) -> (Vec<f64>, f64) {
    let mut order: Vec<usize> = (0..xs.len()).collect();
    order.sort_unstable_by(|&i, &j| xs[i].total_cmp(&xs[j]));
    let (mut ranks, mut ties) = (vec![0.0; xs.len()], 0.0);
    let mut start = 0;
    while start < order.len() {
        let mut end = start + 1;
        while end < order.len() && xs[order[end]] == xs[order[start]] {
            end += 1;
        }
        let mid = (start + 1 + end) as f64 / 2.0;
        for &i in &order[start..end] {
            ranks[i] = mid;
        }
        let t = (end - start) as f64;
        ties += t * t * t - t;
        start = end;
    }
    (ranks, ties)
}

/// Samples up to this size (of the smaller one, Mann–Whitney) use the exact distribution when nothing ties.
const EXACT_UP_TO: usize = 8;
/// Pairs up to which Wilcoxon's test is exact when nothing ties.
const EXACT_PAIRS: usize = 50;
/// Larger of two samples up to which Mann–Whitney is exact; the table has `n1 · n2` entries.
const EXACT_OTHER: usize = 400;

/// Mann–Whitney U test of whether one of two independent samples tends to larger values.
///
/// Sort based, O(n log n). Exact when the smaller sample has at most 8 values and nothing ties; otherwise the
/// normal approximation with tie and continuity correction.
///
/// # Errors
/// An empty sample, or a value that is not finite.
pub fn mann_whitney(a: &[f64], b: &[f64]) -> Result<Test, StatsError> {
    check(a, "a Mann–Whitney test", 1)?;
    check(b, "a Mann–Whitney test", 1)?;
    let joined: Vec<f64> = a.iter().chain(b).copied().collect();
    let (rank, ties) = ranks(&joined);
    let (n1, n2) = (a.len() as f64, b.len() as f64);
    let n = n1 + n2;
    let u1 = rank[..a.len()].iter().sum::<f64>() - n1 * (n1 + 1.0) / 2.0;
    let u = u1.max(n1 * n2 - u1);
    let exact = ties == 0.0 && mann_whitney_exact(a.len(), b.len());
    let p = if exact {
        2.0 * mann_whitney_tail(a.len(), b.len(), u as usize)
    } else {
        let variance = n1 * n2 / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)));
        // All values equal: no evidence of anything.
        if variance <= 0.0 { 1.0 } else { 2.0 * normal::sf((u - n1 * n2 / 2.0 - 0.5) / variance.sqrt()) }
    };
    Ok(Test { statistic: u1, p: p.min(1.0), exact })
}

/// Whether the exact null distribution is used for samples of these sizes.
pub(crate) fn mann_whitney_exact(n1: usize, n2: usize) -> bool {
    n1.min(n2) <= EXACT_UP_TO && n1.max(n2) <= EXACT_OTHER
}

/// P(U ≥ u) without ties: the number of ways to place `n1` among `n1 + n2` ranks with statistic k has the Gaussian
/// binomial coefficient as generating function, built up by multiplying by `(1 - q^(n2+i)) / (1 - q^i)`.
pub(crate) fn mann_whitney_tail(n1: usize, n2: usize, u: usize) -> f64 {
    let (m, n) = (n1.min(n2), n1.max(n2));
    let size = m * n + 1;
    let mut ways = vec![0.0; size];
    ways[0] = 1.0;
    // The counts are whole numbers far below 2^53 for the sizes allowed here, so each step is exact.
    for i in 1..=m {
        for k in (n + i..size).rev() {
            ways[k] -= ways[k - n - i];
        }
        for k in i..size {
            ways[k] += ways[k - i];
        }
    }
    let total: f64 = ways.iter().sum();
    ways[u.min(size)..].iter().sum::<f64>() / total
}

/// Wilcoxon's signed-rank test of whether paired differences are symmetric about zero. Zero differences are left
/// out (Wilcoxon's own rule).
///
/// Exact for at most 50 pairs without ties among the absolute differences and without zeros; otherwise the normal
/// approximation with tie and continuity correction. The p-value is 1 if all differences are zero.
///
/// # Errors
/// No pair, slices of different lengths, or a value that is not finite.
pub fn wilcoxon_signed_rank(a: &[f64], b: &[f64]) -> Result<Test, StatsError> {
    let (differences, zeros) = differences(a, b)?;
    if differences.is_empty() {
        return Ok(Test { statistic: 0.0, p: 1.0, exact: true });
    }
    let sizes: Vec<f64> = differences.iter().map(|d| d.abs()).collect();
    let (rank, ties) = ranks(&sizes);
    let plus: f64 = differences.iter().zip(&rank).filter(|(d, _)| **d > 0.0).map(|(_, r)| r).sum();
    let n = differences.len();
    let exact = n <= EXACT_PAIRS && ties == 0.0 && zeros == 0;
    let p = if exact {
        let tail = signed_rank_tail(n, plus as usize);
        let other = signed_rank_tail(n, n * (n + 1) / 2 - plus as usize);
        2.0 * tail.min(other)
    } else {
        let nf = n as f64;
        let mean = nf * (nf + 1.0) / 4.0;
        let variance = nf * (nf + 1.0) * (2.0 * nf + 1.0) / 24.0 - ties / 48.0;
        2.0 * normal::sf((((plus - mean).abs() - 0.5) / variance.sqrt()).max(0.0))
    };
    Ok(Test { statistic: plus, p: p.min(1.0), exact })
}

/// P(T ≥ t) for the sum of positive ranks of `n` pairs: the share of the 2ⁿ subsets of 1..=n with that sum.
fn signed_rank_tail(n: usize, t: usize) -> f64 {
    let size = n * (n + 1) / 2 + 1;
    let mut share = vec![0.0; size];
    share[0] = 1.0;
    for rank in 1..=n {
        for k in (0..size).rev() {
            let with = if k >= rank { share[k - rank] } else { 0.0 };
            share[k] = 0.5 * (share[k] + with);
        }
    }
    share[t.min(size)..].iter().sum()
}

/// Sign test: the exact binomial test of whether paired differences are as often positive as negative. Zero
/// differences are left out. Assumes nothing on their distribution.
///
/// # Errors
/// As [`wilcoxon_signed_rank`].
pub fn sign_test(a: &[f64], b: &[f64]) -> Result<Test, StatsError> {
    let (differences, _) = differences(a, b)?;
    let n = differences.len();
    let plus = differences.iter().filter(|d| **d > 0.0).count();
    let fewer = plus.min(n - plus);
    let mut log_term = -(n as f64) * std::f64::consts::LN_2;
    let mut below = 0.0;
    for k in 0..=fewer {
        below += log_term.exp();
        log_term += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    Ok(Test { statistic: plus as f64, p: (2.0 * below).min(1.0), exact: true })
}

/// The non-zero differences `a[i] - b[i]`, and how many were zero.
fn differences(a: &[f64], b: &[f64]) -> Result<(Vec<f64>, usize), StatsError> {
    if a.len() != b.len() {
        return Err(StatsError::Unpaired { left: a.len(), right: b.len() });
    }
    check(a, "a paired test", 1)?;
    check(b, "a paired test", 1)?;
    let all: Vec<f64> = a.iter().zip(b).map(|(x, y)| x - y).filter(|d| *d != 0.0).collect();
    let zeros = a.len() - all.len();
    Ok((all, zeros))
}

/// Hodges–Lehmann pseudo-median: the median of the averages of all pairs `i ≤ j`. O(n²).
///
/// # Errors
/// An empty sample, or a value that is not finite.
pub fn hodges_lehmann_one_sample(xs: &[f64]) -> Result<f64, StatsError> {
    check(xs, "a pseudo-median", 1)?;
    let mut d = Vec::with_capacity(xs.len() * (xs.len() + 1) / 2);
    for (i, x) in xs.iter().enumerate() {
        d.extend(xs[i..].iter().map(|y| (x + y) / 2.0));
    }
    d.sort_unstable_by(f64::total_cmp);
    Ok(quantile_sorted(&d, 0.5))
}

/// Holm's step-down correction: adjusted p-values, in the order given. A test whose adjusted value is at most α
/// is significant with a family-wise error of at most α, whatever the dependence between the tests.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&i, &j| p[i].total_cmp(&p[j]));
    let mut adjusted = vec![1.0; p.len()];
    let mut floor: f64 = 0.0;
    for (k, &i) in order.iter().enumerate() {
        // A p-value that is not a number is no evidence.
        let value = if p[i].is_nan() { 1.0 } else { ((p.len() - k) as f64 * p[i]).min(1.0) };
        floor = floor.max(value);
        adjusted[i] = floor;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn mann_whitney_by_hand() {
        // Complete separation of 3 and 3: 2 of C(6, 3) = 20 arrangements are as extreme.
        let t = mann_whitney(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]).unwrap();
        assert_eq!((t.statistic, t.exact), (0.0, true));
        assert!((t.p - 0.1).abs() < 1e-15);
        assert_eq!(mann_whitney(&[1.0; 5], &[1.0; 9]).unwrap().p, 1.0);
    }

    #[test]
    fn the_exact_distribution_sums_to_one_at_its_largest() {
        assert!((mann_whitney_tail(8, 400, 0) - 1.0).abs() < 1e-12);
        assert!((mann_whitney_tail(8, 400, 1600) - 0.5).abs() < 1e-3);
        assert!((signed_rank_tail(50, 0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn wilcoxon_and_sign_by_hand() {
        // Five positive differences: 2 / 2^5.
        let (a, b) = ([2.0, 3.1, 4.3, 5.6, 7.0], [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!((wilcoxon_signed_rank(&a, &b).unwrap().p - 0.0625).abs() < 1e-15);
        assert!((sign_test(&a, &b).unwrap().p - 0.0625).abs() < 1e-15);
        assert_eq!(wilcoxon_signed_rank(&a, &a).unwrap().p, 1.0);
        assert_eq!(sign_test(&a, &a).unwrap().p, 1.0);
        assert!(sign_test(&a, &b[1..]).is_err());
    }

    #[test]
    fn holm_by_hand() {
        let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]);
        let expected = [0.03, 0.06, 0.06, 0.02];
        for (a, e) in adjusted.iter().zip(expected) {
            assert!((a - e).abs() < 1e-15, "{adjusted:?}");
        }
        assert_eq!(holm(&[f64::NAN, 0.5]), [1.0, 1.0]);
        assert!(holm(&[]).is_empty());
    }

    #[test]
    fn the_pseudo_median_by_hand() {
        assert_eq!(hodges_lehmann_one_sample(&[1.0, 2.0, 3.0]), Ok(2.0));
    }

    proptest! {
        #[test]
        fn p_values_are_shares_and_swapping_samples_keeps_them(
            a in prop::collection::vec(-50i32..50, 1..30), b in prop::collection::vec(-50i32..50, 1..30),
        ) {
            let a: Vec<f64> = a.into_iter().map(f64::from).collect();
            let b: Vec<f64> = b.into_iter().map(f64::from).collect();
            let (x, y) = (mann_whitney(&a, &b).unwrap(), mann_whitney(&b, &a).unwrap());
            prop_assert!((0.0..=1.0).contains(&x.p));
            prop_assert!((x.p - y.p).abs() < 1e-12);
            prop_assert!((x.statistic + y.statistic - (a.len() * b.len()) as f64).abs() < 1e-9);
            let n = a.len().min(b.len());
            for t in [wilcoxon_signed_rank(&a[..n], &b[..n]).unwrap(), sign_test(&a[..n], &b[..n]).unwrap()] {
                prop_assert!((0.0..=1.0).contains(&t.p));
            }
        }

        #[test]
        fn holm_never_lowers_and_keeps_the_order(p in prop::collection::vec(0.0f64..1.0, 0..20)) {
            let h = holm(&p);
            for i in 0..p.len() {
                prop_assert!(h[i] >= p[i] && h[i] <= 1.0);
                for j in 0..p.len() {
                    prop_assert!(p[i] > p[j] || h[i] <= h[j]);
                }
            }
        }
    }
}
