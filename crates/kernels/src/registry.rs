//! The list of kernels.

use crate::{Kernel, Launch, Param};

const fn number(name: &'static str, help: &'static str, default: f64, range: (f64, f64)) -> Param {
    Param { name, help, default, range, choices: &[], granularity: 1 }
}

const fn choice(name: &'static str, help: &'static str, default: f64, choices: &'static [f64]) -> Param {
    Param { name, help, default, range: (choices[0], choices[choices.len() - 1]), choices, granularity: 1 }
}

/// A size; rounded down to a multiple of 128, so that sizes written as a share of a cache need not be whole.
const fn size(help: &'static str, default: f64, range: (f64, f64)) -> Param {
    Param { name: "bytes", help, default, range, choices: &[], granularity: 128 }
}

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;
const GIB: f64 = 1024.0 * MIB;
/// Largest working set: more than any GPU has, small enough that no product of sizes overflows.
const MOST: f64 = 1024.0 * GIB;

const ILP: Param = number("ilp", "independent chains per thread", 4.0, (1.0, 8.0));
const BODY: Param = choice(
    "body",
    "operations per turn, all chains together: 48 as in the paper, 256 for ceilings",
    48.0,
    &[48.0, 256.0],
);
const ELEMENT: &str = "bytes that a thread loads or stores at once";
const UNROLL: &str = "accesses of a thread in flight before it waits";
const PATTERN: Param = choice(
    "pattern",
    "0: the grid strides over the array; 1: each block has one contiguous share of it",
    0.0,
    &[0.0, 1.0],
);
const BYPASS_HELP: &str = "1: loads bypass L1 (ld.global.cg)";
const NS: &str = "length of one sleep, ns (the hardware may sleep 0 to 2 times as long)";
const LENGTH: Param = number("ns", "how long a block lasts per turn, ns", 1e6, (1e3, 1e10));

const ARRAY: Param = size("bytes of each array", GIB, (128.0, MOST));
const UNROLLS: &[f64] = &[1.0, 2.0, 4.0, 8.0];
const ELEMENTS: &[f64] = &[4.0, 8.0, 16.0];
const SWITCH: &[f64] = &[0.0, 1.0];

const PASS: &str = "one pass of the whole grid over the array";
const PASS_OF_BLOCK: &str = "one pass of each block over its own region";

static KERNELS: &[Kernel] = &[
    Kernel {
        name: "fp32-mul",
        help: "independent chains of fp32 multiplications: the paper's compute kernel (§4.2.2)",
        resource: "FMA pipe, issue slots",
        params: &[ILP, BODY],
        launch: Launch::Kernel,
        shape: (132, 128),
        turn: "body / ilp × ilp multiplications",
    },
    Kernel {
        name: "fp32-fma",
        help: "independent chains of fp32 fused multiply-adds",
        resource: "FMA pipe, issue slots",
        params: &[ILP, BODY],
        launch: Launch::Kernel,
        shape: (132, 256),
        turn: "body / ilp × ilp multiply-adds",
    },
    Kernel {
        name: "fp64-mul",
        help: "independent chains of fp64 multiplications (§4.2.3)",
        resource: "FP64 pipe",
        params: &[ILP],
        launch: Launch::Kernel,
        shape: (132, 128),
        turn: "128 / ilp × ilp multiplications",
    },
    Kernel {
        name: "fp64-fma",
        help: "independent chains of fp64 fused multiply-adds",
        resource: "FP64 pipe",
        params: &[ILP],
        launch: Launch::Kernel,
        shape: (132, 256),
        turn: "128 / ilp × ilp multiply-adds",
    },
    Kernel {
        name: "int32",
        help: "independent chains of int32 exclusive-or and maximum",
        resource: "ALU pipe",
        params: &[ILP],
        launch: Launch::Kernel,
        shape: (132, 256),
        turn: "2 × (64 / ilp × ilp) operations",
    },
    Kernel {
        name: "fp16x2",
        help: "independent chains of packed fp16 fused multiply-adds",
        resource: "FP16 pipe",
        params: &[ILP],
        launch: Launch::Kernel,
        shape: (132, 256),
        turn: "128 / ilp × ilp packed multiply-adds",
    },
    Kernel {
        name: "sfu",
        help: "independent chains of approximate exponentials",
        resource: "special function (XU) pipe",
        params: &[ILP],
        launch: Launch::Kernel,
        shape: (132, 256),
        turn: "64 / ilp × ilp exponentials",
    },
    Kernel {
        name: "tensor-mma",
        help: "warp-wide bf16 matrix products m16n8k16 (mma.sync)",
        resource: "tensor pipe",
        params: &[choice("ilp", "independent sums per warp", 8.0, UNROLLS)],
        launch: Launch::Kernel,
        shape: (132, 256),
        turn: "32 products per warp",
    },
    Kernel {
        name: "tensor-wgmma",
        help: "warpgroup bf16 matrix products m64n256k16 from shared memory (wgmma, Hopper only)",
        resource: "tensor pipe",
        params: &[choice(
            "random",
            "operands: 0 all ones, 1 random (costs power, and so clocks)",
            0.0,
            SWITCH,
        )],
        launch: Launch::Kernel,
        shape: (132, 256),
        turn: "32 products per warpgroup",
    },
    Kernel {
        name: "copy",
        help: "copy of an array, 16 bytes per access, several in flight",
        resource: "DRAM bandwidth",
        params: &[
            ARRAY,
            choice("element", ELEMENT, 16.0, ELEMENTS),
            choice("unroll", UNROLL, 4.0, UNROLLS),
            PATTERN,
            choice("bypass_l1", BYPASS_HELP, 0.0, SWITCH),
        ],
        launch: Launch::Kernel,
        shape: (264, 512),
        turn: PASS,
    },
    Kernel {
        name: "copy-paper",
        help: "copy of an array element by element, one access in flight: the paper's copy kernel (§3)",
        resource: "DRAM and L2 bandwidth",
        params: &[ARRAY, choice("element", ELEMENT, 4.0, ELEMENTS)],
        launch: Launch::Kernel,
        shape: (132, 1024),
        turn: PASS,
    },
    Kernel {
        name: "l1-copy",
        help: "each block copies a region of its own, in L1 where it fits (§4.2.1)",
        resource: "L1 capacity",
        params: &[
            size("bytes of each block's input (its output takes as much)", 16.0 * KIB, (128.0, GIB)),
            Param {
                name: "stride",
                ..size("bytes from one block's region to the next", 256.0 * KIB, (128.0, GIB))
            },
            choice("element", ELEMENT, 4.0, ELEMENTS),
            choice("unroll", UNROLL, 1.0, UNROLLS),
        ],
        launch: Launch::Kernel,
        shape: (132, 64),
        turn: PASS_OF_BLOCK,
    },
    Kernel {
        name: "l2-copy",
        help: "copy of an array that fits in L2, past L1",
        resource: "L2 bandwidth",
        params: &[
            size("bytes of each array", 8.0 * MIB, (128.0, MOST)),
            choice("element", ELEMENT, 16.0, ELEMENTS),
            choice("unroll", UNROLL, 4.0, UNROLLS),
            PATTERN,
        ],
        launch: Launch::Kernel,
        shape: (264, 512),
        turn: PASS,
    },
    Kernel {
        name: "read",
        help: "reading of an array, 16 bytes per access, several in flight",
        resource: "DRAM or L2 bandwidth",
        params: &[
            ARRAY,
            choice("unroll", UNROLL, 8.0, UNROLLS),
            PATTERN,
            choice("bypass_l1", BYPASS_HELP, 0.0, SWITCH),
        ],
        launch: Launch::Kernel,
        shape: (264, 512),
        turn: PASS,
    },
    Kernel {
        name: "write",
        help: "writing of an array, 16 bytes per access",
        resource: "DRAM or L2 bandwidth",
        params: &[ARRAY, choice("unroll", "stores per step", 4.0, UNROLLS), PATTERN],
        launch: Launch::Kernel,
        shape: (264, 1024),
        turn: PASS,
    },
    Kernel {
        name: "chase",
        help: "dependent loads by one thread of each block: latency",
        resource: "latency of L1, L2 or DRAM",
        params: &[
            size("working set, rounded down to a power of two of slots", 64.0 * MIB, (256.0, MOST)),
            choice(
                "stride",
                "bytes between slots",
                128.0,
                &[32.0, 64.0, 128.0, 256.0, 512.0, 4096.0, 65536.0, 2097152.0],
            ),
            choice("bypass_l1", BYPASS_HELP, 1.0, SWITCH),
        ],
        launch: Launch::Kernel,
        shape: (1, 32),
        turn: "16 dependent loads per block",
    },
    Kernel {
        name: "smem",
        help: "shared-memory loads with bank conflicts",
        resource: "shared-memory bandwidth",
        params: &[choice("conflicts", "lanes that meet in one bank", 1.0, &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0])],
        launch: Launch::Kernel,
        shape: (132, 1024),
        turn: "32 loads per thread (of 16 bytes without conflicts, else of 4)",
    },
    Kernel {
        name: "atomics",
        help: "atomic additions to counters in global memory",
        resource: "L2 atomic units",
        params: &[
            choice(
                "counters",
                "distinct counters that all threads share",
                1048576.0,
                &[
                    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0,
                    1048576.0,
                ],
            ),
            choice(
                "spacing",
                "bytes between neighbouring counters",
                4.0,
                &[4.0, 8.0, 16.0, 32.0, 64.0, 128.0],
            ),
        ],
        launch: Launch::Kernel,
        shape: (264, 512),
        turn: "16 additions per thread",
    },
    Kernel {
        name: "sleep",
        help: "every thread sleeps: threads taken, nothing used (§4.1.1)",
        resource: "block scheduler, threads",
        params: &[number("ns", NS, 1000.0, (0.0, 1e6))],
        launch: Launch::Kernel,
        shape: (132, 1024),
        turn: "one nanosleep per thread",
    },
    Kernel {
        name: "sleep-until",
        help: "blocks of known length that sleep: the self-test of the clocks",
        resource: "none",
        params: &[LENGTH],
        launch: Launch::Kernel,
        shape: (1, 32),
        turn: "`ns` by %globaltimer",
    },
    Kernel {
        name: "spin",
        help: "blocks of known length that watch the clock: for sweeps over kernel length",
        resource: "block scheduler, threads",
        params: &[LENGTH],
        launch: Launch::Kernel,
        shape: (264, 1024),
        turn: "`ns` by %globaltimer",
    },
    Kernel {
        name: "regs-hog",
        help: "register hog: registers taken, nothing used",
        resource: "register file",
        params: &[
            choice("registers", "registers per thread, about", 128.0, &[32.0, 64.0, 128.0, 255.0]),
            number("ns", NS, 1000.0, (0.0, 1e6)),
        ],
        launch: Launch::Kernel,
        shape: (132, 256),
        turn: "one nanosleep per thread",
    },
    Kernel {
        name: "smem-hog",
        help: "shared-memory hog: shared memory taken, nothing used",
        resource: "shared-memory capacity",
        params: &[
            size("dynamic shared memory per block", 64.0 * KIB, (0.0, 227.0 * KIB)),
            number("ns", NS, 1000.0, (0.0, 1e6)),
        ],
        launch: Launch::Kernel,
        shape: (132, 32),
        turn: "one nanosleep per thread",
    },
    Kernel {
        name: "issue-hog",
        help: "issue slots taken by instructions without a pipe (NOP)",
        resource: "issue slots",
        params: &[],
        launch: Launch::Kernel,
        shape: (132, 256),
        turn: "256 empty instructions per warp",
    },
    Kernel {
        name: "empty",
        help: "launches of an empty kernel: launch hog",
        resource: "launch rate",
        params: &[],
        launch: Launch::EmptyLaunches,
        shape: (1, 32),
        turn: "one launch",
    },
    Kernel {
        name: "stamp",
        help: "one thread writes a time stamp, around work that has none of its own",
        resource: "none",
        params: &[choice("end", "0: start, 1: end", 0.0, SWITCH)],
        launch: Launch::Kernel,
        shape: (1, 1),
        turn: "nothing (iterations are ignored)",
    },
    Kernel {
        name: "h2d",
        help: "copies from pinned host memory to the device",
        resource: "host link",
        params: &[size("bytes per copy", 64.0 * MIB, (128.0, MOST))],
        launch: Launch::CopyToDevice,
        shape: (1, 1),
        turn: "one copy",
    },
    Kernel {
        name: "d2h",
        help: "copies from the device to pinned host memory",
        resource: "host link",
        params: &[size("bytes per copy", 64.0 * MIB, (128.0, MOST))],
        launch: Launch::CopyToHost,
        shape: (1, 1),
        turn: "one copy",
    },
    Kernel {
        name: "gemm",
        help: "fp32 matrix product by cuBLAS (§4.3)",
        resource: "FMA pipe, issue slots",
        params: &[number("n", "rows and columns of the square matrices", 1024.0, (64.0, 32768.0))],
        launch: Launch::Gemm,
        shape: (128, 128),
        turn: "one product",
    },
];

/// All kernels, in the order of `cotenant kernels`.
pub fn registry() -> &'static [Kernel] {
    KERNELS
}

/// The kernel of this name.
pub fn find(name: &str) -> Option<&'static Kernel> {
    KERNELS.iter().find(|k| k.name == name)
}
