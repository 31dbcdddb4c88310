//! The crate from outside: files to plans, and files to errors.

mod builtins;
mod common;
mod errors;
mod plans;
mod program_errors;
mod program_plans;
