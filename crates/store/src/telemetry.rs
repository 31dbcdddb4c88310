//! Reading `telemetry.csv`: GPU state over time, as sampled beside a run.
//!
//! The header names the columns, so that a reader needs to know none of them; one has to be `monotonic_ns`, the host's
//! monotonic clock in nanoseconds, which the spans of models and programs are on too (`PhaseRecord::begun_ns`).

use crate::folder::StoreError;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Column that holds the time of each row.
pub const CLOCK_COLUMN: &str = "monotonic_ns";

/// Samples in the order they were taken.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Telemetry {
    /// Time of each row on the host's monotonic clock, ns.
    pub at_ns: Vec<u64>,
    /// Numeric columns by name, one value per row; `None` where a cell is empty. Units are in the names
    /// (`power_w`, `dram_pct`). Columns without any number (words) are left out.
    pub columns: BTreeMap<String, Vec<Option<f64>>>,
}

impl Telemetry {
    /// The values of a column between two moments, both included, with their times; empty for an unknown column.
    pub fn between(&self, column: &str, from_ns: u64, to_ns: u64) -> Vec<(u64, f64)> {
        let Some(values) = self.columns.get(column) else { return Vec::new() };
        let rows = self.at_ns.iter().zip(values).filter(|(at, _)| (from_ns..=to_ns).contains(*at));
        rows.filter_map(|(at, v)| Some((*at, (*v)?))).collect()
    }
}

/// Reads `telemetry.csv` of a run folder. `None` if there is none, or if it has no [`CLOCK_COLUMN`] (older runs), so
/// that its rows cannot be laid beside anything. A torn last line is not a row.
///
/// # Errors
/// [`StoreError::Damaged`] with the line for a row without a whole number of nanoseconds; [`StoreError::Io`].
pub fn load_telemetry(folder: &Path) -> Result<Option<Telemetry>, StoreError> {
    let path = folder.join("telemetry.csv");
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::Io { action: "read", path, source }),
    };
    parse(&text).map_err(|(line, reason)| StoreError::Damaged {
        path,
        line,
        reason,
        remedy: ": delete that line to go on with the rest",
    })
}

/// The table in `text`; an error is a line number and what is wrong with it.
fn parse(text: &str) -> Result<Option<Telemetry>, (usize, String)> {
    let whole = text.rfind('\n').map_or("", |i| &text[..i]);
    let mut lines = whole.lines().enumerate().filter(|(_, l)| !l.trim().is_empty());
    let Some((_, head)) = lines.next() else { return Ok(None) };
    let names: Vec<&str> = head.split(',').map(str::trim).collect();
    let Some(clock) = names.iter().position(|n| *n == CLOCK_COLUMN) else { return Ok(None) };
    let mut at_ns = Vec::new();
    let mut columns: Vec<Vec<Option<f64>>> = vec![Vec::new(); names.len()];
    for (i, line) in lines {
        let cells: Vec<&str> = line.split(',').map(str::trim).collect();
        let time = cells.get(clock).copied().unwrap_or("");
        let at: u64 = time
            .parse()
            .map_err(|_| (i + 1, format!("{CLOCK_COLUMN} is `{time}`, not a whole number of nanoseconds")))?;
        at_ns.push(at);
        for (c, column) in columns.iter_mut().enumerate() {
            let number = cells.get(c).and_then(|t| t.parse::<f64>().ok());
            column.push(number.filter(|v| v.is_finite()));
        }
    }
    let named = names.iter().zip(columns).filter(|(n, _)| **n != CLOCK_COLUMN);
    let known = named.filter(|(_, v)| v.iter().any(Option::is_some));
    Ok(Some(Telemetry { at_ns, columns: known.map(|(n, v)| ((*n).to_owned(), v)).collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "monotonic_ns,power_w,dram_pct,throttle\n\
                        100,430.5,18,none\n\
                        200,,19.5,sw-power-cap\n\
                        300,440,20,none\n\
                        400,4";

    #[test]
    fn rows_are_read_by_the_names_in_the_header() {
        let t = parse(TEXT).expect("whole").expect("with a clock");
        assert_eq!(t.at_ns, [100, 200, 300], "a torn line is no row");
        assert_eq!(t.columns["power_w"], [Some(430.5), None, Some(440.0)]);
        assert!(!t.columns.contains_key("throttle") && !t.columns.contains_key(CLOCK_COLUMN));
        assert_eq!(t.between("power_w", 100, 300), [(100, 430.5), (300, 440.0)]);
        assert_eq!(t.between("dram_pct", 150, 250), [(200, 19.5)]);
        assert!(t.between("nothing", 0, u64::MAX).is_empty());
    }

    #[test]
    fn what_cannot_be_laid_beside_a_phase_is_none() {
        assert_eq!(parse("").expect("empty"), None);
        assert_eq!(parse("t_s,power_w\n0.1,5\n").expect("older"), None);
        let none = tempfile::tempdir().expect("a folder");
        assert_eq!(load_telemetry(none.path()).expect("no file"), None);
    }

    #[test]
    fn a_row_without_a_time_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("telemetry.csv"), "monotonic_ns,power_w\n1,2\nx,3\n")
            .expect("written");
        let e = load_telemetry(dir.path()).expect_err("damaged").to_string();
        assert!(e.contains("line 3") && e.contains("monotonic_ns is `x`"), "{e}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z0-9_,.\n-]{0,200}") {
            if let Ok(Some(t)) = parse(&format!("monotonic_ns,a,b\n{text}")) {
                prop_assert!(t.columns.values().all(|c| c.len() == t.at_ns.len()));
            }
        }
    }
}
