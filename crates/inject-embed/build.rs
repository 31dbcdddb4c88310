//! Builds the library that is injected into programs, so that this crate can carry it.
//!
//! It is a `cdylib` of the same workspace, and cargo has no stable way to depend on one's file. So cargo is run once
//! more, with the same toolchain and lock file, without the network (whatever the library needs, this crate needs
//! too, so it is here already), and always with the same settings: a debug build, a release build, clippy and doc all
//! share one result, in a target folder of its own, since the outer cargo holds the lock on the usual one.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const NAME: &str = "libcotenant_inject.so";
/// Small rather than fast: what it does per launch is little. It must unwind, to catch its own panics.
const PROFILE: [&str; 7] = [
    "opt-level=\"s\"",
    "lto=\"off\"",
    "codegen-units=1",
    "panic=\"unwind\"",
    "strip=\"symbols\"",
    "debug=0",
    "incremental=false",
];
/// What would make the inner build another one than usual: clippy in place of the compiler, flags of the outer
/// build, other places.
const NOT_INHERITED: [&str; 8] = [
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_BUILD_DIR",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to build {NAME}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Result<OsString, String> {
    env::var_os(name).ok_or_else(|| format!("cargo did not set {name}"))
}

fn build() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let crates = here.parent().ok_or("this crate has no folder above it")?;
    for path in ["inject/Cargo.toml", "inject/src", "timeline/Cargo.toml", "timeline/src"] {
        println!("cargo::rerun-if-changed={}", crates.join(path).display());
    }
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target_folder = shared_target(&out).join("inject");
    let (host, target) = (variable("HOST")?, variable("TARGET")?);

    let mut cargo = Command::new(variable("CARGO")?);
    cargo.args(["rustc", "--quiet", "--lib", "--crate-type", "cdylib", "--release", "--locked", "--offline"]);
    cargo.arg("--manifest-path").arg(crates.join("inject/Cargo.toml"));
    cargo.arg("--target-dir").arg(&target_folder);
    for setting in PROFILE {
        cargo.arg("--config").arg(format!("profile.release.{setting}"));
    }
    let mut built = target_folder.clone();
    if host != target {
        cargo.arg("--target").arg(&target);
        built.push(&target);
    }
    for name in NOT_INHERITED {
        cargo.env_remove(name);
    }
    // So that this workspace's cargo settings hold, wherever the outer cargo was started.
    cargo.current_dir(&here);
    let status = cargo.status().map_err(|error| format!("cargo could not be started: {error}"))?;
    if !status.success() {
        return Err(format!("the inner cargo ended with {status}").into());
    }
    let built = built.join("release").join(NAME);
    fs::copy(&built, out.join(NAME)).map_err(|error| format!("{}: {error}", built.display()))?;
    Ok(())
}

/// The target folder of the outer cargo, which it marks; the script's own folder where there is no mark.
fn shared_target(out: &Path) -> &Path {
    out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).unwrap_or(out)
}
