//! Device time lines: what a program ran on the GPU, launch by launch.
//!
//! A small library that is injected into a program (`cotenant-inject`) writes one trace file per process; this
//! crate is that file's format ([`mod@format`], [`page`]), its reader (`Trace`), the side that switches recording on
//! and off while the program runs (`Control`), and the arithmetic from launches to the device time of each
//! iteration ([`busy`]). It knows no CUDA. The format is described in `docs/timeline-format.md`.

pub mod busy;
#[cfg(feature = "host")]
mod control;
pub mod format;
pub mod page;
#[cfg(feature = "host")]
mod reader;

pub use busy::{Attribution, Class, DeviceTime, Execution, Interval, IntervalError, Total};
#[cfg(feature = "host")]
pub use control::{Control, ControlError};
#[cfg(feature = "host")]
pub use reader::{Fault, ReadError, Trace};

/// Environment variable with the folder that an injected library writes its trace to.
pub const ENV_FOLDER: &str = "COTENANT_TRACE";
/// Environment variable that, when `on`, has a program recorded from its first launch.
pub const ENV_START: &str = "COTENANT_TRACE_START";
/// Environment variable with the path of the CUPTI library to use instead of searching for one.
pub const ENV_CUPTI: &str = "COTENANT_CUPTI";

/// The path of the trace of a process in a folder: `<pid>.trace`.
#[cfg(feature = "host")]
pub fn trace_path(folder: &std::path::Path, pid: u32) -> std::path::PathBuf {
    folder.join(format!("{pid}.trace"))
}

/// The traces in a folder, by process id. A program that starts others has one for each that used the GPU.
///
/// # Errors
/// The folder cannot be listed.
#[cfg(feature = "host")]
pub fn traces_in(folder: &std::path::Path) -> std::io::Result<Vec<(u32, std::path::PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "trace")
            && let Some(pid) =
                path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok())
        {
            found.push((pid, path));
        }
    }
    found.sort();
    Ok(found)
}
