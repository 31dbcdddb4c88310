//! When requests arrive: seeded arrival processes and the replay of traces, as offsets in nanoseconds from the start
//! of a phase.
//!
//! Pure: no clock, no files, no threads. The same seed gives the same offsets on every machine; streams of different
//! tenants of one experiment are independent of each other and of the tenants' order (see [`stream_seed`]).
//!
//! ```
//! use cotenant_load::{Arrivals, Process, Profile, Until, stream_seed};
//! let arrivals = Arrivals {
//!     process: Process::Gamma { cv: 2.0 },
//!     profile: Profile::Flat,
//!     rate_per_s: 50.0,
//!     seed: stream_seed(7, "chat", 0),
//! };
//! let offsets = arrivals.offsets(Until::Count(1000))?;
//! assert_eq!(offsets.len(), 1000);
//! assert!(offsets.is_sorted());
//! # Ok::<(), cotenant_load::LoadError>(())
//! ```

mod arrivals;
mod error;
mod process;
mod profile;
mod seed;
mod trace;
mod trace_error;

pub use arrivals::{Arrivals, MOST_ARRIVALS, Until};
pub use error::LoadError;
pub use process::{Process, weibull_shape};
pub use profile::{Lengths, Profile, Step};
pub use seed::stream_seed;
pub use trace::{Format, Record, Trace};
pub use trace_error::TraceError;
