//! What a registry entry is, and what it becomes once its parameters are fixed.

use cotenant_model::demand::{Demand, LaunchShape};
use cotenant_units::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;

/// Which PTX module an entry lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Module {
    /// Runs on compute capability 8.0 and newer.
    Portable,
    /// Needs sm_90a exactly (Hopper: wgmma).
    Sm90a,
}

/// How a tenant's work is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Launch {
    /// One kernel launch whose loop runs `iterations` times.
    Kernel,
    /// `iterations` launches of an empty kernel (launch hog).
    EmptyLaunches,
    /// `iterations` host-to-device copies of `bytes` (pinned memory).
    CopyToDevice,
    /// `iterations` device-to-host copies of `bytes` (pinned memory).
    CopyToHost,
    /// `iterations` matrix products by cuBLAS (`n`³, fp32), between two stamp kernels.
    Gemm,
}

/// A parameter of a kernel.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Param {
    /// Name in `params = { … }`.
    pub name: &'static str,
    /// Meaning and unit.
    pub help: &'static str,
    /// Value when absent.
    pub default: f64,
    /// Smallest and largest value accepted.
    pub range: (f64, f64),
    /// The values accepted, where not every whole number of the range is; else empty.
    pub choices: &'static [f64],
    /// Values are rounded down to a multiple of this (a whole number is required where it is 1).
    pub granularity: u32,
}

/// One registry entry.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Kernel {
    /// Name in `kernel = "…"`, for example `fp32-mul`.
    pub name: &'static str,
    /// One line for `cotenant kernels`.
    pub help: &'static str,
    /// The resource it stresses, in the paper's words.
    pub resource: &'static str,
    /// Parameters beside launch shape and iteration count.
    pub params: &'static [Param],
    /// How it is started.
    pub launch: Launch,
    /// A shape that shows the kernel's effect on a 132-SM GPU: blocks and threads per block.
    pub shape: (u32, u32),
    /// What one turn of the loop (one iteration) is.
    pub turn: &'static str,
}

/// A kernel with its parameters fixed: all that a launcher, or the simulator, must know.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Resolved {
    /// Registry name.
    pub kernel: &'static str,
    /// How it is started.
    pub launch: Launch,
    /// PTX module of the entry point.
    pub module: Module,
    /// Entry point. Every entry has the same signature; see `kernels/abi.cuh`. Where the module also has an entry
    /// `<entry>_init`, that one has to run once, with the same shape and arguments, before the first launch.
    pub entry: String,
    /// Grid, block, registers (from `ptxas`), shared memory.
    pub shape: LaunchShape,
    /// Dynamic shared memory to ask for at launch.
    pub dynamic_shared: Bytes,
    /// Device buffers to allocate: read buffer `a` and write buffer `b` (zero: none).
    pub buffer_a: Bytes,
    /// See `buffer_a`.
    pub buffer_b: Bytes,
    /// Value of the ABI argument `bytes` (working set per buffer).
    pub bytes: Bytes,
    /// ABI arguments `p0`, `p1`.
    pub p0: u64,
    /// See `p0`.
    pub p1: u64,
    /// Demand of one warp in one iteration.
    pub demand: Demand,
    /// The parameters after defaults.
    pub params: BTreeMap<String, f64>,
}
