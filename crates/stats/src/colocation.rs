//! Throughput and fairness of tenants that share a machine, from their directed slowdowns (colocated time over
//! time alone). Definitions: Eyerman and Eeckhout, "System-level performance metrics for multiprogram
//! workloads", IEEE Micro 28(3), 2008; Jain, Chiu and Hawe, DEC TR-301, 1984.

use crate::{StatsError, check};

fn positive(slowdowns: &[f64]) -> Result<(), StatsError> {
    check(slowdowns, "a colocation metric", 1)?;
    match slowdowns.iter().find(|s| **s <= 0.0) {
        Some(&value) => Err(StatsError::Parameter { name: "slowdown", value, expected: "a positive ratio" }),
        None => Ok(()),
    }
}

/// System throughput: the sum of normalised progress, `Σ 1 / slowdown`. Equals the number of tenants when none
/// disturbs another, 1 when sharing gains nothing over taking turns.
///
/// # Errors
/// No slowdown, or one that is not a positive number.
pub fn stp(slowdowns: &[f64]) -> Result<f64, StatsError> {
    positive(slowdowns)?;
    Ok(slowdowns.iter().map(|s| 1.0 / s).sum())
}

/// Average normalised turnaround time: the mean slowdown.
///
/// # Errors
/// See [`stp`].
pub fn antt(slowdowns: &[f64]) -> Result<f64, StatsError> {
    positive(slowdowns)?;
    Ok(slowdowns.iter().sum::<f64>() / slowdowns.len() as f64)
}

/// Fairness as the smallest over the largest slowdown: 1 when all suffer equally.
///
/// # Errors
/// See [`stp`].
pub fn min_max_fairness(slowdowns: &[f64]) -> Result<f64, StatsError> {
    positive(slowdowns)?;
    let min = slowdowns.iter().copied().fold(f64::INFINITY, f64::min);
    let max = slowdowns.iter().copied().fold(0.0, f64::max);
    Ok(min / max)
}

/// Jain's index of shares (for example normalised progress): `(Σx)² / (n Σx²)`, 1 when all are equal and 1/n
/// when one has everything.
///
/// # Errors
/// No share, one that is negative or not finite, or all zero.
pub fn jain_index(shares: &[f64]) -> Result<f64, StatsError> {
    check(shares, "Jain's index", 1)?;
    if let Some(&value) = shares.iter().find(|s| **s < 0.0) {
        return Err(StatsError::Parameter { name: "share", value, expected: "zero or more" });
    }
    let largest = shares.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return Err(StatsError::Parameter { name: "share", value: 0.0, expected: "at least one above zero" });
    }
    // Scaled by the largest, so that squares neither overflow nor vanish.
    let (sum, squares) =
        shares.iter().fold((0.0, 0.0), |(a, b), s| (a + s / largest, b + (s / largest).powi(2)));
    Ok(sum * sum / (shares.len() as f64 * squares))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_tenants_by_hand() {
        assert_eq!(stp(&[1.0, 1.0]), Ok(2.0));
        assert_eq!(stp(&[2.0, 2.0]), Ok(1.0));
        assert_eq!(antt(&[1.0, 3.0]), Ok(2.0));
        assert_eq!(min_max_fairness(&[1.0, 4.0]), Ok(0.25));
        assert_eq!(jain_index(&[1.0, 1.0, 1.0]), Ok(1.0));
        assert_eq!(jain_index(&[5.0, 0.0]), Ok(0.5));
    }

    #[test]
    fn impossible_slowdowns_are_refused() {
        assert!(stp(&[]).is_err() && stp(&[0.0]).is_err() && antt(&[f64::NAN]).is_err());
        assert!(jain_index(&[0.0, 0.0]).is_err() && jain_index(&[-1.0]).is_err());
    }

    proptest! {
        #[test]
        fn jain_lies_between_one_nth_and_one(xs in prop::collection::vec(1e-200f64..1e200, 1..9)) {
            let j = jain_index(&xs).unwrap();
            prop_assert!(j <= 1.0 + 1e-12 && j >= 1.0 / xs.len() as f64 - 1e-12);
        }
    }
}
