//! Arrivals: a process, a profile, a rate and a seed in; offsets out.

use crate::process::Gaps;
use crate::profile::{Profile, Walk};
use crate::{LoadError, Process};
use rand::SeedableRng;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

/// Most arrivals of one stream.
pub const MOST_ARRIVALS: usize = 100_000_000;

const NS: f64 = 1e9;

/// Stretches or squeezes arrivals so that their mean distance is exactly `1 / rate_per_s`, all
/// distances alike. Offsets in ns from the start of the phase, ascending.
///
/// Few drawn arrivals have another mean rate than what they were drawn for: 160 with a coefficient of variation of 4 miss
/// it by a third. Loads that are to be compared had better have the same one.
///
/// # Errors
/// A rate that is not positive; fewer than two arrivals, or all at one time.
pub fn stretch(offsets_ns: &mut [u64], rate_per_s: f64) -> Result<(), LoadError> {
    if !(rate_per_s.is_finite() && rate_per_s > 0.0) {
        return Err(LoadError::Rate(rate_per_s));
    }
    let (Some(&first), Some(&last)) = (offsets_ns.first(), offsets_ns.last()) else {
        return Err(LoadError::NoMean(offsets_ns.len()));
    };
    if first == last {
        return Err(LoadError::NoMean(offsets_ns.len()));
    }
    let asked_ns = (offsets_ns.len() - 1) as f64 / rate_per_s * NS;
    let factor = asked_ns / (last - first) as f64;
    for at in offsets_ns {
        *at = (*at as f64 * factor).round() as u64;
    }
    Ok(())
}

/// An open-loop load of one tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arrivals {
    /// How arrivals follow each other.
    pub process: Process,
    /// How the rate changes over time.
    #[serde(default)]
    pub profile: Profile,
    /// Mean rate, requests per second; the profile multiplies it.
    pub rate_per_s: f64,
    /// Seed of this stream; see [`crate::stream_seed`].
    pub seed: u64,
}

/// Where a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After so many arrivals.
    Count(usize),
    /// Before so many nanoseconds have passed.
    Horizon(u64),
}

impl Arrivals {
    /// Offsets of the arrivals from the start of the phase, ns, ascending (equal ones may follow each other).
    ///
    /// A longer stream of the same load begins with the shorter one. The random numbers are those of `Pcg64` seeded
    /// with `seed`; the lengths of bursts have a generator of their own.
    ///
    /// # Errors
    /// A rate, coefficient of variation or profile out of range; more than [`MOST_ARRIVALS`]; a profile that ends at
    /// zero before the count is reached.
    pub fn offsets(&self, until: Until) -> Result<Vec<u64>, LoadError> {
        if !(self.rate_per_s.is_finite() && self.rate_per_s > 0.0) {
            return Err(LoadError::Rate(self.rate_per_s));
        }
        let even = matches!(self.profile, Profile::Flat | Profile::OnOff { .. });
        if let Until::Horizon(ns) = until
            && even
            && ns as f64 / NS * self.rate_per_s > MOST_ARRIVALS as f64
        {
            return Err(LoadError::TooMany(ns as f64 / NS * self.rate_per_s));
        }
        let gaps = Gaps::new(self.process)?;
        let mut rng = Pcg64::seed_from_u64(self.seed);
        let mut walk = Walk::new(&self.profile, Pcg64::seed_from_u64(!self.seed))?;
        let (most, horizon_s) = match until {
            Until::Count(n) if n > MOST_ARRIVALS => return Err(LoadError::TooMany(n as f64)),
            Until::Count(n) => (n, f64::INFINITY),
            Until::Horizon(ns) => (MOST_ARRIVALS + 1, ns as f64 / NS),
        };
        let mut out = Vec::with_capacity(most.min(1 << 20));
        let mut operational = gaps.first(&mut rng) / self.rate_per_s;
        while out.len() < most {
            let Some(at_s) = walk.real(operational, horizon_s) else {
                match until {
                    Until::Count(asked) => return Err(LoadError::Ends { have: out.len(), asked }),
                    Until::Horizon(_) => break,
                }
            };
            out.push((at_s * NS).round() as u64);
            operational += gaps.next(&mut rng) / self.rate_per_s;
        }
        if out.len() > MOST_ARRIVALS {
            return Err(LoadError::TooMany(horizon_s * self.rate_per_s));
        }
        // Rounding may put the last one on the horizon itself.
        if let Until::Horizon(ns) = until {
            out.truncate(out.partition_point(|&at| at < ns));
        }
        Ok(out)
    }
}
