//! The host side of a stream: when each launch reaches the device.

use crate::noise;
use crate::scenario::{Request, Stream, Work};
use cotenant_model::Machine;

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stand {
    /// Waits for another stream.
    Held(usize),
    /// The next launch reaches the device at `ready`.
    Coming {
        /// ns.
        ready: f64,
        /// The host began it, ns.
        submit: f64,
        /// It lies in the stream's queue from then on, ns; later than that it only waits for the one before.
        queued: f64,
    },
    /// A launch is on the device.
    Running,
    /// All done.
    Over,
}

/// A stream in a run.
#[derive(Debug)]
pub(crate) struct Host<'a> {
    pub spec: &'a Stream,
    /// Launches that reached the device.
    pub sent: u64,
    /// Launches that ended.
    pub done: u64,
    pub stand: Stand,
    /// Requests that ended.
    pub requests: Vec<Request>,
    /// Seed and index of the stream, for the spread of host times.
    seed: (u64, usize),
    /// The host can begin the next launch, ns.
    free: f64,
    last_end: f64,
    launch_ns: f64,
    gap_ns: f64,
    endless: bool,
    /// Request under way: arrival and beginning, ns, and the factor on its host times.
    request: (f64, f64, f64),
}

impl<'a> Host<'a> {
    pub fn new(spec: &'a Stream, m: &Machine, steady: bool, seed: u64, index: usize) -> Host<'a> {
        let mut h = Host {
            spec,
            sent: 0,
            done: 0,
            stand: Stand::Over,
            requests: Vec::new(),
            seed: (seed, index),
            free: spec.start_ns,
            last_end: 0.0,
            launch_ns: spec.launch_ns.unwrap_or(m.launch_ns[0]),
            gap_ns: m.launch_gap_ns,
            endless: steady,
            request: (0.0, 0.0, 1.0),
        };
        match spec.after {
            Some(other) => h.stand = Stand::Held(other),
            None => h.next(),
        }
        h
    }

    /// What the next launch does.
    pub fn work(&self) -> (usize, Work) {
        let slot = (self.sent % self.spec.pattern.len() as u64) as usize;
        (slot, self.spec.pattern[slot])
    }

    /// The stream it waited for is done.
    pub fn release(&mut self, now: f64) {
        self.free = self.free.max(now);
        self.next();
    }

    /// A launch ended.
    pub fn ended(&mut self, now: f64) {
        self.done += 1;
        self.last_end = now;
        self.next();
    }

    fn next(&mut self) {
        let every = self.spec.sync_every;
        let boundary = every > 0 && self.sent.is_multiple_of(every);
        if boundary && self.sent > 0 {
            self.end_request();
        }
        if !self.endless && self.sent >= self.spec.launches {
            self.stand = Stand::Over;
            return;
        }
        if boundary && !self.begin_request() {
            self.stand = Stand::Over;
            return;
        }
        let (slot, work) = self.work();
        let paced = self.spec.pacing.as_ref().and_then(|p| p.steps.get(slot));
        if paced.is_some_and(|p| p.reads) {
            self.free = self.free.max(self.last_end);
        }
        let submit = self.free;
        let (spent, lag) = match (paced, work) {
            (Some(p), _) => (p.host_ns * self.request.2, p.lag_ns),
            // The host spends an empty launch's time as its work, on the launch path.
            (None, Work::Empty { .. }) => (0.0, self.gap_ns),
            (None, _) => (self.launch_ns, self.gap_ns),
        };
        self.free = submit + spent;
        let start = if self.sent > 0 { self.last_end + lag } else { 0.0 };
        self.stand = Stand::Coming { ready: self.free.max(start), submit, queued: self.free };
    }

    /// The host waits for the request's last launch and goes on.
    fn end_request(&mut self) {
        let (tail, sync, between) =
            self.spec.pacing.as_ref().map_or((0.0, 0.0, 0.0), |p| (p.tail_host_ns, p.sync_ns, p.between_ns));
        let (arrival, begin, factor) = self.request;
        let end = (self.free + tail * factor).max(self.last_end + sync);
        let ns = |t: f64| t.round() as u64;
        self.requests.push(Request { arrival_ns: ns(arrival), begin_ns: ns(begin), end_ns: ns(end) });
        self.free = end + between + self.spec.gap_ns;
    }

    /// False where no further request arrives.
    fn begin_request(&mut self) -> bool {
        let index = self.requests.len();
        let arrivals = &self.spec.arrivals_ns;
        let arrival = match arrivals.get(index) {
            Some(&a) => {
                let a = a + self.spec.start_ns;
                self.free = self.free.max(a);
                a
            }
            None if arrivals.is_empty() => self.free,
            None => return false,
        };
        let spread = self.spec.pacing.as_ref().map_or(&[][..], |p| &p.spread);
        let factor = factor(spread, noise::uniform(self.seed.0, self.seed.1, index as u64));
        self.request = (arrival, self.free, factor);
        true
    }
}

/// The factor of a request whose host times are longer than those of a share `u` of the requests: between the points
/// evenly, beyond the ends as at them.
fn factor(spread: &[(f64, f64)], u: f64) -> f64 {
    let at = spread.partition_point(|p| p.0 < u);
    match (at.checked_sub(1).and_then(|i| spread.get(i)), spread.get(at)) {
        (Some(a), Some(b)) => a.1 + (b.1 - a.1) * (u - a.0) / (b.0 - a.0).max(f64::MIN_POSITIVE),
        (Some(p), None) | (None, Some(p)) => p.1,
        (None, None) => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_times_follow_their_spread() {
        let spread = [(0.1, 0.9), (0.5, 1.0), (0.9, 1.4)];
        for (u, want) in [(0.0, 0.9), (0.1, 0.9), (0.3, 0.95), (0.5, 1.0), (0.7, 1.2), (0.99, 1.4)] {
            assert!((factor(&spread, u) - want).abs() < 1e-12, "{u}");
        }
        assert_eq!(factor(&[], 0.3), 1.0);
    }
}
