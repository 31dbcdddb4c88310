//! The readings so far, and their means over a stretch of time.

use super::energy;
use super::row::{Row, Span};
use cotenant_gpu::nvml::Gpm;
use cotenant_store::format::GpuState;
use std::collections::{BTreeMap, VecDeque};

const MS: u64 = 1_000_000;
/// A reading stands for the time until the next one, but not for longer than this.
const HOLD: u64 = 2_000 * MS;
/// Rows that were written are forgotten after an hour; no phase is as long.
const KEPT: u64 = 3_600_000 * MS;
/// The ends of GPM's windows are known to this much; see `thread::GPM_AGE`.
const SLACK: u64 = 40 * MS;

/// Readings in time order.
#[derive(Debug, Default)]
pub(super) struct Log {
    rows: VecDeque<Row>,
    drained: usize,
}

impl Log {
    /// Adds a reading.
    pub(super) fn push(&mut self, row: Row) {
        self.rows.push_back(row);
    }

    /// The newest reading.
    pub(super) fn last(&self) -> Option<&Row> {
        self.rows.back()
    }

    /// GPM's windows that end after `from`: begin, end, and the share in which SMs were active, percent.
    pub(super) fn active_since(&self, from: u64) -> Vec<(u64, u64, f64)> {
        let spans = self.rows.iter().filter_map(|r| r.gpm.as_ref()).filter(|s| s.to > from);
        spans.filter_map(|s| Some((s.from, s.to, s.value.sm_active?))).collect()
    }

    /// Rows since the last call, as lines; `opened` is where `t_s` counts from.
    pub(super) fn drain(&mut self, opened: u64) -> Vec<String> {
        let since = |at: u64| at.saturating_sub(opened) as f64 / 1e9;
        let lines = self.rows.iter().skip(self.drained).map(|r| r.line(since(r.at))).collect();
        let newest = self.rows.back().map_or(0, |r| r.at);
        let old = self.rows.partition_point(|r| r.at + KEPT < newest);
        self.rows.drain(..old);
        self.drained = self.rows.len();
        lines
    }

    /// Readings in force in `from..to`, each with the time that it held there. Where none was, the nearest one, if
    /// that is not too far off.
    fn held(&self, from: u64, to: u64) -> Vec<(&Row, f64)> {
        let first = self.rows.partition_point(|r| r.at <= from).saturating_sub(1);
        let mut out = Vec::new();
        for (i, row) in self.rows.iter().enumerate().skip(first) {
            if row.at >= to {
                break;
            }
            let next = self.rows.get(i + 1).map_or(u64::MAX, |n| n.at);
            let end = next.min(row.at + HOLD).min(to);
            let time = end.saturating_sub(row.at.max(from));
            if time > 0 {
                out.push((row, time as f64));
            }
        }
        if out.is_empty() {
            let distance = |r: &Row| if r.at <= from { from - r.at } else { r.at.saturating_sub(to) };
            let near = [first, first + 1].into_iter().filter_map(|i| self.rows.get(i));
            out.extend(near.min_by_key(|r| distance(r)).filter(|r| distance(r) <= HOLD).map(|r| (r, 1.0)));
        }
        out
    }

    /// Mean state in `from..to`, ns of CLOCK_MONOTONIC. `None` where nothing was read near it.
    pub(super) fn state(&self, from: u64, to: u64) -> Option<GpuState> {
        let to = to.max(from);
        let held = self.held(from, to);
        if held.is_empty() {
            return None;
        }
        let mean = |value: &dyn Fn(&Row) -> Option<f64>| {
            weighted(held.iter().filter_map(|(r, time)| Some((value(r)?, *time))))
        };
        let mut throttle: Vec<String> =
            held.iter().flat_map(|(r, _)| r.reading.throttle.iter().map(|s| (*s).to_owned())).collect();
        throttle.sort_unstable();
        throttle.dedup();
        let state = GpuState {
            sm_clock_mhz: mean(&|r| r.reading.sm_clock_mhz.map(f64::from)),
            memory_clock_mhz: mean(&|r| r.reading.memory_clock_mhz.map(f64::from)),
            power_w: energy::power(&self.rows, from, to).or_else(|| mean(&|r| r.reading.power_w)),
            temperature_c: mean(&|r| r.reading.temperature_c.map(f64::from)),
            throttle,
            utilization_pct: mean(&|r| r.reading.utilization_pct.map(f64::from)),
            energy_j: energy::energy(&self.rows, from, to),
            memory_used_bytes: held.iter().filter_map(|(r, _)| r.reading.memory_used).max(),
            process_memory_bytes: self.processes(from, to),
            graphics_pct: self.graphics(from, to),
            ..GpuState::default()
        };
        Some(self.with_gpm(state, from, to))
    }

    /// Values that tell of time in `from..to`. They are written after the time that they tell of, so all stand behind
    /// `from`.
    fn spans<'a, T: 'a>(
        &'a self,
        from: u64,
        to: u64,
        value: impl Fn(&'a Row) -> Option<&'a Span<T>> + 'a,
    ) -> impl Iterator<Item = &'a Span<T>> + 'a {
        let first = self.rows.partition_point(|r| r.at < from);
        self.rows
            .iter()
            .skip(first)
            .filter_map(value)
            .take_while(move |s| s.from < to)
            .filter(move |s| s.overlap(from, to) > 0)
    }

    /// Most memory of each process: of the lists read in `from..to`, or else of the last one before.
    fn processes(&self, from: u64, to: u64) -> BTreeMap<u32, u64> {
        let first = self.rows.partition_point(|r| r.at < from);
        let behind = self.rows.partition_point(|r| r.at <= to);
        let mut out = BTreeMap::new();
        let inside: Vec<_> = self.rows.range(first..behind).filter_map(|r| r.processes.as_ref()).collect();
        let before = || {
            let rows = self.rows.range(..first).rev().take_while(|r| r.at + HOLD >= from);
            rows.filter_map(|r| r.processes.as_ref()).next()
        };
        let lists = if inside.is_empty() { before().into_iter().collect() } else { inside };
        for p in lists.into_iter().flatten() {
            if let Some(bytes) = p.bytes {
                let most: &mut u64 = out.entry(p.pid).or_default();
                *most = bytes.max(*most);
            }
        }
        out
    }

    /// Its stretches are a second and longer, so they count only where most of their time is asked for.
    fn graphics(&self, from: u64, to: u64) -> Option<f64> {
        let spans: Vec<_> = self.spans(from, to, |r| r.graphics.as_ref()).collect();
        let inside: u64 = spans.iter().map(|s| s.overlap(from, to)).sum();
        let all: u64 = spans.iter().map(|s| s.len()).sum();
        (2 * inside >= all)
            .then(|| weighted(spans.iter().map(|s| (s.value, s.overlap(from, to) as f64))))
            .flatten()
    }

    /// GPM's windows are weighted by what of them lies in `from..to`. Where those that surely lie in it make up half of
    /// it, they alone count: the ones at the ends also tell of the time before and after.
    fn with_gpm(&self, state: GpuState, from: u64, to: u64) -> GpuState {
        let all: Vec<_> = self.spans(from, to, |r| r.gpm.as_ref()).collect();
        let inner: Vec<_> =
            all.iter().copied().filter(|s| s.from >= from + SLACK && s.to + SLACK <= to).collect();
        let covered: u64 = inner.iter().map(|s| s.len()).sum();
        let spans: Vec<&Span<Gpm>> = if 2 * covered >= to - from { inner } else { all };
        let (inside, length) =
            spans.iter().fold((0, 0), |(inside, length), s| (inside + s.overlap(from, to), length + s.len()));
        if inside == 0 {
            return state;
        }
        let mean = |value: fn(&Gpm) -> Option<f64>| {
            weighted(spans.iter().filter_map(|s| Some((value(&s.value)?, s.overlap(from, to) as f64))))
        };
        GpuState {
            sm_active_pct: mean(|g| g.sm_active),
            sm_occupancy_pct: mean(|g| g.sm_occupancy),
            dram_pct: mean(|g| g.dram),
            tensor_pct: mean(|g| g.tensor),
            tensor_hmma_pct: mean(|g| g.tensor_hmma),
            tensor_imma_pct: mean(|g| g.tensor_imma),
            tensor_dfma_pct: mean(|g| g.tensor_dfma),
            fp64_pct: mean(|g| g.fp64),
            fp32_pct: mean(|g| g.fp32),
            fp16_pct: mean(|g| g.fp16),
            integer_pct: mean(|g| g.integer),
            gpm_share: Some(inside as f64 / length as f64),
            ..state
        }
    }
}

/// Mean of `(value, weight)`.
fn weighted(values: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (sum, weight) = values.fold((0.0, 0.0), |(s, w), (value, weight)| (s + value * weight, w + weight));
    (weight > 0.0).then(|| sum / weight)
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
