//! What can be wrong with a description of prompts. Messages read after "failed to …:".

/// A distribution that cannot be read or cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DistributionError {
    /// Neither a number nor a name with numbers.
    #[error("`{text}` is not {wanted}")]
    Form {
        /// What was given.
        text: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// A name that is not known.
    #[error("there is no distribution `{name}`; there are {known}")]
    Name {
        /// Name given.
        name: String,
        /// Names there are.
        known: &'static str,
    },
    /// Too few or too many numbers.
    #[error("`{name}` has {found} number(s); it takes {wanted}")]
    Numbers {
        /// Name.
        name: &'static str,
        /// Numbers given.
        found: usize,
        /// What it takes.
        wanted: &'static str,
    },
    /// A number that cannot be read.
    #[error("`{text}` in `{name}` is not {wanted}")]
    Number {
        /// Name.
        name: &'static str,
        /// What stands there.
        text: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// A number out of range.
    #[error("the {field} of `{name}` is {value}; it must be {rule}")]
    Range {
        /// Name.
        name: &'static str,
        /// Number.
        field: &'static str,
        /// Given.
        value: f64,
        /// What would be right.
        rule: &'static str,
    },
    /// An empirical distribution without values.
    #[error("`empirical` has no lengths; it takes one or more")]
    NoLengths,
}

/// Prompts that cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PromptError {
    /// A distribution.
    #[error("{part}: {error}")]
    Distribution {
        /// What it is the distribution of.
        part: &'static str,
        /// What is wrong with it.
        error: DistributionError,
    },
    /// A number out of range.
    #[error("the {field} is {value}; it must be {rule}")]
    Range {
        /// Field.
        field: &'static str,
        /// Given.
        value: f64,
        /// What would be right.
        rule: &'static str,
    },
    /// Lengths from a trace without a trace.
    #[error("the {part} length is `trace` and there is no trace; name one or give a length such as `512`")]
    NoTrace {
        /// Prompt or output.
        part: &'static str,
    },
    /// Lengths from a trace where there can be none.
    #[error("the {part} of sessions cannot be `trace`; give a length such as `512` or `lognormal(400,0.8)`")]
    TraceInSession {
        /// Which length.
        part: &'static str,
    },
    /// A record without a length.
    #[error("record {record} of the trace has no {part} tokens; give a length for {part} instead of `trace`")]
    NoTokens {
        /// Record, from 0 in time order.
        record: usize,
        /// Prompt or output.
        part: &'static str,
    },
    /// A record that is too long.
    #[error("record {record} of the trace has {tokens} {part} tokens; at most {most} are made", most = crate::MOST_TOKENS)]
    TooLong {
        /// Record, from 0 in time order.
        record: usize,
        /// Prompt or output.
        part: &'static str,
        /// Tokens.
        tokens: u64,
    },
    /// A trace or file without entries.
    #[error("there is nothing to ask: the trace or file of prompts is empty")]
    Empty,
    /// Blocks of a trace that has none.
    #[error(
        "blocks were asked for and the trace has none; only Mooncake traces have them (`hash_ids`), and slices of such"
    )]
    NoBlocks,
    /// Blocks together with what they rule out.
    #[error(
        "blocks say what a prompt shares with others, so the prompt length must be `trace` and there can be no prefix"
    )]
    BlocksRule,
    /// Fewer tokens than the text has to have.
    #[error("a text of {asked} tokens was asked for; it has {least} already")]
    Short {
        /// Tokens asked for.
        asked: u32,
        /// Fewest it can have.
        least: u32,
    },
    /// No text with exactly so many tokens was found.
    #[error("no text of {asked} tokens was found in {tries} tries; the nearest had {nearest}")]
    Tries {
        /// Tokens asked for.
        asked: u32,
        /// Tries.
        tries: u32,
        /// Tokens of the last try.
        nearest: u32,
    },
    /// Ids from a vocabulary without ids.
    #[error(
        "prompts as ids of tokens need the tokenizer of the model, and this vocabulary has no ids; send text"
    )]
    NoIds,
    /// A word without an id.
    #[error("`{0}` is not a word of the vocabulary; its words are `t` and a number, such as `t17`")]
    Word(String),
    /// A tokenizer that cannot be used.
    #[error("the tokenizer cannot be used: {0}")]
    Tokenizer(String),
    /// Measurements that tell no ratio of tokens to words.
    #[error(
        "{pairs} measurement(s) of words and tokens tell no ratio ({reason}); measure texts of two lengths or more"
    )]
    Degenerate {
        /// Measurements.
        pairs: usize,
        /// Why they do not.
        reason: &'static str,
    },
    /// A mix without classes, or with too many.
    #[error("the mix has {0} classes; it must have 1 to 1000")]
    Classes(usize),
    /// Two classes of one name.
    #[error("two classes of the mix are called `{0}`")]
    ClassName(String),
    /// Answers that do not fit the turn.
    #[error("turn {turn} follows {turn} answer(s) and {found} were given")]
    Answers {
        /// Turn, from 0.
        turn: u32,
        /// Answers given.
        found: usize,
    },
    /// A turn that the session does not have.
    #[error("session {session} has {turns} turn(s), from 0; there is no turn {turn}")]
    Turn {
        /// Session.
        session: u64,
        /// Turn, from 0.
        turn: u32,
        /// Turns.
        turns: u32,
    },
}
