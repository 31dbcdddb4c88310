//! One suite for every sharing mode on every backend: what a trial's numbers rest on, whatever made them.
//!
//! The checks in `checks.rs` know no backend. Here each is run in each sharing mode on the simulated GPU, and, ignored
//! where there is none, on a real one: `scripts/gpu-tests.sh`.

mod checks;
mod device;
mod plans;

use cotenant_lab::backend::{Backend, TrialError};
use cotenant_spec::plan::Sharing;

/// The sharing modes with two tenants each, as `name => Sharing`, and the tests of one check in all of them.
macro_rules! in_every_mode {
    ($($check:ident)*) => {$(
        mod $check {
            in_every_mode!(@modes $check, solo sequential streams streams_priority processes mps mps_priority mps_halves
                mps_unequal green);
        }
    )*};
    (@modes $check:ident, $($mode:ident)*) => {
        mod simulated {$(
            #[test]
            fn $mode() {
                $crate::checks::$check(&mut *$crate::device::simulated(), &$crate::plans::$mode());
            }
        )*}
        mod real {$(
            #[test]
            #[ignore = "needs a GPU: scripts/gpu-tests.sh"]
            fn $mode() {
                $crate::checks::$check(&mut *$crate::device::real(), &$crate::plans::$mode());
            }
        )*}
    };
}

in_every_mode! {
    grants_are_complete_and_sane
    a_solo_phase_has_one_tenant_and_ordered_spans
    sequential_spans_do_not_overlap
    all_launches_of_the_fixed_protocol_are_there
    steady_counts_only_shared_launches
    twice_the_turns_take_twice_the_time
    known_sleeps_are_measured_back
    small_kernels_overlap_or_take_turns
    a_kernel_too_large_fails_and_the_next_trial_works
}

/// A check that is no matter of the mode, or of one mode only.
macro_rules! once {
    ($($check:ident)*) => {$(
        mod $check {
            #[test]
            fn simulated() {
                crate::checks::$check(&mut *crate::device::simulated());
            }
            #[test]
            #[ignore = "needs a GPU: scripts/gpu-tests.sh"]
            fn real() {
                crate::checks::$check(&mut *crate::device::real());
            }
        }
    )*};
}

once! {
    stream_priorities_order
    mps_priorities_order
    a_mig_trial_without_instances_is_unavailable
    a_whole_gpu_baseline_is_faster_than_a_half
    a_trial_after_every_other_mode_works
}

#[test]
fn a_simulated_trial_is_decided_by_its_seed() {
    let run = |seed: u64, sharing: &Sharing| {
        let mut b = device::simulated();
        b.set_seed(seed);
        checks::three_repeats(&mut *b, sharing)
    };
    for sharing in plans::all() {
        assert_eq!(run(1, &sharing), run(1, &sharing), "{sharing:?}");
        assert_ne!(run(1, &sharing), run(2, &sharing), "{sharing:?}: the seed changes nothing");
    }
}

#[test]
fn an_interrupt_ends_a_simulated_phase() {
    use std::sync::atomic::Ordering;
    let (mut b, interrupted) = device::interruptible();
    let plan = plans::trial(&b, plans::SPINS, &plans::streams());
    let mut session = b.open(&plan, 0).expect("a session");
    interrupted.store(true, Ordering::Relaxed);
    assert_eq!(session.run(cotenant_lab::backend::Phase::Shared), Err(TrialError::Interrupted));
}
