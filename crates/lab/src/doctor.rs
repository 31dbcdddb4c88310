//! What this machine has and lacks, per sharing mode and per measurement, and what to do about each lack.

use cotenant_gpu::context::{Context, GreenContext};
use cotenant_gpu::driver;
use cotenant_gpu::mps;
use cotenant_gpu::nvml::Monitor;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How a finding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Works.
    Ok,
    /// Works, with something to know.
    Note,
    /// Absent; what needs it is skipped.
    Missing,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// `gpu`, `sharing`, `measurement` or `tenants`.
    pub area: String,
    /// What was looked at.
    pub item: String,
    /// How it stands.
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// What to do; empty where nothing needs doing.
    pub remedy: String,
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, area: &str, item: &str, status: Status, detail: impl Into<String>, remedy: &str) {
        self.0.push(Finding {
            area: area.into(),
            item: item.into(),
            status,
            detail: detail.into(),
            remedy: remedy.into(),
        });
    }
    fn ok(&mut self, area: &str, item: &str, detail: impl Into<String>) {
        self.add(area, item, Status::Ok, detail, "");
    }
    fn missing(&mut self, area: &str, item: &str, detail: impl Into<String>, remedy: &str) {
        self.add(area, item, Status::Missing, detail, remedy);
    }
}

const SIMULATE: &str = "use --device sim:CARD, where every mode but MIG works";
const GPU: &str = "gpu";
const SHARING: &str = "sharing";
const MEASUREMENT: &str = "measurement";
const TENANTS: &str = "tenants";

/// Looks at everything. Never fails: what cannot be looked at is a finding.
pub fn examine() -> Vec<Finding> {
    let mut f = Findings(Vec::new());
    let gpus = drivers(&mut f);
    let monitor = Monitor::load();
    devices(&mut f, gpus, monitor.as_ref().ok());
    sharing_modes(&mut f, gpus, monitor.as_ref().ok());
    measurements(&mut f, monitor.as_ref());
    tenants(&mut f);
    f.0
}

/// Which package of a Python has which version, a line each. Importing torch would take seconds.
const VERSIONS: &str = "import platform\nfrom importlib.metadata import PackageNotFoundError, version\n\
    print('python', platform.python_version())\n\
    for name in ('torch', 'transformers'):\n\
    \x20   try:\n        print(name, version(name))\n\
    \x20   except PackageNotFoundError:\n        pass\n";

/// What model tenants and Python programs need.
fn tenants(f: &mut Findings) {
    let told = std::process::Command::new("python3")
        .args(["-c", VERSIONS])
        .stdin(std::process::Stdio::null())
        .output();
    let text = match &told {
        Ok(o) if o.status.success() => String::from_utf8_lossy(&o.stdout).into_owned(),
        _ => String::new(),
    };
    let version =
        |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
    match version("python") {
        Some(v) => f.ok(TENANTS, "python3", v),
        None => f.missing(
            TENANTS,
            "python3",
            "does not run",
            "install Python 3.9 or newer, or name an interpreter with `python` in the experiment; programs in other \
             languages need none",
        ),
    }
    for name in ["torch", "transformers"] {
        match version(name) {
            Some(v) => f.ok(TENANTS, name, v),
            None => f.missing(
                TENANTS,
                name,
                "python3 has no such package",
                "install torch and transformers for model tenants, or name an interpreter that has them with `python`",
            ),
        }
    }
}

fn drivers(f: &mut Findings) -> u32 {
    if !driver::present() {
        f.missing(
            GPU,
            "driver",
            "libcuda.so.1 cannot be loaded",
            "install the NVIDIA driver (525 or newer for these kernels); without one use --device sim:CARD",
        );
        return 0;
    }
    match driver::cuda_version().and_then(|v| Ok((v, driver::device_count()?))) {
        Ok(((major, minor), n)) => {
            let version = format!("CUDA {major}.{minor}");
            if major < 12 {
                f.add(
                    GPU,
                    "driver",
                    Status::Note,
                    version,
                    "the PTX here needs CUDA 12.0: install driver 525 or newer",
                );
            } else {
                f.ok(GPU, "driver", version);
            }
            if n == 0 {
                f.missing(
                    GPU,
                    "GPUs",
                    "the driver shows none",
                    "check CUDA_VISIBLE_DEVICES and `nvidia-smi`",
                );
            }
            n
        }
        Err(e) => {
            f.missing(GPU, "driver", e.to_string(), "check `nvidia-smi`, the kernel module and /dev/nvidia*");
            0
        }
    }
}

fn devices(f: &mut Findings, gpus: u32, monitor: Option<&Monitor>) {
    for i in 0..gpus {
        match driver::device_info(i) {
            Ok(d) => {
                let item = format!("cuda:{i}");
                f.ok(
                    GPU,
                    &item,
                    format!(
                        "{}, capability {}.{}, {}, L2 {}, L1 {} per SM, memory {}",
                        d.name, d.capability.0, d.capability.1, d.sms, d.l2, d.l1, d.memory
                    ),
                );
                let inventory = monitor.and_then(|m| m.inventory(m.index_of(&d.uuid)?).ok());
                if let Some(inv) = inventory {
                    let state = format!(
                        "compute mode {}, persistence {}, power limit {}, {} other processes",
                        inv.compute_mode.as_deref().unwrap_or("unknown"),
                        inv.persistence.map_or("unknown", |p| if p { "on" } else { "off" }),
                        inv.power_limit_w.map_or("unknown".into(), |w| format!("{w:.0} W")),
                        inv.processes.len()
                    );
                    if inv.processes.is_empty() {
                        f.ok(GPU, &format!("{item} state"), state);
                    } else {
                        let advice = "other processes share this GPU: measurements will include them";
                        f.add(GPU, &format!("{item} state"), Status::Note, state, advice);
                    }
                }
            }
            Err(e) => f.missing(GPU, &format!("cuda:{i}"), e.to_string(), "check `nvidia-smi`"),
        }
    }
    let cards = cotenant_model::builtin_names().join(", ");
    f.ok(GPU, "simulated GPUs", format!("always there: --device sim:CARD with {cards}"));
}

fn sharing_modes(f: &mut Findings, gpus: u32, monitor: Option<&Monitor>) {
    if gpus == 0 {
        for item in ["solo, sequential, streams, processes", "green contexts"] {
            f.missing(SHARING, item, "no GPU", SIMULATE);
        }
    } else {
        f.ok(SHARING, "solo, sequential, streams, processes", "need nothing but the driver");
        green(f);
    }
    mig(f, gpus, monitor);
    match mps::control_program() {
        Some(p) => f.ok(SHARING, "MPS control program", p.display().to_string()),
        None => f.missing(
            SHARING,
            "MPS control program",
            format!("`{}` is not on PATH", mps::CONTROL),
            "install the driver's compute utilities (nvidia-compute-utils on Debian and Ubuntu)",
        ),
    }
    match mps::running_daemon() {
        Some(d) => f.add(
            SHARING,
            "MPS daemon already running",
            Status::Note,
            format!("one answers at {}", d.display()),
            "runs start a daemon of their own beside it; --join-mps joins this one instead",
        ),
        None => f.ok(SHARING, "MPS daemon already running", "none; runs start their own and stop it"),
    }
}

fn green(f: &mut Findings) {
    // Asking for one SM shows the granularity; nothing is launched.
    match Context::primary(0).and_then(|c| GreenContext::split(&c, &[1])) {
        Ok(g) => {
            let least = g.first().map_or(0, |g| g.sms().0);
            f.ok(SHARING, "green contexts", format!("work; the least grant is {least} SMs"));
        }
        Err(e) => f.missing(SHARING, "green contexts", e.to_string(), "need driver 550 or newer"),
    }
}

/// NVML knows of instances whatever CUDA shows: `CUDA_VISIBLE_DEVICES` may hide a GPU whose instances can be used.
fn mig(f: &mut Findings, gpus: u32, monitor: Option<&Monitor>) {
    if gpus == 0 && monitor.is_none_or(|m| m.count().unwrap_or(0) == 0) {
        return f.missing(SHARING, "MIG", "no GPU", SIMULATE);
    }
    let Some(m) = monitor else {
        return f.missing(
            SHARING,
            "MIG",
            "NVML is absent, so instances cannot be discovered",
            "install NVML",
        );
    };
    let inventories: Vec<_> = (0..m.count().unwrap_or(0)).filter_map(|i| m.inventory(i).ok()).collect();
    let instances: Vec<_> = inventories.iter().flat_map(|i| &i.mig_instances).collect();
    if !instances.is_empty() {
        let list =
            instances.iter().map(|i| format!("{} ({})", i.uuid, i.name)).collect::<Vec<_>>().join(", ");
        return f.ok(SHARING, "MIG", list);
    }
    match inventories.iter().find_map(|i| i.mig) {
        None => {
            f.missing(SHARING, "MIG", "this GPU has none", "MIG needs an A100, H100 or newer data-centre GPU")
        }
        Some(on) => f.missing(
            SHARING,
            "MIG",
            format!("mode {}, no instances", if on { "on" } else { "off" }),
            "the owner of the machine may create instances (`nvidia-smi mig`); cotenant never does",
        ),
    }
}

fn measurements(f: &mut Findings, monitor: Result<&Monitor, &cotenant_gpu::Error>) {
    match monitor {
        Ok(m) => {
            let v = m.driver_version().unwrap_or_else(|_| "unknown".into());
            f.ok(MEASUREMENT, "NVML", format!("driver {v}: clocks, power, temperature, throttle reasons"));
            let gpm = (0..m.count().unwrap_or(0)).any(|i| m.inventory(i).is_ok_and(|i| i.gpm));
            if gpm {
                f.ok(MEASUREMENT, "NVML GPM", "supported: SM, occupancy, DRAM and pipe utilisation without ncu");
            } else {
                f.missing(MEASUREMENT, "NVML GPM", "not supported here", "needs Hopper or newer");
            }
        }
        Err(e) => f.missing(
            MEASUREMENT,
            "NVML",
            e.to_string(),
            "install the driver's libnvidia-ml.so.1; without it clocks come from the kernels' own stamps only",
        ),
    }
    match find_program("ncu", &["/usr/local/cuda/bin", "/opt/nvidia/nsight-compute"]) {
        Some(p) => f.ok(MEASUREMENT, "ncu", p.display().to_string()),
        None => {
            f.missing(MEASUREMENT, "ncu", "not on PATH", "install Nsight Compute (package nsight-compute)")
        }
    }
    counters(f);
    let libraries: [(&str, &[&str], &str); 3] = [
        (
            "CUPTI",
            &["libcupti.so.13", "libcupti.so.12", "libcupti.so"],
            "comes with the CUDA toolkit (cuda-cupti)",
        ),
        (
            "NVRTC",
            &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"],
            "comes with the CUDA toolkit; nothing here needs it yet",
        ),
        (
            "cuBLAS",
            &["libcublas.so.13", "libcublas.so.12", "libcublas.so"],
            "for the GEMM experiment; COTENANT_CUBLAS=/path/to/libcublas.so names one outside the loader's path",
        ),
    ];
    for (item, names, remedy) in libraries {
        match names.iter().find(|n| cotenant_gpu::library_loads(n)) {
            Some(n) => f.ok(MEASUREMENT, item, *n),
            None => f.missing(MEASUREMENT, item, format!("none of {} loads", names.join(", ")), remedy),
        }
    }
}

/// Whether this user may read performance counters.
fn counters(f: &mut Findings) {
    let item = "performance counters";
    let params = std::fs::read_to_string("/proc/driver/nvidia/params").unwrap_or_default();
    let admin_only = params.lines().find_map(|l| l.strip_prefix("RmProfilingAdminOnly: ")).map(str::trim);
    let root = rustix::process::geteuid().is_root();
    match (admin_only, root) {
        (None, _) => f.missing(MEASUREMENT, item, "no NVIDIA kernel module", "needs a GPU and its driver"),
        (Some("0"), _) => f.ok(MEASUREMENT, item, "open to all users"),
        (Some(_), true) => f.ok(MEASUREMENT, item, "for administrators only; this user is one"),
        (Some(_), false) => f.missing(
            MEASUREMENT,
            item,
            "for administrators only, and this user is none",
            "run ncu as root, or load the module with NVreg_RestrictProfilingToAdminUsers=0",
        ),
    }
}

fn find_program(name: &str, more: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(more.iter().map(PathBuf::from))
        .map(|d| d.join(name))
        .find(|p| Path::is_file(p))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lack_comes_with_a_remedy() {
        let all = examine();
        assert!(all.iter().any(|f| f.area == SHARING) && all.iter().any(|f| f.area == MEASUREMENT));
        for f in &all {
            assert!(!f.detail.is_empty(), "{f:?}");
            assert!(f.status != Status::Missing || !f.remedy.is_empty(), "{f:?}");
        }
    }
}
