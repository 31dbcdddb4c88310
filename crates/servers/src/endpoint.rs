//! A server that can be asked, whoever has started it.

use crate::error::ServerError;
use crate::http::{Answer, HttpError, Request, Url, send};
use crate::mask::Mask;
use crate::metrics::ServerState;
use crate::preset::{Dialect, Preset};
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;

/// Time for a small question.
const SMALL: Duration = Duration::from_secs(5);
/// How often one that was up is asked whether it still is, at most.
const TRIES: u32 = 3;
/// Time between two of these questions.
const BETWEEN: Duration = Duration::from_millis(500);
/// Tokens of the first real request.
const FIRST_TOKENS: u32 = 4;
/// Characters of an answer that a message shows.
const SHOWN: usize = 400;

/// What came of asking for the list of models.
pub(crate) enum Listed {
    Names(Vec<String>),
    Refused(ServerError),
}

/// Where a server is and how to talk to it.
#[derive(Clone)]
pub struct Endpoint {
    /// Name in messages.
    pub name: String,
    /// Kind.
    pub preset: Preset,
    /// Address.
    pub url: Url,
    /// Model that requests ask for; `None`: the first that it lists.
    pub model: Option<String>,
    /// Names of adapters that it must serve.
    pub adapters: Vec<String>,
    key: Option<String>,
}

impl fmt::Debug for Endpoint {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.to_string();
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("preset", &self.preset)
            .field("url", &url)
            .field("model", &self.model)
            .field("adapters", &self.adapters)
            .finish_non_exhaustive()
    }
}

/// What the first real request gave.
pub(crate) enum First {
    Text,
    /// It is not ready yet; why.
    Later(String),
}

impl Endpoint {
    /// An endpoint; `key` is sent with requests as `Authorization: Bearer`.
    pub fn new(name: impl Into<String>, preset: Preset, url: Url, key: Option<String>) -> Endpoint {
        Endpoint { name: name.into(), preset, url, model: None, adapters: Vec::new(), key }
    }

    /// How to talk to it.
    pub fn dialect(&self) -> Dialect {
        self.preset.dialect()
    }

    /// The key that requests must bring.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// What must be in nothing that is written down of its answers: the key, which a server may say back.
    pub fn mask(&self) -> Mask {
        Mask::new(self.key())
    }

    /// The begin of an answer as a message shows it, without the key.
    fn shown(&self, a: &Answer) -> String {
        let text = self.mask().apply(&a.text());
        let text = text.trim();
        let short: String = text.chars().take(SHOWN).collect();
        let (one_line, more) = (short.replace(['\n', '\r'], " "), short.len() < text.len());
        match (one_line.is_empty(), more) {
            (true, _) => "(nothing)".into(),
            (_, true) => format!("{one_line}…"),
            (_, false) => one_line,
        }
    }

    /// GETs a path, waiting at most `limit`.
    ///
    /// # Errors
    /// No answer; a status other than 200 is none.
    pub fn get(&self, path: &str, limit: Duration, give_up: &dyn Fn() -> bool) -> Result<Answer, HttpError> {
        send(&Request { url: &self.url, path, json: None, key: self.key(), limit }, give_up)
    }

    /// What it says of its queue and cache; `None` if its kind has no metrics or does not show them.
    ///
    /// # Errors
    /// It does not answer.
    pub fn state(&self, limit: Duration) -> Result<Option<ServerState>, ServerError> {
        let Some(path) = self.dialect().metrics_path else { return Ok(None) };
        let answer = self.get(path, limit, &|| false).map_err(|e| self.request_error(path, e))?;
        Ok((answer.status == 200).then(|| ServerState::from_text(&answer.text())))
    }

    pub(crate) fn request_error(&self, path: &'static str, source: HttpError) -> ServerError {
        ServerError::Request { server: self.name.clone(), path, source, lines: Vec::new() }
    }

    /// Whether it says that it is up; if not, why not.
    pub(crate) fn health(&self, limit: Duration, give_up: &dyn Fn() -> bool) -> Result<(), String> {
        let d = self.dialect();
        let Some(path) = d.health_path.or(d.models_path) else { return Ok(()) };
        match self.get(path, limit.min(SMALL), give_up) {
            // One that asks for a key is up; the list of models says that it refuses.
            Ok(a) if matches!(a.status, 200 | 401 | 403) => Ok(()),
            Ok(a) => Err(format!("{path}: status {}", a.status)),
            Err(e) => Err(format!("{path}: failed to {e}")),
        }
    }

    /// Whether a server that was up is so still. One that does not say so is asked again, for a few seconds: a busy one may be slow.
    ///
    /// # Errors
    /// [`ServerError::Gone`] with what the last try gave.
    pub fn still_there(&self, give_up: &dyn Fn() -> bool) -> Result<(), ServerError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.health(SMALL, give_up) {
                Ok(()) => return Ok(()),
                Err(why) if tries == TRIES || give_up() => {
                    return Err(ServerError::Gone { server: self.name.clone(), why, lines: Vec::new() });
                }
                Err(_) => std::thread::sleep(BETWEEN),
            }
        }
    }

    /// Names that it lists; empty if its kind has no such list. `Err` says why it could not be had.
    pub(crate) fn models(&self, limit: Duration, give_up: &dyn Fn() -> bool) -> Result<Listed, String> {
        let Some(path) = self.dialect().models_path else { return Ok(Listed::Names(Vec::new())) };
        match self.get(path, limit.min(SMALL), give_up) {
            Ok(a) if a.status == 200 => Ok(Listed::Names(ids(&a.body))),
            // Some builds of servers have no list: the first request decides.
            Ok(a) if a.status == 404 || a.status == 405 => Ok(Listed::Names(Vec::new())),
            // Asking again would not help.
            Ok(a) if a.status == 401 || a.status == 403 => Ok(Listed::Refused(ServerError::BadAnswer {
                server: self.name.clone(),
                path,
                status: a.status,
                answer: self.shown(&a),
                lines: Vec::new(),
            })),
            Ok(a) => Err(format!("{path}: status {}: {}", a.status, self.shown(&a))),
            Err(e) => Err(format!("{path}: failed to {e}")),
        }
    }

    /// Which model the first request asks for, given what it lists.
    ///
    /// # Errors
    /// The model asked for, or an adapter, is not among them.
    pub(crate) fn choose(&self, listed: &[String]) -> Result<String, ServerError> {
        let wrong = |asked: &str| ServerError::WrongModel {
            server: self.name.clone(),
            asked: asked.to_owned(),
            served: listed.to_vec(),
        };
        let any = listed.is_empty() || takes_any_model(self.preset);
        if let Some(asked) = &self.model {
            if !any && !listed.contains(asked) {
                return Err(wrong(asked));
            }
            // Only vLLM is known to list adapters as models.
            let unknown = |a: &&String| !any && self.preset == Preset::Vllm && !listed.contains(a);
            if let Some(adapter) = self.adapters.iter().find(unknown) {
                return Err(wrong(adapter));
            }
            return Ok(asked.clone());
        }
        listed.first().cloned().ok_or_else(|| wrong(""))
    }

    /// Version, if its kind tells it.
    pub(crate) fn version(&self) -> Option<String> {
        let (path, field) = self.dialect().version?;
        let answer = self.get(path, SMALL, &|| false).ok().filter(|a| a.status == 200)?;
        let value: Value = serde_json::from_slice(&answer.body).ok()?;
        Some(self.mask().apply(value.get(field)?.as_str()?))
    }

    /// Asks for a few tokens.
    ///
    /// # Errors
    /// No answer, or one without text. [`First::Later`] is no error: the server says that it is still loading.
    pub(crate) fn first(
        &self,
        model: &str,
        limit: Duration,
        give_up: &dyn Fn() -> bool,
    ) -> Result<First, ServerError> {
        let d = self.dialect();
        let mut path = d.completions_path.unwrap_or(d.chat_path);
        let mut answer =
            self.post(path, &self.question(model, d.completions_path.is_none()), limit, give_up)?;
        // A server of only chats. One that does not know the model also says 404, and says so again.
        if matches!(answer.status, 404 | 405) && path != d.chat_path {
            path = d.chat_path;
            answer = self.post(path, &self.question(model, true), limit, give_up)?;
        }
        match answer.status {
            200 if has_text(&answer.body) => Ok(First::Text),
            429 | 502 | 503 => Ok(First::Later(format!("{path}: status {}", answer.status))),
            status => Err(ServerError::BadAnswer {
                server: self.name.clone(),
                path,
                status,
                answer: self.shown(&answer),
                lines: Vec::new(),
            }),
        }
    }

    fn post(
        &self,
        path: &'static str,
        body: &Value,
        limit: Duration,
        give_up: &dyn Fn() -> bool,
    ) -> Result<Answer, ServerError> {
        let json = body.to_string();
        let r = Request { url: &self.url, path, json: Some(&json), key: self.key(), limit };
        send(&r, give_up).map_err(|e| match e {
            HttpError::Interrupted => ServerError::Interrupted { server: self.name.clone() },
            e => self.request_error(path, e),
        })
    }

    /// A request of a few tokens in this kind's fields.
    fn question(&self, model: &str, chat: bool) -> Value {
        let d = self.dialect();
        let mut body = json!({"model": model, "stream": false, "temperature": 0});
        if chat {
            body["messages"] = json!([{"role": "user", "content": "Count from one to ten."}]);
        } else {
            body["prompt"] = json!("One, two, three,");
        }
        body[d.max_tokens_field] = json!(FIRST_TOKENS);
        if d.ignore_eos {
            body["ignore_eos"] = json!(true);
        }
        body
    }
}

/// Kinds that serve one model and do not look at the name in a request.
fn takes_any_model(preset: Preset) -> bool {
    matches!(preset, Preset::LlamaCpp | Preset::Tgi)
}

/// `data[].id` of a list of models.
fn ids(body: &[u8]) -> Vec<String> {
    let list: Value = serde_json::from_slice(body).unwrap_or_default();
    let data = list.get("data").and_then(Value::as_array);
    let id = |m: &Value| m.get("id").and_then(Value::as_str).map(str::to_owned);
    data.into_iter().flatten().filter_map(id).collect()
}

/// Whether an answer has text, or says that tokens were made: random weights often make such that are not shown.
fn has_text(body: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return false };
    let choice = answer.pointer("/choices/0");
    let texts = ["/text", "/message/content", "/message/reasoning_content", "/message/reasoning"];
    let said =
        |at: &&str| choice.and_then(|c| c.pointer(at)).and_then(Value::as_str).is_some_and(|t| !t.is_empty());
    let counted = answer.pointer("/usage/completion_tokens").and_then(Value::as_u64).unwrap_or(0) > 0;
    texts.iter().any(said) || (choice.is_some() && counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(preset: Preset) -> Endpoint {
        Endpoint::new("s", preset, Url::parse("http://127.0.0.1:1").unwrap(), Some("k-secret".into()))
    }

    #[test]
    fn questions_have_only_fields_of_the_kind() {
        let keys = |v: Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        let q = |p| keys(endpoint(p).question("m", p.dialect().completions_path.is_none()));
        assert_eq!(q(Preset::Vllm), "model stream temperature prompt max_tokens ignore_eos");
        assert_eq!(q(Preset::TransformersServe), "model stream temperature messages max_tokens");
        assert_eq!(q(Preset::Generic), "model stream temperature prompt max_tokens");
    }

    #[test]
    fn models_are_chosen_and_wrong_ones_told() {
        let listed = ["a".to_owned(), "b".to_owned()];
        let mut e = endpoint(Preset::Vllm);
        assert_eq!(e.choose(&listed).unwrap(), "a");
        e.model = Some("b".into());
        assert_eq!(e.choose(&listed).unwrap(), "b");
        e.adapters = vec!["x".into()];
        assert_eq!(
            e.choose(&listed).unwrap_err().to_string(),
            "use model `x` of server `s`: it serves `a`, `b`"
        );
        e.model = Some("c".into());
        assert!(matches!(e.choose(&listed), Err(ServerError::WrongModel { asked, .. }) if asked == "c"));
        e.preset = Preset::LlamaCpp;
        assert_eq!(e.choose(&listed).unwrap(), "c");
        e.preset = Preset::TransformersServe;
        assert_eq!(e.choose(&[]).unwrap(), "c");
    }

    #[test]
    fn text_is_found_where_servers_put_it() {
        for yes in [
            r#"{"choices":[{"text":" four"}]}"#,
            r#"{"choices":[{"message":{"content":"x"}}]}"#,
            r#"{"choices":[{"message":{"content":null,"reasoning_content":"x"}}]}"#,
            r#"{"choices":[{"text":""}],"usage":{"completion_tokens":4}}"#,
        ] {
            assert!(has_text(yes.as_bytes()), "{yes}");
        }
        for no in ["", "{}", r#"{"choices":[{"text":""}]}"#, r#"{"usage":{"completion_tokens":4}}"#] {
            assert!(!has_text(no.as_bytes()), "{no}");
        }
    }

    #[test]
    fn the_key_is_not_shown() {
        let e = endpoint(Preset::Vllm);
        assert!(!format!("{e:?}").contains("k-secret"));
        // Also not where the cut goes through it.
        for before in SHOWN - 10..SHOWN + 2 {
            let body = format!("{}k-secret and more", "x".repeat(before)).into_bytes();
            let shown = e.shown(&Answer { status: 401, body });
            assert!(!shown.contains("k-s"), "{shown}");
        }
    }
}
