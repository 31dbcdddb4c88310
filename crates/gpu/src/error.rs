//! What can go wrong between the lab and a GPU. Messages are fragments that read after "failed to …:".

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No NVIDIA driver library on this machine.
    #[error(
        "the NVIDIA driver library libcuda.so.1 is not on this machine; install the driver or use `--device sim:CARD`"
    )]
    NoDriver,
    /// The driver lacks a function.
    #[error("this driver has no `{symbol}`, which {need} needs; a newer driver has it")]
    MissingSymbol {
        /// Function looked for.
        symbol: &'static str,
        /// What needs it.
        need: &'static str,
    },
    /// A driver call failed.
    #[error("{call} answered {name} ({code}): {text}")]
    Cuda {
        /// Driver function.
        call: &'static str,
        /// Numeric result.
        code: u32,
        /// Name of the result, such as `CUDA_ERROR_OUT_OF_MEMORY`.
        name: String,
        /// The driver's own words.
        text: String,
    },
    /// Not enough device memory.
    #[error("{asked} of device memory were asked for and {free} are free; lower the tenant's `bytes`")]
    OutOfMemory {
        /// Size asked for.
        asked: cotenant_units::Bytes,
        /// Size free at that moment.
        free: cotenant_units::Bytes,
    },
    /// No such device.
    #[error("there is no GPU {index}; this machine has {count} (numbered from 0)")]
    NoDevice {
        /// Index asked for.
        index: u32,
        /// Devices present.
        count: u32,
    },
    /// More SMs asked for than are left.
    #[error("{asked} SMs were asked for and only {left} are left of this GPU's")]
    NotEnoughSms {
        /// SMs asked for.
        asked: u32,
        /// SMs left.
        left: u32,
    },
    /// NVML failed.
    #[error("NVML: {0}")]
    Nvml(#[from] nvml_wrapper::error::NvmlError),
    /// A library that is loaded at run time is absent.
    #[error("the library {name} could not be loaded ({reason})")]
    Library {
        /// Names tried.
        name: String,
        /// Loader's words.
        reason: String,
    },
    /// A tenant could not be set up or did not do what it should.
    #[error("tenant {kernel}: {reason}")]
    Tenant {
        /// Its kernel.
        kernel: String,
        /// What went wrong.
        reason: String,
    },
    /// The MPS daemon did not do as asked.
    #[error("MPS: {0}")]
    Mps(String),
    /// File or process trouble.
    #[error("{path}: {source}")]
    Io {
        /// File or program.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the device ran out of memory.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Error::OutOfMemory { .. }) || matches!(self, Error::Cuda { code: 2, .. })
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
