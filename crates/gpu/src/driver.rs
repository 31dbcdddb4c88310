//! The CUDA driver: loaded at run time, every symbol checked before its first call, every result typed.
//!
//! The bindings' own loader panics where the library or a symbol is absent. So nothing here calls a binding
//! without [`present`] (the library) and `call!` (the symbol) having looked first.

use crate::error::{Error, Result};
use cotenant_units::{Bytes, Sms};
pub(crate) use cudarc::driver::sys;
use std::ffi::CStr;
use std::sync::OnceLock;

/// Calls a driver function after checking that this driver has it. First form: the symbol is the function's
/// name; the text says what needs it.
macro_rules! call {
    ($func:ident ( $($arg:expr),* $(,)? ), $need:literal) => {{
        static HAS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        if *HAS.get_or_init(|| $crate::driver::has_symbol(stringify!($func))) {
            // SAFETY: the symbol exists in the loaded driver (checked just above) and the arguments are of the
            // bound signature; each caller keeps the pointers it passes valid for the call.
            let r = unsafe { $crate::driver::sys::$func($($arg),*) };
            $crate::driver::check(stringify!($func), r)
        } else {
            Err($crate::error::Error::MissingSymbol { symbol: stringify!($func), need: $need })
        }
    }};
}
pub(crate) use call;

/// Whether libcuda can be loaded here.
pub fn present() -> bool {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // SAFETY: only tries to open the library by its known names; its initialisers are the driver's own.
    *PRESENT.get_or_init(|| unsafe { sys::is_culib_present() })
}

/// Whether the loaded driver exports exactly `name`, which is what the bindings load.
pub(crate) fn has_symbol(name: &str) -> bool {
    if !present() {
        return false;
    }
    // SAFETY: `present` says that the library opens; looking a symbol up runs no code of it.
    let lib = unsafe { sys::culib() };
    // SAFETY: the symbol is only looked up, never called through this type.
    unsafe { lib.get::<*const ()>(name.as_bytes()) }.is_ok()
}

pub(crate) fn check(call: &'static str, r: sys::CUresult) -> Result<()> {
    if r == sys::CUresult::CUDA_SUCCESS {
        return Ok(());
    }
    let mut name = std::ptr::null();
    let mut text = std::ptr::null();
    // SAFETY: out-pointers to static strings; both functions exist in every driver since CUDA 6.
    unsafe {
        sys::cuGetErrorName(r, &mut name);
        sys::cuGetErrorString(r, &mut text);
    }
    let own = |p: *const std::ffi::c_char| {
        if p.is_null() {
            "unknown".to_owned()
        } else {
            // SAFETY: the driver returns a NUL-terminated static string.
            unsafe { CStr::from_ptr(p) }.to_string_lossy().into_owned()
        }
    };
    Err(Error::Cuda { call, code: r as u32, name: own(name), text: own(text) })
}

/// Initialises the driver once per process.
///
/// # Errors
/// [`Error::NoDriver`] without libcuda; [`Error::Cuda`] where it does not initialise (no GPU, MPS refused).
pub fn init() -> Result<()> {
    if !present() {
        return Err(Error::NoDriver);
    }
    call!(cuInit(0), "everything")
}

/// CUDA version that the driver supports, for example `(13, 0)`.
pub fn cuda_version() -> Result<(u32, u32)> {
    init()?;
    let mut v = 0;
    call!(cuDriverGetVersion(&mut v), "everything")?;
    Ok((v as u32 / 1000, v as u32 % 1000 / 10))
}

/// Number of GPUs that CUDA shows to this process.
pub fn device_count() -> Result<u32> {
    init()?;
    let mut n = 0;
    call!(cuDeviceGetCount(&mut n), "everything")?;
    Ok(n as u32)
}

/// What the driver says of one GPU. Under MPS with a thread percentage `sms` is what the client may use.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceInfo {
    /// Index as CUDA counts.
    pub index: u32,
    /// Marketing name.
    pub name: String,
    /// UUID in the `GPU-…` form.
    pub uuid: String,
    /// Streaming multiprocessors visible to this process.
    pub sms: Sms,
    /// Compute capability.
    pub capability: (u32, u32),
    /// L2 capacity.
    pub l2: Bytes,
    /// Shared memory and L1 of one SM together: the largest shared-memory carve-out plus the driver's
    /// reserved part per block, rounded up to the architecture's unified size.
    pub l1: Bytes,
    /// Device memory.
    pub memory: Bytes,
    /// Largest dynamic shared memory of one block (opt-in).
    pub shared_per_block: Bytes,
    /// Shared memory of one SM.
    pub shared_per_sm: Bytes,
    /// Registers of one SM.
    pub registers_per_sm: u32,
    /// Threads of one block, at most.
    pub threads_per_block: u32,
    /// Threads of one SM, at most.
    pub threads_per_sm: u32,
    /// Blocks of one SM, at most.
    pub blocks_per_sm: u32,
    /// Highest SM clock, kHz.
    pub clock_khz: u32,
    /// Memory clock, kHz.
    pub memory_clock_khz: u32,
    /// Memory bus, bits.
    pub memory_bus_bits: u32,
}

/// The unified L1 size behind a maximal shared-memory carve-out (CUDA programming guide, technical
/// specifications per compute capability).
fn unified_l1(shared_per_sm: Bytes) -> Bytes {
    match shared_per_sm.0 >> 10 {
        0..=64 => Bytes::kib(96),
        65..=96 => Bytes::kib(128),
        97..=100 => Bytes::kib(128),
        101..=164 => Bytes::kib(192),
        165..=228 => Bytes::kib(256),
        _ => shared_per_sm,
    }
}

pub(crate) fn device_handle(index: u32) -> Result<sys::CUdevice> {
    let count = device_count()?;
    if index >= count {
        return Err(Error::NoDevice { index, count });
    }
    let mut dev = 0;
    call!(cuDeviceGet(&mut dev, index as i32), "everything")?;
    Ok(dev)
}

/// Reads what the driver says of GPU `index`.
///
/// # Errors
/// [`Error::NoDriver`], [`Error::NoDevice`], [`Error::Cuda`].
pub fn device_info(index: u32) -> Result<DeviceInfo> {
    use sys::CUdevice_attribute as A;
    let dev = device_handle(index)?;
    let attr = |a: A| -> Result<u32> {
        let mut v = 0;
        call!(cuDeviceGetAttribute(&mut v, a, dev), "device attributes")?;
        Ok(v.max(0) as u32)
    };
    let mut name = [0 as std::ffi::c_char; 128];
    call!(cuDeviceGetName(name.as_mut_ptr(), name.len() as i32, dev), "device names")?;
    // SAFETY: the driver wrote a NUL-terminated string into the buffer of 128.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    let mut uuid = sys::CUuuid { bytes: [0; 16] };
    call!(cuDeviceGetUuid_v2(&mut uuid, dev), "device UUIDs")?;
    let hex: String = uuid.bytes.iter().map(|b| format!("{:02x}", *b as u8)).collect();
    let uuid = format!("GPU-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    let mut memory = 0;
    call!(cuDeviceTotalMem_v2(&mut memory, dev), "device memory size")?;
    let shared_per_sm = Bytes(attr(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?.into());
    Ok(DeviceInfo {
        index,
        name,
        uuid,
        sms: Sms(attr(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?),
        capability: (
            attr(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attr(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        l2: Bytes(attr(A::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?.into()),
        l1: unified_l1(shared_per_sm),
        memory: Bytes(memory as u64),
        shared_per_block: Bytes(attr(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?.into()),
        shared_per_sm,
        registers_per_sm: attr(A::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR)?,
        threads_per_block: attr(A::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        threads_per_sm: attr(A::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR)?,
        blocks_per_sm: attr(A::CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR)?,
        clock_khz: attr(A::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?,
        memory_clock_khz: attr(A::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?,
        memory_bus_bits: attr(A::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unified_sizes_follow_the_programming_guide() {
        assert_eq!(unified_l1(Bytes::kib(228)), Bytes::kib(256)); // Hopper
        assert_eq!(unified_l1(Bytes::kib(164)), Bytes::kib(192)); // A100
        assert_eq!(unified_l1(Bytes::kib(100)), Bytes::kib(128)); // GA10x, Ada
    }

    #[test]
    fn absence_of_the_driver_is_an_error_and_not_a_panic() {
        if present() {
            return; // a machine with a driver: the GPU tests cover it
        }
        assert!(matches!(init(), Err(Error::NoDriver)));
        assert!(matches!(device_info(0), Err(Error::NoDriver)));
        assert!(!has_symbol("cuInit"));
    }
}
