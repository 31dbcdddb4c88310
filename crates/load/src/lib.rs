//! When requests arrive: seeded arrival processes, the replay of traces, and clients whose load changes from window to
//! window, as offsets in nanoseconds from the start of a phase; and whether arrivals look as was asked for.
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
mod servegen;
mod servegen_error;
mod shape;
mod trace;
mod trace_error;
mod trace_read;

pub use arrivals::{Arrivals, MOST_ARRIVALS, Until, stretch};
pub use error::LoadError;
pub use process::{Process, weibull_shape};
pub use profile::{Lengths, Profile, Step};
pub use seed::stream_seed;
pub use servegen::{Window, Windows};
pub use servegen_error::WindowsError;
pub use shape::{Departure, NEGLIGIBLE, Shape, departs, expected, shape};
pub use trace::{BLOCK_TOKENS, Format, Record, Trace};
pub use trace_error::TraceError;
