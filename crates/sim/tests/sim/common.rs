//! Kernels of the paper as demands, built by hand: one iteration is one step of the inner loop unless said.

use cotenant_model::builtin;
use cotenant_model::demand::{Demand, KernelLoad, LaunchShape, Pipes};
use cotenant_sim::{Gpu, Outcome, Scenario, Stream, Work};
use cotenant_units::Bytes;

pub const MIB: f64 = 1_048_576.0;

pub fn h100() -> Gpu {
    Gpu::new(&builtin("h100-sxm5-80gb").expect("built in"), 1).with_noise(0.0)
}

pub fn shape(blocks: u32, threads: u32) -> LaunchShape {
    LaunchShape { blocks, threads, registers: 16, shared_bytes: Bytes(0) }
}

pub fn load(blocks: u32, threads: u32, iterations: u64, demand: Demand) -> KernelLoad {
    KernelLoad { shape: shape(blocks, threads), iterations, demand }
}

/// The paper's copy: grid-stride, 4 bytes per thread and step, `bytes` per buffer, `passes` times.
pub fn copy(blocks: u32, threads: u32, bytes: f64, passes: f64) -> KernelLoad {
    let warps = f64::from(blocks * threads / 32);
    let demand = Demand {
        issue: 22.0,
        pipes: Pipes { lsu: 2.0, alu: 8.0, fma: 11.0, ..Pipes::default() },
        load_bytes: 128.0,
        store_bytes: 128.0,
        inflight_bytes: 128.0,
        footprint_bytes: 2.0 * bytes,
        block_footprint_bytes: 2.0 * bytes / f64::from(blocks),
        // Blocks interleave in portions of 4 KiB, and lines that are 2^n · 4 KiB apart crowd in few sets of L1: the
        // peer's 4 and 8 MiB (127 and 254 KiB per block) run at L2 speed.
        caches_in_l1: false,
        ..Demand::default()
    };
    load(blocks, threads, (passes * bytes / 128.0 / warps) as u64, demand)
}

/// 256 multiplies in `ilp` chains with the paper's loop overhead: IPC 1.08 2.06 2.9 3.45 with 4 warps on an SM.
pub fn fp32(ilp: u32, threads: u32, iterations: u64) -> KernelLoad {
    let ipc = [1.08, 2.06, 2.9, 3.45][ilp as usize - 1];
    let issue = 256.0 * [1.08, 1.04, 1.03, 1.02][ilp as usize - 1];
    let demand = Demand {
        issue,
        pipes: Pipes { fma: 256.0, ..Pipes::default() },
        chain_cycles: issue * 4.0 / ipc,
        ..Demand::default()
    };
    load(132, threads, iterations, demand)
}

/// 64 fp64 multiplies in `ilp` chains of 8 cycles each.
pub fn fp64(ilp: u32, iterations: u64) -> KernelLoad {
    let demand = Demand {
        issue: 66.0,
        pipes: Pipes { fp64: 64.0, ..Pipes::default() },
        chain_cycles: 64.0 * 8.0 / f64::from(ilp),
        ..Demand::default()
    };
    load(132, 128, iterations, demand)
}

/// Blocks that only wait.
pub fn sleep(blocks: u32, threads: u32, ns: f64) -> KernelLoad {
    load(blocks, threads, 1, Demand { issue: 4.0, sleep_ns: ns, ..Demand::default() })
}

pub fn stream(k: KernelLoad) -> Stream {
    Stream { launch_ns: Some(0.0), ..Stream::new(Work::Kernel(k)) }
}

pub fn run(gpu: &Gpu, streams: Vec<Stream>) -> Outcome {
    gpu.run(&Scenario::new(streams)).expect("valid scenario")
}

/// Time alone, ns.
pub fn alone(gpu: &Gpu, k: KernelLoad) -> f64 {
    run(gpu, vec![stream(k)]).makespan_ns() as f64
}

/// Time of both together, ns.
pub fn together(gpu: &Gpu, a: KernelLoad, b: KernelLoad) -> f64 {
    run(gpu, vec![stream(a), stream(b)]).makespan_ns() as f64
}

/// Mean and largest relative error of `(name, got, want)`, with a line each for `--nocapture`.
pub fn errors(title: &str, cells: &[(String, f64, f64)]) -> (f64, f64) {
    let mut sum = 0.0;
    let mut worst = 0.0f64;
    println!("{title}");
    for (name, got, want) in cells {
        let e = (got / want - 1.0).abs();
        println!("  {name:>10}  simulated {got:8.3}  measured {want:8.3}  {:5.1} %", 100.0 * e);
        sum += e;
        worst = worst.max(e);
    }
    let mean = sum / cells.len() as f64;
    println!("  mean {:.1} %, worst {:.1} %", 100.0 * mean, 100.0 * worst);
    (mean, worst)
}
