//! JSON Schemas of the formats, generated from the types.

use crate::format::{Manifest, OutcomeRecord, RepeatRecord, Summary, WarningRecord};
use crate::serving::{ClientOutcome, LoadManifest, LoadSummary, RequestLine, SeriesManifest, SeriesSummary};
use schemars::{Schema, schema_for};

/// File name and schema of every format of a run folder.
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![
        ("manifest.schema.json", schema_for!(Manifest)),
        ("repeat.schema.json", schema_for!(RepeatRecord)),
        ("outcome.schema.json", schema_for!(OutcomeRecord)),
        ("warning.schema.json", schema_for!(WarningRecord)),
        ("summary.schema.json", schema_for!(Summary)),
        ("load.schema.json", schema_for!(LoadManifest)),
        ("load-summary.schema.json", schema_for!(LoadSummary)),
        ("series.schema.json", schema_for!(SeriesManifest)),
        ("series-summary.schema.json", schema_for!(SeriesSummary)),
        ("client.schema.json", schema_for!(ClientOutcome)),
        ("request.schema.json", schema_for!(RequestLine)),
    ]
}
