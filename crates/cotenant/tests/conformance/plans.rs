//! Sharing modes for two tenants, and trials made of small experiment files.

use cotenant_lab::backend::Backend;
use cotenant_spec::Spec;
use cotenant_spec::plan::{Plan, Sharing, TrialPlan};

pub fn solo() -> Sharing {
    Sharing::Solo
}
pub fn sequential() -> Sharing {
    Sharing::Sequential
}
pub fn streams() -> Sharing {
    Sharing::Streams { priority: Vec::new() }
}
pub fn streams_priority() -> Sharing {
    Sharing::Streams { priority: vec![-5, 0] }
}
pub fn processes() -> Sharing {
    Sharing::Processes
}
pub fn mps() -> Sharing {
    Sharing::Mps { percentage: Vec::new(), priority: Vec::new(), pinned_memory: Vec::new() }
}
pub fn mps_priority() -> Sharing {
    Sharing::Mps { percentage: Vec::new(), priority: vec![0, 1], pinned_memory: Vec::new() }
}
pub fn mps_halves() -> Sharing {
    Sharing::Mps { percentage: vec![50.0, 50.0], priority: Vec::new(), pinned_memory: Vec::new() }
}
pub fn mps_unequal() -> Sharing {
    Sharing::Mps { percentage: vec![75.0, 25.0], priority: Vec::new(), pinned_memory: Vec::new() }
}
/// Asks for numbers that no granularity divides.
pub fn green() -> Sharing {
    Sharing::Green { sms: vec![33, 65], priority: Vec::new() }
}

/// All of them.
pub fn all() -> Vec<Sharing> {
    vec![
        solo(),
        sequential(),
        streams(),
        streams_priority(),
        processes(),
        mps(),
        mps_priority(),
        mps_halves(),
        mps_unequal(),
        green(),
    ]
}

/// Whether the mode has a phase in which the tenants run together.
pub fn shares(sharing: &Sharing) -> bool {
    !matches!(sharing, Sharing::Solo | Sharing::Sequential)
}

/// Two small kernels of known length that need few SMs: 8 and 4 launches of 1 and 2 ms.
pub const SPINS: &str = r#"
[tenants.a]
kernel = "spin"
blocks = 16
threads = 128
params = { ns = "1ms" }
iterations = 1
launches = 8

[tenants.b]
kernel = "spin"
blocks = 8
threads = 64
params = { ns = "2ms" }
iterations = 1
launches = 4

[[trial]]
name = "pair"
sharing = "streams"
tenants = ["a", "b"]
"#;

/// An experiment of which `body` gives tenants and trials.
pub fn plan(b: &dyn Backend, body: &str) -> Plan {
    let text = format!(
        "format = 1\nname = \"conformance\"\ntitle = \"t\"\nsummary = \"s\"\n\n[measure]\nrepeats = [3, 3]\n\
         precision = 0.5\nbudget = \"20s\"\nwarmup = 1\nsetups = 1\n{body}"
    );
    Spec::parse(&text, "conformance.toml")
        .and_then(|s| s.resolve(b.sizes(), &[]))
        .unwrap_or_else(|e| panic!("failed to {e}"))
}

/// The one trial of such an experiment, under a sharing mode.
pub fn trial(b: &dyn Backend, body: &str, sharing: &Sharing) -> TrialPlan {
    let mut trials = plan(b, body).trials;
    assert_eq!(trials.len(), 1);
    let mut t = trials.remove(0);
    t.sharing = sharing.clone();
    t
}
