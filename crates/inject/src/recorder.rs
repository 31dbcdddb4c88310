//! Recording: what is asked for, and what CUPTI calls back.

use crate::buffers::{self, BUFFER_BYTES, Pool};
use crate::cupti::{
    Activity, Cupti, FLUSH_FORCED, GRAPH_SEEN, KIND_COPY, KIND_KERNEL, KIND_SET, Subscription,
};
use crate::spool::Spool;
use crate::{guarded, recorder, say, set_state, sys};
use cotenant_timeline::format::Event;
use cotenant_timeline::page::{Outcome, Page, Request, State};
use std::ffi::{CStr, c_void};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// What is recorded.
const KINDS: [u32; 3] = [KIND_KERNEL, KIND_COPY, KIND_SET];

/// The recorder of a process. There is one.
pub struct Recorder {
    /// The process that made it.
    pub pid: u32,
    /// The header page.
    pub page: &'static Page,
    spool: Mutex<Spool>,
    pool: Mutex<Pool>,
    /// Why recording is impossible for good, or CUPTI.
    cupti: OnceLock<Result<Cupti, String>>,
    /// While recording: the seat at CUPTI. Held locked while anything is switched.
    recording: Mutex<Option<Subscription>>,
    failed: AtomicBool,
    /// The seat was given back while CUPTI stayed in the process.
    unwatched: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recorder {
    /// Creates the trace file.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        let page = match sys::map_page(&file) {
            Ok(page) => page,
            Err(error) => {
                let _ = std::fs::remove_file(path);
                return Err(error);
            }
        };
        let pid = std::process::id();
        page.initialise(pid, sys::monotonic_ns());
        Ok(Self {
            pid,
            page,
            spool: Mutex::new(Spool::new(file, page)),
            pool: Mutex::new(Pool::new()),
            cupti: OnceLock::new(),
            recording: Mutex::new(None),
            failed: AtomicBool::new(false),
            unwatched: AtomicBool::new(false),
        })
    }

    /// Loads CUPTI, and says in the header page whether recording is possible.
    pub fn start(&self) {
        match self.cupti.get_or_init(Cupti::load) {
            Ok(cupti) => {
                self.page.cupti_version.store(cupti.version, Ordering::Release);
                let off = (State::Starting as u32, State::Off as u32);
                let _ = self.page.state.compare_exchange(off.0, off.1, Ordering::AcqRel, Ordering::Relaxed);
                sys::futex_wake(&self.page.state);
            }
            Err(reason) => self.disable(reason),
        }
    }

    /// Ends recording for good, and says why, once.
    pub fn disable(&self, reason: &str) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            self.page.set_reason(reason);
            say(reason);
            set_state(self.page, State::Disabled);
            // The library's thread gives CUPTI up; from within CUPTI's calls that is not possible.
            sys::futex_wake(&self.page.request);
        }
    }

    /// Does what was asked for. A refusal leaves its reason in the page.
    pub fn carry_out(&self, request: Request) -> Outcome {
        if self.failed.load(Ordering::Acquire) {
            return Outcome::Refused;
        }
        let Some(Ok(cupti)) = self.cupti.get() else { return Outcome::Refused };
        let mut recording = lock(&self.recording);
        let done = match (request, recording.is_some()) {
            (Request::On, true) | (Request::Off | Request::Detach | Request::Flush, false) => Ok(()),
            (Request::On, false) => self.switch_on(cupti).map(|seat| *recording = Some(seat)),
            (Request::Flush, true) => self.flush(cupti),
            (Request::Off, true) => recording.take().map_or(Ok(()), |seat| self.switch_off(cupti, seat)),
            (Request::Detach, true) => {
                recording.take().map_or(Ok(()), |seat| self.switch_off_and_detach(cupti, seat))
            }
        };
        if !self.failed.load(Ordering::Acquire) {
            set_state(self.page, if recording.is_some() { State::On } else { State::Off });
        }
        // Asked again, since a thread of CUPTI's may have failed to write meanwhile.
        if self.failed.load(Ordering::Acquire) {
            set_state(self.page, State::Disabled);
            return Outcome::Refused;
        }
        match done {
            Ok(()) => Outcome::Done,
            Err(reason) => {
                self.page.set_reason(&reason);
                Outcome::Refused
            }
        }
    }

    fn switch_on(&self, cupti: &Cupti) -> Result<Subscription, String> {
        let seat = cupti.subscribe()?;
        self.page.attached.store(1, Ordering::Release);
        lock(&self.pool).prepare();
        let enabled = (|| {
            // Registered each time: whoever held the seat in between has registered its own.
            cupti.register_clock(monotonic)?;
            cupti.register_buffers(request_buffer, complete_buffer)?;
            KINDS.iter().try_for_each(|&kind| cupti.enable(kind))
        })();
        if let Err(reason) = enabled {
            self.leave(cupti, seat);
            return Err(reason);
        }
        self.mark(Event::On, sys::monotonic_ns());
        Ok(seat)
    }

    fn flush(&self, cupti: &Cupti) -> Result<(), String> {
        let now = sys::monotonic_ns();
        cupti.flush(0)?;
        self.mark(Event::Flush, now);
        Ok(())
    }

    fn switch_off(&self, cupti: &Cupti, seat: Subscription) -> Result<(), String> {
        let stopped = self.stop(cupti);
        self.leave(cupti, seat);
        stopped
    }

    /// Ends recording: everything that has ended is written.
    fn stop(&self, cupti: &Cupti) -> Result<(), String> {
        let now = sys::monotonic_ns();
        let flushed = cupti.flush(0);
        KINDS.iter().for_each(|&kind| cupti.disable(kind));
        let forced = cupti.flush(FLUSH_FORCED);
        self.mark(Event::Off, now);
        flushed.and(forced)
    }

    /// Gives the seat back, with CUPTI's clock as it was, so that a profiler can take it.
    fn leave(&self, cupti: &Cupti, seat: Subscription) {
        self.unwatched.store(true, Ordering::Release);
        KINDS.iter().for_each(|&kind| cupti.disable(kind));
        let _ = cupti.register_clock(realtime);
        cupti.unsubscribe(seat);
    }

    /// Stops recording and takes CUPTI out of the process, if that is safe; else CUPTI stays.
    ///
    /// Graphs that CUPTI has touched go on writing time stamps into memory that taking it out frees: seen as faults of
    /// the GPU's MMU on an H100 with CUDA 13.0. So it stays where a graph was made executable or launched since it came,
    /// or where nobody watched for that because the seat was given back in between.
    fn switch_off_and_detach(&self, cupti: &Cupti, seat: Subscription) -> Result<(), String> {
        let stopped = self.stop(cupti);
        if !self.unwatched.load(Ordering::Acquire) && !GRAPH_SEEN.load(Ordering::Acquire) {
            let _ = cupti.register_clock(realtime);
            if cupti.finalize() {
                self.page.attached.store(0, Ordering::Release);
                return stopped;
            }
        }
        self.leave(cupti, seat);
        stopped
    }

    /// Gives the seat back when recording has ended by a failure.
    pub fn leave_if_failed(&self) {
        if self.failed.load(Ordering::Acquire)
            && let Some(Ok(cupti)) = self.cupti.get()
            && let Some(seat) = lock(&self.recording).take()
        {
            self.leave(cupti, seat);
        }
    }

    fn mark(&self, event: Event, time_ns: u64) {
        let mut spool = lock(&self.spool);
        spool.mark(event, time_ns, 0);
        self.commit(&mut spool);
    }

    fn commit(&self, spool: &mut Spool) -> bool {
        if self.failed.load(Ordering::Acquire) {
            return false;
        }
        match spool.commit() {
            Ok(()) => true,
            Err(error) => {
                self.disable(&format!("cannot write the trace: {error}"));
                false
            }
        }
    }

    /// The program exits: what was recorded is written.
    pub fn end(&self) {
        // The library's thread may be at work; if it hangs in CUPTI, the program must still exit.
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut recording = loop {
            match self.recording.try_lock() {
                Ok(guard) => break guard,
                Err(TryLockError::Poisoned(guard)) => break guard.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return,
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        if let (Some(Ok(cupti)), Some(seat)) = (self.cupti.get(), recording.take()) {
            let _ = self.switch_off(cupti, seat);
        }
        if !self.failed.load(Ordering::Acquire) {
            set_state(self.page, State::Ended);
            // Nothing more is taken on.
            self.failed.store(true, Ordering::Release);
            sys::futex_wake(&self.page.answer);
        }
    }

    fn hand_out(&self) -> Option<*mut u8> {
        let buffer = if self.failed.load(Ordering::Acquire) { None } else { lock(&self.pool).take() };
        if buffer.is_none() {
            self.page.buffers_lost.fetch_add(1, Ordering::Release);
        }
        buffer
    }

    /// Writes a buffer's records to the file.
    ///
    /// # Safety
    /// CUPTI handed back this buffer with so many bytes of records.
    unsafe fn take_in(&self, context: *mut c_void, stream: u32, buffer: *mut u8, valid: usize) {
        let Some(Ok(cupti)) = self.cupti.get() else { return };
        let mut spool = lock(&self.spool);
        let (mut incomplete, mut graph) = (0, false);
        // SAFETY: by this function's contract.
        for record in unsafe { cupti.records(buffer, valid) } {
            match record {
                Activity::Kernel(kernel) if kernel.end_ns != 0 => {
                    graph |= kernel.node != 0;
                    // SAFETY: CUPTI's names are C strings that live as long as records may name them.
                    let name = (!kernel.name.is_null()).then(|| unsafe { CStr::from_ptr(kernel.name) });
                    spool.kernel(&kernel, name);
                }
                Activity::Transfer(transfer) if transfer.end_ns != 0 => {
                    graph |= transfer.node != 0;
                    spool.transfer(&transfer);
                }
                Activity::Kernel(_) | Activity::Transfer(_) => incomplete += 1,
                Activity::Other => {}
            }
        }
        if graph || incomplete > 0 {
            // What has not ended may be part of a graph too.
            GRAPH_SEEN.store(true, Ordering::Release);
        }
        let dropped = cupti.dropped(context, stream);
        if dropped > 0 {
            self.page.dropped.fetch_add(dropped, Ordering::Release);
            spool.mark(Event::Lost, sys::monotonic_ns(), dropped);
        }
        if incomplete > 0 {
            self.page.incomplete.fetch_add(incomplete, Ordering::Release);
        }
        if !self.commit(&mut spool) {
            self.page.buffers_lost.fetch_add(1, Ordering::Release);
        }
    }
}

extern "C" fn monotonic() -> u64 {
    sys::monotonic_ns()
}

extern "C" fn realtime() -> u64 {
    sys::realtime_ns()
}

extern "C" fn request_buffer(buffer: *mut *mut u8, size: *mut usize, most_records: *mut usize) {
    let given = guarded(None, || recorder().and_then(Recorder::hand_out));
    // SAFETY: CUPTI passes three valid places. No buffer and no size mean that records are dropped.
    unsafe {
        *buffer = given.unwrap_or(std::ptr::null_mut());
        *size = if given.is_some() { BUFFER_BYTES } else { 0 };
        *most_records = 0;
    }
}

extern "C" fn complete_buffer(
    context: *mut c_void,
    stream: u32,
    buffer: *mut u8,
    _size: usize,
    valid: usize,
) {
    guarded((), || {
        let Some(recorder) = recorder() else { return };
        if buffer.is_null() {
            return;
        }
        if valid > 0 {
            // SAFETY: CUPTI hands back what it filled.
            unsafe { recorder.take_in(context, stream, buffer, valid) };
        }
        // SAFETY: it came from `request_buffer`, and CUPTI hands each back once.
        let buffer = unsafe { buffers::take_over(buffer) };
        lock(&recorder.pool).keep(buffer);
    });
}
