//! Cost of a summary and of a report page. Run: `cargo bench -p cotenant-report`.

#[expect(dead_code, reason = "the tests' synthetic runs; the bench needs one of them")]
#[path = "../tests/it/common.rs"]
mod common;

#[expect(dead_code, reason = "the tests' synthetic runs; the bench needs one of them")]
#[path = "../tests/it/model_runs.rs"]
mod model_runs;

use cotenant_report::serving::{Choice, ClientFacts, LoadOptions, summarize_load};
use cotenant_report::{compare, figures_for, report_html, summarize};
use cotenant_stats::Gaps;
use cotenant_store::serving::RequestRecord;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// Five trials of twelve repeats.
#[divan::bench]
fn summary(bencher: Bencher<'_, '_>) {
    let run = common::issue_slots(false);
    bencher.bench(|| summarize(black_box(&run.manifest), &run.repeats, &run.outcomes));
}

/// Two models, eight repeats of a hundred iterations, with all tests.
#[divan::bench]
fn summary_of_models(bencher: Bencher<'_, '_>) {
    let run = model_runs::pair();
    bencher.bench(|| summarize(black_box(&run.manifest), &run.repeats, &run.outcomes));
}

#[divan::bench]
fn figures(bencher: Bencher<'_, '_>) {
    let run = common::issue_slots(false);
    bencher.bench(|| figures_for(black_box(&run)).len());
}

#[divan::bench]
fn html(bencher: Bencher<'_, '_>) {
    let run = common::issue_slots(false);
    bencher.bench(|| report_html(black_box(&run)).len());
}

#[divan::bench]
fn compare_two_runs(bencher: Bencher<'_, '_>) {
    let (a, b) = (common::issue_slots(false), common::issue_slots(true));
    bencher.bench(|| compare(black_box(&a), black_box(&b)).rows.len());
}

/// Requests of a load: the most whose values are held one by one, and one more, so that they are counted in buckets.
#[divan::bench(args = [100_000, 100_001])]
fn summary_of_a_load(bencher: Bencher<'_, '_>, requests: u64) {
    let records: Vec<RequestRecord> = (0..requests)
        .map(|index| {
            let intended_ns = index * 50_000;
            let first = intended_ns + 2_000_000 + index * 7919 % 1_000_003;
            RequestRecord {
                index,
                intended_ns,
                sent_ns: Some(intended_ns + index * 31 % 10_007),
                first_chunk_ns: Some(first),
                first_content_ns: Some(first),
                last_content_ns: Some(first + 3_000_000 + index * 104_729 % 500_009),
                end_ns: first + 4_000_000,
                chunks: 32,
                prompt_tokens: Some(32),
                output_tokens: 32,
                max_tokens: 32,
                status: 200,
                ..RequestRecord::default()
            }
        })
        .collect();
    let options = LoadOptions { window: Choice::Steady { warmup: 0 }, slo: None, open: true };
    let client = ClientFacts {
        wall_ns: 1_000_000_000,
        cpu_ns: 1,
        busiest: 0.5,
        peak_in_flight: 64,
        writer_wait_ns: 0,
    };
    bencher.bench(|| summarize_load(black_box(&records), &Gaps::default(), options, client).is_ok());
}
