//! From an experiment file to trials.
//!
//! An experiment is a TOML file: tenants, the trials they run in, and figures. [`Spec::parse`] reads it,
//! [`Spec::resolve`] turns it into a [`plan::Plan`] for one device, with every size a number. The language is
//! described in `docs/experiments.md`; every error names the line and the field and says what would be right.

mod builtin;
mod error;
pub mod expr;
pub mod metric;
pub mod models;
mod overrides;
pub mod plan;
mod program;
mod raw;
mod read;
mod registry;
mod resolve;
pub mod server;
mod sharing;
mod spec;
mod sweep;
mod tenant;
mod tree;
mod value;

pub use builtin::{BuiltIn, builtin, find};
pub use error::{ErrorKind, SpecError};
pub use raw::schema;
pub use spec::Spec;

/// Whether `id` matches a pattern in which `*` stands for any part.
pub fn matches(pattern: &str, id: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == id,
        Some((head, rest)) => id.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len()).filter(|&i| tail.is_char_boundary(i)).any(|i| matches(rest, &tail[i..]))
        }),
    }
}
