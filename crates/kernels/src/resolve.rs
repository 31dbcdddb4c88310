//! From a kernel's name, shape and parameters to all that a launcher or the simulator must know.

use crate::demand::{self, Draft, Grid};
use crate::error::nearest;
use crate::params::Params;
use crate::{Error, Kernel, Launch, Resolved, find, registry, resources};
use cotenant_model::demand::LaunchShape;
use cotenant_units::Bytes;
use std::collections::BTreeMap;

/// Threads per block that every GPU since compute capability 2.0 takes.
const MAX_THREADS: u32 = 1024;
/// Largest grid in x.
const MAX_BLOCKS: u32 = i32::MAX as u32;
/// 32-bit registers of one SM, and so the most that one block can have.
const REGISTER_FILE: u32 = 65_536;
/// Registers are allotted to whole warps in units of this many.
const REGISTER_UNIT: u32 = 256;
/// The ABI's `p1`: a value that no kernel ever computes.
const IMPOSSIBLE: u64 = u64::MAX;

/// Fixes a kernel's parameters and shape, and states its demand.
///
/// `params` are those of the registry entry; absent ones take their defaults, and sizes are rounded down to a
/// multiple of 128 bytes. `threads` must be a multiple of 32 where the kernel's work is spread over warps.
///
/// # Errors
/// An unknown kernel or parameter (with the nearest known one), a value out of range, or a shape that the kernel
/// or the hardware does not take.
pub fn resolve(
    name: &str,
    blocks: u32,
    threads: u32,
    params: &BTreeMap<String, f64>,
) -> Result<Resolved, Error> {
    let kernel = find(name).ok_or_else(|| Error::UnknownKernel {
        name: name.to_owned(),
        nearest: nearest(name, registry().iter().map(|k| k.name)),
    })?;
    let refused = |rule: String| Error::Shape { kernel: kernel.name, blocks, threads, rule };
    if blocks == 0 || blocks > MAX_BLOCKS {
        return Err(refused(format!("blocks go from 1 to {MAX_BLOCKS}")));
    }
    if threads == 0 || threads > MAX_THREADS {
        return Err(refused(format!("threads per block go from 1 to {MAX_THREADS}")));
    }
    if spreads_over_warps(kernel) && !threads.is_multiple_of(32) {
        return Err(refused("threads per block must be a multiple of 32, the width of a warp".into()));
    }
    let mut params = Params::checked(kernel, params)?;
    let draft = demand::draft(kernel, Grid { blocks, threads }, &mut params)?;
    let used = match kernel.launch {
        Launch::Kernel | Launch::EmptyLaunches => {
            resources(&draft.entry).ok_or_else(|| Error::NoEntry { entry: draft.entry.clone() })?
        }
        // No kernel of ours: copies have no blocks, and cuBLAS chooses its own (assumed, see docs/kernels.md).
        Launch::Gemm => crate::Resources { registers: 128, static_shared: 32 << 10, ..NOTHING },
        Launch::CopyToDevice | Launch::CopyToHost => NOTHING,
    };
    let most = max_threads(used.registers);
    if threads > most {
        return Err(refused(format!(
            "it has {} registers per thread, so that a block takes at most {most} threads",
            used.registers
        )));
    }
    let Draft { module, entry, dynamic_shared, buffer_a, buffer_b, bytes, p0, demand } = draft;
    let shared_bytes = Bytes(u64::from(used.static_shared) + dynamic_shared.0);
    Ok(Resolved {
        kernel: kernel.name,
        launch: kernel.launch,
        module,
        entry,
        shape: LaunchShape { blocks, threads, registers: used.registers, shared_bytes },
        dynamic_shared,
        buffer_a,
        buffer_b,
        bytes,
        p0,
        p1: IMPOSSIBLE,
        demand,
        params: params.into_values(),
    })
}

const NOTHING: crate::Resources =
    crate::Resources { registers: 0, static_shared: 0, spill_stores: 0, spill_loads: 0 };

/// Kernels that do something in every thread; the others have one thread at work, or none of ours.
fn spreads_over_warps(kernel: &Kernel) -> bool {
    let one_thread = matches!(kernel.name, "chase" | "sleep" | "sleep-until" | "spin" | "empty" | "stamp");
    let hog = matches!(kernel.name, "regs-hog" | "smem-hog");
    kernel.launch == Launch::Kernel && !one_thread && !hog
}

/// Threads per block that the register file allows.
fn max_threads(registers: u32) -> u32 {
    let per_warp = (registers * 32).next_multiple_of(REGISTER_UNIT).max(REGISTER_UNIT);
    (REGISTER_FILE / per_warp * 32).min(MAX_THREADS)
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
