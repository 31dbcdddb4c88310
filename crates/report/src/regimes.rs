//! Servers under different sharing regimes at the same total load: one table of throughput and tails, and what each regime gives
//! against each other one.
//!
//! Both framings stand side by side, since they answer different questions. *Of one*: all servers' tokens against those of the first
//! regime (as a rule one server with the whole GPU) under the same total load: what splitting costs. *STP*: each server against itself
//! alone under the same regime, interleaved in the same repeats: what sharing costs.
//!
//! Regimes cannot take turns as phases do, since another regime wants other processes. So their repeats are not paired: intervals are
//! quotients of intervals, and the test is Mann and Whitney's.

use crate::compare::quotient;
use crate::export::csv_text;
use crate::html::mode;
use crate::metric;
use crate::page::TableBlock;
use crate::pairs::result;
use crate::samples::TrialSamples;
use crate::servers::is_server;
use cotenant_stats::{Judge, holm, mann_whitney};
use cotenant_store::format::{Estimate, Manifest, RegimePair, Summary, TrialRecord, TrialSummary};

/// What regimes are compared in.
const COMPARED: [&str; 5] =
    ["tokens_per_s", "latency_p50_ms", "latency_p99_ms", "ttft_p50_ms", "tpot_p50_ms"];

/// What is asked of the servers of a trial, but for how much: trials that agree in it and in their x are alike.
fn kind(trial: &TrialRecord) -> Option<String> {
    let first = trial.tenants.first()?;
    trial.tenants.iter().all(is_server).then_some(())?;
    let mut load = first.workload.get("load")?.as_object()?.clone();
    // How much each of several servers gets of the total differs between regimes.
    for key in ["concurrency", "rate", "requests", "warmup", "trace_part", "model"] {
        load.remove(key);
    }
    let open = first.workload["load"].get("concurrency").is_none();
    Some(format!("{open} {}", serde_json::Value::Object(load)))
}

/// Groups of trials with the same kind of load and the same x, in which at least two series are.
fn groups<'t>(trials: impl Iterator<Item = &'t TrialRecord>) -> Vec<(f64, Vec<&'t TrialRecord>)> {
    let mut out: Vec<(f64, String, Vec<&TrialRecord>)> = Vec::new();
    for trial in trials {
        let (Some(x), Some(kind)) = (trial.x, kind(trial)) else { continue };
        match out.iter_mut().find(|(at, k, _)| *at == x && *k == kind) {
            Some((_, _, alike)) => alike.push(trial),
            None => out.push((x, kind, vec![trial])),
        }
    }
    out.retain(|(_, _, alike)| alike.iter().any(|t| t.series != alike[0].series));
    out.into_iter().map(|(x, _, alike)| (x, alike)).collect()
}

/// Every regime against each that stands before it, at every load that both had.
pub(crate) fn pairs(all: &[TrialSamples], trials: &[TrialSummary]) -> Vec<RegimePair> {
    let of = |id: &str| {
        let at = all.iter().position(|s| s.trial.id == id)?;
        Some((all.get(at)?, trials.get(at)?))
    };
    let mut out = Vec::new();
    for (x, alike) in groups(all.iter().map(|s| s.trial)) {
        for (i, a) in alike.iter().enumerate() {
            for b in alike.iter().skip(i + 1).filter(|b| b.series != a.series) {
                let (Some((sa, ta)), Some((sb, tb))) = (of(&a.id), of(&b.id)) else { continue };
                for name in COMPARED {
                    let (Some(ea), Some(eb)) = (ta.metrics.get(name), tb.metrics.get(name)) else { continue };
                    let Some(ratio) = quotient(eb, ea) else { continue };
                    let values = |s: &TrialSamples| s.values.get(name).cloned().unwrap_or_default();
                    let Ok(u) = mann_whitney(&values(sb), &values(sa)) else { continue };
                    out.push(RegimePair {
                        x,
                        a: a.id.clone(),
                        b: b.id.clone(),
                        metric: name.to_owned(),
                        ratio,
                        mann_whitney: result(u.statistic, u.p),
                        verdict: String::new(),
                    });
                }
            }
        }
    }
    let adjusted = holm(&out.iter().map(|p| p.mann_whitney.p).collect::<Vec<_>>());
    let judge = Judge::default();
    for (pair, p) in out.iter_mut().zip(adjusted) {
        pair.mann_whitney.adjusted_p = p;
        let r = pair.ratio;
        pair.verdict = judge.ratio(r.value, r.low, r.high, metric::better(&pair.metric), Some(p)).to_string();
    }
    out
}

/// Whether the servers of a trial have limits on their SMs, which with a share of memory each look like partitions and are none.
fn emulated(trial: &TrialRecord) -> bool {
    trial.tenants.iter().any(is_server)
        && trial.sharing.get("percentage").and_then(|p| p.as_array()).is_some_and(|p| !p.is_empty())
}

/// What must be said of servers with limits wherever they stand.
const EMULATION: &str = "emulation without isolation";

/// Sharing mode of a trial with servers, in words.
pub(crate) fn regime(trial: &TrialRecord) -> String {
    if emulated(trial) { format!("{} ({EMULATION})", mode(trial)) } else { mode(trial) }
}

const HEAD: [&str; 14] = [
    "load",
    "regime",
    "sharing",
    "servers",
    "tok/s",
    "interval",
    "of the first",
    "STP",
    "latency p50",
    "latency p99",
    "TTFT p50",
    "TTFT p99",
    "TPOT p50",
    "J/tok",
];

/// A row of the table.
fn row(trial: &TrialRecord, summary: &TrialSummary, against: Option<&RegimePair>) -> [String; 14] {
    let of = |name: &str| summary.metrics.get(name).map_or_else(String::new, |e| metric::value(e.value));
    [
        trial.x.map(crate::scale::plain).unwrap_or_default(),
        trial.series.clone(),
        regime(trial),
        trial.tenants.len().to_string(),
        of("tokens_per_s"),
        summary.metrics.get("tokens_per_s").map(metric::interval).unwrap_or_default(),
        against.map_or_else(String::new, |p| {
            format!("{} {}", metric::with_unit("ratio", p.ratio.value), metric::interval(&p.ratio))
        }),
        of("stp"),
        of("latency_p50_ms"),
        of("latency_p99_ms"),
        of("ttft_p50_ms"),
        of("ttft_p99_ms"),
        of("tpot_p50_ms"),
        of("joules_per_token"),
    ]
}

/// Trials with numbers that meet another regime, by groups, in the order of the plan; each with its tokens against the group's first.
fn told<'r>(
    manifest: &'r Manifest,
    summary: &'r Summary,
) -> Vec<(&'r TrialRecord, &'r TrialSummary, Option<&'r RegimePair>)> {
    let mut out = Vec::new();
    for (_, alike) in groups(manifest.trials.iter()) {
        for trial in &alike {
            let found = summary.trials.iter().find(|s| s.trial == trial.id && !s.metrics.is_empty());
            let Some(s) = found else { continue };
            let of_first =
                |p: &&RegimePair| p.a == alike[0].id && p.b == trial.id && p.metric == "tokens_per_s";
            out.push((*trial, s, summary.regimes.iter().find(of_first)));
        }
    }
    out
}

/// The study's first table: regime and load against throughput and tails. Nothing where no two regimes had the same load.
pub(crate) fn table(manifest: &Manifest, summary: &Summary) -> Option<TableBlock> {
    let rows: Vec<_> =
        told(manifest, summary).into_iter().map(|(t, s, against)| row(t, s, against)).collect();
    // The simulated GPU has no meter of energy, for one.
    let used: Vec<usize> = (0..HEAD.len()).filter(|c| rows.iter().any(|r| !r[*c].is_empty())).collect();
    (!rows.is_empty()).then(|| TableBlock {
        head: used.iter().map(|c| HEAD[*c].to_owned()).collect(),
        numeric: used.iter().enumerate().filter(|(_, c)| **c == 0 || **c > 2).map(|(i, _)| i).collect(),
        rows: rows.iter().map(|r| used.iter().map(|c| r[*c].clone()).collect()).collect(),
    })
}

/// Regimes against each other.
pub(crate) fn tests(manifest: &Manifest, summary: &Summary) -> Option<TableBlock> {
    let series =
        |id: &str| manifest.trials.iter().find(|t| t.id == id).map_or("", |t| t.series.as_str()).to_owned();
    let rows: Vec<Vec<String>> = summary
        .regimes
        .iter()
        .map(|p| {
            vec![
                crate::scale::plain(p.x),
                format!("{} / {}", series(&p.b), series(&p.a)),
                metric::words(&p.metric),
                metric::with_unit("ratio", p.ratio.value),
                metric::interval(&p.ratio),
                format!("{:.3}", p.mann_whitney.p),
                format!("{:.3}", p.mann_whitney.adjusted_p),
                p.verdict.clone(),
            ]
        })
        .collect();
    let head = ["load", "regimes", "of", "ratio", "interval", "p", "adjusted p", "verdict"];
    (!rows.is_empty()).then(|| TableBlock {
        head: head.iter().map(|h| (*h).to_owned()).collect(),
        numeric: vec![0, 3, 4, 5, 6],
        rows,
    })
}

/// `regimes.csv`: the table for other programs, with the trial and the ends of intervals in columns of their own. Empty where there is
/// no table.
pub fn regimes_csv(manifest: &Manifest, summary: &Summary) -> String {
    let metrics = [
        "tokens_per_s",
        "stp",
        "latency_p50_ms",
        "latency_p99_ms",
        "ttft_p50_ms",
        "ttft_p99_ms",
        "tpot_p50_ms",
        "joules_per_token",
    ];
    let mut head: Vec<String> =
        ["trial", "x", "series", "sharing", "servers"].iter().map(|h| (*h).to_owned()).collect();
    for m in metrics {
        head.extend([m.to_owned(), format!("{m}_low"), format!("{m}_high")]);
    }
    head.extend(["of_first", "of_first_low", "of_first_high"].map(str::to_owned));
    let cells = |e: Option<&Estimate>| match e {
        Some(e) => [e.value, e.low, e.high].map(|v| v.to_string()),
        None => Default::default(),
    };
    let rows: Vec<Vec<String>> = told(manifest, summary)
        .into_iter()
        .map(|(trial, s, against)| {
            let x = trial.x.map(|x| x.to_string()).unwrap_or_default();
            let servers = trial.tenants.len().to_string();
            let mut row = vec![trial.id.clone(), x, trial.series.clone(), regime(trial), servers];
            row.extend(metrics.iter().flat_map(|m| cells(s.metrics.get(*m))));
            row.extend(cells(against.map(|p| &p.ratio)));
            row
        })
        .collect();
    if rows.is_empty() { String::new() } else { csv_text(head, rows) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn trial(id: &str, series: &str, sharing: &str, loads: &[&str]) -> TrialRecord {
        let tenants: Vec<String> = loads
            .iter()
            .enumerate()
            .map(|(i, load)| {
                format!(
                    r#"{{"name": "s{i}", "kernel": "", "blocks": 0, "threads": 0, "launches": 1, "request": 1, "params": {{}},
                        "kind": "server", "workload": {{"load": {load}}}}}"#
                )
            })
            .collect();
        let text = format!(
            r#"{{"id": "{id}", "series": "{series}", "x": 16.0, "vars": {{}}, "sharing": {sharing}, "protocol": "steady",
                "baseline": "same-share", "tenants": [{}], "references": [], "host_bound": false}}"#,
            tenants.join(", ")
        );
        serde_json::from_str(&text).expect("a trial")
    }

    const ONE: &str = r#"{"concurrency": 16, "requests": 64, "prompt_tokens": 256}"#;
    const HALF: &str = r#"{"concurrency": 8, "requests": 32, "prompt_tokens": 256}"#;
    const POISSON: &str = r#"{"rate": 16.0, "requests": 64, "prompt_tokens": 256, "arrivals": "poisson"}"#;
    const BURSTS: &str = r#"{"rate": 8.0, "requests": 64, "prompt_tokens": 256, "arrivals": "gamma(4)"}"#;

    fn plan() -> Vec<TrialRecord> {
        let mps = r#"{"mode": "mps", "percentage": []}"#;
        let halves = r#"{"mode": "mps", "percentage": [50, 50]}"#;
        vec![
            trial("one-16", "one", r#"{"mode": "solo"}"#, &[ONE]),
            trial("one-poisson-16", "one", r#"{"mode": "solo"}"#, &[POISSON]),
            trial("mps-16", "two, MPS", mps, &[HALF, HALF]),
            trial("halves-16", "two, halves", halves, &[HALF, HALF]),
            trial("mps-bursts-16", "two, MPS", mps, &[BURSTS, BURSTS]),
        ]
    }

    fn samples<'a>(trial: &'a TrialRecord, tokens: &[f64]) -> TrialSamples<'a> {
        TrialSamples {
            trial,
            status: "done".into(),
            outcome: None,
            repeats: Vec::new(),
            left_out: 0,
            values: BTreeMap::from([("tokens_per_s".to_owned(), tokens.to_vec())]),
            pairs: BTreeMap::new(),
            overlaps: Vec::new(),
            by_repeat: BTreeMap::new(),
        }
    }

    fn summary(s: &TrialSamples) -> TrialSummary {
        TrialSummary {
            trial: s.trial.id.clone(),
            status: "done".into(),
            repeats: 5,
            left_out: 0,
            overlap: None,
            metrics: s
                .values
                .iter()
                .filter_map(|(name, v)| Some((name.clone(), crate::summary::estimate(v)?)))
                .collect(),
            verdicts: BTreeMap::new(),
            distributions: Vec::new(),
            tests: Vec::new(),
            parts: Vec::new(),
        }
    }

    #[test]
    fn only_regimes_with_the_same_load_meet() {
        let trials = plan();
        let found = groups(trials.iter());
        let ids: Vec<Vec<&str>> =
            found.iter().map(|(_, alike)| alike.iter().map(|t| t.id.as_str()).collect()).collect();
        // Poisson arrivals and bursts differ, although their x is the same, and so do users.
        assert_eq!(ids, [["one-16", "mps-16", "halves-16"]]);
        assert!(!emulated(&trials[2]));
        assert_eq!(regime(&trials[3]), "mps, percentage 50 50 (emulation without isolation)");
    }

    #[test]
    fn each_regime_is_held_against_each_before_it() {
        let trials = plan();
        let values: [&[f64]; 5] = [
            &[1000.0, 1001.0, 1002.0, 1003.0, 1004.0, 1005.0, 1006.0, 1007.0],
            &[900.0; 8],
            &[700.0, 701.0, 702.0, 703.0, 704.0, 705.0, 706.0, 707.0],
            &[700.5, 701.5, 702.5, 703.5, 704.5, 705.5, 706.5, 707.5],
            &[500.0; 8],
        ];
        let all: Vec<TrialSamples> = trials.iter().zip(values).map(|(t, v)| samples(t, v)).collect();
        let summaries: Vec<TrialSummary> = all.iter().map(summary).collect();
        let found = pairs(&all, &summaries);
        let told: Vec<(&str, &str, &str)> =
            found.iter().map(|p| (p.a.as_str(), p.b.as_str(), p.verdict.as_str())).collect();
        assert_eq!(
            told,
            [
                ("one-16", "mps-16", "slower"),
                ("one-16", "halves-16", "slower"),
                ("mps-16", "halves-16", "same")
            ]
        );
        let first = &found[0];
        assert!((first.ratio.value - 703.5 / 1003.5).abs() < 1e-9 && first.ratio.low < first.ratio.value);
        assert!(first.mann_whitney.p < 0.001 && first.mann_whitney.adjusted_p >= first.mann_whitney.p);
    }
}
