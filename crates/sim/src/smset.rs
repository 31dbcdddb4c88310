//! A set of SMs.

use cotenant_model::card::MAX_SMS;
use std::fmt;

const WORDS: usize = MAX_SMS as usize / 64;

/// A set of SM numbers below 256, in device order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SmSet([u64; WORDS]);

impl SmSet {
    /// No SM.
    pub const EMPTY: SmSet = SmSet([0; WORDS]);

    /// SMs `from..to`; numbers from 256 on are left out.
    pub fn range(from: u32, to: u32) -> SmSet {
        let mut s = SmSet::EMPTY;
        for i in from..to.min(MAX_SMS) {
            s.insert(i);
        }
        s
    }

    /// Adds one SM; numbers from 256 on are left out.
    pub fn insert(&mut self, sm: u32) {
        if let Some(w) = self.0.get_mut(sm as usize / 64) {
            *w |= 1 << (sm % 64);
        }
    }

    /// Whether it holds this SM.
    pub fn contains(&self, sm: u32) -> bool {
        self.0.get(sm as usize / 64).is_some_and(|w| w >> (sm % 64) & 1 == 1)
    }

    /// Number of SMs.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|w| w.count_ones()).sum()
    }

    /// No SM.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; WORDS]
    }

    /// The lowest number.
    pub fn first(&self) -> Option<u32> {
        self.iter().next()
    }

    /// The highest number.
    pub fn last(&self) -> Option<u32> {
        self.0
            .iter()
            .enumerate()
            .rev()
            .find(|(_, w)| **w != 0)
            .map(|(i, w)| i as u32 * 64 + 63 - w.leading_zeros())
    }

    /// In both.
    pub fn and(&self, o: &SmSet) -> SmSet {
        SmSet(std::array::from_fn(|i| self.0[i] & o.0[i]))
    }

    /// In either.
    pub fn or(&self, o: &SmSet) -> SmSet {
        SmSet(std::array::from_fn(|i| self.0[i] | o.0[i]))
    }

    /// In `self` and not in `o`.
    pub fn minus(&self, o: &SmSet) -> SmSet {
        SmSet(std::array::from_fn(|i| self.0[i] & !o.0[i]))
    }

    /// The lowest `n` of it (all, if there are fewer).
    pub fn lowest(&self, n: u32) -> SmSet {
        let mut left = n;
        SmSet(std::array::from_fn(|i| {
            let mut word = self.0[i];
            if word.count_ones() > left {
                let mut kept = 0;
                for _ in 0..left {
                    let bit = word & word.wrapping_neg();
                    kept |= bit;
                    word ^= bit;
                }
                word = kept;
            }
            left -= word.count_ones();
            word
        }))
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().enumerate().flat_map(|(i, &w)| {
            let mut w = w;
            std::iter::from_fn(move || {
                let bit = (w != 0).then(|| w.trailing_zeros())?;
                w &= w - 1;
                Some(i as u32 * 64 + bit)
            })
        })
    }
}

impl FromIterator<u32> for SmSet {
    fn from_iter<I: IntoIterator<Item = u32>>(iter: I) -> SmSet {
        let mut s = SmSet::EMPTY;
        iter.into_iter().for_each(|i| s.insert(i));
        s
    }
}

impl fmt::Debug for SmSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_as_a_set(a in prop::collection::btree_set(0u32..256, 0..200),
                            b in prop::collection::btree_set(0u32..256, 0..200), n in 0u32..300) {
            let (x, y): (SmSet, SmSet) = (a.iter().copied().collect(), b.iter().copied().collect());
            let list = |s: SmSet| s.iter().collect::<BTreeSet<_>>();
            prop_assert_eq!(list(x), a.clone());
            prop_assert_eq!(list(x.and(&y)), &a & &b);
            prop_assert_eq!(list(x.or(&y)), &a | &b);
            prop_assert_eq!(list(x.minus(&y)), &a - &b);
            prop_assert_eq!(x.len() as usize, a.len());
            prop_assert_eq!((x.first(), x.last()), (a.first().copied(), a.last().copied()));
            prop_assert_eq!(list(x.lowest(n)), a.iter().copied().take(n as usize).collect::<BTreeSet<_>>());
            prop_assert_eq!(x.is_empty(), a.is_empty());
        }
    }

    #[test]
    fn ranges_stop_at_256() {
        assert_eq!(SmSet::range(250, 400).len(), 6);
        assert!(!SmSet::range(0, 132).contains(132));
        assert!(SmSet::range(0, 132).contains(131));
    }
}
