//! Metrics of servers: time to first token, time per output token, and how many requests kept their limits. What servers
//! have in common with other programs (latency, throughput, tokens, energy) is in `programs.rs`.

use crate::iterations::counted;
use crate::metric;
use crate::page::TableBlock;
use crate::samples::TrialSamples;
use cotenant_stats::quantile;
use cotenant_store::format::{Estimate, PhaseRecord, RepeatRecord, TrialRecord, TrialSummary};
use cotenant_store::serving::{ServedPhase, Slo};

/// A list of a phase.
type TimeOf = fn(&ServedPhase) -> &[u64];
/// Times of requests, with their metrics' stems.
const TIMES: [(&str, TimeOf); 2] = [("ttft", |s| s.ttft_ns.as_slice()), ("tpot", |s| s.tpot_ns.as_slice())];
/// Whether a tenant is a server.
pub fn is_server(t: &cotenant_store::format::TenantRecord) -> bool {
    t.kind == "server"
}

/// What is counted of a time of a tenant in a phase, ms.
fn times(phase: &PhaseRecord, tenant: &str, of: TimeOf) -> Vec<f64> {
    let Some(run) = phase.tenants.iter().find(|t| t.name == tenant) else { return Vec::new() };
    let Some(served) = &run.served else { return Vec::new() };
    let kept = of(served).get(counted(run)).unwrap_or_default();
    kept.iter().filter(|ns| **ns > 0).map(|ns| *ns as f64 / 1e6).collect()
}

/// Adds the per-repeat values of one repeat. `together`: the phase in which the tenants are together.
pub(crate) fn observe(s: &mut TrialSamples<'_>, repeat: &RepeatRecord, together: Option<&str>) {
    let trial = s.trial;
    let phase = |name: &str| repeat.phases.iter().filter(move |p| p.phase == name).collect::<Vec<_>>();
    let servers: Vec<&str> = trial.tenants.iter().filter(|t| is_server(t)).map(|t| t.name.as_str()).collect();
    for name in &servers {
        for (stem, of) in TIMES {
            let in_phase =
                |kind: &str| -> Vec<f64> { phase(kind).iter().flat_map(|p| times(p, name, of)).collect() };
            let alone = in_phase("solo");
            let shared = together.map(in_phase).unwrap_or_default();
            for (p, words) in [(0.5, "p50"), (0.99, "p99")] {
                let (a, b) = (quantile(&alone, p), quantile(&shared, p));
                if together != Some("solo") {
                    s.push_ok(format!("solo_{stem}_{words}_ms.{name}"), a);
                }
                s.push_ok(format!("{stem}_{words}_ms.{name}"), b);
            }
            if let (Ok(a), Ok(b)) = (quantile(&alone, 0.5), quantile(&in_phase("shared"), 0.5)) {
                s.push(format!("slowdown_{stem}.{name}"), b / a);
            }
        }
        for (prefix, kind) in [("solo_", Some("solo")), ("", together)] {
            let Some(kind) = kind.filter(|k| prefix.is_empty() || together != Some(*k)) else { continue };
            for p in phase(kind) {
                let Some(run) = p.tenants.iter().find(|t| t.name == *name) else { continue };
                let Some(served) = &run.served else { continue };
                let failed: u32 = served.failed.values().sum();
                s.push(
                    format!("{prefix}failed_pct.{name}"),
                    100.0 * f64::from(failed) / f64::from(served.requests.max(1)),
                );
                if let Some(said) = &served.said {
                    for (metric, value) in [
                        ("batch", said.running_mean),
                        ("queue", said.waiting_mean),
                        ("queue_time_ms", said.queue_time_ms),
                        ("kv_pct", said.kv_usage_max.map(|v| 100.0 * v)),
                        ("preemptions", said.preemptions),
                    ] {
                        if let Some(v) = value {
                            s.push(format!("{prefix}{metric}.{name}"), v);
                        }
                    }
                }
                if let Some(slo) = &served.slo {
                    let good = counted(run).filter(|i| kept(slo, served, &run.requests_ns, *i)).count();
                    // Failed requests have kept nothing.
                    let of = counted(run).len() + failed as usize;
                    s.push(format!("{prefix}slo_pct.{name}"), 100.0 * good as f64 / of.max(1) as f64);
                }
            }
        }
    }
    let Some(kind) = together.filter(|_| !servers.is_empty()) else { return };
    for (stem, of) in TIMES {
        let all: Vec<f64> =
            servers.iter().flat_map(|n| phase(kind).into_iter().flat_map(move |p| times(p, n, of))).collect();
        for (p, words) in [(0.5, "p50"), (0.99, "p99")] {
            s.push_ok(format!("{stem}_{words}_ms"), quantile(&all, p));
        }
    }
    let latencies: Vec<f64> = servers
        .iter()
        .flat_map(|n| phase(kind).into_iter().filter_map(move |p| p.tenants.iter().find(|t| t.name == *n)))
        .flat_map(|run| {
            run.requests_ns.get(counted(run)).unwrap_or_default().iter().map(|ns| *ns as f64 / 1e6)
        })
        .collect();
    for (p, words) in [(0.5, "p50"), (0.99, "p99")] {
        s.push_ok(format!("latency_{words}_ms"), quantile(&latencies, p));
    }
}

/// Whether request `i` kept the limits.
fn kept(slo: &Slo, s: &ServedPhase, e2e_ns: &[u64], i: usize) -> bool {
    let within = |limit: Option<f64>, ns: Option<&u64>| {
        limit.is_none_or(|ms| ns.is_some_and(|ns| *ns as f64 / 1e6 <= ms))
    };
    within(slo.ttft_ms, s.ttft_ns.get(i))
        && within(slo.tpot_ms, s.tpot_ns.get(i))
        && within(slo.e2e_ms, e2e_ns.get(i))
}

/// The table of servers, a row for each: what was asked, and its times alone and together.
pub(crate) fn table(trials: &[(&TrialRecord, &TrialSummary)]) -> Option<TableBlock> {
    const HEAD: [&str; 16] = [
        "trial",
        "server",
        "load",
        "tok/s",
        "TTFT p50 alone",
        "TTFT p50",
        "TTFT p99",
        "slowdown",
        "TPOT p50 alone",
        "TPOT p50",
        "TPOT p99",
        "slowdown",
        "within limits",
        "batch",
        "queue",
        "KV cache",
    ];
    let mut rows = Vec::new();
    for (trial, summary) in trials.iter().filter(|(_, s)| !s.metrics.is_empty()) {
        for (i, t) in trial.tenants.iter().filter(|t| is_server(t)).enumerate() {
            let of = |name: &str| summary.metrics.get(&format!("{name}.{}", t.name));
            let value = |name: &str| of(name).map_or_else(String::new, |e: &Estimate| metric::value(e.value));
            let ratio = |name: &str| {
                of(name).map_or_else(String::new, |e| {
                    format!("{} {}", metric::with_unit("slowdown", e.value), metric::interval(e))
                })
            };
            rows.push(vec![
                if i == 0 { trial.id.clone() } else { String::new() },
                t.name.clone(),
                load_words(&t.workload["load"]),
                value("tokens_per_s"),
                value("solo_ttft_p50_ms"),
                value("ttft_p50_ms"),
                value("ttft_p99_ms"),
                ratio("slowdown_ttft"),
                value("solo_tpot_p50_ms"),
                value("tpot_p50_ms"),
                value("tpot_p99_ms"),
                ratio("slowdown_tpot"),
                of("slo_pct").map_or_else(String::new, |e| metric::with_unit("slo_pct", e.value)),
                value("batch"),
                value("queue"),
                of("kv_pct").map_or_else(String::new, |e| metric::with_unit("kv_pct", e.value)),
            ]);
        }
    }
    let used: Vec<usize> =
        (0..HEAD.len()).filter(|c| rows.iter().any(|r: &Vec<String>| !r[*c].is_empty())).collect();
    (!rows.is_empty()).then(|| TableBlock {
        head: used.iter().map(|c| HEAD[*c].to_owned()).collect(),
        numeric: used.iter().enumerate().filter(|(_, c)| **c > 2).map(|(i, _)| i).collect(),
        rows: rows.iter().map(|r| used.iter().map(|c| r[*c].clone()).collect()).collect(),
    })
}

/// A load in few words: `16 users`, `4/s gamma(3)`.
fn load_words(load: &serde_json::Value) -> String {
    if let Some(users) = load["concurrency"].as_u64() {
        return format!("{users} users");
    }
    let text = |key: &str| load[key].as_str().map(|s| format!(" {s}")).unwrap_or_default();
    match load["rate"].as_f64() {
        Some(rate) => {
            let kind = if load["trace"].is_string() { " trace".to_owned() } else { text("arrivals") };
            format!("{}/s{kind}{}", metric::value(rate), text("profile"))
        }
        None => "trace".to_owned(),
    }
}
