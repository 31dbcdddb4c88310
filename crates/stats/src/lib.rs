//! Statistics of repeated measurements: quantiles, intervals, tests, verdicts and fairness. Pure functions on
//! slices of `f64`; nothing here knows what was measured. Units are those of the data unless said otherwise.
//!
//! Every random step takes a seed and gives the same numbers on every machine.

pub mod autocorrelation;
pub mod bootstrap;
pub mod colocation;
pub mod describe;
pub mod gaps;
pub mod hypothesis;
pub mod interval;
pub mod kde;
pub mod kolmogorov;
pub mod mser;
pub mod normal;
pub mod quantile;
pub mod shift;
pub mod sketch;
pub mod special;
pub mod verdict;
pub mod welch;

pub use autocorrelation::{Dependence, dependence};
pub use bootstrap::{Bootstrap, bca_interval, percentile_interval};
pub use colocation::{antt, jain_index, min_max_fairness, stp};
pub use describe::{Bounded, Description, Grouped};
pub use gaps::Gaps;
pub use hypothesis::{Test, hodges_lehmann_one_sample, holm, mann_whitney, sign_test, wilcoxon_signed_rank};
pub use interval::{Interval, Median, Method, median_interval, paired_ratio, precise_enough};
pub use kde::{Bandwidth, Kde};
pub use kolmogorov::kolmogorov_smirnov;
pub use mser::{mser, mser5};
pub use quantile::{Outlier, mark_outliers, median, quantile, quantile_sorted, quantiles};
pub use shift::{Shift, hodges_lehmann_interval, hodges_lehmann_shift};
pub use sketch::{Sketch, describe_sketches};
pub use verdict::{Better, Judge, Verdict};
pub use welch::{Welch, welch};

/// Why a statistic cannot be computed. Messages read after "failed to".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// Too few observations.
    #[error("estimate {what} from {got} observations: at least {need} needed")]
    TooFew {
        /// What was asked for.
        what: &'static str,
        /// Observations given.
        got: usize,
        /// Observations needed.
        need: usize,
    },
    /// A NaN or an infinity among the observations.
    #[error("use observation {index}: {value} is not a finite number")]
    NotFinite {
        /// Position in the slice.
        index: usize,
        /// The value.
        value: f64,
    },
    /// Two slices that belong together differ in length.
    #[error("pair {left} observations with {right}: the numbers must be equal")]
    Unpaired {
        /// Length of the first.
        left: usize,
        /// Length of the second.
        right: usize,
    },
    /// A parameter outside its range.
    #[error("use {name} = {value}: {expected} expected")]
    Parameter {
        /// Parameter.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What would be right.
        expected: &'static str,
    },
}

/// A sorted copy of `xs`, refused if a value is not finite or if there are fewer than `need`.
pub(crate) fn sorted(xs: &[f64], what: &'static str, need: usize) -> Result<Vec<f64>, StatsError> {
    check(xs, what, need)?;
    let mut v = xs.to_vec();
    v.sort_unstable_by(f64::total_cmp);
    Ok(v)
}

/// Refuses slices that are too short or hold a value that is not finite.
pub(crate) fn check(xs: &[f64], what: &'static str, need: usize) -> Result<(), StatsError> {
    if xs.len() < need {
        return Err(StatsError::TooFew { what, got: xs.len(), need });
    }
    match xs.iter().position(|x| !x.is_finite()) {
        Some(index) => Err(StatsError::NotFinite { index, value: xs[index] }),
        None => Ok(()),
    }
}
