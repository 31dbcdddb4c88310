//! Placeholders in command lines.

/// All placeholders, in the order in which messages list them.
const KNOWN: [&str; 7] = ["port", "host", "model", "served_name", "memory_share", "max_model_len", "log_dir"];

/// What placeholders stand for; one without a value may not be used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values {
    /// `{port}`.
    pub port: u16,
    /// `{host}`.
    pub host: String,
    /// `{model}`.
    pub model: Option<String>,
    /// `{served_name}`.
    pub served_name: Option<String>,
    /// `{memory_share}`, a part of the card's memory in (0, 1].
    pub memory_share: Option<f64>,
    /// `{max_model_len}` in tokens.
    pub max_model_len: Option<u32>,
    /// `{log_dir}`, the folder of the server's log.
    pub log_dir: String,
}

impl Values {
    fn get(&self, name: &str) -> Option<Option<String>> {
        Some(match name {
            "port" => Some(self.port.to_string()),
            "host" => Some(self.host.clone()),
            "model" => self.model.clone(),
            "served_name" => self.served_name.clone(),
            "memory_share" => self.memory_share.map(|s| s.to_string()),
            "max_model_len" => self.max_model_len.map(|n| n.to_string()),
            "log_dir" => Some(self.log_dir.clone()),
            _ => return None,
        })
    }
}

/// What is wrong with an item of a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no such placeholder.
    #[error(
        "`{item}` has the unknown placeholder `{{{name}}}`; there are {}; braces are written `{{{{` and `}}}}`",
        known()
    )]
    Unknown {
        /// The item.
        item: String,
        /// The placeholder's name.
        name: String,
    },
    /// The placeholder stands for something that was not given.
    #[error(
        "`{item}` uses `{{{name}}}`, which has no value here; set `{name}`. Placeholders are {}",
        known()
    )]
    NoValue {
        /// The item.
        item: String,
        /// The placeholder's name.
        name: String,
    },
    /// A brace without its other.
    #[error(
        "`{item}` has a single `{brace}`; braces are written `{{{{` and `}}}}`, placeholders are {}",
        known()
    )]
    Brace {
        /// The item.
        item: String,
        /// The brace.
        brace: char,
    },
}

fn known() -> String {
    KNOWN.map(|k| format!("{{{k}}}")).join(" ")
}

/// Puts values into one item of a command line. `{{` and `}}` stand for braces.
///
/// # Errors
/// An unknown placeholder, one without a value, or a single brace.
pub fn expand(item: &str, values: &Values) -> Result<String, TemplateError> {
    let mut out = String::with_capacity(item.len());
    let mut rest = item;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let from = &rest[at..];
        let brace = if from.starts_with('{') { '{' } else { '}' };
        let single = || TemplateError::Brace { item: item.to_owned(), brace };
        let after = &from[1..];
        if after.starts_with(brace) {
            out.push(brace);
            rest = &after[1..];
            continue;
        }
        if brace == '}' {
            return Err(single());
        }
        let end = after.find('}').ok_or_else(single)?;
        let name = &after[..end];
        let why = || (item.to_owned(), name.to_owned());
        match values.get(name) {
            Some(Some(v)) => out.push_str(&v),
            Some(None) => {
                let (item, name) = why();
                return Err(TemplateError::NoValue { item, name });
            }
            None => {
                let (item, name) = why();
                return Err(TemplateError::Unknown { item, name });
            }
        }
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> Values {
        Values {
            port: 8123,
            host: "127.0.0.1".into(),
            model: Some("m/x".into()),
            memory_share: Some(0.45),
            log_dir: "/logs".into(),
            ..Values::default()
        }
    }

    #[test]
    fn values_are_put_in_and_braces_escaped() {
        let v = values();
        assert_eq!(expand("http://{host}:{port}/", &v).unwrap(), "http://127.0.0.1:8123/");
        assert_eq!(expand("{memory_share}{model}", &v).unwrap(), "0.45m/x");
        assert_eq!(expand(r#"{{"level":{{"a":3}}}}"#, &v).unwrap(), r#"{"level":{"a":3}}"#);
    }

    #[test]
    fn errors_name_the_placeholder_and_list_all() {
        let e = expand("--x={prot}", &values()).unwrap_err().to_string();
        assert!(e.contains("{prot}") && e.contains("{port} {host} {model}") && e.contains("`{{`"), "{e}");
        let e = expand("{served_name}", &values()).unwrap_err().to_string();
        assert!(e.contains("`{served_name}`, which has no value") && e.contains("{log_dir}"), "{e}");
        assert!(matches!(expand("a{port", &values()), Err(TemplateError::Brace { brace: '{', .. })));
        assert!(matches!(expand("a}b", &values()), Err(TemplateError::Brace { brace: '}', .. })));
    }

    proptest! {
        #[test]
        fn escaped_text_comes_back(s in "\\PC*") {
            let escaped = s.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(expand(&escaped, &values()).unwrap(), s);
        }

        #[test]
        fn nothing_panics(s in "[{}a-zé_port]*") {
            let _ = expand(&s, &values());
        }
    }
}
