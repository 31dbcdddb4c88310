//! What a kernel asks of the machine, independent of any machine: the input of every law in this crate.

use cotenant_units::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Shape of one launch and the per-block resources that residency depends on (paper §2.1).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LaunchShape {
    /// Blocks in the grid.
    pub blocks: u32,
    /// Threads per block.
    pub threads: u32,
    /// Registers per thread, as the compiler allocated them.
    pub registers: u32,
    /// Shared memory per block, static and dynamic together, bytes.
    pub shared_bytes: Bytes,
}

impl LaunchShape {
    /// Warps per block (32 threads each, rounded up).
    pub fn warps(&self) -> u32 {
        self.threads.div_ceil(32)
    }
}

/// Warp instructions by execution pipe, for one warp and one iteration. The names are `ncu`'s pipe names.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Pipes {
    /// fp32 multiply, add, FMA and int32 multiply-add (`fma`, heavy and lite together).
    pub fma: f64,
    /// fp64 (`fp64`).
    pub fp64: f64,
    /// int32 add, logic, compare (`alu`).
    pub alu: f64,
    /// packed fp16 (`fp16`; on Hopper these issue to the FMA datapath).
    pub fp16: f64,
    /// special functions and conversions (`xu`).
    pub xu: f64,
    /// tensor core, counted in units of one m16n8k16 product (2·16·8·16 flop) per warp.
    pub tensor: f64,
    /// Of these, the ones by warp-synchronous `mma.sync`: they reach a part of the cores' rate only.
    #[serde(default)]
    pub tensor_sync: f64,
    /// loads, stores and atomics, shared or global (`lsu`).
    pub lsu: f64,
}

/// What one warp does in one iteration of a kernel's outer loop.
///
/// A kernel's registry entry computes it from the parameters and the launch shape; `ncu` checks it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Demand {
    /// All warp instructions issued (issue slots), including those without a pipe here (branches, moves).
    pub issue: f64,
    /// Of these, by pipe.
    pub pipes: Pipes,
    /// Cycles that one warp needs for one iteration when nothing contends and every access hits L1: the
    /// dependent chain of arithmetic. Zero where memory latency is the only bound.
    pub chain_cycles: f64,
    /// Time that passes without using any resource (nanosleep), ns per iteration.
    pub sleep_ns: f64,
    /// Bytes loaded from global memory (all cache levels) per warp.
    pub load_bytes: f64,
    /// Bytes stored to global memory per warp.
    pub store_bytes: f64,
    /// Bytes that one warp keeps in flight (independent loads before the first use).
    pub inflight_bytes: f64,
    /// Global memory that the whole grid touches repeatedly, bytes (reads and writes).
    pub footprint_bytes: f64,
    /// Global memory that one block touches repeatedly, bytes: what must fit in L1 to hit there.
    pub block_footprint_bytes: f64,
    /// Loads may hit in L1 (false where they bypass it, `ld.global.cg`).
    pub caches_in_l1: bool,
    /// What a block touches lies in pieces that other blocks' pieces separate (a grid-stride loop): it fills the sets
    /// of L1 unevenly and misses long before it exceeds L1.
    #[serde(default)]
    pub l1_scatter: bool,
    /// Shared-memory wavefronts (128 B each without conflicts; an n-way conflict costs n) per warp.
    pub smem_wavefronts: f64,
    /// Global atomics per warp (each one an L2 operation of 32 lanes on one or more sectors).
    pub l2_atomics: f64,
    /// Bytes moved over the host link per iteration of the whole tenant (copies), not per warp.
    pub host_link_bytes: f64,
}

/// A kernel ready to be placed: its shape, how often its loop runs, and the demand of each turn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KernelLoad {
    /// Shape of the launch.
    pub shape: LaunchShape,
    /// Iterations of the outer loop in each warp.
    pub iterations: u64,
    /// Demand of one warp in one iteration.
    pub demand: Demand,
}
