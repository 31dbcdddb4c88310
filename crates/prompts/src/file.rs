//! Files of prompts: JSON lines, one prompt each.
//!
//! | field | value |
//! |---|---|
//! | `prompt` | text to complete, not empty |
//! | `messages` | messages of a chat: a list of objects with `role` (`system`, `user` or `assistant`) and `content` (text); the last is the user's |
//! | `system` | instructions: a system message before the others; with `prompt`, the prompt becomes the user's message |
//! | `max_tokens` | most tokens to generate, 1 or more; where it is absent, the caller's |
//! | `id` | a name of the prompt |
//! | `class` | a name for a kind of prompts, told apart in results; where some lines have one, those without are a class too |
//! | `model` | the model or adapter to ask, where it is not the load's |
//!
//! Each line has `prompt` or `messages`; the rest is optional. Other fields, blank lines and comments are refused.

use crate::seed::generator;
use crate::{Ask, FileError, MOST_TOKENS, Message, Prompt, PromptError, Role};
use rand::RngExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// In which order entries are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As they stand, over and over.
    #[default]
    InOrder,
    /// Each drawn by the seed, independently of the others.
    Drawn,
}

impl Order {
    /// Which of `count` entries has an index; `None` for none.
    pub(crate) fn place(self, seed: u64, index: u64, count: usize) -> Option<usize> {
        let all = u64::try_from(count).ok().filter(|&n| n > 0)?;
        let at = match self {
            Order::InOrder => index % all,
            Order::Drawn => generator(seed, "entry", index).random_range(0..all),
        };
        usize::try_from(at).ok()
    }
}

/// One prompt of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: Option<String>,
    /// The prompt.
    pub prompt: Prompt,
    /// Most tokens to generate.
    pub max_tokens: Option<u32>,
    /// Index of its class in [`PromptFile::classes`]; `None` where no line has one.
    pub class: Option<u16>,
    /// Index of its model in [`PromptFile::models`].
    pub model: Option<u16>,
}

/// The prompts of a file, one or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptFile {
    entries: Vec<Entry>,
    classes: Vec<String>,
    models: Vec<String>,
}

const FIELDS: [&str; 7] = ["prompt", "messages", "system", "max_tokens", "id", "class", "model"];
/// What other formats call these fields.
const OTHER_NAMES: [(&str, &str); 13] = [
    ("text", "prompt"),
    ("input", "prompt"),
    ("question", "prompt"),
    ("instruction", "prompt"),
    ("chat", "messages"),
    ("conversation", "messages"),
    ("conversations", "messages"),
    ("system_prompt", "system"),
    ("max_new_tokens", "max_tokens"),
    ("max_completion_tokens", "max_tokens"),
    ("output_tokens", "max_tokens"),
    ("n_predict", "max_tokens"),
    ("name", "id"),
];
/// Most classes, and most models, of a file.
const MOST_NAMES: usize = 1000;
/// Class of lines without one, where others have one.
const NO_CLASS: &str = "(no class)";
const TEXT: &str = "text, not empty";
const MESSAGES: &str = "a list, not empty, of objects with `role` and `content`, such as {\"role\": \"user\", \"content\": \"Hello\"}";
const TOKENS: &str = "a whole number from 1 to 16777216";

/// What a value is, in words.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn wrong(line: u64, field: &str, value: &Value, wanted: &'static str) -> FileError {
    let found = match value {
        Value::Number(n) => format!("the number {n}"),
        Value::String(s) if s.trim().is_empty() => "empty text".to_owned(),
        Value::String(s) if s.chars().count() < 40 => format!("the text \"{s}\""),
        Value::Array(a) if a.is_empty() => "an empty list".to_owned(),
        other => kind(other).to_owned(),
    };
    FileError::Type { line, field: field.to_owned(), found, wanted }
}

/// Insertions, deletions and changes of a letter between two words.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (&y, pair) in b.iter().zip(row.windows(2)) {
            let left = next.last().copied().unwrap_or_default();
            let [diagonal, above] = *pair else { continue };
            next.push((diagonal + usize::from(x != y)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

fn hint(field: &str, fields: &[&str]) -> String {
    let lower = field.to_ascii_lowercase();
    let other = OTHER_NAMES.iter().find(|(name, here)| *name == lower && fields.contains(here)).map(|n| n.1);
    let near =
        || fields.iter().copied().min_by_key(|f| distance(&lower, f)).filter(|f| distance(&lower, f) <= 2);
    match other.or_else(near) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => {
            let all: Vec<String> = fields.iter().map(|f| format!("`{f}`")).collect();
            format!("there are {}", all.join(", "))
        }
    }
}

fn text(line: u64, field: &str, value: &Value) -> Result<String, FileError> {
    value
        .as_str()
        .filter(|s| !s.trim().is_empty())
        .map(str::to_owned)
        .ok_or_else(|| wrong(line, field, value, TEXT))
}

fn message(line: u64, at: usize, value: &Value) -> Result<Message, FileError> {
    let field = format!("messages[{at}]");
    let object = value.as_object().ok_or_else(|| wrong(line, &field, value, MESSAGES))?;
    if let Some(unknown) = object.keys().find(|k| !["role", "content"].contains(&k.as_str())) {
        let hint = hint(unknown, &["role", "content"]);
        return Err(FileError::Unknown { line, field: format!("{field}.{unknown}"), hint });
    }
    let part = |name: &str| (format!("{field}.{name}"), object.get(name).unwrap_or(&Value::Null));
    let (name, value) = part("role");
    let role = match value.as_str() {
        Some("system") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => return Err(wrong(line, &name, value, "`system`, `user` or `assistant`")),
    };
    let (name, value) = part("content");
    Ok(Message { role, content: text(line, &name, value)? })
}

fn messages(line: u64, value: &Value) -> Result<Vec<Message>, FileError> {
    let list =
        value.as_array().filter(|l| !l.is_empty()).ok_or_else(|| wrong(line, "messages", value, MESSAGES))?;
    let all: Vec<Message> =
        list.iter().enumerate().map(|(i, m)| message(line, i, m)).collect::<Result<_, _>>()?;
    if all.last().is_some_and(|m| m.role != Role::User) {
        let last = list.len() - 1;
        let found = "a message that is not the user's".to_owned();
        let wanted = "the user's, as the last one is what the server answers";
        return Err(FileError::Type { line, field: format!("messages[{last}].role"), found, wanted });
    }
    Ok(all)
}

fn prompt(line: u64, object: &Map<String, Value>) -> Result<Prompt, FileError> {
    let system = object.get("system").map(|v| text(line, "system", v)).transpose()?;
    let mut before: Vec<Message> =
        system.into_iter().map(|content| Message { role: Role::System, content }).collect();
    match (object.get("prompt"), object.get("messages")) {
        (Some(_), Some(_)) => Err(FileError::Both { line, first: "prompt", second: "`messages`" }),
        (None, None) => Err(FileError::Missing { line }),
        (Some(p), None) => {
            let content = text(line, "prompt", p)?;
            if before.is_empty() {
                return Ok(Prompt::Text(content.into()));
            }
            before.push(Message { role: Role::User, content });
            Ok(Prompt::Messages(before.into()))
        }
        (None, Some(m)) => {
            let all = messages(line, m)?;
            if !before.is_empty() && all.first().is_some_and(|m| m.role == Role::System) {
                let second = "a message with the role `system`";
                return Err(FileError::Both { line, first: "system", second });
            }
            before.extend(all);
            Ok(Prompt::Messages(before.into()))
        }
    }
}

/// The number of a name in a list, to whose end it goes where it is new.
fn numbered(known: &mut Vec<String>, line: u64, what: &'static str, name: String) -> Result<u16, FileError> {
    let at = known.iter().position(|n| *n == name).unwrap_or(known.len());
    if at >= MOST_NAMES {
        return Err(FileError::Names { line, what, name });
    }
    if at == known.len() {
        known.push(name);
    }
    Ok(u16::try_from(at).unwrap_or(u16::MAX))
}

impl PromptFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// No lines, or one that is wrong, with its number, the field and what would be right.
    pub fn parse(file: &str) -> Result<PromptFile, FileError> {
        let file = file.strip_prefix('\u{feff}').unwrap_or(file);
        let mut made = PromptFile { entries: Vec::new(), classes: Vec::new(), models: Vec::new() };
        if file.trim().is_empty() {
            return Err(FileError::Empty);
        }
        for (line, row) in (1u64..).zip(file.lines()) {
            if row.trim().is_empty() {
                return Err(FileError::Blank { line });
            }
            let value: Value = serde_json::from_str(row).map_err(|e| FileError::Json {
                line,
                character: e.column(),
                reason: e.to_string().split(" at line ").next().unwrap_or_default().to_owned(),
            })?;
            let object = value.as_object().ok_or(FileError::NotObject { line, found: kind(&value) })?;
            if let Some(unknown) = object.keys().find(|k| !FIELDS.contains(&k.as_str())) {
                let hint = hint(unknown, &FIELDS);
                return Err(FileError::Unknown { line, field: unknown.clone(), hint });
            }
            let max_tokens = object.get("max_tokens").map(|v| {
                let n = v.as_u64().and_then(|n| u32::try_from(n).ok());
                n.filter(|n| (1..=MOST_TOKENS).contains(n))
                    .ok_or_else(|| wrong(line, "max_tokens", v, TOKENS))
            });
            let named = |field| object.get(field).map(|v| text(line, field, v)).transpose();
            let class =
                named("class")?.map(|c| numbered(&mut made.classes, line, "classes", c)).transpose()?;
            let model = named("model")?.map(|m| numbered(&mut made.models, line, "models", m)).transpose()?;
            made.entries.push(Entry {
                id: named("id")?,
                prompt: prompt(line, object)?,
                max_tokens: max_tokens.transpose()?,
                class,
                model,
            });
        }
        if !made.classes.is_empty() && made.entries.iter().any(|e| e.class.is_none()) {
            // A file has a thousand names at most.
            let rest = u16::try_from(made.classes.len()).unwrap_or(u16::MAX);
            made.classes.push(NO_CLASS.to_owned());
            made.entries.iter_mut().for_each(|e| e.class = e.class.or(Some(rest)));
        }
        Ok(made)
    }

    /// The entries as they stand.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Names of the classes, in the order in which they first stand.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Names of the models and adapters that entries ask, in the order in which they first stand.
    pub fn models(&self) -> &[String] {
        &self.models
    }

    /// The ask with an index; entries without a number of tokens generate `max_tokens`.
    ///
    /// # Errors
    /// No entries, which no file has that was read.
    pub fn ask(&self, index: u64, order: Order, seed: u64, max_tokens: u32) -> Result<Ask, PromptError> {
        let place = order.place(seed, index, self.entries.len());
        let entry = place.and_then(|at| self.entries.get(at)).ok_or(PromptError::Empty)?;
        Ok(Ask {
            index,
            prompt: entry.prompt.clone(),
            max_tokens: entry.max_tokens.unwrap_or(max_tokens),
            session: None,
            class: entry.class,
            model: entry.model,
            target_prompt_tokens: None,
        })
    }
}
