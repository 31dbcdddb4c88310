//! What the run and its worker processes say to each other: JSON lines on the worker's standard input and
//! output, and a page of shared memory where tenants meet before a phase.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A tenant as a worker must set it up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantSetup {
    /// Kernel name.
    pub kernel: String,
    /// Blocks.
    pub blocks: u32,
    /// Threads per block.
    pub threads: u32,
    /// Kernel parameters.
    pub params: BTreeMap<String, f64>,
    /// Launches per phase.
    pub launches: u32,
    /// Pause after each request, ns.
    pub gap_ns: u64,
    /// Launches per request.
    pub request: u32,
    /// Stream priority.
    pub priority: i32,
    /// Share of an SM's L1 given to shared memory, percent of the most; none: the driver chooses.
    pub carveout_percent: Option<i32>,
    /// Record where and when each block ran.
    pub trace: bool,
}

/// To a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Set tenants up, replacing any before. `green_sms`: one green context each.
    Setup {
        /// CUDA device index as the worker sees it.
        device: u32,
        /// The tenants.
        tenants: Vec<TenantSetup>,
        /// SMs of each tenant's green context; empty: the primary context for all.
        green_sms: Vec<u32>,
        /// Number of the set-up: each puts the tenants' memory at other addresses.
        setup: u32,
    },
    /// Turns of the loop per launch.
    Iterations {
        /// Tenant, as this worker counts.
        tenant: usize,
        /// Turns.
        n: u64,
    },
    /// Run a phase with these of the worker's tenants.
    Run {
        /// Tenants, as this worker counts.
        who: Vec<usize>,
        /// Tenants of all workers that meet at the barrier.
        participants: u32,
        /// One after the other rather than together.
        sequential: bool,
        /// Loop until all participants have their launches.
        steady: bool,
        /// Say how far `%globaltimer` is from `CLOCK_MONOTONIC`.
        anchor: bool,
    },
    /// When the requests of a tenant arrive in the next phases, ns from the start; empty: a closed loop.
    Schedule {
        /// Tenant, as this worker counts.
        tenant: usize,
        /// Offsets, ascending.
        offsets: Vec<u64>,
    },
    /// Time the ways to launch an empty kernel.
    LaunchCosts {
        /// CUDA device index as the worker sees it.
        device: u32,
    },
    /// Free everything and end.
    Exit,
}

/// Costs of launching, ns each, medians over many.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LaunchCosts {
    /// Host time of one `cuLaunchKernel`.
    pub plain_ns: f64,
    /// Host time of one `cuLaunchKernelEx`.
    pub ex_ns: f64,
    /// One node of a graph of 256, launch to end.
    pub graph_ns: f64,
    /// From the end of a kernel to the start of the next queued in its stream.
    pub gap_ns: f64,
    /// An empty kernel, first block's start to last block's end.
    pub empty_ns: f64,
}

/// From a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Answer to `Setup`.
    Ready {
        /// SMs each tenant's context sees.
        sms: Vec<u32>,
        /// Priority in force of each.
        priorities: Vec<i32>,
    },
    /// Answer to `Iterations` and `Exit`.
    Ok,
    /// Answer to `Run`, one per tenant of `who`.
    Done {
        /// The tenants.
        tenants: Vec<TenantDone>,
        /// `CLOCK_MONOTONIC` less `%globaltimer`, ns, if asked for.
        anchor_ns: Option<i64>,
    },
    /// Answer to `LaunchCosts`.
    Costs(LaunchCosts),
    /// It did not work.
    Error {
        /// Words for the user.
        message: String,
        /// The machine lacks something (the trial is skipped, not failed).
        unavailable: bool,
    },
}

/// What one tenant did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TenantDone {
    /// Tenant, as this worker counts.
    pub tenant: usize,
    /// Start and end of each launch on `%globaltimer`, ns.
    pub spans: Vec<(u64, u64)>,
    /// Request latencies, host clock, ns.
    pub requests: Vec<u64>,
    /// SM clock during each launch, MHz.
    pub clocks_mhz: Vec<f64>,
    /// `(sm, start, end)` of each block of the last launch, if traced.
    pub trace: Vec<(u64, u64, u64)>,
}

/// The meeting page. Reset by the run before each phase; nobody meets within one.
#[repr(C)]
#[derive(Debug)]
struct Page {
    /// Tenants that stand at the barrier.
    arrived: AtomicU32,
    /// Tenants that have done their launches.
    finished: AtomicU32,
    /// Someone died or the user interrupted: leave at once.
    abort: AtomicU32,
}

/// A mapping of the meeting page.
#[derive(Debug)]
pub struct Meeting {
    page: *mut Page,
    fd: OwnedFd,
}

// SAFETY: the page holds only atomics and stays mapped as long as this value lives.
unsafe impl Send for Meeting {}
// SAFETY: as above.
unsafe impl Sync for Meeting {}

const PAGE_BYTES: usize = 4096;

impl Meeting {
    /// A new page that child processes inherit (its descriptor is not closed on exec).
    pub fn create() -> io::Result<Meeting> {
        let fd = rustix::fs::memfd_create("cotenant-meeting", rustix::fs::MemfdFlags::empty())?;
        rustix::fs::ftruncate(&fd, PAGE_BYTES as u64)?;
        Self::map(fd)
    }

    /// Maps the page whose descriptor number was inherited.
    pub fn inherited(fd: RawFd) -> io::Result<Meeting> {
        if fd < 3 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a meeting page"));
        }
        // SAFETY: the parent passes the number of an open descriptor to its own hidden verb; dup checks that
        // it is open before anything uses it, and the borrowed number is not kept.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
        if rustix::fs::fstat(&fd)?.st_size < PAGE_BYTES as i64 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the meeting page is too small"));
        }
        Self::map(fd)
    }

    fn map(fd: OwnedFd) -> io::Result<Meeting> {
        use rustix::mm::{MapFlags, ProtFlags};
        // SAFETY: a fresh shared mapping of a file that is at least one page long; nothing else is mapped over.
        let page = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                PAGE_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                fd.as_fd(),
                0,
            )?
        };
        Ok(Meeting { page: page.cast(), fd })
    }

    /// Descriptor number for children.
    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    fn page(&self) -> &Page {
        // SAFETY: mapped for the life of `self`, aligned to a page, and only ever accessed through atomics.
        unsafe { &*self.page }
    }

    /// Before a phase, by the run, while no tenant is in one.
    pub fn reset(&self) {
        let p = self.page();
        p.arrived.store(0, Ordering::Relaxed);
        p.finished.store(0, Ordering::Relaxed);
        p.abort.store(0, Ordering::Release);
    }

    /// Sends everyone away from the barrier and out of steady loops.
    pub fn abort(&self) {
        self.page().abort.store(1, Ordering::Release);
    }

    /// Whether [`Meeting::abort`] was called.
    pub fn aborted(&self) -> bool {
        self.page().abort.load(Ordering::Acquire) != 0
    }

    /// Waits until `participants` tenants have come. Spins, so that all leave within a microsecond; false after
    /// `patience` or an abort.
    pub fn wait(&self, participants: u32, patience: Duration) -> bool {
        let p = self.page();
        // SYNC POINT: release what this tenant set up; acquire below what the others did.
        p.arrived.fetch_add(1, Ordering::AcqRel);
        let deadline = Instant::now() + patience;
        let mut turns = 0u32;
        while p.arrived.load(Ordering::Acquire) < participants {
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(4096) && (self.aborted() || Instant::now() > deadline) {
                return false;
            }
            std::hint::spin_loop();
        }
        !self.aborted()
    }

    /// Comes to the barrier without waiting: for the run, which stands for tenants that cannot map the page.
    pub fn arrive(&self) {
        self.page().arrived.fetch_add(1, Ordering::AcqRel);
    }

    /// This tenant has done its launches.
    pub fn finish(&self) {
        self.page().finished.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether all participants have done their launches (or someone aborted).
    pub fn all_finished(&self, participants: u32) -> bool {
        self.page().finished.load(Ordering::Acquire) >= participants || self.aborted()
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `map` mapped; no reference outlives `self`.
        let _ = unsafe { rustix::mm::munmap(self.page.cast(), PAGE_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_leave_the_barrier_only_when_all_have_come() {
        let m = Meeting::create().unwrap();
        m.reset();
        std::thread::scope(|s| {
            let late = s.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                m.wait(2, Duration::from_secs(5))
            });
            let begun = Instant::now();
            assert!(m.wait(2, Duration::from_secs(5)));
            assert!(begun.elapsed() >= Duration::from_millis(15));
            assert!(late.join().unwrap());
        });
    }

    #[test]
    fn an_abort_frees_those_who_wait() {
        let m = Meeting::create().unwrap();
        m.reset();
        std::thread::scope(|s| {
            let w = s.spawn(|| m.wait(2, Duration::from_secs(30)));
            std::thread::sleep(Duration::from_millis(10));
            m.abort();
            assert!(!w.join().unwrap());
        });
        assert!(m.all_finished(9));
    }

    #[test]
    fn a_second_mapping_sees_the_first() {
        let a = Meeting::create().unwrap();
        a.reset();
        let b = Meeting::inherited(a.raw_fd()).unwrap();
        a.finish();
        assert!(b.all_finished(1));
        assert!(!b.all_finished(2));
    }

    #[test]
    fn a_wrong_descriptor_is_an_error() {
        assert!(Meeting::inherited(1).is_err());
        assert!(Meeting::inherited(987).is_err());
    }
}
