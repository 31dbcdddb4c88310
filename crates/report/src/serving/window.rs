//! Which part of a phase counts, found in one walk over its requests.

use super::sample::Bound;
use cotenant_stats::{mser, mser5};
use cotenant_store::serving::{RequestRecord, Window};
use cotenant_store::{Requests, StoreError};

/// How the window is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// From the intended time of the first request behind the warm-up to that of the last one sent. Behind it the
    /// load dies down, and what comes then is not what was asked for.
    Whole {
        /// Requests of the warm-up.
        warmup: u64,
    },
    /// The same, but for what MSER-5 finds to belong to the start-up, by the requests' latency.
    Steady {
        /// Requests of the warm-up.
        warmup: u64,
    },
}

impl Choice {
    /// Requests of the warm-up.
    pub fn warmup(self) -> u64 {
        let (Choice::Whole { warmup } | Choice::Steady { warmup }) = self;
        warmup
    }
}

/// What a first walk over the requests finds, without which the others do not know where to count what.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Survey {
    /// Requests.
    pub requests: u64,
    /// First intended time of all, ns.
    pub first_ns: u64,
    /// Last intended time of all, ns.
    pub last_ns: u64,
    /// Last end of all, ns; 0 where there is no request.
    pub end_ns: u64,
    /// Requests of the warm-up.
    pub warmup: u64,
    /// Which part counts.
    pub window: Window,
    /// Whether values are held one by one.
    pub each: bool,
}

impl Survey {
    /// Walks over the requests once. Those beyond `bound` are not held one by one.
    ///
    /// # Errors
    /// Those of the walk.
    pub fn of(requests: &dyn Requests, choice: Choice, bound: Bound) -> Result<Survey, StoreError> {
        let warmup = choice.warmup();
        let (mut all, mut first_ns, mut last_ns, mut end_ns) = (0, u64::MAX, 0, 0);
        let mut counted: Option<(u64, u64)> = None;
        let mut latencies = Latencies::new(warmup);
        requests.each(&mut |r| {
            all += 1;
            (first_ns, last_ns) = (first_ns.min(r.intended_ns), last_ns.max(r.intended_ns));
            end_ns = end_ns.max(r.end_ns);
            if r.index < warmup {
                return;
            }
            let (from, to) = counted.unwrap_or((r.intended_ns, r.intended_ns));
            counted = Some((from.min(r.intended_ns), to.max(r.intended_ns)));
            if r.ok() && matches!(choice, Choice::Steady { .. }) {
                latencies.add(r, bound.holds(all));
            }
        })?;
        let window = match counted {
            None => Window { from_ns: 0, to_ns: 0, how: "no request is left behind the warm-up".into() },
            Some((from_ns, last)) => {
                let whole = match warmup {
                    0 => "from the first request to the last one sent".to_owned(),
                    n => format!("from request {n} to the last one sent"),
                };
                let (from_ns, how) = match choice {
                    Choice::Whole { .. } => (from_ns, whole),
                    Choice::Steady { .. } => latencies.start(from_ns, &whole),
                };
                // A single request, or all at one moment: up to its end.
                let to_ns = if last > counted.map_or(last, |c| c.0) { last } else { end_ns };
                Window { from_ns, to_ns, how }
            }
        };
        let first_ns = first_ns.min(last_ns);
        Ok(Survey { requests: all, first_ns, last_ns, end_ns, warmup, window, each: bound.holds(all) })
    }

    /// Whether a request counts. The last one sent ends the window and is the last of it.
    pub fn counts(&self, r: &RequestRecord) -> bool {
        r.index >= self.warmup && r.intended_ns >= self.window.from_ns && r.intended_ns <= self.window.to_ns
    }
}

/// Observations in one batch of MSER-5.
const BATCH: u64 = 5;
/// Most batches that are held.
const BATCHES: usize = 8192;

/// Latencies of requests that came back whole, in order of their intended times.
enum Latencies {
    /// Intended time, number, latency in ns, in any order.
    Each {
        warmup: u64,
        all: Vec<(u64, u64, f64)>,
    },
    Batched(Batches),
}

impl Latencies {
    fn new(warmup: u64) -> Latencies {
        Latencies::Each { warmup, all: Vec::new() }
    }

    /// Adds one; those that are held one by one become batches when they are not to be held any more.
    fn add(&mut self, r: &RequestRecord, each: bool) {
        let latency = (r.end_ns - r.intended_ns.min(r.end_ns)) as f64;
        if let Latencies::Each { warmup, all } = self {
            all.push((r.intended_ns, r.index, latency));
            if !each {
                let mut batches = Batches { warmup: *warmup, width: BATCH, of: Vec::new() };
                all.iter().for_each(|&(at, index, latency)| batches.add(index, at, latency));
                *self = Latencies::Batched(batches);
            }
        } else if let Latencies::Batched(batches) = self {
            batches.add(r.index, r.intended_ns, latency);
        }
    }

    /// Where the steady part begins, ns, and how that was found; `first_ns` where nothing belongs to the start-up.
    fn start(self, first_ns: u64, whole: &str) -> (u64, String) {
        let (found, rule) = match self {
            Latencies::Each { mut all, .. } => {
                all.sort_unstable_by_key(|l| (l.0, l.1));
                let latencies: Vec<f64> = all.iter().map(|l| l.2).collect();
                let at = |cut: usize| (cut as u64, all.get(cut).map_or(first_ns, |l| l.0));
                let found = mser5(&latencies).map(at);
                if found.is_none() && all.len() < 50 {
                    return (first_ns, format!("{whole}; too few to find a steady part"));
                }
                (found, "MSER-5".to_owned())
            }
            Latencies::Batched(batches) => batches.start(),
        };
        match found {
            Some((0, _)) => (first_ns, format!("{whole}; steady from its start ({rule})")),
            Some((cut, from_ns)) => {
                (from_ns, format!("{whole}, without {cut} more that belong to the start-up ({rule})"))
            }
            None => (first_ns, format!("{whole}; it did not become steady ({rule})")),
        }
    }
}

/// Latencies in batches of as many requests each, those that failed included. Numbers of requests rise with their intended times, so
/// a number says where a request belongs, whenever it comes.
struct Batches {
    warmup: u64,
    /// Requests of one batch.
    width: u64,
    of: Vec<BatchOf>,
}

#[derive(Clone, Copy)]
struct BatchOf {
    n: u64,
    sum: f64,
    first_ns: u64,
}

const NONE: BatchOf = BatchOf { n: 0, sum: 0.0, first_ns: u64::MAX };

impl Batches {
    fn add(&mut self, index: u64, at_ns: u64, latency: f64) {
        let from_start = index.saturating_sub(self.warmup);
        while from_start / self.width >= BATCHES as u64 {
            self.of = self.of.chunks(2).map(|pair| pair.iter().fold(NONE, BatchOf::and)).collect();
            self.width = self.width.saturating_mul(2);
        }
        let at = (from_start / self.width) as usize;
        if at >= self.of.len() {
            self.of.resize(at + 1, NONE);
        }
        if let Some(batch) = self.of.get_mut(at) {
            *batch = batch.and(&BatchOf { n: 1, sum: latency, first_ns: at_ns });
        }
    }

    /// How many belong to the start-up and when it is over, and the rule's name.
    fn start(self) -> (Option<(u64, u64)>, String) {
        let filled: Vec<BatchOf> = self.of.into_iter().filter(|b| b.n > 0).collect();
        let means: Vec<f64> = filled.iter().map(|b| b.sum / b.n as f64).collect();
        let found = mser(&means)
            .and_then(|cut| Some((filled.iter().take(cut).map(|b| b.n).sum(), filled.get(cut)?.first_ns)));
        (found, format!("MSER-{}", self.width))
    }
}

impl BatchOf {
    fn and(self, other: &BatchOf) -> BatchOf {
        BatchOf {
            n: self.n + other.n,
            sum: self.sum + other.sum,
            first_ns: self.first_ns.min(other.first_ns),
        }
    }
}
