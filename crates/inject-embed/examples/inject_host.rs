//! A program for the tests of the injected library. It does what the CUDA driver does with `CUDA_INJECTION64_PATH`, and
//! then what its standard input says, a command a line; each is answered with a line.

use std::error::Error;
use std::ffi::{CStr, CString, c_int, c_void};
use std::io::{BufRead, Write};

fn open(path: &str) -> Result<*mut c_void, Box<dyn Error>> {
    let path = CString::new(path)?;
    // SAFETY: a C string; the library's initialisers are run.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
    if handle.is_null() { Err(format!("{path:?} cannot be loaded").into()) } else { Ok(handle) }
}

fn symbol(handle: *mut c_void, name: &CStr) -> Result<*mut c_void, Box<dyn Error>> {
    // SAFETY: an open handle and a C string.
    let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
    if address.is_null() { Err(format!("{name:?} is absent").into()) } else { Ok(address) }
}

/// Calls a function of the fake CUPTI.
fn fake(name: &CStr, argument: u64) -> Result<u32, Box<dyn Error>> {
    let address = symbol(open(&std::env::var("COTENANT_CUPTI")?)?, name)?;
    // SAFETY: the functions called so take at most one integer and return at most one.
    let function = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn(u64) -> u32>(address) };
    Ok(function(argument))
}

fn initialise() -> Result<c_int, Box<dyn Error>> {
    let address = symbol(open(&std::env::var("CUDA_INJECTION64_PATH")?)?, c"InitializeInjection")?;
    // SAFETY: the type that the CUDA driver calls it with.
    let function = unsafe { std::mem::transmute::<*mut c_void, extern "C" fn() -> c_int>(address) };
    Ok(function())
}

/// Forks a child that behaves as if it were the parent, exits, and is waited for; returns its exit status.
fn fork() -> Result<c_int, Box<dyn Error>> {
    // SAFETY: the child only calls what the tests are about, and this program has no other thread that holds locks.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let again = initialise();
        let launched = fake(c"fake_launch", 7).and_then(|_| fake(c"cuptiActivityFlushAll", 1));
        std::process::exit(if matches!(again, Ok(1)) && launched.is_ok() { 0 } else { 1 });
    }
    let mut status = -1;
    // SAFETY: a child of this process and a valid place.
    unsafe { libc::waitpid(child, &mut status, 0) };
    Ok(status)
}

/// Lets no file grow beyond so many bytes, as on a full disk.
fn limit(bytes: u64) {
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: a valid limit; ignoring the signal makes writing fail with an error.
    unsafe {
        libc::setrlimit(libc::RLIMIT_FSIZE, &limit);
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    writeln!(out, "{} {}", std::process::id(), initialise()?)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (verb, number) = line.split_once(' ').unwrap_or((&line, "0"));
        let number: u64 = number.parse()?;
        let answer = match verb {
            "launch" => fake(c"fake_launch", number)?,
            "graph" => fake(c"fake_graph", number)?,
            "instantiate" => fake(c"fake_instantiate", 0)?,
            "unfinished" => fake(c"fake_unfinished", 0)?,
            "seat" => fake(c"fake_seat", number)?,
            "refuse" => fake(c"fake_refuse", number)?,
            "finalized" => fake(c"fake_finalized", 0)?,
            "again" => initialise()? as u32,
            "fork" => fork()? as u32,
            "limit" => {
                limit(number);
                0
            }
            "exit" => return Ok(()),
            other => return Err(format!("{other} is no command").into()),
        };
        writeln!(out, "{answer}")?;
    }
    Ok(())
}
