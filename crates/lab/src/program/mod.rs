//! Models and programs as tenants: their processes, what is said to them and heard from them, and their phases.

mod cores;
mod crew;
pub mod lines;
mod process;
mod session;
mod tracer;
mod troupe;

pub use cores::HostTime;
pub use crew::Kernels;
pub(crate) use process::describe;
pub use session::ProgramSession;
pub use troupe::{Order, Part, Troupe};

/// The Python side, as shipped.
const FILES: [(&str, &str); 4] = [
    ("cotenant.py", include_str!("../../../../tenants/cotenant.py")),
    ("torch_model.py", include_str!("../../../../tenants/torch_model.py")),
    ("torch_worker.py", include_str!("../../../../tenants/torch_worker.py")),
    ("models.json", cotenant_spec::models::TEXT),
];

/// The helper module for Python programs, as text.
pub fn helper() -> &'static str {
    FILES[0].1
}

/// Now on `CLOCK_MONOTONIC`, ns: the clock of the protocol.
pub fn monotonic_ns() -> u64 {
    crate::clock::ns(rustix::time::ClockId::Monotonic)
}
