//! Stations of one SM: each serves a fixed amount per cycle, and its users slow down together when they ask for
//! more.
//!
//! Law of the pipes (research §3.5): kernels that use `U_i` of a station alone run at `1/max(1, ΣU)` of that
//! together. With several stations this is progressive filling: all kernels speed up in step from 0; when a
//! station is full, its users stop there and the others go on, none above its own speed.
//!
//! The knee is soft: at pressure `u` (the factor by which a kernel is held back where above 1, else the
//! utilisation of its fullest station) a kernel takes `(1 + u^p)^(1/p)` times its unhindered time.

/// How one kernel fares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// Factor by which it is held back if above 1; else the utilisation of its fullest station.
    pub u: f64,
    /// That station, or `usize::MAX` for a kernel that uses none.
    pub station: usize,
}

/// Progressive filling of `S` stations of capacity 1, by weights.
///
/// `wants[r][s]` is what kernel `r` would use of station `s` at its unhindered speed, and `weights[r]` (above 0) how
/// fast its speed rises while all fill up: with equal weights all rise in step. Returns each kernel's pressure; the
/// speed `1/max(1, u)` of all is feasible and none can be raised without lowering one that is not faster for its
/// weight.
pub fn fill<const S: usize>(wants: &[[f64; S]], weights: &[f64], out: &mut Vec<Pressure>) {
    out.clear();
    out.resize(wants.len(), Pressure { u: -1.0, station: usize::MAX });
    let weight = |r: usize| weights.get(r).copied().unwrap_or(1.0);
    // What kernels that stopped, at full speed or at a full station, use.
    let mut held = [0.0f64; S];
    loop {
        // How fast the load of each station rises, and when the first kernel has its full speed.
        let mut asked = [0.0f64; S];
        let mut level = f64::INFINITY;
        for (r, (w, p)) in wants.iter().zip(out.iter()).enumerate() {
            if p.u < 0.0 {
                level = level.min(1.0 / weight(r));
                for s in 0..S {
                    asked[s] += weight(r) * w[s];
                }
            }
        }
        if level.is_infinite() {
            break;
        }
        let mut full = usize::MAX;
        for s in 0..S {
            if asked[s] > 0.0 {
                // Rounding may leave a hair less than nothing.
                let at = (1.0 - held[s]).max(1e-12) / asked[s];
                if at < level {
                    level = at;
                    full = s;
                }
            }
        }
        for (r, (w, p)) in wants.iter().zip(out.iter_mut()).enumerate() {
            let speed = (weight(r) * level).min(1.0);
            // `w · (1/w)` may round to a hair below 1.
            let stops = if full == usize::MAX { speed >= 1.0 - 1e-12 } else { w[full] > 0.0 };
            if p.u < 0.0 && stops {
                // A kernel at full speed has no station yet; it is named below.
                *p = Pressure { u: 1.0 / speed, station: full };
                for s in 0..S {
                    held[s] += speed * w[s];
                }
            }
        }
    }
    // The pressure of those that run unhindered is the utilisation of the fullest station that they use.
    for (w, p) in wants.iter().zip(out.iter_mut()) {
        if p.station == usize::MAX {
            p.u = 0.0;
            for s in 0..S {
                if w[s] > 0.0 && held[s] > p.u {
                    *p = Pressure { u: held[s].min(1.0), station: s };
                }
            }
        }
    }
}

/// Time over unhindered time at pressure `u` with knee exponent `p`: `(1 + u^p)^(1/p)`.
pub fn knee(u: f64, p: f64) -> f64 {
    if u <= 0.0 {
        1.0
    } else if u <= 1.0 {
        (1.0 + u.powf(p)).powf(1.0 / p)
    } else {
        // The same, with the larger term in front so that nothing overflows.
        u * (1.0 + u.powf(-p)).powf(1.0 / p)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run<const S: usize>(w: &[[f64; S]]) -> Vec<Pressure> {
        let mut out = Vec::new();
        fill(w, &[], &mut out);
        out
    }

    #[test]
    fn a_heavier_kernel_gets_more_of_a_full_station() {
        let mut out = Vec::new();
        fill(&[[1.0], [1.0]], &[3.0, 1.0], &mut out);
        assert!((out[0].u - 4.0 / 3.0).abs() < 1e-12 && (out[1].u - 4.0).abs() < 1e-12, "{out:?}");
        // What it does not want goes to the other.
        fill(&[[0.2], [1.0]], &[3.0, 1.0], &mut out);
        assert!((out[0].u - 1.0).abs() < 1e-12 && (out[1].u - 1.25).abs() < 1e-12, "{out:?}");
    }

    #[test]
    fn one_station_is_the_sum() {
        let p = run(&[[0.73], [0.73]]);
        assert!((p[0].u - 1.46).abs() < 1e-12 && (p[1].u - 1.46).abs() < 1e-12);
        let p = run(&[[0.4], [0.3]]);
        assert!((p[0].u - 0.7).abs() < 1e-12);
    }

    #[test]
    fn who_does_not_use_the_full_station_goes_on() {
        let p = run(&[[1.0, 0.1], [1.0, 0.0], [0.0, 0.5]]);
        assert!((p[0].u - 2.0).abs() < 1e-12 && (p[1].u - 2.0).abs() < 1e-12);
        // Kernel 0 runs at half speed and leaves 0.05 on the second station.
        assert_eq!(p[2].station, 1);
        assert!((p[2].u - 0.55).abs() < 1e-12);
    }

    #[test]
    fn a_kernel_without_demand_is_free() {
        assert_eq!(run(&[[0.0], [5.0]])[0], Pressure { u: 0.0, station: usize::MAX });
    }

    #[test]
    fn the_knee_is_soft_only_near_one() {
        assert_eq!(knee(0.0, 10.4), 1.0);
        assert!(knee(0.5, 10.4) < 1.001);
        // fp64 multiply with ILP 4 alone: 1.069 times the time of ILP 1 for four times the work.
        assert!((knee(1.0, 10.4) - 1.069).abs() < 0.001);
        assert!((knee(2.0, 10.4) - 2.0).abs() < 0.001);
        assert!(knee(1e300, 10.4).is_finite());
    }

    fn want() -> impl Strategy<Value = [f64; 3]> {
        prop::array::uniform3(prop_oneof![Just(0.0), 0.001f64..3.0])
    }

    proptest! {
        #[test]
        fn weights_never_overfill_a_station(w in prop::collection::vec(prop::array::uniform3(0.0f64..1.0), 1..6),
                                            k in prop::collection::vec(0.01f64..100.0, 6)) {
            let mut out = Vec::new();
            fill(&w, &k, &mut out);
            for s in 0..3 {
                let used: f64 = w.iter().zip(&out).map(|(w, p)| w[s] / p.u.max(1.0)).sum();
                prop_assert!(used <= 1.0 + 1e-9, "station {s}: {used}");
            }
        }

        #[test]
        fn no_station_is_over_full(w in prop::collection::vec(want(), 1..6)) {
            let p = run(&w);
            for s in 0..3 {
                let used: f64 = w.iter().zip(&p).map(|(w, p)| w[s] / p.u.max(1.0)).sum();
                prop_assert!(used <= 1.0 + 1e-9, "{s}: {used}");
            }
        }

        #[test]
        fn a_second_kernel_never_helps_the_first(a in want(), b in want()) {
            prop_assert!(run(&[a, b])[0].u >= run(&[a])[0].u - 1e-9);
        }

        #[test]
        fn order_does_not_matter(a in want(), b in want(), c in want()) {
            let (x, y) = (run(&[a, b, c]), run(&[c, a, b]));
            prop_assert!((x[0].u - y[1].u).abs() < 1e-9 && (x[2].u - y[0].u).abs() < 1e-9);
        }

        #[test]
        fn the_knee_only_slows(u in 0.0f64..100.0, p in 1.0f64..50.0) {
            prop_assert!(knee(u, p) >= u.max(1.0) - 1e-9);
            prop_assert!(knee(u * 1.1, p) >= knee(u, p) - 1e-9);
        }
    }
}
