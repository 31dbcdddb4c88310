//! NVML, loaded, and what it says of the GPUs of a machine.

use super::sampler::Sampler;
use crate::error::Result;
use nvml_wrapper::enum_wrappers::device::Clock;
use nvml_wrapper::{Device, Nvml};
use std::ffi::OsStr;

/// NVML, loaded.
#[derive(Debug)]
pub struct Monitor {
    nvml: Nvml,
}

/// One reading. `None` where this GPU or driver does not tell.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// SM clock, MHz.
    pub sm_clock_mhz: Option<u32>,
    /// Memory clock, MHz.
    pub memory_clock_mhz: Option<u32>,
    /// Power as `nvidia-smi` prints it, W. From Ampere on the driver averages it over the last second (but for GA100,
    /// where it is of the moment).
    pub power_w: Option<f64>,
    /// Power at the moment, W; on an H100 the mean of about 20 ms in every 100 ms.
    pub power_instant_w: Option<f64>,
    /// Temperature, °C.
    pub temperature_c: Option<u32>,
    /// Throttle reasons in force, other than idle and application-clock settings.
    pub throttle: Vec<&'static str>,
    /// Share of the last sampling period in which a kernel ran, percent (`nvidia-smi`'s figure).
    pub utilization_pct: Option<u32>,
    /// Device memory in use, bytes.
    pub memory_used: Option<u64>,
}

/// One MIG instance.
#[derive(Debug, Clone, PartialEq)]
pub struct MigInstance {
    /// `MIG-…` UUID: what `CUDA_VISIBLE_DEVICES` takes.
    pub uuid: String,
    /// Name, for example `NVIDIA H100 80GB HBM3 MIG 1g.10gb`.
    pub name: String,
    /// Memory, bytes.
    pub memory: Option<u64>,
    /// Of that in use now, bytes.
    pub memory_used: Option<u64>,
}

/// What NVML says of one GPU that does not change while a run lasts.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    /// Name.
    pub name: String,
    /// UUID.
    pub uuid: String,
    /// Highest SM clock, MHz.
    pub max_sm_clock_mhz: Option<u32>,
    /// Highest memory clock, MHz.
    pub max_memory_clock_mhz: Option<u32>,
    /// Power limit in force, W.
    pub power_limit_w: Option<f64>,
    /// MIG mode: `Some(true)` on, `None` where the GPU has no MIG.
    pub mig: Option<bool>,
    /// MIG instances that exist now.
    pub mig_instances: Vec<MigInstance>,
    /// GPM metrics supported.
    pub gpm: bool,
    /// Compute mode, NVML's word (`Default`, `ExclusiveProcess`, …).
    pub compute_mode: Option<String>,
    /// Persistence mode.
    pub persistence: Option<bool>,
    /// Processes with a context on the GPU now: `(pid, name)`.
    pub processes: Vec<(u32, String)>,
}

impl Monitor {
    /// Loads NVML. `COTENANT_NVML` names another library file (a fake in tests).
    ///
    /// # Errors
    /// [`crate::Error::Nvml`] where the library is absent or does not initialise.
    pub fn load() -> Result<Monitor> {
        let path = std::env::var_os("COTENANT_NVML");
        Self::load_from(path.as_deref())
    }

    /// Loads NVML from a given file, or from the usual place.
    pub fn load_from(path: Option<&OsStr>) -> Result<Monitor> {
        let nvml = match path {
            Some(p) => Nvml::builder().lib_path(p).init()?,
            None => {
                Nvml::builder().lib_path(OsStr::new("libnvidia-ml.so.1")).init().or_else(|_| Nvml::init())?
            }
        };
        Ok(Monitor { nvml })
    }

    /// Driver version, for example `580.159.04`.
    pub fn driver_version(&self) -> Result<String> {
        Ok(self.nvml.sys_driver_version()?)
    }

    /// Number of GPUs.
    pub fn count(&self) -> Result<u32> {
        Ok(self.nvml.device_count()?)
    }

    /// The standing facts of GPU `index` (NVML's order).
    pub fn inventory(&self, index: u32) -> Result<Inventory> {
        let d = self.nvml.device_by_index(index)?;
        Ok(Inventory {
            name: d.name()?,
            uuid: d.uuid()?,
            max_sm_clock_mhz: d.max_clock_info(Clock::SM).ok(),
            max_memory_clock_mhz: d.max_clock_info(Clock::Memory).ok(),
            power_limit_w: d.enforced_power_limit().ok().map(|mw| f64::from(mw) / 1e3),
            mig: d.mig_mode().ok().map(|m| m.current != 0),
            mig_instances: mig_instances(&d),
            gpm: d.gpm_support().unwrap_or(false),
            compute_mode: d.compute_mode().ok().map(|m| format!("{m:?}")),
            persistence: d.is_in_persistent_mode().ok(),
            processes: d
                .running_compute_processes()
                .unwrap_or_default()
                .into_iter()
                .map(|p| (p.pid, self.nvml.sys_process_name(p.pid, 120).unwrap_or_else(|_| "unknown".into())))
                .collect(),
        })
    }

    /// NVML index of the GPU with this UUID.
    pub fn index_of(&self, uuid: &str) -> Option<u32> {
        (0..self.count().ok()?).find(|&i| {
            self.nvml.device_by_index(i).and_then(|d| d.uuid()).is_ok_and(|u| u.eq_ignore_ascii_case(uuid))
        })
    }

    /// Reads GPU `index` once.
    ///
    /// # Errors
    /// There is no such GPU.
    pub fn read(&self, index: u32) -> Result<Reading> {
        let s = self.sampler(index)?;
        Ok(Reading { memory_used: s.memory_used(), ..s.read() })
    }

    /// For many readings of GPU `index`.
    ///
    /// # Errors
    /// There is no such GPU.
    pub fn sampler(&self, index: u32) -> Result<Sampler<'_>> {
        Ok(Sampler::new(&self.nvml, self.nvml.device_by_index(index)?))
    }
}

fn mig_instances(d: &Device<'_>) -> Vec<MigInstance> {
    let n = d.mig_device_count().unwrap_or(0);
    (0..n)
        .filter_map(|i| d.mig_device_by_index(i).ok())
        .filter_map(|m| {
            let memory = m.memory_info().ok();
            Some(MigInstance {
                uuid: m.uuid().ok()?,
                name: m.name().unwrap_or_else(|_| "MIG instance".into()),
                memory: memory.as_ref().map(|i| i.total),
                memory_used: memory.as_ref().map(|i| i.used),
            })
        })
        .collect()
}
