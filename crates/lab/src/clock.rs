//! The kernel's clocks as nanoseconds.

use rustix::time::{ClockId, clock_gettime};

/// A clock's value, ns.
pub(crate) fn ns(id: ClockId) -> u64 {
    let t = clock_gettime(id);
    // Neither is ever negative on the clocks that are read here.
    t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs()
}
