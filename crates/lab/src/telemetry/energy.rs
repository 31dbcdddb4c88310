//! Energy of a stretch of time.
//!
//! The problem: the GPU's energy counter is exact but dear to read (3 ms of CPU time on an H100), so it is read every
//! second or two; power is cheap but a sample: the mean of some 20 ms in every 100 ms. So the shape comes from power
//! and the size from the counter: energy is the integral of power over the stretch, times the ratio of counter to
//! integral over all counter readings near it. Both counter and power are renewed every 100 ms, which leaves an error of
//! up to 50 ms of power at each end of a stretch, and of the ratio's base.

use super::row::Row;
use std::collections::VecDeque;

const MS: u64 = 1_000_000;
/// Counter readings this far before and after a stretch still count for the ratio.
const NEAR: u64 = 10_000 * MS;
/// Least time between the first and last counter reading for a ratio: their ends are known to 100 ms.
const LEAST: u64 = 5_000 * MS;
/// A power value tells of some 25 ms that ended 15 ms before it is renewed, is seen 15 ms after that, and stands for the
/// 100 ms around them.
const POWER_AGE: u64 = 90 * MS;
/// Mean age of the counter's value when it is read: it is renewed every 100 ms, with 15 ms delay.
const COUNTER_AGE: u64 = 65 * MS;

/// Power of a row, W.
fn watts(row: &Row) -> Option<f64> {
    row.reading.power_instant_w.or(row.reading.power_w)
}

/// Integral of power from `from` to `to`, J. Before the first row and after the last one power is taken as constant.
fn integral(rows: &VecDeque<Row>, from: u64, to: u64) -> Option<f64> {
    let (from, to) = (from + POWER_AGE, to + POWER_AGE);
    let first = rows.partition_point(|r| r.at <= from).saturating_sub(1);
    let mut joules = 0.0;
    for (i, row) in rows.iter().enumerate().skip(first) {
        if i > first && row.at >= to {
            break;
        }
        let begin = if i == first { from } else { row.at };
        let end = rows.get(i + 1).map_or(to, |next| next.at.clamp(begin, to));
        joules += watts(row)? * (end.saturating_sub(begin)) as f64 / 1e9;
    }
    Some(joules)
}

/// Mean power from `from` to `to`, W; for an empty stretch the power at that moment.
pub(super) fn power(rows: &VecDeque<Row>, from: u64, to: u64) -> Option<f64> {
    let to = to.max(from + 1);
    Some(integral(rows, from, to)? * 1e9 / (to - from) as f64)
}

/// Energy from `from` to `to`, J. `None` for stretches under 200 ms, of which power and counter tell too little, and
/// where neither is told.
pub(super) fn energy(rows: &VecDeque<Row>, from: u64, to: u64) -> Option<f64> {
    if to < from + 200 * MS {
        return None;
    }
    let (low, high) = (from.saturating_sub(NEAR), to + NEAR);
    let first = rows.partition_point(|r| r.at < low);
    let mut readings = rows
        .iter()
        .skip(first)
        .take_while(|r| r.at <= high)
        .filter_map(|r| Some((r.at.saturating_sub(COUNTER_AGE), r.energy_mj? as f64 / 1e3)));
    let a = readings.next();
    let b = readings.last();
    let counted = a.zip(b).filter(|(a, b)| b.0 >= a.0 + LEAST && b.1 >= a.1);
    match (integral(rows, from, to), counted) {
        (Some(shape), Some((a, b))) => {
            let base = integral(rows, a.0, b.0)?;
            Some(if base > 0.0 { shape * (b.1 - a.1) / base } else { shape })
        }
        (Some(shape), None) => Some(shape),
        (None, Some((a, b))) => Some((b.1 - a.1) * (to - from) as f64 / (b.0 - a.0) as f64),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cotenant_gpu::nvml::Reading;
    use proptest::prelude::*;

    /// Rows every 100 ms from 1 s on: power by `instant`, and a counter that runs at `counter` W, read every second.
    fn rows(n: u64, instant: impl Fn(u64) -> Option<f64>, counter: Option<f64>) -> VecDeque<Row> {
        (0..n)
            .map(|i| Row {
                at: 1000 * MS + i * 100 * MS,
                reading: Reading { power_instant_w: instant(i), ..Reading::default() },
                energy_mj: counter.filter(|_| i % 10 == 0).map(|w| (i as f64 * 100.0 * w) as u64),
                ..Row::default()
            })
            .collect()
    }

    #[test]
    fn constant_power_is_power_times_time() {
        let rows = rows(100, |_| Some(250.0), None);
        assert_eq!(energy(&rows, 3000 * MS, 7000 * MS), Some(1000.0));
        assert_eq!(power(&rows, 3000 * MS, 3000 * MS), Some(250.0));
        assert_eq!(energy(&rows, 3000 * MS, 3100 * MS), None, "too short to tell");
    }

    #[test]
    fn the_counter_sets_the_size_and_power_the_shape() {
        // A counter at twice the power: the sensor misses half of it, always or on the mean.
        let flat = rows(100, |_| Some(100.0), Some(200.0));
        let got = energy(&flat, 3000 * MS, 7000 * MS).expect("energy");
        assert!((got / 800.0 - 1.0).abs() < 1e-9, "{got}");
        let rows = rows(100, |i| Some(if i < 50 { 100.0 } else { 300.0 }), Some(400.0));
        let early = energy(&rows, 2000 * MS, 4000 * MS).expect("energy");
        let late = energy(&rows, 8000 * MS, 10_000 * MS).expect("energy");
        assert!((late / early - 3.0).abs() < 1e-9, "{early} {late}");
    }

    #[test]
    fn a_counter_alone_is_taken_as_steady_and_a_short_one_not_at_all() {
        let alone = rows(100, |_| None, Some(200.0));
        assert_eq!(energy(&alone, 3000 * MS, 5000 * MS), Some(400.0));
        let short = rows(30, |_| Some(100.0), Some(200.0));
        assert_eq!(energy(&short, 1500 * MS, 2500 * MS), Some(100.0), "2 s of counter are no base");
        assert_eq!(energy(&rows(100, |_| None, None), 3000 * MS, 5000 * MS), None);
    }

    #[test]
    fn power_is_shifted_back_by_its_age() {
        // 100 W up to 6 s as read, then 300 W: the step really was 90 ms earlier.
        let rows = rows(100, |i| Some(if i < 50 { 100.0 } else { 300.0 }), None);
        assert_eq!(power(&rows, 5500 * MS, 5910 * MS), Some(100.0));
        assert_eq!(power(&rows, 5910 * MS, 6500 * MS), Some(300.0));
    }

    proptest! {
        #[test]
        fn energy_of_parts_adds_up(powers in prop::collection::vec(0.0f64..700.0, 80), at in 0u64..4000) {
            let rows = rows(80, |i| Some(powers[i as usize]), None);
            let (from, middle, to) = (1500 * MS, (2000 + at) * MS, 7000 * MS);
            let sum = energy(&rows, from, middle).expect("energy") + energy(&rows, middle, to).expect("energy");
            let whole = energy(&rows, from, to).expect("energy");
            prop_assert!((sum - whole).abs() < 1e-6 * whole.max(1.0));
            let most = powers.iter().copied().fold(0.0, f64::max);
            prop_assert!(whole <= most * 5.5 + 1e-9);
        }
    }
}
