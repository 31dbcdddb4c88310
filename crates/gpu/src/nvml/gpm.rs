//! GPM, the GPU performance monitoring of Hopper and newer: how busy the parts of the GPU were between two moments,
//! from counters that cost a tenant nothing and need no profiler.

use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::{GpmSample, gpm_metrics_get};
use nvml_wrapper::{Device, Nvml};

/// Why a GPU does not tell its counters through GPM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpmGap {
    /// The GPU is older than Hopper, or NVML has no GPM for it.
    #[error("this GPU has no GPM counters (they came with compute capability 9.0)")]
    NoCounters,
    /// The library is older than GPM.
    #[error("this driver's NVML has no GPM functions; a newer driver has them")]
    OldDriver,
    /// MIG is on: the counters are then of instances, not of the GPU.
    #[error("MIG is on, and GPM then tells of instances only, which telemetry does not read")]
    Mig,
    /// NVML refused.
    #[error("NVML refused GPM: {0}")]
    Refused(String),
}

impl GpmGap {
    /// Whether snapshots can be taken, from one that is tried.
    pub(super) fn of(device: &Device<'_>) -> Result<(), GpmGap> {
        if device.mig_mode().is_ok_and(|m| m.current != 0) {
            return Err(GpmGap::Mig);
        }
        let gap = |e: NvmlError| match e {
            NvmlError::NotSupported => GpmGap::NoCounters,
            NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => GpmGap::OldDriver,
            e => GpmGap::Refused(e.to_string()),
        };
        if !device.gpm_support().map_err(gap)? {
            return Err(GpmGap::NoCounters);
        }
        device.gpm_sample().map(|_| ()).map_err(gap)
    }
}

/// GPM's counters at one moment.
#[derive(Debug)]
pub struct GpmSnapshot<'m>(pub(super) GpmSample<'m>);

/// How busy the parts of the GPU were, percent of what they can do, means over a stretch of time and over all SMs.
/// `None` where this GPU does not count it. Names in brackets are NVML's.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Gpm {
    /// Time in which an SM had at least one warp (`SM_UTIL`).
    pub sm_active: Option<f64>,
    /// Warps resident, of the most that fit (`SM_OCCUPANCY`): the "compute warps in flight" of Nsight Systems.
    pub sm_occupancy: Option<f64>,
    /// Bandwidth of device memory (`DRAM_BW_UTIL`).
    pub dram: Option<f64>,
    /// Cycles in which a tensor core worked (`ANY_TENSOR_UTIL`).
    pub tensor: Option<f64>,
    /// Of these, 16-bit floating point and what is counted with it (`HMMA_TENSOR_UTIL`).
    pub tensor_hmma: Option<f64>,
    /// Of these, integers (`IMMA_TENSOR_UTIL`).
    pub tensor_imma: Option<f64>,
    /// Of these, 64-bit floating point (`DFMA_TENSOR_UTIL`).
    pub tensor_dfma: Option<f64>,
    /// FP64 pipe (`FP64_UTIL`).
    pub fp64: Option<f64>,
    /// FP32 pipe (`FP32_UTIL`).
    pub fp32: Option<f64>,
    /// FP16 pipe (`FP16_UTIL`).
    pub fp16: Option<f64>,
    /// Integer pipe (`INTEGER_UTIL`).
    pub integer: Option<f64>,
}

impl Gpm {
    pub(super) const IDS: [GpmMetricId; 11] = [
        GpmMetricId::DramBwUtil,
        GpmMetricId::SmUtil,
        GpmMetricId::SmOccupancy,
        GpmMetricId::AnyTensorUtil,
        GpmMetricId::HmmaTensorUtil,
        GpmMetricId::ImmaTensorUtil,
        GpmMetricId::DfmaTensorUtil,
        GpmMetricId::Fp64Util,
        GpmMetricId::Fp32Util,
        GpmMetricId::Fp16Util,
        GpmMetricId::IntegerUtil,
    ];

    /// From values in the order of [`Gpm::IDS`]. Between two snapshots of the same counters all differences are
    /// nought: DRAM utilisation, the quotient of two, is then not a number, and the others read 0 although nothing is
    /// known. So nothing is told.
    pub(super) fn from_values(v: &[Option<f64>]) -> Option<Gpm> {
        let &[
            dram,
            sm_active,
            sm_occupancy,
            tensor,
            tensor_hmma,
            tensor_imma,
            tensor_dfma,
            fp64,
            fp32,
            fp16,
            integer,
        ] = v
        else {
            return None;
        };
        let told = dram.is_some()
            || [sm_active, sm_occupancy, tensor, fp64, fp32, fp16, integer]
                .iter()
                .flatten()
                .any(|v| *v > 0.0);
        told.then_some(Gpm {
            sm_active,
            sm_occupancy,
            dram,
            tensor,
            tensor_hmma,
            tensor_imma,
            tensor_dfma,
            fp64,
            fp32,
            fp16,
            integer,
        })
    }

    /// All values, in the order of the fields.
    pub fn values(&self) -> [Option<f64>; 11] {
        [
            self.sm_active,
            self.sm_occupancy,
            self.dram,
            self.tensor,
            self.tensor_hmma,
            self.tensor_imma,
            self.tensor_dfma,
            self.fp64,
            self.fp32,
            self.fp16,
            self.integer,
        ]
    }
}

/// Metrics between two snapshots; an inner `None` is one that the GPU does not tell, or not a number.
pub(super) fn metrics(
    nvml: &Nvml,
    from: &GpmSnapshot<'_>,
    to: &GpmSnapshot<'_>,
    ids: &[GpmMetricId],
) -> Option<Vec<Option<f64>>> {
    let got = gpm_metrics_get(nvml, &from.0, &to.0, ids).ok()?;
    Some(got.into_iter().map(|m| m.ok().map(|m| m.value).filter(|v| v.is_finite())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_stood_still_tell_nothing() {
        let mut v = [Some(0.0); 11];
        assert!(Gpm::from_values(&v).is_some(), "an idle GPU: nought, but known");
        v[0] = None;
        assert_eq!(Gpm::from_values(&v), None, "DRAM is not a number: no new counters");
        v[2] = Some(12.5);
        assert_eq!(
            Gpm::from_values(&v).and_then(|g| g.sm_occupancy),
            Some(12.5),
            "a GPU without DRAM counters"
        );
        assert_eq!(Gpm::from_values(&[None; 11]), None);
        assert_eq!(Gpm::from_values(&[]), None);
    }
}
