//! Cost of a run folder: appending a repeat (with its wait for the disk) and loading a long run.
//! Run: `cargo bench -p cotenant-store`.

use cotenant_store::format::{Manifest, RepeatRecord};
use cotenant_store::{RunFolder, load};
use divan::Bencher;
use divan::counter::ItemsCount;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// Repeats of the long run: 250 trials of 40 repeats.
const REPEATS: u32 = 10_000;

fn main() {
    divan::main();
}

fn manifest() -> Manifest {
    let text = json!({
        "format": 1, "name": "bench", "title": "t", "summary": "s", "section": "", "simulated": true,
        "device": {
            "name": "card", "selector": "sim:card", "uuid_hash": null, "sms": 132, "l2_bytes": 52_428_800,
            "l1_bytes": 262_144, "memory_bytes": 85_899_345_920u64, "capability": "9.0", "driver": null,
            "cuda": null, "max_sm_clock_mhz": 1980.0, "max_memory_clock_mhz": 2619.0, "card": "card"
        },
        "trials": [], "figures": [],
        "stopping": { "min_repeats": 8, "max_repeats": 20, "precision": 0.01, "budget_ns": 8_000_000_000u64, "warmup": 2 },
        "provenance": {
            "version": "0", "git_revision": "0", "ptx_sha256": "0", "seed": 1,
            "started": "1970-01-01T00:00:00Z", "os": "o", "cpu": "c"
        },
        "spec_text": "", "overrides": []
    });
    read(text)
}

fn read<T: serde::de::DeserializeOwned>(v: Value) -> T {
    match serde_json::from_value(v) {
        Ok(x) => x,
        Err(e) => unreachable!("a record of this format: {e}"),
    }
}

/// A repeat as a pair under the fixed protocol leaves it: two solo phases, a sequential one and a shared one.
fn repeat(n: u32) -> RepeatRecord {
    let tenant = |name: &str| {
        json!({
            "name": name, "time_ns": 42_000_000.5, "start_ns": 0, "end_ns": 42_000_000, "launches": 8, "counted": 8,
            "spans_ns": (0..8).map(|i| (i * 5_250_000, (i + 1) * 5_250_000)).collect::<Vec<_>>(),
            "requests_ns": [], "sm_clock_mhz": 1755.0
        })
    };
    let phase = |name: &str, who: &[&str]| {
        json!({
            "phase": name, "makespan_ns": 42_000_000, "overlap": 0.97,
            "tenants": who.iter().map(|w| tenant(w)).collect::<Vec<_>>(),
            "state": {
                "sm_clock_mhz": 1755.0, "memory_clock_mhz": 2619.0, "power_w": 512.4, "temperature_c": 55.0,
                "throttle": [], "utilization_pct": 100.0
            }
        })
    };
    read(json!({
        "format": 1, "trial": format!("trial-{}", n / 40), "attempt": 1, "repeat": n % 40, "marked": [],
        "phases": [
            phase("solo", &["copy"]), phase("solo", &["mul"]), phase("sequential", &["copy", "mul"]),
            phase("shared", &["copy", "mul"])
        ]
    }))
}

fn folder(parent: &Path) -> RunFolder {
    match RunFolder::create(parent, "19700101T000000Z", &manifest()) {
        Ok(f) => f,
        Err(e) => unreachable!("failed to {e}"),
    }
}

fn scratch() -> tempfile::TempDir {
    match tempfile::tempdir() {
        Ok(d) => d,
        Err(e) => unreachable!("no temporary folder: {e}"),
    }
}

/// One repeat, on disk when it returns.
#[divan::bench(sample_count = 200)]
fn append_a_repeat(bencher: Bencher<'_, '_>) {
    let dir = scratch();
    let mut f = folder(dir.path());
    let r = repeat(0);
    bencher.bench_local(|| f.append_repeat(&r).is_ok());
}

/// A run of 10,000 repeats, read and checked.
#[divan::bench(sample_count = 10)]
fn load_10k_repeats(bencher: Bencher<'_, '_>) {
    let dir = scratch();
    let path = folder(dir.path()).path().to_owned();
    let mut text = String::new();
    for n in 0..REPEATS {
        text += &serde_json::to_string(&repeat(n)).unwrap_or_default();
        text.push('\n');
    }
    if let Err(e) = fs::write(path.join("repeats.jsonl"), text) {
        unreachable!("no room for the run: {e}");
    }
    bencher.counter(ItemsCount::new(REPEATS)).bench_local(|| {
        let n = load(&path).map_or(0, |run| run.repeats.len());
        assert_eq!(n, REPEATS as usize, "the run was not read whole");
        n
    });
}
