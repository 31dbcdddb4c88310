//! Description of observations that come in groups: mean, spread and percentiles with intervals.
//!
//! The problem: iterations of one repeat share their conditions (clocks, temperature, which tenant came first), so a
//! thousand iterations of ten repeats are not a thousand independent observations. Intervals are therefore
//! bootstrapped over whole groups (Davison and Hinkley, "Bootstrap methods and their application", section 3.8). A
//! resample is a multiset of groups; instead of sorting it, each observation of the sorted pool gets its group's
//! multiplicity as weight, and one pass over the pool finds all percentiles at once. Where groups are few, marks in
//! the pool say how many observations of each lie before them, so that a pass reads only what lies around the percentiles.

use crate::interval::median_rank;
use crate::quantile::quantile_sorted;
use crate::{Bootstrap, StatsError, check, percentile_interval};
use serde::{Deserialize, Serialize};

/// A value with its interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Bounded {
    /// The value.
    pub value: f64,
    /// Lower end of its interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// What a sample looks like, in its own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Description {
    /// Observations.
    pub n: usize,
    /// Groups that they come in.
    pub groups: usize,
    /// Mean.
    pub mean: Bounded,
    /// Standard deviation (n - 1); zero for one observation.
    pub deviation: Bounded,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Median.
    pub p50: Bounded,
    /// 90th percentile (type 7, as all of them).
    pub p90: Bounded,
    /// 95th percentile.
    pub p95: Bounded,
    /// 99th percentile.
    pub p99: Bounded,
}

/// Observations between two marks of the pool.
const STRIDE: usize = 256;
/// Most units with marks: they cost a number for each unit.
const MARKED: usize = 64;

/// Observations in groups, ready to be described.
#[derive(Debug, Clone, PartialEq)]
pub struct Grouped {
    /// All observations with their unit of resampling, ascending.
    pool: Vec<(f64, u32)>,
    /// Of each unit: observations, and sum and sum of squares about `centre`.
    units: Vec<(usize, f64, f64)>,
    centre: f64,
    groups: usize,
    /// For each mark, the first of which is at the start, how many observations of each unit lie before it.
    marks: Vec<u32>,
}

impl Grouped {
    /// Takes groups of observations; empty ones do not count. A single group has no groups to resample: then each
    /// of its observations is a unit of its own, and intervals are too narrow if they depend on each other.
    ///
    /// # Errors
    /// No observation at all, or a value that is not finite.
    pub fn new(groups: &[&[f64]]) -> Result<Self, StatsError> {
        let filled: Vec<&[f64]> = groups.iter().copied().filter(|g| !g.is_empty()).collect();
        for g in &filled {
            check(g, "a description", 1)?;
        }
        let n: usize = filled.iter().map(|g| g.len()).sum();
        if n == 0 {
            return Err(StatsError::TooFew { what: "a description", got: 0, need: 1 });
        }
        let centre = filled.iter().flat_map(|g| g.iter()).sum::<f64>() / n as f64;
        let units: Vec<&[f64]> = match filled[..] {
            [one] => one.chunks(1).collect(),
            _ => filled.clone(),
        };
        let mut pool: Vec<(f64, u32)> =
            units.iter().enumerate().flat_map(|(u, g)| g.iter().map(move |x| (*x, u as u32))).collect();
        pool.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let sums = |g: &&[f64]| {
            let squares = g.iter().map(|x| (x - centre) * (x - centre)).sum();
            (g.len(), g.iter().map(|x| x - centre).sum(), squares)
        };
        let marks = marks(&pool, units.len());
        Ok(Grouped { pool, units: units.iter().map(sums).collect(), centre, groups: filled.len(), marks })
    }

    /// Observations.
    pub fn len(&self) -> usize {
        self.pool.len()
    }

    /// Never: see [`Grouped::new`].
    pub fn is_empty(&self) -> bool {
        self.pool.is_empty()
    }

    /// The `shares` quantiles (0..=1, type 7) with bootstrap intervals over whole groups.
    ///
    /// # Errors
    /// A share outside 0..=1, or a level outside 0..1.
    pub fn quantiles(&self, shares: &[f64], bootstrap: &Bootstrap) -> Result<Vec<Bounded>, StatsError> {
        check_shares(shares)?;
        let (values, resampled) = self.resample(shares, bootstrap);
        (0..shares.len()).map(|i| bounded(values[i], &resampled[i], bootstrap.level)).collect()
    }

    /// All of [`Description`]. Intervals are bootstrapped over whole groups; that of the median of a single group is
    /// a pair of order statistics (six observations or more).
    ///
    /// # Errors
    /// A level outside 0..1.
    pub fn describe(&self, bootstrap: &Bootstrap) -> Result<Description, StatsError> {
        self.describe_and(&[], bootstrap).map(|(d, _)| d)
    }

    /// As [`Grouped::describe`], and as [`Grouped::quantiles`] of `more` shares, for the time of one of them.
    ///
    /// # Errors
    /// Those of both.
    pub fn describe_and(
        &self,
        more: &[f64],
        bootstrap: &Bootstrap,
    ) -> Result<(Description, Vec<Bounded>), StatsError> {
        check_shares(more)?;
        let shares = [&[0.5, 0.9, 0.95, 0.99], more].concat();
        let (values, resampled) = self.resample(&shares, bootstrap);
        let of = |i: usize| bounded(values[i], &resampled[i], bootstrap.level);
        let mut p50 = of(0)?;
        if let (1, Some(rank)) = (self.groups, median_rank(self.len(), bootstrap.level)) {
            (p50.low, p50.high) = (self.pool[rank - 1].0, self.pool[self.len() - rank].0);
        }
        let further = (4..shares.len()).map(of).collect::<Result<_, _>>()?;
        let description = Description {
            n: self.len(),
            groups: self.groups,
            mean: of(shares.len())?,
            deviation: of(shares.len() + 1)?,
            min: self.pool[0].0,
            max: self.pool[self.len() - 1].0,
            p50,
            p90: of(1)?,
            p95: of(2)?,
            p99: of(3)?,
        };
        Ok((description, further))
    }

    /// Goes on in the pool, of which `pool[..i]` weighs `passed`, to the last mark before which no more than `weight` lies.
    fn skip(&self, i: usize, passed: usize, weight: usize, weights: &[u32]) -> (usize, usize) {
        let before = |mark: usize| -> usize {
            let counts = self.marks.iter().skip(mark * weights.len()).zip(weights);
            counts.map(|(n, w)| *n as usize * *w as usize).sum()
        };
        let (mut low, mut high) = (i / STRIDE, self.marks.len() / weights.len().max(1));
        // `low` is at or before `i`; from `high` on marks are too far.
        while high > low + 1 {
            let middle = usize::midpoint(low, high);
            if before(middle) <= weight { low = middle } else { high = middle }
        }
        if low * STRIDE > i { (low * STRIDE, before(low)) } else { (i, passed) }
    }

    /// Quantiles, mean and standard deviation: of the observations, and of each resample.
    fn resample(&self, shares: &[f64], bootstrap: &Bootstrap) -> (Vec<f64>, Vec<Vec<f64>>) {
        let mut scan = Scan::new(self, shares);
        let values = scan.all(&vec![1; self.units.len()]);
        let mut resampled = vec![Vec::with_capacity(bootstrap.resamples); values.len()];
        let mut weights = vec![0u32; self.units.len()];
        bootstrap.distribution(self.units.len(), |draw| {
            weights.fill(0);
            for &i in draw {
                weights[i] += 1;
            }
            for (list, value) in resampled.iter_mut().zip(scan.all(&weights)) {
                list.push(value);
            }
            0.0
        });
        (values, resampled)
    }
}

fn check_shares(shares: &[f64]) -> Result<(), StatsError> {
    match shares.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        Some(&value) => Err(StatsError::Parameter { name: "p", value, expected: "a share from 0 to 1" }),
        None => Ok(()),
    }
}

/// How many observations of each unit lie before each mark; none where units are many.
fn marks(pool: &[(f64, u32)], units: usize) -> Vec<u32> {
    let mut marks = Vec::new();
    if units <= MARKED {
        let mut before = vec![0; units];
        for part in pool.chunks(STRIDE) {
            marks.extend_from_slice(&before);
            part.iter().for_each(|(_, unit)| before[*unit as usize] += 1);
        }
    }
    marks
}

/// One pass over the pool with weights.
struct Scan<'a> {
    of: &'a Grouped,
    shares: &'a [f64],
    /// Wanted positions, which quantile each is for, and whether it is the upper neighbour.
    wanted: Vec<(usize, usize, bool)>,
    found: Vec<[f64; 2]>,
}

impl<'a> Scan<'a> {
    fn new(of: &'a Grouped, shares: &'a [f64]) -> Self {
        Scan { of, shares, wanted: Vec::new(), found: vec![[f64::NAN; 2]; shares.len()] }
    }

    /// The quantiles, then mean and standard deviation, each unit counting `weights` times.
    fn all(&mut self, weights: &[u32]) -> Vec<f64> {
        let weighted = || self.of.units.iter().zip(weights).map(|(u, w)| (u, f64::from(*w)));
        let n: usize = self.of.units.iter().zip(weights).map(|(u, w)| u.0 * *w as usize).sum();
        let last = n.saturating_sub(1);
        self.wanted.clear();
        for (q, p) in self.shares.iter().enumerate() {
            let i = ((last as f64 * p).floor() as usize).min(last);
            self.wanted.extend([(i, q, false), ((i + 1).min(last), q, true)]);
        }
        self.wanted.sort_unstable();
        // `pool[..i]` weighs `passed`, and `x` is its last.
        let (mut i, mut passed, mut x) = (0, 0, f64::NAN);
        for &(at, q, upper) in &self.wanted {
            debug_assert!(at < n);
            if passed <= at {
                (i, passed) = self.of.skip(i, passed, at, weights);
            }
            while passed <= at
                && let Some((value, unit)) = self.of.pool.get(i)
            {
                passed += weights[*unit as usize] as usize;
                (i, x) = (i + 1, *value);
            }
            self.found[q][usize::from(upper)] = x;
        }
        let quantile = |(pair, p): (&[f64; 2], &f64)| {
            let h = last as f64 * p;
            quantile_sorted(pair, h - h.floor())
        };
        let mut out: Vec<f64> = self.found.iter().zip(self.shares).map(quantile).collect();
        let total = n as f64;
        let mean = weighted().map(|(u, w)| w * u.1).sum::<f64>() / total;
        let squares = weighted().map(|(u, w)| w * u.2).sum::<f64>() - total * mean * mean;
        let variance = if n > 1 { squares.max(0.0) / (total - 1.0) } else { 0.0 };
        out.extend([self.of.centre + mean, variance.sqrt()]);
        out
    }
}

fn bounded(value: f64, distribution: &[f64], level: f64) -> Result<Bounded, StatsError> {
    let i = percentile_interval(distribution, level)?;
    // The percentile interval of a quantile may miss the estimate by interpolation; it never should in print.
    Ok(Bounded { value, low: i.low.min(value), high: i.high.max(value) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantile::quantile;
    use proptest::prelude::*;

    const FEW: Bootstrap = Bootstrap { resamples: 200, seed: 5, level: 0.95 };

    #[test]
    fn a_small_sample_by_hand() {
        let d = Grouped::new(&[&[1.0, 2.0, 3.0], &[], &[4.0, 10.0]]).unwrap().describe(&FEW).unwrap();
        assert_eq!((d.n, d.groups, d.min, d.max), (5, 2, 1.0, 10.0));
        assert_eq!((d.mean.value, d.p50.value), (4.0, 3.0));
        assert!((d.deviation.value - 12.5f64.sqrt()).abs() < 1e-12);
        // Both groups, or one of them twice: means 2, 4, 7.
        assert_eq!((d.mean.low, d.mean.high), (2.0, 7.0));
        assert!(Grouped::new(&[&[]]).is_err() && Grouped::new(&[&[f64::NAN]]).is_err());
    }

    #[test]
    fn groups_that_differ_widen_the_interval() {
        let repeats: Vec<Vec<f64>> =
            (0..10).map(|g| (0..100).map(|i| 10.0 + f64::from(g) + 0.001 * f64::from(i)).collect()).collect();
        let views: Vec<&[f64]> = repeats.iter().map(Vec::as_slice).collect();
        let by_group = Grouped::new(&views).unwrap().describe(&FEW).unwrap();
        let flat = repeats.concat();
        let as_if_independent = Grouped::new(&[&flat]).unwrap().describe(&FEW).unwrap();
        let width = |b: Bounded| b.high - b.low;
        assert!(width(by_group.p50) > 3.0 * width(as_if_independent.p50));
        assert!(width(by_group.mean) > 3.0 * width(as_if_independent.mean));
    }

    #[test]
    fn one_group_has_order_statistics_for_its_median() {
        let xs: Vec<f64> = (0..100).map(f64::from).collect();
        let d = Grouped::new(&[&xs]).unwrap().describe(&FEW).unwrap();
        // Rank 40 of 100 (see `interval`).
        assert_eq!((d.p50.low, d.p50.high), (39.0, 60.0));
    }

    #[test]
    fn marks_change_nothing() {
        // Ties across marks, units of one observation and of many, and more observations than a few marks.
        let groups: Vec<Vec<f64>> = (0..9u32)
            .map(|g| (0..1 + g * g * 40).map(|i| f64::from((i * 7919 + g) % 977)).collect())
            .collect();
        let views: Vec<&[f64]> = groups.iter().map(Vec::as_slice).collect();
        let marked = Grouped::new(&views).unwrap();
        assert!(marked.marks.len() > 20 * groups.len());
        let plain = Grouped { marks: Vec::new(), ..marked.clone() };
        let shares = [0.0, 0.001, 0.3, 0.5, 0.95, 0.999, 1.0];
        assert_eq!(marked.resample(&shares, &FEW), plain.resample(&shares, &FEW));
        let (d, more) = marked.describe_and(&[0.999], &FEW).unwrap();
        assert_eq!(d, plain.describe(&FEW).unwrap());
        assert_eq!(more, plain.quantiles(&[0.999], &FEW).unwrap());
        assert!(marked.describe_and(&[1.5], &FEW).is_err());
    }

    proptest! {
        #[test]
        fn weights_give_what_sorting_the_resample_gives(
            groups in prop::collection::vec(prop::collection::vec(-1e3f64..1e3, 0..12), 1..6),
            p in 0.0f64..=1.0, seed in 0u64..1000,
        ) {
            let views: Vec<&[f64]> = groups.iter().map(Vec::as_slice).collect();
            let Ok(g) = Grouped::new(&views) else { return Ok(()) };
            let units: Vec<Vec<f64>> = match &groups.iter().filter(|g| !g.is_empty()).cloned().collect::<Vec<_>>()[..] {
                [one] => one.iter().map(|x| vec![*x]).collect(),
                many => many.to_vec(),
            };
            let b = Bootstrap { resamples: 20, seed, level: 0.9 };
            let resamples = b.distribution(units.len(), |draw| {
                quantile(&draw.iter().flat_map(|i| units[*i].clone()).collect::<Vec<f64>>(), p).unwrap()
            });
            prop_assert_eq!(&g.resample(&[p], &b).1[0], &resamples);
            let q = g.quantiles(&[p], &b).unwrap()[0];
            prop_assert_eq!(q.value, quantile(&groups.concat(), p).unwrap());
            prop_assert!(q.low <= q.value && q.value <= q.high);
            let d = g.describe(&b).unwrap();
            prop_assert!(d.min <= d.p50.value && d.p50.value <= d.p99.value && d.p99.value <= d.max);
            prop_assert!(d.mean.low <= d.mean.value && d.mean.value <= d.mean.high && d.deviation.low >= 0.0);
        }
    }
}
