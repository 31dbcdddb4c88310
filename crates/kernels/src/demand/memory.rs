//! Copies, reads, writes, latency chains and atomics: kernels whose rate is set by caches and memory.

use super::types::{Draft, Grid, LANES};
use crate::params::Params;
use crate::{Error, Kernel};
use cotenant_model::demand::{Demand, Pipes};
use cotenant_units::Bytes;

/// Instructions of one step of a loop over an array, or of all else in one pass: all, on the ALU pipe, and on the
/// FMA pipe (address arithmetic by integer multiply-add or `VIADD`, and moves). Read from the machine code that
/// `ptxas` 13.0.88 makes for sm_90; counters on an H100 agree.
#[derive(Clone, Copy)]
struct Step {
    issue: f64,
    alu: f64,
    fma: f64,
}

const fn step(issue: f64, alu: f64, fma: f64) -> Step {
    Step { issue, alu, fma }
}

/// How far one warp gets in one pass.
struct Pass {
    /// Steps of the unrolled loop.
    steps: f64,
    /// Bytes of one warp's share of one array.
    bytes: f64,
}

impl Pass {
    /// `bytes` divided evenly over `warps`, each step taking `unroll` elements of `element` bytes per lane.
    fn over(bytes: u64, warps: f64, element: u64, unroll: u64) -> Pass {
        let share = bytes as f64 / warps;
        Pass { steps: share / (LANES * (element * unroll) as f64), bytes: share }
    }
}

/// Instructions of a loop over an array.
#[derive(Clone, Copy)]
struct Body {
    /// One step.
    step: Step,
    /// What one pass costs besides its steps: the start, the look for a rest, the outer loop.
    pass: Step,
}

const fn body(step: Step, pass: Step) -> Body {
    Body { step, pass }
}

/// Demand of the instructions of one pass; bytes and footprints are the caller's.
fn instructions(pass: &Pass, body: Body, accesses: f64) -> Demand {
    let Body { step: s, pass: once } = body;
    Demand {
        issue: pass.steps * s.issue + once.issue,
        pipes: Pipes {
            lsu: pass.steps * accesses,
            alu: pass.steps * s.alu + once.alu,
            fma: pass.steps * s.fma + once.fma,
            ..Pipes::default()
        },
        ..Demand::default()
    }
}

fn copy_loop(element: u64, unroll: u64) -> Body {
    let long = step(19.0, 4.0, 3.0);
    match (element, unroll) {
        (_, 1) => body(step(11.0, 7.0, 1.0), step(12.0, 4.0, 1.0)),
        (16, 2) => body(step(21.0, 9.0, 7.0), step(28.0, 7.0, 8.0)),
        (_, 2) => body(step(19.0, 9.0, 5.0), step(28.0, 6.0, 9.0)),
        (16, 4) => body(step(32.0, 14.0, 8.0), long),
        (8, 4) => body(step(34.0, 15.0, 9.0), long),
        (_, 4) => body(step(34.0, 14.0, 10.0), long),
        _ => body(step(58.0, 24.0, 16.0), long),
    }
}

fn read_loop(unroll: u64) -> Body {
    match unroll {
        1 => body(step(10.0, 7.0, 1.0), step(11.0, 3.0, 2.0)),
        2 => body(step(19.0, 12.0, 4.0), step(24.0, 6.0, 8.0)),
        4 => body(step(23.0, 13.0, 5.0), step(20.0, 6.0, 4.0)),
        _ => body(step(40.0, 21.0, 10.0), step(20.0, 5.0, 5.0)),
    }
}

fn write_loop(unroll: u64) -> Body {
    match unroll {
        1 => body(step(10.0, 5.0, 3.0), step(11.0, 4.0, 1.0)),
        2 => body(step(20.0, 11.0, 6.0), step(24.0, 6.0, 8.0)),
        4 => body(step(31.0, 14.0, 10.0), step(17.0, 3.0, 4.0)),
        _ => body(step(47.0, 20.0, 16.0), step(17.0, 4.0, 3.0)),
    }
}

/// Copies through `copy_e*_u*`; `pattern` and `stride` make the ABI's p0.
fn copy_draft(
    warps: f64,
    bytes: u64,
    element: u64,
    unroll: u64,
    bypass: bool,
    place: (u64, u64),
    footprints: (f64, f64),
) -> Draft {
    let pass = Pass::over(bytes, warps, element, unroll);
    let demand = Demand {
        load_bytes: pass.bytes,
        store_bytes: pass.bytes,
        inflight_bytes: LANES * (element * unroll) as f64,
        footprint_bytes: footprints.0,
        block_footprint_bytes: footprints.1,
        caches_in_l1: !bypass,
        ..instructions(&pass, copy_loop(element, unroll), 2.0 * unroll as f64)
    };
    let cache = if bypass { "cg" } else { "ca" };
    let (pattern, stride) = place;
    Draft {
        bytes: Bytes(bytes),
        p0: pattern | stride << 8,
        ..Draft::portable(format!("copy_e{element}_u{unroll}_{cache}"), demand)
    }
}

pub(super) fn copy(kernel: &'static Kernel, grid: Grid, params: &Params) -> Draft {
    let bytes = params.get("bytes");
    let bypass = kernel.name == "l2-copy" || params.get("bypass_l1") == 1;
    let all = 2.0 * bytes as f64;
    let draft = copy_draft(
        grid.warps(),
        bytes,
        params.get("element"),
        params.get("unroll"),
        bypass,
        (params.get("pattern"), 0),
        (all, all / f64::from(grid.blocks)),
    );
    Draft { buffer_a: Bytes(bytes), buffer_b: Bytes(bytes), ..draft }
}

pub(super) fn l1_copy(kernel: &'static Kernel, grid: Grid, params: &Params) -> Result<Draft, Error> {
    let (bytes, stride) = (params.get("bytes"), params.get("stride"));
    if bytes > stride {
        return Err(Error::BadValue {
            kernel: kernel.name,
            param: "bytes",
            value: bytes as f64,
            accepted: format!("at most `stride`, here {stride}, so that blocks' regions do not overlap"),
        });
    }
    let of_block = 2.0 * bytes as f64;
    let draft = copy_draft(
        grid.warps_per_block(),
        bytes,
        params.get("element"),
        params.get("unroll"),
        false,
        (2, stride),
        (of_block * f64::from(grid.blocks), of_block),
    );
    let buffer = Bytes(stride.saturating_mul(u64::from(grid.blocks)));
    Ok(Draft { buffer_a: buffer, buffer_b: buffer, ..draft })
}

pub(super) fn copy_paper(grid: Grid, params: &Params) -> Draft {
    let (bytes, element) = (params.get("bytes"), params.get("element"));
    let pass = Pass::over(bytes, grid.warps(), element, 1);
    let body = body(step(15.0, 8.0, 4.0), step(14.0, 3.0, 6.0));
    let all = 2.0 * bytes as f64;
    let demand = Demand {
        load_bytes: pass.bytes,
        store_bytes: pass.bytes,
        inflight_bytes: LANES * element as f64,
        footprint_bytes: all,
        block_footprint_bytes: all / f64::from(grid.blocks),
        caches_in_l1: true,
        l1_scatter: true,
        ..instructions(&pass, body, 2.0)
    };
    Draft {
        buffer_a: Bytes(bytes),
        buffer_b: Bytes(bytes),
        bytes: Bytes(bytes),
        ..Draft::portable(format!("copy_paper_e{element}"), demand)
    }
}

pub(super) fn read(grid: Grid, params: &Params) -> Draft {
    let (bytes, unroll, bypass) = (params.get("bytes"), params.get("unroll"), params.get("bypass_l1") == 1);
    let pass = Pass::over(bytes, grid.warps(), 16, unroll);
    let demand = Demand {
        load_bytes: pass.bytes,
        inflight_bytes: LANES * 16.0 * unroll as f64,
        footprint_bytes: bytes as f64,
        block_footprint_bytes: bytes as f64 / f64::from(grid.blocks),
        caches_in_l1: !bypass,
        ..instructions(&pass, read_loop(unroll), unroll as f64)
    };
    let cache = if bypass { "cg" } else { "ca" };
    Draft {
        buffer_a: Bytes(bytes),
        bytes: Bytes(bytes),
        p0: params.get("pattern"),
        ..Draft::portable(format!("read_e16_u{unroll}_{cache}"), demand)
    }
}

pub(super) fn write(grid: Grid, params: &Params) -> Draft {
    let (bytes, unroll) = (params.get("bytes"), params.get("unroll"));
    let pass = Pass::over(bytes, grid.warps(), 16, unroll);
    let demand = Demand {
        store_bytes: pass.bytes,
        // Stores are not waited for: what is in flight is bounded by the SM, not by the warp.
        inflight_bytes: LANES * 16.0 * unroll as f64,
        footprint_bytes: bytes as f64,
        block_footprint_bytes: bytes as f64 / f64::from(grid.blocks),
        ..instructions(&pass, write_loop(unroll), unroll as f64)
    };
    Draft {
        buffer_b: Bytes(bytes),
        bytes: Bytes(bytes),
        p0: params.get("pattern"),
        ..Draft::portable(format!("write_e16_u{unroll}"), demand)
    }
}

/// One thread per block loads 16 times; only its warp works, and the demand is the mean over the block's warps.
pub(super) fn chase(grid: Grid, params: &mut Params) -> Draft {
    /// Cycles from a load that hits L1 to the next that needs its value.
    const L1_LATENCY: f64 = 33.0;
    const SECTOR: f64 = 32.0;
    let stride = params.get("stride");
    // At least two slots where the working set is smaller than that, so that the chain moves.
    let slots = 1u64 << (params.get("bytes") / stride).max(2).ilog2();
    let bytes = slots * stride;
    params.set("bytes", bytes);
    let bypass = params.get("bypass_l1") == 1;
    let share = 1.0 / grid.warps_per_block();
    let demand = Demand {
        issue: 21.0 * share,
        pipes: Pipes { lsu: 16.0 * share, alu: share, fma: 3.0 * share, ..Pipes::default() },
        chain_cycles: 16.0 * L1_LATENCY,
        load_bytes: 16.0 * SECTOR * share,
        inflight_bytes: SECTOR * share,
        footprint_bytes: slots as f64 * SECTOR.min(stride as f64),
        block_footprint_bytes: slots as f64 * SECTOR.min(stride as f64),
        caches_in_l1: !bypass,
        ..Demand::default()
    };
    Draft {
        buffer_a: Bytes(bytes),
        bytes: Bytes(bytes),
        p0: stride,
        ..Draft::portable(if bypass { "chase_cg" } else { "chase_ca" }, demand)
    }
}

pub(super) fn atomics(params: &Params) -> Draft {
    let (counters, spacing) = (params.get("counters"), params.get("spacing"));
    let footprint = (counters * spacing) as f64;
    let demand = Demand {
        issue: 86.0,
        pipes: Pipes { lsu: 16.0, alu: 26.0, fma: 41.0, ..Pipes::default() },
        footprint_bytes: footprint,
        block_footprint_bytes: footprint,
        l2_atomics: 16.0,
        ..Demand::default()
    };
    Draft {
        buffer_a: Bytes((counters * spacing).max(128)),
        bytes: Bytes(counters * spacing),
        p0: counters | spacing << 32,
        ..Draft::portable("atomics", demand)
    }
}

/// Copies over the host link, by the copy engines: no blocks, no warps.
pub(super) fn host_copy(params: &Params) -> Draft {
    let bytes = params.get("bytes");
    let demand = Demand { host_link_bytes: bytes as f64, ..Demand::default() };
    Draft { buffer_a: Bytes(bytes), bytes: Bytes(bytes), ..Draft::portable("stamp", demand) }
}
