//! Contexts, green contexts, streams, events, memory and kernels: thin owners over driver handles.
//!
//! Kernels are loaded context-independently (`cuLibraryLoadData`), so one image serves the primary context and
//! every green context made from it.

use crate::driver::{call, device_handle, sys};
use crate::error::{Error, Result};
use cotenant_units::{Bytes, Sms};
use std::ffi::{CString, c_void};
use std::sync::Arc;

/// Waits for all work of the context that is current on this thread.
pub fn synchronize() -> Result<()> {
    call!(cuCtxSynchronize(), "waiting")
}

/// The primary context of a GPU, retained as long as this lives.
#[derive(Debug)]
pub struct Context {
    dev: sys::CUdevice,
    ctx: sys::CUcontext,
}

// SAFETY: driver contexts may be made current on any thread; the handle itself is immutable here.
unsafe impl Send for Context {}
// SAFETY: as above; the driver locks internally.
unsafe impl Sync for Context {}

impl Context {
    /// Retains GPU `index`'s primary context and makes it current on this thread.
    ///
    /// # Errors
    /// No driver or device, or the driver refuses (MPS server full, GPU lost).
    pub fn primary(index: u32) -> Result<Arc<Context>> {
        let dev = device_handle(index)?;
        let mut ctx = std::ptr::null_mut();
        call!(cuDevicePrimaryCtxRetain(&mut ctx, dev), "a context")?;
        let c = Arc::new(Context { dev, ctx });
        c.make_current()?;
        Ok(c)
    }

    /// Makes it current on the calling thread.
    pub fn make_current(&self) -> Result<()> {
        call!(cuCtxSetCurrent(self.ctx), "a context")
    }

    /// Free and total device memory.
    pub fn memory(&self) -> Result<(Bytes, Bytes)> {
        let (mut free, mut total) = (0, 0);
        call!(cuMemGetInfo_v2(&mut free, &mut total), "memory information")?;
        Ok((Bytes(free as u64), Bytes(total as u64)))
    }

    /// Lowest and highest stream priority as numbers: `(least, greatest)`, for example `(0, -5)`.
    pub fn priority_range(&self) -> Result<(i32, i32)> {
        let (mut least, mut greatest) = (0, 0);
        call!(cuCtxGetStreamPriorityRange(&mut least, &mut greatest), "stream priorities")?;
        Ok((least, greatest))
    }

    /// A non-blocking stream with a priority (clamped by the driver to [`Context::priority_range`]).
    pub fn stream(self: &Arc<Self>, priority: i32) -> Result<Stream> {
        let mut stream = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        call!(cuStreamCreateWithPriority(&mut stream, flags, priority), "streams")?;
        Ok(Stream { stream, _owner: Owner::Primary(self.clone()) })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let _ = call!(cuDevicePrimaryCtxRelease_v2(self.dev), "a context");
    }
}

/// A green context: the primary context restricted to a set of SMs.
#[derive(Debug)]
pub struct GreenContext {
    green: sys::CUgreenCtx,
    ctx: sys::CUcontext,
    sms: Sms,
    _primary: Arc<Context>,
}

// SAFETY: as for `Context`.
unsafe impl Send for GreenContext {}
// SAFETY: as for `Context`.
unsafe impl Sync for GreenContext {}

impl GreenContext {
    /// Makes one context per number, on disjoint SMs, of at least the sizes asked for. The driver grants SMs in
    /// portions (8 on Hopper); [`GreenContext::sms`] says what was given.
    ///
    /// What one split leaves over cannot be split again, so the GPU is cut once into its smallest portions and
    /// each context gets as many of them as it needs; the left-over SMs go to the last one if nothing else does.
    ///
    /// # Errors
    /// [`Error::MissingSymbol`] on drivers before 550; [`Error::NotEnoughSms`] where the portions do not suffice.
    pub fn split(primary: &Arc<Context>, asked: &[u32]) -> Result<Vec<Arc<GreenContext>>> {
        // SAFETY: an all-zero CUdevResource is a valid value of this plain C struct (type INVALID).
        let zero = || unsafe { std::mem::zeroed::<sys::CUdevResource>() };
        let mut whole = zero();
        let kind = sys::CUdevResourceType::CU_DEV_RESOURCE_TYPE_SM;
        call!(cuDeviceGetDevResource(primary.dev, &mut whole, kind), "green contexts")?;
        let mut count = 0u32;
        let none = std::ptr::null_mut();
        call!(cuDevSmResourceSplitByCount(none, &mut count, &whole, none, 0, 1), "green contexts")?;
        let mut portions = vec![zero(); count as usize];
        let mut rest = zero();
        call!(
            cuDevSmResourceSplitByCount(portions.as_mut_ptr(), &mut count, &whole, &mut rest, 0, 1),
            "green contexts"
        )?;
        portions.truncate(count as usize);
        let mut free = portions.into_iter().peekable();
        let mut out = Vec::with_capacity(asked.len());
        for (i, &wanted) in asked.iter().enumerate() {
            let mut mine = Vec::new();
            let mut have = 0;
            while have < wanted {
                let Some(p) = free.next() else { break };
                // SAFETY: the split fills portions of type SM.
                have += unsafe { sm_count(&p) };
                mine.push(p);
            }
            // SAFETY: as above, for what the split left over.
            let over = if rest.type_ == kind { unsafe { sm_count(&rest) } } else { 0 };
            if have < wanted && i + 1 == asked.len() && over > 0 && have + over >= wanted {
                have += over;
                mine.push(rest);
            }
            if have < wanted || mine.is_empty() {
                return Err(Error::NotEnoughSms { asked: wanted, left: have });
            }
            out.push(Arc::new(Self::create(primary, &mut mine, Sms(have))?));
        }
        Ok(out)
    }

    fn create(primary: &Arc<Context>, portions: &mut [sys::CUdevResource], sms: Sms) -> Result<GreenContext> {
        let mut desc = std::ptr::null_mut();
        let n = portions.len() as u32;
        call!(cuDevResourceGenerateDesc(&mut desc, portions.as_mut_ptr(), n), "green contexts")?;
        let mut green = std::ptr::null_mut();
        let flags = sys::CUgreenCtxCreate_flags::CU_GREEN_CTX_DEFAULT_STREAM as u32;
        call!(cuGreenCtxCreate(&mut green, desc, primary.dev, flags), "green contexts")?;
        let mut ctx = std::ptr::null_mut();
        call!(cuCtxFromGreenCtx(&mut ctx, green), "green contexts")?;
        Ok(GreenContext { green, ctx, sms, _primary: primary.clone() })
    }

    /// SMs given.
    pub fn sms(&self) -> Sms {
        self.sms
    }

    /// Makes it current on the calling thread.
    pub fn make_current(&self) -> Result<()> {
        call!(cuCtxSetCurrent(self.ctx), "green contexts")
    }

    /// A stream whose kernels run on this context's SMs only.
    pub fn stream(self: &Arc<Self>, priority: i32) -> Result<Stream> {
        let mut stream = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        call!(cuGreenCtxStreamCreate(&mut stream, self.green, flags, priority), "green contexts")?;
        Ok(Stream { stream, _owner: Owner::Green(self.clone()) })
    }
}

impl Drop for GreenContext {
    fn drop(&mut self) {
        let _ = call!(cuGreenCtxDestroy(self.green), "green contexts");
    }
}

/// # Safety
/// `r` must be of type SM.
unsafe fn sm_count(r: &sys::CUdevResource) -> u32 {
    // SAFETY: the caller says that the union holds its SM member.
    unsafe { r.__bindgen_anon_1.sm.smCount }
}

#[derive(Debug)]
#[expect(dead_code, reason = "held only so that the context outlives the stream")]
enum Owner {
    Primary(Arc<Context>),
    Green(Arc<GreenContext>),
}

/// A stream; destroyed with this value.
#[derive(Debug)]
pub struct Stream {
    stream: sys::CUstream,
    _owner: Owner,
}

// SAFETY: streams may be used from any thread that has the context current.
unsafe impl Send for Stream {}
// SAFETY: as above; the driver locks internally.
unsafe impl Sync for Stream {}

impl Stream {
    /// Waits until all its work is done.
    pub fn synchronize(&self) -> Result<()> {
        call!(cuStreamSynchronize(self.stream), "waiting")
    }

    /// Whether all its work is done.
    pub fn is_idle(&self) -> Result<bool> {
        match call!(cuStreamQuery(self.stream), "waiting") {
            Ok(()) => Ok(true),
            Err(Error::Cuda { code, .. }) if code == sys::CUresult::CUDA_ERROR_NOT_READY as u32 => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The priority in force.
    pub fn priority(&self) -> Result<i32> {
        let mut p = 0;
        call!(cuStreamGetPriority(self.stream, &mut p), "stream priorities")?;
        Ok(p)
    }

    /// Records an event on it.
    pub fn record(&self, event: &Event) -> Result<()> {
        call!(cuEventRecord(event.event, self.stream), "events")
    }

    /// Makes later work of this stream wait for an event.
    pub fn wait(&self, event: &Event) -> Result<()> {
        call!(cuStreamWaitEvent(self.stream, event.event, 0), "events")
    }

    /// Sets `buffer[offset..offset+len]` to `value`, asynchronously. The range must lie in the buffer.
    pub fn fill(&self, buffer: &DeviceBuffer, offset: u64, len: u64, value: u8) -> Result<()> {
        let (offset, len) = buffer.clip(offset, len);
        call!(cuMemsetD8Async(buffer.ptr + offset, value, len as usize, self.stream), "memory")
    }

    /// Copies `len` bytes from pinned host memory to the device, asynchronously (clipped to both sizes).
    pub fn to_device(&self, dst: &DeviceBuffer, src: &PinnedBuffer, len: u64) -> Result<()> {
        let n = len.min(src.len).min(dst.len) as usize;
        call!(cuMemcpyHtoDAsync_v2(dst.ptr, src.ptr, n, self.stream), "copies")
    }

    /// Copies `len` bytes from the device to pinned host memory, asynchronously (clipped to both sizes).
    pub fn to_host(&self, dst: &PinnedBuffer, src: &DeviceBuffer, len: u64) -> Result<()> {
        let n = len.min(src.len).min(dst.len) as usize;
        call!(cuMemcpyDtoHAsync_v2(dst.ptr, src.ptr, n, self.stream), "copies")
    }

    /// The raw handle, for libraries that take a `cudaStream_t`.
    pub fn raw(&self) -> *mut c_void {
        self.stream.cast()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = call!(cuStreamDestroy_v2(self.stream), "streams");
    }
}

/// A timing event.
#[derive(Debug)]
pub struct Event {
    event: sys::CUevent,
}

// SAFETY: events may be used from any thread.
unsafe impl Send for Event {}

impl Event {
    /// An event that records time.
    pub fn new() -> Result<Event> {
        let mut event = std::ptr::null_mut();
        call!(cuEventCreate(&mut event, 0), "events")?;
        Ok(Event { event })
    }

    /// Waits until it has been reached.
    pub fn synchronize(&self) -> Result<()> {
        call!(cuEventSynchronize(self.event), "events")
    }

    /// Milliseconds from `earlier` to this one; both must have been reached.
    pub fn since_ms(&self, earlier: &Event) -> Result<f64> {
        let mut ms = 0.0f32;
        call!(cuEventElapsedTime_v2(&mut ms, earlier.event, self.event), "events (driver 570 or newer)")?;
        Ok(f64::from(ms))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let _ = call!(cuEventDestroy_v2(self.event), "events");
    }
}

/// Device memory; freed with this value.
#[derive(Debug)]
pub struct DeviceBuffer {
    ptr: sys::CUdeviceptr,
    len: u64,
}

impl DeviceBuffer {
    /// Allocates `size` bytes in the current context, filled with `byte`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] with what is free.
    pub fn filled(size: Bytes, byte: u8) -> Result<DeviceBuffer> {
        let mut ptr = 0;
        let len = size.0.max(16);
        match call!(cuMemAlloc_v2(&mut ptr, len as usize), "memory") {
            Ok(()) => {}
            Err(Error::Cuda { code: 2, .. }) => {
                let (mut free, mut total) = (0, 0);
                call!(cuMemGetInfo_v2(&mut free, &mut total), "memory information")?;
                return Err(Error::OutOfMemory { asked: size, free: Bytes(free as u64) });
            }
            Err(e) => return Err(e),
        }
        let b = DeviceBuffer { ptr, len };
        call!(cuMemsetD8_v2(b.ptr, byte, len as usize), "memory")?;
        Ok(b)
    }

    /// Device address.
    pub fn address(&self) -> u64 {
        self.ptr
    }

    /// Size in bytes.
    pub fn size(&self) -> Bytes {
        Bytes(self.len)
    }

    fn clip(&self, offset: u64, len: u64) -> (u64, u64) {
        let o = offset.min(self.len);
        (o, len.min(self.len - o))
    }

    /// Reads `out.len()` 64-bit words from word `first` on, synchronously.
    pub fn read_words(&self, first: u64, out: &mut [u64]) -> Result<()> {
        let (o, n) = self.clip(first * 8, out.len() as u64 * 8);
        call!(cuMemcpyDtoH_v2(out.as_mut_ptr().cast(), self.ptr + o, n as usize), "copies")
    }

    /// Writes 64-bit words from word `first` on, synchronously.
    pub fn write_words(&self, first: u64, words: &[u64]) -> Result<()> {
        let (o, n) = self.clip(first * 8, words.len() as u64 * 8);
        call!(cuMemcpyHtoD_v2(self.ptr + o, words.as_ptr().cast(), n as usize), "copies")
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        let _ = call!(cuMemFree_v2(self.ptr), "memory");
    }
}

/// Page-locked host memory.
#[derive(Debug)]
pub struct PinnedBuffer {
    ptr: *mut c_void,
    len: u64,
}

// SAFETY: plain host memory owned by this value.
unsafe impl Send for PinnedBuffer {}

impl PinnedBuffer {
    /// Allocates `size` bytes, zeroed.
    pub fn zeroed(size: Bytes) -> Result<PinnedBuffer> {
        let mut ptr = std::ptr::null_mut();
        let len = size.0.max(16);
        call!(cuMemHostAlloc(&mut ptr, len as usize, 0), "pinned memory")?;
        // SAFETY: the driver just gave `len` writable bytes at `ptr`.
        unsafe { std::ptr::write_bytes(ptr.cast::<u8>(), 0, len as usize) };
        Ok(PinnedBuffer { ptr, len })
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        let _ = call!(cuMemFreeHost(self.ptr), "pinned memory");
    }
}

/// Loaded PTX. Not unloaded: a worker loads each image once in its life.
#[derive(Debug)]
pub struct Image {
    lib: sys::CUlibrary,
}

// SAFETY: libraries are context-independent and immutable.
unsafe impl Send for Image {}
// SAFETY: as above.
unsafe impl Sync for Image {}

impl Image {
    /// Compiles PTX for the current device and loads it.
    ///
    /// # Errors
    /// `CUDA_ERROR_UNSUPPORTED_PTX_VERSION` on a driver older than the PTX; `CUDA_ERROR_INVALID_PTX`.
    pub fn load(ptx: &str) -> Result<Image> {
        let text = CString::new(ptx)
            .map_err(|_| Error::Library { name: "PTX image".into(), reason: "it has a zero byte".into() })?;
        let mut lib = std::ptr::null_mut();
        call!(
            cuLibraryLoadData(
                &mut lib,
                text.as_ptr().cast(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                0,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                0
            ),
            "kernels (driver 525 or newer)"
        )?;
        Ok(Image { lib })
    }

    /// Looks up an entry point and allows it `dynamic_shared` bytes of shared memory per block on GPU `index`.
    pub fn kernel(&self, entry: &str, dynamic_shared: Bytes, index: u32) -> Result<Kernel> {
        let name = CString::new(entry)
            .map_err(|_| Error::Library { name: entry.into(), reason: "it has a zero byte".into() })?;
        let mut kernel = std::ptr::null_mut();
        call!(cuLibraryGetKernel(&mut kernel, self.lib, name.as_ptr()), "kernels")?;
        let dev = device_handle(index)?;
        if dynamic_shared.0 > 48 << 10 {
            let a = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            call!(cuKernelSetAttribute(a, dynamic_shared.0 as i32, kernel, dev), "large shared memory")?;
        }
        let attr = |a| -> Result<u32> {
            let mut v = 0;
            call!(cuKernelGetAttribute(&mut v, a, kernel, dev), "kernel attributes")?;
            Ok(v.max(0) as u32)
        };
        use sys::CUfunction_attribute as A;
        Ok(Kernel {
            kernel,
            registers: attr(A::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            static_shared: Bytes(attr(A::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?.into()),
            dynamic_shared,
        })
    }
}

/// An entry point ready to launch.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    kernel: sys::CUkernel,
    /// Registers per thread on this GPU.
    pub registers: u32,
    /// Static shared memory per block.
    pub static_shared: Bytes,
    dynamic_shared: Bytes,
}

// SAFETY: kernel handles are context-independent and immutable.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

/// The eight arguments that every entry point takes (`kernels/abi.cuh`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Args {
    /// Address of the launch's stamp, or 0.
    pub stamp: u64,
    /// Address of the block trace, or 0.
    pub trace: u64,
    /// Turns of the outer loop.
    pub iterations: u64,
    /// First buffer.
    pub a: u64,
    /// Second buffer.
    pub b: u64,
    /// Working set, bytes.
    pub bytes: u64,
    /// Kernel-specific.
    pub p0: u64,
    /// Kernel-specific.
    pub p1: u64,
}

impl Args {
    /// One pointer per argument, as the driver takes them; valid while `self` is not moved.
    fn pointers(&mut self) -> [*mut c_void; 8] {
        [
            (&raw mut self.stamp).cast(),
            (&raw mut self.trace).cast(),
            (&raw mut self.iterations).cast(),
            (&raw mut self.a).cast(),
            (&raw mut self.b).cast(),
            (&raw mut self.bytes).cast(),
            (&raw mut self.p0).cast(),
            (&raw mut self.p1).cast(),
        ]
    }
}

impl Kernel {
    /// Sets the share of L1 given to shared memory, percent of the maximum (0: as much L1 as possible).
    pub fn set_carveout(&self, percent: i32, index: u32) -> Result<()> {
        let dev = device_handle(index)?;
        let a = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
        call!(cuKernelSetAttribute(a, percent, self.kernel, dev), "the shared-memory carve-out")
    }

    /// As [`Kernel::launch`], through `cuLaunchKernelEx` without attributes.
    pub fn launch_ex(&self, stream: &Stream, blocks: u32, threads: u32, mut args: Args) -> Result<()> {
        let mut p = args.pointers();
        let config = sys::CUlaunchConfig {
            gridDimX: blocks,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: threads,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: self.dynamic_shared.0 as u32,
            hStream: stream.stream,
            attrs: std::ptr::null_mut(),
            numAttrs: 0,
        };
        let f: sys::CUfunction = self.kernel.cast();
        call!(cuLaunchKernelEx(&config, f, p.as_mut_ptr(), std::ptr::null_mut()), "launching")
    }

    /// Launches on a stream. Returns as soon as the driver has queued it.
    pub fn launch(&self, stream: &Stream, blocks: u32, threads: u32, mut args: Args) -> Result<()> {
        let mut p = args.pointers();
        // A CUkernel is accepted where a CUfunction is: it launches in the stream's context.
        let f: sys::CUfunction = self.kernel.cast();
        call!(
            cuLaunchKernel(
                f,
                blocks,
                1,
                1,
                threads,
                1,
                1,
                self.dynamic_shared.0 as u32,
                stream.stream,
                p.as_mut_ptr(),
                std::ptr::null_mut()
            ),
            "launching"
        )
    }
}
