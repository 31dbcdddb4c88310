//! The library that is injected into CUDA programs, as bytes: `cotenant` carries it, so there is nothing to install.
//!
//! It is `crates/inject`, built by this crate's build script. To trace a program, [`install`] it and start the
//! program with [`environment`]; then control and read the trace with `cotenant-timeline`.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// File name of the library.
pub const FILE_NAME: &str = "libcotenant_inject.so";

static LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/libcotenant_inject.so"));

/// The library: an ELF shared object for the target that this crate was built for.
pub fn library() -> &'static [u8] {
    LIBRARY
}

/// Writes the library to a folder, unless it is there already, and returns its path. The file appears whole or not at
/// all, and can only be read by its owner.
///
/// # Errors
/// The folder cannot be written to.
pub fn install(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join(FILE_NAME);
    if fs::read(&path).is_ok_and(|present| present == LIBRARY) {
        return Ok(path);
    }
    let fresh = folder.join(format!("{FILE_NAME}.{}", std::process::id()));
    let written = (|| {
        OpenOptions::new().write(true).create_new(true).mode(0o500).open(&fresh)?.write_all(LIBRARY)?;
        fs::rename(&fresh, &path)
    })();
    if let Err(error) = written {
        let _ = fs::remove_file(&fresh);
        return Err(error);
    }
    Ok(path)
}

/// The environment that has a program, and the programs that it starts, write traces to a folder, which must exist:
/// `<folder>/<pid>.trace` for each process that uses the GPU. With `from_start` everything is recorded from the
/// first launch; else nothing is until it is asked for.
pub fn environment(library: &Path, folder: &Path, from_start: bool) -> Vec<(&'static str, PathBuf)> {
    let mut variables = vec![
        ("CUDA_INJECTION64_PATH", library.to_path_buf()),
        (cotenant_timeline::ENV_FOLDER, folder.to_path_buf()),
    ];
    if from_start {
        variables.push((cotenant_timeline::ENV_START, PathBuf::from("on")));
    }
    variables
}
