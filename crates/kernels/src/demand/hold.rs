//! Kernels that hold blocks, registers or shared memory for a time and use little else.

use super::types::{Counter, Draft, Grid};
use crate::params::Params;
use cotenant_model::demand::{Demand, Pipes};
use cotenant_units::Bytes;

/// Sleep, add, compare, branch.
fn sleeping(ns: u64, counter: Counter) -> Demand {
    Demand { issue: 4.0, pipes: counter.close(Pipes::default()), sleep_ns: ns as f64, ..Demand::default() }
}

pub(super) fn sleep(params: &Params) -> Draft {
    let ns = params.get("ns");
    Draft { p0: ns, ..Draft::portable("sleep", sleeping(ns, Counter::Fma)) }
}

pub(super) fn sleep_until(params: &Params) -> Draft {
    let ns = params.get("ns");
    Draft { p0: ns, ..Draft::portable("sleep_until", sleeping(ns, Counter::Fma)) }
}

pub(super) fn spin(grid: Grid, params: &Params) -> Draft {
    /// One look at the clock by the watching warp (read, compare twice, branch): 33 cycles of an H100 at 1.98 GHz.
    const LOOK_NS: f64 = 16.7;
    let ns = params.get("ns");
    let looks = ns as f64 / LOOK_NS / grid.warps_per_block();
    let demand = Demand {
        issue: 4.0 * looks,
        // The reading of the clock is an ALU instruction too.
        pipes: Pipes { alu: 3.0 * looks, ..Pipes::default() },
        sleep_ns: ns as f64,
        ..Demand::default()
    };
    Draft { p0: ns, ..Draft::portable("spin", demand) }
}

pub(super) fn regs_hog(params: &Params) -> Draft {
    let ns = params.get("ns");
    let registers = params.get("registers");
    // Where registers are short, the counter is kept with the warp's others.
    let counter = if registers == 32 { Counter::Alu } else { Counter::Uniform };
    // The values that are held come from the buffer: at most 255 words.
    Draft {
        p0: ns,
        buffer_a: Bytes(1024),
        bytes: Bytes(1024),
        ..Draft::portable(format!("regs_hog_{registers}"), sleeping(ns, counter))
    }
}

pub(super) fn smem_hog(params: &Params) -> Draft {
    let (ns, bytes) = (params.get("ns"), Bytes(params.get("bytes")));
    Draft { p0: ns, bytes, dynamic_shared: bytes, ..Draft::portable("smem_hog", sleeping(ns, Counter::Fma)) }
}

/// Two readings of the clocks and their stores.
fn stamps() -> Demand {
    Demand { issue: 40.0, pipes: Pipes { alu: 12.0, lsu: 6.0, ..Pipes::default() }, ..Demand::default() }
}

pub(super) fn stamp(params: &Params) -> Draft {
    Draft { p0: params.get("end"), ..Draft::portable("stamp", stamps()) }
}

pub(super) fn empty() -> Draft {
    Draft::portable("empty", stamps())
}
