//! Summaries of made-up requests whose numbers are known.

use super::*;
use cotenant_stats::Gaps;
use cotenant_store::serving::{
    Failure, FailureKind, LevelOf, LevelVerdict, LoadManifest, LoadSummary, RequestRecord, SearchRecord,
    SeriesManifest, Slo,
};

const MS: u64 = 1_000_000;

/// A request that is due at `at` ms, sent `late` ms after, has its first content `ttft` ms after being due, and then a
/// token every 10 ms.
pub(super) fn request(index: u64, at: u64, late: u64, ttft: u64, tokens: u32) -> RequestRecord {
    let first = (at + ttft) * MS;
    let last = first + u64::from(tokens - 1) * 10 * MS;
    RequestRecord {
        index,
        intended_ns: at * MS,
        sent_ns: Some((at + late) * MS),
        first_byte_ns: Some(first - MS),
        first_chunk_ns: Some(first - MS),
        first_content_ns: Some(first),
        last_content_ns: Some(last),
        end_ns: last + 5 * MS,
        chunks: tokens,
        prompt_tokens: Some(100),
        output_tokens: tokens,
        max_tokens: tokens,
        status: 200,
        ..RequestRecord::default()
    }
}

fn summary(
    records: &[RequestRecord],
    window: Choice,
    slo: Option<Slo>,
) -> cotenant_store::serving::LoadSummary {
    let mut gaps = Gaps::default();
    for r in records {
        let first = r.first_content_ns.unwrap_or(0);
        let stamps: Vec<u64> = (0..u64::from(r.chunks)).map(|i| first + i * 10 * MS).collect();
        gaps.add(r.output_tokens, &stamps);
    }
    let client = ClientFacts {
        wall_ns: 12_000 * MS,
        cpu_ns: 120 * MS,
        busiest: 0.05,
        peak_in_flight: 9,
        writer_wait_ns: 0,
    };
    summarize_load(&records.to_vec(), &gaps, LoadOptions { window, slo, open: true }, client)
        .expect("from memory")
}

pub(super) fn near(found: f64, want: f64, within: f64) {
    assert!((found - want).abs() <= within * want.abs(), "{found} instead of {want}");
}

#[test]
fn a_steady_load_has_the_times_and_rates_that_it_was_made_of() {
    // Ten requests a second for ten seconds, 20 tokens each, TTFT 50 ms, sent on time.
    let records: Vec<_> = (0..100).map(|i| request(i, i * 100, 0, 50, 20)).collect();
    let s = summary(&records, Choice::Whole { warmup: 0 }, None);
    assert_eq!((s.requests, s.outside, s.ok, s.failed.len()), (100, 0, 100, 0));
    near(s.offered_per_s, 10.0, 1e-9);
    near(s.output_tokens_per_s.value, 200.0, 0.02);
    near(s.times["ttft"].p50.value, 50.0, 1e-9);
    near(s.times["tpot"].p99.value, 10.0, 1e-9);
    near(s.times["itl"].p50.value, 10.0, 0.005);
    near(s.times["e2e"].mean.value, 245.0, 1e-9);
    near(s.times["normalised"].mean.value, 245.0 / 20.0, 1e-9);
    near(s.times["first_chunk"].p50.value, 49.0, 1e-9);
    // 245 ms in flight, ten times a second.
    near(s.in_flight, 2.45, 0.02);
    near(s.client.cpu_s_per_1000, 1.2, 1e-9);
    assert!(s.client.limits.is_empty(), "{:?}", s.client.limits);
    assert!(s.goodput.is_none());
}

#[test]
fn every_number_of_a_summary_is_a_row() {
    let mut records: Vec<_> = (0..100).map(|i| request(i, i * 100, 0, 50, 20)).collect();
    records[7].failure = Some(Failure::new(FailureKind::ClosedEarly, "x"));
    let slo = Slo { ttft_ms: Some(100.0), ..Slo::default() };
    let s = summary(&records, Choice::Whole { warmup: 0 }, Some(slo));
    let text = load_csv(&s);
    let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split(',').collect()).collect();
    assert_eq!(rows[0], ["name", "unit", "statistic", "value", "low", "high", "class"]);
    assert!(rows.iter().all(|r| r.len() == 7), "{text}");
    let of = |name: &str, statistic: &str| {
        let row = rows.iter().find(|r| r[0] == name && r[2] == statistic).expect(name);
        (row[1], [3, 4, 5].map(|i| row[i].parse::<f64>().ok()))
    };
    let p99 = s.times["tpot"].p99;
    assert_eq!(of("tpot", "p99"), ("ms", [Some(p99.value), Some(p99.low), Some(p99.high)]));
    assert_eq!(of("ttft", "n"), ("values", [Some(99.0), None, None]));
    assert_eq!(of("failed.closed-early", "count"), ("requests", [Some(1.0), None, None]));
    assert_eq!(of("slo_share", "mean").1[0], Some(0.99));
    // Nothing of the summary's times is left out.
    assert_eq!(rows.iter().filter(|r| r[2] == "p99.9").count(), s.times.len());
}

#[test]
fn classes_are_told_apart_where_there_are_several() {
    let (mut manifest, _) = load_at(1.0, 0, 20);
    let tag = |i: u64| if i.is_multiple_of(4) { 2 } else { 0 };
    // Every fourth is long: TTFT 90 ms instead of 50, 30 tokens instead of 5. One of those fails.
    let mut requests: Vec<_> = (0..80)
        .map(|i| match tag(i) {
            0 => request(i, i * 100, 0, 50, 5),
            tag => RequestRecord { tag, ..request(i, i * 100, 0, 90, 30) },
        })
        .collect();
    requests[4].failure = Some(Failure::new(FailureKind::Timeout, "x"));
    let summarize = |names: &[&str]| {
        let classes = names.iter().map(|n| (*n).to_owned()).collect();
        let manifest = LoadManifest { classes, ..manifest.clone() };
        let stored =
            cotenant_store::StoredLoad { manifest, requests: requests.clone(), gaps: None, client: None };
        summarize_stored(&stored).expect("from memory")
    };
    let s = summarize(&["short", "unused", "long"]);
    let facts: Vec<_> = s.classes.iter().map(|c| (c.name.as_str(), c.requests, c.failed)).collect();
    assert_eq!(facts, [("short", 60, 0), ("long", 20, 1)]);
    near(s.classes[0].times["ttft"].p99.value, 50.0, 1e-9);
    near(s.classes[1].times["ttft"].p50.value, 90.0, 1e-9);
    near(s.classes[1].times["e2e"].mean.value, 90.0 + 290.0 + 5.0, 1e-9);
    assert_eq!(s.classes[1].times["tpot"].n, 19);
    let table = render_load(&s);
    assert!(table.contains("by class, ms") && table.contains("long"), "{table}");
    assert!(load_csv(&s).contains("\nttft,ms,p50,90,90,90,long\n"), "{}", load_csv(&s));
    // One class is all requests, and none is none.
    for names in [&["all"][..], &[]] {
        let s = summarize(names);
        assert!(s.classes.is_empty() && !render_load(&s).contains("by class"));
    }
    manifest.classes.clear();
    assert!(!serde_json::to_string(&manifest).expect("printed").contains("classes"));
}

#[test]
fn lateness_is_part_of_latency_and_is_told() {
    let records: Vec<_> = (0..100).map(|i| request(i, i * 100, 8, 50, 5)).collect();
    let s = summary(&records, Choice::Whole { warmup: 0 }, None);
    near(s.times["ttft"].p50.value, 50.0, 1e-9);
    near(s.times["ttft_sent"].p50.value, 42.0, 1e-9);
    near(s.times["lateness"].p99.value, 8.0, 1e-9);
    assert!(s.client.limits.iter().any(|l| l.contains("sent late")), "{:?}", s.client.limits);
    assert!(render_load(&s).contains("these numbers are the client's"));
}

#[test]
fn waiting_for_a_place_is_told_apart_from_a_late_client() {
    let capped = |i| RequestRecord { capped: true, ..request(i, i * 100, 8, 50, 5) };
    let s = summary(&(0..100).map(capped).collect::<Vec<_>>(), Choice::Whole { warmup: 0 }, None);
    assert_eq!(s.capped, 100);
    assert!(s.client.limits.iter().all(|l| l.contains("place in flight")), "{:?}", s.client.limits);
}

#[test]
fn failures_have_no_times_and_keep_no_limit() {
    let mut records: Vec<_> = (0..60).map(|i| request(i, i * 100, 0, 50, 5)).collect();
    for r in records.iter_mut().filter(|r| r.index % 3 == 0) {
        r.failure = Some(Failure::new(FailureKind::Status, "429"));
    }
    // Of the others half are too slow.
    for r in records.iter_mut().filter(|r| r.index % 3 == 1) {
        r.first_content_ns = r.first_content_ns.map(|t| t + 30 * MS);
    }
    let slo = Slo { ttft_ms: Some(60.0), tpot_ms: None, e2e_ms: Some(1000.0) };
    let s = summary(&records, Choice::Whole { warmup: 0 }, Some(slo));
    assert_eq!((s.ok, s.failed["status"], s.times["ttft"].n), (40, 20, 40));
    let g = s.goodput.expect("limits were given");
    assert_eq!((g.good, g.of), (20, 60));
    near(g.share.value, 1.0 / 3.0, 1e-9);
    assert!(g.share.low <= g.share.value && g.share.value <= g.share.high);
}

#[test]
fn warm_up_and_start_up_are_left_out() {
    // The first 40 are slow, as those of a cold server are.
    let slow = |i: u64| if i < 40 { 500 - 10 * i } else { 50 };
    let records: Vec<_> = (0..400).map(|i| request(i, i * 20, 0, slow(i), 5)).collect();
    let all = summary(&records, Choice::Whole { warmup: 0 }, None);
    assert_eq!(all.outside, 0);
    assert!(all.times["ttft"].max > 400.0);
    let behind = summary(&records, Choice::Whole { warmup: 40 }, None);
    assert_eq!((behind.outside, behind.window.from_ns), (40, 40 * 20 * MS));
    near(behind.times["ttft"].max, 50.0, 0.25);
    let found = summary(&records, Choice::Steady { warmup: 0 }, None);
    assert!((30..80).contains(&found.outside), "{} left out", found.outside);
    assert!(found.window.how.contains("MSER-5"), "{}", found.window.how);
}

#[test]
fn several_tokens_in_a_chunk_are_told_apart_from_single_ones() {
    let records: Vec<_> =
        (0..50).map(|i| RequestRecord { chunks: 5, ..request(i, i * 100, 0, 50, 20) }).collect();
    let s = summary(&records, Choice::Whole { warmup: 0 }, None);
    near(s.times["itl"].p50.value, 10.0, 0.005);
    near(s.times["itl_token"].p50.value, 2.5, 0.005);
    assert_eq!(s.times["itl_token"].n, 4 * s.times["itl"].n);
}

#[test]
fn nothing_and_nearly_nothing_do_no_harm() {
    let none = summary(&[], Choice::Steady { warmup: 3 }, Some(Slo::default()));
    assert_eq!((none.requests, none.ok, none.times.len()), (0, 0, 0));
    assert!(render_load(&none).contains("0 requests"));
    let one = summary(&[request(0, 0, 0, 50, 1)], Choice::Steady { warmup: 0 }, None);
    assert_eq!(one.ok, 1);
    assert!(!one.times.contains_key("tpot"), "one token has none");
    render_load(&one);
}

/// A load of a series at a level whose requests take `ttft` ms to their first content.
pub(super) fn load_at(level: f64, repeat: u32, ttft: u64) -> (LoadManifest, LoadSummary) {
    let manifest: LoadManifest = serde_json::from_value(serde_json::json!({
        "format": 1, "url": "http://127.0.0.1:1", "preset": "generic", "model": "m", "server_version": null, "simulated": true,
        "api": "chat", "stream": true, "asks": "x", "arrivals": "y", "open": true, "seed": 1, "warmup": 0, "steady": false,
        "slo": {"ttft_ms": 100.0}, "in_flight": 10, "timeout_s": 1.0, "body": {}, "departures": [],
        "level": {"value": level, "repeat": repeat},
        "provenance": {"version": "0.1.0", "git_revision": "0123456789abcdef", "ptx_sha256": "", "seed": 1,
            "started": "2026-01-01T00:00:00Z", "os": "x", "cpu": "x"},
    }))
    .expect("a manifest");
    let records: Vec<_> = (0..100).map(|i| request(i, i * 100, 0, ttft + i / 2, 20)).collect();
    (
        manifest,
        summary(&records, Choice::Whole { warmup: 0 }, Some(Slo { ttft_ms: Some(100.0), ..Slo::default() })),
    )
}

#[test]
fn loads_of_one_level_are_one_point_and_a_search_says_what_it_found() {
    // TTFT from 20 to 69 ms, from 60 to 109 twice, from 90 to 139.
    let loads = [load_at(8.0, 0, 90), load_at(2.0, 0, 20), load_at(4.0, 0, 60), load_at(4.0, 1, 60)];
    let search = SearchRecord { low: 1.0, high: 8.0, attain: 0.9, within: 0.05, repeats: 3 };
    let manifest =
        SeriesManifest { format: 1, over: LevelOf::Rate, levels: Vec::new(), search: Some(search) };
    let judge = |of: &[LoadSummary]| {
        let share = of.iter().filter_map(|s| s.goodput).map(|g| g.share.value).sum::<f64>() / of.len() as f64;
        Some(if share >= 0.9 { LevelVerdict::Kept } else { LevelVerdict::BrokenPerhaps })
    };
    let s = summarize_series(&manifest, &loads, &judge);
    let facts: Vec<_> = s.points.iter().map(|p| (p.level, p.loads, p.requests, p.failed)).collect();
    assert_eq!(facts, [(2.0, 1, 100, 0), (4.0, 2, 200, 0), (8.0, 1, 100, 0)]);
    assert_eq!((s.kept, s.broken), (Some(2.0), Some(4.0)));
    near(s.points[1].metrics["slo_share"].value, 0.82, 1e-9);
    near(s.points[0].metrics["goodput_per_s"].value, 10.0, 1e-9);
    insta::assert_snapshot!("series_table", render_series(&manifest, &s));
    insta::assert_snapshot!("series_csv", series_csv(&manifest, &s));
    let figures = series_figures(&manifest, &s, &loads[0].0);
    let names: Vec<_> = figures.iter().map(|f| f.0.as_str()).collect();
    assert_eq!(names.len(), 5, "{names:?}");
    insta::assert_snapshot!("series_figure_goodput", &figures[4].1);
}

#[test]
fn a_level_that_keeps_the_limits_above_one_that_does_not_is_not_what_was_found() {
    let search = SearchRecord { low: 1.0, high: 8.0, attain: 0.9, within: 0.05, repeats: 1 };
    let manifest =
        SeriesManifest { format: 1, over: LevelOf::Concurrency, levels: Vec::new(), search: Some(search) };
    let loads = [load_at(1.0, 0, 20), load_at(2.0, 0, 90), load_at(4.0, 0, 20)];
    let judge = |of: &[LoadSummary]| {
        let kept = of[0].goodput.is_some_and(|g| g.share.value >= 0.9);
        Some(if kept { LevelVerdict::Kept } else { LevelVerdict::Broken })
    };
    let s = summarize_series(&manifest, &loads, &judge);
    assert_eq!((s.kept, s.broken), (Some(1.0), Some(2.0)));
}

#[test]
fn a_load_is_drawn_by_its_times_and_over_time() {
    let (manifest, _) = load_at(1.0, 0, 20);
    let requests: Vec<_> = (0..40).map(|i| request(i, i * 100, 0, 20 + i, 20)).collect();
    let mut gaps = Gaps::default();
    for r in &requests {
        let first = r.first_content_ns.unwrap_or(0);
        // Gaps of 4 to 22 ms.
        let stamps: Vec<u64> = (0..20).map(|i| first + i * (7 + i) * MS / 2).collect();
        gaps.add(20, &stamps);
    }
    let gaps = serde_json::to_string(&gaps).ok();
    let stored = cotenant_store::StoredLoad { manifest, requests, gaps, client: None };
    let (_, figures) = derive_load(&stored).expect("from memory");
    insta::assert_snapshot!("load_figure_times", &figures[0].1);
    insta::assert_snapshot!("load_figure_over_time", &figures[1].1);
}
