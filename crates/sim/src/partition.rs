//! Which SMs a sharing mode gives to each tenant.

use crate::{SimError, SmSet};
use cotenant_model::DeviceCard;

/// SMs that an MPS client with this `CUDA_MPS_ACTIVE_THREAD_PERCENTAGE` sees.
///
/// From the card's table where it has that percentage; else the share of the SMs rounded down to whole pairs
/// (TPCs), at least the granularity, as seen on the H100 (5 → 8, 30 → 38, 75 → 98).
///
/// # Errors
/// If the percentage is not above 0 and at most 100.
pub fn mps_sms(card: &DeviceCard, percentage: f64) -> Result<u32, SimError> {
    if !(percentage > 0.0 && percentage <= 100.0) {
        return Err(SimError::Percentage { percentage });
    }
    if let Some(&(_, n)) = card.sharing.mps_percentage_sms.iter().find(|p| (p.0 - percentage).abs() < 1e-9) {
        return Ok(n);
    }
    let all = card.spec.sms;
    let exact = (percentage / 100.0 * f64::from(all)).floor() as u32;
    Ok((exact & !1).max(card.spec.sm_granularity).min(all))
}

/// SM sets of MPS clients with these percentages (none given: 100).
///
/// Clients get SMs one after the other and wrap around at the end. MPS promises a number of SMs, not which ones:
/// on the H100 two clients of 66 SMs have 6 in common although there is room for both apart
/// (`sharing.mps_half_common_sms`). So each set begins that much before the end of the one before, in proportion
/// to the smaller of the two and rounded down, which leaves sets of a few SMs disjoint.
///
/// # Errors
/// If a percentage is not above 0 and at most 100.
pub fn mps(card: &DeviceCard, percentages: &[f64]) -> Result<Vec<SmSet>, SimError> {
    let all = card.spec.sms;
    let half = mps_sms(card, 50.0)?.max(1);
    let common = card.sharing.mps_half_common_sms.unwrap_or(0).min(half);
    // Where the set before ends, and how many SMs it has.
    let mut end = 0;
    let mut before = 0;
    percentages
        .iter()
        .map(|&p| {
            let n = mps_sms(card, p)?;
            let shared = common * before.min(n) / half;
            let from = end + all - shared.min(all);
            let set = (0..n).map(|i| (from + i) % all).collect();
            if n < all {
                end = (from + n) % all;
                before = n;
            }
            Ok(set)
        })
        .collect()
}

/// SMs that a green context is given when it asks for `asked`: from the card's table, else rounded up to the
/// granularity.
pub fn green_sms(card: &DeviceCard, asked: u32) -> u32 {
    match card.sharing.green_asked_given.iter().find(|p| p.0 == asked) {
        Some(&(_, given)) => given,
        None => asked.max(1).next_multiple_of(card.spec.sm_granularity),
    }
}

/// Disjoint SM sets of green contexts that ask for these numbers of SMs. SMs left over that are fewer than a portion
/// go to the last one (64 and 64 of 132: 64 and 68 on the H100).
///
/// # Errors
/// If what would be given exceeds the card.
pub fn green(card: &DeviceCard, asked: &[u32]) -> Result<Vec<SmSet>, SimError> {
    let mut given: Vec<u32> = asked.iter().map(|&a| green_sms(card, a)).collect();
    let have = card.spec.sms;
    if given.iter().map(|&g| u64::from(g)).sum::<u64>() > u64::from(have) {
        return Err(SimError::Green { asked: asked.to_vec(), given, have });
    }
    let over = have - given.iter().sum::<u32>();
    if let Some(last) = given.last_mut().filter(|_| over < card.spec.sm_granularity) {
        *last += over;
    }
    let mut from = 0;
    Ok(given
        .iter()
        .map(|g| {
            from += g;
            SmSet::range(from - g, from)
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotenant_model::builtin;

    fn h100() -> DeviceCard {
        builtin("h100-sxm5-80gb").expect("built in")
    }

    #[test]
    fn the_rule_agrees_with_the_table() {
        let card = h100();
        let mut bare = card.clone();
        bare.sharing.mps_percentage_sms.clear();
        for &(p, n) in &card.sharing.mps_percentage_sms {
            assert_eq!(mps_sms(&card, p), Ok(n));
            assert_eq!(mps_sms(&bare, p), Ok(n), "{p} %");
        }
        let mut bare = card.clone();
        bare.sharing.green_asked_given.clear();
        for &(a, g) in &card.sharing.green_asked_given {
            assert_eq!((green_sms(&card, a), green_sms(&bare, a)), (g, g), "{a}");
        }
    }

    #[test]
    fn halves_have_in_common_what_was_measured_and_excess_overlaps() {
        let s = mps(&h100(), &[50.0, 50.0]).expect("valid");
        assert_eq!(s[0].and(&s[1]).len(), 6);
        let mut apart = h100();
        apart.sharing.mps_half_common_sms = None;
        let s = mps(&apart, &[50.0, 50.0]).expect("valid");
        assert!(s[0].and(&s[1]).is_empty());
        let s = mps(&h100(), &[6.25, 6.25]).expect("valid");
        assert!(s[0].and(&s[1]).is_empty());
        let s = mps(&h100(), &[75.0, 75.0, 100.0]).expect("valid");
        assert!(s[0].and(&s[1]).len() >= 2 * 98 - 132);
        assert_eq!(s[2].len(), 132);
    }

    #[test]
    fn impossible_shares_are_refused() {
        assert_eq!(mps(&h100(), &[0.0]), Err(SimError::Percentage { percentage: 0.0 }));
        assert!(mps(&h100(), &[101.0]).is_err() && mps(&h100(), &[f64::NAN]).is_err());
        assert!(matches!(green(&h100(), &[66, 66]), Err(SimError::Green { .. })));
        let s = green(&h100(), &[64, 64]).expect("fits");
        assert!(s[0].and(&s[1]).is_empty() && s[1].len() == 68);
        let s = green(&h100(), &[64, 56]).expect("fits");
        assert!(s[1].len() == 56);
    }
}
