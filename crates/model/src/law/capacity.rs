//! Cache capacity: who misses when the footprints of several tenants meet in one cache.
//!
//! A tenant that touches `F` bytes in turn comes back to a line after `F/r` ns, with `r` its access rate. What a
//! neighbour brings in meanwhile is `min(F_j, r_j·F/r)`: all that it touches, or as much as it touches in that
//! time (footprint composition; Denning, HOTL; research §3.6). The share of misses at the sum is read from the
//! measured curve of two equal tenants (where both terms are equal, the window holds exactly the neighbour's
//! footprint), and is never below the share that the tenant has alone.

use crate::curve::Curve;

/// One tenant of a cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tenant {
    /// Bytes touched in turn.
    pub footprint: f64,
    /// Access rate while it runs alone, bytes per ns (any common unit).
    pub rate: f64,
}

/// Bytes that pass through the cache between two touches of a line of `tenants[i]`.
pub fn window(tenants: &[Tenant], i: usize) -> f64 {
    let me = tenants[i];
    let mut sum = me.footprint;
    for (j, t) in tenants.iter().enumerate() {
        if j != i {
            // A tenant that never comes back sees all that the others touch.
            let meanwhile = if me.rate > 0.0 { t.rate * me.footprint / me.rate } else { f64::INFINITY };
            sum += t.footprint.min(meanwhile);
        }
    }
    sum
}

/// Share of accesses that miss a cache of `capacity` bytes because `footprint` bytes fill its sets unevenly:
/// `1 - exp(-k·(F/C)²)`. Fitted (card, `contention.l1_scatter`) to a grid-stride copy alone, of which 27, 67 and 94 %
/// missed L1 at 0.47, 0.95 and 1.42 times its size (H100 SXM, `l2-size` at 4, 8 and 12 MB: time per byte between
/// those of L1 and of L2).
pub fn scattered(footprint: f64, capacity: f64, k: f64) -> f64 {
    let load = footprint / capacity;
    1.0 - (-k * load * load).exp()
}

/// Share of accesses of each tenant that miss, 0..1, written to `out`.
pub fn misses(tenants: &[Tenant], alone: &Curve, shared: &Curve, out: &mut Vec<f64>) {
    out.clear();
    let several = tenants.iter().filter(|t| t.footprint > 0.0).count() > 1;
    for (i, t) in tenants.iter().enumerate() {
        let own = alone.at(t.footprint);
        out.push(if several { own.max(shared.at(window(tenants, i))).min(1.0) } else { own });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn curves() -> (Curve, Curve) {
        (Curve(vec![(36.0, 0.0), (56.0, 1.0)]), Curve(vec![(44.0, 0.0), (100.0, 1.0)]))
    }

    fn run(t: &[Tenant]) -> Vec<f64> {
        let (a, s) = curves();
        let mut out = Vec::new();
        misses(t, &a, &s, &mut out);
        out
    }

    fn tenant(footprint: f64, rate: f64) -> Tenant {
        Tenant { footprint, rate }
    }

    #[test]
    fn equal_tenants_see_the_sum() {
        let t = [tenant(32.0, 1.0), tenant(32.0, 1.0)];
        assert_eq!(window(&t, 0), 64.0);
        let m = run(&t);
        assert_eq!(m[0], m[1]);
        assert!(m[0] > 0.3 && run(&t[..1])[0] == 0.0);
    }

    #[test]
    fn a_small_hot_set_survives_a_stream() {
        // The stream passes 8 bytes while the hot tenant turns once over its 8.
        let m = run(&[tenant(8.0, 1.0), tenant(4096.0, 1.0)]);
        assert_eq!(m, vec![0.0, 1.0]);
    }

    #[test]
    fn a_slow_tenant_loses_its_set() {
        let m = run(&[tenant(20.0, 0.1), tenant(80.0, 1.0)]);
        assert_eq!(m[0], 1.0);
        assert_eq!(run(&[tenant(20.0, 0.0), tenant(80.0, 1.0)])[0], 1.0);
    }

    #[test]
    fn a_tenant_without_footprint_disturbs_no_one() {
        assert_eq!(run(&[tenant(45.0, 1.0), tenant(0.0, 9.0)])[0], run(&[tenant(45.0, 1.0)])[0]);
    }

    #[test]
    fn a_scattered_footprint_misses_before_it_fills_the_cache() {
        for (load, want) in [(0.47, 0.27), (0.95, 0.67), (1.42, 0.94)] {
            assert!((scattered(load, 1.0, 1.3) - want).abs() < 0.04, "{load}");
        }
        assert_eq!(scattered(0.0, 1.0, 1.3), 0.0);
    }

    proptest! {
        #[test]
        fn a_neighbour_never_helps(a in 0.0f64..120.0, b in 0.0f64..120.0, c in 0.0f64..120.0,
                                   ra in 0.01f64..10.0, rb in 0.01f64..10.0, rc in 0.01f64..10.0) {
            let (ta, tb, tc) = (tenant(a, ra), tenant(b, rb), tenant(c, rc));
            let (one, two, three) = (run(&[ta])[0], run(&[ta, tb])[0], run(&[ta, tb, tc])[0]);
            prop_assert!(one <= two && two <= three, "{one} {two} {three}");
        }

        #[test]
        fn order_does_not_matter(a in 0.0f64..120.0, b in 0.0f64..120.0, r in 0.01f64..10.0) {
            let (ta, tb) = (tenant(a, 1.0), tenant(b, r));
            let (x, y) = (run(&[ta, tb]), run(&[tb, ta]));
            prop_assert_eq!((x[0], x[1]), (y[1], y[0]));
        }

        #[test]
        fn the_unit_of_rate_does_not_matter(a in 0.0f64..120.0, b in 0.0f64..120.0, k in 0.1f64..10.0) {
            let x = run(&[tenant(a, 1.0), tenant(b, 2.0)]);
            let y = run(&[tenant(a, k), tenant(b, 2.0 * k)]);
            prop_assert!((x[0] - y[0]).abs() < 1e-9);
        }
    }
}
