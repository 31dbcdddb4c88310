//! Issue slots: always-ready warps take what they want, waiting ones get the remainder (research §3.4).
//!
//! A kernel is *always ready* if at least half of the time of an iteration is arithmetic rather than waiting for
//! memory or sleeping. Among always-ready kernels the slots are shared in proportion (law `fill`). A waiting kernel
//! sees two effects: the slots left over are fewer, and each of its instructions waits for a free one, which costs
//! `w·ρ/(1-ρ)` cycles of latency with `ρ` the utilisation by always-ready kernels.
//!
//! Check: a copy that issues 0.61 instructions per cycle beside a multiply at 3.45 runs 0.61/0.55 = 1.11 times as
//! long (H100 SXM: 1.11); beside one at 4.0 it stands still until that ends (H100 SXM: 372 ms for 373 in sequence).

/// Whether a kernel counts as always ready.
///
/// `busy` is the part of an iteration spent on arithmetic or on stations of the SM, `waiting` the part spent on
/// memory beyond L1 or asleep; same unit.
pub fn always_ready(busy: f64, waiting: f64) -> bool {
    busy > 0.0 && busy >= waiting
}

/// Share of the issue slots left to waiting kernels where always-ready ones use `used` (0..1) of them. `hog_share`
/// bounds what these can take, so that the rest is never nothing.
pub fn left(used: f64, hog_share: f64) -> f64 {
    (1.0 - used.clamp(0.0, 1.0)).max(1.0 - hog_share).max(1e-4)
}

/// Cycles that one instruction of a waiting kernel waits for a slot beyond its own.
pub fn wait_cycles(used: f64, hog_share: f64, wait_factor: f64) -> f64 {
    let left = left(used, hog_share);
    wait_factor * (1.0 - left) / left
}

/// Share of its time by which a kernel that uses the share `own` of the slots takes longer because a slot that one
/// of its instructions wants is taken by another kernel, which uses the share `others`:
/// `c·own·others·(1 - own²)`.
///
/// An instruction finds the slot taken with probability `others`; the more instructions the kernel itself has ready
/// (large `own`), the less a single one that waits costs. fp64 instructions do not count in `own`: two fp64 kernels
/// of 13 and 25 % of the slots each take 1.00 and 1.01 times as long (H100 SXM, `fp64-pipe`), two fp32 kernels of
/// 26 % 1.23. `c` is fitted (card, `contention.issue_collision`).
pub fn collisions(c: f64, own: f64, others: f64) -> f64 {
    let own = own.clamp(0.0, 1.0);
    c * own * others.clamp(0.0, 1.0) * (1.0 - own * own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn arithmetic_is_ready_and_memory_waits() {
        assert!(always_ready(256.0, 0.0));
        assert!(!always_ready(20.0, 1100.0));
        assert!(!always_ready(0.0, 0.0));
    }

    #[test]
    fn the_remainder() {
        assert!((left(3.45 / 4.0, 1.0) * 4.0 - 0.55).abs() < 1e-12);
        assert!((left(1.0, 0.99) - 0.01).abs() < 1e-12);
        assert!(left(1.0, 1.0) > 0.0);
        assert_eq!(left(0.0, 0.99), 1.0);
    }

    #[test]
    fn collisions_cost_little_at_the_ends() {
        assert_eq!(collisions(1.45, 1.0, 0.5), 0.0);
        assert_eq!(collisions(1.45, 0.5, 0.0), 0.0);
        // Multiply of ILP 2 beside a copy: 1.07 measured.
        assert!((collisions(1.45, 0.48, 0.11) - 0.059).abs() < 0.01);
    }

    proptest! {
        #[test]
        fn more_hogging_leaves_less_and_waits_longer(a in 0.0f64..1.0, d in 0.0f64..1.0, h in 0.0f64..=1.0) {
            let b = (a + d).min(1.0);
            prop_assert!(left(b, h) <= left(a, h));
            prop_assert!(wait_cycles(b, h, 0.5) >= wait_cycles(a, h, 0.5));
            prop_assert!(wait_cycles(a, h, 0.5) >= 0.0);
        }
    }
}
