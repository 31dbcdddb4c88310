//! Two loads, or two series of loads, side by side.

use super::series::measured;
use super::table::{number, served_by};
use crate::table::TableOptions;
use cotenant_stats::{Better, Judge, Verdict};
use cotenant_store::serving::{LevelOf, LoadManifest, LoadSummary, Ranged, SeriesManifest, SeriesSummary};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadSide {
    /// What it is, in words.
    pub label: String,
    /// Metrics by level; one level without a number for a load of its own.
    levels: Vec<(Option<f64>, BTreeMap<String, Ranged>)>,
    over: Option<LevelOf>,
}

impl LoadSide {
    /// A load.
    pub fn of_load(m: &LoadManifest, s: &LoadSummary) -> LoadSide {
        LoadSide { label: label(m), levels: vec![(None, measured(s))], over: None }
    }

    /// A series; `one` is any of its loads.
    pub fn of_series(m: &SeriesManifest, one: &LoadManifest, s: &SeriesSummary) -> LoadSide {
        let levels = s.points.iter().map(|p| (Some(p.level), p.metrics.clone())).collect();
        LoadSide { label: label(one), levels, over: Some(m.over) }
    }
}

fn label(m: &LoadManifest) -> String {
    format!("{} · {} · {}; {}", served_by(m), m.provenance.started, m.arrivals, m.asks)
}

/// What a ratio says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RatioVerdict {
    /// The whole interval lies within 2 % of 1.
    Same,
    /// The whole interval lies above 1.
    Higher,
    /// The whole interval lies below 1.
    Lower,
    /// Anything else.
    Unclear,
}

/// One metric on both sides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadRow {
    /// Level of a series.
    pub level: Option<f64>,
    /// Metric, as in `series-summary.schema.json`.
    pub metric: String,
    /// The first load.
    pub a: Ranged,
    /// The second load.
    pub b: Ranged,
    /// `b / a` with its interval, where both intervals lie above 0.
    pub ratio: Option<Ranged>,
    /// Of the ratio.
    pub verdict: RatioVerdict,
}

/// Load or series `b` against `a`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadComparison {
    /// What `a` is.
    pub a: String,
    /// What `b` is.
    pub b: String,
    /// A row for each metric of each level that both have.
    pub rows: Vec<LoadRow>,
    /// Levels that only `a` has.
    pub only_in_a: Vec<f64>,
    /// Levels that only `b` has.
    pub only_in_b: Vec<f64>,
}

impl LoadComparison {
    /// Largest difference of a ratio from 1, in percent.
    pub fn worst_pct(&self) -> Option<f64> {
        let ratios = self.rows.iter().filter_map(|r| r.ratio);
        ratios.map(|r| 100.0 * (r.value - 1.0).abs()).reduce(f64::max)
    }
}

/// The ratio of two positive numbers with intervals that do not depend on each other: the interval of the difference of their
/// logarithms, recovered from the distances of their bounds (MOVER; Zou and Donner, Statistics in Medicine 27, 2008).
fn ratio(a: Ranged, b: Ranged) -> Option<Ranged> {
    if [a.low, a.value, b.low, b.value].iter().any(|v| *v <= 0.0) {
        return None;
    }
    let middle = (b.value / a.value).ln();
    let below = (b.value / b.low).ln().hypot((a.high / a.value).ln());
    let above = (b.high / b.value).ln().hypot((a.value / a.low).ln());
    Some(Ranged { value: middle.exp(), low: (middle - below).exp(), high: (middle + above).exp() })
}

fn judge(ratio: Option<Ranged>) -> RatioVerdict {
    // Which way is better is not asked: the rule is that of all verdicts, and its words are those of a number.
    let of = |r: Ranged| Judge::default().ratio(r.value, r.low, r.high, Better::Higher, None);
    match ratio.map_or(Verdict::Ambiguous, of) {
        Verdict::Same => RatioVerdict::Same,
        Verdict::Faster => RatioVerdict::Higher,
        Verdict::Slower => RatioVerdict::Lower,
        Verdict::Ambiguous => RatioVerdict::Unclear,
    }
}

/// Compares two loads or two series.
///
/// # Errors
/// A load with a series, or series over different things; in words.
pub fn compare_loads(a: &LoadSide, b: &LoadSide) -> Result<LoadComparison, String> {
    if a.over != b.over {
        let what = |s: &LoadSide| match s.over {
            None => "one load",
            Some(LevelOf::Rate) => "loads at several rates",
            Some(LevelOf::Concurrency) => "loads at several concurrencies",
        };
        return Err(format!("compare {} with {}: both must be of one kind", what(a), what(b)));
    }
    let find = |side: &LoadSide, level| side.levels.iter().find(|l| l.0 == level).map(|l| l.1.clone());
    let mut rows = Vec::new();
    for (level, ours) in &a.levels {
        let Some(theirs) = find(b, *level) else { continue };
        for (name, x) in ours {
            let Some(y) = theirs.get(name) else { continue };
            let ratio = ratio(*x, *y);
            let (metric, verdict) = (name.clone(), judge(ratio));
            rows.push(LoadRow { level: *level, metric, a: *x, b: *y, ratio, verdict });
        }
    }
    let only = |one: &LoadSide, other: &LoadSide| {
        one.levels.iter().filter(|l| find(other, l.0).is_none()).filter_map(|l| l.0).collect()
    };
    Ok(LoadComparison {
        a: a.label.clone(),
        b: b.label.clone(),
        rows,
        only_in_a: only(a, b),
        only_in_b: only(b, a),
    })
}

/// A comparison as lines of text.
pub fn render_load_comparison(c: &LoadComparison) -> String {
    let with = |r: Ranged| {
        if r.low == r.high {
            number(r.value)
        } else {
            format!("{} [{}, {}]", number(r.value), number(r.low), number(r.high))
        }
    };
    let series = c.rows.iter().any(|r| r.level.is_some());
    let mut head = vec!["metric", "a", "b", "b over a", "verdict"];
    if series {
        head.insert(0, "level");
    }
    let right: Vec<usize> = if series { vec![0, 2, 3, 4] } else { vec![1, 2, 3] };
    let mut table = crate::table::table(TableOptions::default(), &head, &right);
    let mut last = None;
    for r in &c.rows {
        let verdict = match r.verdict {
            RatioVerdict::Same => "same",
            RatioVerdict::Higher => "higher",
            RatioVerdict::Lower => "lower",
            RatioVerdict::Unclear => "unclear",
        };
        let ratio = r.ratio.map(|x| format!("{}×", with(x))).unwrap_or_default();
        let mut row = vec![r.metric.clone(), with(r.a), with(r.b), ratio, verdict.to_owned()];
        if series {
            let level =
                if last == Some(r.level) { String::new() } else { r.level.map(number).unwrap_or_default() };
            row.insert(0, level);
        }
        last = Some(r.level);
        table.add_row(row);
    }
    let mut out = format!("a: {}\nb: {}\n{table}\n", c.a, c.b);
    for (what, levels) in [("only in a", &c.only_in_a), ("only in b", &c.only_in_b)] {
        if !levels.is_empty() {
            let all: Vec<String> = levels.iter().map(|l| number(*l)).collect();
            out.push_str(&format!("{what}: {}\n", all.join(", ")));
        }
    }
    out.push_str("intervals are of one load's course; what differs from one start of a server to the next is in none of them\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(value: f64, low: f64, high: f64) -> Ranged {
        Ranged { value, low, high }
    }

    #[test]
    fn the_interval_of_a_ratio_is_that_of_both() {
        // A number that is known exactly adds nothing.
        let found = ratio(r(10.0, 10.0, 10.0), r(12.0, 11.0, 14.0)).expect("positive");
        for (found, want) in [(found.value, 1.2), (found.low, 1.1), (found.high, 1.4)] {
            assert!((found - want).abs() < 1e-12, "{found} {want}");
        }
        // Two equal ones widen it by the root of two, on the scale of logarithms.
        let both = ratio(r(1.0, 0.8, 1.25), r(1.0, 0.8, 1.25)).expect("positive");
        assert!((both.high.ln() - 2f64.sqrt() * 1.25f64.ln()).abs() < 1e-12, "{both:?}");
        assert!((both.high * both.low - 1.0).abs() < 1e-12);
        assert_eq!(ratio(r(0.0, 0.0, 1.0), r(1.0, 1.0, 1.0)), None);
    }

    #[test]
    fn verdicts_follow_the_whole_interval() {
        let of = |low, high| judge(Some(r(1.0, low, high)));
        assert_eq!(of(0.99, 1.01), RatioVerdict::Same);
        assert_eq!(of(1.001, 1.5), RatioVerdict::Higher);
        assert_eq!(of(0.5, 0.999), RatioVerdict::Lower);
        assert_eq!((of(0.9, 1.1), judge(None)), (RatioVerdict::Unclear, RatioVerdict::Unclear));
    }

    #[test]
    fn levels_are_matched_and_kinds_are_not_mixed() {
        let side = |levels: &[f64], over| LoadSide {
            label: "x".into(),
            levels: levels
                .iter()
                .map(|l| (Some(*l), BTreeMap::from([("m".into(), r(*l, *l, *l))])))
                .collect(),
            over,
        };
        let c =
            compare_loads(&side(&[1.0, 2.0], Some(LevelOf::Rate)), &side(&[2.0, 4.0], Some(LevelOf::Rate)));
        let c = c.expect("of one kind");
        assert_eq!((c.rows.len(), c.rows[0].level), (1, Some(2.0)));
        assert_eq!((&c.only_in_a[..], &c.only_in_b[..], c.worst_pct()), (&[1.0][..], &[4.0][..], Some(0.0)));
        let e =
            compare_loads(&side(&[1.0], Some(LevelOf::Rate)), &side(&[1.0], None)).expect_err("two kinds");
        assert!(e.contains("several rates with one load"), "{e}");
    }
}
