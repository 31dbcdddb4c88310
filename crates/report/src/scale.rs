//! Axes: from data to coordinates, and ticks at round values.

use cotenant_units::Bytes;

/// A linear or logarithmic map from `[low, high]` to coordinates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

/// Largest magnitude drawn; beyond it differences of values overflow.
const LIMIT: f64 = 1e200;

impl Scale {
    /// A scale over `values` (those that can be drawn) onto the coordinates `from..to`. Linear scales get a
    /// little room at both ends unless `zero` pins the lower end; a scale without extent gets one.
    pub fn over(
        values: impl IntoIterator<Item = f64>,
        (from, to): (f64, f64),
        log: bool,
        zero: bool,
    ) -> Self {
        let usable = values.into_iter().filter(|v| v.is_finite() && (!log || *v > 0.0));
        let (mut low, mut high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), v| {
            let v = v.clamp(-LIMIT, LIMIT);
            (lo.min(v), hi.max(v))
        });
        if low > high {
            (low, high) = if log { (1.0, 10.0) } else { (0.0, 1.0) };
        }
        if log {
            low = low.max(1e-200);
            high = high.max(low);
            if high / low < 1.0001 {
                (low, high) = (low / 2.0, high * 2.0);
            } else {
                let room = (high / low).powf(0.04);
                (low, high) = (low / room, high * room);
            }
        } else {
            if zero {
                (low, high) = (low.min(0.0), high.max(0.0));
            }
            let extent = high - low;
            if extent <= 1e-9 * low.abs().max(high.abs()) {
                let room = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
                (low, high) = if zero { (low, high + room) } else { (low - room, high + room) };
            } else {
                low -= if zero && low == 0.0 { 0.0 } else { 0.06 * extent };
                high += 0.06 * extent;
            }
        }
        Scale { low, high, from, to, log }
    }

    /// Exactly `low..high`, linear.
    pub fn linear(low: f64, high: f64, (from, to): (f64, f64)) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Scale { low, high, from, to, log: false }
    }

    /// The coordinate of `v`, held within the axis.
    pub fn at(&self, v: f64) -> f64 {
        let share = if self.log {
            (v.max(f64::MIN_POSITIVE) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (v - self.low) / (self.high - self.low)
        };
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self.from + share * (self.to - self.from)
    }

    /// Whether `v` lies within the axis.
    pub fn holds(&self, v: f64) -> bool {
        v >= self.low && v <= self.high
    }

    /// About `count` round values within the axis. `binary` prefers powers of two on a logarithmic axis.
    pub fn ticks(&self, count: usize, binary: bool) -> Vec<f64> {
        let count = count.max(2) as f64;
        if self.log { self.log_ticks(count, binary) } else { self.linear_ticks(count) }
    }

    fn linear_ticks(&self, count: f64) -> Vec<f64> {
        let raw = (self.high - self.low) / count;
        let magnitude = 10f64.powf(raw.log10().floor());
        if magnitude <= 0.0 || !magnitude.is_finite() {
            return vec![self.low, self.high];
        }
        let step = [1.0, 2.0, 2.5, 5.0, 10.0]
            .into_iter()
            .map(|m| m * magnitude)
            .find(|s| *s >= raw * 0.999)
            .unwrap_or(10.0 * magnitude);
        let first = (self.low / step).ceil();
        // Multiples, not sums: no drift, and zero is exactly zero.
        (0..=64)
            .map(|i| (first + f64::from(i)) * step)
            .take_while(|v| *v <= self.high * (1.0 + 1e-12))
            .collect()
    }

    fn log_ticks(&self, count: f64, binary: bool) -> Vec<f64> {
        let base: f64 = if binary { 2.0 } else { 10.0 };
        let (a, b) = (self.low.ln() / base.ln(), self.high.ln() / base.ln());
        let powers = |every: f64| -> Vec<f64> {
            let first = (a / every).ceil() * every;
            let n = ((b - first) / every).floor().clamp(-1.0, 256.0) as i64;
            (0..=n).map(|i| base.powf(first + i as f64 * every)).collect()
        };
        let every = ((b - a) / count).ceil().max(1.0);
        let plain = powers(every);
        if binary || plain.len() >= 4 {
            return plain;
        }
        let mut fine = Vec::new();
        let start = a.floor() as i32;
        for decade in start..=start + (b - a).ceil().clamp(0.0, 6.0) as i32 + 1 {
            for m in [1.0, 2.0, 5.0] {
                fine.push(m * 10f64.powi(decade));
            }
        }
        fine.retain(|v| self.holds(*v));
        if fine.len() >= 2 { fine } else { self.linear_ticks(count) }
    }
}

/// How an axis prints its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// As they are.
    #[default]
    Plain,
    /// Bytes, with binary prefixes.
    Bytes,
}

impl Unit {
    /// The unit that an axis label implies: bytes if it says so and names no multiple.
    pub fn of_label(label: &str) -> Self {
        let l = label.to_ascii_lowercase();
        let bare =
            ["bytes]", "(bytes)", "[b]", ", bytes", "in bytes"].iter().any(|s| l.contains(s)) || l == "bytes";
        if bare { Unit::Bytes } else { Unit::Plain }
    }

    /// Prints a tick.
    pub fn tick(self, v: f64) -> String {
        match self {
            Unit::Bytes if (0.0..1e18).contains(&v) => Bytes(v.round() as u64).to_string(),
            _ => plain(v),
        }
    }
}

/// A number with up to four significant figures and no trailing zeros; powers of ten where it is very large or
/// very small.
pub fn plain(v: f64) -> String {
    if !v.is_finite() {
        return "–".to_owned();
    }
    let a = v.abs();
    if a == 0.0 {
        return "0".to_owned();
    }
    if !(1e-4..1e7).contains(&a) {
        let s = format!("{v:.2e}");
        let (mantissa, exponent) = s.split_once('e').unwrap_or((&s, "0"));
        return format!("{}e{exponent}", trim(mantissa)).replace('-', "−");
    }
    let digits = (3 - a.log10().floor() as i32).clamp(0, 8) as usize;
    trim(&format!("{v:.digits$}")).replace('-', "−")
}

fn trim(s: &str) -> &str {
    if s.contains('.') { s.trim_end_matches('0').trim_end_matches('.') } else { s }
}

/// A measured value at a fixed number of significant figures, zeros kept, so that columns line up: `1.90`.
pub fn significant(v: f64, figures: i32) -> String {
    if !v.is_finite() {
        return "–".to_owned();
    }
    if v == 0.0 {
        return "0".to_owned();
    }
    if !(1e-6..1e9).contains(&v.abs()) {
        return format!("{v:.2e}").replace('-', "−");
    }
    // The exponent after rounding: 0.9998 at three figures is 1.00, not 1.000.
    let rounded = format!("{v:.*e}", (figures - 1).max(0) as usize);
    let exponent: i32 = rounded.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let digits = (figures - 1 - exponent).clamp(0, 9) as usize;
    format!("{v:.digits$}").replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let s = Scale::over([0.0, 1.9], (0.0, 100.0), false, true);
        assert_eq!(s.ticks(5, false), [0.0, 0.5, 1.0, 1.5, 2.0]);
        let s = Scale::over([1.0, 1024.0], (0.0, 100.0), true, false);
        assert_eq!(s.ticks(6, false), [1.0, 10.0, 100.0, 1000.0]);
        let s = Scale::over([65536.0, 4194304.0], (0.0, 100.0), true, false);
        assert_eq!(
            s.ticks(8, true),
            [65536.0, 131072.0, 262144.0, 524288.0, 1048576.0, 2097152.0, 4194304.0]
        );
        let s = Scale::over([10.0, 40.0], (0.0, 100.0), true, false);
        assert_eq!(s.ticks(6, false), [10.0, 20.0]);
    }

    #[test]
    fn degenerate_data_get_an_axis() {
        for values in [vec![], vec![5.0], vec![f64::NAN, f64::INFINITY], vec![0.0, 0.0], vec![-1e308, 1e308]]
        {
            for log in [false, true] {
                for zero in [false, true] {
                    let s = Scale::over(values.clone(), (0.0, 100.0), log, zero);
                    assert!(s.high > s.low, "{values:?} {log} {zero}: {s:?}");
                    assert!(s.ticks(5, false).iter().all(|t| t.is_finite()));
                    assert!((0.0..=100.0).contains(&s.at(3.0)));
                }
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        for (v, s) in [
            (0.0, "0"),
            (1.0, "1"),
            (22.5, "22.5"),
            (0.005, "0.005"),
            (12345.0, "12345"),
            (-2.0, "−2"),
            (4294967296.0, "4.29e9"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(plain(v), s);
        }
        assert_eq!(significant(1.9, 4), "1.900");
        assert_eq!(significant(0.9998, 3), "1.00");
        assert_eq!(significant(0.9998, 4), "0.9998");
        assert_eq!(significant(999.96, 4), "1000");
        assert_eq!(significant(1234.6, 4), "1235");
        assert_eq!(Unit::of_label("Array size [bytes]").tick(65536.0), "64 KiB");
        assert_eq!(Unit::of_label("Array size [MiB]").tick(64.0), "64");
    }
}
