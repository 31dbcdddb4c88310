//! Devices to resolve on, good files in which each test breaks one thing, and how their errors are held.

use cotenant_spec::plan::{DeviceSizes, KernelPlan, TenantPlan};
use cotenant_spec::{Spec, SpecError};
use cotenant_units::Bytes;

pub fn h100() -> DeviceSizes {
    DeviceSizes {
        name: "NVIDIA H100 80GB HBM3".into(),
        sms: 132,
        l2: Bytes::mib(50),
        l1: Bytes::kib(256),
        dram: Bytes::gib(79),
        smem: Bytes::kib(227),
        max_threads: 1024,
        sm_granularity: 8,
        capability: (9, 0),
    }
}

pub fn a100() -> DeviceSizes {
    DeviceSizes {
        name: "NVIDIA A100-SXM4-40GB".into(),
        sms: 108,
        l2: Bytes::mib(40),
        l1: Bytes::kib(192),
        dram: Bytes::gib(39),
        smem: Bytes::kib(163),
        max_threads: 1024,
        sm_granularity: 2,
        capability: (8, 0),
    }
}

pub fn small() -> DeviceSizes {
    DeviceSizes {
        name: "a small card".into(),
        sms: 20,
        l2: Bytes::mib(2),
        l1: Bytes::kib(128),
        dram: Bytes(7_812_345_678),
        smem: Bytes::kib(99),
        max_threads: 1024,
        sm_granularity: 2,
        capability: (8, 6),
    }
}

pub fn cards() -> [DeviceSizes; 3] {
    [h100(), a100(), small()]
}

/// A small file in which each test breaks one thing.
pub const GOOD: &str = r#"format = 1
name = "pair"
title = "A pair"
summary = "A copy beside a multiply kernel."

[measure]
repeats = [3, 5]

[tenants.copy]
kernel = "copy"
blocks = "sms/2"
threads = 1024
params = { bytes = "0.1*l2" }
duration = "20ms"

[tenants.mul]
kernel = "fp32-mul"
blocks = "sms"
threads = 128
params = { ilp = "ilp" }
iterations = 4000

[[trial]]
name = "mps-{ilp}"
series = "copy + multiply"
sharing = { mode = "mps", percentage = [50, 50], priority = [0, 1] }
tenants = ["copy", "mul"]
sweep = { ilp = [1, 2] }
x = "ilp"
reference = [{ source = "paper", metric = "slowdown.copy", values = [1.1, 1.2] }]

[[figure]]
kind = "bars"
metric = "slowdown.copy"
x_label = "ILP"
y_label = "slowdown"
"#;

/// The kernel of a kernel tenant.
pub fn kernel(t: &TenantPlan) -> &KernelPlan {
    t.kernel().expect("a kernel tenant")
}

/// The same with a tenant of each kind but kernels, and one kernel that no trial uses.
pub const MODELS: &str = r#"format = 1
name = "models"
title = "Models and a program"
summary = "An encoder and a decoder beside a program."

[tenants.small]
torch = "distilbert"
iterations = 50

[tenants.large]
torch = "llama-3.2-3b"
mode = "decode"
sequence = 512
tokens = 64

[tenants.mine]
command = ["python3", "mine.py"]
env = { OMP_NUM_THREADS = "4" }

[tenants.stress]
kernel = "copy"
params = { bytes = "1GiB" }
duration = "5ms"

[[trial]]
name = "together"
sharing = { mode = "mps", percentage = 50 }
tenants = ["small", "large", "mine"]

[[figure]]
kind = "kde"
trials = ["together"]
"#;

/// The error that a file, with overrides, gives on an H100.
#[track_caller]
pub fn error_of(text: &str, overrides: &[(&str, &str)]) -> SpecError {
    let overrides: Vec<(String, String)> =
        overrides.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    match Spec::parse(text, "pair.toml").and_then(|s| s.resolve(&h100(), &overrides)) {
        Ok(_) => panic!("the file was accepted"),
        Err(e) => e,
    }
}

/// One test for each error, held against its snapshot.
macro_rules! cases {
    ($($name:ident: $error:expr;)*) => {
        $(#[test]
        fn $name() {
            insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
                insta::assert_snapshot!(stringify!($name), $error.to_string());
            });
        })*
    };
}
pub(crate) use cases;
