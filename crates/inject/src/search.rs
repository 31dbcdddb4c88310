//! Where CUPTI is.
//!
//! The copy that is in the process already comes first: two copies would be two clients of the driver, of which
//! it allows one. PyTorch loads the one it ships; then the loader's own search path, the packages beside the
//! libraries that are loaded, and the toolkit's folders follow.

use crate::sys::Loaded;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Names, newest first. The last is a symbolic link that only development packages have.
const NAMES: [&str; 4] = ["libcupti.so.13", "libcupti.so.12", "libcupti.so.11.8", "libcupti.so"];
/// Folders of Python packages that hold CUPTI, below `site-packages`.
const PACKAGES: [&str; 2] = ["nvidia/cu13/lib", "nvidia/cuda_cupti/lib"];
/// Folders below a toolkit.
const TOOLKIT: [&str; 3] = ["extras/CUPTI/lib64", "lib64", "targets/x86_64-linux/lib"];

fn c_string(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

/// Loads CUPTI.
pub fn cupti() -> Result<Loaded, String> {
    if let Some(path) = std::env::var_os(cotenant_timeline::ENV_CUPTI).map(PathBuf::from) {
        return c_string(&path).and_then(|path| Loaded::load(&path)).ok_or_else(|| {
            format!("{} (from {}) cannot be loaded", path.display(), cotenant_timeline::ENV_CUPTI)
        });
    }
    let names: Vec<CString> = NAMES.iter().filter_map(|name| CString::new(*name).ok()).collect();
    let found = names
        .iter()
        .find_map(|name| Loaded::present(name))
        .or_else(|| names.iter().find_map(|name| Loaded::load(name)));
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let toolkits =
        ["CUDA_HOME", "CUDA_PATH"].iter().filter_map(std::env::var_os).map(PathBuf::from).collect();
    found
        .or_else(|| {
            let folders = folders(&maps, toolkits);
            let paths = folders.iter().flat_map(|folder| NAMES.iter().map(move |name| folder.join(name)));
            paths.filter(|path| path.exists()).filter_map(|path| c_string(&path)).find_map(|path| Loaded::load(&path))
        })
        .ok_or_else(|| {
            format!(
                "libcupti was not found (looked for {}); install the CUDA toolkit or nvidia-cuda-cupti, or set {}",
                NAMES.join(", "),
                cotenant_timeline::ENV_CUPTI
            )
        })
}

/// The folders to look in, given what is mapped into the process.
fn folders(maps: &str, toolkits: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut push = |folder: PathBuf| {
        if !found.contains(&folder) {
            found.push(folder);
        }
    };
    for line in maps.lines() {
        let Some(at) = line.find('/') else { continue };
        let path = Path::new(&line[at..]);
        for parent in path.ancestors() {
            if parent.file_name().is_some_and(|name| name == "site-packages" || name == "dist-packages") {
                PACKAGES.iter().for_each(|package| push(parent.join(package)));
            }
        }
        // A CUDA runtime from a toolkit has CUPTI in a folder beside it.
        if path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"libcudart.so"))
            && let Some(folder) = path.parent()
        {
            push(folder.to_path_buf());
            push(folder.join("../extras/CUPTI/lib64"));
        }
    }
    for toolkit in toolkits.into_iter().chain([PathBuf::from("/usr/local/cuda")]) {
        TOOLKIT.iter().for_each(|folder| push(toolkit.join(folder)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_beside_what_is_loaded_and_then_in_the_toolkit() {
        let maps = "\
7f00-7f10 r-xp 00000000 08:01 1 /opt/venv/lib/python3.12/site-packages/torch/lib/libtorch_cpu.so\n\
7f10-7f20 r--p 00000000 08:01 1 /opt/venv/lib/python3.12/site-packages/torch/lib/libtorch_cpu.so\n\
7f20-7f30 r-xp 00000000 08:01 2 /opt/cuda-12.4/lib64/libcudart.so.12.4.127\n\
7f30-7f40 rw-p 00000000 00:00 0 [heap]\n";
        let found = folders(maps, vec!["/opt/toolkit".into()]);
        let expected = [
            "/opt/venv/lib/python3.12/site-packages/nvidia/cu13/lib",
            "/opt/venv/lib/python3.12/site-packages/nvidia/cuda_cupti/lib",
            "/opt/cuda-12.4/lib64",
            "/opt/cuda-12.4/lib64/../extras/CUPTI/lib64",
            "/opt/toolkit/extras/CUPTI/lib64",
        ];
        assert_eq!(found[..5], expected.map(PathBuf::from));
        assert!(found.contains(&PathBuf::from("/usr/local/cuda/extras/CUPTI/lib64")));
    }
}
