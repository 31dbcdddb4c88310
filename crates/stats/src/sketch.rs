//! Quantiles of more observations than can be kept: counts in buckets of constant relative width.
//!
//! A value x > 0 falls into bucket floor(log2(x) · 128), so a quantile is known to half a bucket, ±0.27 %, whatever the
//! number of observations; the memory is the number of buckets that were ever used. Sketches can be merged, and a list of
//! them, one for each stretch of time, gives intervals by resampling stretches (as [`crate::Grouped`] does groups).

use crate::{Bootstrap, Bounded, StatsError, percentile_interval};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Buckets for each doubling.
const PER_DOUBLING: f64 = 128.0;

/// Counts by bucket. Values at or below zero count as zero.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Sketch {
    /// Weight in each bucket.
    buckets: BTreeMap<i32, f64>,
    /// Weight of values at or below zero.
    zeros: f64,
    /// Sum of value × weight.
    sum: f64,
    /// Largest value.
    max: f64,
}

impl Sketch {
    /// Adds a value with a weight, which must be positive and finite as the value must be finite; others are ignored.
    pub fn add(&mut self, value: f64, weight: f64) {
        if !(value.is_finite() && weight.is_finite() && weight > 0.0) {
            return;
        }
        if value > 0.0 {
            let bucket = (value.log2() * PER_DOUBLING).floor() as i32;
            *self.buckets.entry(bucket).or_default() += weight;
        } else {
            self.zeros += weight;
        }
        self.sum += value.max(0.0) * weight;
        self.max = self.max.max(value);
    }

    /// Adds all that another one has, `times` over.
    pub fn merge(&mut self, other: &Sketch, times: f64) {
        for (bucket, weight) in &other.buckets {
            *self.buckets.entry(*bucket).or_default() += weight * times;
        }
        self.zeros += other.zeros * times;
        self.sum += other.sum * times;
        if times > 0.0 {
            self.max = self.max.max(other.max);
        }
    }

    /// Total weight.
    pub fn weight(&self) -> f64 {
        self.zeros + self.buckets.values().sum::<f64>()
    }

    /// Mean; `None` when empty.
    pub fn mean(&self) -> Option<f64> {
        let weight = self.weight();
        (weight > 0.0).then(|| self.sum / weight)
    }

    /// Largest value, 0 when empty.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// The smallest value with at least this share (0..=1) of the weight at or below it, to half a bucket; `None`
    /// when empty.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.weight();
        if total <= 0.0 {
            return None;
        }
        // A hair less, so that rounding in the sums does not skip to the next bucket.
        let wanted = total * share * (1.0 - 1e-12);
        let mut seen = self.zeros;
        if seen >= wanted && self.zeros > 0.0 {
            return Some(0.0);
        }
        for (bucket, weight) in &self.buckets {
            seen += weight;
            if seen >= wanted {
                return Some(((f64::from(*bucket) + 0.5) / PER_DOUBLING).exp2().min(self.max));
            }
        }
        Some(self.max)
    }
}

/// Mean and quantiles (shares, 0..=1) of all sketches together, mean first, with bootstrap intervals over whole
/// sketches.
///
/// # Errors
/// Nothing in any of them, or a level outside 0..1.
pub fn describe_sketches(
    blocks: &[Sketch],
    shares: &[f64],
    bootstrap: &Bootstrap,
) -> Result<Vec<Bounded>, StatsError> {
    let filled: Vec<&Sketch> = blocks.iter().filter(|b| b.weight() > 0.0).collect();
    let of = |draw: &mut dyn Iterator<Item = (usize, f64)>| {
        let mut all = Sketch::default();
        for (i, times) in draw {
            all.merge(filled[i], times);
        }
        let mut out = vec![all.mean()];
        out.extend(shares.iter().map(|s| all.quantile(*s)));
        out.into_iter().collect::<Option<Vec<f64>>>()
    };
    let values = of(&mut (0..filled.len()).map(|i| (i, 1.0))).ok_or(StatsError::TooFew {
        what: "a sketch",
        got: 0,
        need: 1,
    })?;
    let mut resampled = vec![Vec::with_capacity(bootstrap.resamples); values.len()];
    bootstrap.distribution(filled.len(), |draw| {
        let mut times = vec![0.0; filled.len()];
        for i in draw {
            times[*i] += 1.0;
        }
        let mut it = times.iter().copied().enumerate().filter(|(_, t)| *t > 0.0);
        for (slot, value) in resampled.iter_mut().zip(of(&mut it).unwrap_or_default()) {
            slot.push(value);
        }
        0.0
    });
    let bounded = |(value, mut all): (f64, Vec<f64>)| {
        all.sort_unstable_by(f64::total_cmp);
        let i = percentile_interval(&all, bootstrap.level)?;
        Ok(Bounded { value, low: i.low.min(value), high: i.high.max(value) })
    };
    values.into_iter().zip(resampled).map(bounded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantile::quantile_sorted;
    use proptest::prelude::*;

    #[test]
    fn weights_zeros_and_emptiness() {
        let mut s = Sketch::default();
        assert_eq!((s.quantile(0.5), s.mean(), s.weight()), (None, None, 0.0));
        s.add(f64::NAN, 1.0);
        s.add(1.0, 0.0);
        assert_eq!(s.weight(), 0.0);
        s.add(0.0, 3.0);
        s.add(10.0, 1.0);
        assert_eq!((s.quantile(0.75), s.mean(), s.max()), (Some(0.0), Some(2.5), 10.0));
        assert!(s.quantile(0.76).is_some_and(|q| (q / 10.0 - 1.0).abs() < 0.003));
        assert!(describe_sketches(&[Sketch::default()], &[0.5], &Bootstrap::default()).is_err());
    }

    #[test]
    fn intervals_cover_the_spread_between_blocks() {
        let blocks: Vec<Sketch> = (0..20)
            .map(|b| {
                let mut s = Sketch::default();
                (0..100).for_each(|i| s.add(f64::from(b + 1) + f64::from(i) / 100.0, 1.0));
                s
            })
            .collect();
        let d = describe_sketches(&blocks, &[0.5, 0.99], &Bootstrap::default()).expect("filled");
        let [mean, p50, _] = d[..] else { panic!("three") };
        assert!((mean.value - 10.995).abs() < 1e-9 && mean.low < 9.5 && mean.high > 12.5, "{mean:?}");
        assert!(p50.low < 9.0 && p50.high > 13.0, "{p50:?}");
    }

    proptest! {
        #[test]
        fn quantiles_are_near_the_exact_ones(mut xs in prop::collection::vec(1e-3f64..1e6, 200..400), share in 0.0f64..1.0) {
            let mut s = Sketch::default();
            xs.iter().for_each(|x| s.add(*x, 1.0));
            xs.sort_unstable_by(f64::total_cmp);
            // Between the neighbours of the exact rank, give or take half a bucket.
            let step = 1.0 / xs.len() as f64;
            let low = quantile_sorted(&xs, (share - step).max(0.0)) * 0.997;
            let high = quantile_sorted(&xs, (share + step).min(1.0)) * 1.003;
            let q = s.quantile(share).expect("filled");
            prop_assert!((low..=high).contains(&q), "{} not in {}..{}", q, low, high);
        }
    }
}
