//! Runs of models: their metrics, tests, tables and figures.

use crate::model_runs::{self, all_pairs, copies, four_and_one, mixed, pair};
use cotenant_report::figures::{experiment_figures, machine_state, timeline};
use cotenant_report::samples::samples;
use cotenant_report::svg::Embed;
use cotenant_report::{RunData, figures_for, render_table, report_html};
use cotenant_store::format::*;

#[track_caller]
fn near(t: &TrialSummary, metric: &str, value: f64, share: f64) {
    let e = t.metrics.get(metric).unwrap_or_else(|| panic!("{metric} is there"));
    assert!((e.value - value).abs() <= share * value.abs().max(1e-3), "{metric}: {e:?}, expected {value}");
    assert!(e.low <= e.value && e.value <= e.high, "{metric}: {e:?}");
}

#[test]
fn a_pair_has_the_metrics_it_was_made_with() {
    let run = pair();
    let t = &run.summary.trials[0];
    let (a, b) = ("distilgpt21", "distilgpt22");
    near(t, &format!("solo_p50_ms.{a}"), 4.65, 0.02);
    near(t, &format!("p50_ms.{a}"), 4.65 * 1.45, 0.02);
    near(t, &format!("slowdown_p50.{b}"), 1.6, 0.02);
    near(t, &format!("event_ms.{b}"), 4.65 * 1.6 - 0.08, 0.02);
    near(t, &format!("solo_busy_ms.{a}"), 4.65 * 1.02 * 0.35, 0.03);
    near(t, &format!("solo_kernel_ms.{a}"), 4.65 * 1.02 * 0.35 * 1.04, 0.03);
    // The kernels of the traced iterations, which are 2 % longer, in the time of the others.
    near(t, &format!("launch_bound.{a}"), 1.0 - 0.35 * 1.02, 0.01);
    near(t, &format!("trace_overhead.{a}"), 0.02, 0.1);
    near(t, &format!("kernels.{a}"), 84.0, 0.0);
    let rate = 1e3 / (4.65 * 1.45);
    near(t, &format!("throughput.{a}"), rate, 0.02);
    near(t, &format!("tokens_per_s.{a}"), 1024.0 * rate, 0.02);
    near(t, "throughput", 1e3 / 4.65 * (1.0 / 1.45 + 1.0 / 1.6), 0.02);
    near(t, "spread", 1.6 / 1.45 - 1.0, 0.1);
    near(t, "start_spread_us", 4.0, 0.0);
    near(t, "dram_pct", 12.8, 0.01);
    near(t, &format!("solo_dram_pct.{a}"), 8.0, 0.01);
    let (fast, slow) = (t.metrics[&format!("slowdown.{a}")].value, t.metrics[&format!("slowdown.{b}")].value);
    near(t, "antt", (fast + slow) / 2.0, 0.01);
    near(
        t,
        "jain",
        (1.0 / fast + 1.0 / slow).powi(2) / (2.0 * (1.0 / fast.powi(2) + 1.0 / slow.powi(2))),
        0.01,
    );
    // 270 W over both, against 245 W for each alone.
    near(t, "joules_per_iteration", 270.0 / t.metrics["throughput"].value, 0.02);
    near(t, &format!("solo_joules_per_token.{a}"), 245.0 / (1e3 / (4.65 * 1.03)) / 1024.0, 0.03);
    assert!(t.metrics["energy_ratio"].value < 1.0);
    assert!(!t.metrics.contains_key("solo_request_p50_ms.distilgpt21"), "that is of kernels");
    assert!(!t.metrics.contains_key("p50_all_ms.distilgpt21"), "one kind of part says nothing");
}

#[test]
fn only_counted_iterations_reach_a_summary() {
    let mut run = pair();
    for p in run.repeats.iter_mut().flat_map(|r| &mut r.phases).filter(|p| p.phase == "shared") {
        for t in &mut p.tenants {
            // The first ten are absurd and do not count.
            t.counted_from = 10;
            t.counted -= 10;
            t.requests_ns[..10].fill(9_000_000_000);
            for s in &mut t.spans_ns[..10] {
                s.1 = s.0 + 9_000_000_000;
            }
        }
    }
    let t = &model_runs::finish(run).summary.trials[0];
    near(t, "p50_ms.distilgpt21", 4.65 * 1.45, 0.02);
    assert!(t.metrics["max_ms.distilgpt21"].value < 20.0);
}

#[test]
fn the_parts_show_the_large_model_getting_faster() {
    let run = four_and_one();
    let t = &run.summary.trials[0];
    near(t, "p50_all_ms.mistral1", 93.0 * 2.3, 0.03);
    near(t, "p50_one_ms.mistral1", 93.0 * 0.92, 0.03);
    near(t, "solo_p50_ms.mistral1", 93.0, 0.03);
    let one = t.parts.iter().find(|p| p.active == "one").expect("a part");
    assert!(one.share > 0.7 && one.p50_ms.len() == 1);
    assert!((one.state["dram_pct"].value - 8.0).abs() < 0.1, "{:?}", one.state);
    assert!((t.parts.iter().map(|p| p.share).sum::<f64>() - 1.0).abs() < 1e-9);
    // The spread is of the four, not of the five.
    near(t, "spread", 4.8 / 4.5 - 1.0, 0.3);
    let sum: f64 = t
        .distributions
        .iter()
        .filter(|d| d.clock == "wall" && d.phase == "shared")
        .map(|d| f64::from(d.n))
        .sum();
    assert_eq!(sum, 5.0 * 100.0 * 6.0);
}

#[test]
fn tests_are_of_repeats_and_of_iterations() {
    let run = pair();
    let t = &run.summary.trials[0];
    // Two tenants by two clocks against themselves alone, and one pair by two clocks.
    assert_eq!(t.tests.len(), 6);
    let find = |kind: &str, clock: &str| {
        t.tests.iter().find(|t| t.kind == kind && t.clock == clock && t.a == "distilgpt21").expect("a test")
    };
    let own = find("shared-solo", "wall");
    assert_eq!((own.verdict.as_str(), own.by_repeat.n_a, own.by_repeat.n_b), ("slower", 8, 8));
    assert!((own.ratio.value - 1.45).abs() < 0.03);
    assert_eq!(own.by_iteration.n_b, 800);
    assert!((own.by_iteration.shift_ms.value - 0.45 * 4.65).abs() < 0.1);
    assert!(own.by_iteration.superiority > 0.9 && own.by_iteration.mann_whitney.adjusted_p < 1e-9);
    assert!(own.paired.p >= 2.0 / 256.0 - 1e-12, "eight repeats have no smaller p");
    assert_eq!(t.verdicts["slowdown_p50.distilgpt21"], "slower");
    // A tenth of a difference between two of a kind, seen in eight repeats of eight.
    let skew = find("tenants", "event");
    assert_eq!((skew.b.as_str(), skew.verdict.as_str()), ("distilgpt22", "faster"));
    assert!(t.tests.iter().all(|t| t.paired.adjusted_p >= t.paired.p));
}

#[test]
fn equal_tenants_are_the_same_and_few_repeats_are_ambiguous() {
    let build = |repeats: u32, second: f64| {
        let mut run = model_runs::blank("t", "t");
        model_runs::Cell {
            id: "a",
            series: "a",
            x: None,
            models: &[model_runs::GPT2, model_runs::GPT2],
            iterations: 60,
            steady: true,
            repeats,
            traced: 0,
            slow: &move |i, _| if i == 0 { 1.5 } else { second },
        }
        .add(&mut run);
        let t = model_runs::finish(run).summary.trials.remove(0);
        t.tests.iter().find(|t| t.kind == "tenants" && t.clock == "wall").expect("a test").verdict.clone()
    };
    assert_eq!(build(8, 1.5), "same");
    assert_eq!(build(3, 1.65), "ambiguous", "three against three separate by chance in one case of ten");
    assert_eq!(build(4, 1.65), "faster");
}

#[test]
fn open_loops_are_timed_from_the_arrival_and_kernels_stay_kernels() {
    let run = mixed();
    let [kernel, open] = &run.summary.trials[..] else { panic!("two trials") };
    near(open, "solo_p50_ms.distilgpt21", 1.5 * 4.65, 0.02);
    assert!(open.distributions.iter().any(|d| d.clock == "latency" && d.tenant == "distilgpt21"));
    assert!(open.distributions.iter().all(|d| d.clock != "latency" || d.tenant == "distilgpt21"));
    near(kernel, "slowdown_p50.roberta1", 1.7, 0.02);
    near(kernel, "slowdown.copy", 1.4, 0.01);
    assert!(
        !kernel.metrics.contains_key("p50_ms.copy") && !kernel.metrics.contains_key("joules_per_iteration")
    );
}

#[test]
fn rates_grow_with_copies_and_one_alone_is_a_point_too() {
    let run = copies();
    let of = |i: usize, m: &str| run.summary.trials[i].metrics[m].value;
    near(&run.summary.trials[0], "throughput", 1e3 / (4.65 * 1.03), 0.02);
    near(&run.summary.trials[0], "p50_ms", 4.65, 0.02);
    assert!(of(1, "throughput") > 1.2 * of(0, "throughput"));
    near(&run.summary.trials[5], "p50_ms", 4.65 * 4.42 * 1.09, 0.02);
    near(&run.summary.trials[5], "spread", 0.18, 0.15);
}

#[test]
fn summaries_of_models_survive_their_file() {
    for run in [pair(), four_and_one(), mixed()] {
        let text = serde_json::to_string(&run.summary).expect("JSON");
        assert!(
            !text.contains("null") || run.summary.trials.iter().any(|t| t.overlap.is_none()),
            "no number is lost"
        );
        let back: Summary = serde_json::from_str(&text).expect("read back");
        assert_eq!(back.trials.len(), run.summary.trials.len());
        assert_eq!(back.trials[0].tests.len(), run.summary.trials[0].tests.len());
    }
}

fn figures(run: &RunData) -> Vec<(String, String)> {
    experiment_figures(run).into_iter().map(|(what, f)| (what, f.svg(Embed::Inline))).collect()
}

#[test]
fn figures_of_models() {
    let run = pair();
    let drawn = figures(&run);
    assert_eq!(
        drawn.iter().map(|d| d.0.as_str()).collect::<Vec<_>>(),
        ["kde distilgpt2-x2", "iterations distilgpt2-x2"]
    );
    insta::assert_snapshot!("kde", drawn[0].1);
    let mut run = four_and_one();
    run.manifest.figures = vec![
        FigureRecord { trials: vec!["4*".into()], ..model_runs::figure("iterations", "event_ms", "", "") },
        model_runs::figure("telemetry", "", "", ""),
        FigureRecord { trials: vec!["other".into()], ..model_runs::figure("kde", "", "", "") },
    ];
    let drawn = figures(&run);
    assert_eq!(drawn.len(), 2, "no trial matches the third");
    insta::assert_snapshot!("iterations", drawn[0].1);
    insta::assert_snapshot!("telemetry", drawn[1].1);
    let drawn = figures(&copies());
    insta::assert_snapshot!("copies", drawn[0].1);
    let drawn = figures(&all_pairs());
    assert_eq!(drawn.len(), 1);
    insta::assert_snapshot!("matrix", drawn[0].1);
}

#[test]
fn tables_of_models() {
    for (name, run) in [
        ("table_pair", pair()),
        ("table_four_and_one", four_and_one()),
        ("table_copies", copies()),
        ("table_pairs", all_pairs()),
        ("table_mixed", mixed()),
    ] {
        insta::assert_snapshot!(name, render_table(&run.manifest, &run.summary));
    }
}

#[test]
fn reports_of_models_say_what_was_measured() {
    let html = report_html(&four_and_one());
    assert!(!html.contains("failed to draw"));
    for text in [
        "Mistral-7B",
        "forward, fp16, 8 × 128",
        "parameters 930000000, weights random",
        "all active",
        "GPU counters",
        "Effective n",
        "median iteration [ms]",
        "100 iterations, 10 warm-up",
        "loading and set-up",
    ] {
        assert!(html.contains(text), "{text}");
    }
    assert!(!html.contains("Blocks × threads"), "there is no kernel");
    let mixed = report_html(&mixed());
    assert!(mixed.contains("Blocks × threads") && mixed.contains("poisson at 60 % of capacity"));
    insta::assert_snapshot!("report_models", report_html(&pair()));
}

#[test]
fn damaged_records_of_models_do_no_harm() {
    let mut run = four_and_one();
    for (i, p) in run.repeats.iter_mut().flat_map(|r| &mut r.phases).enumerate() {
        p.parts.reverse();
        for t in &mut p.tenants {
            match i % 5 {
                0 => t.spans_ns.clear(),
                1 => t.spans_ns.iter_mut().for_each(|s| *s = (s.1, s.0)),
                2 => t.event_ns.truncate(3),
                3 => (t.counted_from, t.counted) = (u32::MAX, u32::MAX),
                _ => (t.requests_ns, t.launches, t.tokens) = (vec![u64::MAX; t.spans_ns.len()], 0, u64::MAX),
            }
        }
    }
    run.telemetry.as_mut().expect("telemetry").at_ns.reverse();
    let run = model_runs::finish(run);
    for t in &run.summary.trials {
        for (name, e) in &t.metrics {
            assert!(e.value.is_finite() && e.low.is_finite() && e.high.is_finite(), "{name}: {e:?}");
        }
    }
    let all = samples(&run.manifest, &run.repeats, &run.outcomes);
    assert!(timeline(&run.manifest, &all[0]).is_some() && machine_state(&run, None).is_some());
    for (_, svg) in figures_for(&run) {
        crate::drawing::finite(&svg);
    }
    assert!(!report_html(&run).contains("failed to draw"));
    render_table(&run.manifest, &run.summary);
}
