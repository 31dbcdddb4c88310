//! Traces: recorded arrivals, read from the formats that published traces come in.
//!
//! | format | file | time | tokens |
//! |---|---|---|---|
//! | own | CSV or JSON lines | `t_s`, seconds, or `timestamp`: seconds, or a date and time | `prompt_tokens`, `output_tokens` (optional) |
//! | Azure LLM inference traces | CSV | `TIMESTAMP`, a date and time | `ContextTokens`, `GeneratedTokens` |
//! | Mooncake | JSON lines | `timestamp`, milliseconds | `input_length`, `output_length`, `hash_ids` |
//! | BurstGPT | CSV | `Timestamp`, seconds | `Request tokens`, `Response tokens` |
//!
//! The first line tells the format: names of columns are compared without case, and `timestamp` beside
//! `input_length` is in milliseconds. Other columns are not looked at.
//!
//! `hash_ids` of a Mooncake trace cut the prompt into blocks of [`BLOCK_TOKENS`] tokens, the last one shorter; requests
//! with equal ids have equal tokens there and before. They stand beside the records ([`Trace::blocks`]).

use crate::arrivals::{MOST_ARRIVALS, Until};
use crate::trace_error::TraceError;
use crate::trace_read::{Row, rows};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const NS: f64 = 1e9;

/// Tokens of a block of a Mooncake trace.
pub const BLOCK_TOKENS: u64 = 512;

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
    blocks: Blocks,
}

/// Hash ids of the blocks of all records in one list, which slices of a trace share.
#[derive(Debug, Clone, Default)]
struct Blocks {
    ids: Arc<[u64]>,
    /// Where in the list each record's ids begin and end; empty where no record has any.
    spans: Vec<(usize, usize)>,
}

impl Blocks {
    fn of(rows: &[Row]) -> Blocks {
        if rows.iter().all(|r| r.blocks.is_empty()) {
            return Blocks::default();
        }
        let mut ids = Vec::new();
        let spans = rows.iter().map(|r| {
            let first = ids.len();
            ids.extend_from_slice(&r.blocks);
            (first, ids.len())
        });
        let spans = spans.collect();
        Blocks { ids: ids.into(), spans }
    }

    fn get(&self, index: usize) -> &[u64] {
        self.spans.get(index).and_then(|&(first, end)| self.ids.get(first..end)).unwrap_or_default()
    }

    fn slice(&self, first: usize, end: usize) -> Blocks {
        let spans = self.spans.get(first..end).map(<[_]>::to_vec).unwrap_or_default();
        Blocks { ids: Arc::clone(&self.ids), spans }
    }
}

/// Equal ids record by record, wherever in the list they stand; no ids and no list are alike.
impl PartialEq for Blocks {
    fn eq(&self, other: &Blocks) -> bool {
        (0..self.spans.len().max(other.spans.len())).all(|i| self.get(i) == other.get(i))
    }
}

impl Trace {
    /// Reads a trace; its first line tells the format. Times count from the earliest record. Records that are out of
    /// order are put in order; [`Trace::reordered`] says how many.
    ///
    /// # Errors
    /// A line that is not of the format, with its number and the column.
    pub fn parse(text: &str) -> Result<Trace, TraceError> {
        let (format, mut rows) = rows(text)?;
        let start = rows.iter().map(|r| r.at).min().ok_or(TraceError::Empty)?;
        let mut latest = start;
        let reordered = rows
            .iter()
            .filter(|r| {
                let late = r.at < latest;
                latest = latest.max(r.at);
                late
            })
            .count();
        rows.sort_by_key(|r| r.at);
        let record = |r: &Row| Record {
            // Dates span fewer than 2⁶⁴ ns between the years 1970 and 2554; beyond that it saturates.
            at_ns: u64::try_from(r.at - start).unwrap_or(u64::MAX),
            prompt_tokens: r.prompt,
            output_tokens: r.output,
        };
        let records: Vec<Record> = rows.iter().map(record).collect();
        let length_ns = records.last().map_or(0, |r| r.at_ns);
        Ok(Trace { format, records, reordered, length_ns, blocks: Blocks::of(&rows) })
    }

    /// A trace of given records, which are put in time order; times are kept as they are. It has no blocks.
    ///
    /// # Errors
    /// No records.
    pub fn of(format: Format, mut records: Vec<Record>) -> Result<Trace, TraceError> {
        records.sort_by_key(|r| r.at_ns);
        let length_ns = records.last().ok_or(TraceError::Empty)?.at_ns;
        Ok(Trace { format, records, reordered: 0, length_ns, blocks: Blocks::default() })
    }

    /// The format it was read from.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The records in time order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Hash ids of the blocks of the prompt of the record with this index, in order; empty where the trace has none.
    pub fn blocks(&self, index: usize) -> &[u64] {
        self.blocks.get(index)
    }

    /// Whether any record has blocks.
    pub fn has_blocks(&self) -> bool {
        self.blocks.spans.iter().any(|(first, end)| first < end)
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
            blocks: self.blocks.clone(),
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
            blocks: self.blocks.slice(first, last),
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
        Ok(Trace { records, length_ns, blocks: self.blocks.slice(first, end), ..*self })
    }

    /// Every `of`-th record from the one with index `first` on: what the `first`-th of so many servers gets that take turns.
    /// Times stay as they are, so that all parts have the same start.
    ///
    /// # Errors
    /// There is no such record.
    pub fn part(&self, first: usize, of: usize) -> Result<Trace, TraceError> {
        let these = || (first..self.records.len()).step_by(of.max(1));
        if these().next().is_none() {
            return Err(TraceError::Ends { have: 0, asked: 1 });
        }
        let spans = these().filter_map(|i| self.blocks.spans.get(i).copied()).collect();
        Ok(Trace {
            records: these().map(|i| self.records[i]).collect(),
            blocks: Blocks { ids: Arc::clone(&self.blocks.ids), spans },
            ..*self
        })
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

    /// The trace in our own CSV format, times with all nine digits; reading it gives the same records. Blocks
    /// are left out.
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
