//! CUPTI's activity interface: the functions used, loaded at run time, and the records read.
//!
//! Records are structures that grow at their end from version to version. What is read here stood at the same place
//! in every version from 11.8 to 13.0 (checked against the headers of 11.8, 12.1, 12.4, 12.9 and 13.0), so it is read
//! by offset and one layout serves all. A later major version is refused until it has been checked.

use crate::search;
use crate::sys::Loaded;
use cotenant_timeline::format::{Lane, UNTOLD};
use std::ffi::{CStr, c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

/// CUPTI's result codes; 0 is success.
pub type Status = u32;
/// Another client has subscribed.
pub const MULTIPLE_SUBSCRIBERS: Status = 39;
/// As above in older versions.
pub const MAX_LIMIT_REACHED: Status = 12;

/// Kinds of activity.
pub const KIND_COPY: u32 = 1;
/// Setting memory.
pub const KIND_SET: u32 = 2;
/// A kernel, where kernels may run at the same time.
pub const KIND_KERNEL: u32 = 10;
/// A kernel, where CUPTI has serialised them.
pub const KIND_SERIAL_KERNEL: u32 = 3;

/// Deliver also buffers with records that have not ended.
pub const FLUSH_FORCED: u32 = 1;
/// Attribute: the buffers that are handed out are zeroed already.
const ATTRIBUTE_ZEROED: u32 = 5;

/// First version with today's layout (CUDA 11.8).
const OLDEST: u32 = 18;
/// First version that can be taken out of a process and come back (CUDA 12.6): before, that crashes programs with
/// CUDA graphs (pytorch/pytorch#146604, #150957).
const CAN_COME_BACK: u32 = 24;
/// First version whose layout was not checked.
const UNCHECKED: u32 = 140_000;

/// Hands out a buffer.
pub type RequestBuffer = extern "C" fn(*mut *mut u8, *mut usize, *mut usize);
/// Takes a buffer back: context, stream, buffer, its size, bytes of records in it.
pub type CompleteBuffer = extern "C" fn(*mut c_void, u32, *mut u8, usize, usize);
/// Tells the time in ns.
pub type Clock = extern "C" fn() -> u64;
type Callback = extern "C" fn(*mut c_void, u32, u32, *const c_void);

macro_rules! functions {
    ($($field:ident: $symbol:literal, fn($($argument:ty),*);)*) => {
        /// The functions of a loaded CUPTI. All return a [`Status`].
        pub struct Functions { $($field: unsafe extern "C" fn($($argument),*) -> Status,)* }

        impl Functions {
            fn find(library: Loaded) -> Result<Self, String> {
                Ok(Self { $($field: {
                    let address = library.symbol($symbol)
                        .ok_or_else(|| format!("libcupti has no {}", $symbol.to_string_lossy()))?;
                    // SAFETY: the type is the one that CUPTI's headers declare for this symbol.
                    unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($argument),*) -> Status>(address) }
                },)* })
            }
        }
    };
}

functions! {
    get_version: c"cuptiGetVersion", fn(*mut u32);
    get_result_string: c"cuptiGetResultString", fn(Status, *mut *const c_char);
    subscribe: c"cuptiSubscribe", fn(*mut *mut c_void, Callback, *mut c_void);
    unsubscribe: c"cuptiUnsubscribe", fn(*mut c_void);
    enable_callback: c"cuptiEnableCallback", fn(u32, *mut c_void, u32, u32);
    set_attribute: c"cuptiActivitySetAttribute", fn(u32, *mut usize, *mut c_void);
    register_callbacks: c"cuptiActivityRegisterCallbacks", fn(RequestBuffer, CompleteBuffer);
    register_clock: c"cuptiActivityRegisterTimestampCallback", fn(Clock);
    enable: c"cuptiActivityEnable", fn(u32);
    disable: c"cuptiActivityDisable", fn(u32);
    flush_all: c"cuptiActivityFlushAll", fn(u32);
    finalize: c"cuptiFinalize", fn();
    next_record: c"cuptiActivityGetNextRecord", fn(*mut u8, usize, *mut *mut u8);
    dropped: c"cuptiActivityGetNumDroppedRecords", fn(*mut c_void, u32, *mut usize);
}

/// A loaded CUPTI.
pub struct Cupti {
    functions: Functions,
    /// Its version number.
    pub version: u32,
}

/// A subscription, which only one client of a process can hold.
pub struct Subscription(*mut c_void);

// SAFETY: CUPTI's handle may be used from any thread.
unsafe impl Send for Subscription {}

/// The domain of callbacks about resources, and the event that a graph was made executable.
const RESOURCE: u32 = 3;
const GRAPH_INSTANTIATED: u32 = 18;

/// Set when a graph is made executable while the seat is held.
pub static GRAPH_SEEN: AtomicBool = AtomicBool::new(false);

extern "C" fn resource_event(_: *mut c_void, domain: u32, event: u32, _: *const c_void) {
    if domain == RESOURCE && event == GRAPH_INSTANTIATED {
        GRAPH_SEEN.store(true, Ordering::Release);
    }
}

impl Cupti {
    /// Finds and loads CUPTI.
    pub fn load() -> Result<Self, String> {
        let functions = Functions::find(search::cupti()?)?;
        let mut version = 0;
        // SAFETY: a valid place for the result.
        unsafe { (functions.get_version)(&mut version) };
        check_version(version)?;
        Ok(Self { functions, version })
    }

    fn text(&self, status: Status) -> String {
        let mut text = std::ptr::null();
        // SAFETY: a valid place for the result.
        let known = unsafe { (self.functions.get_result_string)(status, &mut text) } == 0 && !text.is_null();
        if !known {
            return format!("error {status}");
        }
        // SAFETY: CUPTI returned a static C string.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }

    fn checked(&self, what: &str, status: Status) -> Result<(), String> {
        if status == 0 { Ok(()) } else { Err(format!("{what} failed: {}", self.text(status))) }
    }

    /// Takes the one seat that a process has for a client of CUPTI.
    pub fn subscribe(&self) -> Result<Subscription, String> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: a valid place for the handle, and a callback of the right type that reads no argument but numbers.
        let status = unsafe { (self.functions.subscribe)(&mut handle, resource_event, std::ptr::null_mut()) };
        if matches!(status, MULTIPLE_SUBSCRIBERS | MAX_LIMIT_REACHED) {
            return Err("another client of CUPTI, such as a profiler, is active in the process".into());
        }
        self.checked("cuptiSubscribe", status)?;
        // SAFETY: the handle that was just returned.
        if unsafe { (self.functions.enable_callback)(1, handle, RESOURCE, GRAPH_INSTANTIATED) } != 0 {
            GRAPH_SEEN.store(true, Ordering::Release);
        }
        Ok(Subscription(handle))
    }

    /// Frees the seat.
    pub fn unsubscribe(&self, subscription: Subscription) {
        // SAFETY: a handle that `subscribe` returned, used once.
        unsafe { (self.functions.unsubscribe)(subscription.0) };
    }

    /// Takes CUPTI and any subscription out of the process, where this version can come back; tells whether it did.
    /// The program must have nothing on the device, and no graph that CUPTI has touched.
    pub fn finalize(&self) -> bool {
        // SAFETY: buffers were flushed and the device is idle, as the caller has been promised.
        self.version >= CAN_COME_BACK && unsafe { (self.functions.finalize)() } == 0
    }

    /// Registers who hands out and takes back buffers, and that they are zeroed.
    pub fn register_buffers(&self, request: RequestBuffer, complete: CompleteBuffer) -> Result<(), String> {
        let mut zeroed = 1u8;
        let mut size = size_of::<u8>();
        // SAFETY: the attribute is one byte. If this version refuses it, CUPTI zeroes the buffers itself.
        unsafe { (self.functions.set_attribute)(ATTRIBUTE_ZEROED, &mut size, (&raw mut zeroed).cast()) };
        // SAFETY: functions of the right types that stay loaded.
        self.checked("cuptiActivityRegisterCallbacks", unsafe {
            (self.functions.register_callbacks)(request, complete)
        })
    }

    /// Registers the clock that records are told in.
    pub fn register_clock(&self, clock: Clock) -> Result<(), String> {
        // SAFETY: a function of the right type that stays loaded.
        self.checked("cuptiActivityRegisterTimestampCallback", unsafe {
            (self.functions.register_clock)(clock)
        })
    }

    /// Starts recording a kind.
    pub fn enable(&self, kind: u32) -> Result<(), String> {
        // SAFETY: any number is allowed.
        self.checked("cuptiActivityEnable", unsafe { (self.functions.enable)(kind) })
    }

    /// Stops recording a kind.
    pub fn disable(&self, kind: u32) {
        // SAFETY: any number is allowed.
        unsafe { (self.functions.disable)(kind) };
    }

    /// Has buffers delivered.
    pub fn flush(&self, flag: u32) -> Result<(), String> {
        // SAFETY: any flag is allowed.
        self.checked("cuptiActivityFlushAll", unsafe { (self.functions.flush_all)(flag) })
    }

    /// Records dropped since the last call; to be asked while a buffer is taken back.
    pub fn dropped(&self, context: *mut c_void, stream: u32) -> u64 {
        let mut dropped = 0;
        // SAFETY: a valid place for the result, and the context and stream that CUPTI itself named.
        unsafe { (self.functions.dropped)(context, stream, &mut dropped) };
        dropped as u64
    }

    /// The records of a buffer that CUPTI has handed back.
    ///
    /// # Safety
    /// `buffer` holds `valid` bytes of records by this CUPTI, and nothing writes to it meanwhile.
    pub unsafe fn records(&self, buffer: *mut u8, valid: usize) -> impl Iterator<Item = Activity> {
        let mut record = std::ptr::null_mut();
        std::iter::from_fn(move || {
            // SAFETY: by this function's contract; `record` is null at first and then the last record returned.
            let status = unsafe { (self.functions.next_record)(buffer, valid, &mut record) };
            // SAFETY: CUPTI returned a record.
            (status == 0 && !record.is_null()).then(|| unsafe { Activity::read(record) })
        })
    }
}

fn check_version(version: u32) -> Result<(), String> {
    match version {
        OLDEST..UNCHECKED => Ok(()),
        ..OLDEST => {
            Err(format!("libcupti is too old (version {version}); it must be that of CUDA 11.8 or later"))
        }
        _ => Err(format!("libcupti's version {version} is newer than this library knows (up to CUDA 13)")),
    }
}

/// A record, as far as it is of interest.
#[derive(Debug, PartialEq)]
pub enum Activity {
    /// An execution of a kernel.
    Kernel(KernelActivity),
    /// A copy or setting of memory.
    Transfer(TransferActivity),
    /// Something else.
    Other,
}

/// An execution of a kernel.
#[derive(Debug, PartialEq)]
pub struct KernelActivity {
    pub start_ns: u64,
    pub end_ns: u64,
    pub lane: Lane,
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub registers: u16,
    pub static_shared: u32,
    pub dynamic_shared: u32,
    pub correlation: u32,
    pub node: u64,
    /// Lives as long as the module; may be null.
    pub name: *const c_char,
}

/// A copy or setting of memory.
#[derive(Debug, PartialEq)]
pub struct TransferActivity {
    pub set: bool,
    pub direction: u8,
    pub start_ns: u64,
    pub end_ns: u64,
    pub lane: Lane,
    pub bytes: u64,
    pub correlation: u32,
    pub node: u64,
}

/// Offsets in `CUpti_ActivityKernel8` to `10`.
mod kernel_at {
    pub const REGISTERS: usize = 6;
    pub const START: usize = 16;
    pub const END: usize = 24;
    pub const DEVICE: usize = 40;
    pub const CONTEXT: usize = 44;
    pub const STREAM: usize = 48;
    pub const GRID: usize = 52;
    pub const BLOCK: usize = 64;
    pub const STATIC_SHARED: usize = 76;
    pub const DYNAMIC_SHARED: usize = 80;
    pub const CORRELATION: usize = 92;
    pub const NAME: usize = 104;
    pub const NODE: usize = 144;
    pub const READ_BYTES: usize = 152;
}

/// Offsets in `CUpti_ActivityMemcpy5` and `6` and `CUpti_ActivityMemset4`, which agree in these.
mod transfer_at {
    pub const DIRECTION: usize = 4;
    pub const BYTES: usize = 8;
    pub const START: usize = 16;
    pub const END: usize = 24;
    pub const DEVICE: usize = 32;
    pub const CONTEXT: usize = 36;
    pub const STREAM: usize = 40;
    pub const CORRELATION: usize = 44;
    pub const NODE: usize = 64;
    pub const READ_BYTES: usize = 72;
}

/// A record's bytes.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut value = [0; N];
        value.copy_from_slice(&self.0[at..at + N]);
        value
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_ne_bytes(self.get(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.get(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.get(at))
    }

    fn lane(&self, device: usize, context: usize, stream: usize) -> Lane {
        Lane { device: self.u32(device), context: self.u32(context), stream: self.u32(stream) }
    }
}

impl Activity {
    /// # Safety
    /// `record` points to a record of a CUPTI whose version was checked.
    unsafe fn read(record: *const u8) -> Self {
        // SAFETY: every record begins with its kind.
        let kind = unsafe { record.cast::<u32>().read_unaligned() };
        let bytes = match kind {
            KIND_KERNEL | KIND_SERIAL_KERNEL => kernel_at::READ_BYTES,
            KIND_COPY | KIND_SET => transfer_at::READ_BYTES,
            _ => return Self::Other,
        };
        // SAFETY: a record of this kind has at least so many bytes in every version that is let in.
        let fields = Fields(unsafe { std::slice::from_raw_parts(record, bytes) });
        match kind {
            KIND_KERNEL | KIND_SERIAL_KERNEL => Self::Kernel(KernelActivity::read(&fields)),
            _ => Self::Transfer(TransferActivity::read(&fields, kind == KIND_SET)),
        }
    }
}

impl KernelActivity {
    fn read(fields: &Fields) -> Self {
        use kernel_at::*;
        let three = |at: usize| [fields.u32(at), fields.u32(at + 4), fields.u32(at + 8)];
        Self {
            start_ns: fields.u64(START),
            end_ns: fields.u64(END),
            lane: fields.lane(DEVICE, CONTEXT, STREAM),
            grid: three(GRID),
            block: three(BLOCK),
            registers: fields.u16(REGISTERS),
            static_shared: fields.u32(STATIC_SHARED),
            dynamic_shared: fields.u32(DYNAMIC_SHARED),
            correlation: fields.u32(CORRELATION),
            node: fields.u64(NODE),
            name: std::ptr::with_exposed_provenance(fields.u64(NAME) as usize),
        }
    }
}

impl TransferActivity {
    fn read(fields: &Fields, set: bool) -> Self {
        use transfer_at::*;
        Self {
            set,
            direction: if set { 0 } else { fields.0[DIRECTION] },
            start_ns: fields.u64(START),
            end_ns: fields.u64(END),
            lane: fields.lane(DEVICE, CONTEXT, STREAM),
            bytes: fields.u64(BYTES),
            correlation: fields.u32(CORRELATION),
            node: fields.u64(NODE),
        }
    }
}

/// Most names, shapes and sites that are given numbers; further ones are [`UNTOLD`].
pub const MOST_DEFINITIONS: u32 = 1 << 20;
const _: () = assert!(MOST_DEFINITIONS < UNTOLD);

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    /// The fields of a kernel's record in their order, up to the last that is read; the compiler finds the places.
    #[repr(C)]
    struct KernelRecord {
        kind: u32,
        cache_config: u8,
        shared_config: u8,
        registers: u16,
        partitioned_requested: u32,
        partitioned_executed: u32,
        start: u64,
        end: u64,
        completed: u64,
        device: u32,
        context: u32,
        stream: u32,
        grid: [i32; 3],
        block: [i32; 3],
        static_shared: i32,
        dynamic_shared: i32,
        local_per_thread: u32,
        local_total: u32,
        correlation: u32,
        grid_id: i64,
        name: *const c_char,
        reserved: *const c_void,
        queued: u64,
        submitted: u64,
        launch_type: u8,
        carveout: [u8; 2],
        padding: u8,
        shared_executed: u32,
        node: u64,
    }

    /// As above, of a copy: `flags` and what precedes it are one `value` in a setting's record.
    #[repr(C)]
    struct CopyRecord {
        kind: u32,
        direction: u8,
        source: u8,
        destination: u8,
        flags: u8,
        bytes: u64,
        start: u64,
        end: u64,
        device: u32,
        context: u32,
        stream: u32,
        correlation: u32,
        runtime_correlation: u32,
        padding: u32,
        reserved: *const c_void,
        node: u64,
    }

    #[test]
    fn fields_stand_where_they_are_read() {
        use kernel_at as kernel;
        let read =
            [kernel::REGISTERS, kernel::START, kernel::END, kernel::DEVICE, kernel::CONTEXT, kernel::STREAM];
        let stand = [
            offset_of!(KernelRecord, registers),
            offset_of!(KernelRecord, start),
            offset_of!(KernelRecord, end),
            offset_of!(KernelRecord, device),
            offset_of!(KernelRecord, context),
            offset_of!(KernelRecord, stream),
        ];
        assert_eq!(read, stand);
        let read =
            [kernel::GRID, kernel::BLOCK, kernel::STATIC_SHARED, kernel::DYNAMIC_SHARED, kernel::CORRELATION];
        let stand = [
            offset_of!(KernelRecord, grid),
            offset_of!(KernelRecord, block),
            offset_of!(KernelRecord, static_shared),
            offset_of!(KernelRecord, dynamic_shared),
            offset_of!(KernelRecord, correlation),
        ];
        assert_eq!(read, stand);
        let read = [kernel::NAME, kernel::NODE, kernel::READ_BYTES];
        assert_eq!(
            read,
            [offset_of!(KernelRecord, name), offset_of!(KernelRecord, node), size_of::<KernelRecord>()]
        );

        use transfer_at as copy;
        let read =
            [copy::DIRECTION, copy::BYTES, copy::START, copy::END, copy::DEVICE, copy::CONTEXT, copy::STREAM];
        let stand = [
            offset_of!(CopyRecord, direction),
            offset_of!(CopyRecord, bytes),
            offset_of!(CopyRecord, start),
            offset_of!(CopyRecord, end),
            offset_of!(CopyRecord, device),
            offset_of!(CopyRecord, context),
            offset_of!(CopyRecord, stream),
        ];
        assert_eq!(read, stand);
        let read = [copy::CORRELATION, copy::NODE, copy::READ_BYTES];
        assert_eq!(
            read,
            [offset_of!(CopyRecord, correlation), offset_of!(CopyRecord, node), size_of::<CopyRecord>()]
        );
    }

    #[test]
    fn only_checked_versions_are_let_in() {
        for version in [18, 22, 24, 28, 130_000, 130_001, 139_999] {
            assert_eq!(check_version(version), Ok(()));
        }
        assert!(check_version(17).unwrap_err().contains("too old"));
        assert!(check_version(140_000).unwrap_err().contains("newer"));
    }
}
