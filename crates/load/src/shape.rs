//! Whether arrivals are what was asked for.
//!
//! [`shape`] measures a stream; [`departs`] compares it with a process at a flat rate. For both, distances between
//! arrivals ("gaps") are taken as they come; the one before the first arrival is not looked at.

use crate::{Process, weibull_shape};
use serde::{Deserialize, Serialize};

const NS: f64 = 1e9;
/// Fewest gaps a shape is taken from.
const FEWEST: usize = 8;
/// Standard errors beyond which a number departs.
const ERRORS: f64 = 4.0;

/// Departures below this are not told however many arrivals show them: of a coefficient of variation, of a correlation,
/// and of a rate as a part of it. Clocks and the rounding to nanoseconds leave traces of their own.
pub const NEGLIGIBLE: f64 = 0.02;

/// How a stream of arrivals looks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Gaps: one fewer than arrivals.
    pub gaps: usize,
    /// Mean rate, requests per second: one over the mean gap.
    pub rate_per_s: f64,
    /// Coefficient of variation of the gaps.
    pub cv: f64,
    /// Correlation of a gap with the one 1, 2, … 5 places later; 0 for equal gaps.
    pub autocorrelation: [f64; 5],
    /// Variance over mean of the counts in windows, 1 for a Poisson process; `None` for fewer than two whole windows
    /// between the first arrival and the last, or for windows without arrivals.
    pub dispersion: Option<f64>,
    /// Whole windows that were counted.
    pub windows: usize,
}

/// One way in which arrivals are not what was asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "departure", rename_all = "kebab-case")]
pub enum Departure {
    /// The mean rate.
    #[error("the rate is {found:.4} requests/s; {asked:.4} was asked for (±{within:.4} is chance)")]
    Rate {
        /// Measured, requests per second.
        found: f64,
        /// Asked for, requests per second.
        asked: f64,
        /// Difference that is within chance, requests per second.
        within: f64,
    },
    /// The coefficient of variation of the gaps.
    #[error(
        "the coefficient of variation of the gaps is {found:.3}; {asked:.3} was asked for ({low:.3} to {high:.3} is chance)"
    )]
    Cv {
        /// Measured.
        found: f64,
        /// Asked for.
        asked: f64,
        /// Smallest that is within chance.
        low: f64,
        /// Largest that is within chance.
        high: f64,
    },
    /// The correlation of gaps, which should be independent.
    #[error(
        "gaps {lag} apart are correlated ({found:.3}); they should be independent (±{within:.3} is chance)"
    )]
    Autocorrelation {
        /// Places apart, 1 to 5.
        lag: usize,
        /// Measured.
        found: f64,
        /// Size that is within chance.
        within: f64,
    },
    /// The spread of counts in windows (told for Poisson processes).
    #[error(
        "counts in windows have a variance of {found:.3} means; a Poisson process has 1 ({low:.3} to {high:.3} is chance)"
    )]
    Dispersion {
        /// Measured.
        found: f64,
        /// Smallest that is within chance.
        low: f64,
        /// Largest that is within chance.
        high: f64,
    },
}

/// The shape of a stream of arrivals: offsets in ns, ascending; counts are taken in windows of `window_ns`, of which
/// the first begins at the first arrival and which does not count that arrival.
///
/// `None` for fewer than nine arrivals, offsets that descend or are all alike, or a window of 0.
pub fn shape(offsets_ns: &[u64], window_ns: u64) -> Option<Shape> {
    let (&first, &last) = (offsets_ns.first()?, offsets_ns.last()?);
    if offsets_ns.len() <= FEWEST || !offsets_ns.is_sorted() || first == last || window_ns == 0 {
        return None;
    }
    let gaps: Vec<f64> = offsets_ns.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
    let n = gaps.len() as f64;
    let mean = gaps.iter().sum::<f64>() / n;
    let squares: f64 = gaps.iter().map(|g| (g - mean) * (g - mean)).sum();
    let mut autocorrelation = [0.0; 5];
    for (lag, r) in (1..).zip(&mut autocorrelation) {
        let products: f64 =
            gaps.iter().zip(gaps.iter().skip(lag)).map(|(a, b)| (a - mean) * (b - mean)).sum();
        *r = if squares > 0.0 { products / squares } else { 0.0 };
    }
    // Whole windows only. Sums are enough, so a small window costs no memory.
    let windows = (last - first) / window_ns;
    let (mut counted, mut sum_of_squares) = (0.0, 0.0);
    let mut rest = offsets_ns.get(1..)?;
    while let Some(&at) = rest.first() {
        let window = (at - first) / window_ns;
        if window >= windows {
            break;
        }
        let here = rest.partition_point(|&o| (o - first) / window_ns == window);
        counted += here as f64;
        sum_of_squares += here as f64 * here as f64;
        rest = rest.get(here..)?;
    }
    let m = windows as f64;
    let per_window = counted / m;
    let dispersion = (windows >= 2 && counted > 0.0)
        .then(|| ((sum_of_squares - m * per_window * per_window) / (m - 1.0)).max(0.0) / per_window);
    Some(Shape {
        gaps: gaps.len(),
        rate_per_s: NS / mean,
        cv: (squares / (n - 1.0)).sqrt() / mean,
        autocorrelation,
        dispersion,
        windows: usize::try_from(windows).unwrap_or(usize::MAX),
    })
}

/// Coefficient of variation of the gaps of a process.
pub fn expected(process: &Process) -> f64 {
    match *process {
        Process::Constant => 0.0,
        Process::Poisson => 1.0,
        Process::Gamma { cv } | Process::Weibull { cv } => cv,
    }
}

/// Second, third and fourth central moment of the gaps of a process, whose mean is 1.
fn moments(process: &Process) -> [f64; 3] {
    let gamma = |cv: f64| {
        // Skewness 2c, kurtosis 3 + 6c².
        let v = cv * cv;
        [v, 2.0 * v * v, v * v * (3.0 + 6.0 * v)]
    };
    match *process {
        Process::Constant => [0.0; 3],
        Process::Poisson => gamma(1.0),
        Process::Gamma { cv } => gamma(cv),
        Process::Weibull { cv } => {
            let k = weibull_shape(cv);
            let raw = |j: f64| (libm::lgamma(1.0 + j / k) - j * libm::lgamma(1.0 + 1.0 / k)).exp();
            let (m2, m3, m4) = (raw(2.0), raw(3.0), raw(4.0));
            [cv * cv, m3 - 3.0 * m2 + 2.0, m4 - 4.0 * m3 + 6.0 * m2 - 3.0]
        }
    }
}

/// In which ways a stream departs from a process at a flat rate, which is looked at where it is given; none where all
/// differences are within chance.
///
/// Each number departs beyond about four standard errors, and beyond [`NEGLIGIBLE`]. With `n` gaps of mean 1 and
/// central moments μ₂, μ₃, μ₄, and with `c` the coefficient of variation asked for:
///
/// - Rate: the mean gap has the standard error c/√n as a part of it.
/// - Coefficient of variation: the estimate is √(variance)/mean, so by the delta method its variance is
///   (μ₂² − μ₃ + (μ₄ − μ₂²)/(4μ₂))/n; that is 1/n for a Poisson process and c²(1 + c²)/(2n) for a gamma one. Compared
///   is its logarithm, which is less skewed. Heavy tails need many gaps: where four standard errors are more than the
///   number itself, this is not looked at.
/// - Autocorrelation: for independent gaps of any distribution with a variance, the standard error is 1/√n and the
///   mean −1/n. With a coefficient above 2 a few long gaps make most of the sum, and it is far from normal: the bound is
///   wider by c/2 there (enough in simulated streams of 100 to 10 000 gaps, c up to 6). Not looked at for a constant process, where there is nothing to correlate.
/// - Dispersion, for Poisson processes only (for others it depends on the window) and from windows with one arrival or
///   more on average: given their sum, the counts of m windows are multinomial, so (m − 1) times the dispersion is
///   about χ² with k = m − 1 degrees of freedom; its cube root is normal (Wilson and Hilferty), of mean 1 − 2/(9k) and
///   variance 2/(9k) for the dispersion itself.
///
/// Not meant for loads with a profile, whose rate changes.
pub fn departs(shape: &Shape, process: &Process, rate_per_s: Option<f64>) -> Vec<Departure> {
    let n = shape.gaps.max(1) as f64;
    let cv = expected(process);
    let mut out = Vec::new();
    if let Some(asked) = rate_per_s {
        let part = (ERRORS * cv / n.sqrt()).max(NEGLIGIBLE);
        // Compared as mean gaps, whose error this is: the rate is skewed.
        if (asked / shape.rate_per_s - 1.0).abs() > part {
            out.push(Departure::Rate { found: shape.rate_per_s, asked, within: part * asked });
        }
    }
    let [m2, m3, m4] = moments(process);
    let error =
        if m2 > 0.0 { ((m2 * m2 - m3 + (m4 - m2 * m2) / (4.0 * m2)).max(0.0) / n).sqrt() / cv } else { 0.0 };
    if ERRORS * error < 1.0 {
        let low = (cv * (-ERRORS * error).exp()).min(cv - NEGLIGIBLE);
        let high = (cv * (ERRORS * error).exp()).max(cv + NEGLIGIBLE);
        if !(low..=high).contains(&shape.cv) {
            out.push(Departure::Cv { found: shape.cv, asked: cv, low: low.max(0.0), high });
        }
    }
    if cv > 0.0 {
        let within = (ERRORS / n.sqrt() * (cv / 2.0).max(1.0)).max(NEGLIGIBLE);
        for (lag, &found) in (1..).zip(&shape.autocorrelation) {
            if (found + 1.0 / n).abs() > within {
                out.push(Departure::Autocorrelation { lag, found, within });
            }
        }
    }
    if let (Process::Poisson, Some(found)) = (process, shape.dispersion)
        && shape.windows <= shape.gaps
    {
        let part = 2.0 / (9.0 * (shape.windows.max(2) - 1) as f64);
        let bound = |errors: f64| (1.0 - part + errors * part.sqrt()).max(0.0).powi(3);
        let (low, high) = (bound(-ERRORS).min(1.0 - NEGLIGIBLE), bound(ERRORS).max(1.0 + NEGLIGIBLE));
        if !(low..=high).contains(&found) {
            out.push(Departure::Dispersion { found, low, high });
        }
    }
    out
}
