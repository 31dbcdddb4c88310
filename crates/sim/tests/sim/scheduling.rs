//! Block scheduling: priorities, partitions and time slices against `results/h100-sxm5-80gb/priority-length`
//! (a high-priority tenant sends requests of ten 20 µs kernels beside a best-effort loop), and invariants.

use crate::common::{self, h100, load, shape, sleep, stream};
use cotenant_model::builtin;
use cotenant_model::demand::{Demand, KernelLoad};
use cotenant_sim::{Direction, Gpu, Mode, Outcome, Scenario, SimError, SmSet, Stream, Work, partition};
use cotenant_units::Bytes;
use proptest::prelude::*;

/// Ten kernels of 20 µs per request; the host waits for each request and pauses. Alone on the H100: 0.237 ms.
fn high(priority: i32) -> Stream {
    Stream {
        context: 0,
        priority,
        launches: 600,
        sync_every: 10,
        gap_ns: 1_000_000.0,
        launch_ns: None,
        ..stream(sleep(66, 256, 20_000.0))
    }
}

/// A loop of kernels that take all threads of an SM with two blocks.
fn best_effort(blocks: u32, us: f64) -> Stream {
    Stream { context: 1, priority: 0, sync_every: 1, ..stream(sleep(blocks, 1024, us * 1e3)) }
}

/// Sorted latencies of the first stream's requests, ms.
fn requests(out: &Outcome, each: usize) -> Vec<f64> {
    let spans = &out.streams[0].launches;
    let mut ms: Vec<f64> =
        spans.chunks_exact(each).map(|r| (r[each - 1].end_ns - r[0].submit_ns) as f64 / 1e6).collect();
    ms.sort_by(f64::total_cmp);
    ms
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

fn steady(mode: Mode, streams: Vec<Stream>) -> Outcome {
    let gpu = Gpu::new(&builtin("h100-sxm5-80gb").expect("built in"), 3);
    let s = Scenario { steady: true, mode, ..Scenario::new(streams) };
    gpu.run(&s).expect("valid scenario")
}

fn sweep(mode: Mode, hp: Stream, be: Stream) -> (f64, f64) {
    let r = requests(&steady(mode, vec![hp, be]), 10);
    (quantile(&r, 0.5), quantile(&r, 0.99))
}

#[test]
fn a_request_alone_takes_what_was_measured() {
    let r = requests(&steady(Mode::Concurrent, vec![high(0)]), 10);
    let p50 = quantile(&r, 0.5);
    assert!((p50 / 0.237 - 1.0).abs() < 0.15, "{p50}");
}

#[test]
fn priority_helps_at_block_granularity_only() {
    // Short blocks: measured 0.519 ms (p50), 0.558 (p99) with priority and 49.4, 49.9 without.
    let (p50, p99) = sweep(Mode::Concurrent, high(-1), best_effort(26_400, 50.0));
    assert!((p50 / 0.519 - 1.0).abs() < 0.15 && (p99 / 0.558 - 1.0).abs() < 0.15, "{p50} {p99}");
    let (q50, q99) = sweep(Mode::Concurrent, high(0), best_effort(26_400, 50.0));
    assert!((q50 / 49.4 - 1.0).abs() < 0.1 && (q99 / 49.9 - 1.0).abs() < 0.1, "{q50} {q99}");
    // The same with 5,280 blocks: measured 10.1 ms (p50) without.
    let (q50, _) = sweep(Mode::Concurrent, high(0), best_effort(5_280, 50.0));
    assert!((q50 / 10.14 - 1.0).abs() < 0.15, "{q50}");
    // One wave of 1 ms blocks: priority cannot help while they run; measured 10.1 and 10.1 ms.
    let (p50, _) = sweep(Mode::Concurrent, high(-1), best_effort(264, 1000.0));
    let (q50, _) = sweep(Mode::Concurrent, high(0), best_effort(264, 1000.0));
    assert!((p50 / 10.07 - 1.0).abs() < 0.15 && (p50 / q50 - 1.0).abs() < 0.1, "{p50} {q50}");
}

#[test]
fn a_partition_is_near_solo_and_costs_the_neighbour_a_wave() {
    let card = builtin("h100-sxm5-80gb").expect("built in");
    let sms = partition::mps(&card, &[75.0]).expect("valid")[0];
    let be = |mask| Stream { sms: mask, ..best_effort(264, 1000.0) };
    let shared = steady(Mode::Concurrent, vec![high(0), be(Some(sms))]);
    let r = requests(&shared, 10);
    // Measured: 0.234 ms p50, 0.250 p99; the neighbour needs two waves on 98 SMs for one on 132.
    assert!(quantile(&r, 0.5) < 0.27 && quantile(&r, 0.99) < 0.29, "{} {}", r[0], r[r.len() - 1]);
    let end = shared.streams[0].launches.last().expect("ran").end_ns as f64 / 1e9;
    let rate = shared.streams[1].launches.len() as f64 / end;
    assert!((rate / 499.0 - 1.0).abs() < 0.05, "{rate}");
}

#[test]
fn time_slices_bound_the_wait() {
    for be in [best_effort(264, 5000.0), best_effort(26_400, 50.0), best_effort(264, 100.0)] {
        // Requests must meet slices at all phases, as on a real host whose pauses vary.
        let mut all = Vec::new();
        for k in 0..42 {
            let gap_ns = 4e6 + 5e4 * f64::from(k);
            let hp = Stream { launches: 50, gap_ns, start_ns: gap_ns, ..high(0) };
            all.extend(requests(&steady(Mode::TimeSliced, vec![hp, be.clone()]), 10));
        }
        all.sort_by(f64::total_cmp);
        let (p50, p99) = (quantile(&all, 0.5), quantile(&all, 0.99));
        // Measured for all lengths: p50 1.58, p99 2.66 ms.
        assert!((p50 / 1.58 - 1.0).abs() < 0.3, "{p50}");
        assert!((p99 / 2.66 - 1.0).abs() < 0.3, "{p99}");
    }
}

#[test]
fn contexts_in_slices_share_time_and_finish() {
    let gpu = h100();
    let a = Stream { context: 0, ..stream(sleep(264, 1024, 2e7)) };
    let b = Stream { context: 1, ..a.clone() };
    let s = Scenario { mode: Mode::TimeSliced, ..Scenario::new(vec![a, b]) };
    let ms = gpu.run(&s).expect("valid").makespan_ns() as f64 / 1e6;
    // 2 × 20 ms of work and a switch every 2.1 ms.
    assert!(ms > 40.0 && ms < 45.0, "{ms}");
}

#[test]
fn empty_launches_take_turns_with_kernels_of_another_process() {
    // The victim's row of short kernels leaves its slice idle again and again.
    let kernels = Stream { context: 0, launches: 100, ..stream(sleep(132, 128, 2e4)) };
    let hog = Stream { context: 1, ..Stream::new(Work::Empty { count: 1000 }) };
    let s = Scenario { mode: Mode::TimeSliced, ..Scenario::new(vec![kernels, hog]) };
    let out = h100().run(&s).expect("ends");
    assert!(out.events < 10_000, "{}", out.events);
    // Together they need at least the sum of both.
    let each = cotenant_model::builtin("h100-sxm5-80gb").and_then(|c| c.launch.plain_ns).expect("measured");
    assert!(out.makespan_ns() as f64 > 100.0 * 2e4 + 1000.0 * each, "{}", out.makespan_ns());
}

#[test]
fn the_leftover_policy_keeps_order() {
    // Kernel 0 has two waves; kernel 1 would fit beside the first but waits until the last block of 0 is placed.
    let mut first = sleep(264, 1024, 1e6);
    // 40 registers: one block on an SM, with threads and registers to spare.
    first.shape.registers = 40;
    let out = common::run(&h100(), vec![stream(first), stream(sleep(132, 256, 1e3))]);
    let (a, b) = (out.streams[0].launches[0], out.streams[1].launches[0]);
    assert!(b.start_ns >= a.start_ns + 1_000_000 && b.start_ns < a.end_ns, "{a:?} {b:?}");
}

#[test]
fn one_stream_keeps_its_order_and_after_waits() {
    let k = sleep(132, 1024, 1e5);
    let first = Stream { launches: 5, ..stream(k) };
    let second = Stream { after: Some(0), ..first.clone() };
    let out = common::run(&h100(), vec![first, second]);
    let all: Vec<_> = out.streams.iter().flat_map(|s| &s.launches).collect();
    assert_eq!(all.len(), 10);
    assert!(all.windows(2).all(|w| w[0].end_ns <= w[1].start_ns));
}

#[test]
fn copies_share_a_direction_and_not_two() {
    let gpu = h100();
    let copy = |direction| Stream::new(Work::Copy { direction, bytes: 1 << 30, count: 1 });
    let (up, down) = (Direction::ToDevice, Direction::ToHost);
    let one = common::run(&gpu, vec![copy(up)]).makespan_ns() as f64;
    let two = common::run(&gpu, vec![copy(up), copy(up)]).makespan_ns() as f64;
    let both = common::run(&gpu, vec![copy(up), copy(down)]).makespan_ns() as f64;
    assert!((two / one - 2.0).abs() < 0.01 && (both / one - 1.089).abs() < 0.01, "{one} {two} {both}");
    let gbs = f64::from(1 << 30) / one;
    assert!((gbs - 55.0).abs() < 1.0, "{gbs}");
}

#[test]
fn empty_launches_share_the_launch_path_of_a_context() {
    let gpu = h100();
    let s = |context| Stream { context, ..Stream::new(Work::Empty { count: 1000 }) };
    let one = common::run(&gpu, vec![s(0)]).makespan_ns();
    let each = cotenant_model::builtin("h100-sxm5-80gb").and_then(|c| c.launch.plain_ns).expect("measured");
    assert!((one as f64 / (1000.0 * each) - 1.0).abs() < 0.1, "{one}, {each} each");
    let same = common::run(&gpu, vec![s(0), s(0)]).makespan_ns();
    let other = common::run(&gpu, vec![s(0), s(1)]).makespan_ns();
    // To the nanosecond but for rounding.
    assert!(same.abs_diff(2 * one) <= 2 && other == one, "{one} {same} {other}");
}

#[test]
fn seeds_decide() {
    let card = builtin("h100-sxm5-80gb").expect("built in");
    let s = Scenario::new(vec![
        Stream { launches: 20, ..stream(sleep(264, 1024, 1e5)) },
        Stream { launches: 20, ..stream(sleep(132, 512, 7e4)) },
    ]);
    let run = |seed| Gpu::new(&card, seed).run(&s).expect("valid");
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

#[test]
fn a_starving_steady_scenario_ends_with_an_error() {
    // The best-effort tenant never gets a block in: the high-priority loop never leaves the device.
    let hog = Stream { priority: -1, launches: 1, ..stream(sleep(26_400, 1024, 1e5)) };
    let two = Stream { context: 1, priority: -1, ..hog.clone() };
    let meek = Stream { launches: 10, ..stream(sleep(132, 1024, 1e3)) };
    let s = Scenario { steady: true, max_events: 5_000, ..Scenario::new(vec![hog, two, meek]) };
    assert!(matches!(h100().run(&s), Err(SimError::TooManyEvents { limit: 5_000, .. })));
}

#[test]
fn impossible_scenarios_are_refused() {
    let gpu = h100();
    let refused = |s: Scenario| gpu.run(&s).expect_err("impossible").to_string();
    let one = |f: &dyn Fn(&mut Stream)| {
        let mut s = stream(sleep(1, 32, 1.0));
        f(&mut s);
        refused(Scenario::new(vec![s]))
    };
    let kernel = |f: &dyn Fn(&mut KernelLoad)| {
        let mut k = sleep(1, 32, 1.0);
        f(&mut k);
        refused(Scenario::new(vec![stream(k)]))
    };
    assert!(refused(Scenario::new(vec![])).contains("without streams"));
    assert!(kernel(&|k| k.shape.blocks = 0).contains("zero blocks"));
    assert!(kernel(&|k| k.shape.threads = 2000).contains("2000 threads"));
    assert!(kernel(&|k| k.shape.shared_bytes = Bytes::kib(300)).contains("shared memory"));
    assert!(kernel(&|k| (k.shape.threads, k.shape.registers) = (1024, 128)).contains("registers"));
    assert!(kernel(&|k| k.demand.issue = f64::NAN).contains("demand.issue"));
    assert!(one(&|s| s.memory = Bytes::gib(81)).contains("81 GiB"));
    assert!(one(&|s| s.sms = Some(SmSet::range(100, 200))).contains("SM 199"));
    assert!(one(&|s| s.sms = Some(SmSet::EMPTY)).contains("no SM"));
    assert!(one(&|s| s.launches = 0).contains("no launches"));
    assert!(one(&|s| s.pattern.clear()).contains("no work"));
    assert!(one(&|s| s.gap_ns = -1.0).contains("gap_ns"));
    assert!(one(&|s| s.after = Some(0)).contains("after stream 0"));
    assert!(one(&|s| s.after = Some(7)).contains("after stream 7"));
    let mut steady = Scenario::new(vec![stream(sleep(1, 32, 1.0)); 2]);
    steady.steady = true;
    steady.streams[1].after = Some(0);
    assert!(refused(steady).contains("steady"));
}

fn any_stream() -> impl Strategy<Value = Stream> {
    (
        (1u32..600, 1u32..=1024, 16u32..=64, 0u64..60_000),
        (1u64..4, -2i32..=0, 0u32..3, prop::option::of((0u32..100, 1u32..32)), 100.0f64..1e5),
    )
        .prop_filter_map(
            "fits an SM",
            |((blocks, threads, registers, shared), (n, priority, context, sms, ns))| {
                let warps = threads.div_ceil(32);
                if registers * 32 * warps > 60_000 {
                    return None;
                }
                let d = Demand { sleep_ns: ns, issue: 50.0, chain_cycles: 100.0, ..Demand::default() };
                let mut k = load(blocks, threads, 1, d);
                k.shape = cotenant_model::demand::LaunchShape {
                    registers,
                    shared_bytes: Bytes(shared),
                    ..shape(blocks, threads)
                };
                let sms = sms.map(|(from, n)| SmSet::range(from, from + n));
                Some(Stream { context, priority, launches: n, sms, ..stream(k) })
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Every block runs exactly once, on an SM that its stream may use, within its launch; no SM ever holds more
    /// than it has.
    #[test]
    fn blocks_are_conserved_and_residency_is_kept(streams in prop::collection::vec(any_stream(), 1..4),
                                                  sliced in any::<bool>()) {
        let mode = if sliced { Mode::TimeSliced } else { Mode::Concurrent };
        let card = builtin("h100-sxm5-80gb").expect("built in");
        let s = Scenario { trace_blocks: true, mode, ..Scenario::new(streams.clone()) };
        let out = Gpu::new(&card, 9).run(&s).expect("fits");
        for (i, st) in streams.iter().enumerate() {
            let Work::Kernel(k) = st.pattern[0] else { unreachable!("only kernels") };
            prop_assert_eq!(out.streams[i].launches.len() as u64, st.launches);
            for (n, span) in out.streams[i].launches.iter().enumerate() {
                let mine: Vec<_> =
                    out.blocks.iter().filter(|b| b.stream == i as u32 && b.launch == n as u64).collect();
                prop_assert_eq!(mine.len() as u32, k.shape.blocks);
                for b in &mine {
                    prop_assert!(b.start_ns >= span.start_ns && b.end_ns <= span.end_ns);
                    prop_assert!(st.sms.is_none_or(|set| set.contains(b.sm)));
                    prop_assert!(b.sm < 132);
                }
            }
        }
        if sliced {
            return Ok(());
        }
        // Sweep each SM: ends before starts at the same instant.
        for sm in 0..132 {
            let mut events: Vec<(u64, bool, u32)> = Vec::new();
            for b in out.blocks.iter().filter(|b| b.sm == sm) {
                let Work::Kernel(k) = streams[b.stream as usize].pattern[0] else { unreachable!("only kernels") };
                events.push((b.start_ns, true, k.shape.warps()));
                events.push((b.end_ns, false, k.shape.warps()));
            }
            events.sort_unstable();
            let (mut warps, mut blocks) = (0i64, 0i64);
            for (_, begins, w) in events {
                let sign = if begins { 1 } else { -1 };
                warps += sign * i64::from(w);
                blocks += sign;
                prop_assert!(warps <= 64 && blocks <= 32, "SM {sm}: {warps} warps, {blocks} blocks");
            }
        }
    }
}
