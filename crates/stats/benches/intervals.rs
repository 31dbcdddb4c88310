//! Cost of the statistics that a run and its report compute. Run: `cargo bench -p cotenant-stats`.

use cotenant_stats::{Bootstrap, median_interval, quantile, wilcoxon_signed_rank};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// Times around 42 ms with a percent of noise, in an order that is not sorted.
fn times(n: usize) -> Vec<f64> {
    (0..n).map(|i| 42.0 * (1.0 + 0.01 * ((i * 7919 % 1009) as f64 / 1009.0 - 0.5))).collect()
}

/// The stopping rule's question after each repeat, for one list of times.
#[divan::bench(args = [10, 40, 1000])]
fn median_with_interval(bencher: Bencher<'_, '_>, n: usize) {
    let xs = times(n);
    bencher.bench(|| median_interval(black_box(&xs)));
}

/// 2,000 resamples of the median, as for fewer than six repeats.
#[divan::bench(args = [5, 40])]
fn bootstrap_of_the_median(bencher: Bencher<'_, '_>, n: usize) {
    let xs = times(n);
    bencher
        .bench(|| Bootstrap::default().percentile(black_box(&xs), |v| quantile(v, 0.5).unwrap_or(f64::NAN)));
}

/// The test behind a verdict on a slowdown.
#[divan::bench(args = [10, 40])]
fn signed_rank_test(bencher: Bencher<'_, '_>, n: usize) {
    let (a, b) = (times(n), times(n + 1)[1..].to_vec());
    bencher.bench(|| wilcoxon_signed_rank(black_box(&a), black_box(&b)));
}
