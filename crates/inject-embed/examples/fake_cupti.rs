//! A CUPTI without a GPU, for the tests of the injected library: as much of the activity interface as that uses.
//! `fake_launch` makes up executions of kernels, whose records are laid out as the version says that
//! `FAKE_CUPTI_VERSION` names (18, 22, 28 or 130001; default 130001).

use std::ffi::{c_char, c_void};
use std::sync::{Mutex, MutexGuard, PoisonError};

type Request = extern "C" fn(*mut *mut u8, *mut usize, *mut usize);
type Complete = extern "C" fn(*mut c_void, u32, *mut u8, usize, usize);
type Clock = extern "C" fn() -> u64;
type Callback = extern "C" fn(*mut c_void, u32, u32, *const c_void);

const COPY: u32 = 1;
const SET: u32 = 2;
const KERNEL: u32 = 10;
const GRAPH_INSTANTIATED: (u32, u32) = (3, 18);
const INVALID_PARAMETER: u32 = 1;
const MAX_LIMIT_REACHED: u32 = 12;
const MULTIPLE_SUBSCRIBERS: u32 = 39;

struct Buffer {
    start: *mut u8,
    size: usize,
    used: usize,
}

struct State {
    taken: bool,
    callbacks: Option<(Request, Complete)>,
    clock: Option<Clock>,
    enabled: [bool; 64],
    buffer: Option<Buffer>,
    dropped: usize,
    launched: u64,
    finalized: u32,
    refuse_kind: u32,
    callback: Option<Callback>,
    watched: bool,
}

// SAFETY: the buffer's pointer is only used under the lock.
unsafe impl Send for State {}

static STATE: Mutex<State> = Mutex::new(State {
    taken: false,
    callbacks: None,
    clock: None,
    enabled: [false; 64],
    buffer: None,
    dropped: 0,
    launched: 0,
    finalized: 0,
    refuse_kind: 0,
    callback: None,
    watched: false,
});

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn version() -> u32 {
    std::env::var("FAKE_CUPTI_VERSION").ok().and_then(|text| text.parse().ok()).unwrap_or(130_001)
}

/// Bytes of a kind's record in this version, from the sizes of NVIDIA's structures.
fn size_of_kind(kind: u32) -> usize {
    match (kind, version()) {
        (KERNEL, ..=18) => 200,
        (KERNEL, ..130_000) => 208,
        (KERNEL, _) => 216,
        (COPY, 26..) => 96,
        _ => 88,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuptiGetVersion(out: *mut u32) -> u32 {
    // SAFETY: the caller passes a valid place.
    unsafe { *out = version() };
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuptiGetResultString(status: u32, out: *mut *const c_char) -> u32 {
    if status != INVALID_PARAMETER {
        return INVALID_PARAMETER;
    }
    // SAFETY: the caller passes a valid place.
    unsafe { *out = c"CUPTI_ERROR_INVALID_PARAMETER".as_ptr() };
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuptiSubscribe(out: *mut *mut c_void, callback: Callback, _: *mut c_void) -> u32 {
    let mut state = state();
    if state.taken {
        return if version() < 22 { MAX_LIMIT_REACHED } else { MULTIPLE_SUBSCRIBERS };
    }
    state.taken = true;
    state.callback = Some(callback);
    // SAFETY: the caller passes a valid place.
    unsafe { *out = std::ptr::without_provenance_mut(1) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuptiUnsubscribe(_: *mut c_void) -> u32 {
    let mut state = state();
    (state.taken, state.watched, state.callback) = (false, false, None);
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuptiEnableCallback(enable: u32, _: *mut c_void, domain: u32, event: u32) -> u32 {
    state().watched = enable == 1 && (domain, event) == GRAPH_INSTANTIATED;
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuptiActivitySetAttribute(_: u32, _: *mut usize, _: *mut c_void) -> u32 {
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuptiActivityRegisterCallbacks(request: Request, complete: Complete) -> u32 {
    state().callbacks = Some((request, complete));
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuptiActivityRegisterTimestampCallback(clock: Clock) -> u32 {
    state().clock = Some(clock);
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuptiActivityEnable(kind: u32) -> u32 {
    let mut state = state();
    if state.refuse_kind == kind {
        return INVALID_PARAMETER;
    }
    state.enabled[kind as usize] = true;
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuptiActivityDisable(kind: u32) -> u32 {
    state().enabled[kind as usize] = false;
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuptiActivityFlushAll(_: u32) -> u32 {
    deliver();
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuptiFinalize() -> u32 {
    deliver();
    let mut state = state();
    (state.taken, state.watched, state.callback) = (false, false, None);
    state.finalized += 1;
    state.enabled = [false; 64];
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuptiActivityGetNumDroppedRecords(_: *mut c_void, _: u32, out: *mut usize) -> u32 {
    // SAFETY: the caller passes a valid place.
    unsafe { *out = std::mem::take(&mut state().dropped) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuptiActivityGetNextRecord(buffer: *mut u8, valid: usize, record: *mut *mut u8) -> u32 {
    // SAFETY: the caller passes a buffer of so many bytes of records, and a valid place with null or a record of it.
    unsafe {
        let next = match *record {
            last if last.is_null() => buffer,
            last => last.add(size_of_kind(last.cast::<u32>().read())),
        };
        if next >= buffer.add(valid) {
            return MAX_LIMIT_REACHED;
        }
        *record = next;
    }
    0
}

/// Hands the current buffer back. The lock is free meanwhile: the callback asks for records.
fn deliver() {
    let (buffer, complete) = {
        let mut state = state();
        let Some((_, complete)) = state.callbacks else { return };
        let Some(buffer) = state.buffer.take() else { return };
        (buffer, complete)
    };
    complete(std::ptr::null_mut(), 0, buffer.start, buffer.size, buffer.used);
}

/// Appends a record to the current buffer, or drops it where there is none to be had.
fn append(record: &[u8]) {
    let full = state().buffer.as_ref().is_some_and(|buffer| buffer.used + record.len() > buffer.size);
    if full {
        deliver();
    }
    let Some((request, _)) = state().callbacks else { return };
    if state().buffer.is_none() {
        let (mut start, mut size, mut most) = (std::ptr::null_mut(), 0, 0);
        request(&mut start, &mut size, &mut most);
        if start.is_null() {
            state().dropped += 1;
            return;
        }
        state().buffer = Some(Buffer { start, size, used: 0 });
    }
    if let Some(buffer) = state().buffer.as_mut() {
        // SAFETY: there is room, as was checked above or since the buffer is fresh.
        unsafe {
            std::ptr::copy_nonoverlapping(record.as_ptr(), buffer.start.add(buffer.used), record.len())
        };
        buffer.used += record.len();
    }
}

fn put<const N: usize>(record: &mut [u8], at: usize, value: [u8; N]) {
    record[at..at + N].copy_from_slice(&value);
}

/// Makes up so many executions of kernels, and after every tenth a copy and a setting. They last 1,000 ns each from now
/// on. Every third kernel has no name.
#[unsafe(no_mangle)]
extern "C" fn fake_launch(count: u64) {
    launch(count, 0);
}

/// As `fake_launch`, with every second kernel in a graph.
#[unsafe(no_mangle)]
extern "C" fn fake_graph(count: u64) {
    launch(count, 5 << 32);
}

/// Makes a graph executable.
#[unsafe(no_mangle)]
extern "C" fn fake_instantiate() {
    let callback = {
        let state = state();
        state.callback.filter(|_| state.watched)
    };
    if let Some(callback) = callback {
        callback(std::ptr::null_mut(), GRAPH_INSTANTIATED.0, GRAPH_INSTANTIATED.1, std::ptr::null());
    }
}

fn launch(count: u64, graph: u64) {
    let names = [c"void kernel_of_the_first_kind<float, 128>(float*, int)", c"short"];
    for _ in 0..count {
        let (number, enabled, clock) = {
            let mut state = state();
            state.launched += 1;
            (state.launched, state.enabled, state.clock)
        };
        let now = clock.map_or(0, |clock| clock());
        let times = |record: &mut [u8]| {
            put(record, 16, now.to_ne_bytes());
            put(record, 24, (now + 1000).to_ne_bytes());
        };
        if enabled[KERNEL as usize] {
            let mut record = vec![0; size_of_kind(KERNEL)];
            put(&mut record, 0, KERNEL.to_ne_bytes());
            put(&mut record, 6, 40u16.to_ne_bytes());
            times(&mut record);
            for (index, value) in
                [(40, 0u32), (44, 1), (48, 7), (52, 264), (56, 2), (60, 1), (64, 128), (68, 1), (72, 1)]
            {
                put(&mut record, index, value.to_ne_bytes());
            }
            put(&mut record, 76, 1024u32.to_ne_bytes());
            put(&mut record, 80, 2048u32.to_ne_bytes());
            put(&mut record, 92, (number as u32).to_ne_bytes());
            let name = match number % 3 {
                0 => 0,
                which => names[which as usize - 1].as_ptr().expose_provenance() as u64,
            };
            put(&mut record, 104, name.to_ne_bytes());
            put(
                &mut record,
                144,
                (if graph != 0 && number.is_multiple_of(2) { graph | number } else { 0 }).to_ne_bytes(),
            );
            append(&record);
        }
        if number.is_multiple_of(10) {
            for (kind, bytes) in [(COPY, 4096u64), (SET, 512)] {
                if enabled[kind as usize] {
                    let mut record = vec![0; size_of_kind(kind)];
                    put(&mut record, 0, kind.to_ne_bytes());
                    record[4] = 8;
                    put(&mut record, 8, bytes.to_ne_bytes());
                    times(&mut record);
                    put(&mut record, 36, 1u32.to_ne_bytes());
                    put(&mut record, 40, 7u32.to_ne_bytes());
                    put(&mut record, 44, (number as u32).to_ne_bytes());
                    append(&record);
                }
            }
        }
    }
}

/// Makes up a kernel that has not ended.
#[unsafe(no_mangle)]
extern "C" fn fake_unfinished() {
    let mut record = vec![0; size_of_kind(KERNEL)];
    put(&mut record, 0, KERNEL.to_ne_bytes());
    append(&record);
}

/// Has another client take or leave the seat.
#[unsafe(no_mangle)]
extern "C" fn fake_seat(taken: u32) {
    state().taken = taken != 0;
}

/// Has CUPTI refuse a kind.
#[unsafe(no_mangle)]
extern "C" fn fake_refuse(kind: u32) {
    state().refuse_kind = kind;
}

/// How often it was finalised.
#[unsafe(no_mangle)]
extern "C" fn fake_finalized() -> u32 {
    state().finalized
}
