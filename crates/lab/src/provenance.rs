//! Where a figure comes from (method rule 10).

use cotenant_store::format::Provenance;
use sha2::{Digest, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};

/// The program that processes of a run are started from: this one, or `COTENANT_WORKER_EXE`.
///
/// Where this program's file was replaced or removed since it was started, as an upgrade in the middle of a long run does,
/// it is the system's own handle on the program that runs, so that all processes of a run are of one build.
///
/// # Errors
/// The system does not tell.
pub fn own_program() -> std::io::Result<std::path::PathBuf> {
    match std::env::var_os("COTENANT_WORKER_EXE") {
        Some(p) => Ok(p.into()),
        None => {
            let told = std::env::current_exe()?;
            Ok(if told.exists() { told } else { "/proc/self/exe".into() })
        }
    }
}

/// A SHA-256 in hex digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Its first 16 digits.
pub fn short_hash(bytes: &[u8]) -> String {
    let mut h = sha256(bytes);
    h.truncate(16);
    h
}

/// Provenance of a run that starts now.
pub fn gather(seed: u64, git_revision: &str) -> Provenance {
    let (model, cores) = cpu();
    Provenance {
        version: env!("CARGO_PKG_VERSION").into(),
        git_revision: git_revision.into(),
        ptx_sha256: cotenant_kernels::ptx_sha256(),
        seed,
        started: rfc3339(SystemTime::now()),
        os: os(),
        cpu: format!("{model}, {cores} cores"),
    }
}

/// `2026-11-21T03:04:05Z`.
pub fn rfc3339(t: SystemTime) -> String {
    let secs = t.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (y, m, d) = civil((secs / 86_400) as i64);
    let s = secs % 86_400;
    format!("{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}Z", s / 3600, s / 60 % 60, s % 60)
}

/// Year, month and day of a day number since 1970-01-01 (Hinnant's `civil_from_days`).
fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let d = (doy - (153 * mp + 2) / 5 + 1) as u32;
    let m = if mp < 10 { mp + 3 } else { mp - 9 } as u32;
    (yoe + era * 400 + i64::from(m <= 2), m, d)
}

fn os() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let name = std::fs::read_to_string("/etc/os-release")
        .ok()
        .and_then(|t| {
            t.lines().find_map(|l| l.strip_prefix("PRETTY_NAME=").map(|v| v.trim_matches('"').to_owned()))
        })
        .unwrap_or_else(|| std::env::consts::OS.into());
    format!("{name}, kernel {}", release.trim())
}

/// Model and number of cores of the host's CPU.
pub fn cpu() -> (String, u32) {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|l| l.strip_prefix("model name").and_then(|r| r.split_once(':')).map(|(_, v)| v.trim()))
        .unwrap_or("unknown CPU");
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    (model.to_owned(), cores as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_civil() {
        let at = |s| rfc3339(UNIX_EPOCH + Duration::from_secs(s));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_229_045), "2026-11-21T02:44:05Z");
    }

    #[test]
    fn hashes_are_short_and_stable() {
        assert_eq!(short_hash(b"abc"), "ba7816bf8f01cfea");
    }
}
