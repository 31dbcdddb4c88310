//! Prints `scripts/ncu-cases.json`: the launches that `scripts/ncu-kernels.sh` looks at under `ncu`, each with its
//! stated demand. A test compares the committed file with what this prints.

use cotenant_kernels::{Error, Resolved, resolve};
use serde::Serialize;

/// One launch to look at.
#[derive(Serialize)]
struct Case {
    label: String,
    iterations: u64,
    set: Vec<(&'static str, f64)>,
    /// Least value of a derived figure of `scripts/ncu_check.py` that the kernel is meant to reach.
    ceiling: Option<(&'static str, f64)>,
    resolved: Resolved,
}

/// Kernel, blocks, threads, iterations, parameters, ceiling.
type Row = (&'static str, u32, u32, u64, &'static [(&'static str, f64)], Option<(&'static str, f64)>);

const MIB: f64 = 1048576.0;
const GIB: f64 = 1024.0 * MIB;

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("fp32-mul", 132, 128, 100_000, &[("ilp", 1.0)], None),
    ("fp32-mul", 132, 128, 100_000, &[("ilp", 2.0)], None),
    ("fp32-mul", 132, 128, 100_000, &[("ilp", 3.0)], None),
    ("fp32-mul", 132, 128, 100_000, &[("ilp", 4.0)], None),
    ("fp32-mul", 132, 256, 100_000, &[("ilp", 4.0)], Some(("ipc", 3.9))),
    ("fp32-fma", 132, 256, 20_000, &[("ilp", 4.0), ("body", 256.0)], Some(("fma_pct", 97.0))),
    ("fp64-mul", 132, 128, 10_000, &[("ilp", 1.0)], None),
    ("fp64-mul", 132, 128, 10_000, &[("ilp", 2.0)], None),
    ("fp64-mul", 132, 128, 10_000, &[("ilp", 3.0)], None),
    ("fp64-mul", 132, 128, 10_000, &[("ilp", 4.0)], None),
    ("fp64-mul", 132, 256, 10_000, &[("ilp", 4.0)], Some(("fp64_pct", 97.0))),
    ("fp64-mul", 132, 512, 10_000, &[("ilp", 4.0)], Some(("fp64_pct", 97.0))),
    ("fp64-fma", 132, 256, 10_000, &[("ilp", 4.0)], Some(("fp64_pct", 97.0))),
    ("int32", 132, 256, 20_000, &[("ilp", 1.0)], None),
    ("int32", 132, 256, 20_000, &[("ilp", 4.0)], Some(("alu_pct", 97.0))),
    ("fp16x2", 132, 256, 20_000, &[("ilp", 1.0)], None),
    ("fp16x2", 132, 256, 20_000, &[("ilp", 8.0)], None),
    ("sfu", 132, 256, 10_000, &[("ilp", 1.0)], None),
    ("sfu", 132, 256, 10_000, &[("ilp", 4.0)], Some(("xu_pct", 97.0))),
    ("tensor-mma", 132, 256, 20_000, &[("ilp", 1.0)], None),
    ("tensor-mma", 132, 256, 20_000, &[("ilp", 8.0)], None),
    ("tensor-wgmma", 132, 128, 10_000, &[], None),
    ("tensor-wgmma", 132, 256, 10_000, &[], Some(("tensor_share", 0.85))),
    ("tensor-wgmma", 132, 256, 10_000, &[("random", 1.0)], None),
    ("issue-hog", 132, 256, 20_000, &[], Some(("ipc", 3.9))),
    ("smem", 132, 1024, 2_000, &[("conflicts", 1.0)], Some(("smem_share", 0.95))),
    ("smem", 132, 1024, 2_000, &[("conflicts", 2.0)], None),
    ("smem", 132, 1024, 1_000, &[("conflicts", 8.0)], None),
    ("smem", 132, 1024, 1_000, &[("conflicts", 32.0)], None),
    ("read", 264, 512, 2, &[("bytes", 4.0 * GIB)], Some(("dram_share", 0.92))),
    ("read", 264, 512, 2, &[("bytes", 4.0 * GIB), ("pattern", 1.0)], None),
    ("write", 264, 1024, 2, &[("bytes", 4.0 * GIB)], None),
    ("copy", 264, 512, 1, &[("bytes", 4.0 * GIB)], None),
    ("copy", 131_072, 1024, 1, &[("bytes", 4.0 * GIB), ("unroll", 2.0)], Some(("dram_share", 0.88))),
    ("copy", 264, 512, 1, &[("bytes", 4.0 * GIB), ("pattern", 1.0)], None),
    ("copy", 264, 512, 1, &[("bytes", 4.0 * GIB), ("unroll", 2.0)], None),
    ("copy-paper", 33, 1024, 1, &[("bytes", 4.0 * GIB)], None),
    ("copy-paper", 132, 1024, 1, &[("bytes", 4.0 * GIB)], None),
    ("copy-paper", 264, 1024, 1, &[("bytes", 4.0 * GIB)], None),
    ("l1-copy", 132, 64, 1_000, &[("bytes", 16384.0)], None),
    ("l1-copy", 132, 64, 200, &[("bytes", 65536.0)], None),
    ("l1-copy", 132, 64, 100, &[("bytes", 110592.0)], None),
    ("l1-copy", 132, 64, 50, &[("bytes", 131072.0)], None),
    ("l2-copy", 264, 512, 200, &[("bytes", 8.0 * MIB)], None),
    ("read", 264, 512, 200, &[("bytes", 16.0 * MIB), ("bypass_l1", 1.0)], None),
    ("read", 264, 1024, 200, &[("bytes", 16.0 * MIB), ("bypass_l1", 1.0), ("unroll", 4.0)], None),
    // Many loads per slot: ncu empties the caches before each replay, so that the first visit of a slot misses.
    ("chase", 1, 32, 20_000, &[("bytes", 16384.0), ("bypass_l1", 0.0)], None),
    ("chase", 1, 32, 40_000, &[("bytes", 4.0 * MIB)], None),
    ("chase", 1, 32, 20_000, &[("bytes", GIB)], None),
    ("atomics", 264, 512, 100, &[], None),
    ("atomics", 264, 512, 50, &[("counters", 1.0)], None),
    ("sleep", 132, 1024, 1_000, &[], None),
    ("regs-hog", 132, 256, 20_000, &[("registers", 255.0)], None),
    ("smem-hog", 132, 32, 5_000, &[], None),
    ("spin", 264, 1024, 1, &[], None),
];

fn case(row: &Row) -> Result<Case, Error> {
    let (kernel, blocks, threads, iterations, set, ceiling) = *row;
    let params = set.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
    let resolved = resolve(kernel, blocks, threads, &params)?;
    let words: Vec<String> = set.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let label = format!("{kernel} {blocks}x{threads} {}", words.join(" ")).trim_end().to_owned();
    Ok(Case { label, iterations, set: set.to_vec(), ceiling, resolved })
}

/// The text of `scripts/ncu-cases.json`.
///
/// # Errors
/// A case that does not resolve.
pub fn cases_json() -> Result<String, Box<dyn std::error::Error>> {
    let cases: Vec<Case> = ROWS.iter().map(case).collect::<Result<_, _>>()?;
    // One line per case, so that a change shows which case it is.
    let lines: Vec<String> = cases.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", cases_json()?);
    Ok(())
}
