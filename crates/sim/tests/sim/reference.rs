//! The simulated H100 against the peer's benchmark (eth-easl/gpu-util-interference) run on one H100 SXM5, driver
//! 580.159.04. Aim: mean error at most 10 %, worst at most 30 %, in each table.

use crate::common::{MIB, alone, copy, errors, fp32, fp64, h100, load, run, sleep, stream, together};
use cotenant_model::builtin;
use cotenant_model::demand::{Demand, KernelLoad, Pipes};
use cotenant_sim::partition;

fn assert_close(title: &str, cells: &[(String, f64, f64)]) {
    let (mean, worst) = errors(title, cells);
    assert!(mean <= 0.10, "{title}: mean error {mean:.3}");
    assert!(worst <= 0.30, "{title}: worst error {worst:.3}");
}

#[test]
fn block_scheduler() {
    let gpu = h100();
    let k = |blocks| sleep(blocks, 1024, 1e6);
    let mut cells = Vec::new();
    for (blocks, want) in [(132, 1.0), (264, 2.0)] {
        let s = together(&gpu, k(blocks), k(blocks)) / alone(&gpu, k(blocks));
        cells.push((format!("{blocks}"), s, want));
    }
    let (mean, _) = errors("block scheduler, colocated over alone", &cells);
    assert!(mean < 0.01);
}

#[test]
fn issue_slots() {
    let gpu = h100();
    let c = copy(132, 1024, 4096.0 * MIB, 40.0);
    let solo = alone(&gpu, c);
    let mut cells = vec![("copy ms".into(), solo / 1e6, 186.5)];
    for (ilp, threads, want) in
        [(1, 128, 1.964), (2, 128, 1.943), (3, 128, 1.948), (4, 128, 1.803), (4, 256, 1.002)]
    {
        // As in the experiment, iterations are tuned to the copy's time.
        let probe = alone(&gpu, fp32(ilp, threads, 100_000));
        let k = fp32(ilp, threads, (100_000.0 * solo / probe) as u64);
        let seq = solo + alone(&gpu, k);
        cells.push((format!("{ilp}x{threads}"), seq / together(&gpu, k, c), want));
    }
    assert_close("issue slots, speedup", &cells);
}

#[test]
fn fp64_pipe() {
    let gpu = h100();
    // 20 M loop turns of the peer's kernel.
    let turns = 20_000_000.0;
    let mut cells = Vec::new();
    for (ilp, seq, col) in
        [(1, 165.442, 85.9013), (2, 167.968, 89.735), (3, 173.145, 130.142), (4, 176.896, 171.367)]
    {
        let k = fp64(ilp, (turns * f64::from(ilp) / 64.0) as u64);
        let (a, both) = (alone(&gpu, k), together(&gpu, k, k));
        cells.push((format!("ilp {ilp} ms"), a / 1e6, seq / 2.0));
        cells.push((format!("ilp {ilp}"), 2.0 * a / both, seq / col));
    }
    assert_close("fp64 pipe, time alone and speedup", &cells);
}

#[test]
fn occupancy_pitfall_in_streams() {
    let gpu = h100();
    let k = fp32(4, 128, 1_000_000);
    let s = together(&gpu, k, k) / alone(&gpu, k);
    assert_close("two kernels of 6.25 % occupancy", &[("slowdown".into(), s, 1.7235)]);
}

#[test]
fn compute_beside_copy_is_serial() {
    let gpu = h100();
    let c = copy(132, 1024, 4096.0 * MIB, 180.0);
    let solo = alone(&gpu, c);
    let probe = alone(&gpu, fp32(4, 1024, 100_000));
    let k = fp32(4, 1024, (100_000.0 * solo * 523.1 / 836.4 / probe) as u64);
    let both = together(&gpu, k, c);
    let cells = [("copy ms".into(), solo / 1e6, 836.36), ("together".into(), both / 1e6, 1356.31)];
    assert_close("IPC 4 beside copy", &cells);
}

#[test]
fn dram_bandwidth_under_mps() {
    let gpu = h100();
    let card = builtin("h100-sxm5-80gb").expect("built in");
    let halves = partition::mps(&card, &[50.0, 50.0]).expect("valid");
    let mut cells = Vec::new();
    for (blocks, ms, slow) in [(33, 687.3, 1.11), (66, 383.4, 1.22), (99, 283.1, 1.40), (132, 234.1, 1.545)] {
        let k = copy(blocks, 1024, 4096.0 * MIB, 50.0);
        let on = |i: usize| cotenant_sim::Stream { context: i as u32, sms: Some(halves[i]), ..stream(k) };
        let a = run(&gpu, vec![on(0)]).makespan_ns() as f64;
        let both = run(&gpu, vec![on(0), on(1)]).makespan_ns() as f64;
        cells.push((format!("{blocks} ms"), a / 1e6, ms));
        cells.push((format!("{blocks}"), both / a, slow));
    }
    assert_close("DRAM under MPS 50 % + 50 %, time alone and slowdown", &cells);
}

#[test]
fn l2_capacity() {
    let gpu = h100();
    let mut cells = Vec::new();
    // Passes are chosen so that each size moves 80 000 MiB (ms are the peer's).
    //
    // Left out is 4 MiB (1.65 measured): 16 MiB of working set in a cache of 50 run slower there than 32 MiB, which
    // no capacity explains.
    for (mib, ms, slow) in [
        (8.0, 57.89, 1.102),
        (12.0, 50.94, 1.231),
        (16.0, 55.74, 1.450),
        (18.0, 57.73, 1.664),
        (20.0, 64.43, 2.095),
        (22.5, 78.04, 2.132),
        (25.0, 107.96, 1.634),
        (28.0, 144.47, 1.223),
        (32.0, 145.87, 1.228),
        (40.0, 146.47, 1.216),
        (48.0, 147.09, 1.219),
        (64.0, 147.38, 1.239),
    ] {
        let k = copy(66, 1024, mib * MIB, 80_000.0 / mib);
        let a = alone(&gpu, k);
        cells.push((format!("{mib} ms"), a / 1e6, ms));
        cells.push((format!("{mib}"), together(&gpu, k, k) / a, slow));
    }
    assert_close("L2 capacity, time alone and slowdown", &cells);
}

/// The paper's per-block copy: 132 blocks of two warps, `kib` per block and buffer, `steps` inner steps.
fn l1_copy(kib: f64, steps: f64) -> KernelLoad {
    let of_block = 2.0 * kib * 1024.0;
    let demand = Demand {
        issue: 22.0,
        pipes: Pipes { lsu: 2.0, alu: 8.0, fma: 11.0, ..Pipes::default() },
        load_bytes: 128.0,
        store_bytes: 128.0,
        inflight_bytes: 128.0,
        footprint_bytes: 132.0 * of_block,
        block_footprint_bytes: of_block,
        caches_in_l1: true,
        ..Demand::default()
    };
    load(132, 64, steps as u64, demand)
}

#[test]
fn l1_capacity() {
    let gpu = h100();
    let mut cells = Vec::new();
    for (kib, want) in [
        (16.0, 0.501),
        (32.0, 0.503),
        (48.0, 0.500),
        (54.0, 0.500),
        (64.0, 0.988),
        (80.0, 1.350),
        (96.0, 1.861),
        (108.0, 3.390),
        (128.0, 3.405),
        (160.0, 1.328),
        (192.0, 0.527),
    ] {
        let k = l1_copy(kib, 1.9e6);
        let ratio = together(&gpu, k, k) / (2.0 * alone(&gpu, k));
        cells.push((format!("{kib}"), ratio, want));
    }
    assert_close("L1 capacity, colocated over sequential", &cells);
}
