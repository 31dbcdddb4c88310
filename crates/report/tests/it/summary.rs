//! From records to statistics, and comparisons of them.

use crate::common::{self, done, manifest, repeat, tenant, trial};
use cotenant_report::{
    CompareOptions, RunData, compare, compare_reference, compare_with, render_comparison, render_table,
    summarize,
};
use cotenant_stats::Verdict;
use cotenant_store::format::*;
use cotenant_units::Nanos;

fn one_trial() -> Manifest {
    let mut m = manifest("t", false);
    m.trials.push(trial("a", "s", None, "streams"));
    m
}

#[track_caller]
fn near(e: Option<&Estimate>, value: f64, share: f64) {
    let e = e.expect("the metric is there");
    assert!((e.value / value - 1.0).abs() <= share, "{e:?}, expected {value}");
    assert!(e.low <= e.value && e.value <= e.high, "{e:?}");
}

#[test]
fn metrics_are_those_of_the_records() {
    let m = one_trial();
    let repeats: Vec<RepeatRecord> = (0..12).map(|n| repeat("a", n, [5.0, 10.0], [1.5, 2.0], 3)).collect();
    let mut outcome = done("a");
    outcome.iterations = vec![2, 1];
    let s = summarize(&m, &repeats, &[outcome]);
    let t = &s.trials[0];
    assert_eq!((t.status.as_str(), t.repeats, t.left_out), ("done", 12, 0));
    let e = |name: &str| t.metrics.get(name);
    near(e("solo_ms.copy"), 5.0, 0.01);
    near(e("shared_ms.mul"), 20.0, 0.01);
    near(e("slowdown.copy"), 1.5, 0.01);
    near(e("slowdown.mul"), 2.0, 0.01);
    near(e("slowdown"), 1.75, 0.01);
    // 8 launches each: (5 + 10) ms in turn against max(7.5, 20) ms together.
    near(e("speedup"), 15.0 / 20.0, 0.02);
    near(e("ratio"), 20.0 / 15.0, 0.02);
    near(e("stp"), 1.0 / 1.5 + 0.5, 0.01);
    near(e("fairness"), 0.75, 0.01);
    near(e("throughput_ratio.mul"), 0.5, 0.02);
    // Two passes of a copy over 4 GiB: read and written.
    near(e("bandwidth_gbs.copy"), 2.0 * 2.0 * 4.294967296 / 5e-3, 0.01);
    assert!(e("bandwidth_gbs.mul").is_none());
    near(e("power_w"), 430.0, 0.05);
    assert_eq!(t.verdicts["slowdown.copy"], "slower");
    assert!((t.overlap.expect("overlap") - 0.97).abs() < 0.02);
}

#[test]
fn slowdowns_pair_solo_and_shared_of_one_repeat() {
    // The clock halves midway; a ratio of medians would be off, the median of ratios is not.
    let m = one_trial();
    let repeats: Vec<RepeatRecord> = (0..11)
        .map(|n| {
            let drift = if n < 4 { 1.0 } else { 2.0 };
            repeat("a", n, [5.0 * drift, 5.0 * drift], [1.5, 1.5], 0)
        })
        .collect();
    let s = summarize(&m, &repeats, &[]);
    near(s.trials[0].metrics.get("slowdown.copy"), 1.5, 0.01);
    assert_eq!(s.trials[0].status, "unfinished");
}

#[test]
fn only_the_highest_attempt_counts() {
    let m = one_trial();
    let mut repeats: Vec<RepeatRecord> = (0..9).map(|n| repeat("a", n, [5.0, 5.0], [3.0, 3.0], 1)).collect();
    repeats.extend((0..7).map(|n| RepeatRecord { attempt: 2, ..repeat("a", n, [5.0, 5.0], [1.2, 1.2], 1) }));
    let s = summarize(&m, &repeats, &[done("a")]);
    near(s.trials[0].metrics.get("slowdown.copy"), 1.2, 0.01);
    assert_eq!(s.trials[0].repeats, 7);
    assert_eq!(s.trials[0].status, "unfinished", "the outcome is of attempt 1");
}

#[test]
fn marked_repeats_go_only_if_enough_clean_ones_remain() {
    let m = one_trial();
    let build = |clean: u32| -> Vec<RepeatRecord> {
        (0..12)
            .map(|n| {
                let marked = n >= clean;
                let slow = if marked { 4.0 } else { 1.5 };
                let mut r = repeat("a", n, [5.0, 5.0], [slow, slow], 2);
                r.marked = if marked { vec!["clock drop".into()] } else { Vec::new() };
                r
            })
            .collect()
    };
    let s = summarize(&m, &build(8), &[]);
    assert_eq!((s.trials[0].repeats, s.trials[0].left_out), (8, 4));
    near(s.trials[0].metrics.get("slowdown.copy"), 1.5, 0.01);
    let s = summarize(&m, &build(7), &[]);
    assert_eq!((s.trials[0].repeats, s.trials[0].left_out), (12, 0), "min_repeats is 8");
}

#[test]
fn request_percentiles_pool_all_repeats() {
    let mut m = one_trial();
    m.trials[0].tenants[0] = TenantRecord { request: 4, ..tenant("copy", "copy") };
    let repeats: Vec<RepeatRecord> = (0..10)
        .map(|n| {
            let mut r = repeat("a", n, [5.0, 5.0], [1.5, 1.5], 4);
            r.phases[0].tenants[0].requests_ns = (1..=100).map(|k| k * 1_000_000).collect();
            r.phases[3].tenants[0].requests_ns = (1..=100).map(|k| k * 2_000_000).collect();
            r
        })
        .collect();
    let s = summarize(&m, &repeats, &[]);
    let e = |name: &str| s.trials[0].metrics.get(name);
    near(e("p50_ms.copy"), 101.0, 0.001);
    near(e("solo_request_p50_ms.copy"), 50.5, 0.001);
    near(e("p99_ms.copy"), 198.0, 0.001);
    near(e("solo_p99_ms.copy"), 99.0, 0.001);
    assert_eq!(e("p99_ms.copy").map(|e| e.n), Some(1000));
    assert_eq!(s, summarize(&m, &repeats, &[]), "the bootstrap is seeded");
}

#[test]
fn useless_records_give_no_metric_and_no_panic() {
    let m = one_trial();
    let mut r = repeat("a", 0, [5.0, 5.0], [1.5, 1.5], 4);
    for p in &mut r.phases {
        p.makespan_ns = Nanos(0);
        for t in &mut p.tenants {
            (t.time_ns, t.start_ns, t.end_ns) = (f64::NAN, Nanos(5), Nanos(1));
        }
        p.overlap = Some(f64::NAN);
    }
    let s = summarize(&m, &[r], &[]);
    assert!(
        s.trials[0]
            .metrics
            .keys()
            .all(|k| ["power_w", "sm_clock_mhz", "utilization_pct"].contains(&k.as_str()))
    );
    assert_eq!(s.trials[0].overlap, None);
    assert!(serde_json::to_string(&s).is_ok());
}

#[test]
fn a_run_is_the_same_as_itself_and_as_its_noise() {
    let run = common::issue_slots(false);
    let c = compare(&run, &run);
    assert!(!c.rows.is_empty());
    for r in &c.rows {
        assert_eq!(r.difference, 0.0);
        assert_eq!(r.verdict, Verdict::Same, "{r:?}");
    }
    assert_eq!(c.worst_error_pct(), Some(0.0));
}

#[test]
fn a_real_run_and_a_simulated_one_differ_where_they_were_made_to() {
    let (real, sim) = (common::issue_slots(false), common::issue_slots(true));
    let c = compare(&real, &sim);
    let row = |trial: &str, metric: &str| {
        c.rows.iter().find(|r| r.trial == trial && r.metric == metric).expect("a row")
    };
    // 1.13 against 1.2 in one trial, equal elsewhere.
    assert_eq!(row("ilp4-t128", "slowdown.copy").verdict, Verdict::Slower);
    assert_eq!(row("ilp4-t128", "speedup").verdict, Verdict::Slower);
    assert_eq!(row("ilp2-t128", "slowdown.copy").verdict, Verdict::Same);
    let error = &c.errors[0];
    assert!(error.worst_at.starts_with("ilp4-t128"), "{error:?}");
    assert!((error.worst - 0.062).abs() < 0.01 && error.mean < error.worst);
    // slowdown of each tenant, and the speedup, of five trials.
    assert_eq!(error.rows, 15);
    assert!(c.b.simulated && c.a.as_ref().is_some_and(|a| !a.simulated));
}

#[test]
fn host_bound_trials_are_shown_but_left_out_of_the_error() {
    let (mut real, sim) = (common::issue_slots(false), common::issue_slots(true));
    real.manifest.trials[3].host_bound = true;
    let c = compare(&real, &sim);
    assert_eq!(c.errors[0].rows, 12);
    assert!(c.rows.iter().any(|r| r.host_bound && r.trial == "ilp4-t128"));
    assert!(c.errors[0].worst < 0.02);
}

#[test]
fn trials_on_one_side_only_and_changed_plans_are_named() {
    let (a, mut b) = (common::issue_slots(false), common::issue_slots(false));
    b.manifest.trials.remove(0);
    b.manifest.trials[0].tenants[0].threads = 64;
    let b = RunData::new(b.manifest, b.repeats, b.outcomes, b.warnings);
    let c = compare(&a, &b);
    assert_eq!(c.only_in_a, ["ilp1-t128"]);
    assert!(c.only_in_b.is_empty());
    assert_eq!(c.planned_differently, ["ilp2-t128"]);
}

#[test]
fn references_are_filtered_by_source_and_judged_as_exact() {
    let run = common::issue_slots(false);
    let all = compare_reference(&run, None);
    assert_eq!((all.rows.len(), all.errors.len()), (10, 2));
    let paper = compare_reference(&run, Some("PAPER"));
    assert_eq!(paper.rows.len(), 5);
    assert_eq!(paper.errors[0].against, "paper, H100 NVL");
    let last = paper.rows.last().expect("rows");
    assert_eq!((last.a.value, last.a.n, last.verdict), (1.001, 0, Verdict::Same));
    // 1.77 here against 1.65 there.
    assert_eq!(paper.rows[3].verdict, Verdict::Faster);
    assert!(compare_reference(&run, Some("nobody")).rows.is_empty());
    let loose = CompareOptions::with_tolerance(0.2).expect("a tolerance");
    assert!(
        compare_with(&run, &common::issue_slots(true), &loose)
            .rows
            .iter()
            .all(|r| r.verdict == Verdict::Same)
    );
}

#[test]
fn references_without_a_value_of_ours_are_named() {
    let mut run = common::issue_slots(false);
    run.manifest.trials[0].references.push(common::reference("paper, H100 NVL", "p99_ms.copy", 1.0));
    run.manifest.trials[0].references.push(common::reference("paper, H100 NVL", "speedup", f64::NAN));
    let c = compare_reference(&run, None);
    assert_eq!(c.missing, ["ilp1-t128 p99_ms.copy (paper, H100 NVL)"]);
}

#[test]
fn tables_are_plain_text() {
    let run = common::modes();
    insta::assert_snapshot!("table_modes", render_table(&run.manifest, &run.summary));
    let run = common::issue_slots(true);
    insta::assert_snapshot!("table_bars", render_table(&run.manifest, &run.summary));
    insta::assert_snapshot!("comparison", render_comparison(&compare(&common::issue_slots(false), &run)));
    insta::assert_snapshot!("comparison_reference", render_comparison(&compare_reference(&run, None)));
    let evil = common::hostile();
    for text in [render_table(&evil.manifest, &evil.summary), render_comparison(&compare(&evil, &evil))] {
        assert!(
            !text.contains(|c: char| c.is_control() && c != '\n'),
            "no control characters reach a terminal"
        );
    }
}

#[test]
fn comparisons_serialise_and_have_a_schema() {
    let run = common::issue_slots(false);
    let c = compare_reference(&run, None);
    let json = serde_json::to_string(&c).expect("JSON");
    let back: cotenant_report::Comparison = serde_json::from_str(&json).expect("read back");
    assert_eq!(back.rows.len(), c.rows.len());
    assert!(json.contains("\"verdict\":\"faster\""));
}
