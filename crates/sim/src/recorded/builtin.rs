//! The time lines that come with the program (`devices/timelines/DEVICE/*.json`).

use super::files::FILES;
use super::format::Recorded;

/// The built-in time line of a device and file stem ([`super::Workload::file_stem`]).
pub fn builtin(device: &str, stem: &str) -> Option<Recorded> {
    let file = FILES.iter().find(|f| f.0 == device && f.1 == stem)?;
    // A built-in file that does not read is caught by this crate's tests; it never ships.
    Recorded::from_json(file.2).ok()
}

/// File stems of the built-in time lines of a device.
pub fn builtin_names(device: &str) -> Vec<&'static str> {
    FILES.iter().filter(|f| f.0 == device).map(|f| f.1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_valid_and_named_as_its_workload() {
        assert!(FILES.len() >= 9);
        for (device, stem, text) in FILES {
            let r = Recorded::from_json(text).unwrap_or_else(|e| panic!("{stem}: failed to {e}"));
            assert_eq!((r.device.as_str(), r.workload.file_stem().as_str()), (*device, *stem));
            assert!(!r.provenance.run.is_empty(), "{stem}");
            // One phase of a large model, as the experiments have it, is the least that a median is made of.
            assert!(r.iterations >= 40, "{stem}: {} iterations", r.iterations);
        }
    }

    #[test]
    fn others_are_none() {
        assert!(builtin("h100-sxm5-80gb", "no-such-model").is_none());
        assert!(builtin_names("voodoo2").is_empty());
    }
}
