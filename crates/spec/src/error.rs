//! What is wrong with an experiment file, where, and what would be right.

use crate::tree::{Source, Span};
use std::fmt;

/// The kinds of error a spec can have, for callers that react to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is not TOML, or an expression does not parse.
    Syntax,
    /// A key that the format does not have, or an override's path that leads nowhere.
    UnknownKey,
    /// A required key is absent.
    Missing,
    /// A value of the wrong type or unit.
    WrongType,
    /// A name (kernel, parameter, tenant, variable, mode, metric) that nothing has.
    UnknownName,
    /// A value that this device, or any device, cannot have.
    Impossible,
    /// The same name twice where it must be unique.
    Duplicate,
}

/// An error with its place. The text starts with `file:line:column`, and shows the line with a caret under
/// the value and, where one is known, the remedy. It reads after "failed to".
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}", self.render())]
pub struct SpecError(Box<Inner>);

#[derive(Debug, Clone, PartialEq)]
struct Inner {
    kind: ErrorKind,
    file: String,
    line: usize,
    column: usize,
    field: String,
    message: String,
    help: Option<String>,
    source_line: String,
    caret: usize,
}

impl SpecError {
    /// What sort of error it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
    /// File name as given to `Spec::parse`, or `--set` for an override.
    pub fn file(&self) -> &str {
        &self.0.file
    }
    /// Line, from 1.
    pub fn line(&self) -> usize {
        self.0.line
    }
    /// Column in characters, from 1.
    pub fn column(&self) -> usize {
        self.0.column
    }
    /// Dotted path of the field, for example `tenants.copy.threads`; empty for a syntax error.
    pub fn field(&self) -> &str {
        &self.0.field
    }
    /// The message alone, without place and excerpt.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// What would be right, where that is known.
    pub fn help(&self) -> Option<&str> {
        self.0.help.as_deref()
    }

    pub(crate) fn new(issue: Issue, sources: &[Source]) -> Self {
        // Every span is made from a source of the same document; an absent one only loses the excerpt.
        let (file, text) =
            sources.get(issue.span.source).map_or(("", ""), |s| (s.name.as_str(), s.text.as_str()));
        let start = floor_char(text, issue.span.start);
        let end = floor_char(text, issue.span.end).max(start);
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let in_line = end.min(line_end);
        SpecError(Box::new(Inner {
            kind: issue.kind,
            file: file.to_owned(),
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            field: issue.field,
            message: issue.message,
            help: issue.help,
            source_line: text[line_start..line_end].trim_end().replace('\t', " "),
            caret: text[start..in_line].trim_end().chars().count().max(1),
        }))
    }

    fn render(&self) -> String {
        let e = &*self.0;
        let number = e.line.to_string();
        let gutter = " ".repeat(number.len());
        let mut out = format!(
            "read {}:{}:{}: {}\n{gutter} |\n{number} | {}\n{gutter} | {}{}",
            e.file,
            e.line,
            e.column,
            e.message,
            e.source_line,
            " ".repeat(e.column - 1),
            "^".repeat(e.caret)
        );
        if let Some(help) = &e.help {
            out.push_str(&format!("\n{gutter} = help: {help}"));
        }
        out
    }
}

fn floor_char(text: &str, at: usize) -> usize {
    let mut i = at.min(text.len());
    while !text.is_char_boundary(i) {
        i -= 1;
    }
    i
}

/// An error before its span is turned into a line and a column.
#[derive(Debug, Clone)]
pub(crate) struct Issue {
    pub kind: ErrorKind,
    pub span: Span,
    pub field: String,
    pub message: String,
    pub help: Option<String>,
}

pub(crate) type Checked<T> = Result<T, Box<Issue>>;

impl Issue {
    pub fn new(
        kind: ErrorKind,
        span: Span,
        field: impl Into<String>,
        message: impl fmt::Display,
    ) -> Box<Self> {
        Box::new(Issue { kind, span, field: field.into(), message: message.to_string(), help: None })
    }
    pub fn help(mut self: Box<Self>, help: impl fmt::Display) -> Box<Self> {
        self.help = Some(help.to_string());
        self
    }
    pub fn maybe_help(mut self: Box<Self>, help: Option<String>) -> Box<Self> {
        if help.is_some() {
            self.help = help;
        }
        self
    }
}

/// The candidate nearest to `word`, if it is near enough to be a slip of the keyboard.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|c| (edit_distance(&word.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(d, c)| *d <= limit || (word.len() >= 3 && c.starts_with(word)))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// "did you mean …" where a candidate is near, else the list of what there is.
pub(crate) fn suggest(word: &str, what: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(c) => format!("did you mean `{c}`?"),
        None if candidates.is_empty() => format!("there are no {what}"),
        None => format!("{what}: {}", candidates.join(", ")),
    }
}

/// Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`: optimal string alignment.
fn edit_distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_a_swap_as_one_edit() {
        assert_eq!(edit_distance("thraeds", "threads"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn far_words_are_not_suggested() {
        assert_eq!(nearest("thread", ["threads", "blocks"]), Some("threads"));
        assert_eq!(nearest("zebra", ["threads", "blocks"]), None);
        assert_eq!(suggest("zebra", "keys here", &["a", "b"]), "keys here: a, b");
    }

    #[test]
    fn the_caret_stands_under_the_value_also_after_wide_text() {
        let sources = [Source { name: "f.toml".into(), text: "a = 1\ns = \"µµ\" # b = 2\n".into() }];
        let start = sources[0].text.find("b = 2").expect("in text");
        let issue =
            Issue::new(ErrorKind::Syntax, Span { source: 0, start, end: start + 5 }, "", "is a comment");
        let e = SpecError::new(*issue, &sources);
        assert_eq!((e.line(), e.column()), (2, 12));
        assert_eq!(
            e.to_string(),
            "read f.toml:2:12: is a comment\n  |\n2 | s = \"µµ\" # b = 2\n  |            ^^^^^"
        );
    }

    #[test]
    fn a_span_beyond_the_text_still_prints() {
        let sources = [Source { name: "f".into(), text: "µ".into() }];
        let issue = Issue::new(ErrorKind::Syntax, Span { source: 0, start: 1, end: 99 }, "", "x");
        assert_eq!(SpecError::new(*issue, &sources).line(), 1);
        let issue = Issue::new(ErrorKind::Syntax, Span { source: 7, start: 1, end: 99 }, "", "x");
        assert_eq!(SpecError::new(*issue, &sources).column(), 1);
    }
}
