//! The GPU's state beside everything that runs: one thread polls NVML, phases take the readings of their time.

use cotenant_gpu::nvml::{Monitor, Reading};
use cotenant_store::format::GpuState;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two polls; a poll itself takes about a millisecond.
const PERIOD: Duration = Duration::from_millis(10);

type Log = Arc<Mutex<Vec<(Instant, Reading)>>>;

/// The polling thread. Stops when dropped.
#[derive(Debug)]
pub struct Telemetry {
    log: Log,
    opened: Instant,
    drained: usize,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Telemetry {
    /// Starts polling NVML's GPU `index`.
    pub fn start(monitor: Monitor, index: u32) -> Telemetry {
        let log: Log = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (l, s) = (log.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !s.load(Ordering::Relaxed) {
                if let Ok(r) = monitor.read(index) {
                    l.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), r));
                }
                std::thread::sleep(PERIOD);
            }
        });
        Telemetry { log, opened: Instant::now(), drained: 0, stop, thread: Some(thread) }
    }

    /// Mean state between two moments; the nearest reading where none fell between.
    pub fn between(&self, from: Instant, to: Instant) -> Option<GpuState> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let first = log.partition_point(|(t, _)| *t < from);
        let last = log.partition_point(|(t, _)| *t <= to);
        let readings: Vec<&Reading> = if first < last {
            log[first..last].iter().map(|(_, r)| r).collect()
        } else {
            log.last().map(|(_, r)| r).into_iter().collect()
        };
        (!readings.is_empty()).then(|| state(&readings))
    }

    /// New readings as rows of `telemetry.csv`.
    pub fn drain(&mut self) -> Vec<String> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = log[self.drained..].iter().map(|(t, r)| row(t.duration_since(self.opened), r)).collect();
        self.drained = log.len();
        rows
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0u32), |(s, n), v| (s + v, n + 1));
    (n > 0).then(|| sum / f64::from(n))
}

fn state(readings: &[&Reading]) -> GpuState {
    let mut throttle: Vec<String> =
        readings.iter().flat_map(|r| r.throttle.iter().map(|s| (*s).to_owned())).collect();
    throttle.sort_unstable();
    throttle.dedup();
    GpuState {
        sm_clock_mhz: mean(readings.iter().filter_map(|r| r.sm_clock_mhz.map(f64::from))),
        memory_clock_mhz: mean(readings.iter().filter_map(|r| r.memory_clock_mhz.map(f64::from))),
        power_w: mean(readings.iter().filter_map(|r| r.power_w)),
        temperature_c: mean(readings.iter().filter_map(|r| r.temperature_c.map(f64::from))),
        throttle,
        utilization_pct: mean(readings.iter().filter_map(|r| r.utilization_pct.map(f64::from))),
    }
}

fn row(at: Duration, r: &Reading) -> String {
    fn cell<T: ToString>(v: Option<T>) -> String {
        v.map_or_else(String::new, |v| v.to_string())
    }
    [
        format!("{:.4}", at.as_secs_f64()),
        cell(r.sm_clock_mhz),
        cell(r.memory_clock_mhz),
        cell(r.power_w),
        cell(r.temperature_c),
        cell(r.utilization_pct),
        cell(r.memory_used),
        r.throttle.join(";"),
    ]
    .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_average_what_was_told_and_unite_the_reasons() {
        let a =
            Reading { sm_clock_mhz: Some(1900), throttle: vec!["software power cap"], ..Reading::default() };
        let b = Reading { sm_clock_mhz: Some(1800), power_w: Some(400.0), ..Reading::default() };
        let s = state(&[&a, &b]);
        assert_eq!(s.sm_clock_mhz, Some(1850.0));
        assert_eq!(s.power_w, Some(400.0));
        assert_eq!(s.throttle, ["software power cap"]);
        assert_eq!(s.temperature_c, None);
    }

    #[test]
    fn rows_match_the_header() {
        let r = Reading { power_w: Some(1.5), throttle: vec!["a", "b"], ..Reading::default() };
        let line = row(Duration::from_millis(1500), &r);
        assert_eq!(line, "1.5000,,,1.5,,,,a;b");
        assert_eq!(line.split(',').count(), crate::backend::TELEMETRY_HEADER.split(',').count());
    }
}
