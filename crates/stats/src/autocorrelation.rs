//! How much a series of observations says about its own next value, and how many independent ones it is worth.
//!
//! Iterations of a model follow each other: a slow clock, a neighbour's phase or a pause of the host lasts for several
//! of them. A test that takes them for independent finds differences that are not there.

use crate::{StatsError, check};
use serde::{Deserialize, Serialize};

/// Dependence within a series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Dependence {
    /// Autocorrelation at lag 1, -1..1.
    pub lag1: f64,
    /// Number of independent observations that would fix the mean as well, 1..=n.
    pub effective: f64,
}

/// Lags that are looked at. A series whose correlation reaches further has no useful effective size.
const LAGS: usize = 1000;

/// Autocorrelation of the observations in `groups` (each in the order of time, one per repeat) about their common
/// mean; pairs across groups do not count. The effective size is `n / (1 + 2 Σ ρ_k)`, summed over lags as long as the
/// sums of two neighbouring ρ stay positive (Geyer, "Practical Markov chain Monte Carlo", Statist. Sci. 7, 1992). A
/// level that differs from group to group counts as dependence.
///
/// Without spread lag 1 is 0 and the effective size n.
///
/// # Errors
/// No observation, or a value that is not finite.
pub fn dependence(groups: &[&[f64]]) -> Result<Dependence, StatsError> {
    for g in groups {
        check(g, "an autocorrelation", 0)?;
    }
    let n: usize = groups.iter().map(|g| g.len()).sum();
    if n == 0 {
        return Err(StatsError::TooFew { what: "an autocorrelation", got: 0, need: 1 });
    }
    let mean = groups.iter().flat_map(|g| g.iter()).sum::<f64>() / n as f64;
    // Divided by the number of pairs of that lag: with short groups a common divisor would damp the higher lags.
    let covariance = |lag: usize| {
        let (mut sum, mut pairs) = (0.0, 0usize);
        for g in groups.iter().filter(|g| g.len() > lag) {
            sum += g.iter().zip(&g[lag..]).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
            pairs += g.len() - lag;
        }
        if pairs == 0 { 0.0 } else { sum / pairs as f64 }
    };
    let variance = covariance(0);
    let longest = groups.iter().map(|g| g.len()).max().unwrap_or(0).min(LAGS);
    // Equal values leave rounding errors behind.
    let spread = variance > (mean * 1e-12).powi(2);
    if !spread || longest < 2 {
        return Ok(Dependence { lag1: 0.0, effective: n as f64 });
    }
    let rho = |lag: usize| if lag < longest { (covariance(lag) / variance).clamp(-1.0, 1.0) } else { 0.0 };
    let lag1 = rho(1);
    let mut sum = 0.0;
    let mut lag = 1;
    // Pairs (ρ_0 + ρ_1), (ρ_2 + ρ_3), …: the first is 1 + ρ_1 and never negative.
    sum += lag1;
    while lag + 2 < longest {
        let pair = rho(lag + 1) + rho(lag + 2);
        if pair <= 0.0 {
            break;
        }
        sum += pair;
        lag += 2;
    }
    let inflation = (1.0 + 2.0 * sum).max(1.0);
    Ok(Dependence { lag1, effective: (n as f64 / inflation).max(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};

    /// x' = φ x + noise, noise uniform.
    fn autoregressive(phi: f64, n: usize, seed: u64) -> Vec<f64> {
        let mut rng = rand_pcg::Pcg64Mcg::seed_from_u64(seed);
        let mut x = 0.0;
        (0..n)
            .map(|_| {
                x = phi * x + (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64 - 0.5;
                x
            })
            .collect()
    }

    #[test]
    fn a_known_process_is_recovered() {
        let xs = autoregressive(0.6, 20_000, 3);
        let d = dependence(&[&xs]).unwrap();
        assert!((d.lag1 - 0.6).abs() < 0.03, "{d:?}");
        // n (1 - φ) / (1 + φ) = n / 4.
        assert!((d.effective / 5000.0 - 1.0).abs() < 0.15, "{d:?}");
        let white = autoregressive(0.0, 20_000, 4);
        let d = dependence(&[&white]).unwrap();
        assert!(d.lag1.abs() < 0.03 && d.effective > 17_000.0, "{d:?}");
    }

    #[test]
    fn groups_at_different_levels_are_worth_as_many_as_groups() {
        let groups: Vec<Vec<f64>> = (0..8)
            .map(|g| autoregressive(0.0, 100, g).iter().map(|x| 50.0 * g as f64 + x).collect())
            .collect();
        let d = dependence(&groups.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        assert!(d.lag1 > 0.99 && d.effective < 9.0, "{d:?}");
    }

    #[test]
    fn no_spread_no_dependence() {
        assert_eq!(dependence(&[&[2.0; 9]]), Ok(Dependence { lag1: 0.0, effective: 9.0 }));
        assert_eq!(dependence(&[&[2.0]]), Ok(Dependence { lag1: 0.0, effective: 1.0 }));
        assert!(dependence(&[&[]]).is_err() && dependence(&[&[f64::NAN]]).is_err());
    }

    proptest! {
        #[test]
        fn the_effective_size_lies_within_the_size(
            groups in prop::collection::vec(prop::collection::vec(-1e6f64..1e6, 0..40), 1..6),
        ) {
            let views: Vec<&[f64]> = groups.iter().map(Vec::as_slice).collect();
            let n: usize = groups.iter().map(Vec::len).sum();
            if let Ok(d) = dependence(&views) {
                prop_assert!(d.effective >= 1.0 && d.effective <= n as f64);
                prop_assert!((-1.0..=1.0).contains(&d.lag1));
            }
        }
    }
}
