//! Cost of a summary and of a report page. Run: `cargo bench -p cotenant-report`.

#[expect(dead_code, reason = "the tests' synthetic runs; the bench needs one of them")]
#[path = "../tests/it/common.rs"]
mod common;

#[expect(dead_code, reason = "the tests' synthetic runs; the bench needs one of them")]
#[path = "../tests/it/model_runs.rs"]
mod model_runs;

use cotenant_report::{compare, figures_for, report_html, summarize};
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
