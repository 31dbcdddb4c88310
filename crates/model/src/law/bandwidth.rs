//! Bandwidth of L2 and of device memory: Little's law on a loaded-latency curve.
//!
//! A warp keeps a fixed number of bytes in flight, so bandwidth = bytes in flight / latency; the latency grows
//! with the bandwidth that all tenants draw together. The curve is measured (card, `loaded_latency`); beyond its
//! last point the latency follows `l·(C - b)/(C - x)`, the waiting time of a queue that saturates at the ceiling
//! `C`, so that no demand draws more than the ceiling and tenants share it by their bytes in flight
//! (research §3.3, §3.6).
//!
//! Reads and writes cost differently. With `R` the ceiling of reading alone and `C` that of copying (both
//! directions summed), a written byte costs as much as `C`-ceiling bytes of a copy need: `2/C - 1/R` per byte.

use crate::curve::Curve;

/// A memory level with loaded latency.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    curve: Curve,
    read_gbs: f64,
    copy_gbs: f64,
    /// Cost of a written byte over that of a byte of a copy.
    write_weight: f64,
}

impl Loaded {
    /// A level with this curve (copy bandwidth in GB/s → ns) and these ceilings in GB/s. Points at or above 98 %
    /// of the ceiling are left out, because the curve must end before it.
    pub fn new(curve: Curve, read_gbs: f64, copy_gbs: f64) -> Loaded {
        let mut points = curve.0;
        if let Some(first) = points.first().copied() {
            points.retain(|p| p.0 < 0.98 * copy_gbs);
            if points.is_empty() {
                points.push((0.0, first.1));
            }
        }
        // A card whose write costs come out at nothing (copy ceiling twice the read ceiling) keeps a small cost.
        let write_weight = (2.0 - copy_gbs / read_gbs).max(0.05);
        Loaded { curve: Curve(points), read_gbs, copy_gbs, write_weight }
    }

    /// Ceiling of a copy, reads and writes summed, GB/s.
    pub fn copy_gbs(&self) -> f64 {
        self.copy_gbs
    }

    /// Ceiling of reading, GB/s.
    pub fn read_gbs(&self) -> f64 {
        self.read_gbs
    }

    /// Latency with no load, ns.
    pub fn idle_ns(&self) -> f64 {
        self.curve.first().map_or(0.0, |p| p.1)
    }

    /// Bandwidth of a copy that loads the level as much as `read` and `write` GB/s do.
    pub fn equivalent(&self, read: f64, write: f64) -> f64 {
        read * self.copy_gbs / self.read_gbs + write * self.write_weight
    }

    /// Latency at a load of `x` GB/s (as a copy), ns; grows without bound towards the ceiling.
    pub fn latency(&self, x: f64) -> f64 {
        let Some((b, l)) = self.curve.last() else { return 0.0 };
        if x <= b {
            return self.curve.at(x);
        }
        l * (self.copy_gbs - b) / (self.copy_gbs - x).max(self.copy_gbs * 1e-9)
    }

    /// The load `x` at which `demand(latency(x)) = x`, for a demand (GB/s as a copy) that does not grow with
    /// latency. Between 0 and the ceiling; `f` is called some ten times.
    pub fn balance(&self, mut demand: impl FnMut(f64) -> f64) -> f64 {
        let (mut lo, mut hi) = (0.0, self.copy_gbs * (1.0 - 1e-6));
        let mut flo = demand(self.latency(lo)) - lo;
        if flo <= 0.0 {
            return 0.0;
        }
        let mut fhi = demand(self.latency(hi)) - hi;
        if fhi >= 0.0 {
            return hi;
        }
        // Illinois: regula falsi that halves a stale end, on a function that falls strictly.
        let mut side = 0i8;
        for _ in 0..60 {
            let x = (lo * fhi - hi * flo) / (fhi - flo);
            let f = demand(self.latency(x)) - x;
            if f.abs() <= 1e-7 * self.copy_gbs || (hi - lo) <= 1e-9 * self.copy_gbs {
                return x;
            }
            if f > 0.0 {
                lo = x;
                flo = f;
                if side == 1 {
                    fhi *= 0.5;
                }
                side = 1;
            } else {
                hi = x;
                fhi = f;
                if side == -1 {
                    flo *= 0.5;
                }
                side = -1;
            }
        }
        0.5 * (lo + hi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn h100() -> Loaded {
        let points = vec![(0.0, 380.0), (625.0, 432.0), (1120.0, 483.0), (1835.0, 589.0), (2380.0, 909.0)];
        Loaded::new(Curve(points), 3084.0, 2950.0)
    }

    /// Copy bandwidth of warps that keep `inflight` bytes of reads on their way, GB/s read and written.
    fn copy(m: &Loaded, inflight: f64) -> f64 {
        m.balance(|ns| m.equivalent(inflight / ns, inflight / ns))
    }

    #[test]
    fn a_copy_loads_as_itself() {
        assert!((h100().equivalent(1000.0, 1000.0) - 2000.0).abs() < 1e-9);
        assert!((h100().equivalent(3084.0, 0.0) - 2950.0).abs() < 1e-9);
    }

    #[test]
    fn the_ceiling_is_reached_but_not_passed() {
        let m = h100();
        assert!(copy(&m, 1e9) < 2950.0);
        assert!(copy(&m, 1e8) > 2900.0);
        assert_eq!(m.balance(|_| 0.0), 0.0);
        // A demand that ignores latency stops at the ceiling too.
        assert!(m.balance(|_| 1e6) < 2950.0);
    }

    #[test]
    fn points_at_the_ceiling_are_left_out() {
        let m = Loaded::new(Curve(vec![(0.0, 300.0), (1000.0, 900.0)]), 1000.0, 1000.0);
        assert!(m.latency(999.0) > 300.0 && m.latency(999.0).is_finite());
    }

    #[test]
    fn thirty_three_to_264_blocks_draw_what_was_measured() {
        // Peer benchmark on the H100 SXM: 582, 1043, 1709, 2216 GiB/s with 33, 66, 132, 264 blocks of 32 warps.
        for (blocks, gib) in [(33.0, 582.0), (66.0, 1043.2), (132.0, 1708.8), (264.0, 2216.2)] {
            let got = copy(&h100(), blocks * 32.0 * 128.0) * 1e9 / (1u64 << 30) as f64;
            assert!((got / gib - 1.0).abs() < 0.02, "{blocks}: {got} against {gib}");
        }
    }

    proptest! {
        #[test]
        fn more_in_flight_draws_more_and_waits_longer(a in 1e3f64..1e7, k in 1.01f64..10.0) {
            let m = h100();
            let (x, y) = (copy(&m, a), copy(&m, a * k));
            prop_assert!(y >= x * (1.0 - 1e-6));
            prop_assert!(y <= x * k * (1.0 + 1e-6));
            prop_assert!(m.latency(y) >= m.latency(x) * (1.0 - 1e-6));
        }

        #[test]
        fn two_share_by_bytes_in_flight(a in 1e3f64..1e7, b in 1e3f64..1e7) {
            let m = h100();
            let both = copy(&m, a + b);
            let ns = m.latency(both);
            prop_assert!((2.0 * a / ns + 2.0 * b / ns - both).abs() < 1e-4 * both + 1.0);
            prop_assert!(2.0 * a / ns <= copy(&m, a) * (1.0 + 1e-4));
        }
    }
}
