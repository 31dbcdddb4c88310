//! The time lines that come with the program (`devices/timelines/DEVICE/*.json`).

use super::format::Recorded;

/// Device, file stem and text of each.
const FILES: &[(&str, &str, &str)] = &[];

/// The built-in time lines of a device.
pub fn builtin(device: &str) -> Vec<Recorded> {
    // A built-in file that does not read is caught by this crate's tests; it never ships.
    FILES.iter().filter(|f| f.0 == device).filter_map(|f| Recorded::from_json(f.2).ok()).collect()
}

/// File stems of the built-in time lines of a device.
pub fn builtin_names(device: &str) -> Vec<&'static str> {
    FILES.iter().filter(|f| f.0 == device).map(|f| f.1).collect()
}
