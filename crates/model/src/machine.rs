//! A device card with every gap filled: plain numbers for the solver.
//!
//! Where a card has no measured value, the estimates are (H100 ratios where nothing better is published):
//!
//! | value | estimate |
//! |---|---|
//! | DRAM read, copy ceilings | 92 %, 88 % of the data sheet |
//! | L2 read, copy ceilings | 34 %, 39 % of SMs × bytes per cycle × clock |
//! | latencies | the H100's: L1 33 cycles, L2 277 cycles, DRAM 370 ns |
//! | loaded latency | the H100's curve with bandwidths scaled to the ceiling |
//! | miss shares | the H100's curves with sizes scaled to the capacity |
//! | knees, issue, launch, sharing | the H100's |

use crate::card::{DeviceCard, Order, Spec};
use crate::curve::Curve;
use crate::law::bandwidth::Loaded;

/// Stations of one SM, in the order of [`Machine::knee`] and of the solver's arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Station {
    /// Issue slots.
    Issue = 0,
    /// fp32 (and packed fp16 where it shares the datapath).
    Fma,
    /// fp64.
    Fp64,
    /// int32.
    Alu,
    /// Packed fp16 where it has lanes of its own.
    Fp16,
    /// Special functions.
    Xu,
    /// Tensor cores.
    Tensor,
    /// Address path of loads and stores.
    Lsu,
    /// Data path of L1 and shared memory.
    L1,
    /// Port to L2.
    L2Port,
}

/// Time lost at a switch between processes where the card does not tell, ns: the H100's.
pub const SWITCH_NS: f64 = 2.0e5;

/// Number of stations of one SM.
pub const STATIONS: usize = 10;

/// A card with every gap filled.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    /// Data sheet, for residency.
    pub spec: Spec,
    /// SM clock, cycles per ns.
    pub ghz: f64,
    /// Service per cycle and SM of each station: instructions, m16n8k16 products, 128-byte wavefronts (L1),
    /// bytes (port to L2).
    pub capacity: [f64; STATIONS],
    /// Knee exponent of each station.
    pub knee: [f64; STATIONS],
    /// Share of the issue slots that always-ready warps can take from waiting ones.
    pub hog_share: f64,
    /// Cycles of wait for each instruction of a waiting kernel and unit of ρ/(1-ρ).
    pub wait_factor: f64,
    /// See [`crate::card::Contention::issue_collision`].
    pub issue_collision: f64,
    /// See [`crate::card::Contention::fma_collision`].
    pub fma_collision: f64,
    /// Share of a full pipe that the kernel that came first keeps.
    pub pipe_first_share: f64,
    /// Share of the full data path of L1 that the kernel that came first keeps.
    pub l1_first_share: f64,
    /// Weight of uneven sets of L1.
    pub l1_scatter: f64,
    /// Share of the tensor cores' rate that `mma.sync` reaches.
    pub tensor_mma_share: f64,
    /// Speed of a host copy beside one in the other direction.
    pub duplex_share: f64,
    /// Atomics that a warp has under way.
    pub atomics_inflight: f64,
    /// What kernels of different recorded models gain by running at the same time, 0..1.
    pub model_overlap: f64,
    /// Hit in L1, ns.
    pub l1_ns: f64,
    /// L2: bandwidth and latency.
    pub l2: Loaded,
    /// Device memory: bandwidth and latency.
    pub dram: Loaded,
    /// Global atomics, warp instructions per ns.
    pub atomics_per_ns: f64,
    /// Miss share against footprint of one tenant, L2.
    pub l2_alone: Curve,
    /// Miss share against the sum of the footprints, L2.
    pub l2_shared: Curve,
    /// Miss share against footprint per SM of one tenant, L1.
    pub l1_alone: Curve,
    /// Miss share against the sum of the footprints per SM, L1.
    pub l1_shared: Curve,
    /// Host time of a launch, ns: plain, `Ex`, graph node.
    pub launch_ns: [f64; 3],
    /// From the end of a kernel to the start of the next queued one, ns.
    pub launch_gap_ns: f64,
    /// Length of an empty kernel, ns.
    pub empty_ns: f64,
    /// Time slice, ns.
    pub time_slice_ns: f64,
    /// Time lost at a switch between contexts, ns.
    pub switch_ns: f64,
    /// Priorities decide at each block.
    pub priority_per_block: bool,
    /// Order of SMs in placement.
    pub order: Order,
    /// Leftover policy.
    pub leftover: bool,
    /// From a free place to the first instruction of the block that takes it, ns.
    pub block_start_ns: f64,
    /// Standard deviation of the length of one block of a long grid, as a share of it.
    pub block_spread: f64,
    /// Host to device and device to host, bytes per ns.
    pub host_link: [f64; 2],
}

const MIB: f64 = 1_048_576.0;
const KIB: f64 = 1024.0;
/// Capacities to which the reference curves below belong.
const REFERENCE_L2: f64 = 50.0 * MIB;
const REFERENCE_L1: f64 = 256.0 * KIB;
/// Ceiling (copy, GB/s) to which the reference curve of DRAM latency belongs; likewise of L2.
const REFERENCE_DRAM: f64 = 2950.0;
const REFERENCE_L2_GBS: f64 = 6500.0;

fn reference_dram() -> Curve {
    Curve(vec![(0.0, 370.0), (625.0, 421.0), (1120.0, 472.0), (1835.0, 578.0), (2380.0, 898.0)])
}

fn reference_l2() -> Curve {
    Curve(vec![(0.0, 140.0), (450.0, 142.0), (3000.0, 169.0), (5300.0, 193.0)])
}

fn reference_l2_alone() -> Curve {
    Curve(
        [(36.0, 0.0), (40.0, 0.13), (45.0, 0.3), (50.0, 0.62), (56.0, 1.0)].map(|p| (p.0 * MIB, p.1)).into(),
    )
}

fn reference_l2_shared() -> Curve {
    Curve(
        [(44.0, 0.0), (62.0, 0.26), (72.0, 0.46), (80.0, 0.68), (100.0, 1.0)]
            .map(|p| (p.0 * MIB, p.1))
            .into(),
    )
}

fn reference_l1_alone() -> Curve {
    Curve([(216.0, 0.0), (256.0, 0.17), (320.0, 0.68), (384.0, 1.0)].map(|p| (p.0 * KIB, p.1)).into())
}

fn reference_l1_shared() -> Curve {
    Curve([(216.0, 0.0), (256.0, 0.21), (384.0, 0.54), (432.0, 1.0)].map(|p| (p.0 * KIB, p.1)).into())
}

impl Machine {
    /// Fills the gaps of a card. The card should be valid ([`DeviceCard::validate`]); rates stay positive.
    pub fn new(card: &DeviceCard) -> Machine {
        let s = card.spec;
        let c = &card.ceilings;
        let ghz = card.clock.sustained_mhz.unwrap_or(s.clock_mhz_max) / 1000.0;
        let dram_copy = c.dram_copy_gbs.unwrap_or(0.88 * s.dram_gbs);
        let dram_read = c.dram_read_gbs.unwrap_or(0.92 * s.dram_gbs);
        let port = f64::from(s.sms) * s.l2_bytes_per_cycle * ghz;
        let l2_read = c.l2_read_gbs.unwrap_or(0.34 * port);
        let l2_copy = c.l2_copy_gbs.unwrap_or(l2_read * 0.39 / 0.34);
        let dram_curve = card.loaded_latency.dram.clone().unwrap_or_else(|| {
            let k = card.latency.dram_ns.map_or(1.0, |ns| ns / 370.0);
            reference_dram().scaled(dram_copy / REFERENCE_DRAM, k)
        });
        let l2_curve = card.loaded_latency.l2.clone().unwrap_or_else(|| {
            // L2 latency is cycles of the SM clock: 140 ns at 1.98 GHz.
            let k = card.latency.l2_ns.unwrap_or(277.0 / ghz) / 140.0;
            reference_l2().scaled(l2_copy / REFERENCE_L2_GBS, k)
        });
        let (kl2, kl1) = (s.l2_bytes.0 as f64 / REFERENCE_L2, s.l1_bytes.0 as f64 / REFERENCE_L1);
        let cap = &card.capacity;
        let or = |c: &Option<Curve>, reference: Curve, k: f64| c.clone().unwrap_or(reference.scaled(k, 1.0));
        // What 60 % of L2 seems to miss are hits in L1 of the smallest sizes, from which shares are counted.
        let fits = 0.6 * s.l2_bytes.0 as f64;
        let tensor = c.tensor_tflops.map_or(s.pipes.tensor, |t| {
            // 2·16·8·16 flop for each product.
            (t * 1e3 / (4096.0 * f64::from(s.sms) * ghz)).min(s.pipes.tensor)
        });
        let l1_bytes = c.shared_bytes_per_cycle.unwrap_or(s.l1_bytes_per_cycle);
        let (p, k) = (s.pipes, &card.knees);
        let (issue_knee, pipe_knee) = (k.issue.unwrap_or(12.0), k.pipes.unwrap_or(60.0));
        let x = &card.contention;
        let (l1_knee, port_knee) = (k.l1.unwrap_or(10.4), k.l2_port.unwrap_or(10.4));
        let plain = card.launch.plain_ns.unwrap_or(3700.0);
        let link = 0.86 * s.host_link_gbs;
        Machine {
            spec: s,
            ghz,
            capacity: [
                c.issue_ipc.unwrap_or(s.issue_per_cycle),
                p.fma,
                p.fp64,
                p.alu,
                p.fp16,
                p.xu,
                tensor,
                p.lsu,
                l1_bytes / 128.0,
                s.l2_bytes_per_cycle,
            ],
            knee: [
                issue_knee, pipe_knee, pipe_knee, pipe_knee, pipe_knee, pipe_knee, pipe_knee, l1_knee,
                l1_knee, port_knee,
            ],
            hog_share: card.issue.hog_share.unwrap_or(0.998),
            wait_factor: card.issue.wait_factor.unwrap_or(0.25),
            issue_collision: x.issue_collision.unwrap_or(1.45),
            fma_collision: x.fma_collision.unwrap_or(0.5),
            pipe_first_share: x.pipe_first_share.unwrap_or(0.97),
            l1_first_share: x.l1_first_share.unwrap_or(0.55),
            l1_scatter: x.l1_scatter.unwrap_or(1.3),
            tensor_mma_share: x.tensor_mma_share.unwrap_or(if s.capability == (9, 0) { 0.667 } else { 1.0 }),
            duplex_share: x.duplex_share.unwrap_or(0.92),
            atomics_inflight: x.atomics_inflight.unwrap_or(16.0),
            model_overlap: x.model_overlap.unwrap_or(0.2),
            l1_ns: card.latency.l1_ns.unwrap_or(33.0 / ghz),
            l2: Loaded::new(l2_curve, l2_read, l2_copy),
            dram: Loaded::new(dram_curve, dram_read, dram_copy),
            atomics_per_ns: c.l2_atomics_per_ns.unwrap_or(0.018 * f64::from(s.sms) * ghz),
            l2_alone: or(&cap.l2_alone, reference_l2_alone(), kl2).from_zero_at(fits),
            l2_shared: or(&cap.l2_shared, reference_l2_shared(), kl2).from_zero_at(fits),
            l1_alone: or(&cap.l1_alone, reference_l1_alone(), kl1),
            l1_shared: or(&cap.l1_shared, reference_l1_shared(), kl1),
            launch_ns: [plain, card.launch.ex_ns.unwrap_or(plain), card.launch.graph_ns.unwrap_or(1500.0)],
            launch_gap_ns: card.launch.gap_ns.unwrap_or(1000.0),
            empty_ns: card.launch.empty_ns.unwrap_or(1200.0),
            time_slice_ns: card.sharing.time_slice_ns.unwrap_or(2.0e6),
            switch_ns: card.sharing.switch_ns.unwrap_or(SWITCH_NS),
            priority_per_block: card.sharing.priority_per_block.unwrap_or(true),
            order: card.placement.order,
            leftover: card.placement.leftover.unwrap_or(true),
            block_start_ns: card.placement.block_start_ns.unwrap_or(700.0),
            block_spread: card.placement.block_spread.unwrap_or(0.0),
            host_link: [c.host_to_device_gbs.unwrap_or(link), c.device_to_host_gbs.unwrap_or(link)],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{builtin, builtin_names};

    #[test]
    fn every_built_in_card_fills_to_positive_rates() {
        for name in builtin_names() {
            let m = Machine::new(&builtin(name).expect("listed"));
            assert!(m.capacity.iter().all(|&c| c > 0.0), "{name}");
            assert!(m.knee.iter().all(|&c| c >= 1.0), "{name}");
            assert!(m.l1_ns < m.l2.idle_ns() && m.l2.idle_ns() < m.dram.idle_ns(), "{name}");
            assert!(m.host_link.iter().all(|&l| l > 0.0), "{name}");
        }
    }

    #[test]
    fn unmeasured_curves_scale_with_capacity() {
        let a = Machine::new(&builtin("a100-sxm4-80gb").expect("listed"));
        assert_eq!(a.l2_alone.at(28.0 * MIB), 0.0);
        assert_eq!(a.l2_alone.at(45.0 * MIB), 1.0);
        assert!((a.dram.copy_gbs() - 0.88 * 2039.0).abs() < 1e-9);
    }
}
