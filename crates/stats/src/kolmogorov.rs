//! Kolmogorov–Smirnov test: whether two independent samples come from one distribution, whatever differs.
//!
//! The problem: D is the largest distance of the two empirical distribution functions. If both samples are of one
//! distribution, every order of the `n1 + n2` values is as likely as any other, so p is the share of orders whose
//! D is at least the one seen. An order is a path over the lattice from (0, 0) to (n1, n2): a step to the right for
//! a value of the first sample, up for one of the second. D is reached where the path leaves the band
//! `|i/n1 - j/n2| < D`. Drawing the values one by one without putting back, the next is of the first sample with
//! probability (values of it left) / (values left): so the walk is a Markov chain, and p is the probability that it
//! ever leaves the band. Summing what leaves, rather than what stays, has only positive terms: a small p keeps all
//! its digits.

use crate::special::kolmogorov_sf;
use crate::{StatsError, Test, sorted};

/// Sample size up to which the exact distribution is used, as by SciPy's `auto`.
const EXACT_UP_TO: usize = 10_000;

/// Two-sample Kolmogorov–Smirnov test of `a` against `b`. The statistic is D.
///
/// Exact if no sample has more than 10,000 values, O(n1 · n2) at worst and O(n) for equal sizes; otherwise by Kolmogorov's limiting
/// distribution. With ties the exact p-value is too large rather than too small.
///
/// # Errors
/// An empty sample, or a value that is not finite.
pub fn kolmogorov_smirnov(a: &[f64], b: &[f64]) -> Result<Test, StatsError> {
    let (x, y) = (sorted(a, "a Kolmogorov–Smirnov test", 1)?, sorted(b, "a Kolmogorov–Smirnov test", 1)?);
    let (n1, n2) = (x.len() as u64, y.len() as u64);
    let g = gcd(n1, n2);
    // Distances in units of 1 / lcm(n1, n2), so that equal ones are equal.
    let (w1, w2) = (n2 / g, n1 / g);
    let mut largest = 0;
    let (mut i, mut j) = (0, 0);
    while i < x.len() && j < y.len() {
        let at = x[i].min(y[j]);
        while i < x.len() && x[i] <= at {
            i += 1;
        }
        while j < y.len() && y[j] <= at {
            j += 1;
        }
        largest = largest.max((i as u64 * w1).abs_diff(j as u64 * w2));
    }
    let lcm = n1 * w1;
    let d = largest as f64 / lcm as f64;
    let exact = n1.max(n2) <= EXACT_UP_TO as u64;
    let p = if exact {
        if n1 == n2 { leaving_equal(n1, largest) } else { leaving_probability(n1, n2, (w1, w2), largest) }
    } else {
        let (n1, n2) = (n1 as f64, n2 as f64);
        kolmogorov_sf(d * (n1 * n2 / (n1 + n2)).sqrt())
    };
    Ok(Test { statistic: d, p: p.clamp(0.0, 1.0), exact })
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// [`leaving_probability`] for n1 = n2 = n in closed form, by reflection (Gnedenko and Korolyuk 1951):
/// `2 Σ_k (-1)^(k-1) C(2n, n - k h) / C(2n, n)`. Terms fall, so the alternating sum keeps its digits.
fn leaving_equal(n: u64, h: u64) -> f64 {
    if h == 0 {
        return 1.0;
    }
    let (mut sum, mut sign, mut ratio, mut done) = (0.0, 1.0, 1.0, 0);
    for s in (1..=n / h).map(|k| k * h) {
        // From s' = done to s: C(2n, n - s) = C(2n, n - s') Π (n - i + 1) / (n + i), i in s'+1..=s.
        for i in done + 1..=s {
            ratio *= (n - i + 1) as f64 / (n + i) as f64;
        }
        done = s;
        sum += sign * ratio;
        sign = -sign;
        if ratio < 1e-17 * sum {
            break;
        }
    }
    2.0 * sum
}

/// Probability that a random path from (0, 0) to (n1, n2) visits a point with `|i·w1 - j·w2| ≥ h`.
fn leaving_probability(n1: u64, n2: u64, (w1, w2): (u64, u64), h: u64) -> f64 {
    if h == 0 {
        return 1.0;
    }
    // Along the longer side, so that rows are short.
    if n1 < n2 {
        return leaving_probability(n2, n1, (w2, w1), h);
    }
    let total = n1 + n2;
    // inside[j]: probability of standing at (i, j) having stayed within.
    let mut inside = vec![0.0f64; n2 as usize + 1];
    inside[0] = 1.0;
    let mut left = 0.0;
    // The band of row i: first and last j within; empty if the first is the larger.
    let band = |i: u64| {
        let low = (i * w1).saturating_sub(h - 1).div_ceil(w2);
        let high = ((i * w1 + h - 1) / w2).min(n2);
        (low, high)
    };
    // One over the number of values left: a division in each step would be most of the time.
    let share: Vec<f64> = (0..=total).map(|left| 1.0 / left.max(1) as f64).collect();
    for i in 0..=n1 {
        let (low, high) = band(i);
        if i > 0 {
            // A step to the right out of row i - 1, into the band or out of it.
            let (from, to) = band(i - 1);
            let of_first = (n1 - i + 1) as f64;
            for j in from..=to {
                inside[j as usize] *= of_first * share[(total - (i - 1) - j) as usize];
            }
            // The band only moves up: what lies below it now has left.
            for j in from..low.min(to + 1) {
                left += std::mem::take(&mut inside[j as usize]);
            }
        }
        if low > high {
            // No point of this row lies within.
            continue;
        }
        // Steps up within row i, from the lowest point on; only the last can leave the band.
        let mut here = inside[low as usize];
        for j in low..high {
            here = inside[j as usize + 1] + here * ((n2 - j) as f64 * share[(total - i - j) as usize]);
            inside[j as usize + 1] = here;
        }
        if high < n2 {
            left += here * ((n2 - high) as f64 * share[(total - i - high) as usize]);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        // Complete separation of 3 and 3: 2 of 20 orders reach D = 1.
        let t = kolmogorov_smirnov(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]).unwrap();
        assert_eq!((t.statistic, t.exact), (1.0, true));
        assert!((t.p - 0.1).abs() < 1e-15);
        // One against one: always D = 1.
        assert_eq!(kolmogorov_smirnov(&[1.0], &[2.0]).unwrap().p, 1.0);
        assert_eq!(kolmogorov_smirnov(&[5.0; 4], &[5.0; 7]).unwrap().p, 1.0);
        assert!(kolmogorov_smirnov(&[], &[1.0]).is_err());
    }

    #[test]
    fn a_tiny_p_keeps_its_digits() {
        // Complete separation of n and n: 2 of C(2n, n).
        let a: Vec<f64> = (0..200).map(f64::from).collect();
        let b: Vec<f64> = (200..400).map(f64::from).collect();
        let p = kolmogorov_smirnov(&a, &b).unwrap().p;
        let ln = 2f64.ln() - (libm::lgamma(401.0) - 2.0 * libm::lgamma(201.0));
        assert!((p.ln() - ln).abs() < 1e-9, "{} {ln}", p.ln());
    }

    #[test]
    fn large_samples_use_the_limit() {
        let a: Vec<f64> = (0..10_001).map(f64::from).collect();
        let b: Vec<f64> = (0..9_000).map(|i| f64::from(i) + 0.5).collect();
        let t = kolmogorov_smirnov(&a, &b).unwrap();
        assert!(!t.exact && t.p < 1e-30);
    }

    /// Orders counted one by one.
    fn brute(n1: u32, n2: u32, d: f64) -> f64 {
        let n = n1 + n2;
        let (mut hit, mut all) = (0, 0);
        for mask in 0u32..1 << n {
            if mask.count_ones() != n1 {
                continue;
            }
            all += 1;
            let (mut i, mut j, mut top) = (0, 0, 0f64);
            for bit in 0..n {
                if mask >> bit & 1 == 1 {
                    i += 1
                } else {
                    j += 1
                }
                top = top.max((f64::from(i) / f64::from(n1) - f64::from(j) / f64::from(n2)).abs());
            }
            hit += u32::from(top >= d - 1e-9);
        }
        f64::from(hit) / f64::from(all)
    }

    proptest! {
        #[test]
        fn exact_p_is_the_share_of_orders(
            a in prop::collection::vec(0u32..1000, 1..7), b in prop::collection::vec(0u32..1000, 1..7),
        ) {
            let a: Vec<f64> = a.into_iter().map(f64::from).collect();
            let b: Vec<f64> = b.into_iter().map(f64::from).collect();
            let t = kolmogorov_smirnov(&a, &b).unwrap();
            let expected = brute(a.len() as u32, b.len() as u32, t.statistic);
            prop_assert!((t.p - expected).abs() < 1e-12, "{} {}", t.p, expected);
            if a.len() == b.len() {
                let n = a.len() as u64;
                let h = (t.statistic * n as f64).round() as u64;
                prop_assert!((leaving_probability(n, n, (1, 1), h) - t.p).abs() < 1e-12);
            }
            let swapped = kolmogorov_smirnov(&b, &a).unwrap();
            prop_assert!((t.p - swapped.p).abs() < 1e-12);
            prop_assert_eq!(t.statistic, swapped.statistic);
        }
    }
}
