//! Arithmetic in a spec: `0.25*sms`, `min(l2/2, 16MiB)`, `20us`.
//!
//! Problem: sizes must scale with the card, so a field is a number or a small expression over the card's sizes
//! and the sweep's variables. A value has a dimension (plain, bytes, time, percent), so that `blocks = "4GiB"`
//! is an error and not four thousand million blocks.
//!
//! Grammar (white space between tokens is free):
//! ```text
//! sum     = product { ("+" | "-") product }
//! product = unary { ("*" | "/") unary }
//! unary   = "-" unary | primary
//! primary = number [ unit ] | name | function "(" sum { "," sum } ")" | "(" sum ")"
//! unit    = B KiB MiB GiB TiB | KB MB GB TB | ns us µs ms s | %
//! ```
//! Parsing never panics: the text is limited to [`MAX_LEN`] bytes and nesting to [`MAX_DEPTH`] levels.

use std::fmt;
use std::ops::Range;

/// Longest expression, bytes.
pub const MAX_LEN: usize = 1000;
/// Deepest nesting of parentheses, calls and signs.
pub const MAX_DEPTH: usize = 32;

/// What a value counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// A number without unit.
    Plain,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Time,
    /// A share; held as a fraction (`50%` is 0.5).
    Percent,
}

impl Dim {
    /// In words, with article.
    pub fn name(self) -> &'static str {
        match self {
            Dim::Plain => "a plain number",
            Dim::Bytes => "a size in bytes",
            Dim::Time => "a time",
            Dim::Percent => "a percentage",
        }
    }
}

/// A number and what it counts: bytes, nanoseconds, a fraction, or nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantity {
    /// The value in the dimension's base unit.
    pub value: f64,
    /// Its dimension.
    pub dim: Dim,
}

impl Quantity {
    /// A number without unit.
    pub fn plain(value: f64) -> Self {
        Quantity { value, dim: Dim::Plain }
    }
}

impl fmt::Display for Quantity {
    /// Short and without blanks, so that it can stand in a trial's name: `22.5MiB`, `20us`, `6.25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Below one base unit the last step stays.
        let scaled = |steps: [(f64, &'static str); 4]| {
            let (scale, unit) = steps.into_iter().find(|(s, _)| self.value.abs() >= *s).unwrap_or(steps[3]);
            (self.value / scale, unit)
        };
        let (x, unit) = match self.dim {
            Dim::Plain => (self.value, ""),
            Dim::Percent => (self.value * 100.0, ""),
            Dim::Bytes => scaled([(1073741824.0, "GiB"), (1048576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")]),
            Dim::Time => scaled([(1e9, "s"), (1e6, "ms"), (1e3, "us"), (1.0, "ns")]),
        };
        // Whole numbers in full, others to six significant figures without trailing zeros.
        if x == x.trunc() && x.abs() < 1e15 {
            return write!(f, "{x:.0}{unit}");
        }
        let magnitude = x.abs().log10().floor().clamp(-6.0, 6.0) as i32;
        let digits = (5 - magnitude).max(0) as usize;
        let text = format!("{x:.digits$}");
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        write!(f, "{text}{unit}")
    }
}

/// Something wrong with an expression, at bytes `at` of its text.
#[derive(Debug, Clone, PartialEq)]
pub struct ExprError {
    /// Where in the expression.
    pub at: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// The name is not defined (and not a fault of form).
    pub unknown_name: bool,
}

fn err<T>(at: Range<usize>, message: impl Into<String>) -> Result<T, ExprError> {
    Err(ExprError { at, message: message.into(), help: None, unknown_name: false })
}

/// The functions and how many arguments they take (`usize::MAX`: any number from two).
pub(crate) const FUNCTIONS: [(&str, usize); 5] =
    [("min", usize::MAX), ("max", usize::MAX), ("floor", 1), ("ceil", 1), ("round", 1)];

const UNITS: [(&str, f64, Dim); 16] = [
    ("B", 1.0, Dim::Bytes),
    ("KiB", 1024.0, Dim::Bytes),
    ("MiB", 1048576.0, Dim::Bytes),
    ("GiB", 1073741824.0, Dim::Bytes),
    ("TiB", 1099511627776.0, Dim::Bytes),
    ("KB", 1e3, Dim::Bytes),
    ("MB", 1e6, Dim::Bytes),
    ("GB", 1e9, Dim::Bytes),
    ("TB", 1e12, Dim::Bytes),
    ("ns", 1.0, Dim::Time),
    ("us", 1e3, Dim::Time),
    ("µs", 1e3, Dim::Time), // micro sign
    ("μs", 1e3, Dim::Time), // Greek mu
    ("ms", 1e6, Dim::Time),
    ("s", 1e9, Dim::Time),
    ("%", 0.01, Dim::Percent),
];

/// A parsed expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    text: String,
    root: Node,
}

#[derive(Debug, Clone, PartialEq)]
struct Node {
    at: Range<usize>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Number(Quantity),
    Name(String),
    Neg(Box<Node>),
    Binary(Op, Box<Node>, Box<Node>),
    Call(&'static str, Vec<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    Add,
    Sub,
    Mul,
    Div,
}

impl Expr {
    /// Parses `text`.
    ///
    /// # Errors
    /// Where the text does not follow the grammar, is longer than [`MAX_LEN`] or nests deeper than
    /// [`MAX_DEPTH`].
    pub fn parse(text: &str) -> Result<Expr, ExprError> {
        if text.len() > MAX_LEN {
            return err(0..text.len(), format!("the expression is longer than {MAX_LEN} bytes"));
        }
        let mut p = Parser { text, pos: 0, depth: 0 };
        let root = p.sum()?;
        p.blank();
        if p.pos < text.len() {
            return err(p.pos..text.len(), format!("expected an operator, found `{}`", &text[p.pos..]));
        }
        Ok(Expr { text: text.to_owned(), root })
    }

    /// A constant.
    pub fn number(value: f64) -> Expr {
        Expr { text: value.to_string(), root: Node { at: 0..0, kind: Kind::Number(Quantity::plain(value)) } }
    }

    /// The text it was parsed from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Names that it uses, in order, with their places.
    pub fn names(&self) -> Vec<(&str, Range<usize>)> {
        fn walk<'a>(n: &'a Node, out: &mut Vec<(&'a str, Range<usize>)>) {
            match &n.kind {
                Kind::Number(_) => {}
                Kind::Name(name) => out.push((name, n.at.clone())),
                Kind::Neg(a) => walk(a, out),
                Kind::Binary(_, a, b) => {
                    walk(a, out);
                    walk(b, out);
                }
                Kind::Call(_, args) => args.iter().for_each(|a| walk(a, out)),
            }
        }
        let mut out = Vec::new();
        walk(&self.root, &mut out);
        out
    }

    /// Its value where `lookup` gives the value of each name.
    ///
    /// # Errors
    /// An unknown name, dimensions that do not go together, a division by zero, or a result that is not
    /// finite.
    pub fn eval(&self, lookup: &dyn Fn(&str) -> Option<Quantity>) -> Result<Quantity, ExprError> {
        eval(&self.root, lookup)
    }
}

fn eval(n: &Node, lookup: &dyn Fn(&str) -> Option<Quantity>) -> Result<Quantity, ExprError> {
    let q = match &n.kind {
        Kind::Number(q) => *q,
        Kind::Name(name) => match lookup(name) {
            Some(q) => q,
            None => {
                return Err(ExprError {
                    at: n.at.clone(),
                    message: format!("`{name}` is not defined here"),
                    help: None,
                    unknown_name: true,
                });
            }
        },
        Kind::Neg(a) => {
            let q = eval(a, lookup)?;
            Quantity { value: -q.value, ..q }
        }
        Kind::Binary(op, a, b) => binary(*op, eval(a, lookup)?, eval(b, lookup)?, &n.at)?,
        Kind::Call(name, args) => {
            let values = args.iter().map(|a| eval(a, lookup)).collect::<Result<Vec<_>, _>>()?;
            call(name, &values, &n.at)?
        }
    };
    if q.value.is_finite() { Ok(q) } else { err(n.at.clone(), "the result is not a finite number") }
}

/// The dimension of a sum of the two: the same on both sides. A plain zero goes with everything.
fn common(a: Quantity, b: Quantity, at: &Range<usize>) -> Result<Dim, ExprError> {
    match (a, b) {
        (a, b) if a.dim == b.dim => Ok(a.dim),
        (Quantity { value: 0.0, dim: Dim::Plain }, other)
        | (other, Quantity { value: 0.0, dim: Dim::Plain }) => Ok(other.dim),
        (a, b) => err(at.clone(), format!("{} and {} do not go together here", a.dim.name(), b.dim.name())),
    }
}

fn binary(op: Op, a: Quantity, b: Quantity, at: &Range<usize>) -> Result<Quantity, ExprError> {
    match op {
        Op::Add => Ok(Quantity { value: a.value + b.value, dim: common(a, b, at)? }),
        Op::Sub => Ok(Quantity { value: a.value - b.value, dim: common(a, b, at)? }),
        Op::Mul => {
            let dim = match (a.dim, b.dim) {
                // A share of a number is a number: 50% of 132 SMs are 66 SMs.
                (Dim::Plain, Dim::Plain | Dim::Percent) | (Dim::Percent, Dim::Plain) => Dim::Plain,
                (Dim::Plain | Dim::Percent, d) | (d, Dim::Plain | Dim::Percent) => d,
                (x, y) => return err(at.clone(), format!("{} times {} has no meaning", x.name(), y.name())),
            };
            Ok(Quantity { value: a.value * b.value, dim })
        }
        Op::Div => {
            if b.value == 0.0 {
                return err(at.clone(), "division by zero");
            }
            let dim = match (a.dim, b.dim) {
                (x, y) if x == y => Dim::Plain,
                (d, Dim::Plain | Dim::Percent) => d,
                (x, y) => {
                    return err(at.clone(), format!("{} divided by {} has no meaning", x.name(), y.name()));
                }
            };
            Ok(Quantity { value: a.value / b.value, dim })
        }
    }
}

fn call(name: &str, values: &[Quantity], at: &Range<usize>) -> Result<Quantity, ExprError> {
    let Some((&first, rest)) = values.split_first() else {
        return err(at.clone(), format!("`{name}` needs an argument"));
    };
    let round = |f: fn(f64) -> f64| Quantity { value: f(first.value), ..first };
    Ok(match name {
        "floor" => round(f64::floor),
        "ceil" => round(f64::ceil),
        "round" => round(f64::round),
        _ => {
            let pick = if name == "min" { f64::min } else { f64::max };
            let mut best = first;
            for &v in rest {
                best = Quantity { value: pick(best.value, v.value), dim: common(best, v, at)? };
            }
            best
        }
    })
}

struct Parser<'a> {
    text: &'a str,
    pos: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.pos..].chars().next()
    }

    fn blank(&mut self) {
        while let Some(c) = self.peek().filter(|c| c.is_whitespace()) {
            self.pos += c.len_utf8();
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        self.blank();
        let found = self.peek() == Some(wanted);
        if found {
            self.pos += wanted.len_utf8();
        }
        found
    }

    /// Bytes of the run of characters that satisfy `f`, from here.
    fn run(&self, f: impl Fn(char) -> bool) -> usize {
        self.text[self.pos..].chars().take_while(|&c| f(c)).map(char::len_utf8).sum()
    }

    fn sum(&mut self) -> Result<Node, ExprError> {
        let mut left = self.product()?;
        loop {
            let op = if self.take('+') {
                Op::Add
            } else if self.take('-') {
                Op::Sub
            } else {
                return Ok(left);
            };
            left = join(op, left, self.product()?);
        }
    }

    fn product(&mut self) -> Result<Node, ExprError> {
        let mut left = self.unary()?;
        loop {
            let op = if self.take('*') {
                Op::Mul
            } else if self.take('/') {
                Op::Div
            } else {
                return Ok(left);
            };
            left = join(op, left, self.unary()?);
        }
    }

    fn unary(&mut self) -> Result<Node, ExprError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return err(self.pos..self.text.len(), format!("nested deeper than {MAX_DEPTH} levels"));
        }
        self.blank();
        let start = self.pos;
        let node = if self.take('-') {
            let inner = self.unary()?;
            Node { at: start..self.pos, kind: Kind::Neg(Box::new(inner)) }
        } else {
            self.primary()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn primary(&mut self) -> Result<Node, ExprError> {
        self.blank();
        let start = self.pos;
        match self.peek() {
            None => err(start..start, "the expression ends where a value should stand"),
            Some('(') => {
                self.pos += 1;
                let inner = self.sum()?;
                self.close(start)?;
                Ok(Node { at: start..self.pos, kind: inner.kind })
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_alphabetic() || c == '_' => self.name(),
            Some(c) => err(start..start + c.len_utf8(), format!("expected a value, found `{c}`")),
        }
    }

    fn close(&mut self, open: usize) -> Result<(), ExprError> {
        if self.take(')') { Ok(()) } else { err(open..self.pos, "this parenthesis is not closed") }
    }

    fn number(&mut self) -> Result<Node, ExprError> {
        let start = self.pos;
        let digit = |c: char| c.is_ascii_digit() || c == '_' || c == '.';
        self.pos += self.run(digit);
        // An exponent only where digits follow: `2e3`, but not the start of a unit.
        if matches!(self.peek(), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.text.as_bytes().get(self.pos + 1), Some(b'+' | b'-')));
            if self.text.as_bytes().get(self.pos + 1 + sign).is_some_and(u8::is_ascii_digit) {
                self.pos += 1 + sign;
                self.pos += self.run(|c| c.is_ascii_digit());
            }
        }
        let text = &self.text[start..self.pos];
        let Ok(value) = text.replace('_', "").parse::<f64>() else {
            return err(start..self.pos, format!("`{text}` is not a number"));
        };
        let after = self.pos;
        self.blank();
        let unit_start = self.pos;
        let len = if self.peek() == Some('%') { 1 } else { self.run(char::is_alphanumeric) };
        if len == 0 {
            self.pos = after;
            return Ok(Node { at: start..after, kind: Kind::Number(Quantity::plain(value)) });
        }
        self.pos += len;
        let unit = &self.text[unit_start..self.pos];
        match UNITS.iter().find(|u| u.0 == unit) {
            Some(&(_, scale, dim)) => {
                Ok(Node { at: start..self.pos, kind: Kind::Number(Quantity { value: value * scale, dim }) })
            }
            None => Err(ExprError {
                at: unit_start..self.pos,
                message: format!("`{unit}` is not a unit"),
                help: Some(match unit_of_other_case(unit) {
                    Some(u) => format!("did you mean `{u}`?"),
                    None => {
                        "units: B, KiB, MiB, GiB, TiB, KB, MB, GB, TB, ns, us, ms, s, %; a product needs `*`"
                            .into()
                    }
                }),
                unknown_name: false,
            }),
        }
    }

    fn name(&mut self) -> Result<Node, ExprError> {
        let start = self.pos;
        self.pos += self.run(|c| c.is_alphanumeric() || c == '_');
        let name = &self.text[start..self.pos];
        if !self.take('(') {
            // `take` skipped blanks; the name ends where it ended.
            return Ok(Node { at: start..start + name.len(), kind: Kind::Name(name.to_owned()) });
        }
        let Some(&(function, arity)) = FUNCTIONS.iter().find(|f| f.0 == name) else {
            return Err(ExprError {
                at: start..start + name.len(),
                message: format!("`{name}` is not a function"),
                help: Some("functions: min, max, floor, ceil, round".into()),
                unknown_name: true,
            });
        };
        let mut args = vec![self.sum()?];
        while self.take(',') {
            args.push(self.sum()?);
        }
        self.close(start)?;
        let at = start..self.pos;
        match arity {
            usize::MAX if args.len() < 2 => err(at, format!("`{function}` needs at least two arguments")),
            1 if args.len() != 1 => err(at, format!("`{function}` takes one argument, not {}", args.len())),
            _ => Ok(Node { at, kind: Kind::Call(function, args) }),
        }
    }
}

fn unit_of_other_case(unit: &str) -> Option<&'static str> {
    UNITS.iter().map(|u| u.0).find(|u| u.eq_ignore_ascii_case(unit))
}

fn join(op: Op, left: Node, right: Node) -> Node {
    Node { at: left.at.start..right.at.end, kind: Kind::Binary(op, Box::new(left), Box::new(right)) }
}

#[cfg(test)]
#[path = "expr_tests.rs"]
mod tests;
