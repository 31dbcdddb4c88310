//! Who gets more of a station that is full: the kernel that came first, and the one with longer accesses.
//!
//! The weight of a kernel is how fast its speed rises while all fill the station up (law `fill`).
//!
//! * *Arithmetic pipes.* The scheduler takes the oldest warp that is ready. A kernel whose warps are always ready
//!   for a pipe, because it fills that pipe alone, keeps it while it is the older one: two fp64 kernels of 97 %
//!   each take 1.03 and 1.97 times as long, and the first to come is the fast one in every repeat (H100 SXM,
//!   `fp64-pipe` ILP 4, 25 of 25). At 73 % each the warps wait for their own results, and both take 1.48 times as
//!   long whoever came first.
//! * *L1 and shared memory.* An access is served in one go, so kernels take turns by access, not by wavefront: the
//!   share is in proportion to the wavefronts of one access (conflict-free 16-byte loads, 4 wavefronts, beside
//!   conflicts of 2 to 32 ways: `c/(c+4)`), times a small advantage of the first (1.25 to 1; H100 SXM,
//!   `smem-bank-conflicts`).

/// A kernel that uses at least this share of a pipe alone is always ready for it.
const FILLS: f64 = 0.9;

/// Odds of the first of two at a station of which it keeps `share`.
fn odds(share: f64) -> f64 {
    let share = share.clamp(0.5, 0.9999);
    share / (1.0 - share)
}

/// Weight at a pipe of which the kernel uses `alone` by itself (0..1).
pub fn at_pipe(alone: f64, came_first: bool, first_share: f64) -> f64 {
    if came_first && alone >= FILLS { odds(first_share) } else { 1.0 }
}

/// Weight at the data path of L1, for accesses of so many 128-byte wavefronts.
pub fn at_l1(wavefronts: f64, came_first: bool, first_share: f64) -> f64 {
    wavefronts.clamp(1e-3, 1e3) * if came_first { odds(first_share) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_a_kernel_that_fills_the_pipe_keeps_it() {
        assert_eq!(at_pipe(0.73, true, 0.97), 1.0);
        assert_eq!(at_pipe(0.97, false, 0.97), 1.0);
        assert!(at_pipe(0.97, true, 0.97) > 30.0);
    }

    #[test]
    fn longer_accesses_get_more() {
        // Clean loads of four wavefronts that came first, beside 32-way conflicts: 0.86 for these measured.
        let (clean, conflicting) = (at_l1(4.0, true, 0.555), at_l1(32.0, false, 0.555));
        assert!((conflicting / (clean + conflicting) - 0.86).abs() < 0.02);
    }

    proptest! {
        #[test]
        fn weights_are_positive_and_finite(a in 0.0f64..2.0, w in 0.0f64..1e9, s in 0.0f64..2.0, f: bool) {
            for x in [at_pipe(a, f, s), at_l1(w, f, s)] {
                prop_assert!(x.is_finite() && x > 0.0);
            }
        }

        #[test]
        fn coming_first_never_hurts(a in 0.0f64..1.0, w in 0.1f64..64.0, s in 0.5f64..1.0) {
            prop_assert!(at_pipe(a, true, s) >= at_pipe(a, false, s));
            prop_assert!(at_l1(w, true, s) >= at_l1(w, false, s));
        }
    }
}
