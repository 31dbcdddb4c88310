//! Run folders: formats with version and schema, and the reading and writing of them. Computes nothing.

pub mod folder;
pub mod format;
mod load_folder;
mod requests;
pub mod schema;
pub mod serving;
pub mod telemetry;

pub use folder::{
    Run, RunFolder, StoreError, check_writable, load, write_derived, write_summary, write_whole,
};
pub use load_folder::{LoadFolder, SeriesFolder, StoredLoad};
pub use requests::{RequestFile, Requests};
pub use telemetry::{Telemetry, load_telemetry};
