//! Expressions turned into the typed numbers of a plan, each with the error that says what would be right.

use crate::error::{Checked, ErrorKind, Issue, suggest};
use crate::expr::{Dim, Expr, FUNCTIONS, Quantity};
use crate::plan::DeviceSizes;
use crate::raw::At;
use crate::read::expr_issue;
use crate::tree::Source;
use cotenant_units::{Bytes, Nanos};

/// Names of the card's sizes.
pub(crate) const DEVICE_NAMES: [&str; 5] = ["sms", "l2", "l1", "dram", "smem"];

/// Values of the sweep variables of one cell, in the order of the text.
pub(crate) type Vars = Vec<(String, Quantity)>;

/// What an expression may name, and where it stands.
pub(crate) struct Scope<'a> {
    pub device: &'a DeviceSizes,
    pub vars: &'a Vars,
    pub sources: &'a [Source],
}

/// True if a sweep variable may be called so.
pub(crate) fn is_reserved(name: &str) -> bool {
    DEVICE_NAMES.contains(&name) || FUNCTIONS.iter().any(|f| f.0 == name)
}

impl Scope<'_> {
    fn lookup(&self, name: &str) -> Option<Quantity> {
        let bytes = |b: Bytes| Some(Quantity { value: b.0 as f64, dim: Dim::Bytes });
        match name {
            "sms" => Some(Quantity::plain(f64::from(self.device.sms))),
            "l2" => bytes(self.device.l2),
            "l1" => bytes(self.device.l1),
            "dram" => bytes(self.device.dram),
            "smem" => bytes(self.device.smem),
            _ => self.vars.iter().find(|v| v.0 == name).map(|v| v.1),
        }
    }

    /// The value of an expression.
    pub fn eval(&self, e: &At<Expr>, path: &str) -> Checked<Quantity> {
        e.value.eval(&|name| self.lookup(name)).map_err(|fault| {
            let text = e.value.text();
            let kind = if fault.unknown_name { ErrorKind::UnknownName } else { ErrorKind::WrongType };
            let issue = expr_issue(&fault, kind, text, e.span, path, self.sources);
            if !fault.unknown_name {
                return issue;
            }
            let word = text.get(fault.at.clone()).unwrap_or_default();
            let mut names: Vec<&str> = DEVICE_NAMES.to_vec();
            names.extend(self.vars.iter().map(|v| v.0.as_str()));
            issue.help(suggest(word, "names here", &names))
        })
    }

    fn mismatch<T>(&self, e: &At<Expr>, path: &str, found: Dim, expected: &str) -> Checked<T> {
        let message = format!("`{path}` must be {expected}, not {}", found.name());
        Err(Issue::new(ErrorKind::WrongType, e.span, path, message))
    }

    /// A whole number of at least `least` and at most `most`, rounded to the nearest.
    pub fn integer(&self, e: &At<Expr>, path: &str, least: f64, most: f64) -> Checked<f64> {
        let q = self.eval(e, path)?;
        if q.dim != Dim::Plain {
            return self.mismatch(e, path, q.dim, "a count");
        }
        let n = q.value.round();
        if n < least || n > most {
            let written = shown(e, &Quantity::plain(n));
            let message = format!("`{path}` is {written}, but must be {least} to {most}");
            return Err(Issue::new(ErrorKind::Impossible, e.span, path, message).help(format!(
                "counts are rounded to the nearest whole number and must be {least} or more"
            )));
        }
        Ok(n)
    }

    /// A count from 1 to `most`.
    pub fn count(&self, e: &At<Expr>, path: &str, most: u32) -> Checked<u32> {
        self.integer(e, path, 1.0, f64::from(most)).map(|n| n as u32)
    }

    /// A size of at least one byte.
    pub fn bytes(&self, e: &At<Expr>, path: &str) -> Checked<Bytes> {
        self.size(e, path, 1)
    }

    /// A size of at least `least` bytes.
    pub fn size(&self, e: &At<Expr>, path: &str, least: u64) -> Checked<Bytes> {
        let q = self.eval(e, path)?;
        if !matches!(q.dim, Dim::Plain | Dim::Bytes) {
            return self.mismatch(e, path, q.dim, "a size such as \"4GiB\"");
        }
        let n = q.value.round();
        if !(least as f64..9e18).contains(&n) {
            let message = format!("`{path}` is {n} bytes, but must be at least {least}");
            return Err(Issue::new(ErrorKind::Impossible, e.span, path, message));
        }
        Ok(Bytes(n as u64))
    }

    /// A time; zero only where `zero` allows it. A number without unit is refused: nobody knows its unit.
    pub fn time(&self, e: &At<Expr>, path: &str, zero: bool) -> Checked<Nanos> {
        let q = self.eval(e, path)?;
        let plain_zero = q.dim == Dim::Plain && q.value == 0.0;
        if q.dim != Dim::Time && !plain_zero {
            return self
                .mismatch(e, path, q.dim, "a time with a unit")
                .map_err(|i: Box<Issue>| i.help("units are ns, us, ms and s, for example \"20ms\""));
        }
        let n = q.value.round();
        if n < 0.0 || (n == 0.0 && !zero) || n > 1e18 {
            let message = format!("`{path}` is {}, but must be more than zero", shown(e, &q));
            return Err(Issue::new(ErrorKind::Impossible, e.span, path, message));
        }
        Ok(Nanos(n as u64))
    }

    /// A percentage in (0, 100]: `50`, `"50%"` or an expression.
    pub fn percent(&self, e: &At<Expr>, path: &str) -> Checked<f64> {
        let q = self.eval(e, path)?;
        let percent = match q.dim {
            Dim::Plain => q.value,
            Dim::Percent => q.value * 100.0,
            other => return self.mismatch(e, path, other, "a percentage"),
        };
        if percent > 0.0 && percent <= 100.0 {
            return Ok(percent);
        }
        let message = format!(
            "`{path}` is {} %, but a share of the GPU is more than 0 and at most 100 %",
            shown(e, &q)
        );
        Err(Issue::new(ErrorKind::Impossible, e.span, path, message))
    }

    /// A share strictly between 0 and 1: `0.01` or `"1%"`.
    pub fn fraction(&self, e: &At<Expr>, path: &str) -> Checked<f64> {
        let q = self.eval(e, path)?;
        if !matches!(q.dim, Dim::Plain | Dim::Percent) {
            return self.mismatch(e, path, q.dim, "a share such as 0.01 or \"1%\"");
        }
        if q.value > 0.0 && q.value < 1.0 {
            return Ok(q.value);
        }
        let message = format!("`{path}` is {}, but must lie between 0 and 1", shown(e, &q));
        Err(Issue::new(ErrorKind::Impossible, e.span, path, message)
            .help("0.01 stops when every interval is within ±1 %"))
    }
}

/// The value, and the expression that gave it where it is one.
pub(crate) fn shown(e: &At<Expr>, q: &Quantity) -> String {
    let value = q.to_string();
    let text = e.value.text();
    if text.parse::<f64>().is_ok() || text == value { value } else { format!("{value} (`{text}`)") }
}
