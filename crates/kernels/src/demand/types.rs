//! The common part of all kernels' demand, and the way from a name to its family.

use super::{arith, hold, memory};
use crate::params::Params;
use crate::{Error, Kernel, Module};
use cotenant_model::demand::{Demand, Pipes};
use cotenant_units::Bytes;

/// Lanes of a warp.
pub(super) const LANES: f64 = 32.0;
/// Issue slots that every loop costs per turn: add, compare, branch.
pub(super) const LOOP: f64 = 3.0;
/// Cycles in which a warp cannot issue after the branch that closes a loop: 7 to 10 measured on an H100 with fp32
/// chains of ILP 1 to 4 and a body of 48 operations, 3 to 9 with fp64.
pub(super) const BRANCH_BUBBLE: f64 = 9.0;

/// Where the assembler puts the addition that closes a loop; the comparison is on the ALU pipe, the branch on none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counter {
    /// `IADD3`.
    Alu,
    /// `VIADD`, which Hopper executes on the FMA pipe.
    Fma,
    /// `UIADD3`, on the uniform datapath.
    Uniform,
}

impl Counter {
    /// `pipes` with the loop's own instructions.
    pub fn close(self, pipes: Pipes) -> Pipes {
        let (alu, fma) = match self {
            Counter::Alu => (2.0, 0.0),
            Counter::Fma => (1.0, 1.0),
            Counter::Uniform => (1.0, 0.0),
        };
        Pipes { alu: pipes.alu + alu, fma: pipes.fma + fma, ..pipes }
    }
}

/// Shape of a launch, already within the hardware's limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    /// Blocks.
    pub blocks: u32,
    /// Threads per block.
    pub threads: u32,
}

impl Grid {
    /// Warps of one block.
    pub fn warps_per_block(self) -> f64 {
        f64::from(self.threads.div_ceil(32))
    }

    /// Warps of the grid.
    pub fn warps(self) -> f64 {
        f64::from(self.blocks) * self.warps_per_block()
    }
}

/// Everything about a resolved kernel but what all of them share.
#[derive(Debug)]
pub(crate) struct Draft {
    pub module: Module,
    pub entry: String,
    pub dynamic_shared: Bytes,
    pub buffer_a: Bytes,
    pub buffer_b: Bytes,
    pub bytes: Bytes,
    pub p0: u64,
    pub demand: Demand,
}

impl Draft {
    /// A portable entry without buffers or parameters.
    pub fn portable(entry: impl Into<String>, demand: Demand) -> Draft {
        Draft {
            module: Module::Portable,
            entry: entry.into(),
            dynamic_shared: Bytes(0),
            buffer_a: Bytes(0),
            buffer_b: Bytes(0),
            bytes: Bytes(0),
            p0: 0,
            demand,
        }
    }
}

/// Entry point, buffers and demand of a kernel.
///
/// # Errors
/// A shape or a combination of parameters that the kernel does not take.
pub(crate) fn draft(kernel: &'static Kernel, grid: Grid, params: &mut Params) -> Result<Draft, Error> {
    Ok(match kernel.name {
        "fp32-mul" => arith::fp32("fp32_mul", params),
        "fp32-fma" => arith::fp32("fp32_fma", params),
        "fp64-mul" => arith::fp64("fp64_mul", params),
        "fp64-fma" => arith::fp64("fp64_fma", params),
        "int32" => arith::int32(params),
        "fp16x2" => arith::fp16x2(params),
        "sfu" => arith::sfu(params),
        "tensor-mma" => arith::tensor_mma(params),
        "tensor-wgmma" => arith::tensor_wgmma(kernel, grid, params)?,
        "issue-hog" => arith::issue_hog(),
        "smem" => arith::smem(params),
        "gemm" => arith::gemm(grid, params),
        "copy" | "l2-copy" => memory::copy(kernel, grid, params),
        "copy-paper" => memory::copy_paper(grid, params),
        "l1-copy" => memory::l1_copy(kernel, grid, params)?,
        "read" => memory::read(grid, params),
        "write" => memory::write(grid, params),
        "chase" => memory::chase(grid, params),
        "atomics" => memory::atomics(params),
        "h2d" | "d2h" => memory::host_copy(params),
        "sleep" => hold::sleep(params),
        "sleep-until" => hold::sleep_until(params),
        "spin" => hold::spin(grid, params),
        "regs-hog" => hold::regs_hog(params),
        "smem-hog" => hold::smem_hog(params),
        "stamp" => hold::stamp(params),
        "empty" => hold::empty(),
        // A registry entry without a family; `every_kernel_resolves` fails on it.
        other => return Err(Error::NoEntry { entry: other.to_owned() }),
    })
}
