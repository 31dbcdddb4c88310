//! The one clock of a phase.

use rustix::time::{ClockId, Timespec, clock_gettime};

/// Nanoseconds of a time span.
pub(crate) fn ns(t: Timespec) -> u64 {
    (t.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(t.tv_nsec as u64)
}

/// Time since a start, ns, on `CLOCK_MONOTONIC`: the same clock in every process of the machine, so that what a server
/// beside stamps can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    start_ns: u64,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Clock {
        Clock { start_ns: ns(clock_gettime(ClockId::Monotonic)) }
    }

    /// A clock that starts at this time of `CLOCK_MONOTONIC`, ns; before it is reached, [`Clock::now`] is 0.
    pub fn at(start_ns: u64) -> Clock {
        Clock { start_ns }
    }

    /// When it started, ns of `CLOCK_MONOTONIC`.
    pub fn start_ns(self) -> u64 {
        self.start_ns
    }

    /// Time since the start, ns.
    pub fn now(self) -> u64 {
        ns(clock_gettime(ClockId::Monotonic)).saturating_sub(self.start_ns)
    }
}

/// Time of day and `CLOCK_MONOTONIC`, ns, at the same moment to within what the shortest of three looks took.
pub(crate) fn real_and_monotonic_ns() -> (u64, u64) {
    let look = || {
        let before = ns(clock_gettime(ClockId::Monotonic));
        let real = ns(clock_gettime(ClockId::Realtime));
        let took = ns(clock_gettime(ClockId::Monotonic)).saturating_sub(before);
        (took, real, before + took / 2)
    };
    let mut best = look();
    for _ in 0..2 {
        // A look takes some 0.1 µs; one that took much longer was interrupted.
        if best.0 < 1000 {
            break;
        }
        best = best.min(look());
    }
    (best.1, best.2)
}

/// CPU time that the calling thread has used, ns.
pub fn thread_cpu_ns() -> u64 {
    ns(clock_gettime(ClockId::ThreadCPUTime))
}

/// CPU time that all threads of the process have used, ns.
pub fn process_cpu_ns() -> u64 {
    ns(clock_gettime(ClockId::ProcessCPUTime))
}
