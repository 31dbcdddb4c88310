//! The host side of a stream: when each launch reaches the device.

use crate::scenario::{Stream, Work};
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
    /// The host can begin the next launch, ns.
    free: f64,
    last_end: f64,
    launch_ns: f64,
    gap_ns: f64,
    endless: bool,
}

impl<'a> Host<'a> {
    pub fn new(spec: &'a Stream, m: &Machine, steady: bool) -> Host<'a> {
        let mut h = Host {
            spec,
            sent: 0,
            done: 0,
            stand: Stand::Over,
            free: spec.start_ns,
            last_end: 0.0,
            launch_ns: spec.launch_ns.unwrap_or(m.launch_ns[0]),
            gap_ns: m.launch_gap_ns,
            endless: steady,
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
        if !self.endless && self.sent >= self.spec.launches {
            self.stand = Stand::Over;
            return;
        }
        let every = self.spec.sync_every;
        if every > 0 && self.sent > 0 && self.sent.is_multiple_of(every) {
            self.free = self.free.max(self.last_end + self.spec.gap_ns);
        }
        let submit = self.free;
        // The host spends an empty launch's time as its work, on the launch path.
        let spent = if matches!(self.work().1, Work::Empty { .. }) { 0.0 } else { self.launch_ns };
        self.free = submit + spent;
        let start = if self.sent > 0 { self.last_end + self.gap_ns } else { 0.0 };
        self.stand = Stand::Coming { ready: self.free.max(start), submit, queued: self.free };
    }
}
