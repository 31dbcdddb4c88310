//! Which blocks fit on an SM together, and what limits them (paper §2.1; Gilman 2021; Amert RTSS'17 R1–R3).
//!
//! A block is placed whole or not at all, and holds its threads, warps, registers, shared memory and block slot
//! until it ends. Registers are allocated for each warp in fixed portions, shared memory in fixed portions with a
//! reserve for the system in each block.

use crate::card::Spec;
use crate::demand::LaunchShape;
use cotenant_units::Sms;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The limit that binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Threads per SM.
    Threads,
    /// Warps per SM.
    Warps,
    /// Registers per SM.
    Registers,
    /// Shared memory per SM.
    SharedMemory,
    /// Block slots per SM.
    Blocks,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Threads => "threads",
            Limit::Warps => "warps",
            Limit::Registers => "registers",
            Limit::SharedMemory => "shared memory",
            Limit::Blocks => "block slots",
        })
    }
}

/// What one block holds, after rounding to the allocation portions; also what is free or in use on an SM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Holding {
    /// Threads.
    pub threads: u32,
    /// Warps.
    pub warps: u32,
    /// Registers.
    pub registers: u32,
    /// Shared memory, bytes.
    pub shared: u32,
    /// Block slots.
    pub blocks: u32,
}

impl Holding {
    /// Everything an SM has.
    pub fn of_sm(spec: &Spec) -> Holding {
        Holding {
            threads: spec.max_threads_per_sm,
            warps: spec.max_warps_per_sm,
            registers: spec.registers_per_sm,
            shared: u32::try_from(spec.shared_bytes_per_sm.0).unwrap_or(u32::MAX),
            blocks: spec.max_blocks_per_sm,
        }
    }

    /// What one block of `shape` takes.
    pub fn of_block(spec: &Spec, shape: &LaunchShape) -> Holding {
        let warps = shape.warps();
        let per_warp = (shape.registers.saturating_mul(32)).next_multiple_of(spec.register_portion.max(1));
        let shared = shape.shared_bytes.0 + spec.shared_reserved_per_block.0;
        let portion = spec.shared_portion.0.max(1);
        Holding {
            // The SM counts whole warps: a block of 33 threads takes 64 thread places.
            threads: warps * 32,
            warps,
            registers: per_warp.saturating_mul(warps),
            shared: u32::try_from(shared.next_multiple_of(portion)).unwrap_or(u32::MAX),
            blocks: 1,
        }
    }

    /// How many blocks that each take `block` fit into what `self` has, and the limit that binds (the first in
    /// the order threads, warps, registers, shared memory, block slots where several do).
    pub fn fit(&self, block: &Holding) -> (u32, Limit) {
        let room = |have: u32, each: u32| have.checked_div(each).unwrap_or(u32::MAX);
        let limits = [
            (room(self.threads, block.threads), Limit::Threads),
            (room(self.warps, block.warps), Limit::Warps),
            (room(self.registers, block.registers), Limit::Registers),
            (room(self.shared, block.shared), Limit::SharedMemory),
            (room(self.blocks, block.blocks), Limit::Blocks),
        ];
        let mut best = limits[0];
        for l in limits {
            if l.0 < best.0 {
                best = l;
            }
        }
        best
    }

    /// `self` less `n` times `block`.
    pub fn minus(&self, block: &Holding, n: u32) -> Holding {
        Holding {
            threads: self.threads.saturating_sub(block.threads * n),
            warps: self.warps.saturating_sub(block.warps * n),
            registers: self.registers.saturating_sub(block.registers * n),
            shared: self.shared.saturating_sub(block.shared * n),
            blocks: self.blocks.saturating_sub(block.blocks * n),
        }
    }

    /// `self` with `n` times `block` given back.
    pub fn plus(&self, block: &Holding, n: u32) -> Holding {
        Holding {
            threads: self.threads + block.threads * n,
            warps: self.warps + block.warps * n,
            registers: self.registers + block.registers * n,
            shared: self.shared + block.shared * n,
            blocks: self.blocks + block.blocks * n,
        }
    }
}

/// How a grid lies on a number of SMs when it is alone there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Residency {
    /// Blocks that fit on one SM.
    pub blocks_per_sm: u32,
    /// The limit that binds.
    pub limit: Limit,
    /// Warps resident on a full SM over the most an SM can hold, 0..1 (theoretical occupancy).
    pub occupancy: f64,
    /// Waves: rounds of full SMs, the last one possibly partial.
    pub waves: u32,
    /// Blocks of the last wave.
    pub tail_blocks: u32,
    /// Share of block places that stay empty over all waves, 0..1.
    pub idle_share: f64,
}

/// Why a launch can never be placed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// No blocks.
    #[error("place a grid of zero blocks; give at least one")]
    NoBlocks,
    /// No threads.
    #[error("place blocks of zero threads; give at least one")]
    NoThreads,
    /// More threads than a block may have.
    #[error("place blocks of {threads} threads; the device allows at most {most} in a block")]
    Threads {
        /// Asked for.
        threads: u32,
        /// Allowed.
        most: u32,
    },
    /// More registers per thread than the architecture addresses.
    #[error("place {registers} registers per thread; a thread can have at most 255")]
    RegistersPerThread {
        /// Asked for.
        registers: u32,
    },
    /// More shared memory than a block may have.
    #[error("place blocks with {bytes} bytes of shared memory; the device allows at most {most} in a block")]
    Shared {
        /// Asked for.
        bytes: u64,
        /// Allowed.
        most: u64,
    },
    /// One block exceeds an empty SM.
    #[error("place a block that exceeds the {limit} of an empty SM ({need} needed, {have} there)")]
    TooLarge {
        /// The limit that it exceeds.
        limit: Limit,
        /// What one block needs.
        need: u32,
        /// What an SM has.
        have: u32,
    },
    /// No SM allowed.
    #[error("place blocks on no SM at all; allow at least one")]
    NoSms,
}

/// Blocks of `shape` that fit on an empty SM, and the limit that binds.
///
/// # Errors
/// If not even one fits, or the shape breaks a limit of a single block.
pub fn blocks_fit(spec: &Spec, shape: &LaunchShape) -> Result<(u32, Limit), ShapeError> {
    if shape.blocks == 0 {
        return Err(ShapeError::NoBlocks);
    }
    if shape.threads == 0 {
        return Err(ShapeError::NoThreads);
    }
    if shape.threads > spec.max_threads_per_block {
        return Err(ShapeError::Threads { threads: shape.threads, most: spec.max_threads_per_block });
    }
    if shape.registers > 255 {
        return Err(ShapeError::RegistersPerThread { registers: shape.registers });
    }
    if shape.shared_bytes > spec.shared_bytes_per_block {
        return Err(ShapeError::Shared { bytes: shape.shared_bytes.0, most: spec.shared_bytes_per_block.0 });
    }
    let (sm, block) = (Holding::of_sm(spec), Holding::of_block(spec, shape));
    match sm.fit(&block) {
        (0, limit) => {
            let (need, have) = match limit {
                Limit::Threads => (block.threads, sm.threads),
                Limit::Warps => (block.warps, sm.warps),
                Limit::Registers => (block.registers, sm.registers),
                Limit::SharedMemory => (block.shared, sm.shared),
                Limit::Blocks => (block.blocks, sm.blocks),
            };
            Err(ShapeError::TooLarge { limit, need, have })
        }
        fit => Ok(fit),
    }
}

/// Residency, waves and tail of a grid alone on `sms` SMs: `waves = ⌈g/(b·N)⌉`, `idle = 1 - g/(b·N·waves)`.
///
/// # Errors
/// As [`blocks_fit`], and if `sms` is zero.
pub fn residency(spec: &Spec, shape: &LaunchShape, sms: Sms) -> Result<Residency, ShapeError> {
    let (blocks_per_sm, limit) = blocks_fit(spec, shape)?;
    if sms.0 == 0 {
        return Err(ShapeError::NoSms);
    }
    let places = u64::from(blocks_per_sm) * u64::from(sms.0);
    let grid = u64::from(shape.blocks);
    let waves = grid.div_ceil(places);
    let tail = grid - (waves - 1) * places;
    Ok(Residency {
        blocks_per_sm,
        limit,
        occupancy: f64::from(blocks_per_sm * shape.warps()) / f64::from(spec.max_warps_per_sm),
        // At most the number of blocks, which is a u32.
        waves: waves as u32,
        tail_blocks: u32::try_from(tail).unwrap_or(u32::MAX),
        idle_share: 1.0 - grid as f64 / (places * waves) as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;
    use cotenant_units::Bytes;
    use proptest::prelude::*;

    fn spec() -> Spec {
        builtin("h100-sxm5-80gb").expect("built-in card").spec
    }

    fn shape(blocks: u32, threads: u32, registers: u32, shared: u64) -> LaunchShape {
        LaunchShape { blocks, threads, registers, shared_bytes: Bytes(shared) }
    }

    #[test]
    fn threads_bind_first_for_large_blocks() {
        assert_eq!(blocks_fit(&spec(), &shape(1, 1024, 16, 0)), Ok((2, Limit::Threads)));
        // One thread fewer saves nothing: whole warps count. One warp fewer does not fit a third block either.
        assert_eq!(blocks_fit(&spec(), &shape(1, 1023, 16, 0)), Ok((2, Limit::Threads)));
        assert_eq!(blocks_fit(&spec(), &shape(1, 672, 16, 0)), Ok((3, Limit::Threads)));
    }

    #[test]
    fn registers_are_rounded_per_warp() {
        // 33 registers: 33·32 = 1056 → 1280 per warp, 32 warps → 40960: one block of 1024 threads.
        assert_eq!(blocks_fit(&spec(), &shape(1, 1024, 33, 0)), Ok((1, Limit::Registers)));
        // 255 registers with 256 threads: 8 warps · 8192 = 65536: exactly one.
        assert_eq!(blocks_fit(&spec(), &shape(1, 256, 255, 0)), Ok((1, Limit::Registers)));
        // Twice the threads with all registers can never be placed.
        assert!(matches!(
            blocks_fit(&spec(), &shape(1, 512, 255, 0)),
            Err(ShapeError::TooLarge { limit: Limit::Registers, need: 131_072, have: 65_536 })
        ));
    }

    #[test]
    fn shared_memory_includes_the_reserve() {
        // 227 KiB is the most for one block; with the 1 KiB reserve it fills the SM's 228 KiB.
        assert_eq!(blocks_fit(&spec(), &shape(1, 32, 16, 227 << 10)), Ok((1, Limit::SharedMemory)));
        assert_eq!(blocks_fit(&spec(), &shape(1, 32, 16, 113 << 10)), Ok((2, Limit::SharedMemory)));
        assert!(matches!(blocks_fit(&spec(), &shape(1, 32, 16, 228 << 10)), Err(ShapeError::Shared { .. })));
    }

    #[test]
    fn small_blocks_run_out_of_slots() {
        assert_eq!(blocks_fit(&spec(), &shape(1, 32, 16, 0)), Ok((32, Limit::Blocks)));
    }

    #[test]
    fn impossible_shapes_are_refused() {
        assert_eq!(blocks_fit(&spec(), &shape(0, 32, 16, 0)), Err(ShapeError::NoBlocks));
        assert_eq!(blocks_fit(&spec(), &shape(1, 0, 16, 0)), Err(ShapeError::NoThreads));
        assert!(matches!(blocks_fit(&spec(), &shape(1, 2000, 16, 0)), Err(ShapeError::Threads { .. })));
        assert!(matches!(
            blocks_fit(&spec(), &shape(1, 32, 256, 0)),
            Err(ShapeError::RegistersPerThread { .. })
        ));
        assert_eq!(residency(&spec(), &shape(1, 32, 16, 0), Sms(0)), Err(ShapeError::NoSms));
    }

    #[test]
    fn waves_and_tail() {
        let r = residency(&spec(), &shape(265, 1024, 16, 0), Sms(132)).expect("fits");
        assert_eq!((r.waves, r.tail_blocks, r.blocks_per_sm), (2, 1, 2));
        assert!((r.idle_share - (1.0 - 265.0 / 528.0)).abs() < 1e-12);
        assert_eq!(r.occupancy, 1.0);
        let r = residency(&spec(), &shape(132, 128, 16, 0), Sms(132)).expect("fits");
        assert_eq!((r.waves, r.tail_blocks), (1, 132));
    }

    proptest! {
        #[test]
        fn what_fits_is_never_exceeded(threads in 1u32..=1024, regs in 16u32..=64, shared in 0u64..100_000) {
            let s = shape(1, threads, regs, shared);
            if let Ok((n, _)) = blocks_fit(&spec(), &s) {
                let (sm, b) = (Holding::of_sm(&spec()), Holding::of_block(&spec(), &s));
                let left = sm.minus(&b, n);
                prop_assert_eq!(left.plus(&b, n), sm);
                prop_assert_eq!(left.fit(&b).0, 0);
            }
        }

        #[test]
        fn waves_hold_all_blocks(blocks in 1u32..100_000, threads in 1u32..=1024, sms in 1u32..=132) {
            let r = residency(&spec(), &shape(blocks, threads, 16, 0), Sms(sms)).expect("fits");
            let per_wave = u64::from(r.blocks_per_sm) * u64::from(sms);
            prop_assert_eq!(u64::from(r.waves - 1) * per_wave + u64::from(r.tail_blocks), u64::from(blocks));
            prop_assert!(r.tail_blocks >= 1 && u64::from(r.tail_blocks) <= per_wave);
            prop_assert!((0.0..1.0).contains(&r.idle_share));
        }
    }
}
