//! Cost of the statistics that a run and its report compute. Run: `cargo bench -p cotenant-stats`.

use cotenant_stats::{
    Bandwidth, Bootstrap, Grouped, Kde, hodges_lehmann_interval, kolmogorov_smirnov, median_interval,
    quantile, wilcoxon_signed_rank,
};
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

/// Mean, deviation and four percentiles of ten repeats, 400 resamples of whole repeats.
#[divan::bench(args = [100, 1000])]
fn description_of_ten_repeats(bencher: Bencher<'_, '_>, n: usize) {
    let all = times(10 * n);
    let repeats: Vec<&[f64]> = all.chunks(n).collect();
    let few = Bootstrap { resamples: 400, ..Bootstrap::default() };
    bencher.bench(|| Grouped::new(black_box(&repeats)).and_then(|g| g.describe(&few)));
}

/// A density as drawn, on 512 points.
#[divan::bench(args = [1000, 10_000])]
fn density(bencher: Bencher<'_, '_>, n: usize) {
    let xs = times(n);
    bencher.bench(|| Kde::new(black_box(&xs), Bandwidth::Scott).map(|k| k.grid(41.0, 43.0, 512)));
}

/// Exact p of samples of different sizes, which have no closed form.
#[divan::bench(args = [100, 1000])]
fn kolmogorov_smirnov_test(bencher: Bencher<'_, '_>, n: usize) {
    let (a, b) = (times(n), times(n + 3));
    bencher.bench(|| kolmogorov_smirnov(black_box(&a), black_box(&b)));
}

#[divan::bench(args = [100, 1000])]
fn shift_with_interval(bencher: Bencher<'_, '_>, n: usize) {
    let (a, b) = (times(n), times(n + 3));
    bencher.bench(|| hodges_lehmann_interval(black_box(&a), black_box(&b), 0.95));
}
