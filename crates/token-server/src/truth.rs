//! What the server knows about each request: the times that a client's measurements are compared with.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One finished request as the server saw it.
///
/// All times are `CLOCK_MONOTONIC` in nanoseconds, so that another thread or process of the same machine can compare
/// them with its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truth {
    /// Number of the request among those for tokens, from 1 in the order of arrival.
    pub id: u64,
    /// Right after the `read()` that completed the request. For pipelined requests this is the connection's last
    /// `read()` before the request was looked at.
    pub arrival_ns: u64,
    /// The `x-request-id` header.
    pub request_id: Option<String>,
    /// Right after the `write()` with the last byte of the first content; `None` when no content was sent.
    pub first_token_ns: Option<u64>,
    /// The same for each event with content, in order; empty unless [`keep_chunks`](crate::Options::keep_chunks) is
    /// set. Events that left in one `write()` share its time.
    pub chunk_ns: Vec<u64>,
    /// The same for the last content; `None` when the answer ended before its last token was sent.
    pub last_token_ns: Option<u64>,
    /// Right after the `write()` with the last byte of the answer, or when the connection was found closed.
    pub end_ns: u64,
    /// Tokens (words) of the prompt; 0 when the request was refused.
    pub prompt_tokens: u32,
    /// Tokens that were rendered into the answer.
    pub output_tokens: u32,
    /// Status of the answer; 0 when none was begun.
    pub status: u16,
    /// Whether the client closed the connection before the answer was complete.
    pub aborted: bool,
}

/// The current time of `CLOCK_MONOTONIC` in nanoseconds: the clock of every time in [`Truth`].
pub fn now_ns() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // The clock starts at boot, so both parts are non-negative.
    t.tv_sec.unsigned_abs() * 1_000_000_000 + t.tv_nsec.unsigned_abs()
}

/// Finished requests that nobody has fetched, shared by the server's thread and its handle.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    records: Mutex<Vec<Truth>>,
    limit: usize,
    dropped: AtomicU64,
}

impl Ledger {
    /// Keeps at most `limit` records between two fetches.
    pub(crate) fn new(limit: usize) -> Self {
        Ledger { limit, ..Ledger::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Truth>> {
        // Nothing that holds the lock can leave the list half changed.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record, or counts it as dropped.
    pub(crate) fn push(&self, truth: Truth) {
        let mut records = self.lock();
        if records.len() < self.limit {
            records.push(truth);
        } else {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes all records.
    pub(crate) fn take(&self) -> Vec<Truth> {
        std::mem::take(&mut *self.lock())
    }

    /// Records that did not fit.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ledger_counts_what_it_drops() {
        let ledger = Ledger::new(2);
        for id in 1..=5 {
            ledger.push(Truth { id, ..Truth::default() });
        }
        assert_eq!(ledger.take().iter().map(|t| t.id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(ledger.dropped(), 3);
        assert_eq!(ledger.take(), []);
    }

    #[test]
    fn the_clock_does_not_go_back() {
        let a = now_ns();
        assert!(now_ns() >= a && a > 0);
    }
}
