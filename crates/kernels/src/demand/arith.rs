//! Arithmetic, tensor core, issue slots and shared memory: kernels whose rate is set inside the SM.
//!
//! Latencies are of Hopper. Those of fp32 and fp64 follow from the paper's Tables 3 and 4, and counters on an H100
//! agree; docs/kernels.md says where each of the others comes from.

use super::types::{BRANCH_BUBBLE, Counter, Draft, Grid, LANES, LOOP};
use crate::params::Params;
use crate::{Error, Kernel, Module};
use cotenant_model::demand::{Demand, Pipes};
use cotenant_units::Bytes;

/// Cycles from an fp32 multiplication to the next one that needs its result.
const FP32_LATENCY: f64 = 4.0;
/// Likewise fp64: 0.51 IPC from four warps at ILP 1 (paper, Table 4).
const FP64_LATENCY: f64 = 8.0;
/// Likewise int32 on the ALU pipe (assumed: a chain of ILP 1 already fills the pipe with two warps).
const INT32_LATENCY: f64 = 4.0;
/// Likewise packed fp16, as the mean over operations that go to the FMA pipe and the tensor pipe in turn.
const FP16_LATENCY: f64 = 8.9;
/// Likewise an approximate exponential.
const SFU_LATENCY: f64 = 17.0;
/// Likewise a warp-wide m16n8k16 product.
const MMA_LATENCY: f64 = 24.0;
/// Cycles from a shared-memory load to its use.
const SHARED_LATENCY: f64 = 29.0;

/// Demand of `operations` in `ilp` independent chains of the given latency, where `pipes` fills in their pipe.
fn chains(ilp: u64, operations: f64, latency: f64, pipes: Pipes, counter: Counter) -> Demand {
    let issue = operations + LOOP;
    let chain = operations / ilp as f64 * latency;
    Demand {
        issue,
        pipes: counter.close(pipes),
        // One warp issues at most one instruction per cycle.
        chain_cycles: chain.max(issue) + BRANCH_BUBBLE,
        ..Demand::default()
    }
}

/// Operations of `body / ilp` rounds of `ilp`.
fn whole_rounds(body: u64, ilp: u64) -> f64 {
    (body / ilp * ilp) as f64
}

pub(super) fn fp32(entry: &str, params: &Params) -> Draft {
    let (ilp, body) = (params.get("ilp"), params.get("body"));
    let n = whole_rounds(body, ilp);
    let demand = chains(ilp, n, FP32_LATENCY, Pipes { fma: n, ..Pipes::default() }, Counter::Alu);
    Draft::portable(format!("{entry}_ilp{ilp}_body{body}"), demand)
}

pub(super) fn fp64(entry: &str, params: &Params) -> Draft {
    let ilp = params.get("ilp");
    let n = whole_rounds(128, ilp);
    let demand = chains(ilp, n, FP64_LATENCY, Pipes { fp64: n, ..Pipes::default() }, Counter::Fma);
    Draft::portable(format!("{entry}_ilp{ilp}_body128"), demand)
}

pub(super) fn int32(params: &Params) -> Draft {
    let ilp = params.get("ilp");
    let n = 2.0 * whole_rounds(64, ilp);
    let demand = chains(ilp, n, INT32_LATENCY, Pipes { alu: n, ..Pipes::default() }, Counter::Fma);
    Draft::portable(format!("int32_ilp{ilp}_body64"), demand)
}

pub(super) fn fp16x2(params: &Params) -> Draft {
    let ilp = params.get("ilp");
    let n = whole_rounds(128, ilp);
    let demand = chains(ilp, n, FP16_LATENCY, Pipes { fp16: n, ..Pipes::default() }, Counter::Alu);
    Draft::portable(format!("fp16x2_ilp{ilp}_body128"), demand)
}

pub(super) fn sfu(params: &Params) -> Draft {
    let ilp = params.get("ilp");
    let n = whole_rounds(64, ilp);
    let demand = chains(ilp, n, SFU_LATENCY, Pipes { xu: n, ..Pipes::default() }, Counter::Fma);
    Draft::portable(format!("sfu_ilp{ilp}_body64"), demand)
}

pub(super) fn issue_hog() -> Draft {
    Draft::portable("issue_hog", chains(256, 256.0, 1.0, Pipes::default(), Counter::Fma))
}

pub(super) fn tensor_mma(params: &Params) -> Draft {
    let ilp = params.get("ilp");
    let products = 32.0;
    let pipes = Pipes { tensor: products, tensor_sync: products, ..Pipes::default() };
    let mut demand = chains(ilp, products, MMA_LATENCY, pipes, Counter::Uniform);
    // The assembler pads dependent products with NOPs: one after each at ILP 1, after every other at ILP 2.
    demand.issue += match ilp {
        1 => 32.0,
        2 => 16.0,
        _ => 1.0,
    };
    Draft::portable(format!("tensor_mma_ilp{ilp}"), demand)
}

pub(super) fn tensor_wgmma(kernel: &'static Kernel, grid: Grid, params: &Params) -> Result<Draft, Error> {
    if grid.threads != 128 && grid.threads != 256 {
        return Err(Error::Shape {
            kernel: kernel.name,
            blocks: grid.blocks,
            threads: grid.threads,
            rule: "a block is one or two warpgroups, 128 or 256 threads".into(),
        });
    }
    let (m, n, k, products) = (64.0, 256.0, 16.0, 32.0);
    // In units of m16n8k16 per warp: four warps share one product.
    let units = products * (m * n * k) / (16.0 * 8.0 * 16.0) / 4.0;
    // The SM's four tensor cores do 2,048 dense bf16 multiply-adds per cycle, so that one product takes 128 cycles;
    // then comes the wait for the last one (82 cycles measured on an H100).
    let cycles = products * 128.0 + 82.0;
    // Both operands are read from shared memory once per product: 64 × 16 and 256 × 16 bf16.
    let wavefronts = products * (m + n) * k * 2.0 / 128.0 / 4.0;
    let demand = Demand {
        issue: 153.0,
        // Each product's two descriptors go to uniform registers by the ALU pipe (64 of the 69).
        pipes: Pipes { tensor: units, alu: 69.0, fma: 4.0, ..Pipes::default() },
        chain_cycles: cycles,
        smem_wavefronts: wavefronts,
        ..Demand::default()
    };
    let groups = u64::from(grid.threads / 128);
    Ok(Draft {
        module: Module::Sm90a,
        dynamic_shared: Bytes(1024 + (32 << 10) + groups * (8 << 10)),
        p0: params.get("random"),
        ..Draft::portable("tensor_wgmma", demand)
    })
}

pub(super) fn smem(params: &Params) -> Draft {
    let conflicts = params.get("conflicts");
    let loads = 32.0;
    // Without conflicts each load takes 16 bytes per lane: four wavefronts of 128 bytes for one issue slot.
    let (entry, wavefronts, xors, p0) = match conflicts {
        1 => ("smem_vector", 4.0 * loads, 2.0 * loads, 0),
        c => ("smem_conflict", c as f64 * loads, loads / 2.0, c),
    };
    // Besides the loop's three: two additions that keep the compiler from moving the loads out of the loop.
    let demand = Demand {
        issue: loads + xors + LOOP + 2.0,
        pipes: Counter::Fma.close(Pipes { lsu: loads, alu: xors, fma: 2.0, ..Pipes::default() }),
        // About eight loads in flight before the first use: four batches, each of one latency.
        chain_cycles: 4.0 * SHARED_LATENCY + wavefronts + BRANCH_BUBBLE,
        smem_wavefronts: wavefronts,
        ..Demand::default()
    };
    Draft { p0, ..Draft::portable(entry, demand) }
}

/// The paper's matrix product (section 4.3): 60 % FMA pipe and IPC 3.0 of four, one warp per scheduler.
pub(super) fn gemm(grid: Grid, params: &Params) -> Draft {
    const FMA_SHARE: f64 = 0.60;
    const IPC: f64 = 3.0;
    let n = params.get("n");
    let fma = (n as f64).powi(3) / LANES / grid.warps();
    // Tiles of 64 × 128 outputs; each reads its rows and columns once.
    let tiles = (n as f64 / 64.0).ceil() * (n as f64 / 128.0).ceil();
    let load_bytes = tiles * (64.0 + 128.0) * n as f64 * 4.0 / grid.warps();
    let matrix = n * n * 4;
    let issue = fma * IPC / (4.0 * FMA_SHARE);
    let demand = Demand {
        issue,
        pipes: Pipes { fma, lsu: fma / 16.0, alu: fma / 16.0, ..Pipes::default() },
        chain_cycles: fma / FMA_SHARE,
        load_bytes,
        store_bytes: matrix as f64 / grid.warps(),
        inflight_bytes: 2048.0,
        footprint_bytes: 3.0 * matrix as f64,
        block_footprint_bytes: (64.0 + 128.0) * n as f64 * 4.0,
        ..Demand::default()
    };
    Draft {
        buffer_a: Bytes(matrix),
        buffer_b: Bytes(matrix),
        bytes: Bytes(matrix),
        ..Draft::portable("stamp", demand)
    }
}
