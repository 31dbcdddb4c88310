//! What the library needs of the operating system beyond the standard library.

use cotenant_timeline::format::HEADER_BYTES;
use cotenant_timeline::page::Page;
use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicU32;

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result; on failure it stays zero.
    unsafe { libc::clock_gettime(id, &mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// `CLOCK_MONOTONIC`, ns.
pub fn monotonic_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// `CLOCK_REALTIME`, ns: what CUPTI uses on its own.
pub fn realtime_ns() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

/// Sleeps while the word has this value; may return early.
pub fn futex_wait(word: &AtomicU32, value: u32) {
    // SAFETY: the word is alive and aligned; without a timeout the kernel reads no other argument. The futex is not
    // private, because the other side is another process.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            value,
            std::ptr::null::<libc::timespec>(),
        )
    };
}

/// Wakes everybody who sleeps on the word.
pub fn futex_wake(word: &AtomicU32) {
    // SAFETY: as above; waking reads no memory.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// Gives a new file a header page and maps it, for the rest of the process's life.
pub fn map_page(file: &File) -> io::Result<&'static Page> {
    // Room is taken now: storing into a hole of a file on a full disk would kill the program.
    // SAFETY: a call on an open descriptor.
    let error = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, HEADER_BYTES as libc::off_t) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new shared mapping at an address of the kernel's choice touches no memory of the program.
    let address = unsafe {
        libc::mmap(std::ptr::null_mut(), HEADER_BYTES, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: HEADER_BYTES bytes at a page's start hold a Page; any bytes are a value of its atomics; it is never
    // unmapped.
    Ok(unsafe { &*address.cast::<Page>() })
}

/// Has a function called when the program exits in good order.
pub fn at_exit(work: extern "C" fn()) {
    // SAFETY: a function of the right type that stays loaded, since the driver never unloads this library.
    unsafe { libc::atexit(work) };
}

/// Starts a thread that takes none of the program's signals, whose handlers belong on the program's own threads.
pub fn spawn_quietly(name: &CStr, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // SAFETY: a signal set is plain data; sigfillset and pthread_sigmask fill what they are given.
    let before = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        before
    };
    let name = name.to_string_lossy().into_owned();
    let spawned = std::thread::Builder::new().name(name).spawn(work);
    // SAFETY: `before` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut()) };
    spawned.map(drop)
}

/// A library loaded into this process, never unloaded.
#[derive(Clone, Copy)]
pub struct Loaded(*mut libc::c_void);

impl Loaded {
    /// The library that is in the process already under this name.
    pub fn present(name: &CStr) -> Option<Self> {
        Self::open(name, libc::RTLD_NOW | libc::RTLD_NOLOAD)
    }

    /// Loads a library.
    pub fn load(name: &CStr) -> Option<Self> {
        Self::open(name, libc::RTLD_NOW | libc::RTLD_LOCAL)
    }

    fn open(name: &CStr, flags: libc::c_int) -> Option<Self> {
        // SAFETY: a C string; loading runs the library's initialisers, which is what loading CUPTI means.
        let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
        (!handle.is_null()).then_some(Self(handle))
    }

    /// The address of a symbol.
    pub fn symbol(self, name: &CStr) -> Option<*mut libc::c_void> {
        // SAFETY: the handle is open for ever, the name a C string.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    }
}
