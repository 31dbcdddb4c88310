//! Tells the binary which revision it was built from (method rule 10). Outside a checkout it is `unknown`.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=../../.git/HEAD");
    println!("cargo:rerun-if-changed=../../.git/index");
    // What goes into the binary: an edit that git was not told of makes it dirty all the same.
    for part in ["crates", "devices", "experiments", "kernels", "tenants"] {
        println!("cargo:rerun-if-changed=../../{part}");
    }
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let revision = git(&["rev-parse", "--short=12", "HEAD"]).map_or_else(
        || "unknown".to_owned(),
        |r| {
            let dirty =
                git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| !s.is_empty());
            if dirty { r + "-dirty" } else { r }
        },
    );
    println!("cargo:rustc-env=COTENANT_GIT_REVISION={revision}");
}
