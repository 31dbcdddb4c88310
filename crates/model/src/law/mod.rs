//! Contention laws, one file each.
//!
//! * [`fill`]: stations of one SM with hard capacity and a soft knee.
//! * [`issue`]: issue slots, where always-ready warps win.
//! * [`first`]: who gets more of a station that is full.
//! * [`bandwidth`]: latency against bandwidth, for L2 and device memory.
//! * [`capacity`]: who misses when footprints share a cache.

pub mod bandwidth;
pub mod capacity;
pub mod fill;
pub mod first;
pub mod issue;
