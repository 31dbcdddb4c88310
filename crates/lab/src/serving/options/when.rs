//! When requests are sent.

use super::{LoadOptionError, LoadOptions, parse_time, wrong};
use crate::serving::drive::LoadSource;
use cotenant_load::{
    Arrivals, Lengths, Process, Profile, Step, Trace, Until, Windows, departs, shape, stream_seed, stretch,
};
use std::sync::Arc;

/// Window in which arrivals are counted for their dispersion, ns.
const COUNTED_NS: u64 = 1_000_000_000;
/// Requests of a load without a number and without a time.
const REQUESTS: u64 = 1000;

/// What a file of recorded load has.
#[derive(Debug)]
pub(super) enum Recorded {
    /// Each request.
    Trace(Arc<Trace>),
    /// Rates by window, as the ServeGen data has them.
    Windows(Windows),
}

impl Recorded {
    /// The trace, where it is one.
    pub fn trace(&self) -> Option<&Arc<Trace>> {
        if let Recorded::Trace(t) = self { Some(t) } else { None }
    }
}

/// A call such as `gamma(2)`: its name and what stands in the brackets.
fn call(text: &str) -> Option<(&str, Vec<&str>)> {
    match text.split_once('(') {
        None => Some((text.trim(), Vec::new())),
        Some((name, rest)) => {
            let inside = rest.trim_end().strip_suffix(')')?;
            Some((name.trim(), inside.split(',').map(str::trim).collect()))
        }
    }
}

fn process(text: &str) -> Result<Process, LoadOptionError> {
    let why = "arrivals are poisson, constant, gamma(CV) or weibull(CV)";
    let fail = || wrong("--arrivals", text, why);
    let (name, inside) = call(text).ok_or_else(fail)?;
    let cv = || match inside[..] {
        [cv] => cv.parse::<f64>().map_err(|_| fail()),
        _ => Err(fail()),
    };
    match (name, inside.len()) {
        ("poisson", 0) => Ok(Process::Poisson),
        ("constant", 0) => Ok(Process::Constant),
        ("gamma", _) => Ok(Process::Gamma { cv: cv()? }),
        ("weibull", _) => Ok(Process::Weibull { cv: cv()? }),
        _ => Err(fail()),
    }
}

fn profile(text: &str) -> Result<Profile, LoadOptionError> {
    let why = "a profile is on-off(ON,OFF), on-off(ON,OFF,random), ramp(FROM,TO,TIME) or step(TIME,FACTOR); times \
               such as 5s, factors multiply the rate";
    let fail = || wrong("--profile", text, why);
    let (name, inside) = call(text).ok_or_else(fail)?;
    let seconds = |t: &str| parse_time("--profile", t).map(|ns| ns as f64 / 1e9);
    let factor = |t: &str| t.parse::<f64>().map_err(|_| fail());
    match (name, &inside[..]) {
        ("on-off", [on, off]) => {
            Ok(Profile::OnOff { on_s: seconds(on)?, off_s: seconds(off)?, lengths: Lengths::Fixed })
        }
        ("on-off", [on, off, "random"]) => {
            Ok(Profile::OnOff { on_s: seconds(on)?, off_s: seconds(off)?, lengths: Lengths::Exponential })
        }
        ("ramp", [from, to, over]) => {
            Ok(Profile::Ramp { from: factor(from)?, to: factor(to)?, over_s: seconds(over)? })
        }
        ("step", [at, to]) => {
            Ok(Profile::Steps { first: 1.0, then: vec![Step { at_s: seconds(at)?, factor: factor(to)? }] })
        }
        _ => Err(fail()),
    }
}

impl LoadOptions {
    /// Most requests; `u64::MAX` where only time ends the load.
    pub(super) fn most_requests(&self) -> u64 {
        self.requests.unwrap_or(if self.duration_ns.is_some() { u64::MAX } else { REQUESTS })
    }

    /// What the file has that is to be replayed.
    pub(super) fn recorded(&self) -> Result<Option<Recorded>, LoadOptionError> {
        let Some(text) = &self.trace else {
            return match &self.trace_part {
                Some(_) => Err(LoadOptionError::Together("use --trace-part without --trace".into())),
                None => Ok(None),
            };
        };
        // Of all formats only that of ServeGen begins with numbers, and none of them with a number and a comma.
        let first = text.trim_start_matches('\u{feff}').lines().find(|l| !l.trim().is_empty());
        if first.and_then(|l| l.split_once(',')).is_some_and(|(cell, _)| cell.trim().parse::<f64>().is_ok()) {
            if self.trace_part.is_some() {
                return Err(LoadOptionError::Together(
                    "combine --trace-part with a file of rates: it has no requests to be parted".into(),
                ));
            }
            let windows = Windows::parse(text).map_err(|e| wrong("--trace", "the file", e.to_string()))?;
            return Ok(Some(Recorded::Windows(windows)));
        }
        let refused = |e: cotenant_load::TraceError| wrong("--trace", "the file", e.to_string());
        let trace = Trace::parse(text).map_err(refused)?;
        let Some(part) = &self.trace_part else { return Ok(Some(Recorded::Trace(Arc::new(trace)))) };
        let fail = || wrong("--trace-part", part, "a part is like 1/2, the first of two, or 2/2");
        let (i, n) = part.split_once('/').ok_or_else(fail)?;
        let (i, n): (usize, usize) =
            (i.trim().parse().map_err(|_| fail())?, n.trim().parse().map_err(|_| fail())?);
        if i == 0 || i > n {
            return Err(fail());
        }
        Ok(Some(Recorded::Trace(Arc::new(trace.part(i - 1, n).map_err(refused)?))))
    }

    /// When requests are sent, in words too, and what the drawn times differ in from what was asked.
    pub(super) fn source(
        &self,
        recorded: Option<&Recorded>,
    ) -> Result<(LoadSource, String, Vec<String>), LoadOptionError> {
        let together = |what: &str| Err(LoadOptionError::Together(what.to_owned()));
        let requests = self.most_requests();
        if requests == 0 {
            return Err(wrong("--requests", "0", "at least one"));
        }
        let until_ns = self.duration_ns.unwrap_or(u64::MAX);
        if self.exact_rate {
            if self.rate.is_none() {
                return together("use an exact rate without --rate");
            }
            if self.duration_ns.is_some() {
                return together(
                    "combine --exact-rate with --duration: a number of requests has an exact rate; give --requests",
                );
            }
            if self.profile.is_some() {
                return together("combine --exact-rate with --profile: a profile changes the rate");
            }
        }
        if let Some(users) = self.concurrency {
            if self.rate.is_some() || recorded.is_some() || self.arrivals.is_some() || self.profile.is_some()
            {
                return together(
                    "combine --concurrency with --rate, --arrivals, --profile or --trace: a load is closed or open",
                );
            }
            if users == 0 {
                return Err(wrong("--concurrency", "0", "at least one user"));
            }
            let think = match self.think_ns {
                0 => String::new(),
                ns => format!(", thinking {} s", ns as f64 / 1e9),
            };
            let source = LoadSource::Closed { users, think_ns: self.think_ns, requests, until_ns };
            return Ok((source, format!("closed loop of {users} users{think}"), Vec::new()));
        }
        if self.think_ns > 0 {
            return together("use --think without --concurrency: only users of a closed loop think");
        }
        let until = match (self.duration_ns, requests) {
            (Some(ns), _) => Until::Horizon(ns),
            (None, n) => Until::Count(usize::try_from(n).unwrap_or(usize::MAX)),
        };
        if let Some(recorded) = recorded {
            if self.arrivals.is_some() || self.profile.is_some() {
                return together("combine --trace with --arrivals or --profile: a trace has its own");
            }
            let (mut times, words) = match recorded {
                Recorded::Trace(trace) => self.replayed(trace, until)?,
                Recorded::Windows(windows) => self.drawn(windows, until)?,
            };
            times.truncate(usize::try_from(requests).unwrap_or(usize::MAX));
            self.make_exact(&mut times)?;
            return Ok((LoadSource::Open { times }, words, Vec::new()));
        }
        let Some(rate) = self.rate else {
            return together(
                "start a load without --concurrency, --rate or --trace: one of them says how much",
            );
        };
        let process = process(self.arrivals.as_deref().unwrap_or("poisson"))?;
        let profile = self.profile.as_deref().map(profile).transpose()?.unwrap_or_default();
        let flat = profile == Profile::Flat;
        let seed = stream_seed(self.seed, "arrivals", 0);
        let times = Arrivals { process, profile, rate_per_s: rate, seed }
            .offsets(until)
            .map_err(|e| wrong("--rate", &rate.to_string(), e.to_string()))?;
        let mut times = times;
        times.truncate(usize::try_from(requests).unwrap_or(usize::MAX));
        self.make_exact(&mut times)?;
        let departures = match shape(&times, COUNTED_NS) {
            Some(s) if flat => departs(&s, &process, Some(rate)).iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        let name = self.arrivals.as_deref().unwrap_or("poisson");
        let shape = self.profile.as_deref().map_or_else(String::new, |p| format!(", {p}"));
        let exactly = if self.exact_rate { "exactly " } else { "" };
        Ok((LoadSource::Open { times }, format!("open loop, {name} at {exactly}{rate}/s{shape}"), departures))
    }

    /// What a recorded load is brought to, in words.
    fn brought(&self, how: &str) -> String {
        let exactly = if self.exact_rate { "exactly " } else { "" };
        self.rate.map_or_else(|| ", as recorded".to_owned(), |rate| format!(", {how} to {exactly}{rate}/s"))
    }

    /// The requests of a trace.
    fn replayed(&self, trace: &Trace, until: Until) -> Result<(Vec<u64>, String), LoadOptionError> {
        let refused = |e: cotenant_load::TraceError| wrong("--trace", "the file", e.to_string());
        let scaled = match self.rate {
            Some(rate) => trace.at_rate(rate).map_err(refused)?,
            None => trace.clone(),
        };
        let until = match until {
            Until::Count(n) if self.requests.is_none() => Until::Count(n.min(trace.records().len())),
            until => until,
        };
        let times = scaled.offsets(until).map_err(refused)?;
        let part = self.trace_part.as_ref().map_or_else(String::new, |p| format!(" (part {p} of it)"));
        let n = trace.records().len();
        Ok((times, format!("trace of {n} requests{part}{}", self.brought("stretched"))))
    }

    /// Requests drawn at the rates of windows.
    fn drawn(&self, windows: &Windows, until: Until) -> Result<(Vec<u64>, String), LoadOptionError> {
        let refused = |e: cotenant_load::WindowsError| wrong("--trace", "the file", e.to_string());
        let scaled = match self.rate {
            Some(rate) => windows.at_rate(rate).map_err(refused)?,
            None => windows.clone(),
        };
        let seed = stream_seed(self.seed, "arrivals", 0);
        // As many as there are, where no number is given.
        let until = match until {
            Until::Count(_) if self.requests.is_none() => Until::Horizon(u64::MAX),
            until => until,
        };
        let mut times = scaled.offsets(seed, until).map_err(refused)?;
        if self.requests.is_none() && self.duration_ns.is_none() {
            times.truncate(REQUESTS as usize);
        }
        if times.is_empty() {
            return Err(wrong(
                "--trace",
                "the file",
                "no request comes within the load; give a --rate or a longer --duration",
            ));
        }
        let (n, length) = (windows.windows().len(), windows.length_s());
        Ok((times, format!("{n} windows of {length} s with a rate each{}", self.brought("multiplied"))))
    }

    /// Stretches times to the rate where that is asked for.
    fn make_exact(&self, times: &mut [u64]) -> Result<(), LoadOptionError> {
        match self.rate.filter(|_| self.exact_rate) {
            Some(rate) => {
                stretch(times, rate).map_err(|e| wrong("--exact-rate", &rate.to_string(), e.to_string()))
            }
            None => Ok(()),
        }
    }
}
