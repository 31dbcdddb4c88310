//! From an experiment file to trials.
//!
//! An experiment is a TOML file: tenants, the trials they run in, and figures. [`Spec::parse`] reads it,
//! [`Spec::resolve`] turns it into a [`plan::Plan`] for one device, with every size a number. The language is
//! described in `docs/experiments.md`; every error names the line and the field and says what would be right.

mod builtin;
mod error;
pub mod expr;
pub mod metric;
mod overrides;
pub mod plan;
mod raw;
mod read;
mod registry;
mod resolve;
mod sharing;
mod spec;
mod sweep;
mod tree;
mod value;

pub use builtin::{BuiltIn, builtin, find};
pub use error::{ErrorKind, SpecError};
pub use raw::schema;
pub use spec::Spec;
