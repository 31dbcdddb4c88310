//! Loads that are walked over and not held: from a file as from memory, and in buckets nearly as one by one.

use super::figures::draw;
use super::sample::Bound;
use super::summary::{TIMES, summarize_both, summarize_surveyed, times};
use super::tests::{near, request};
use super::window::Survey;
use super::*;
use cotenant_stats::{Gaps, quantile};
use cotenant_store::serving::{Failure, FailureKind, LoadSummary, RequestLine, RequestRecord, Slo, Spread};
use cotenant_store::{RequestFile, Requests};
use proptest::prelude::*;

const ALL: Bound = Bound(u64::MAX);
const NONE: Bound = Bound(0);

fn summary(requests: &dyn Requests, window: Choice, bound: Bound) -> LoadSummary {
    let survey = Survey::of(requests, window, bound).expect("read");
    let client =
        ClientFacts { wall_ns: 1, cpu_ns: 1, busiest: 0.1, peak_in_flight: 1, writer_wait_ns: 2_500_000 };
    let slo = Slo { ttft_ms: Some(60.0), tpot_ms: None, e2e_ms: Some(900.0) };
    summarize_surveyed(requests, &survey, &Gaps::default(), Some(slo), &[], client).expect("read")
}

/// Requests as they may end: some late, some failed, some never sent, in no order.
fn requests() -> impl Strategy<Value = Vec<RequestRecord>> {
    let one = (0u64..4, 1u64..200, 1u32..40, 0u8..10, 0u64..30);
    prop::collection::vec(one, 1..300).prop_flat_map(|all| {
        let made = all.into_iter().enumerate().map(|(i, (late, ttft, tokens, fate, gap))| {
            let i = i as u64;
            let mut r = request(i, i * 20 + gap, late, late + ttft, tokens);
            match fate {
                0 => r.failure = Some(Failure::new(FailureKind::Status, "\"no\" – 429")),
                1 => {
                    r.failure = Some(Failure::new(FailureKind::Connect, "refused"));
                    (r.sent_ns, r.first_content_ns, r.last_content_ns) = (None, None, None);
                }
                2 => (r.prompt_tokens, r.by_chunks, r.capped) = (None, true, true),
                _ => {}
            }
            r
        });
        Just(made.collect::<Vec<_>>()).prop_shuffle()
    })
}

/// Values of one time of the requests that count.
fn values(requests: &[RequestRecord], summary: &LoadSummary, name: &str) -> Vec<f64> {
    let at = TIMES.iter().position(|n| *n == name).expect("a time");
    let w = &summary.window;
    let counted = requests.iter().filter(|r| (w.from_ns..=w.to_ns).contains(&r.intended_ns));
    counted.filter_map(|r| times(r)[at]).collect()
}

fn shares(s: &Spread) -> [(f64, cotenant_store::serving::Ranged); 5] {
    [(0.5, s.p50), (0.9, s.p90), (0.95, s.p95), (0.99, s.p99), (0.999, s.p999)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_file_says_what_memory_says_and_that_is_right(requests in requests(), warmup in 0u64..20) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("requests.jsonl");
        let line = |r: &RequestRecord| {
            let line = RequestLine { tenant: "a".into(), record: r.clone(), chunks_ns: vec![1, 2], ..RequestLine::default() };
            serde_json::to_string(&line).expect("printed") + "\n"
        };
        std::fs::write(&path, requests.iter().map(line).collect::<String>()).expect("written");
        let file = RequestFile::open(&path).expect("there");
        for choice in [Choice::Whole { warmup }, Choice::Steady { warmup }] {
            for bound in [ALL, NONE] {
                prop_assert_eq!(summary(&file, choice, bound), summary(&requests, choice, bound));
            }
        }
        let s = summary(&file, Choice::Whole { warmup: 0 }, ALL);
        prop_assert!(!s.bucketed);
        for name in TIMES {
            let exact = values(&requests, &s, name);
            let Some(spread) = s.times.get(name) else {
                prop_assert!(exact.is_empty());
                continue;
            };
            prop_assert_eq!(spread.n, exact.len() as u64);
            for (share, found) in shares(spread) {
                prop_assert_eq!(found.value, quantile(&exact, share).expect("filled"));
            }
        }
    }

    #[test]
    fn buckets_are_right_to_half_their_width(requests in requests()) {
        let whole = Choice::Whole { warmup: 0 };
        let (exact, rough) = (summary(&requests, whole, ALL), summary(&requests, whole, NONE));
        prop_assert!(rough.bucketed);
        prop_assert_eq!(&exact.window, &rough.window);
        prop_assert_eq!(exact.times.keys().collect::<Vec<_>>(), rough.times.keys().collect::<Vec<_>>());
        for (name, spread) in &rough.times {
            let all = values(&requests, &exact, name);
            prop_assert_eq!((spread.n, spread.max), (exact.times[name].n, exact.times[name].max));
            prop_assert!((spread.mean.value - exact.times[name].mean.value).abs() <= 1e-9 * spread.mean.value);
            let step = 1.0 / all.len() as f64;
            for (share, found) in shares(spread) {
                // Between the neighbours of the exact rank, give or take half a bucket.
                let low = quantile(&all, (share - step).max(0.0)).expect("filled") * 0.9972;
                let high = quantile(&all, (share + step).min(1.0)).expect("filled") * 1.0028;
                prop_assert!((low..=high).contains(&found.value), "{name} {share}: {found:?} not in {low}..{high}");
                prop_assert!(found.low <= found.value && found.value <= found.high);
            }
        }
        let (g, h) = (exact.goodput.expect("asked"), rough.goodput.expect("asked"));
        prop_assert_eq!((g.good, g.of, g.per_s), (h.good, h.of, h.per_s));
        prop_assert!((g.share.value - h.share.value).abs() < 1e-9);
        // What is no time of a request is the same to the last digit.
        let others = |mut s: LoadSummary| {
            (s.bucketed, s.goodput) = (false, None);
            s.times.clear();
            s.client.limits.clear();
            s
        };
        prop_assert_eq!(others(exact), others(rough));
    }
}

/// Requests every millisecond, of which the first are slow.
fn cold(n: u64, slow: u64) -> Vec<RequestRecord> {
    let ttft = |i: u64| if i < slow { 60 + 400 * (slow - i) / slow } else { 50 + i * 7919 % 13 };
    (0..n).map(|i| request(i, i, 0, ttft(i), 5)).collect()
}

#[test]
fn a_start_up_is_found_in_batches_too() {
    let steady = Choice::Steady { warmup: 7 };
    let few = cold(3007, 400);
    let (exact, rough) = (summary(&few, steady, ALL), summary(&few, steady, NONE));
    assert_eq!(exact.window, rough.window, "batches of five are those of the rule");
    assert!((300..=420).contains(&exact.outside), "{}", exact.outside);

    // Batches of twenty: the cut is a whole number of them.
    let mut many = cold(90_000, 8000);
    let (exact, rough) = (summary(&many, steady, ALL), summary(&many, steady, NONE));
    assert!(rough.window.how.contains("MSER-20"), "{}", rough.window.how);
    assert!((rough.outside - 7).is_multiple_of(20));
    assert!(exact.outside.abs_diff(rough.outside) <= 200, "{} and {}", exact.outside, rough.outside);
    // Requests come as they end.
    many.sort_by_key(|r| r.end_ns);
    assert_eq!(summary(&many, steady, NONE).window, rough.window);
    // One at a time, the same.
    let bound = Bound(many.len() as u64 - 1);
    assert_eq!(summary(&many, steady, bound).window, rough.window);
}

#[test]
fn numbers_that_no_load_has_do_no_harm() {
    let mut all = cold(100, 0);
    all[3].index = u64::MAX;
    all[4].index = u64::MAX - 1;
    let s = summary(&all, Choice::Steady { warmup: 0 }, NONE);
    assert_eq!(s.ok + s.outside, 100);
}

#[test]
fn figures_of_buckets_are_nearly_those_of_values() {
    let (manifest, _) = super::tests::load_at(1.0, 0, 20);
    let stored = cotenant_store::StoredLoad { manifest, requests: cold(2000, 100), gaps: None, client: None };
    let points = |bound| {
        let (survey, _) = summarize_both(&stored, bound).expect("from memory");
        let figures = draw(&stored, &survey).expect("from memory");
        let curves = figures.into_iter().flat_map(|f| f.panels).flat_map(|p| p.curves);
        curves.map(|c| c.points).collect::<Vec<_>>()
    };
    let (exact, rough) = (points(ALL), points(NONE));
    // Three distributions, requests and tokens, and two curves of the time to first token.
    assert_eq!((exact.len(), rough.len()), (7, 7));
    for (a, b) in exact.iter().zip(&rough) {
        assert!(a.len() > 100 && a.len() == b.len(), "{} and {}", a.len(), b.len());
        for ((x, y), (u, v)) in a.iter().zip(b) {
            // Neighbours of the start-up differ by 4 ms.
            let near = |p: f64, q: f64| (p - q).abs() <= 4.0 + 0.0028 * p;
            assert!(near(*x, *u) && near(*y, *v), "{x} {y} and {u} {v}");
        }
    }
}

#[test]
fn a_table_says_that_values_were_counted_in_buckets() {
    let all = cold(60, 0);
    let whole = Choice::Whole { warmup: 0 };
    assert!(render_load(&summary(&all, whole, NONE)).contains("counts in buckets"));
    let exact = summary(&all, whole, ALL);
    assert!(!render_load(&exact).contains("bucket"));
    assert!(!serde_json::to_string(&exact).expect("printed").contains("bucketed"));
    near(exact.times["e2e"].n as f64, 60.0, 0.0);
    assert!(
        exact.client.limits.iter().any(|l| l.contains("stood still for 2.5 ms")),
        "{:?}",
        exact.client.limits
    );
}
