//! Loads at several levels.

use super::Ranged;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which load of a series.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Level {
    /// Requests per second, or users.
    pub value: f64,
    /// The same level for the first (0), second, … time.
    pub repeat: u32,
}

/// What differs between the loads of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LevelOf {
    /// Requests per second of an open loop.
    Rate,
    /// Users of a closed loop.
    Concurrency,
}

/// The highest level that keeps the limits is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SearchRecord {
    /// Lowest level.
    pub low: f64,
    /// Highest level.
    pub high: f64,
    /// Share of requests that must keep the limits.
    pub attain: f64,
    /// How near the two sides must come, as a share.
    pub within: f64,
    /// Most loads at one level.
    pub repeats: u32,
}

/// `series.json`: loads on one server at several levels. Written first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeriesManifest {
    /// Format version.
    pub format: u32,
    /// What differs.
    pub over: LevelOf,
    /// The levels, where they were given.
    pub levels: Vec<f64>,
    /// How levels are chosen otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchRecord>,
}

/// Whether a level keeps the limits of a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LevelVerdict {
    /// Yes: the whole interval of the share is at or above what was asked for.
    Kept,
    /// The share is, but not the whole interval.
    KeptPerhaps,
    /// The share is not, but a part of the interval.
    BrokenPerhaps,
    /// No.
    Broken,
}

impl LevelVerdict {
    /// Taken as kept.
    pub fn kept(self) -> bool {
        matches!(self, LevelVerdict::Kept | LevelVerdict::KeptPerhaps)
    }
}

/// One level of a series: means over its loads. Intervals span those of all its loads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeriesPoint {
    /// Requests per second, or users.
    pub level: f64,
    /// So many loads.
    pub loads: u32,
    /// Requests that count.
    pub requests: u64,
    /// Of them, failed.
    pub failed: u64,
    /// What was measured, by name: `offered_per_s`, `completed_per_s`, `tokens_per_s`, `goodput_per_s`, `slo_share`, and
    /// `ttft_p50_ms`, `ttft_p99_ms`, and so on of `tpot`, `itl` and `e2e`.
    pub metrics: std::collections::BTreeMap<String, Ranged>,
    /// Whether it keeps the limits, in a search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<LevelVerdict>,
    /// What says that its numbers are the client's.
    pub limits: Vec<String>,
}

/// `summary.json` of a series; derived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SeriesSummary {
    /// Levels, ascending.
    pub points: Vec<SeriesPoint>,
    /// Highest level that kept the limits, in a search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<f64>,
    /// Lowest level that did not, in a search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken: Option<f64>,
}
