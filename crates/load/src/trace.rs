//! Traces: recorded arrivals, read from the formats that published traces come in.
//!
//! | format | file | time | tokens |
//! |---|---|---|---|
//! | own | CSV or JSON lines | `t_s`, seconds, or `timestamp`: seconds, or a date and time | `prompt_tokens`, `output_tokens` (optional) |
//! | Azure LLM inference traces | CSV | `TIMESTAMP`, a date and time | `ContextTokens`, `GeneratedTokens` |
//! | Mooncake | JSON lines | `timestamp`, milliseconds | `input_length`, `output_length` |
//! | BurstGPT | CSV | `Timestamp`, seconds | `Request tokens`, `Response tokens` |
//!
//! The first line tells the format: names of columns are compared without case, and `timestamp` beside
//! `input_length` is in milliseconds. Other columns are not looked at.

use crate::arrivals::{MOST_ARRIVALS, Until};
use crate::trace_error::TraceError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const NS: f64 = 1e9;
/// Latest time accepted, s: about 31 years, which as nanoseconds is well inside an `i64`.
const LATEST_S: f64 = 1e9;

/// Format of a trace file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Our own, as CSV.
    Csv,
    /// Our own, as JSON lines.
    JsonLines,
    /// Azure LLM inference traces.
    Azure,
    /// Mooncake.
    Mooncake,
    /// BurstGPT.
    BurstGpt,
}

/// One request of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Arrival, ns from the start of the trace.
    pub at_ns: u64,
    /// Tokens of the prompt, where told.
    pub prompt_tokens: Option<u64>,
    /// Tokens generated, where told.
    pub output_tokens: Option<u64>,
}

/// Recorded arrivals, in time order.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    format: Format,
    records: Vec<Record>,
    reordered: usize,
    /// From the start of the trace to its end, ns: the last record, unless it is a slice by time.
    length_ns: u64,
}

/// A time as it stands in a file: ns since an origin that all lines of the file share.
type Ns = i128;

/// Which unit the time column has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clock {
    Seconds,
    Milliseconds,
    Date,
    /// Seconds or a date, as the first line tells.
    Open,
}

const SECONDS: &str = "a time in seconds (0 or more, less than 1e9)";
const MILLISECONDS: &str = "a time in milliseconds (0 or more, less than 1e12)";
const DATE: &str = "a date and time such as `2023-11-16 18:17:03.97`";
const EITHER: &str = "a time in seconds, or a date and time such as `2023-11-16 18:17:03.97`";
const TOKENS: &str = "a number of tokens (a whole number, 0 or more)";

impl Clock {
    fn wanted(self) -> &'static str {
        match self {
            Clock::Seconds => SECONDS,
            Clock::Milliseconds => MILLISECONDS,
            Clock::Date => DATE,
            Clock::Open => EITHER,
        }
    }

    /// Reads a time; an open clock is settled by it.
    fn read(&mut self, text: &str) -> Option<Ns> {
        let text = text.trim();
        let number = |per_s: f64| {
            let v: f64 = text.parse().ok()?;
            let s = v / per_s;
            (s.is_finite() && (0.0..LATEST_S).contains(&s)).then(|| (s * NS).round() as Ns)
        };
        match self {
            Clock::Seconds => number(1.0),
            Clock::Milliseconds => number(1e3),
            Clock::Date => date(text),
            Clock::Open => {
                let (clock, at) = match number(1.0) {
                    Some(at) => (Clock::Seconds, at),
                    None => (Clock::Date, date(text)?),
                };
                *self = clock;
                Some(at)
            }
        }
    }
}

/// A date and time, with an offset from UTC or (as in the published traces) without one.
fn date(text: &str) -> Option<Ns> {
    if let Ok(t) = text.parse::<jiff::Timestamp>() {
        return Some(t.as_nanosecond());
    }
    let t: jiff::civil::DateTime = text.parse().ok()?;
    Some(jiff::tz::TimeZone::UTC.to_timestamp(t).ok()?.as_nanosecond())
}

fn tokens(text: &str, line: &dyn Fn() -> u64, column: &str) -> Result<Option<u64>, TraceError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| TraceError::Cell {
        line: line(),
        column: column.into(),
        text: text.into(),
        wanted: TOKENS,
    })
}

impl Trace {
    /// Reads a trace; its first line tells the format. Times count from the earliest record. Records that are out of
    /// order are put in order; [`Trace::reordered`] says how many.
    ///
    /// # Errors
    /// A line that is not of the format, with its number and the column.
    pub fn parse(text: &str) -> Result<Trace, TraceError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let first = text.lines().find(|l| !l.trim().is_empty()).ok_or(TraceError::Empty)?;
        let (format, rows) = if first.trim_start().starts_with('{') { json(text)? } else { csv(text)? };
        Trace::from_rows(format, rows)
    }

    fn from_rows(format: Format, rows: Vec<(Ns, Option<u64>, Option<u64>)>) -> Result<Trace, TraceError> {
        let start = rows.iter().map(|r| r.0).min().ok_or(TraceError::Empty)?;
        let mut latest = start;
        let reordered = rows
            .iter()
            .filter(|r| {
                let late = r.0 < latest;
                latest = latest.max(r.0);
                late
            })
            .count();
        let mut records: Vec<Record> = rows
            .into_iter()
            .map(|(at, prompt_tokens, output_tokens)| Record {
                // Dates span fewer than 2⁶⁴ ns between the years 1970 and 2554; beyond that it saturates.
                at_ns: u64::try_from(at - start).unwrap_or(u64::MAX),
                prompt_tokens,
                output_tokens,
            })
            .collect();
        records.sort_by_key(|r| r.at_ns);
        let length_ns = records.last().map_or(0, |r| r.at_ns);
        Ok(Trace { format, records, reordered, length_ns })
    }

    /// A trace of given records, which are put in time order; times are kept as they are.
    ///
    /// # Errors
    /// No records.
    pub fn of(format: Format, mut records: Vec<Record>) -> Result<Trace, TraceError> {
        records.sort_by_key(|r| r.at_ns);
        let length_ns = records.last().ok_or(TraceError::Empty)?.at_ns;
        Ok(Trace { format, records, reordered: 0, length_ns })
    }

    /// The format it was read from.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The records in time order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// How many records stood later in the file than a younger one.
    pub fn reordered(&self) -> usize {
        self.reordered
    }

    /// Mean rate, requests per second: one over the mean distance. `None` where all records are at one time.
    pub fn rate_per_s(&self) -> Option<f64> {
        let (first, last) = (self.records.first()?, self.records.last()?);
        let span = last.at_ns - first.at_ns;
        (span > 0).then(|| (self.records.len() - 1) as f64 / (span as f64 / NS))
    }

    /// Coefficient of variation of the distances between arrivals; `None` for fewer than three records, or all at one
    /// time.
    pub fn cv(&self) -> Option<f64> {
        let gaps: Vec<f64> = self.records.windows(2).map(|w| (w[1].at_ns - w[0].at_ns) as f64).collect();
        let n = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / n;
        let variance = gaps.iter().map(|g| (g - mean) * (g - mean)).sum::<f64>() / (n - 1.0);
        (gaps.len() >= 2 && mean > 0.0).then(|| variance.sqrt() / mean)
    }

    /// The same arrivals stretched or squeezed so that their mean rate is `rate_per_s`: burstiness stays.
    ///
    /// # Errors
    /// A rate that is not positive, or a trace without a rate.
    pub fn at_rate(&self, rate_per_s: f64) -> Result<Trace, TraceError> {
        if !(rate_per_s.is_finite() && rate_per_s > 0.0) {
            return Err(TraceError::Rate(rate_per_s));
        }
        let factor = self.rate_per_s().ok_or(TraceError::NoRate(self.records.len()))? / rate_per_s;
        let stretched = |ns: u64| (ns as f64 * factor).round() as u64;
        Ok(Trace {
            records: self.records.iter().map(|r| Record { at_ns: stretched(r.at_ns), ..*r }).collect(),
            length_ns: stretched(self.length_ns),
            ..*self
        })
    }

    /// The records in `from_ns..to_ns`; times then count from `from_ns`, so a wait before the first one stays.
    ///
    /// # Errors
    /// No record is there.
    pub fn between(&self, from_ns: u64, to_ns: u64) -> Result<Trace, TraceError> {
        let place = |ns| self.records.partition_point(|r| r.at_ns < ns);
        let (first, last) = (place(from_ns), place(to_ns));
        if first >= last {
            let s = |ns: u64| ns as f64 / NS;
            return Err(TraceError::NothingThere {
                from_s: s(from_ns),
                to_s: s(to_ns),
                length_s: s(self.length_ns),
            });
        }
        let moved = |r: &Record| Record { at_ns: r.at_ns - from_ns, ..*r };
        Ok(Trace {
            records: self.records[first..last].iter().map(moved).collect(),
            length_ns: to_ns.min(self.length_ns) - from_ns,
            ..*self
        })
    }

    /// `count` records from the one with index `first` on; times then count from that one.
    ///
    /// # Errors
    /// There are not so many.
    pub fn slice(&self, first: usize, count: usize) -> Result<Trace, TraceError> {
        let end = first.checked_add(count).filter(|&end| end <= self.records.len() && count > 0);
        let Some(end) = end else {
            let have = self.records.len().saturating_sub(first);
            return Err(TraceError::Ends { have, asked: count });
        };
        let start = self.records[first].at_ns;
        let moved = |r: &Record| Record { at_ns: r.at_ns - start, ..*r };
        let records: Vec<Record> = self.records[first..end].iter().map(moved).collect();
        let length_ns = records.last().map_or(0, |r| r.at_ns);
        Ok(Trace { records, length_ns, ..*self })
    }

    /// Offsets of the arrivals, ns, ascending.
    ///
    /// # Errors
    /// A count above the number of records.
    pub fn offsets(&self, until: Until) -> Result<Vec<u64>, TraceError> {
        let end = match until {
            Until::Count(asked) if asked > self.records.len() => {
                return Err(TraceError::Ends { have: self.records.len(), asked });
            }
            Until::Count(asked) => asked,
            Until::Horizon(ns) => self.records.partition_point(|r| r.at_ns < ns),
        };
        Ok(self.records[..end].iter().map(|r| r.at_ns).collect())
    }

    /// As [`Trace::offsets`], starting over at the end of the trace as often as it takes. The first record of a turn
    /// follows the last of the one before at the mean distance.
    ///
    /// # Errors
    /// A trace without a rate, or more than [`MOST_ARRIVALS`].
    pub fn cycled(&self, until: Until) -> Result<Vec<u64>, TraceError> {
        let rate = self.rate_per_s().ok_or(TraceError::NoRate(self.records.len()))?;
        let first = self.records.first().map_or(0, |r| r.at_ns);
        let turn = self.length_ns.max(1) + ((NS / rate) as u64).saturating_sub(first).max(1);
        let (most, end) = match until {
            Until::Count(n) => (n, u64::MAX),
            Until::Horizon(ns) => (MOST_ARRIVALS + 1, ns),
        };
        let expected = match until {
            Until::Count(n) => n as f64,
            Until::Horizon(ns) => ns as f64 / turn as f64 * self.records.len() as f64,
        };
        // Half as many again: a trace may be denser at its start.
        if expected > 1.5 * MOST_ARRIVALS as f64 {
            return Err(TraceError::TooMany(expected));
        }
        let out: Vec<u64> = (0u64..)
            .flat_map(|n| self.records.iter().map(move |r| n.saturating_mul(turn).saturating_add(r.at_ns)))
            .take_while(|&at| at < end)
            .take(most)
            .collect();
        if out.len() > MOST_ARRIVALS { Err(TraceError::TooMany(expected)) } else { Ok(out) }
    }

    /// The trace in our own CSV format, times with all nine digits; reading it gives the same records.
    pub fn to_csv(&self) -> String {
        let mut out = String::from("t_s,prompt_tokens,output_tokens\n");
        for r in &self.records {
            let cell = |t: Option<u64>| t.map_or_else(String::new, |t| t.to_string());
            let (s, ns) = (r.at_ns / 1_000_000_000, r.at_ns % 1_000_000_000);
            out.push_str(&format!("{s}.{ns:09},{},{}\n", cell(r.prompt_tokens), cell(r.output_tokens)));
        }
        out
    }
}

type Rows = Vec<(Ns, Option<u64>, Option<u64>)>;

fn csv(text: &str) -> Result<(Format, Rows), TraceError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| csv_error(&e, text))?.clone();
    let find = |name: &str| header.iter().position(|h| h.eq_ignore_ascii_case(name));
    let (format, at, mut clock, prompt, output) = match (find("t_s"), find("timestamp")) {
        (_, Some(at)) if find("ContextTokens").is_some() => {
            (Format::Azure, at, Clock::Date, find("ContextTokens"), find("GeneratedTokens"))
        }
        (_, Some(at)) if find("Request tokens").is_some() => {
            (Format::BurstGpt, at, Clock::Seconds, find("Request tokens"), find("Response tokens"))
        }
        (Some(at), _) => (Format::Csv, at, Clock::Seconds, find("prompt_tokens"), find("output_tokens")),
        (None, Some(at)) => (Format::Csv, at, Clock::Open, find("prompt_tokens"), find("output_tokens")),
        (None, None) => {
            let found: Vec<String> = header.iter().map(|h| format!("`{h}`")).collect();
            return Err(TraceError::Columns { found: found.join(", ") });
        }
    };
    let name = |i: usize| header.get(i).unwrap_or_default();
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(|e| csv_error(&e, text))? {
        // Counting lines from the start of the text takes its time, so only for errors.
        let line = || line_of(record.position(), text);
        let cell = |i: usize| record.get(i).unwrap_or_default();
        let wanted = clock.wanted();
        let time = clock.read(cell(at)).ok_or_else(|| TraceError::Cell {
            line: line(),
            column: name(at).into(),
            text: cell(at).into(),
            wanted,
        })?;
        let count = |i: Option<usize>| i.map_or(Ok(None), |i| tokens(cell(i), &line, name(i)));
        rows.push((time, count(prompt)?, count(output)?));
    }
    Ok((format, rows))
}

/// Line, from 1, on which a record begins. The reader's own count stands before the blank lines that it skips.
fn line_of(position: Option<&csv::Position>, text: &str) -> u64 {
    let at = position.and_then(|p| usize::try_from(p.byte()).ok()).unwrap_or(0).min(text.len());
    let (before, after) = text.as_bytes().split_at(at);
    let blank = after.iter().take_while(|b| matches!(b, b'\r' | b'\n'));
    let newlines = before.iter().chain(blank).filter(|b| **b == b'\n').count();
    1 + newlines as u64
}

fn csv_error(e: &csv::Error, text: &str) -> TraceError {
    let line = line_of(e.position(), text);
    match e.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            TraceError::Cells { line, found: *len, asked: *expected_len }
        }
        _ => TraceError::Line { line, reason: e.to_string() },
    }
}

fn json(text: &str) -> Result<(Format, Rows), TraceError> {
    let mut known: Option<(Format, &str, Clock)> = None;
    let mut rows = Vec::new();
    for (line, text) in (1u64..).zip(text.lines()).filter(|(_, t)| !t.trim().is_empty()) {
        let value: serde_json::Map<String, Value> =
            serde_json::from_str(text).map_err(|e| TraceError::Json {
                line,
                character: e.column(),
                reason: e.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
            })?;
        let (format, field, clock) = match &mut known {
            Some(k) => k,
            None => known.insert(if value.contains_key("t_s") {
                (Format::JsonLines, "t_s", Clock::Seconds)
            } else if value.contains_key("input_length") {
                (Format::Mooncake, "timestamp", Clock::Milliseconds)
            } else {
                (Format::JsonLines, "timestamp", Clock::Open)
            }),
        };
        let cell = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        let told = value.get(*field).ok_or_else(|| TraceError::Field { line, field: (*field).to_owned() })?;
        let wanted = clock.wanted();
        let time = clock.read(&cell(told)).ok_or_else(|| TraceError::Cell {
            line,
            column: (*field).to_owned(),
            text: cell(told),
            wanted,
        })?;
        let (prompt, output) = match format {
            Format::Mooncake => ("input_length", "output_length"),
            _ => ("prompt_tokens", "output_tokens"),
        };
        let count = |name: &str| match value.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(v) => tokens(&cell(v), &|| line, name),
        };
        rows.push((time, count(prompt)?, count(output)?));
    }
    let format = known.map_or(Format::JsonLines, |k| k.0);
    Ok((format, rows))
}
