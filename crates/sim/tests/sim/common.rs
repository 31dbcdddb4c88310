//! Kernels of the paper as demands, built by hand: one iteration is one step of the inner loop unless said.

use cotenant_model::builtin;
use cotenant_model::demand::{Demand, KernelLoad, LaunchShape};
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

/// Blocks that only wait.
pub fn sleep(blocks: u32, threads: u32, ns: f64) -> KernelLoad {
    load(blocks, threads, 1, Demand { issue: 4.0, sleep_ns: ns, ..Demand::default() })
}

/// A kernel of the registry, one iteration.
pub fn kernel(name: &str, blocks: u32, threads: u32, params: &[(&str, f64)]) -> KernelLoad {
    let params = params.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
    let r = cotenant_kernels::resolve(name, blocks, threads, &params).expect("a kernel of the registry");
    let mut demand = r.demand;
    // Grid-stride copies scatter a block's data over L1; `mma.sync` is the warp-synchronous product.
    demand.l1_scatter |= name == "copy-paper";
    if name == "tensor-mma" {
        demand.pipes.tensor_sync = demand.pipes.tensor;
    }
    KernelLoad { shape: r.shape, iterations: 1, demand }
}

/// The same with as many iterations as take about `ms` alone.
pub fn lasting(k: KernelLoad, ms: f64) -> KernelLoad {
    let gpu = h100();
    // The first launch and the start of blocks cost the same for any length: the difference of two lengths counts.
    let time = |n: u64| alone(&gpu, KernelLoad { iterations: n, ..k });
    let one = (time(33) - time(1)) / 32.0;
    KernelLoad { iterations: ((ms * 1e6 / one).round() as u64).max(1), ..k }
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
