//! What was read at one moment, and how it is written to `telemetry.csv`.

use cotenant_gpu::nvml::{Gpm, ProcessMemory, Reading};

/// A value and the time that it tells of, ns of CLOCK_MONOTONIC.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Span<T> {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) value: T,
}

impl<T> Span<T> {
    /// How much of it lies in `from..to`, ns.
    pub(super) fn overlap(&self, from: u64, to: u64) -> u64 {
        self.to.min(to).saturating_sub(self.from.max(from))
    }

    /// Its length, ns.
    pub(super) fn len(&self) -> u64 {
        self.to.saturating_sub(self.from)
    }
}

/// One row. `reading` holds what was known then; the others are there only where they are new.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Row {
    /// When, ns of CLOCK_MONOTONIC.
    pub(super) at: u64,
    pub(super) reading: Reading,
    /// The GPU's energy counter, mJ.
    pub(super) energy_mj: Option<u64>,
    pub(super) processes: Option<Vec<ProcessMemory>>,
    pub(super) graphics: Option<Span<f64>>,
    pub(super) gpm: Option<Span<Gpm>>,
}

impl Row {
    /// Whether it holds more than a reading.
    pub(super) fn has_news(&self) -> bool {
        self.energy_mj.is_some() || self.processes.is_some() || self.graphics.is_some() || self.gpm.is_some()
    }

    /// A line of `telemetry.csv`, `since_s` seconds after the backend was opened.
    pub(super) fn line(&self, since_s: f64) -> String {
        fn cell<T: ToString>(v: Option<T>) -> String {
            v.map_or_else(String::new, |v| v.to_string())
        }
        let percent = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v:.2}"));
        let r = &self.reading;
        let list = |p: &ProcessMemory| format!("{}:{}", p.pid, cell(p.bytes));
        let processes: Option<Vec<String>> = self.processes.as_ref().map(|p| p.iter().map(list).collect());
        let mut cells = vec![
            format!("{since_s:.4}"),
            cell(r.sm_clock_mhz),
            cell(r.memory_clock_mhz),
            cell(r.power_w),
            cell(r.temperature_c),
            cell(r.utilization_pct),
            cell(r.memory_used),
            r.throttle.join(";"),
            self.at.to_string(),
            cell(r.power_instant_w),
            self.energy_mj.map_or_else(String::new, |mj| format!("{}.{:03}", mj / 1000, mj % 1000)),
            processes.map_or_else(String::new, |p| p.join(";")),
            percent(self.graphics.map(|g| g.value)),
        ];
        cells.extend(self.gpm.map(|g| g.value).unwrap_or_default().values().map(percent));
        cells.push(cell(self.gpm.map(|g| g.from)));
        cells.push(cell(self.gpm.map(|g| g.to)));
        cells.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::TELEMETRY_HEADER;

    /// The cells of a line by their column.
    #[track_caller]
    fn cells(line: &str) -> std::collections::BTreeMap<&'static str, String> {
        let names: Vec<_> = TELEMETRY_HEADER.split(',').collect();
        assert_eq!(line.split(',').count(), names.len(), "{line}");
        names.into_iter().zip(line.split(',').map(str::to_owned)).filter(|(_, v)| !v.is_empty()).collect()
    }

    #[test]
    fn what_is_not_told_is_an_empty_cell() {
        let reading = Reading { power_w: Some(1.5), throttle: vec!["a", "b"], ..Reading::default() };
        let line = Row { at: 77, reading, ..Row::default() }.line(1.5);
        assert_eq!(line, format!("1.5000,,,1.5,,,,a;b,77{}", ",".repeat(17)));
        assert_eq!(cells(&line).len(), 4);
    }

    #[test]
    fn each_value_stands_under_its_name() {
        let gpm = Gpm {
            sm_active: Some(1.0),
            sm_occupancy: Some(2.0),
            dram: Some(3.0),
            tensor: Some(4.0),
            tensor_hmma: Some(5.0),
            tensor_imma: Some(6.0),
            tensor_dfma: Some(7.0),
            fp64: Some(8.0),
            fp32: Some(9.0),
            fp16: Some(10.0),
            integer: Some(11.0),
        };
        let row = Row {
            at: 123,
            reading: Reading {
                sm_clock_mhz: Some(1980),
                memory_clock_mhz: Some(2619),
                power_w: Some(400.0),
                power_instant_w: Some(512.5),
                temperature_c: Some(50),
                throttle: Vec::new(),
                utilization_pct: Some(99),
                memory_used: Some(1 << 30),
            },
            energy_mj: Some(12_005),
            processes: Some(vec![
                ProcessMemory { pid: 7, bytes: Some(100) },
                ProcessMemory { pid: 9, bytes: None },
            ]),
            graphics: Some(Span { from: 0, to: 9, value: 98.765 }),
            gpm: Some(Span { from: 20, to: 120, value: gpm }),
        };
        let line = row.line(0.0);
        let cells = cells(&line);
        for (column, value) in [
            ("t_s", "0.0000"),
            ("sm_clock_mhz", "1980"),
            ("memory_clock_mhz", "2619"),
            ("power_w", "400"),
            ("temperature_c", "50"),
            ("utilization_pct", "99"),
            ("memory_used_bytes", "1073741824"),
            ("monotonic_ns", "123"),
            ("power_instant_w", "512.5"),
            ("energy_j", "12.005"),
            ("process_memory_bytes", "7:100;9:"),
            ("graphics_pct", "98.77"),
            ("sm_active_pct", "1.00"),
            ("sm_occupancy_pct", "2.00"),
            ("dram_pct", "3.00"),
            ("tensor_pct", "4.00"),
            ("tensor_hmma_pct", "5.00"),
            ("tensor_imma_pct", "6.00"),
            ("tensor_dfma_pct", "7.00"),
            ("fp64_pct", "8.00"),
            ("fp32_pct", "9.00"),
            ("fp16_pct", "10.00"),
            ("integer_pct", "11.00"),
            ("gpm_from_ns", "20"),
            ("gpm_to_ns", "120"),
        ] {
            assert_eq!(cells.get(column).map(String::as_str), Some(value), "{column}");
        }
        assert!(row.has_news() && !Row::default().has_news());
    }
}
