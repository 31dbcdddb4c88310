//! Kernels that hold blocks, registers or shared memory for a time and use little else.

use super::types::{Draft, Grid, LOOP_ALU};
use crate::params::Params;
use cotenant_model::demand::{Demand, Pipes};
use cotenant_units::Bytes;

/// Sleep, add, compare, branch.
fn sleeping(ns: u64) -> Demand {
    Demand {
        issue: 4.0,
        pipes: Pipes { alu: LOOP_ALU, ..Pipes::default() },
        sleep_ns: ns as f64,
        ..Demand::default()
    }
}

pub(super) fn sleep(params: &Params) -> Draft {
    let ns = params.get("ns");
    Draft { p0: ns, ..Draft::portable("sleep", sleeping(ns)) }
}

pub(super) fn sleep_until(params: &Params) -> Draft {
    let ns = params.get("ns");
    Draft { p0: ns, ..Draft::portable("sleep_until", sleeping(ns)) }
}

pub(super) fn spin(grid: Grid, params: &Params) -> Draft {
    /// One look at the clock by the watching warp (read, compare twice, branch) takes about this long.
    const LOOK_NS: f64 = 25.0;
    let ns = params.get("ns");
    let looks = ns as f64 / LOOK_NS / grid.warps_per_block();
    let demand = Demand {
        issue: 4.0 * looks,
        pipes: Pipes { alu: 2.0 * looks, ..Pipes::default() },
        sleep_ns: ns as f64,
        ..Demand::default()
    };
    Draft { p0: ns, ..Draft::portable("spin", demand) }
}

pub(super) fn regs_hog(params: &Params) -> Draft {
    let ns = params.get("ns");
    let entry = format!("regs_hog_{}", params.get("registers"));
    // The values that are held come from the buffer: at most 255 words.
    Draft { p0: ns, buffer_a: Bytes(1024), bytes: Bytes(1024), ..Draft::portable(entry, sleeping(ns)) }
}

pub(super) fn smem_hog(params: &Params) -> Draft {
    let (ns, bytes) = (params.get("ns"), Bytes(params.get("bytes")));
    Draft { p0: ns, bytes, dynamic_shared: bytes, ..Draft::portable("smem_hog", sleeping(ns)) }
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
