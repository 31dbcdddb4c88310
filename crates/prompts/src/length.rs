//! Numbers of tokens, and how they are drawn.

use crate::DistributionError;
use crate::call::{Call, Numbers, call, hold};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use rand_pcg::Pcg64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Most tokens of one text.
pub const MOST_TOKENS: u32 = 1 << 24;

/// Draws of a bounded distribution before its range is taken for flat.
const TRIES: usize = 1000;

/// How many tokens: a number, or a distribution that each request draws from. Lengths are 1 to [`MOST_TOKENS`].
///
/// Written and read as text, which is also how it is serialized:
///
/// | text | lengths |
/// |---|---|
/// | `512` | all alike |
/// | `uniform(100,200)` | each from 100 to 200 as often |
/// | `normal(512,64)`, `normal(512,64,1,2000)` | mean and standard deviation; smallest and largest |
/// | `lognormal(400,0.8)`, `lognormal(400,0.8,16,8192)` | median and standard deviation of the logarithm; smallest and largest |
/// | `empirical(12,80,300)` | each of these as often |
/// | `trace` | those of the record of the trace |
///
/// Bounded distributions draw anew until the length is within the bounds, so no bound is hit more often than its
/// neighbours; mean and median are those before that.
#[derive(Debug, Clone, PartialEq)]
pub enum Length {
    /// Always this many.
    Exact(u32),
    /// From `low` to `high`, both included, each as often.
    Uniform {
        /// Smallest.
        low: u32,
        /// Largest.
        high: u32,
    },
    /// Normal, rounded.
    Normal {
        /// Mean, within the bounds.
        mean: f64,
        /// Standard deviation, 0 or more.
        std: f64,
        /// Smallest.
        low: u32,
        /// Largest.
        high: u32,
    },
    /// Log-normal, rounded.
    LogNormal {
        /// Median, within the bounds.
        median: f64,
        /// Standard deviation of the natural logarithm, 0 to 10.
        sigma: f64,
        /// Smallest.
        low: u32,
        /// Largest.
        high: u32,
    },
    /// Each of these as often.
    Empirical(Arc<[u32]>),
    /// That of the trace's record.
    Trace,
}

const WANTED: &str = "a number of tokens such as `512` or a distribution such as `lognormal(400,0.8)`";
const KNOWN: &str = "`uniform`, `normal`, `lognormal`, `empirical` and `trace`";
const TOKENS: &str = "a whole number from 1 to 16777216";

fn tokens(name: &'static str, field: &'static str, n: u32) -> Result<(), DistributionError> {
    hold(name, field, f64::from(n), (1..=MOST_TOKENS).contains(&n), TOKENS)
}

fn bounds(name: &'static str, low: u32, high: u32) -> Result<(), DistributionError> {
    tokens(name, "smallest length", low)?;
    tokens(name, "largest length", high)?;
    hold(name, "largest length", f64::from(high), low <= high, "the smallest length or more")
}

impl Length {
    /// Whether all numbers are in range.
    ///
    /// # Errors
    /// The first number that is not, with its name.
    pub fn check(&self) -> Result<(), DistributionError> {
        let within = |v: f64, low: u32, high: u32| (f64::from(low)..=f64::from(high)).contains(&v);
        const WITHIN: &str = "between the smallest and the largest length";
        match *self {
            Length::Exact(n) => tokens("exact", "length", n),
            Length::Uniform { low, high } => bounds("uniform", low, high),
            Length::Normal { mean, std, low, high } => {
                bounds("normal", low, high)?;
                hold("normal", "mean", mean, within(mean, low, high), WITHIN)?;
                hold("normal", "standard deviation", std, std >= 0.0, "a number, 0 or more")
            }
            Length::LogNormal { median, sigma, low, high } => {
                bounds("lognormal", low, high)?;
                hold("lognormal", "median", median, within(median, low, high), WITHIN)?;
                hold("lognormal", "sigma", sigma, (0.0..=10.0).contains(&sigma), "a number from 0 to 10")
            }
            Length::Empirical(ref all) if all.is_empty() => Err(DistributionError::NoLengths),
            Length::Empirical(ref all) => all.iter().try_for_each(|&n| tokens("empirical", "length", n)),
            Length::Trace => Ok(()),
        }
    }

    /// Draws a length; `None` for those of a trace.
    pub(crate) fn draw(&self, rng: &mut Pcg64) -> Option<u32> {
        let bounded = |rng: &mut Pcg64, low: u32, high: u32, centre: f64, spread: f64, log: bool| {
            let value = |z: f64| {
                let v = centre + spread * z;
                if log { v.exp().round() } else { v.round() }
            };
            let (from, to) = (f64::from(low), f64::from(high));
            for _ in 0..TRIES {
                let v = value(StandardNormal.sample(rng));
                if (from..=to).contains(&v) {
                    return v as u32;
                }
            }
            // The centre is within the bounds, so where hits are this rare the density hardly changes between them.
            let u: f64 = rng.random();
            let v = if log { (from.ln() + u * (to.ln() - from.ln())).exp() } else { from + u * (to - from) };
            (v.round() as u32).clamp(low, high)
        };
        match *self {
            Length::Exact(n) => Some(n),
            Length::Uniform { low, high } => Some(rng.random_range(low..=high.max(low))),
            Length::Normal { mean, std, low, high } => Some(bounded(rng, low, high, mean, std, false)),
            Length::LogNormal { median, sigma, low, high } => {
                Some(bounded(rng, low, high, median.ln(), sigma, true))
            }
            Length::Empirical(ref all) => all.get(rng.random_range(0..all.len().max(1))).copied(),
            Length::Trace => None,
        }
    }
}

impl FromStr for Length {
    type Err = DistributionError;

    fn from_str(text: &str) -> Result<Length, DistributionError> {
        let form = || DistributionError::Form { text: text.trim().to_owned(), wanted: WANTED };
        let (name, texts) = match call(text, WANTED)? {
            Call::Number(n) => {
                let length = Length::Exact(n.parse().map_err(|_| form())?);
                length.check()?;
                return Ok(length);
            }
            Call::Named(name, texts) => (name, texts),
        };
        let length = match name.as_str() {
            "uniform" => {
                let n = Numbers { name: "uniform", texts };
                n.count(&[2], "two: smallest, largest")?;
                Length::Uniform { low: n.tokens(0)?, high: n.tokens(1)? }
            }
            "normal" => {
                let n = Numbers { name: "normal", texts };
                let found =
                    n.count(&[2, 4], "mean and standard deviation, and if need be smallest and largest")?;
                let (low, high) = if found == 4 { (n.tokens(2)?, n.tokens(3)?) } else { (1, MOST_TOKENS) };
                Length::Normal { mean: n.real(0)?, std: n.real(1)?, low, high }
            }
            "lognormal" => {
                let n = Numbers { name: "lognormal", texts };
                let found = n.count(&[2, 4], "median and sigma, and if need be smallest and largest")?;
                let (low, high) = if found == 4 { (n.tokens(2)?, n.tokens(3)?) } else { (1, MOST_TOKENS) };
                Length::LogNormal { median: n.real(0)?, sigma: n.real(1)?, low, high }
            }
            "empirical" => {
                let n = Numbers { name: "empirical", texts };
                let all: Result<Vec<u32>, _> = (0..n.texts.len()).map(|i| n.tokens(i)).collect();
                Length::Empirical(all?.into())
            }
            "trace" => {
                Numbers { name: "trace", texts }.count(&[0], "none")?;
                Length::Trace
            }
            _ => return Err(DistributionError::Name { name, known: KNOWN }),
        };
        length.check()?;
        Ok(length)
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bounded = |f: &mut fmt::Formatter<'_>, name, a: f64, b: f64, low: u32, high: u32| {
            write!(f, "{name}({a},{b}")?;
            if (low, high) == (1, MOST_TOKENS) { f.write_str(")") } else { write!(f, ",{low},{high})") }
        };
        match *self {
            Length::Exact(n) => write!(f, "{n}"),
            Length::Uniform { low, high } => write!(f, "uniform({low},{high})"),
            Length::Normal { mean, std, low, high } => bounded(f, "normal", mean, std, low, high),
            Length::LogNormal { median, sigma, low, high } => {
                bounded(f, "lognormal", median, sigma, low, high)
            }
            Length::Empirical(ref all) => {
                let all: Vec<String> = all.iter().map(u32::to_string).collect();
                write!(f, "empirical({})", all.join(","))
            }
            Length::Trace => f.write_str("trace"),
        }
    }
}

impl Serialize for Length {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'d> Deserialize<'d> for Length {
    /// From text, or from a number for [`Length::Exact`].
    fn deserialize<D: Deserializer<'d>>(d: D) -> Result<Length, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "a number of tokens such as 512 or text such as \"lognormal(400,0.8)\""
        )]
        enum Written {
            Number(u32),
            Text(String),
        }
        let text = match Written::deserialize(d)? {
            Written::Number(n) => n.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(serde::de::Error::custom)
    }
}
