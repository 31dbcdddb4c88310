use super::*;
use crate::Module;
use crate::ptx::{entries, ptx};
use cotenant_model::demand::{Demand, Pipes};
use proptest::prelude::*;

fn none() -> BTreeMap<String, f64> {
    BTreeMap::new()
}

fn set<const N: usize>(pairs: [(&str, f64); N]) -> BTreeMap<String, f64> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}

fn sum(p: &Pipes) -> f64 {
    let Pipes { fma, fp64, alu, fp16, xu, lsu, tensor: _, tensor_sync: _ } = *p;
    fma + fp64 + alu + fp16 + xu + lsu
}

/// All fields of a demand, to check that they are numbers.
fn fields(d: &Demand) -> [f64; 18] {
    let p = &d.pipes;
    [
        d.issue,
        p.fma,
        p.fp64,
        p.alu,
        p.fp16,
        p.xu,
        p.tensor,
        p.lsu,
        d.chain_cycles,
        d.sleep_ns,
        d.load_bytes,
        d.store_bytes,
        d.inflight_bytes,
        d.footprint_bytes,
        d.block_footprint_bytes,
        d.smem_wavefronts,
        d.l2_atomics,
        d.host_link_bytes,
    ]
}

/// Every value that a parameter with few values takes; the ends and the default of the others.
fn samples(k: &Kernel) -> Vec<BTreeMap<String, f64>> {
    let mut all = vec![none()];
    for p in k.params {
        let values = match (p.choices.is_empty(), p.name) {
            (false, _) => p.choices.to_vec(),
            (true, "ilp") => (1..=8).map(f64::from).collect(),
            _ => vec![p.default],
        };
        all = all
            .iter()
            .flat_map(|base| {
                values.iter().map(move |v| {
                    let mut m = base.clone();
                    m.insert(p.name.to_owned(), *v);
                    m
                })
            })
            .collect();
    }
    all
}

#[test]
fn every_kernel_resolves_and_its_entry_exists() {
    for k in registry() {
        for params in samples(k) {
            let r = resolve(k.name, k.shape.0, k.shape.1.min(256), &params);
            let r = r.unwrap_or_else(|e| panic!("{} {params:?}: {e}", k.name));
            assert!(ptx(r.module).contains(&format!(".visible .entry {}(", r.entry)), "{}", r.entry);
            assert!(resources(&r.entry).is_some(), "{}", r.entry);
            assert!(!k.help.is_empty() && !k.resource.is_empty() && !k.turn.is_empty(), "{}", k.name);
        }
        let default = resolve(k.name, k.shape.0, k.shape.1, &none());
        assert!(default.is_ok(), "{}: {default:?}", k.name);
    }
}

#[test]
fn every_entry_point_is_reached_by_some_kernel() {
    let mut reached: Vec<String> = registry()
        .iter()
        .flat_map(|k| {
            samples(k).into_iter().map(|p| resolve(k.name, k.shape.0, k.shape.1.min(256), &p).unwrap().entry)
        })
        .collect();
    reached.sort();
    for e in entries() {
        let user = e.strip_suffix("_init").unwrap_or(e);
        assert!(reached.binary_search_by(|r| r.as_str().cmp(user)).is_ok(), "{e}");
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = registry().iter().map(|k| k.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|w| w[0] != w[1]), "{names:?}");
}

#[test]
fn demand_is_sane() {
    for k in registry() {
        for params in samples(k) {
            let r = resolve(k.name, k.shape.0, k.shape.1.min(256), &params).unwrap();
            let d = r.demand;
            assert!(fields(&d).iter().all(|x| x.is_finite() && *x >= 0.0), "{} {params:?}: {d:?}", k.name);
            assert!(sum(&d.pipes) <= d.issue + 1e-9, "{} {params:?}: {d:?}", k.name);
            assert!(d.block_footprint_bytes <= d.footprint_bytes, "{} {params:?}", k.name);
            assert!(d.smem_wavefronts == 0.0 || r.shape.shared_bytes.0 > 0, "{}", k.name);
        }
    }
}

#[test]
fn bytes_of_all_warps_are_the_array() {
    let size = 96.0 * 1024.0 * 1024.0;
    for (name, loads, stores) in [
        ("copy", 1.0, 1.0),
        ("copy-paper", 1.0, 1.0),
        ("l2-copy", 1.0, 1.0),
        ("read", 1.0, 0.0),
        ("write", 0.0, 1.0),
    ] {
        let r = resolve(name, 132, 512, &set([("bytes", size)])).unwrap();
        let warps = f64::from(r.shape.blocks * r.shape.warps());
        assert!((r.demand.load_bytes * warps - loads * size).abs() < 1.0, "{name}");
        assert!((r.demand.store_bytes * warps - stores * size).abs() < 1.0, "{name}");
        assert_eq!(r.demand.footprint_bytes, (loads + stores) * size, "{name}");
        assert_eq!(r.buffer_a.0 as f64, loads * size, "{name}");
        assert_eq!(r.buffer_b.0 as f64, stores * size, "{name}");
    }
}

#[test]
fn bytes_of_accesses_are_the_bytes_of_lanes() {
    // Loads and stores of `element` bytes by 32 lanes: the instruction count and the byte count must agree.
    for element in [4.0, 8.0, 16.0] {
        for unroll in [1.0, 2.0, 4.0, 8.0] {
            let p = set([("bytes", 1e9), ("element", element), ("unroll", unroll)]);
            let d = resolve("copy", 132, 256, &p).unwrap().demand;
            let moved = d.load_bytes + d.store_bytes;
            assert!((d.pipes.lsu * 32.0 * element - moved).abs() < 1e-6 * moved, "{element} {unroll}");
            assert_eq!(d.inflight_bytes, 32.0 * element * unroll);
        }
    }
}

#[test]
fn private_regions_lie_a_stride_apart() {
    let r = resolve("l1-copy", 132, 64, &set([("bytes", 54.0 * 1024.0)])).unwrap();
    assert_eq!(r.p0, 2 | (256 << 10) << 8);
    assert_eq!(r.buffer_a, Bytes::kib(256 * 132));
    assert_eq!(r.demand.load_bytes, 54.0 * 512.0);
    assert_eq!(r.demand.block_footprint_bytes, 108.0 * 1024.0);
    assert!(r.demand.caches_in_l1);
    assert_eq!(r.entry, "copy_e4_u1_ca");
    let e = resolve("l1-copy", 132, 64, &set([("bytes", 300.0 * 1024.0)])).unwrap_err();
    assert!(e.to_string().contains("at most `stride`, here 262144"), "{e}");
}

/// IPC of one SM with `warps` of these on each of its four schedulers, from demand alone: every scheduler issues at
/// most one instruction per cycle, and a warp takes at least its chain.
fn ipc(name: &str, params: &BTreeMap<String, f64>, warps: f64) -> f64 {
    let d = resolve(name, 132, 128, params).unwrap().demand;
    let pipe = d.pipes.fma.max(2.0 * d.pipes.fp64) * warps;
    4.0 * d.issue * warps / d.chain_cycles.max(d.issue * warps).max(pipe)
}

#[test]
fn demand_gives_the_papers_ipc() {
    // Table 3, compute alone: ILP 1 to 4 with one warp per scheduler, then ILP 4 with two.
    for (ilp, warps, paper) in
        [(1.0, 1.0, 1.08), (2.0, 1.0, 2.06), (3.0, 1.0, 2.9), (4.0, 1.0, 3.45), (4.0, 2.0, 4.0)]
    {
        let got = ipc("fp32-mul", &set([("ilp", ilp)]), warps);
        // Within 7 %: the paper's loop has another number of operations per branch at each ILP.
        assert!((got / paper - 1.0).abs() < 0.07, "ILP {ilp}: {got} against {paper}");
    }
    // Table 4, fp64 alone with one warp per scheduler.
    for (ilp, paper) in [(1.0, 0.51), (2.0, 1.02), (3.0, 1.53), (4.0, 2.01)] {
        let got = ipc("fp64-mul", &set([("ilp", ilp)]), 1.0);
        assert!((got / paper - 1.0).abs() < 0.03, "ILP {ilp}: {got} against {paper}");
    }
}

#[test]
fn demand_gives_the_ipc_that_counters_gave_on_an_h100() {
    // Nsight Compute on an H100 (SXM, 132 blocks), instructions over active cycles: fp32-mul with a body of 48.
    for (ilp, warps, counted) in
        [(1.0, 1.0, 1.025), (2.0, 1.0, 1.924), (3.0, 1.0, 2.756), (4.0, 1.0, 3.399), (4.0, 2.0, 4.000)]
    {
        let got = ipc("fp32-mul", &set([("ilp", ilp)]), warps);
        assert!((got / counted - 1.0).abs() < 0.03, "ILP {ilp}, {warps} warps: {got} against {counted}");
    }
    // fp64-mul, one warp per scheduler: IPC, and the share of the FP64 pipe (one instruction per two cycles).
    for (ilp, counted, pipe) in
        [(1.0, 0.510, 0.249), (2.0, 1.013, 0.495), (3.0, 1.495, 0.730), (4.0, 1.976, 0.965)]
    {
        let params = set([("ilp", ilp)]);
        let got = ipc("fp64-mul", &params, 1.0);
        assert!((got / counted - 1.0).abs() < 0.03, "ILP {ilp}: {got} against {counted}");
        let d = resolve("fp64-mul", 132, 128, &params).unwrap().demand;
        let share = 2.0 * d.pipes.fp64 / d.chain_cycles;
        assert!((share / pipe - 1.0).abs() < 0.03, "ILP {ilp}: pipe {share} against {pipe}");
    }
}

/// Launch, then warp instructions counted by Nsight Compute on an H100, per warp and turn: all, on the ALU pipe, on
/// the FMA pipe, on the load-store pipe. What a launch costs once (35 to 90 instructions per warp) is in them.
type Counted = (&'static str, u32, u32, &'static [(&'static str, f64)], [f64; 4]);

const GIB_4: f64 = 4294967296.0;

#[rustfmt::skip]
const COUNTED: &[Counted] = &[
    ("fp32-mul", 132, 128, &[("ilp", 3.0)], [51.00, 2.00, 48.00, 0.00]),
    ("fp32-fma", 132, 256, &[("body", 256.0)], [259.00, 2.00, 256.00, 0.00]),
    ("fp64-mul", 132, 128, &[("ilp", 3.0)], [129.01, 1.00, 1.00, 0.00]),
    ("int32", 132, 256, &[], [131.00, 129.00, 1.00, 0.00]),
    ("sfu", 132, 256, &[], [67.01, 1.00, 1.00, 0.00]),
    ("tensor-mma", 132, 256, &[("ilp", 1.0)], [67.00, 1.00, 0.00, 0.00]),
    ("tensor-mma", 132, 256, &[("ilp", 8.0)], [36.00, 1.00, 0.00, 0.00]),
    ("tensor-wgmma", 132, 128, &[], [153.50, 69.16, 4.16, 0.04]),
    ("issue-hog", 132, 256, &[], [259.00, 1.00, 1.00, 0.00]),
    ("smem", 132, 1024, &[], [101.03, 65.01, 3.01, 32.00]),
    ("smem", 132, 1024, &[("conflicts", 2.0)], [53.03, 17.01, 3.01, 32.00]),
    ("read", 264, 512, &[("bytes", GIB_4)], [9978.07, 5224.62, 2493.52, 1987.13]),
    ("write", 264, 1024, &[("bytes", GIB_4)], [7741.70, 3486.16, 2493.47, 993.56]),
    ("copy", 264, 512, &[("bytes", GIB_4)], [15970.64, 6968.85, 3992.88, 3973.25]),
    ("copy", 264, 512, &[("bytes", GIB_4), ("unroll", 2.0)], [20942.11, 8959.79, 6972.98, 3973.25]),
    ("copy-paper", 264, 1024, &[("bytes", GIB_4)], [59644.21, 31789.56, 15898.52, 7944.95]),
    ("l1-copy", 132, 64, &[("bytes", 16384.0)], [716.07, 452.02, 65.01, 128.00]),
    ("l2-copy", 264, 512, &[("bytes", 8388608.0)], [50.29, 17.65, 10.79, 7.76]),
    ("read", 264, 512, &[("bytes", 16777216.0), ("bypass_l1", 1.0)], [59.01, 25.43, 14.70, 7.77]),
    ("read", 264, 1024, &[("bytes", 16777216.0), ("bypass_l1", 1.0), ("unroll", 4.0)], [42.53, 18.64, 8.89, 3.89]),
    ("chase", 1, 32, &[], [21.07, 1.02, 3.02, 16.00]),
    ("atomics", 264, 512, &[], [86.41, 26.07, 41.04, 16.01]),
    ("sleep", 132, 1024, &[], [4.03, 1.01, 1.00, 0.00]),
    ("smem-hog", 132, 32, &[], [4.08, 1.03, 1.00, 0.01]),
    ("spin", 264, 1024, &[], [7515.05, 5626.41, 2.12, 1.19]),
];

#[test]
fn instructions_are_those_that_counters_gave_on_an_h100() {
    for (name, blocks, threads, params, counted) in COUNTED {
        let params = params.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        let d = resolve(name, *blocks, *threads, &params).unwrap().demand;
        let stated = [d.issue, d.pipes.alu, d.pipes.fma, d.pipes.lsu];
        for (what, (got, counted)) in ["all", "alu", "fma", "lsu"].iter().zip(stated.iter().zip(counted)) {
            // Within 3 % of the count, or 0.3 % of all instructions where a pipe has next to none.
            let slack = 0.03 * counted.max(0.1 * d.issue);
            assert!((got - counted).abs() <= slack, "{name} {params:?}, {what}: {got} against {counted}");
        }
    }
}

#[test]
fn packed_fp16_goes_to_two_pipes_in_turn() {
    // Counted on an H100 per warp and turn: 64 on the FMA pipe, 64 on the tensor pipe, 2 on the ALU pipe, 131 in all.
    let d = resolve("fp16x2", 132, 256, &set([("ilp", 8.0)])).unwrap().demand;
    assert_eq!((d.pipes.fp16, d.pipes.fma, d.pipes.alu, d.issue), (64.0 + 64.0, 0.0, 2.0, 131.0));
    // 1,142.6 cycles per turn at ILP 1, where nothing but the chain binds.
    let chain = resolve("fp16x2", 132, 256, &set([("ilp", 1.0)])).unwrap().demand.chain_cycles;
    assert!((chain / 1142.6 - 1.0).abs() < 0.03, "{chain}");
}

#[test]
fn chains_last_as_long_as_counters_said_on_an_h100() {
    // Cycles per turn of one launch in which the chain, or the wait for it, is what binds.
    for (name, params, threads, cycles) in [
        ("fp64-mul", set([("ilp", 1.0)]), 128, 1027.1),
        ("sfu", set([("ilp", 1.0)]), 256, 1088.4),
        ("tensor-mma", set([("ilp", 1.0)]), 256, 768.1),
        ("tensor-wgmma", none(), 128, 4178.2),
    ] {
        let chain = resolve(name, 132, threads, &params).unwrap().demand.chain_cycles;
        assert!((chain / cycles - 1.0).abs() < 0.03, "{name}: {chain} against {cycles}");
    }
}

#[test]
fn ceilings_are_reachable_by_demand() {
    let fp32 = resolve("fp32-fma", 132, 256, &set([("ilp", 4.0), ("body", 256.0)])).unwrap().demand;
    assert!(fp32.pipes.fma / fp32.issue >= 0.97);
    let fp64 = resolve("fp64-fma", 132, 256, &set([("ilp", 4.0)])).unwrap().demand;
    assert!(2.0 * fp64.pipes.fp64 * 2.0 >= fp64.chain_cycles, "two warps must fill the FP64 pipe");
    let smem = resolve("smem", 132, 1024, &none()).unwrap().demand;
    assert!(smem.smem_wavefronts >= smem.issue / 4.0, "shared memory must bind before issue slots");
}

#[test]
fn bank_conflicts_cost_wavefronts() {
    for n in [2.0, 4.0, 8.0, 16.0, 32.0] {
        let r = resolve("smem", 132, 256, &set([("conflicts", n)])).unwrap();
        assert_eq!((r.demand.smem_wavefronts, r.p0 as f64), (32.0 * n, n));
        // The widest access must stay within the static array.
        let last = 31.0 * n * 4.0 + 31.0 * 4.0 + 4.0;
        assert!(last <= r.shape.shared_bytes.0 as f64, "{n}");
    }
}

#[test]
fn wgmma_counts_its_products_in_units_of_a_warp() {
    let r = resolve("tensor-wgmma", 132, 256, &none()).unwrap();
    // 64 × 256 × 16 multiply-adds per product, 32 products, by four warps; a unit is 16 × 8 × 16.
    assert_eq!(r.demand.pipes.tensor * 2048.0 * 4.0, 32.0 * 64.0 * 256.0 * 16.0);
    assert_eq!((r.module, r.dynamic_shared), (Module::Sm90a, Bytes((1 + 32 + 16) << 10)));
    for threads in [32, 192, 512] {
        assert!(
            matches!(resolve("tensor-wgmma", 132, threads, &none()), Err(Error::Shape { .. })),
            "{threads}"
        );
    }
}

#[test]
fn a_gemm_has_all_its_multiply_adds() {
    let r = resolve("gemm", 128, 128, &none()).unwrap();
    assert_eq!(r.demand.pipes.fma * 512.0 * 32.0, 1024f64.powi(3));
    assert!((r.demand.issue / r.demand.chain_cycles * 4.0 - 3.0).abs() < 1e-9);
}

#[test]
fn a_chase_has_a_power_of_two_of_slots() {
    let r = resolve("chase", 1, 32, &set([("bytes", 100e6)])).unwrap();
    assert_eq!(r.bytes.0 % r.p0, 0);
    assert!((r.bytes.0 / r.p0).is_power_of_two());
    assert!(r.bytes.0 <= 100_000_000 && r.bytes.0 > 50_000_000);
    assert_eq!(r.params["bytes"], r.bytes.0 as f64);
    assert!(ptx(r.module).contains(&format!(".visible .entry {}_init(", r.entry)));
    assert_eq!(r.demand.load_bytes, 512.0);
}

#[test]
fn hogs_take_what_they_say() {
    for label in [32.0, 64.0, 128.0, 255.0] {
        let r = resolve("regs-hog", 132, 256, &set([("registers", label)])).unwrap();
        let got = f64::from(r.shape.registers);
        assert!(got <= label && got > 0.9 * label, "{label}: {got}");
    }
    let e = resolve("regs-hog", 132, 512, &set([("registers", 255.0)])).unwrap_err();
    assert!(e.to_string().contains("at most 256 threads"), "{e}");
    let r = resolve("smem-hog", 132, 32, &set([("bytes", 100.0 * 1024.0)])).unwrap();
    assert_eq!((r.dynamic_shared, r.shape.shared_bytes), (Bytes::kib(100), Bytes::kib(100)));
}

#[test]
fn bad_shapes_are_refused_with_the_rule() {
    for (name, blocks, threads, rule) in [
        ("fp32-mul", 0, 128, "blocks go from 1"),
        ("fp32-mul", u32::MAX, 128, "blocks go from 1"),
        ("copy", 132, 0, "threads per block go from 1"),
        ("copy", 132, 2000, "threads per block go from 1 to 1024"),
        ("copy", 132, 100, "multiple of 32"),
    ] {
        let e = resolve(name, blocks, threads, &none()).unwrap_err().to_string();
        assert!(e.contains(rule) && e.contains(name), "{e}");
    }
    assert!(resolve("sleep", 1, 1, &none()).is_ok(), "one thread suffices to be `100 % utilised`");
}

#[test]
fn bad_names_and_values_are_refused_with_a_remedy() {
    let cases = [
        ("fp32mul", none(), "did you mean `fp32-mul`?"),
        ("nonsense", none(), "`cotenant kernels` lists all"),
        ("fp32-mul", set([("ipl", 2.0)]), "did you mean `ilp`?"),
        ("fp32-mul", set([("frequency", 2.0)]), "it has ilp, body"),
        ("issue-hog", set([("ilp", 2.0)]), "it has none"),
        ("fp32-mul", set([("ilp", 9.0)]), "whole numbers from 1 to 8"),
        ("fp32-mul", set([("ilp", 2.5)]), "whole numbers from 1 to 8"),
        ("fp32-mul", set([("ilp", f64::NAN)]), "whole numbers from 1 to 8"),
        ("copy", set([("element", 12.0)]), "one of 4, 8, 16"),
        ("copy", set([("bytes", -1.0)]), "from 128 to"),
        ("smem-hog", set([("bytes", 300e3)]), "from 0 to 232448"),
    ];
    for (name, params, expected) in cases {
        let e = resolve(name, 132, 128, &params).unwrap_err().to_string();
        assert!(e.contains(expected), "{e}");
        assert!(e.chars().next().is_some_and(char::is_lowercase), "{e}");
    }
}

#[test]
fn sizes_are_rounded_down_and_recorded() {
    let r = resolve("copy", 132, 1024, &set([("bytes", 22.5 * 1048576.0 + 77.7)])).unwrap();
    assert_eq!(r.bytes.0, 23_592_960);
    assert_eq!(r.params["bytes"], 23_592_960.0);
    assert_eq!(r.params["unroll"], 4.0);
}

proptest! {
    #[test]
    fn resolving_never_panics(
        kernel in 0..registry().len(),
        blocks: u32,
        threads in prop_oneof![any::<u32>(), 0u32..1100],
        values in proptest::collection::vec(prop_oneof![any::<f64>(), (0u32..300).prop_map(f64::from), 0.0..1e13], 5),
        stray in proptest::option::of("[a-z_]{1,8}"),
    ) {
        let k = &registry()[kernel];
        let mut params: BTreeMap<String, f64> =
            k.params.iter().zip(&values).map(|(p, v)| (p.name.to_owned(), *v)).collect();
        if let Some(s) = stray {
            params.insert(s, 1.0);
        }
        if let Ok(r) = resolve(k.name, blocks, threads, &params) {
            prop_assert!(fields(&r.demand).iter().all(|x| x.is_finite() && *x >= 0.0), "{:?}", r);
            prop_assert!(sum(&r.demand.pipes) <= r.demand.issue + 1e-6 * r.demand.issue);
            prop_assert!(threads <= 1024 && blocks > 0);
        }
    }

    #[test]
    fn unknown_names_never_panic(name in "\\PC{0,40}") {
        if find(&name).is_none() {
            prop_assert!(resolve(&name, 1, 32, &none()).is_err());
        }
    }
}
