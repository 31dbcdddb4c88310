//! Special functions behind the tests: the regularised incomplete beta function and Student's t, and Kolmogorov's
//! limiting distribution. To about 1e-12 relative over the ranges that the tests use.
//!
//! Sources: Abramowitz and Stegun, "Handbook of mathematical functions", 26.5.8 (continued fraction), 26.7.1
//! (Student's t), 6.1.47 (ratio of gamma functions); Kolmogorov 1933 and the theta function's two series.

use std::f64::consts::PI;

/// `ln Γ(a + b) - ln Γ(a)` without the cancellation of two large logarithms.
fn ln_gamma_step(a: f64, b: f64) -> f64 {
    if b == 0.5 && a > 20.0 {
        // Asymptotic series of Γ(a + ½) / Γ(a); below 1e-16 from the fifth term on at a = 20.
        let (r, r2) = (1.0 / a, 1.0 / (a * a));
        let series = -1.0 / 8.0
            + r2 * (1.0 / 192.0
                + r2 * (-1.0 / 640.0
                    + r2 * (17.0 / 14336.0 + r2 * (-31.0 / 18432.0 + r2 * 691.0 / 180224.0))));
        return 0.5 * a.ln() + r * series;
    }
    libm::lgamma(a + b) - libm::lgamma(a)
}

/// Regularised incomplete beta function I_x(a, b) for positive `a` and `b`, given `x` and `y` = 1 - x (so that
/// neither loses digits near its end). NaN outside.
pub fn incomplete_beta(a: f64, b: f64, x: f64, y: f64) -> f64 {
    if !(a > 0.0 && b > 0.0 && (0.0..=1.0).contains(&x) && (0.0..=1.0).contains(&y)) {
        return f64::NAN;
    }
    if x == 0.0 || y == 0.0 {
        return if x == 0.0 { 0.0 } else { 1.0 };
    }
    // The fraction converges fast below the mean of the distribution; above it the complement does.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta_below(b, a, y, x);
    }
    incomplete_beta_below(a, b, x, y)
}

fn incomplete_beta_below(a: f64, b: f64, x: f64, y: f64) -> f64 {
    // x^a y^b / (a B(a, b)), with the larger parameter's gamma functions taken together.
    let (small, large) = (a.min(b), a.max(b));
    let ln_beta = libm::lgamma(small) - ln_gamma_step(large, small);
    let ln_x = if x > 0.5 { (-y).ln_1p() } else { x.ln() };
    let ln_y = if y > 0.5 { (-x).ln_1p() } else { y.ln() };
    let front = (a * ln_x + b * ln_y - ln_beta).exp() / a;
    front * fraction(a, b, x)
}

/// The continued fraction of the incomplete beta function by Lentz's method.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let keep = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / keep(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    // About sqrt(max(a, b)) steps are needed.
    for m in 1..100_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / keep(1.0 + even * d);
        c = keep(1.0 + even / c);
        value *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / keep(1.0 + odd * d);
        c = keep(1.0 + odd / c);
        let step = d * c;
        value *= step;
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    value
}

/// P(|T| ≥ |t|) for Student's t with `df` degrees of freedom. NaN for `df` that is not positive.
pub fn student_two_sided(t: f64, df: f64) -> f64 {
    if t.is_infinite() {
        return if df > 0.0 { 0.0 } else { f64::NAN };
    }
    let square = t * t;
    // The smaller share first: t² beside df, or df beside t².
    incomplete_beta(df / 2.0, 0.5, df / (df + square), square / (df + square))
}

/// P(K ≥ z) for Kolmogorov's limiting distribution of √n·D.
pub fn kolmogorov_sf(z: f64) -> f64 {
    if z <= 0.0 {
        return 1.0;
    }
    if z < 0.82 {
        // The theta function turned over: fast for small z, where the other series cancels.
        let first = (-PI * PI / (8.0 * z * z)).exp();
        let sum: f64 = (0..6).map(|k| first.powi((2 * k + 1) * (2 * k + 1))).sum();
        return 1.0 - (2.0 * PI).sqrt() / z * sum;
    }
    let term = |k: f64| (-2.0 * k * k * z * z).exp();
    2.0 * (term(1.0) - term(2.0) + term(3.0) - term(4.0) + term(5.0) - term(6.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn student_by_hand() {
        // One degree of freedom is Cauchy's distribution: P(|T| ≥ 1) = ½.
        assert!((student_two_sided(1.0, 1.0) - 0.5).abs() < 1e-15);
        // Two: P(|T| ≥ t) = 1 - t / sqrt(2 + t²).
        assert!((student_two_sided(3.0, 2.0) - (1.0 - 3.0 / 11f64.sqrt())).abs() < 1e-15);
        assert_eq!(student_two_sided(0.0, 5.0), 1.0);
        assert_eq!(student_two_sided(f64::INFINITY, 5.0), 0.0);
        assert!(student_two_sided(1.0, 0.0).is_nan());
        // Many degrees of freedom: the normal distribution.
        let p = student_two_sided(1.959963984540054, 1e7);
        assert!((p - 0.05).abs() < 1e-7, "{p}");
    }

    #[test]
    fn both_series_of_kolmogorov_meet() {
        for z in [0.8199999999, 0.82] {
            assert!((kolmogorov_sf(z) - 0.5118894).abs() < 1e-3, "{}", kolmogorov_sf(z));
        }
        assert!((kolmogorov_sf(0.82 - 1e-12) - kolmogorov_sf(0.82)).abs() < 1e-10);
        assert_eq!(kolmogorov_sf(0.0), 1.0);
        assert!((kolmogorov_sf(0.05) - 1.0).abs() < 1e-15);
    }

    proptest! {
        #[test]
        fn the_beta_function_and_its_complement_sum_to_one(
            a in 0.01f64..2000.0, b in 0.01f64..2000.0, x in 0.0f64..=1.0,
        ) {
            let (p, q) = (incomplete_beta(a, b, x, 1.0 - x), incomplete_beta(b, a, 1.0 - x, x));
            prop_assert!((p + q - 1.0).abs() < 1e-9, "{} {}", p, q);
            prop_assert!((-1e-12..=1.0 + 1e-12).contains(&p));
        }

        #[test]
        fn tails_fall(t in 0.0f64..50.0, df in 0.5f64..1e5) {
            prop_assert!(student_two_sided(t, df) >= student_two_sided(t + 0.5, df));
        }
    }
}
