//! Quantiles of more observations than can be kept: counts in buckets of constant relative width.
//!
//! A value x > 0 falls into bucket floor(log2(x) · 128), so a quantile is known to half a bucket, ±0.27 %, whatever the
//! number of observations; the memory is the number of buckets that were ever used. Sketches can be merged, and a list of
//! them, one for each stretch of time, gives intervals by resampling stretches (as [`crate::Grouped`] does groups).

use crate::{Bootstrap, Bounded, StatsError, percentile_interval};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

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
        let weight = self.weight();
        let buckets = self.buckets.iter().map(|(bucket, weight)| (*bucket, *weight));
        (weight > 0.0).then(|| quantile_of(buckets, self.zeros, weight, self.max, share))
    }
}

/// Mean and quantiles (shares, 0..=1) of all sketches together, mean first, with bootstrap intervals over whole
/// sketches.
///
/// # Errors
/// Nothing in any of them, or a level outside 0..1.
pub fn describe_sketches<S: Borrow<Sketch>>(
    blocks: &[S],
    shares: &[f64],
    bootstrap: &Bootstrap,
) -> Result<Vec<Bounded>, StatsError> {
    let filled: Vec<&Sketch> = blocks.iter().map(Borrow::borrow).filter(|b| b.weight() > 0.0).collect();
    if filled.is_empty() {
        return Err(StatsError::TooFew { what: "a sketch", got: 0, need: 1 });
    }
    let mut together = Together::new(filled);
    let mut times = vec![1.0; together.sketches.len()];
    let values = together.describe(&times, shares);
    let mut resampled = vec![Vec::with_capacity(bootstrap.resamples); values.len()];
    bootstrap.distribution(times.len(), |draw| {
        times.fill(0.0);
        for i in draw {
            times[*i] += 1.0;
        }
        for (slot, value) in resampled.iter_mut().zip(together.describe(&times, shares)) {
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

/// Sketches side by side, to be merged again and again: in place of trees, a row for each bucket with the weight that each sketch has
/// in it.
struct Together<'a> {
    sketches: Vec<&'a Sketch>,
    /// Buckets that any of them has, ascending.
    buckets: Vec<i32>,
    rows: Vec<f64>,
    /// Weight of each bucket in the merge at hand.
    merged: Vec<f64>,
}

impl<'a> Together<'a> {
    fn new(sketches: Vec<&'a Sketch>) -> Together<'a> {
        let used: BTreeSet<i32> = sketches.iter().flat_map(|s| s.buckets.keys().copied()).collect();
        let buckets: Vec<i32> = used.into_iter().collect();
        let mut rows = vec![0.0; buckets.len() * sketches.len()];
        for (column, sketch) in sketches.iter().enumerate() {
            for (bucket, weight) in &sketch.buckets {
                let row = buckets.partition_point(|b| b < bucket);
                rows[row * sketches.len() + column] = *weight;
            }
        }
        Together { merged: vec![0.0; buckets.len()], sketches, buckets, rows }
    }

    /// Mean and quantiles of the merge of all, each so many `times`; [`Sketch::merge`] and [`Sketch::quantile`] would give the
    /// same to the last digit, since sums are in the same order.
    fn describe(&mut self, times: &[f64], shares: &[f64]) -> Vec<f64> {
        let sum = |of: fn(&Sketch) -> f64| {
            self.sketches.iter().zip(times).map(|(s, t)| of(s) * t).fold(0.0, |a, b| a + b)
        };
        let (zeros, total) = (sum(|s| s.zeros), sum(|s| s.sum));
        let drawn = self.sketches.iter().zip(times).filter(|(_, t)| **t > 0.0);
        let max = drawn.map(|(s, _)| s.max).fold(0.0, f64::max);
        for (merged, row) in self.merged.iter_mut().zip(self.rows.chunks_exact(times.len())) {
            *merged = row.iter().zip(times).fold(0.0, |sum, (w, t)| sum + w * t);
        }
        let weight = zeros + self.merged.iter().sum::<f64>();
        let mut out = vec![total / weight];
        out.extend(shares.iter().map(|share| {
            let merged = self.buckets.iter().copied().zip(self.merged.iter().copied());
            quantile_of(merged, zeros, weight, max, *share)
        }));
        out
    }
}

/// The quantile of buckets in ascending order with their weights, beside `zeros`; `weight` of all is above 0.
fn quantile_of(
    buckets: impl Iterator<Item = (i32, f64)>,
    zeros: f64,
    weight: f64,
    max: f64,
    share: f64,
) -> f64 {
    // A hair less, so that rounding in the sums does not skip to the next bucket.
    let wanted = weight * share * (1.0 - 1e-12);
    let mut seen = zeros;
    if seen >= wanted && zeros > 0.0 {
        return 0.0;
    }
    for (bucket, weight) in buckets.filter(|(_, weight)| *weight > 0.0) {
        seen += weight;
        if seen >= wanted {
            return ((f64::from(bucket) + 0.5) / PER_DOUBLING).exp2().min(max);
        }
    }
    max
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
        fn side_by_side_is_as_merged(
            blocks in prop::collection::vec(prop::collection::vec((-1.0f64..50.0, 0.1f64..3.0), 1..60), 1..6),
            times in prop::collection::vec(0u8..4, 6), share in 0.0f64..1.0,
        ) {
            let sketches: Vec<Sketch> = blocks
                .iter()
                .map(|values| {
                    let mut s = Sketch::default();
                    values.iter().for_each(|(value, weight)| s.add(*value, *weight));
                    s
                })
                .collect();
            let mut times: Vec<f64> = times.iter().take(sketches.len()).map(|t| f64::from(*t)).collect();
            times[0] += 1.0;
            let mut all = Sketch::default();
            for (s, t) in sketches.iter().zip(&times).filter(|(_, t)| **t > 0.0) {
                all.merge(s, *t);
            }
            let found = Together::new(sketches.iter().collect()).describe(&times, &[share]);
            prop_assert_eq!(found, vec![all.mean().expect("filled"), all.quantile(share).expect("filled")]);
        }

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
