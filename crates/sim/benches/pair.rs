//! Cost of simulating one pair of tenants. Run: `cargo bench -p cotenant-sim`.

use cotenant_model::demand::{Demand, KernelLoad, LaunchShape, Pipes};
use cotenant_model::{Machine, Resident, builtin, solve};
use cotenant_sim::{Gpu, Replay, Scenario, Stream, Work, recorded};
use cotenant_units::Bytes;

fn main() {
    divan::main();
}

fn gpu() -> Gpu {
    match builtin("h100-sxm5-80gb") {
        Some(card) => Gpu::new(&card, 1),
        None => unreachable!("a built-in card"),
    }
}

fn kernel(blocks: u32, threads: u32, iterations: u64, demand: Demand) -> KernelLoad {
    KernelLoad {
        shape: LaunchShape { blocks, threads, registers: 16, shared_bytes: Bytes(0) },
        iterations,
        demand,
    }
}

fn copy() -> Demand {
    Demand {
        issue: 22.0,
        load_bytes: 128.0,
        store_bytes: 128.0,
        inflight_bytes: 128.0,
        footprint_bytes: 8e9,
        block_footprint_bytes: 6e7,
        ..Demand::default()
    }
}

fn multiply() -> Demand {
    Demand {
        issue: 264.0,
        pipes: Pipes { fma: 256.0, ..Pipes::default() },
        chain_cycles: 300.0,
        ..Demand::default()
    }
}

fn run(streams: Vec<Stream>, steady: bool) -> u64 {
    let s = Scenario { steady, ..Scenario::new(streams) };
    match gpu().run(&s) {
        Ok(out) => out.makespan_ns(),
        Err(e) => unreachable!("failed to {e}"),
    }
}

/// Copy beside multiply, 100 launches each.
#[divan::bench]
fn copy_and_multiply_100_launches() -> u64 {
    let a = Stream { launches: 100, ..Stream::new(Work::Kernel(kernel(132, 1024, 2000, copy()))) };
    let b = Stream { launches: 100, ..Stream::new(Work::Kernel(kernel(132, 128, 8000, multiply()))) };
    run(vec![a, b], true)
}

/// 26,400 blocks of 50 µs, ten launches, beside ten requests of ten 20 µs kernels with priority.
#[divan::bench]
fn many_blocks_with_priority() -> u64 {
    let wait = |ns| Demand { issue: 4.0, sleep_ns: ns, ..Demand::default() };
    let be = Stream { launches: 10, ..Stream::new(Work::Kernel(kernel(26_400, 1024, 1, wait(5e4)))) };
    let hp = Stream {
        launches: 100,
        priority: -1,
        sync_every: 10,
        ..Stream::new(Work::Kernel(kernel(132, 256, 1, wait(2e4))))
    };
    run(vec![hp, be], false)
}

/// Recorded models, each in a context of its own.
fn models(names: &[&str]) -> u64 {
    let Some(card) = builtin("h100-sxm5-80gb") else { unreachable!("a built-in card") };
    let gpu = Gpu::new(&card, 1);
    let stream = |(i, name): (usize, &&str)| {
        let stem = format!("{name}-forward-fp16-b8-s128");
        let Some(r) = recorded::builtin(&card.name, &stem) else { unreachable!("a recorded model") };
        match Replay::new(&r, &card, &gpu) {
            Ok(m) => Stream { context: i as u32, ..m.stream(20) },
            Err(e) => unreachable!("failed to {e}"),
        }
    };
    let streams = names.iter().enumerate().map(stream).collect();
    run(streams, true)
}

/// Two Mistral-7B, 20 iterations of 1,245 kernels each, and what preparing them takes.
#[divan::bench(sample_count = 10)]
fn two_large_models() -> u64 {
    models(&["mistral-7b", "mistral-7b"])
}

/// Ten DistilGPT2, 20 iterations of 117 kernels each, and what preparing them takes.
#[divan::bench(sample_count = 10)]
fn ten_small_models() -> u64 {
    models(&["distilgpt2"; 10])
}

/// One solution of the model for two kernels that both draw on device memory.
#[divan::bench]
fn solve_two_copies(bencher: divan::Bencher<'_, '_>) {
    let m: Machine = gpu().machine().clone();
    let (a, b) = (copy(), copy());
    let one = |demand, kernel| Resident {
        demand,
        kernel,
        grid_blocks: 132,
        class: 0,
        sms: 132,
        blocks: 1,
        warps: 32,
        shared_bytes: 0,
        turns: 1_000_000,
        arrival: kernel,
    };
    bencher.bench_local(|| solve(&m, &[one(divan::black_box(&a), 0), one(divan::black_box(&b), 1)]));
}
