//! Tests of the report from synthetic runs; see each file.

mod chromium;
mod common;
mod drawing;
mod model_runs;
mod models;
mod summary;
