//! Cost of reading experiments. Run: `cargo bench -p cotenant-spec`.

use cotenant_spec::expr::Expr;
use cotenant_spec::plan::DeviceSizes;
use cotenant_spec::{Spec, builtin, find};
use cotenant_units::Bytes;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

fn h100() -> DeviceSizes {
    DeviceSizes {
        name: "NVIDIA H100 80GB HBM3".into(),
        sms: 132,
        l2: Bytes::mib(50),
        l1: Bytes::kib(256),
        dram: Bytes::gib(79),
        smem: Bytes::kib(227),
        max_threads: 1024,
        sm_granularity: 8,
        capability: (9, 0),
    }
}

#[divan::bench]
fn parse_an_expression() -> bool {
    Expr::parse(black_box("min(50% * sms, ceil(share * l2 / 64KiB)) - 1")).is_ok()
}

/// The longest text that is allowed, nested as deep as is allowed: the worst that a file can ask for.
#[divan::bench]
fn parse_the_worst_expression(bencher: Bencher<'_, '_>) {
    let text = format!("{}1{}", "(1+".repeat(31), ")".repeat(31));
    let text = format!("{text}{}", "+1".repeat((1000 - text.len()) / 2));
    assert!(Expr::parse(&text).is_ok(), "the limits have changed: {} bytes", text.len());
    bencher.bench(|| Expr::parse(black_box(&text)).is_ok());
}

/// Text to trials, for the built-in experiment with the most of them.
#[divan::bench]
fn parse_and_resolve_priority_length(bencher: Bencher<'_, '_>) {
    let text = find("priority-length").map_or("", |b| b.text);
    let device = h100();
    bencher.bench(|| Spec::parse(black_box(text), "priority-length.toml").map(|s| s.resolve(&device, &[])));
}

#[divan::bench]
fn parse_and_resolve_all_built_in(bencher: Bencher<'_, '_>) {
    let device = h100();
    bencher.bench(|| {
        builtin()
            .iter()
            .filter_map(|b| Spec::parse(black_box(b.text), b.name).ok()?.resolve(&device, &[]).ok())
            .map(|plan| plan.trials.len())
            .sum::<usize>()
    });
}
