//! Distances between arrivals, with mean 1 and a stated coefficient of variation.

use crate::LoadError;
use rand_distr::{Distribution, Exp1, Gamma, Weibull};
use serde::{Deserialize, Serialize};

/// How arrivals follow each other: the distribution of the distances between them. All distances are independent.
///
/// The coefficient of variation (CV) is the standard deviation of the distances over their mean: 0 for a clock, 1 for
/// a Poisson process, above 1 for bursts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "process", rename_all = "kebab-case")]
pub enum Process {
    /// Equal distances (CV 0). The first request arrives at once.
    Constant,
    /// Exponential distances (CV 1).
    Poisson,
    /// Gamma-distributed distances: shape 1/CV², scale CV² times the mean.
    Gamma {
        /// Coefficient of variation, 0.01 to 100.
        cv: f64,
    },
    /// Weibull-distributed distances; see [`weibull_shape`].
    Weibull {
        /// Coefficient of variation, 0.01 to 100.
        cv: f64,
    },
}

/// Coefficients of variation accepted.
const CV: (f64, f64) = (0.01, 100.0);

/// A process ready to draw distances of mean 1.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gaps {
    Constant,
    Poisson,
    Gamma(Gamma<f64>),
    Weibull(Weibull<f64>),
}

impl Gaps {
    pub(crate) fn new(process: Process) -> Result<Gaps, LoadError> {
        let checked = |process, cv: f64| {
            let refused = LoadError::Cv { process, cv, low: CV.0, high: CV.1 };
            if (CV.0..=CV.1).contains(&cv) { Ok(refused) } else { Err(refused) }
        };
        Ok(match process {
            Process::Constant => Gaps::Constant,
            Process::Poisson => Gaps::Poisson,
            Process::Gamma { cv } => {
                let refused = checked("gamma", cv)?;
                Gaps::Gamma(Gamma::new(1.0 / (cv * cv), cv * cv).map_err(|_| refused)?)
            }
            Process::Weibull { cv } => {
                let refused = checked("weibull", cv)?;
                let shape = weibull_shape(cv);
                let scale = (-libm::lgamma(1.0 + 1.0 / shape)).exp();
                Gaps::Weibull(Weibull::new(scale, shape).map_err(|_| refused)?)
            }
        })
    }

    /// Distance from the start to the first arrival.
    pub(crate) fn first(self, rng: &mut rand_pcg::Pcg64) -> f64 {
        if matches!(self, Gaps::Constant) { 0.0 } else { self.next(rng) }
    }

    /// Distance to the next arrival, in means.
    pub(crate) fn next(self, rng: &mut rand_pcg::Pcg64) -> f64 {
        match self {
            Gaps::Constant => 1.0,
            Gaps::Poisson => Exp1.sample(rng),
            Gaps::Gamma(d) => d.sample(rng),
            Gaps::Weibull(d) => d.sample(rng),
        }
    }
}

/// Shape `k` of the Weibull distribution with this coefficient of variation.
///
/// The CV of a Weibull distribution follows from its shape alone, CV² = Γ(1 + 2/k) / Γ(1 + 1/k)² − 1, and falls as the
/// shape grows; there is no closed form for the inverse, so it is found by bisection of ln k, to the last few bits.
/// Meaningful for 0.01 ≤ CV ≤ 100.
pub fn weibull_shape(cv: f64) -> f64 {
    let cv_of = |log_k: f64| {
        let k = log_k.exp();
        (libm::lgamma(1.0 + 2.0 / k) - 2.0 * libm::lgamma(1.0 + 1.0 / k)).exp_m1().max(0.0).sqrt()
    };
    // CV is 4e5 at k = 0.05 and 0.006 at k = 200.
    let (mut low, mut high) = (0.05f64.ln(), 200f64.ln());
    for _ in 0..200 {
        let middle = low.midpoint(high);
        if cv_of(middle) > cv { low = middle } else { high = middle }
    }
    low.midpoint(high).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weibull_shapes_agree_with_known_ones() {
        // CV 1 is the exponential distribution, shape 1. Shape 2 (Rayleigh): CV² = 4/π − 1. Shape 1/2: CV² = 5.
        assert!((weibull_shape(1.0) - 1.0).abs() < 1e-12);
        assert!((weibull_shape((4.0 / std::f64::consts::PI - 1.0).sqrt()) - 2.0).abs() < 1e-9);
        assert!((weibull_shape(5f64.sqrt()) - 0.5).abs() < 1e-12);
        // Shape 1/3: mean Γ(4) = 6, second moment Γ(7) = 720, CV² = 19.
        assert!((weibull_shape(19f64.sqrt()) - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn coefficients_out_of_range_are_refused_with_words() {
        for cv in [0.0, -1.0, 0.009, 101.0, f64::NAN, f64::INFINITY] {
            for process in [Process::Gamma { cv }, Process::Weibull { cv }] {
                let e = Gaps::new(process).expect_err("out of range");
                assert!(e.to_string().contains("between 0.01 and 100"), "{e}");
            }
        }
    }

    #[test]
    fn extreme_coefficients_are_accepted() {
        for cv in [0.01, 100.0] {
            assert!(Gaps::new(Process::Gamma { cv }).is_ok() && Gaps::new(Process::Weibull { cv }).is_ok());
        }
    }
}
