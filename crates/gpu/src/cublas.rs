//! fp32 matrix products through a cuBLAS that is on the machine; skipped where there is none.

use crate::context::{DeviceBuffer, Stream};
use crate::error::{Error, Result};
use libloading::Library;
use std::ffi::{c_int, c_void};

/// Names and places a cuBLAS may have, newest first. PyTorch wheels carry one outside the loader's path.
const NAMES: [&str; 3] = ["libcublas.so.13", "libcublas.so.12", "libcublas.so"];

type Create = unsafe extern "C" fn(*mut *mut c_void) -> c_int;
type Destroy = unsafe extern "C" fn(*mut c_void) -> c_int;
type SetStream = unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int;
type SetMath = unsafe extern "C" fn(*mut c_void, c_int) -> c_int;
type Sgemm = unsafe extern "C" fn(
    *mut c_void,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    *const f32,
    u64,
    c_int,
    u64,
    c_int,
    *const f32,
    u64,
    c_int,
) -> c_int;

/// A cuBLAS handle on one stream.
#[derive(Debug)]
pub struct Blas {
    lib: Library,
    handle: *mut c_void,
}

// SAFETY: a handle may move between threads as long as one uses it at a time, which `&mut self` ensures.
unsafe impl Send for Blas {}

fn open() -> Result<Library> {
    let mut reason = String::new();
    let extra = std::env::var("COTENANT_CUBLAS").ok();
    for name in extra.iter().map(String::as_str).chain(NAMES) {
        // SAFETY: loading NVIDIA's library runs its own initialisers only.
        match unsafe { Library::new(name) } {
            Ok(l) => return Ok(l),
            Err(e) => reason = e.to_string(),
        }
    }
    Err(Error::Library { name: NAMES.join(", "), reason })
}

/// Whether a cuBLAS can be loaded here.
pub fn available() -> bool {
    open().is_ok()
}

impl Blas {
    /// Opens cuBLAS in the current context.
    ///
    /// # Errors
    /// [`Error::Library`] where there is none, or a status other than success.
    pub fn new(stream: &Stream) -> Result<Blas> {
        let lib = open()?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the signature is cuBLAS's published one since version 4.
        let status = unsafe {
            let create = symbol::<Create>(&lib, b"cublasCreate_v2\0")?;
            create(&mut handle)
        };
        ok("cublasCreate", status)?;
        let b = Blas { lib, handle };
        // SAFETY: as above; the stream outlives the handle (both belong to the tenant).
        let status = unsafe {
            let set = symbol::<SetStream>(&b.lib, b"cublasSetStream_v2\0")?;
            set(b.handle, stream.raw())
        };
        ok("cublasSetStream", status)?;
        // 1 is CUBLAS_PEDANTIC... 0 is CUBLAS_DEFAULT_MATH: true fp32, no TF32, as torch.mm computes by default.
        // SAFETY: as above.
        let status = unsafe {
            let set = symbol::<SetMath>(&b.lib, b"cublasSetMathMode\0")?;
            set(b.handle, 0)
        };
        ok("cublasSetMathMode", status)?;
        Ok(b)
    }

    /// Queues `c = a·b` for column-major `n`×`n` fp32 matrices.
    pub fn sgemm(&mut self, n: u32, a: &DeviceBuffer, b: &DeviceBuffer, c: &DeviceBuffer) -> Result<()> {
        let need = u64::from(n) * u64::from(n) * 4;
        if [a, b, c].iter().any(|m| m.size().0 < need) {
            return Err(Error::Library {
                name: "cublasSgemm".into(),
                reason: format!("a matrix is under {need} bytes"),
            });
        }
        let (one, zero) = (1.0f32, 0.0f32);
        let k = n as c_int;
        // SAFETY: published signature; the three buffers hold n·n floats each (checked above).
        let status = unsafe {
            let gemm = symbol::<Sgemm>(&self.lib, b"cublasSgemm_v2\0")?;
            gemm(self.handle, 0, 0, k, k, k, &one, a.address(), k, b.address(), k, &zero, c.address(), k)
        };
        ok("cublasSgemm", status)
    }
}

/// # Safety
/// `T` must be the function type of that symbol.
unsafe fn symbol<'l, T>(lib: &'l Library, name: &[u8]) -> Result<libloading::Symbol<'l, T>> {
    // SAFETY: the caller vouches for the type.
    unsafe { lib.get(name) }.map_err(|e| Error::Library { name: "cuBLAS".into(), reason: e.to_string() })
}

fn ok(call: &str, status: c_int) -> Result<()> {
    if status == 0 {
        Ok(())
    } else {
        Err(Error::Library { name: call.into(), reason: format!("status {status}") })
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        // SAFETY: the handle came from cublasCreate and is destroyed once.
        unsafe {
            if let Ok(destroy) = symbol::<Destroy>(&self.lib, b"cublasDestroy_v2\0") {
                destroy(self.handle);
            }
        }
    }
}
