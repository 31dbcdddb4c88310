//! Devices to resolve on.

use cotenant_spec::plan::{DeviceSizes, KernelPlan, TenantPlan};
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
