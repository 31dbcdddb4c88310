//! Values of requests: each of them, or counts in buckets where there are too many.

use cotenant_stats::{Bootstrap, Bounded, Grouped, Sketch, describe_sketches, quantile_sorted};
use cotenant_store::serving::{Ranged, Spread, Window};

/// Stretches of time that a window is divided into; intervals are over them.
pub(super) const BLOCKS: usize = 20;

/// Most requests whose values are held one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bound(pub u64);

impl Bound {
    /// Whether so many are held.
    pub fn holds(self, requests: u64) -> bool {
        requests <= self.0
    }
}

impl Default for Bound {
    /// 100,000: eight numbers of each are 6.4 MB.
    fn default() -> Bound {
        Bound(100_000)
    }
}

/// Values, none of which is negative or infinite.
#[derive(Debug, Clone)]
pub(super) enum Sample {
    Each(Vec<f64>),
    Counted(Sketch),
}

impl Sample {
    /// An empty one that holds each value or not.
    pub fn new(each: bool) -> Sample {
        if each { Sample::Each(Vec::new()) } else { Sample::Counted(Sketch::default()) }
    }

    pub fn push(&mut self, value: f64) {
        match self {
            Sample::Each(values) => values.push(value),
            Sample::Counted(sketch) => sketch.add(value, 1.0),
        }
    }

    fn each(&self) -> Option<&[f64]> {
        if let Sample::Each(values) = self { Some(values) } else { None }
    }

    fn counted(&self) -> Option<&Sketch> {
        if let Sample::Counted(sketch) = self { Some(sketch) } else { None }
    }

    /// Quantiles of these shares, 0 to 1; `None` where there is no value.
    pub fn quantiles(&self, shares: impl Iterator<Item = f64>) -> Option<Vec<f64>> {
        match self {
            Sample::Each(values) => {
                let mut sorted = values.clone();
                sorted.sort_unstable_by(f64::total_cmp);
                (!sorted.is_empty()).then(|| shares.map(|p| quantile_sorted(&sorted, p)).collect())
            }
            // The largest is known, and no bucket's middle.
            Sample::Counted(s) => {
                shares.map(|p| if p < 1.0 { s.quantile(p) } else { s.quantile(p).map(|_| s.max()) }).collect()
            }
        }
    }
}

/// A window in equal stretches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretches {
    from_ns: u64,
    length: u64,
}

impl Stretches {
    pub fn of(window: &Window) -> Stretches {
        Stretches { from_ns: window.from_ns, length: window.to_ns.saturating_sub(window.from_ns) }
    }

    /// The stretch that a moment lies in; the first or the last for one outside.
    pub fn at(self, at_ns: u64) -> usize {
        let length = u128::from(self.length).max(1);
        let at = u128::from(at_ns.saturating_sub(self.from_ns)).min(length - 1);
        (at * BLOCKS as u128 / length) as usize
    }

    /// Where a stretch begins, ns; that of [`BLOCKS`] is the end of the last.
    pub fn edge(self, i: usize) -> u64 {
        self.from_ns + (u128::from(self.length) * i as u128 / BLOCKS as u128) as u64
    }
}

/// Values by stretch of a window.
pub(super) struct Blocks {
    stretches: Stretches,
    by_block: Vec<Sample>,
}

impl Blocks {
    pub fn new(stretches: Stretches, each: bool) -> Blocks {
        Blocks { stretches, by_block: vec![Sample::new(each); BLOCKS] }
    }

    pub fn push(&mut self, at_ns: u64, value: f64) {
        self.by_block[self.stretches.at(at_ns)].push(value);
    }

    fn grouped(&self) -> Option<Grouped> {
        let groups: Vec<&[f64]> = self.by_block.iter().filter_map(Sample::each).collect();
        Grouped::new(&groups).ok()
    }

    fn sketches(&self) -> Vec<&Sketch> {
        self.by_block.iter().filter_map(Sample::counted).collect()
    }

    /// How the values are distributed, with intervals over stretches; `None` where there is none.
    pub fn spread(&self) -> Option<Spread> {
        let sketches = self.sketches();
        if !sketches.is_empty() {
            return spread_of_sketches(&sketches);
        }
        let grouped = self.grouped()?;
        let (described, tail) = grouped.describe_and(&[0.999], &bootstrap(grouped.len())).ok()?;
        Some(Spread {
            n: described.n as u64,
            mean: ranged(described.mean),
            p50: ranged(described.p50),
            p90: ranged(described.p90),
            p95: ranged(described.p95),
            p99: ranged(described.p99),
            p999: ranged(*tail.first()?),
            max: described.max,
        })
    }

    /// Their mean.
    pub fn mean(&self) -> Option<Ranged> {
        let sketches = self.sketches();
        if !sketches.is_empty() {
            return describe_sketches(&sketches, &[], &bootstrap(MANY)).ok()?.first().copied().map(ranged);
        }
        let grouped = self.grouped()?;
        Some(ranged(grouped.describe(&bootstrap(grouped.len())).ok()?.mean))
    }
}

/// Resamples of sketches are as many as those of so many observations.
const MANY: usize = 100_000;

/// Fewer resamples of more observations: the time of a summary stays in seconds.
fn bootstrap(observations: usize) -> Bootstrap {
    Bootstrap { resamples: (100_000_000 / observations.max(1)).clamp(400, 2000), ..Bootstrap::default() }
}

pub(super) fn ranged(b: Bounded) -> Ranged {
    Ranged { value: b.value, low: b.low, high: b.high }
}

/// How the values of sketches, one of each stretch, are distributed; `None` where there is none.
pub(super) fn spread_of_sketches<S: std::borrow::Borrow<Sketch>>(blocks: &[S]) -> Option<Spread> {
    let d = describe_sketches(blocks, &[0.5, 0.9, 0.95, 0.99, 0.999], &bootstrap(MANY)).ok()?;
    let [mean, p50, p90, p95, p99, p999] = d[..] else { return None };
    let sketches = || blocks.iter().map(std::borrow::Borrow::borrow);
    let n = sketches().map(Sketch::weight).sum::<f64>().round() as u64;
    let max = sketches().map(Sketch::max).fold(0.0, f64::max);
    let r = ranged;
    Some(Spread { n, mean: r(mean), p50: r(p50), p90: r(p90), p95: r(p95), p99: r(p99), p999: r(p999), max })
}
