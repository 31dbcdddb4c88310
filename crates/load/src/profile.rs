//! How the rate changes while a phase lasts.
//!
//! The problem: arrivals are drawn as if the rate were one all the time (operational time); then each is put where the
//! profile has let that much rate pass. With Λ(t) the integral of the profile up to t, the arrival at operational time
//! s happens at Λ⁻¹(s). For a Poisson process this is exactly the process with the rate of the profile; for the
//! others the coefficient of variation holds in operational time.
//!
//! A profile is a list of stretches in which the rate changes linearly, so Λ⁻¹ is a square root at most.

use crate::LoadError;
use rand_distr::{Distribution, Exp1};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

/// The rate over time, in multiples of the mean rate that was asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "profile", rename_all = "kebab-case")]
pub enum Profile {
    /// The same all the time.
    #[default]
    Flat,
    /// Bursts: stretches with requests and stretches without, the first with. The rate within bursts is such that
    /// the mean over whole cycles is the rate asked for.
    OnOff {
        /// Length, or mean length, of a burst, s.
        on_s: f64,
        /// Length, or mean length, of a pause, s.
        off_s: f64,
        /// Whether the lengths vary.
        #[serde(default)]
        lengths: Lengths,
    },
    /// Linear from one multiple to another, which then stays.
    Ramp {
        /// Multiple at the start, 0 or more.
        from: f64,
        /// Multiple at the end, 0 or more.
        to: f64,
        /// Length, s.
        over_s: f64,
    },
    /// Constant until a step, and from there on another constant.
    Steps {
        /// Multiple before the first step, 0 or more.
        first: f64,
        /// The steps in time order.
        then: Vec<Step>,
    },
}

/// Whether the lengths of bursts and pauses vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lengths {
    /// All alike.
    #[default]
    Fixed,
    /// Exponentially distributed (an interrupted Poisson process, if the process is Poisson).
    Exponential,
}

/// One step of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// When, s from the start of the phase.
    pub at_s: f64,
    /// Multiple from there on, 0 or more.
    pub factor: f64,
}

/// A stretch in which the rate goes linearly from one multiple to another.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stretch {
    length_s: f64,
    from: f64,
    to: f64,
}

impl Stretch {
    /// Operational time that passes in it.
    fn passes(self) -> f64 {
        if self.length_s.is_infinite() {
            return if self.to > 0.0 { f64::INFINITY } else { 0.0 };
        }
        self.length_s * self.from.midpoint(self.to)
    }

    /// When so much operational time has passed, s from the stretch's start: the root of
    /// `from·t + (to − from)·t²/(2·length) = passed`, in the form that does not cancel.
    fn inverse(self, passed: f64) -> f64 {
        if passed <= 0.0 {
            return 0.0;
        }
        let slope = if self.length_s.is_finite() { (self.to - self.from) / self.length_s } else { 0.0 };
        let under = self.from.mul_add(self.from, 2.0 * slope * passed).max(0.0);
        (2.0 * passed / (self.from + under.sqrt())).min(self.length_s)
    }
}

impl Profile {
    fn checked(&self) -> Result<(), LoadError> {
        let check = |profile, field, value: f64, ok: bool, rule| {
            if value.is_finite() && ok {
                Ok(())
            } else {
                Err(LoadError::Profile { profile, field, value, rule })
            }
        };
        const POSITIVE: &str = "a number of seconds above 0";
        const MULTIPLE: &str = "a multiple of the rate, 0 or more";
        match self {
            Profile::Flat => Ok(()),
            Profile::OnOff { on_s, off_s, .. } => {
                check("on-off", "on_s", *on_s, *on_s >= 1e-6, "a number of seconds, a millionth or more")?;
                check("on-off", "off_s", *off_s, *off_s >= 0.0, "a number of seconds, 0 or more")
            }
            Profile::Ramp { from, to, over_s } => {
                check("ramp", "from", *from, *from >= 0.0, MULTIPLE)?;
                check("ramp", "to", *to, *to >= 0.0, MULTIPLE)?;
                check("ramp", "over_s", *over_s, *over_s > 0.0, POSITIVE)
            }
            Profile::Steps { first, then } => {
                check("steps", "first", *first, *first >= 0.0, MULTIPLE)?;
                let mut before = 0.0;
                for s in then {
                    check("steps", "at_s", s.at_s, s.at_s >= 0.0, "a number of seconds, 0 or more")?;
                    check("steps", "factor", s.factor, s.factor >= 0.0, MULTIPLE)?;
                    if s.at_s < before {
                        return Err(LoadError::Steps(s.at_s, before));
                    }
                    before = s.at_s;
                }
                Ok(())
            }
        }
    }

    /// The stretch after `n` others that ended at `at_s`.
    fn stretch(&self, n: usize, at_s: f64, rng: &mut Pcg64) -> Stretch {
        let forever = |factor| Stretch { length_s: f64::INFINITY, from: factor, to: factor };
        match self {
            Profile::Flat => forever(1.0),
            Profile::OnOff { on_s, off_s, lengths } => {
                let on = n.is_multiple_of(2);
                let mean = if on { *on_s } else { *off_s };
                let length_s = match lengths {
                    Lengths::Fixed => mean,
                    Lengths::Exponential => {
                        let e: f64 = Exp1.sample(rng);
                        mean * e
                    }
                };
                let factor = if on { (on_s + off_s) / on_s } else { 0.0 };
                Stretch { length_s, from: factor, to: factor }
            }
            Profile::Ramp { from, to, over_s } if n == 0 => {
                Stretch { length_s: *over_s, from: *from, to: *to }
            }
            Profile::Ramp { to, .. } => forever(*to),
            Profile::Steps { first, then } => {
                let factor = if n == 0 { *first } else { then.get(n - 1).map_or(*first, |s| s.factor) };
                let length_s = then.get(n).map_or(f64::INFINITY, |s| s.at_s - at_s);
                Stretch { length_s, from: factor, to: factor }
            }
        }
    }
}

/// Walks along a profile, from operational to real time. Times must be asked for in ascending order.
#[derive(Debug)]
pub(crate) struct Walk<'p> {
    profile: &'p Profile,
    /// Of the lengths of bursts only, so that they do not depend on how many arrivals are drawn.
    rng: Pcg64,
    n: usize,
    stretch: Stretch,
    /// Real and operational time at the start of the stretch.
    at_s: f64,
    passed: f64,
}

impl<'p> Walk<'p> {
    pub(crate) fn new(profile: &'p Profile, mut rng: Pcg64) -> Result<Walk<'p>, LoadError> {
        profile.checked()?;
        let stretch = profile.stretch(0, 0.0, &mut rng);
        Ok(Walk { profile, rng, n: 0, stretch, at_s: 0.0, passed: 0.0 })
    }

    /// Real time, s, at which so much operational time (s at the multiple 1) has passed, looking no further than
    /// `horizon_s`; `None` where that is later or never.
    pub(crate) fn real(&mut self, operational: f64, horizon_s: f64) -> Option<f64> {
        loop {
            let passes = self.stretch.passes();
            let ends = self.stretch.length_s.is_infinite();
            if operational < self.passed + passes || (ends && passes > 0.0) {
                let at = self.at_s + self.stretch.inverse(operational - self.passed);
                return (at < horizon_s).then_some(at);
            }
            if ends || self.at_s > horizon_s {
                return None;
            }
            self.passed += passes;
            self.at_s += self.stretch.length_s;
            self.n += 1;
            self.stretch = self.profile.stretch(self.n, self.at_s, &mut self.rng);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn walk(profile: &Profile) -> Walk<'_> {
        Walk::new(profile, Pcg64::seed_from_u64(1)).expect("a profile")
    }

    #[test]
    fn flat_time_passes_as_it_is() {
        let mut w = walk(&Profile::Flat);
        assert_eq!([0.0, 1.5, 7.0].map(|s| w.real(s, f64::INFINITY)), [Some(0.0), Some(1.5), Some(7.0)]);
        assert_eq!(w.real(8.0, 8.0), None, "the horizon is not part of the phase");
    }

    #[test]
    fn bursts_hold_all_arrivals_and_keep_the_mean() {
        let p = Profile::OnOff { on_s: 1.0, off_s: 3.0, lengths: Lengths::Fixed };
        let mut w = walk(&p);
        // In the burst time passes four times as fast: 4 s of it in the first second, then nothing until 4 s.
        for (operational, real) in [(0.0, 0.0), (2.0, 0.5), (3.9, 0.975), (4.0, 4.0), (6.0, 4.5), (9.0, 8.25)]
        {
            assert_eq!(w.real(operational, f64::INFINITY), Some(real));
        }
    }

    #[test]
    fn ramps_follow_the_square_root() {
        // 0 to 2 over 10 s: Λ(t) = t²/10 up to 10, then 2 a second.
        let p = Profile::Ramp { from: 0.0, to: 2.0, over_s: 10.0 };
        let mut w = walk(&p);
        for (operational, real) in [(0.1f64, 1.0f64), (2.5, 5.0), (10.0, 10.0), (14.0, 12.0)] {
            let got = w.real(operational, f64::INFINITY).expect("a time");
            assert!((got - real).abs() < 1e-12, "{operational}: {got}");
        }
        // Falling to nothing: 4 in all, of which 3 have passed after half of the time.
        let p = Profile::Ramp { from: 2.0, to: 0.0, over_s: 4.0 };
        let mut w = walk(&p);
        assert_eq!(w.real(3.0, f64::INFINITY), Some(2.0));
        assert_eq!(w.real(4.1, f64::INFINITY), None, "never");
    }

    #[test]
    fn steps_change_the_rate_where_they_stand() {
        let p = Profile::Steps {
            first: 1.0,
            then: vec![Step { at_s: 2.0, factor: 0.0 }, Step { at_s: 5.0, factor: 4.0 }],
        };
        let mut w = walk(&p);
        for (operational, real) in [(1.0, 1.0), (2.0, 5.0), (4.0, 5.5)] {
            assert_eq!(w.real(operational, f64::INFINITY), Some(real));
        }
    }

    #[test]
    fn numbers_out_of_range_name_the_field() {
        let words =
            |p: Profile| Walk::new(&p, Pcg64::seed_from_u64(1)).map(|_| ()).expect_err("refused").to_string();
        let on_off = |on_s, off_s| Profile::OnOff { on_s, off_s, lengths: Lengths::Fixed };
        assert!(words(on_off(0.0, 1.0)).contains("`on_s` of the on-off profile is 0"));
        assert!(words(on_off(1.0, f64::NAN)).contains("`off_s`"));
        assert!(words(Profile::Ramp { from: -1.0, to: 1.0, over_s: 1.0 }).contains("`from`"));
        assert!(words(Profile::Ramp { from: 1.0, to: 1.0, over_s: 0.0 }).contains("`over_s`"));
        let steps = |then| Profile::Steps { first: 1.0, then };
        let at = |at_s| Step { at_s, factor: 1.0 };
        assert!(words(steps(vec![at(3.0), at(2.0)])).contains("2 s follows 3 s"));
        assert!(words(steps(vec![at(f64::INFINITY)])).contains("`at_s`"));
    }
}
