//! Clients of a measured service whose load changes from window to window: the files of the ServeGen data.
//!
//! A file has no header; each line is one window of equal length (600 s in the published data):
//!
//! | cell | meaning |
//! |---|---|
//! | 1 | start of the window, s |
//! | 2 | mean rate in it, requests per second |
//! | 3 | coefficient of variation of the distances between arrivals |
//! | 4 | family that was fitted to them: `Gamma`, `Weibull`, or empty |
//! | 5, 6 | its shape and scale (s) |
//!
//! In the published data the family is empty exactly where the rate is 0: a window without arrivals. Should a window
//! have a rate and no family, its arrivals are those of a Poisson process.
//!
//! Rate, family and coefficient of variation are used; shape and scale are checked for being numbers and no more. For
//! Gamma windows they say the same; for heavy-tailed Weibull windows the mean of the fitted distribution is often far
//! from the window's rate, and with the measured rate a window keeps the requests that it had. Coefficients outside
//! 0.01 to 100 (20 of 40 095 windows of the published sample) count as the nearer of these.

use crate::arrivals::{MOST_ARRIVALS, Until};
use crate::process::Gaps;
use crate::{Process, WindowsError, stream_seed};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

const NS: f64 = 1e9;
/// Length of the window of a file that has only one, s: that of the published data.
const USUAL_S: f64 = 600.0;
/// Latest start and longest window accepted, s.
const LATEST_S: f64 = 1e9;

/// Load in one window.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Mean rate, requests per second; 0 for none.
    pub rate_per_s: f64,
    /// How arrivals follow each other.
    pub process: Process,
}

/// The load of one client: windows of equal length that follow each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Windows {
    length_s: f64,
    windows: Vec<Window>,
}

/// A number of a cell, within bounds (the upper one is not part).
fn number(
    line: u64,
    column: &'static str,
    text: &str,
    wanted: &'static str,
    below: f64,
) -> Result<f64, WindowsError> {
    let read = text.parse::<f64>().ok().filter(|v| (0.0..below).contains(v));
    read.ok_or_else(|| WindowsError::Cell { line, column, text: text.to_owned(), wanted })
}

impl Windows {
    /// Reads the text of a client file. Blank lines are passed over.
    ///
    /// # Errors
    /// No windows, or a line that is not one, with its number.
    pub fn parse(text: &str) -> Result<Windows, WindowsError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut starts: Vec<(u64, f64)> = Vec::new();
        let mut windows = Vec::new();
        for (line, row) in (1u64..).zip(text.lines()).filter(|(_, t)| !t.trim().is_empty()) {
            let cells: Vec<&str> = row.split(',').map(str::trim).collect();
            let [start, rate, cv, family, shape, scale] = cells[..] else {
                return Err(WindowsError::Cells { line, found: cells.len() });
            };
            const SECONDS: &str = "a time in seconds (0 or more, less than 1e9)";
            const RATE: &str = "a number of requests per second (0 or more, less than 1e9)";
            const COEFFICIENT: &str = "a coefficient of variation (a number, 0 or more)";
            const PARAMETER: &str = "a number, 0 or more";
            starts.push((line, number(line, "cell 1 (start)", start, SECONDS, LATEST_S)?));
            let rate_per_s = number(line, "cell 2 (rate)", rate, RATE, 1e9)?;
            let cv = number(line, "cell 3 (CV)", cv, COEFFICIENT, f64::INFINITY)?;
            number(line, "cell 5 (shape)", shape, PARAMETER, f64::INFINITY)?;
            number(line, "cell 6 (scale)", scale, PARAMETER, f64::INFINITY)?;
            let cv = cv.clamp(0.01, 100.0);
            let process = match family {
                "" => Process::Poisson,
                f if f.eq_ignore_ascii_case("gamma") => Process::Gamma { cv },
                f if f.eq_ignore_ascii_case("weibull") => Process::Weibull { cv },
                f => {
                    return Err(WindowsError::Cell {
                        line,
                        column: "cell 4 (family)",
                        text: f.to_owned(),
                        wanted: "`Gamma`, `Weibull` or empty",
                    });
                }
            };
            windows.push(Window { rate_per_s, process });
        }
        let &(_, first) = starts.first().ok_or(WindowsError::Empty)?;
        let length_s = starts.get(1).map_or(USUAL_S, |&(_, second)| second - first);
        for (i, &(line, found_s)) in starts.iter().enumerate().skip(1) {
            let due_s = if length_s > 0.0 { first + i as f64 * length_s } else { first + USUAL_S };
            if (found_s - due_s).abs() > 1e-3 {
                return Err(WindowsError::Start { line, found_s, due_s });
            }
        }
        Ok(Windows { length_s, windows })
    }

    /// The windows in time order.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Length of each window, s.
    pub fn length_s(&self) -> f64 {
        self.length_s
    }

    /// Mean rate over all windows, those without arrivals too, requests per second.
    pub fn rate_per_s(&self) -> f64 {
        self.windows.iter().map(|w| w.rate_per_s).sum::<f64>() / self.windows.len().max(1) as f64
    }

    /// The same windows with rates multiplied so that their mean is `rate_per_s`. Windows stay as long as they are
    /// (unlike [`crate::Trace::at_rate`], which stretches time), and so do the coefficients of variation.
    ///
    /// # Errors
    /// A rate that is not positive, or no window with arrivals.
    pub fn at_rate(&self, rate_per_s: f64) -> Result<Windows, WindowsError> {
        if !(rate_per_s.is_finite() && rate_per_s > 0.0) {
            return Err(WindowsError::Rate(rate_per_s));
        }
        let now = self.rate_per_s();
        if now <= 0.0 {
            return Err(WindowsError::NoRate(self.windows.len()));
        }
        let scaled = |w: &Window| Window { rate_per_s: w.rate_per_s * (rate_per_s / now), ..*w };
        Ok(Windows { windows: self.windows.iter().map(scaled).collect(), ..*self })
    }

    /// `count` windows from the one with index `first` on; times then count from its start.
    ///
    /// # Errors
    /// There are not so many, or a count of 0.
    pub fn slice(&self, first: usize, count: usize) -> Result<Windows, WindowsError> {
        let end = first.checked_add(count).filter(|_| count > 0);
        let windows = end.and_then(|end| self.windows.get(first..end)).ok_or(WindowsError::Slice {
            first,
            count,
            have: self.windows.len(),
        })?;
        Ok(Windows { length_s: self.length_s, windows: windows.to_vec() })
    }

    /// Offsets of the arrivals from the start of the first window, ns, ascending. A horizon after the last window ends
    /// there.
    ///
    /// A window has as many arrivals as its rate says: the rates were measured, so nothing is left to chance but the
    /// rounding of a count that is not whole, with the probability of its fraction. Their distances (and the one
    /// to the end of the window) are drawn from the window's process and scaled to fill the window. A process that
    /// starts anew in each window would not do: with a coefficient of variation `c` it gives about `(c² − 1)/2`
    /// arrivals too many in each.
    ///
    /// Every window has a generator of its own (see [`stream_seed`]), so a longer stream begins with the shorter one.
    ///
    /// # Errors
    /// A count above the number of arrivals; more than [`MOST_ARRIVALS`].
    pub fn offsets(&self, seed: u64, until: Until) -> Result<Vec<u64>, WindowsError> {
        let (most, horizon_ns) = match until {
            Until::Count(n) if n > MOST_ARRIVALS => return Err(WindowsError::TooMany(n as f64)),
            Until::Count(n) => (n, u64::MAX),
            Until::Horizon(ns) => (MOST_ARRIVALS, ns),
        };
        let mut out = Vec::new();
        for (i, window) in self.windows.iter().enumerate() {
            let start_s = i as f64 * self.length_s;
            if out.len() >= most && matches!(until, Until::Count(_)) || start_s * NS >= horizon_ns as f64 {
                break;
            }
            let mean = window.rate_per_s * self.length_s;
            if out.len() as f64 + mean > MOST_ARRIVALS as f64 {
                return Err(WindowsError::TooMany(out.len() as f64 + mean));
            }
            let mut rng = Pcg64::seed_from_u64(stream_seed(seed, "window", i as u64));
            let places = self.places(window, &mut rng)?;
            // A place on the window's end belongs to the next one, whose arrivals may lie before it by rounding.
            let last_ns = ((start_s + self.length_s) * NS).round() as u64;
            let at = |place: f64| {
                let ns = ((start_s + place * self.length_s) * NS).round() as u64;
                ns.min(last_ns.saturating_sub(1))
            };
            out.extend(places.into_iter().map(at).take_while(|&ns| ns < horizon_ns));
        }
        match until {
            Until::Count(asked) if out.len() < asked => Err(WindowsError::Ends { have: out.len(), asked }),
            Until::Count(asked) => {
                out.truncate(asked);
                Ok(out)
            }
            Until::Horizon(_) => Ok(out),
        }
    }

    /// Places of the arrivals within a window, 0 to 1, ascending.
    fn places(&self, window: &Window, rng: &mut Pcg64) -> Result<Vec<f64>, WindowsError> {
        let mean = window.rate_per_s * self.length_s;
        // A measured rate times the length is a whole number but for the last bits.
        let near = (mean - mean.round()).abs() < 1e-6;
        let (whole, fraction) = if near { (mean.round(), 0.0) } else { (mean.floor(), mean.fract()) };
        let count = whole as usize + usize::from(rng.random::<f64>() < fraction);
        if count == 0 {
            return Ok(Vec::new());
        }
        let gaps = Gaps::new(window.process)?;
        let mut drawn: Vec<f64> = (0..=count).map(|_| gaps.next(rng)).collect();
        let mut total: f64 = drawn.iter().sum();
        if total <= 0.0 {
            // The shape of a Gamma distribution may be so small that a number below the smallest was drawn each time.
            // One distance then dwarfs the others, whichever it is.
            let largest = rng.random_range(0..drawn.len());
            if let Some(gap) = drawn.get_mut(largest) {
                *gap = 1.0;
            }
            total = 1.0;
        }
        let mut passed = 0.0;
        let place = |gap: &f64| {
            passed += gap / total;
            passed.min(1.0)
        };
        Ok(drawn.iter().take(count).map(place).collect())
    }
}
