//! Reading traces: the rows of a file, in its own order and with its own times.

use crate::trace::Format;
use crate::trace_error::TraceError;
use serde_json::Value;

const NS: f64 = 1e9;
/// Latest time accepted, s: about 31 years, which as nanoseconds is well inside an `i64`.
const LATEST_S: f64 = 1e9;

/// A time as it stands in a file: ns since an origin that all lines of the file share.
pub(crate) type Ns = i128;

/// One request as it stands in a file.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) at: Ns,
    pub(crate) prompt: Option<u64>,
    pub(crate) output: Option<u64>,
    /// Hash ids of the blocks of its prompt; empty where there are none.
    pub(crate) blocks: Vec<u64>,
}

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
const BLOCKS: &str = "a list of block ids (whole numbers, 0 or more)";

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

/// The format of a text, which its first line tells, and its rows.
pub(crate) fn rows(text: &str) -> Result<(Format, Vec<Row>), TraceError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.lines().find(|l| !l.trim().is_empty()).ok_or(TraceError::Empty)?;
    if first.trim_start().starts_with('{') { json(text) } else { csv(text) }
}

fn csv(text: &str) -> Result<(Format, Vec<Row>), TraceError> {
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
        rows.push(Row { at: time, prompt: count(prompt)?, output: count(output)?, blocks: Vec::new() });
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

fn json(text: &str) -> Result<(Format, Vec<Row>), TraceError> {
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
        let blocks = match value.get("hash_ids").filter(|_| *format == Format::Mooncake) {
            None | Some(Value::Null) => Vec::new(),
            Some(v) => blocks(v).ok_or_else(|| TraceError::Cell {
                line,
                column: "hash_ids".to_owned(),
                text: cell(v),
                wanted: BLOCKS,
            })?,
        };
        rows.push(Row { at: time, prompt: count(prompt)?, output: count(output)?, blocks });
    }
    let format = known.map_or(Format::JsonLines, |k| k.0);
    Ok((format, rows))
}

fn blocks(value: &Value) -> Option<Vec<u64>> {
    value.as_array()?.iter().map(Value::as_u64).collect()
}
