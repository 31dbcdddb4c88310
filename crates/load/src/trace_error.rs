//! What can be wrong with a trace. Messages read after "failed to …:" and name line and column.

/// A trace file that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TraceError {
    /// No records.
    #[error("the trace has no records")]
    Empty,
    /// The columns are none that are known.
    #[error(
        "line 1: the columns are {found}, and none of them is a time; a trace needs `t_s` (seconds) or `timestamp` \
         (seconds, or a date and time)"
    )]
    Columns {
        /// Columns there are.
        found: String,
    },
    /// A line of JSON has no time.
    #[error("line {line}: there is no field `{field}`; each line needs `t_s` (seconds) or `timestamp`")]
    Field {
        /// Line, from 1.
        line: u64,
        /// Field that the first line had.
        field: String,
    },
    /// A row has more or fewer cells than the header.
    #[error("line {line}: there are {found} cells and the header has {asked}")]
    Cells {
        /// Line, from 1.
        line: u64,
        /// Cells.
        found: u64,
        /// Cells of the header.
        asked: u64,
    },
    /// A line that cannot be read at all.
    #[error("line {line}: {reason}")]
    Line {
        /// Line, from 1.
        line: u64,
        /// Reader's words.
        reason: String,
    },
    /// A line that is no JSON object.
    #[error("line {line}, character {character}: not a JSON object: {reason}")]
    Json {
        /// Line, from 1.
        line: u64,
        /// Character, from 1.
        character: usize,
        /// Parser's words.
        reason: String,
    },
    /// A cell that is not what its column needs.
    #[error("line {line}, column `{column}`: `{text}` is not {wanted}")]
    Cell {
        /// Line, from 1.
        line: u64,
        /// Column.
        column: String,
        /// What stands there.
        text: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// A rate that no trace can have.
    #[error("the rate is {0} requests/s; it must be a positive number")]
    Rate(f64),
    /// A trace without a mean rate.
    #[error(
        "the trace has {0} record(s), all at one time, and so no rate; give one with two different times"
    )]
    NoRate(usize),
    /// A slice without records.
    #[error("there is no record between {from_s} s and {to_s} s; the trace is {length_s} s long")]
    NothingThere {
        /// Start, s.
        from_s: f64,
        /// End, s.
        to_s: f64,
        /// Length of the trace, s.
        length_s: f64,
    },
    /// Fewer records than asked for.
    #[error(
        "the trace ends after {have} records and {asked} were asked for; ask for fewer or let it start over"
    )]
    Ends {
        /// Records there are.
        have: usize,
        /// Records asked for.
        asked: usize,
    },
    /// A trace that starts over too often.
    #[error("about {0:.0} arrivals were asked for; at most {most} are made", most = crate::MOST_ARRIVALS)]
    TooMany(f64),
}
