//! Tables, figures and pages from stored runs. Measures nothing and reads no file: the records come in as values.

pub mod compare;
mod export;
pub mod figure;
pub mod figures;
pub mod html;
pub mod iterations;
pub mod labels;
pub mod metric;
pub mod page;
pub mod pairs;
pub mod program_figures;
pub mod programs;
pub mod regimes;
pub mod samples;
pub mod scale;
mod server_figures;
pub mod servers;
pub mod serving;
pub mod state;
pub mod summary;
pub mod svg;
pub mod table;
pub mod tenant_tables;
pub mod verdicts;

use cotenant_store::Telemetry;
use cotenant_store::format::{Manifest, OutcomeRecord, RepeatRecord, Summary, WarningRecord};

pub use compare::{
    CompareOptions, Comparison, compare, compare_reference, compare_reference_with, compare_with,
};
pub use export::metrics_csv;
pub use figures::figures_for;
pub use html::report_html;
pub use page::{Block, Note, PageHead, Section, TableBlock, page_html};
pub use regimes::regimes_csv;
pub use summary::summarize;
pub use table::{TableOptions, render_comparison, render_comparison_with, render_table, render_table_with};

/// A run as loaded from its folder.
#[derive(Debug, Clone, PartialEq)]
pub struct RunData {
    /// `manifest.json`.
    pub manifest: Manifest,
    /// `repeats.jsonl`.
    pub repeats: Vec<RepeatRecord>,
    /// `outcomes.jsonl`.
    pub outcomes: Vec<OutcomeRecord>,
    /// `warnings.jsonl`.
    pub warnings: Vec<WarningRecord>,
    /// `summary.json`, or computed anew.
    pub summary: Summary,
    /// `telemetry.csv`, where it is on the clock of the spans.
    pub telemetry: Option<Telemetry>,
}

impl RunData {
    /// A run with its summary computed from the records, without telemetry.
    pub fn new(
        manifest: Manifest,
        repeats: Vec<RepeatRecord>,
        outcomes: Vec<OutcomeRecord>,
        warnings: Vec<WarningRecord>,
    ) -> Self {
        let summary = summarize(&manifest, &repeats, &outcomes);
        RunData { manifest, repeats, outcomes, warnings, summary, telemetry: None }
    }
}
