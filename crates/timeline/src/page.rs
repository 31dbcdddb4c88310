//! The header page of a trace file, which the traced process and the one that controls it both map.
//!
//! The controlling side writes a word and wakes a futex; the library's one thread sleeps on it, does what is
//! asked, and answers in a second word. So nothing runs while nothing is asked.

use crate::format::{HEADER_BYTES, MAGIC, UNIT_BYTES, VERSION};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Most bytes of the reason.
pub const REASON_BYTES: usize = 512;

/// What the controlling side can ask for: the lowest two bits of the request word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Request {
    /// Write out everything that has ended.
    Flush = 0,
    /// Start recording.
    On = 1,
    /// Stop recording and write out everything that has ended.
    Off = 2,
    /// As `Off`, and take CUPTI out of the process if that is safe. Only while the program has nothing on the device.
    Detach = 3,
}

impl Request {
    /// The request word that follows `previous` with this request: its number counts up in the upper 30 bits.
    pub fn word_after(self, previous: u32) -> u32 {
        (previous & !3).wrapping_add(4) | self as u32
    }

    /// What a request word asks for.
    pub fn of_word(word: u32) -> Self {
        match word & 3 {
            0 => Self::Flush,
            1 => Self::On,
            2 => Self::Off,
            _ => Self::Detach,
        }
    }
}

/// How the last request ended: the result word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Outcome {
    /// Done.
    Done = 0,
    /// Not possible; the reason says why.
    Refused = 1,
}

/// What the library is doing: the state word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Being loaded.
    Starting = 0,
    /// Ready, not recording.
    Off = 1,
    /// Recording.
    On = 2,
    /// Passing through: it cannot record, and the reason says why.
    Disabled = 3,
    /// The process ended in good order; the file is complete.
    Ended = 4,
}

impl State {
    /// Reads a state word.
    pub fn of_word(word: u32) -> Option<Self> {
        Some(match word {
            0 => Self::Starting,
            1 => Self::Off,
            2 => Self::On,
            3 => Self::Disabled,
            4 => Self::Ended,
            _ => return None,
        })
    }
}

/// Counters as a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Kernel executions recorded.
    pub kernels: u64,
    /// Copies recorded.
    pub copies: u64,
    /// Settings of memory recorded.
    pub sets: u64,
    /// Records that CUPTI says it dropped.
    pub dropped: u64,
    /// Times that CUPTI asked for a buffer and got none, or a full one could not be written.
    pub buffers_lost: u64,
    /// Records without times: work that had not ended when recording was switched off.
    pub incomplete: u64,
}

impl Counters {
    /// Whether something that ran while recording was on may be missing.
    pub fn lost_any(&self) -> bool {
        self.dropped > 0 || self.buffers_lost > 0
    }
}

/// The page. All fields are little endian; it is only mapped on little-endian machines, where CUDA runs.
#[repr(C)]
#[derive(Debug)]
pub struct Page {
    /// [`MAGIC`] as a number; written last, so that a page with it is complete.
    pub magic: AtomicU64,
    /// [`VERSION`].
    pub version: AtomicU32,
    /// [`HEADER_BYTES`].
    pub header_bytes: AtomicU32,
    /// [`UNIT_BYTES`].
    pub unit_bytes: AtomicU32,
    /// The process that writes.
    pub pid: AtomicU32,
    /// Creation, ns of `CLOCK_MONOTONIC`.
    pub created_ns: AtomicU64,
    /// CUPTI's version number, 0 before it is loaded.
    pub cupti_version: AtomicU32,
    /// 1 while CUPTI has hooks in the process, which cost time even when nothing is recorded; else 0.
    pub attached: AtomicU32,
    reserved0: [u32; 6],
    /// What is asked: see [`Request`]. A futex.
    pub request: AtomicU32,
    /// The request word that was last carried out. A futex.
    pub answer: AtomicU32,
    /// [`Outcome`] of it.
    pub outcome: AtomicU32,
    /// [`State`].
    pub state: AtomicU32,
    reserved1: [u32; 12],
    /// Bytes of the file that are whole records and the header.
    pub committed: AtomicU64,
    /// See [`Counters::kernels`].
    pub kernels: AtomicU64,
    /// See [`Counters::copies`].
    pub copies: AtomicU64,
    /// See [`Counters::sets`].
    pub sets: AtomicU64,
    /// See [`Counters::dropped`].
    pub dropped: AtomicU64,
    /// See [`Counters::buffers_lost`].
    pub buffers_lost: AtomicU64,
    /// See [`Counters::incomplete`].
    pub incomplete: AtomicU64,
    reserved2: [u64; 9],
    /// Bytes of the reason.
    pub reason_length: AtomicU32,
    reserved3: u32,
    /// Why it is disabled or why the last request was refused, UTF-8.
    pub reason: [AtomicU8; REASON_BYTES],
}

const _: () = assert!(size_of::<Page>() <= HEADER_BYTES);

impl Page {
    /// Fills a fresh, zeroed page.
    pub fn initialise(&self, pid: u32, now_ns: u64) {
        self.version.store(VERSION, Ordering::Relaxed);
        self.header_bytes.store(HEADER_BYTES as u32, Ordering::Relaxed);
        self.unit_bytes.store(UNIT_BYTES as u32, Ordering::Relaxed);
        self.pid.store(pid, Ordering::Relaxed);
        self.created_ns.store(now_ns, Ordering::Relaxed);
        self.committed.store(HEADER_BYTES as u64, Ordering::Relaxed);
        self.state.store(State::Starting as u32, Ordering::Relaxed);
        self.magic.store(u64::from_le_bytes(MAGIC), Ordering::Release);
    }

    /// Writes the reason, cut at [`REASON_BYTES`]. Only the library does.
    pub fn set_reason(&self, text: &str) {
        let length =
            (0..=text.len().min(REASON_BYTES)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        for (cell, byte) in self.reason.iter().zip(text.bytes().take(length)) {
            cell.store(byte, Ordering::Relaxed);
        }
        self.reason_length.store(length as u32, Ordering::Release);
    }

    /// Reads the reason; empty where there is none.
    pub fn reason(&self) -> String {
        let length = (self.reason_length.load(Ordering::Acquire) as usize).min(REASON_BYTES);
        let bytes: Vec<u8> = self.reason[..length].iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads the counters.
    pub fn counters(&self) -> Counters {
        let load = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        Counters {
            kernels: load(&self.kernels),
            copies: load(&self.copies),
            sets: load(&self.sets),
            dropped: load(&self.dropped),
            buffers_lost: load(&self.buffers_lost),
            incomplete: load(&self.incomplete),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn fields_stand_where_the_format_says() {
        assert_eq!(offset_of!(Page, magic), 0);
        assert_eq!(offset_of!(Page, version), 8);
        assert_eq!(offset_of!(Page, header_bytes), 12);
        assert_eq!(offset_of!(Page, unit_bytes), 16);
        assert_eq!(offset_of!(Page, pid), 20);
        assert_eq!(offset_of!(Page, created_ns), 24);
        assert_eq!(offset_of!(Page, cupti_version), 32);
        assert_eq!(offset_of!(Page, attached), 36);
        assert_eq!(offset_of!(Page, request), 64);
        assert_eq!(offset_of!(Page, answer), 68);
        assert_eq!(offset_of!(Page, outcome), 72);
        assert_eq!(offset_of!(Page, state), 76);
        assert_eq!(offset_of!(Page, committed), 128);
        assert_eq!(offset_of!(Page, kernels), 136);
        assert_eq!(offset_of!(Page, incomplete), 176);
        assert_eq!(offset_of!(Page, reason_length), 256);
        assert_eq!(offset_of!(Page, reason), 264);
    }

    #[test]
    fn request_words_differ_each_time_and_wrap() {
        let first = Request::On.word_after(0);
        let second = Request::On.word_after(first);
        assert_ne!(first, second);
        for request in [Request::Flush, Request::On, Request::Off, Request::Detach] {
            assert_eq!(Request::of_word(request.word_after(second)), request);
            assert_eq!(Request::of_word(request.word_after(u32::MAX)), request);
        }
    }

    #[test]
    fn reasons_are_cut_at_a_character() {
        // SAFETY: a page is atomics and integers, for which all zeros is a value.
        let page: Page = unsafe { std::mem::zeroed() };
        page.set_reason(&"é".repeat(300));
        assert_eq!(page.reason(), "é".repeat(256));
        page.set_reason("x");
        assert_eq!(page.reason(), "x");
        page.reason_length.store(u32::MAX, Ordering::Release);
        assert!(page.reason().len() <= 3 * REASON_BYTES);
    }
}
