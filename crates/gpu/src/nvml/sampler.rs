//! Readings of one GPU again and again, in groups by what they cost.
//!
//! What the calls cost on an H100 (driver 580; `examples/nvml-calls.rs` measures it): the values of [`Sampler::read`]
//! about 1 µs each, since the driver keeps them in shared memory and renews them every 100 ms; memory 6 to 14 µs;
//! processes 20 to 45 µs; a GPM snapshot 40 to 110 µs; the energy counter 3 ms.

use super::gpm::{Gpm, GpmGap, GpmSnapshot, metrics};
use super::monitor::Reading;
use nvml_wrapper::bitmasks::device::ThrottleReasons;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::{SampleValue, UsedGpuMemory};
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::{Device, Nvml};

/// `NVML_FI_DEV_POWER_INSTANT`.
const POWER_INSTANT: FieldId = FieldId(186);

/// Memory of one process on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Process id.
    pub pid: u32,
    /// Device memory, bytes; `None` where the driver does not tell.
    pub bytes: Option<u64>,
}

/// One GPU, looked up once.
#[derive(Debug)]
pub struct Sampler<'m> {
    nvml: &'m Nvml,
    device: Device<'m>,
    gpm: Result<(), GpmGap>,
}

impl<'m> Sampler<'m> {
    pub(super) fn new(nvml: &'m Nvml, device: Device<'m>) -> Sampler<'m> {
        let gpm = GpmGap::of(&device);
        Sampler { nvml, device, gpm }
    }

    /// The cheap values: all but `memory_used`.
    pub fn read(&self) -> Reading {
        let d = &self.device;
        let watts = |mw: u32| f64::from(mw) / 1e3;
        Reading {
            sm_clock_mhz: d.clock_info(Clock::SM).ok(),
            memory_clock_mhz: d.clock_info(Clock::Memory).ok(),
            power_w: d.power_usage().ok().map(watts),
            power_instant_w: self.field(POWER_INSTANT).map(|mw| mw / 1e3),
            temperature_c: d.temperature(TemperatureSensor::Gpu).ok(),
            throttle: d.current_throttle_reasons().map(throttle_words).unwrap_or_default(),
            utilization_pct: d.utilization_rates().ok().map(|u| u.gpu),
            memory_used: None,
        }
    }

    fn field(&self, id: FieldId) -> Option<f64> {
        match self.device.field_values_for(&[id]).ok()?.pop()?.ok()?.value.ok()? {
            SampleValue::U32(v) => Some(f64::from(v)),
            SampleValue::U64(v) => Some(v as f64),
            SampleValue::F64(v) => Some(v),
            _ => None,
        }
    }

    /// Device memory in use, bytes.
    pub fn memory_used(&self) -> Option<u64> {
        self.device.memory_info().ok().map(|m| m.used)
    }

    /// Processes with a compute context, in order of their ids. Under MPS these are the clients and the server.
    pub fn processes(&self) -> Option<Vec<ProcessMemory>> {
        let mut list: Vec<ProcessMemory> = self
            .device
            .running_compute_processes()
            .ok()?
            .into_iter()
            .map(|p| ProcessMemory {
                pid: p.pid,
                bytes: match p.used_gpu_memory {
                    UsedGpuMemory::Used(bytes) => Some(bytes),
                    UsedGpuMemory::Unavailable => None,
                },
            })
            .collect();
        list.sort_by_key(|p| p.pid);
        Some(list)
    }

    /// Energy since the driver was loaded, mJ.
    pub fn energy_mj(&self) -> Option<u64> {
        self.device.total_energy_consumption().ok()
    }

    /// Whether this GPU tells its counters through GPM, and if not, why.
    ///
    /// # Errors
    /// The reason.
    pub fn gpm(&self) -> Result<(), GpmGap> {
        self.gpm.clone()
    }

    /// GPM's counters as they are now; they are cumulative, and two snapshots give the means between them.
    pub fn gpm_snapshot(&self) -> Option<GpmSnapshot<'m>> {
        self.gpm.as_ref().ok()?;
        self.device.gpm_sample().ok().map(GpmSnapshot)
    }

    /// Means between two snapshots. `None` where the GPU did not renew its counters between them (it does so every
    /// 100 ms on an H100), or does not tell.
    pub fn gpm_between(&self, from: &GpmSnapshot<'m>, to: &GpmSnapshot<'m>) -> Option<Gpm> {
        Gpm::from_values(&metrics(self.nvml, from, to, &Gpm::IDS)?)
    }

    /// Share of the time between two snapshots in which any engine of the GPU was busy, percent. Of all GPM's metrics
    /// this alone is dear: the driver asks the GPU for it, which takes 0.7 to 1.8 ms.
    pub fn graphics_between(&self, from: &GpmSnapshot<'m>, to: &GpmSnapshot<'m>) -> Option<f64> {
        *metrics(self.nvml, from, to, &[GpmMetricId::GraphicsUtil])?.first()?
    }
}

/// NVML's words for the reasons that slow a GPU down. Idle and user-set application clocks are not among them:
/// the first says nothing of a busy GPU, the second is the owner's choice.
fn throttle_words(r: ThrottleReasons) -> Vec<&'static str> {
    [
        (ThrottleReasons::SW_POWER_CAP, "software power cap"),
        (ThrottleReasons::HW_SLOWDOWN, "hardware slowdown"),
        (ThrottleReasons::SYNC_BOOST, "sync boost"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "software thermal slowdown"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hardware thermal slowdown"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "power brake"),
    ]
    .into_iter()
    .filter_map(|(flag, word)| r.contains(flag).then_some(word))
    .collect()
}
