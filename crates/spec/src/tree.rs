//! A TOML document whose every key and value knows where it was written, also after overrides from another
//! text were put into it.

use crate::error::{Checked, ErrorKind, Issue};
use toml::de::{DeTable, DeValue};

/// A text that spans point into: the experiment file, or one `--set` argument.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Source {
    pub name: String,
    pub text: String,
}

/// Bytes `start..end` of the source with index `source`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub source: usize,
    pub start: usize,
    pub end: usize,
}

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub span: Span,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Str(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Datetime,
    Array(Vec<Node>),
    Table(Vec<Entry>),
}

/// One `key = value`, in the order of the text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub node: Node,
}

impl Value {
    /// The type in words, for "expected …, found …".
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Str(_) => "a string",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Bool(_) => "a boolean",
            Value::Datetime => "a date",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// Parses a whole TOML document as source `source`.
pub(crate) fn parse_document(text: &str, source: usize) -> Checked<Node> {
    let table = DeTable::parse(text).map_err(|e| syntax(&e, source, 0, text.len()))?;
    let span = Span { source, start: 0, end: 0 };
    Ok(Node { span, value: Value::Table(table_entries(table.get_ref(), source, 0)?) })
}

/// Parses one TOML value that stands at byte `offset` of source `source`.
pub(crate) fn parse_value(text: &str, source: usize, offset: usize) -> Checked<Node> {
    let value = DeValue::parse(text).map_err(|e| syntax(&e, source, offset, text.len()))?;
    node(value.get_ref(), value.span(), source, offset)
}

fn syntax(e: &toml::de::Error, source: usize, offset: usize, len: usize) -> Box<Issue> {
    let at = e.span().unwrap_or(len..len);
    let span = Span { source, start: offset + at.start, end: offset + at.end };
    Issue::new(
        ErrorKind::Syntax,
        span,
        "",
        format!("this is not valid TOML: {}", e.message().replace('\n', ", ")),
    )
}

fn table_entries(table: &DeTable<'_>, source: usize, offset: usize) -> Checked<Vec<Entry>> {
    let mut entries = Vec::new();
    for (key, value) in table.iter() {
        let at = key.span();
        entries.push(Entry {
            key: key.get_ref().to_string(),
            key_span: Span { source, start: offset + at.start, end: offset + at.end },
            node: node(value.get_ref(), value.span(), source, offset)?,
        });
    }
    // The parser sorts keys by name; errors and sweeps must follow the order of the text.
    entries.sort_by_key(|e| e.key_span.start);
    Ok(entries)
}

fn node(value: &DeValue<'_>, at: std::ops::Range<usize>, source: usize, offset: usize) -> Checked<Node> {
    let span = Span { source, start: offset + at.start, end: offset + at.end };
    let bad = |what: &str| Issue::new(ErrorKind::WrongType, span, "", what);
    let value = match value {
        DeValue::String(s) => Value::Str(s.to_string()),
        DeValue::Integer(i) => Value::Int(
            i64::from_str_radix(i.as_str(), i.radix())
                .map_err(|_| bad("this integer does not fit in 64 bits"))?,
        ),
        DeValue::Float(f) => Value::Float(f.as_str().parse().map_err(|_| bad("this is not a number"))?),
        DeValue::Boolean(b) => Value::Bool(*b),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => Value::Array(
            items.iter().map(|v| node(v.get_ref(), v.span(), source, offset)).collect::<Checked<Vec<_>>>()?,
        ),
        DeValue::Table(t) => Value::Table(table_entries(t, source, offset)?),
    };
    Ok(Node { span, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(node: &'a Node, key: &str) -> &'a Entry {
        match &node.value {
            Value::Table(t) => t.iter().find(|e| e.key == key).expect("key"),
            _ => panic!("not a table"),
        }
    }

    #[test]
    fn keys_keep_the_order_of_the_text() {
        let doc = parse_document("z = 1\na = 0x10\nm = [1.5, true]\n", 0).expect("valid");
        let Value::Table(t) = &doc.value else { panic!("table") };
        assert_eq!(t.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["z", "a", "m"]);
        assert_eq!(entry(&doc, "a").node.value, Value::Int(16));
    }

    #[test]
    fn spans_cover_the_value() {
        let text = "[t.u]\nk = \"v\"\n[[w]]\nn = 1\n";
        let doc = parse_document(text, 0).expect("valid");
        let k = entry(&entry(&entry(&doc, "t").node, "u").node, "k");
        assert_eq!(&text[k.node.span.start..k.node.span.end], "\"v\"");
        assert_eq!(&text[k.key_span.start..k.key_span.end], "k");
    }

    #[test]
    fn a_value_is_placed_where_it_stands_in_the_argument() {
        let n = parse_value("[3, 5]", 2, 16).expect("valid");
        assert_eq!(n.span, Span { source: 2, start: 16, end: 22 });
    }

    #[test]
    fn integers_beyond_64_bits_are_errors() {
        assert!(parse_document("a = 99999999999999999999", 0).is_err());
    }
}
