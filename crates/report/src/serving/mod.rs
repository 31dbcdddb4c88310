//! Loads on servers: from the records of requests to their summary and table.

mod classes;
mod compare;
mod figures;
mod rows;
mod sample;
mod series;
mod summary;
mod table;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_large;
mod window;

pub use compare::{LoadComparison, LoadRow, LoadSide, RatioVerdict, compare_loads, render_load_comparison};
pub use figures::derive_load;
pub use rows::load_csv;
pub use series::{render_series, series_csv, series_figures, summarize_series};
pub use summary::{ClientFacts, LoadOptions, summarize_load, summarize_stored};
pub use table::{render_load, served_by};
pub use window::Choice;
