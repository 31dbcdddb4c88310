//! What can be wrong with a file of prompts. Messages read after "failed to …:" and name line and field.

/// A file of prompts that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// No lines.
    #[error("the file has no prompts; each line is an object such as {{\"prompt\": \"Hello\"}}")]
    Empty,
    /// A line without anything.
    #[error("line {line}: the line is blank; each line is an object such as {{\"prompt\": \"Hello\"}}")]
    Blank {
        /// Line, from 1.
        line: u64,
    },
    /// A line that is no JSON.
    #[error("line {line}, character {character}: not JSON: {reason}")]
    Json {
        /// Line, from 1.
        line: u64,
        /// Character, from 1.
        character: usize,
        /// Parser's words.
        reason: String,
    },
    /// A line that is another kind of JSON.
    #[error("line {line}: there is {found}; each line is an object such as {{\"prompt\": \"Hello\"}}")]
    NotObject {
        /// Line, from 1.
        line: u64,
        /// What there is.
        found: &'static str,
    },
    /// A field that is not known.
    #[error("line {line}: there is no field `{field}`; {hint}")]
    Unknown {
        /// Line, from 1.
        line: u64,
        /// Field.
        field: String,
        /// The field that was probably meant, or all there are.
        hint: String,
    },
    /// A field with the wrong kind of value.
    #[error("line {line}, field `{field}`: there is {found}; it must be {wanted}")]
    Type {
        /// Line, from 1.
        line: u64,
        /// Field.
        field: String,
        /// What there is.
        found: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// Neither a prompt nor messages.
    #[error("line {line}: there is neither `prompt` nor `messages`; each line needs one of them")]
    Missing {
        /// Line, from 1.
        line: u64,
    },
    /// Two fields that exclude each other.
    #[error("line {line}: there are `{first}` and {second}; give one of them")]
    Both {
        /// Line, from 1.
        line: u64,
        /// One field.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// More classes or models than can be numbered.
    #[error("line {line}: with `{name}` there are too many {what}; a file can have 1000")]
    Names {
        /// Line, from 1.
        line: u64,
        /// `classes` or `models`.
        what: &'static str,
        /// The name.
        name: String,
    },
}
