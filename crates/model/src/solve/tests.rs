//! The joint fixed point against measured pairs, and its invariants.

use super::*;
use crate::builtin;
use crate::demand::Pipes;
use proptest::prelude::*;

fn h100() -> Machine {
    Machine::new(&builtin("h100-sxm5-80gb").expect("built in"))
}

/// fp32 multiply, 256 instructions per iteration, dependent chains of `ilp`.
fn fp32(ilp: f64) -> Demand {
    let pipes = Pipes { fma: 256.0, ..Pipes::default() };
    Demand { issue: 270.0, pipes, chain_cycles: 1024.0 / ilp + 10.0, ..Demand::default() }
}

/// Copy, one line per warp and iteration in flight, over `bytes` per buffer.
fn copy(bytes: f64, blocks: f64) -> Demand {
    Demand {
        issue: 20.0,
        pipes: Pipes { lsu: 2.0, alu: 4.0, ..Pipes::default() },
        chain_cycles: 40.0,
        load_bytes: 128.0,
        store_bytes: 128.0,
        inflight_bytes: 128.0,
        footprint_bytes: 2.0 * bytes,
        block_footprint_bytes: 2.0 * bytes / blocks,
        caches_in_l1: true,
        ..Demand::default()
    }
}

fn on(demand: &Demand, kernel: u32, class: u32, sms: u32, blocks: u32, warps: u32) -> Resident<'_> {
    Resident {
        demand,
        kernel,
        grid_blocks: sms * blocks,
        class,
        sms,
        blocks,
        warps,
        shared_bytes: 0,
        turns: 1_000_000,
        arrival: kernel,
    }
}

fn slowdowns(m: &Machine, r: &[Resident<'_>]) -> Vec<f64> {
    let joint = solve(m, r);
    r.iter().zip(&joint.of).map(|(one, j)| solve(m, &[*one]).of[0].per_ns / j.per_ns).collect()
}

#[test]
fn fp64_pipe_pairs_add_up() {
    let d = |ilp: f64| Demand {
        issue: 64.0,
        pipes: Pipes { fp64: 64.0, ..Pipes::default() },
        chain_cycles: 64.0 * 8.0 / ilp,
        ..Demand::default()
    };
    // Paper Table 4 (speedups 1.988 1.977 1.356 1.018); H100 SXM, fp64-pipe: slowdowns 1.00 1.01 1.48.
    for (ilp, want) in [(1.0, 1.0), (2.0, 1.01), (3.0, 1.484)] {
        let (m, d) = (h100(), d(ilp));
        let s = slowdowns(&m, &[on(&d, 0, 0, 132, 1, 4), on(&d, 1, 0, 132, 1, 4)]);
        assert!((s[0] / want - 1.0).abs() < 0.05, "{ilp}: {s:?} against {want}");
        assert_eq!(s[0], s[1]);
    }
    // Each fills the pipe alone: the one that came first keeps it (measured 1.03 in every repeat).
    let (m, d) = (h100(), d(4.0));
    let s = slowdowns(&m, &[on(&d, 0, 0, 132, 1, 4), on(&d, 1, 0, 132, 1, 4)]);
    assert!((s[0] / 1.03 - 1.0).abs() < 0.05 && s[1] > 10.0, "{s:?}");
}

#[test]
fn a_hog_starves_a_copy_and_not_the_reverse() {
    let m = h100();
    let (c, h) = (copy(4.29e9, 132.0), fp32(4.0));
    let s = slowdowns(&m, &[on(&c, 0, 0, 132, 1, 32), on(&h, 1, 0, 132, 1, 8)]);
    assert!(s[0] > 20.0, "{s:?}");
    assert!(s[1] < 1.05, "{s:?}");
    let mild = slowdowns(&m, &[on(&c, 0, 0, 132, 1, 32), on(&fp32(1.0), 1, 0, 132, 1, 4)]);
    // Measured with ILP 1: 1.002 and 1.041 (H100 SXM, issue-slots).
    assert!(mild[0] < 1.03 && mild[1] > 1.01 && mild[1] < 1.09, "{mild:?}");
}

#[test]
fn the_copy_draws_what_was_measured() {
    let m = h100();
    let d = copy(4.29e9, 132.0);
    for (sms, want) in [(33, 593.0), (66, 1067.0), (99, 1442.0), (132, 1741.0)] {
        let r = solve(&m, &[on(&d, 0, 0, sms, 1, 32)]);
        let gib = r.dram_gbs * 1e9 / (1u64 << 30) as f64;
        assert!((gib / want - 1.0).abs() < 0.05, "{sms}: {gib} against {want}");
        assert!(matches!(r.of[0].bound, Bound::DramLatency | Bound::DramBandwidth));
    }
}

#[test]
fn bounds_are_named() {
    let m = h100();
    let bound = |d: &Demand, warps| solve(&m, &[on(d, 0, 0, 132, 1, warps)]).of[0].bound;
    assert_eq!(bound(&Demand { sleep_ns: 1000.0, issue: 2.0, ..Demand::default() }, 32), Bound::Sleep);
    assert_eq!(bound(&fp32(1.0), 4), Bound::Chain);
    assert_eq!(bound(&fp32(4.0), 16), Bound::Issue);
    let tensor = Pipes { tensor: 8.0, ..Pipes::default() };
    assert_eq!(
        bound(&Demand { issue: 4.0, pipes: tensor, chain_cycles: 20.0, ..Demand::default() }, 8),
        Bound::Tensor
    );
    let smem = Demand { issue: 8.0, smem_wavefronts: 128.0, chain_cycles: 60.0, ..Demand::default() };
    assert_eq!(bound(&smem, 8), Bound::L1Bandwidth);
    let mut l2 = copy(4e6, 132.0);
    l2.caches_in_l1 = false;
    assert_eq!(bound(&l2, 4), Bound::L2Latency);
}

#[test]
fn bank_conflicts_slow_a_shared_memory_kernel_in_proportion() {
    let m = h100();
    let d = |ways: f64| Demand {
        issue: 8.0,
        smem_wavefronts: 4.0 * ways,
        chain_cycles: 30.0,
        ..Demand::default()
    };
    let rate = |d: &Demand| solve(&m, &[on(d, 0, 0, 132, 1, 32)]).of[0].per_ns;
    let (one, many) = (rate(&d(2.0)), rate(&d(32.0)));
    assert!((one / many / 16.0 - 1.0).abs() < 0.02, "{}", one / many);
}

#[test]
fn atomics_share_l2() {
    let m = h100();
    let d = Demand { issue: 4.0, l2_atomics: 4.0, chain_cycles: 16.0, ..Demand::default() };
    let s = slowdowns(&m, &[on(&d, 0, 0, 132, 1, 32), on(&d, 1, 0, 132, 1, 32)]);
    assert!((s[0] - 2.0).abs() < 0.1, "{s:?}");
    let r = solve(&m, &[on(&d, 0, 0, 132, 1, 32)]);
    assert!(r.of[0].per_ns * 132.0 * 32.0 * 4.0 <= m.atomics_per_ns * 1.001);
}

#[test]
fn writes_stop_at_the_ceiling() {
    let m = h100();
    let d = Demand {
        issue: 8.0,
        chain_cycles: 8.0,
        store_bytes: 512.0,
        footprint_bytes: 8e9,
        block_footprint_bytes: 8e9 / 132.0,
        ..Demand::default()
    };
    let r = solve(&m, &[on(&d, 0, 0, 132, 2, 32)]);
    assert!(r.dram_gbs > 2000.0 && r.dram_gbs < 3352.0, "{}", r.dram_gbs);
}

#[test]
fn nothing_resident_is_nothing() {
    assert!(solve(&h100(), &[]).of.is_empty());
}

fn any_demand() -> impl Strategy<Value = Demand> {
    (
        (1.0f64..500.0, 0.0f64..400.0, 0.0f64..200.0, 0.0f64..100.0, 0.0f64..2000.0),
        (
            prop_oneof![Just(0.0), 32.0f64..4096.0],
            prop_oneof![Just(0.0), 32.0f64..4096.0],
            1e3f64..1e9,
            0.0f64..64.0,
            any::<bool>(),
        ),
    )
        .prop_map(|((issue, fma, fp64, tensor, chain), (load, store, foot, smem, l1))| Demand {
            issue: issue + fma + fp64,
            pipes: Pipes { fma, fp64, tensor: tensor * 0.1, lsu: (load + store) / 128.0, ..Pipes::default() },
            chain_cycles: chain,
            load_bytes: load,
            store_bytes: store,
            inflight_bytes: load.min(512.0),
            footprint_bytes: foot,
            block_footprint_bytes: foot / 132.0,
            smem_wavefronts: smem,
            caches_in_l1: l1,
            ..Demand::default()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_neighbour_never_speeds_up(a in any_demand(), b in any_demand(), wa in 1u32..32, wb in 1u32..32,
                                   apart in any::<bool>()) {
        let m = h100();
        let class = u32::from(apart);
        let s = slowdowns(&m, &[on(&a, 0, 0, 66, 1, wa), on(&b, 1, class, 66, 1, wb)]);
        prop_assert!(s[0] >= 1.0 - 1e-3 && s[1] >= 1.0 - 1e-3, "{s:?}");
        prop_assert!(s.iter().all(|s| s.is_finite()));
    }

    #[test]
    fn order_does_not_matter(a in any_demand(), b in any_demand(), c in any_demand()) {
        let m = h100();
        let r = [on(&a, 0, 0, 66, 1, 8), on(&b, 1, 0, 66, 1, 8), on(&c, 2, 1, 66, 1, 8)];
        let x = solve(&m, &r);
        let y = solve(&m, &[r[2], r[1], r[0]]);
        for i in 0..3 {
            let (p, q) = (x.of[i].per_ns, y.of[2 - i].per_ns);
            prop_assert!((p / q - 1.0).abs() < 1e-3, "{i}: {p} {q}");
        }
    }

    #[test]
    fn how_much_counts_as_one_iteration_does_not_matter(a in any_demand(), b in any_demand(), k in 2.0f64..8.0) {
        let m = h100();
        let mut big = a;
        big.issue *= k;
        big.pipes.fma *= k;
        big.pipes.fp64 *= k;
        big.pipes.tensor *= k;
        big.pipes.lsu *= k;
        big.chain_cycles *= k;
        big.load_bytes *= k;
        big.store_bytes *= k;
        big.smem_wavefronts *= k;
        // Bytes in flight stay: more rounds of the same size.
        big.inflight_bytes = a.inflight_bytes;
        let (x, y) = (
            solve(&m, &[on(&a, 0, 0, 132, 1, 8), on(&b, 1, 0, 132, 1, 8)]),
            solve(&m, &[on(&big, 0, 0, 132, 1, 8), on(&b, 1, 0, 132, 1, 8)]),
        );
        prop_assert!((x.of[0].per_ns / y.of[0].per_ns / k - 1.0).abs() < 1e-3);
        prop_assert!((x.of[1].per_ns / y.of[1].per_ns - 1.0).abs() < 1e-3);
    }

    #[test]
    fn splitting_a_class_of_sms_does_not_matter(a in any_demand(), n in 1u32..65) {
        let m = h100();
        let whole = solve(&m, &[on(&a, 0, 0, 66, 1, 8)]);
        let mut parts = [on(&a, 0, 0, n, 1, 8), on(&a, 0, 1, 66 - n, 1, 8)];
        parts.iter_mut().for_each(|p| p.grid_blocks = 66);
        let split = solve(&m, &parts);
        for r in &split.of {
            prop_assert!((r.per_ns / whole.of[0].per_ns - 1.0).abs() < 1e-3);
        }
    }
}
