//! The experiments that come with the binary, so that `cotenant run issue-slots` works anywhere.

/// An experiment file of `experiments/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// File stem; also the experiment's name.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
}

macro_rules! embed {
    ($($name:literal),* $(,)?) => {
        &[$(BuiltIn {
            name: $name,
            text: include_str!(concat!("../../../experiments/", $name, ".toml")),
        }),*]
    };
}

/// All built-in experiments: the quickstart, then the paper's in its order, then those beyond it.
pub fn builtin() -> &'static [BuiltIn] {
    embed!(
        "quickstart",
        "serving-quickstart",
        "pitfall-nvml",
        "pitfall-orion",
        "pitfall-usher",
        "block-scheduler",
        "l2-size",
        "dram-mps",
        "dram-green",
        "l1-size",
        "issue-slots",
        "fp64-pipe",
        "gemm",
        "register-hol",
        "smem-bank-conflicts",
        "tensor-tensor",
        "tensor-copy",
        "int-fp32",
        "atomics",
        "launch-hog",
        "copies-compute",
        "priority-length",
        "mode-matrix",
        "models-solo",
        "models-host",
        "models-pairs",
        "models-pairs-processes",
        "models-mixes",
        "models-scaling",
        "models-roles",
        "models-sharing",
        "models-saturation",
        "models-dram",
        "models-prefill-decode",
        "models-graphs",
        "models-load",
        "models-bursty",
        "models-stressors",
        "servers-regimes",
        "servers-neighbours",
        "servers-loads",
        "servers-adapters",
    )
}

/// The built-in experiment of that name.
pub fn find(name: &str) -> Option<&'static BuiltIn> {
    builtin().iter().find(|b| b.name == name)
}
