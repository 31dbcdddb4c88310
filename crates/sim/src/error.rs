//! What can go wrong in a simulated run.

use cotenant_model::residency::ShapeError;
use cotenant_units::Bytes;

/// Why a scenario cannot run. Messages read after "failed to".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SimError {
    /// No streams.
    #[error("simulate a scenario without streams; give at least one")]
    NoStreams,
    /// A launch that no SM can hold.
    #[error("simulate stream {stream}: {source}")]
    Shape {
        /// Stream, from 0.
        stream: usize,
        /// What does not fit.
        source: ShapeError,
    },
    /// A stream with nothing to do.
    #[error("simulate stream {stream}: it has {what}; give at least one")]
    Empty {
        /// Stream, from 0.
        stream: usize,
        /// `no work` or `no launches`.
        what: &'static str,
    },
    /// SMs that the card lacks.
    #[error("simulate stream {stream} on SM {sm}; the card has SMs 0 to {last}")]
    NoSuchSm {
        /// Stream, from 0.
        stream: usize,
        /// Highest SM asked for.
        sm: u32,
        /// Highest SM of the card.
        last: u32,
    },
    /// Requests are described and there are none.
    #[error(
        "simulate stream {stream}: its {what} belong to requests; set `sync_every` to the launches of one"
    )]
    NoRequests {
        /// Stream, from 0.
        stream: usize,
        /// `arrivals` or `pacing`.
        what: &'static str,
    },
    /// A number that is no number.
    #[error("simulate stream {stream}: `{field}` must be finite and not negative")]
    BadNumber {
        /// Stream, from 0.
        stream: usize,
        /// Field of the stream or of its demand.
        field: &'static str,
    },
    /// Too much memory.
    #[error("allocate {asked} for all streams together; the card has {have}")]
    OutOfMemory {
        /// Asked for.
        asked: Bytes,
        /// Memory of the card.
        have: Bytes,
    },
    /// `after` names no stream, itself, or a circle.
    #[error("start stream {stream} after stream {after}: that stream does not exist or waits for this one")]
    BadOrder {
        /// Stream, from 0.
        stream: usize,
        /// The stream it waits for.
        after: usize,
    },
    /// A stream that waits for another cannot loop until all are done.
    #[error("run stream {stream} after another in a steady scenario; there all streams loop together")]
    OrderInSteady {
        /// Stream, from 0.
        stream: usize,
    },
    /// The event limit was reached.
    #[error(
        "finish within {limit} events (virtual time {at_ms:.1} ms); a tenant may starve the others for ever: \
         use fewer launches or the fixed protocol"
    )]
    TooManyEvents {
        /// The limit.
        limit: u64,
        /// Virtual time reached, ms.
        at_ms: f64,
    },
    /// Green contexts that do not fit.
    #[error("grant green contexts of {given:?} SMs (asked {asked:?}); the card has {have}")]
    Green {
        /// Asked for.
        asked: Vec<u32>,
        /// What the card would give.
        given: Vec<u32>,
        /// SMs of the card.
        have: u32,
    },
    /// A percentage that is none.
    #[error("give an MPS client {percentage} % of the SMs; it must be above 0 and at most 100")]
    Percentage {
        /// Asked for.
        percentage: f64,
    },
}
