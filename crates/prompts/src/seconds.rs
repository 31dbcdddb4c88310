//! Times between turns, and how they are drawn.

use crate::DistributionError;
use crate::call::{Call, Numbers, call, hold};
use rand::RngExt;
use rand_distr::{Distribution, Exp1, StandardNormal};
use rand_pcg::Pcg64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Longest time, s: a day.
const MOST_S: f64 = 86_400.0;

/// How many seconds: a number, or a distribution. Times are 0 to 86 400 s; longer ones that are drawn count as that.
///
/// Written and read as text, which is also how it is serialized: `2.5`, `uniform(1,3)`, `exponential(5)` with the mean,
/// `lognormal(4,0.8)` with the median and the standard deviation of the natural logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Seconds {
    /// Always this many.
    Exact(f64),
    /// Between two times.
    Uniform {
        /// Shortest, s.
        low: f64,
        /// Longest, s.
        high: f64,
    },
    /// Exponential.
    Exponential {
        /// Mean, s.
        mean: f64,
    },
    /// Log-normal.
    LogNormal {
        /// Median, s.
        median: f64,
        /// Standard deviation of the natural logarithm, 0 to 10.
        sigma: f64,
    },
}

const WANTED: &str = "a number of seconds such as `2.5` or a distribution such as `exponential(5)`";
const KNOWN: &str = "`uniform`, `exponential` and `lognormal`";
const TIME: &str = "a number of seconds from 0 to 86400";

impl Seconds {
    /// Whether all numbers are in range.
    ///
    /// # Errors
    /// The first number that is not, with its name.
    pub fn check(&self) -> Result<(), DistributionError> {
        let time = |name, field, v: f64| hold(name, field, v, (0.0..=MOST_S).contains(&v), TIME);
        match *self {
            Seconds::Exact(s) => time("exact", "time", s),
            Seconds::Uniform { low, high } => {
                time("uniform", "shortest time", low)?;
                time("uniform", "longest time", high)?;
                hold("uniform", "longest time", high, low <= high, "the shortest time or more")
            }
            Seconds::Exponential { mean } => time("exponential", "mean", mean),
            Seconds::LogNormal { median, sigma } => {
                time("lognormal", "median", median)?;
                hold("lognormal", "sigma", sigma, (0.0..=10.0).contains(&sigma), "a number from 0 to 10")
            }
        }
    }

    /// Draws a time, s.
    pub(crate) fn draw(&self, rng: &mut Pcg64) -> f64 {
        let s: f64 = match *self {
            Seconds::Exact(s) => s,
            Seconds::Uniform { low, high } => low + (high - low) * rng.random::<f64>(),
            Seconds::Exponential { mean } => {
                let e: f64 = Exp1.sample(rng);
                mean * e
            }
            Seconds::LogNormal { median, sigma } => {
                let z: f64 = StandardNormal.sample(rng);
                median * (sigma * z).exp()
            }
        };
        s.clamp(0.0, MOST_S)
    }
}

impl FromStr for Seconds {
    type Err = DistributionError;

    fn from_str(text: &str) -> Result<Seconds, DistributionError> {
        let seconds = match call(text, WANTED)? {
            Call::Number(n) => Seconds::Exact(
                n.parse().map_err(|_| DistributionError::Form { text: n.to_owned(), wanted: WANTED })?,
            ),
            Call::Named(name, texts) => match name.as_str() {
                "uniform" => {
                    let n = Numbers { name: "uniform", texts };
                    n.count(&[2], "two: shortest, longest")?;
                    Seconds::Uniform { low: n.real(0)?, high: n.real(1)? }
                }
                "exponential" => {
                    let n = Numbers { name: "exponential", texts };
                    n.count(&[1], "one: the mean")?;
                    Seconds::Exponential { mean: n.real(0)? }
                }
                "lognormal" => {
                    let n = Numbers { name: "lognormal", texts };
                    n.count(&[2], "two: median, sigma")?;
                    Seconds::LogNormal { median: n.real(0)?, sigma: n.real(1)? }
                }
                _ => return Err(DistributionError::Name { name, known: KNOWN }),
            },
        };
        seconds.check()?;
        Ok(seconds)
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Seconds::Exact(s) => write!(f, "{s}"),
            Seconds::Uniform { low, high } => write!(f, "uniform({low},{high})"),
            Seconds::Exponential { mean } => write!(f, "exponential({mean})"),
            Seconds::LogNormal { median, sigma } => write!(f, "lognormal({median},{sigma})"),
        }
    }
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'d> Deserialize<'d> for Seconds {
    /// From text, or from a number for [`Seconds::Exact`].
    fn deserialize<D: Deserializer<'d>>(d: D) -> Result<Seconds, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a number of seconds such as 2.5 or text such as \"exponential(5)\"")]
        enum Written {
            Number(f64),
            Text(String),
        }
        let text = match Written::deserialize(d)? {
            Written::Number(n) => n.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}
