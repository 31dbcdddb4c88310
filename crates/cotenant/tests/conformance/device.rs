//! The backends that the suite runs on.

use cotenant_lab::backend::Backend;
use cotenant_lab::cuda::{CudaBackend, Options};
use cotenant_lab::simulated::SimBackend;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The simulated GPU.
pub fn simulated() -> Box<dyn Backend> {
    Box::new(interruptible().0)
}

/// The simulated GPU with the flag that a Ctrl-C would set.
pub fn interruptible() -> (SimBackend, Arc<AtomicBool>) {
    let card = cotenant_model::builtin("h100-sxm5-80gb").expect("a built-in card");
    let interrupted = Arc::new(AtomicBool::new(false));
    (SimBackend::new(card, interrupted.clone()), interrupted)
}

/// The first real GPU. Its workers are the program that `COTENANT_WORKER_EXE` names.
pub fn real() -> Box<dyn Backend> {
    assert!(
        std::env::var_os("COTENANT_WORKER_EXE").is_some(),
        "COTENANT_WORKER_EXE must name the cotenant program: this test binary is none. scripts/gpu-tests.sh sets it"
    );
    let b = CudaBackend::open(Options::default(), Arc::new(AtomicBool::new(false))).expect("a GPU");
    Box::new(b)
}
