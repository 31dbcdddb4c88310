//! One newtype for each unit that crosses a crate boundary, so that a size is never taken for a time.
//!
//! All of them serialise as plain numbers; the field name in a format carries the unit (`_ns`, `_bytes`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A span or a point of time in nanoseconds. Points are on the GPU's `%globaltimer` for device stamps and on
/// the simulated clock for simulated ones; the two are never mixed in one run.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// From seconds; negative and non-finite values become zero.
    pub fn from_secs(s: f64) -> Self {
        Nanos((s * 1e9).max(0.0) as u64)
    }
    /// In milliseconds.
    pub fn millis(self) -> f64 {
        self.0 as f64 / 1e6
    }
    /// In seconds.
    pub fn secs(self) -> f64 {
        self.0 as f64 / 1e9
    }
    /// `self - other`, zero where that would be negative.
    pub fn saturating_sub(self, other: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(other.0))
    }
}

impl std::ops::Add for Nanos {
    type Output = Nanos;
    fn add(self, o: Nanos) -> Nanos {
        Nanos(self.0 + o.0)
    }
}

impl fmt::Display for Nanos {
    /// Three significant figures and a unit: `1.23 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0 as f64;
        let (x, u) = match v {
            v if v < 1e3 => return write!(f, "{} ns", self.0),
            v if v < 1e6 => (v / 1e3, "µs"),
            v if v < 1e9 => (v / 1e6, "ms"),
            v => (v / 1e9, "s"),
        };
        let digits = if x < 10.0 { 2 } else { usize::from(x < 100.0) };
        write!(f, "{x:.digits$} {u}")
    }
}

/// A size in bytes.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl Bytes {
    /// `n` KiB.
    pub const fn kib(n: u64) -> Self {
        Bytes(n << 10)
    }
    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Bytes(n << 20)
    }
    /// `n` GiB.
    pub const fn gib(n: u64) -> Self {
        Bytes(n << 30)
    }
}

impl fmt::Display for Bytes {
    /// Binary units, at most one decimal: `22.5 MiB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let v = self.0 as f64;
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            let scale = (1u64 << shift) as f64;
            if v >= scale {
                let x = v / scale;
                return if (x - x.round()).abs() < 0.05 {
                    write!(f, "{x:.0} {unit}")
                } else {
                    write!(f, "{x:.1} {unit}")
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// A number of streaming multiprocessors.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Sms(pub u32);

impl fmt::Display for Sms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} SMs", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_with_three_figures() {
        assert_eq!(Nanos(999).to_string(), "999 ns");
        assert_eq!(Nanos(1_234).to_string(), "1.23 µs");
        assert_eq!(Nanos(12_340_000).to_string(), "12.3 ms");
        assert_eq!(Nanos(123_400_000_000).to_string(), "123 s");
    }

    #[test]
    fn sizes_print_in_binary_units() {
        assert_eq!(Bytes(512).to_string(), "512 B");
        assert_eq!(Bytes::mib(8).to_string(), "8 MiB");
        assert_eq!(Bytes((22.5 * 1048576.0) as u64).to_string(), "22.5 MiB");
    }

    #[test]
    fn negative_seconds_are_zero() {
        assert_eq!(Nanos::from_secs(-1.0), Nanos(0));
        assert_eq!(Nanos::from_secs(f64::NAN), Nanos(0));
    }
}
