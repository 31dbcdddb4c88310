//! Switching the recording of a running process on and off, from outside it.

use crate::format::{HEADER_BYTES, MAGIC, VERSION};
use crate::page::{Counters, Outcome, Page, Request, State};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::futex;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Why recording cannot be controlled.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The file cannot be opened or mapped.
    #[error("open the trace: {0}")]
    Io(#[from] io::Error),
    /// The process has not finished creating it, or it is no trace.
    #[error("open the trace: it has no complete header yet")]
    NotReady,
    /// Written by a library of another version.
    #[error("control the trace: it has format version {0}; this program knows version {VERSION}")]
    Version(u32),
    /// Somebody else controls it.
    #[error("control the trace: another process controls it")]
    Taken,
    /// The library passes through.
    #[error("record launches: {0}")]
    Disabled(String),
    /// What was asked could not be done now.
    #[error("switch recording: {0}")]
    Refused(String),
    /// The process has ended.
    #[error("switch recording: the process has ended")]
    Ended,
    /// No answer in time; the process may hang, be stopped or have been killed.
    #[error("switch recording: no answer within {} ms{}", .waited.as_millis(), if *.alive { "" } else { "; the process is gone" })]
    Timeout {
        /// How long was waited.
        waited: Duration,
        /// Whether a process with its number still exists.
        alive: bool,
    },
}

/// The controlling side of one trace file. Only one at a time can control a trace.
#[derive(Debug)]
pub struct Control {
    page: NonNull<Page>,
    /// Holds the lock that keeps others out.
    _file: File,
}

// SAFETY: the pointer is to a shared mapping that lives as long as the value, and the page is atomics only.
unsafe impl Send for Control {}
// SAFETY: as above; requests from several threads are kept apart by `&mut self`.
unsafe impl Sync for Control {}

impl Control {
    /// Opens the trace of a running process.
    ///
    /// # Errors
    /// [`ControlError::NotReady`] while the process is still creating it: try again. [`ControlError::Taken`] when
    /// it is controlled already. `Io` when it does not exist, `Version` when it is another version's.
    pub fn open(path: &Path) -> Result<Self, ControlError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(ControlError::Taken),
            Err(errno) => return Err(ControlError::Io(errno.into())),
        }
        // A mapping beyond the file's end would kill this process at the first access.
        if file.metadata()?.len() < HEADER_BYTES as u64 {
            return Err(ControlError::NotReady);
        }
        // SAFETY: a new shared mapping at an address of the kernel's choice touches no memory of this process.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                HEADER_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )
        }
        .map_err(io::Error::from)?;
        let page = NonNull::new(address.cast::<Page>()).ok_or(ControlError::NotReady)?;
        let control = Self { page, _file: file };
        if control.page().magic.load(Ordering::Acquire) != u64::from_le_bytes(MAGIC) {
            return Err(ControlError::NotReady);
        }
        match control.page().version.load(Ordering::Relaxed) {
            VERSION => Ok(control),
            other => Err(ControlError::Version(other)),
        }
    }

    /// Opens the trace of a process that may not have initialised CUDA yet, waiting for it until the time is over.
    ///
    /// # Errors
    /// As [`Control::open`]; the last reason when the time is over.
    pub fn wait_open(path: &Path, timeout: Duration) -> Result<Self, ControlError> {
        let deadline = Instant::now() + timeout;
        loop {
            let error = match Self::open(path) {
                Ok(control) => return Ok(control),
                Err(error) => error,
            };
            let early = match &error {
                ControlError::NotReady => true,
                ControlError::Io(error) => error.kind() == io::ErrorKind::NotFound,
                _ => false,
            };
            if !early || Instant::now() >= deadline {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn page(&self) -> &Page {
        // SAFETY: the mapping is HEADER_BYTES long, which Page fits, aligned to a page, and lives as long as self;
        // all its fields are atomics or unused, and any bytes are a value of them.
        unsafe { self.page.as_ref() }
    }

    /// What the library is doing; [`State::Disabled`] for a state that this version does not know.
    pub fn state(&self) -> State {
        State::of_word(self.page().state.load(Ordering::Acquire)).unwrap_or(State::Disabled)
    }

    /// Why it is disabled, or why the last request was refused; empty where there is no reason.
    pub fn reason(&self) -> String {
        self.page().reason()
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.page().pid.load(Ordering::Relaxed)
    }

    /// What has been recorded and lost so far.
    pub fn counters(&self) -> Counters {
        self.page().counters()
    }

    /// Switches recording on or off and waits until it is so. Off also writes out everything that has ended; ask for
    /// it when the program has waited for the device. Asking for what already is does nothing.
    ///
    /// The first `on` of a process loads CUPTI's machinery, which takes tens to hundreds of milliseconds: do it before
    /// the warm-up.
    ///
    /// # Errors
    /// [`ControlError::Disabled`] and [`ControlError::Refused`] with the reason, [`ControlError::Ended`],
    /// [`ControlError::Timeout`].
    pub fn switch(&mut self, on: bool, timeout: Duration) -> Result<(), ControlError> {
        self.request(if on { Request::On } else { Request::Off }, timeout)
    }

    /// Switches recording off and takes CUPTI out of the process, so that the program runs as if it had never been
    /// recorded; plain off leaves hooks behind that cost some percent where launches are the limit. Returns whether
    /// nothing is left. CUPTI stays where taking it out could break the program: after it ran or made graphs while CUPTI
    /// was there, after a plain off, and in versions before CUDA 12.6. Then only a new process is free of it.
    ///
    /// The program must have nothing under way on the device, nor start anything until this returns: CUPTI asks for
    /// that. The next `on` takes some milliseconds longer.
    ///
    /// # Errors
    /// As [`Control::switch`].
    pub fn detach(&mut self, timeout: Duration) -> Result<bool, ControlError> {
        self.request(Request::Detach, timeout)?;
        Ok(!self.attached())
    }

    /// Whether CUPTI has hooks in the process.
    pub fn attached(&self) -> bool {
        self.page().attached.load(Ordering::Acquire) != 0
    }

    /// Has everything that has ended on the device written to the file, and waits for it.
    ///
    /// # Errors
    /// As [`Control::switch`].
    pub fn flush(&mut self, timeout: Duration) -> Result<(), ControlError> {
        self.request(Request::Flush, timeout)
    }

    fn request(&mut self, request: Request, timeout: Duration) -> Result<(), ControlError> {
        let deadline = Instant::now() + timeout;
        self.wait_started(deadline, timeout)?;
        let page = self.page();
        let word = request.word_after(page.request.load(Ordering::Acquire));
        page.request.store(word, Ordering::Release);
        futex::wake(&page.request, futex::Flags::empty(), 1).map_err(io::Error::from)?;
        loop {
            let seen = page.answer.load(Ordering::Acquire);
            if seen == word {
                break;
            }
            match self.state() {
                State::Disabled => return Err(ControlError::Disabled(self.reason())),
                State::Ended => return Err(ControlError::Ended),
                _ => {}
            }
            self.sleep_on(&page.answer, seen, deadline, timeout)?;
        }
        match (page.outcome.load(Ordering::Acquire), self.state()) {
            (outcome, _) if outcome == Outcome::Done as u32 => Ok(()),
            (_, State::Disabled) => Err(ControlError::Disabled(self.reason())),
            _ => Err(ControlError::Refused(self.reason())),
        }
    }

    /// Waits until the library has found out whether it can record.
    fn wait_started(&self, deadline: Instant, timeout: Duration) -> Result<(), ControlError> {
        let page = self.page();
        loop {
            match self.state() {
                State::Starting => {
                    self.sleep_on(&page.state, State::Starting as u32, deadline, timeout)?;
                }
                State::Disabled => return Err(ControlError::Disabled(self.reason())),
                State::Ended => return Err(ControlError::Ended),
                State::Off | State::On => return Ok(()),
            }
        }
    }

    /// Sleeps until the word differs, or a while; an error when the time is over. It wakes now and then because a state
    /// can change (the process ends) without this word changing.
    fn sleep_on(
        &self,
        word: &AtomicU32,
        seen: u32,
        deadline: Instant,
        waited: Duration,
    ) -> Result<(), ControlError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
            let alive = pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH));
            return Err(ControlError::Timeout { waited, alive });
        }
        let slice = left.min(Duration::from_millis(50));
        let slice = futex::Timespec { tv_sec: 0, tv_nsec: slice.subsec_nanos().into() };
        match futex::wait(word, futex::Flags::empty(), seen, Some(&slice)) {
            Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => Ok(()),
            Err(errno) => Err(ControlError::Io(errno.into())),
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `open` with this length, and no reference to it outlives self.
        let unmapped = unsafe { rustix::mm::munmap(self.page.as_ptr().cast(), HEADER_BYTES) };
        debug_assert!(unmapped.is_ok());
    }
}
