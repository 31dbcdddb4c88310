//! The lines of the tenant protocol (`docs/tenant-protocol.md`): what a program says, read strictly; what it is
//! told, written. Pure.

use std::fmt::Write;

/// The version of the protocol that this speaks.
pub const VERSION: u32 = 1;
/// Longest line that is read, bytes.
pub const LONGEST: usize = 1 << 20;

/// One measured iteration, ns of `CLOCK_MONOTONIC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Iteration {
    /// Begin.
    pub start: u64,
    /// End: its work on the GPU is over.
    pub end: u64,
    /// Time between two CUDA events around its work; 0: not told.
    pub event: u64,
    /// Tokens produced.
    pub tokens: u64,
    /// Intended arrival under an open loop.
    pub arrival: Option<u64>,
}

/// What a program says.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// First words, with the version of its protocol.
    Hello(u32),
    /// What it is doing.
    Note(String),
    /// Something for the record.
    Fact(String, serde_json::Value),
    /// Waiting for a command.
    Ready,
    /// Warmed up, at the barrier.
    Armed,
    /// One iteration.
    Iteration(Iteration),
    /// It has its iterations and goes on.
    Enough,
    /// The phase is over.
    Done,
    /// It cannot go on: kind and words.
    Error(String, String),
}

/// Reads one line without its line end.
///
/// # Errors
/// What is wrong with it, in words that read after "said".
pub fn parse(line: &str) -> Result<Line, String> {
    let shown = || line.chars().take(80).collect::<String>();
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let bare =
        |l: Line| if rest.is_empty() { Ok(l) } else { Err(format!("`{}`: `{word}` stands alone", shown())) };
    match word {
        "hello" => {
            rest.parse().map(Line::Hello).map_err(|_| format!("`{}`: no version after `hello`", shown()))
        }
        "note" => Ok(Line::Note(rest.to_owned())),
        "fact" => {
            let (key, json) = rest.split_once(' ').unwrap_or((rest, ""));
            match serde_json::from_str(json) {
                Ok(value) if !key.is_empty() => Ok(Line::Fact(key.to_owned(), value)),
                _ => Err(format!("`{}`: a fact is `fact KEY JSON`", shown())),
            }
        }
        "ready" => bare(Line::Ready),
        "armed" => bare(Line::Armed),
        "enough" => bare(Line::Enough),
        "done" => bare(Line::Done),
        "error" => {
            let (kind, text) = rest.split_once(' ').unwrap_or((rest, ""));
            Ok(Line::Error(kind.to_owned(), text.to_owned()))
        }
        "it" => iteration(rest).ok_or_else(|| {
            format!("`{}`: an iteration is `it START END` in nanoseconds, END not before START", shown())
        }),
        _ => Err(format!("`{}`: not a line of the tenant protocol", shown())),
    }
}

fn iteration(rest: &str) -> Option<Line> {
    let mut words = rest.split(' ');
    let mut it = Iteration {
        start: words.next()?.parse().ok()?,
        end: words.next()?.parse().ok()?,
        ..Iteration::default()
    };
    for w in words {
        let (key, value) = w.split_once('=')?;
        match key {
            "event" => it.event = value.parse().ok()?,
            "tokens" => it.tokens = value.parse().ok()?,
            "arrival" => it.arrival = Some(value.parse().ok()?),
            _ => {} // a newer program may say more
        }
    }
    (it.end >= it.start && it.arrival.is_none_or(|a| a <= it.end)).then_some(Line::Iteration(it))
}

/// What a program is told before a phase.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arm<'a> {
    /// Iterations first that do not count.
    pub warmup: u32,
    /// Iterations.
    pub iterations: u32,
    /// Go on after them until told to stop.
    pub until_stop: bool,
    /// Pause after each, ns.
    pub gap_ns: u64,
    /// Open loop: offsets of the arrivals, ns.
    pub arrivals: &'a [u64],
    /// Servers: which repeat it is. They draw their arrivals themselves.
    pub repeat: Option<u32>,
}

impl std::fmt::Display for Arm<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let until = if self.until_stop { "stop" } else { "count" };
        let n = if self.arrivals.is_empty() { self.iterations as usize } else { self.arrivals.len() };
        write!(f, "arm warmup={} iterations={n} until={until} gap={}", self.warmup, self.gap_ns)?;
        if let Some(repeat) = self.repeat {
            write!(f, " repeat={repeat}")?;
        }
        for (i, a) in self.arrivals.iter().enumerate() {
            f.write_str(if i == 0 { " arrivals=" } else { "," })?;
            write!(f, "{a}")?;
        }
        f.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_read_as_written() {
        assert_eq!(parse("hello 1"), Ok(Line::Hello(1)));
        assert_eq!(parse("note loading the weights"), Ok(Line::Note("loading the weights".into())));
        assert_eq!(parse("fact parameters 82"), Ok(Line::Fact("parameters".into(), 82.into())));
        assert_eq!(
            parse("error memory 3 GiB asked, 1 GiB free"),
            Ok(Line::Error("memory".into(), "3 GiB asked, 1 GiB free".into()))
        );
        let it = Iteration { start: 5, end: 9, event: 3, tokens: 8, arrival: Some(4) };
        assert_eq!(parse("it 5 9 event=3 tokens=8 arrival=4 colour=red"), Ok(Line::Iteration(it)));
    }

    #[test]
    fn nonsense_is_named() {
        for bad in [
            "",
            "it",
            "it 5",
            "it 9 5",
            "it a b",
            "it 1 2 event",
            "it 1 2 arrival=3",
            "hello",
            "hello x",
            "fact k",
            "fact  1",
            "ready now",
            "Traceback (most recent call last):",
        ] {
            let e = parse(bad).expect_err(bad);
            assert!(e.starts_with('`'), "{e}");
        }
    }

    #[test]
    fn arming_states_the_load() {
        let arm =
            Arm { warmup: 10, iterations: 100, until_stop: false, gap_ns: 0, arrivals: &[], repeat: None };
        assert_eq!(arm.to_string(), "arm warmup=10 iterations=100 until=count gap=0\n");
        let open = Arm { until_stop: true, arrivals: &[0, 7, 20], ..arm };
        assert_eq!(open.to_string(), "arm warmup=10 iterations=3 until=stop gap=0 arrivals=0,7,20\n");
    }

    proptest! {
        #[test]
        fn no_text_is_fatal(line in ".*") {
            let _ = parse(&line);
        }

        #[test]
        fn iterations_round_trip(start in 0u64..1 << 60, len in 0u64..1 << 40, event: u32, tokens: u32) {
            let line = format!("it {start} {} event={event} tokens={tokens}", start + len);
            let it = Iteration {
                start, end: start + len, event: event.into(), tokens: tokens.into(), arrival: None,
            };
            prop_assert_eq!(parse(&line), Ok(Line::Iteration(it)));
        }
    }
}
