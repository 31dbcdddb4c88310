//! What can be wrong with a client file. Messages read after "failed to …:" and name the line.

/// A file of windows that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WindowsError {
    /// No lines.
    #[error("the file has no windows; each line is one: start, rate, CV, family, shape, scale")]
    Empty,
    /// A line has more or fewer cells than six.
    #[error(
        "line {line}: there are {found} cells; a window has 6: start (s), rate (requests/s), CV, family, shape, scale"
    )]
    Cells {
        /// Line, from 1.
        line: u64,
        /// Cells.
        found: usize,
    },
    /// A cell that is not what its column needs.
    #[error("line {line}, {column}: `{text}` is not {wanted}")]
    Cell {
        /// Line, from 1.
        line: u64,
        /// What the column holds.
        column: &'static str,
        /// What stands there.
        text: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// A window does not begin where the one before ends.
    #[error(
        "line {line}: the window begins at {found_s} s; windows are equally long, so it must be {due_s} s"
    )]
    Start {
        /// Line, from 1.
        line: u64,
        /// Start that stands there, s.
        found_s: f64,
        /// Start that is right, s.
        due_s: f64,
    },
    /// A rate that no load can have.
    #[error("the rate is {0} requests/s; it must be a positive number")]
    Rate(f64),
    /// No window has arrivals, so there is no rate to scale.
    #[error("none of the {0} window(s) has arrivals; give a client, or a slice of it, that has some")]
    NoRate(usize),
    /// A slice with windows that are not there.
    #[error("windows {first} to {last} were asked for, counting from 0; the client has {have}", last = first.saturating_add(*count).saturating_sub(1))]
    Slice {
        /// First window asked for.
        first: usize,
        /// Windows asked for, not 0.
        count: usize,
        /// Windows there are.
        have: usize,
    },
    /// Fewer arrivals than asked for.
    #[error(
        "the windows end after {have} arrivals and {asked} were asked for; ask for fewer or scale the rate"
    )]
    Ends {
        /// Arrivals there are.
        have: usize,
        /// Arrivals asked for.
        asked: usize,
    },
    /// More arrivals than can be kept in memory.
    #[error("about {0:.0} arrivals were asked for; at most {most} are made", most = crate::MOST_ARRIVALS)]
    TooMany(f64),
    /// A process that cannot be.
    #[error(transparent)]
    Load(#[from] crate::LoadError),
}
