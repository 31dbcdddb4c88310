//! One request, in words that fit any server.

use crate::{PromptError, Vocabulary};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One request to a server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// Place in the stream, from 0; for sessions the number of the session, the same for all of its turns.
    pub index: u64,
    /// The prompt.
    pub prompt: Prompt,
    /// Most tokens to generate, 1 or more.
    pub max_tokens: u32,
    /// Session and turn, where it is part of one.
    pub session: Option<SessionPart>,
    /// Index of the class of the mix, or of the file's classes.
    pub class: Option<u16>,
    /// Index of the model or adapter in the file's models.
    pub model: Option<u16>,
    /// Tokens that the prompt was made to have, where it was: what the server should count.
    pub target_prompt_tokens: Option<u32>,
}

/// A prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// Text to complete.
    Text(#[serde(with = "text")] Arc<str>),
    /// Messages of a chat, the newest last.
    Messages(#[serde(with = "list")] Arc<[Message]>),
    /// Ids of tokens to complete.
    TokenIds(#[serde(with = "list")] Arc<[u32]>),
}

/// A message of a chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Whose it is.
    pub role: Role,
    /// What it says.
    pub content: String,
}

/// Whose a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions.
    System,
    /// The one who asks.
    User,
    /// The model.
    Assistant,
}

/// Which part of a session an ask is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SessionPart {
    /// Session, from 0.
    pub session: u64,
    /// Turn, from 0.
    pub turn: u32,
    /// Turns of the session, 1 or more.
    pub turns: u32,
    /// Time between the answer before and this ask, s; 0 for the first turn.
    pub think_s: f64,
}

/// What a made-up prompt is sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// Text to complete.
    #[default]
    Text,
    /// Messages of a chat. What the server's chat template adds is not counted, unless the vocabulary's calibration
    /// has it.
    Chat,
    /// Ids of tokens; needs a vocabulary that knows them.
    TokenIds,
}

impl Form {
    /// A prompt of one text.
    pub(crate) fn prompt(self, text: String, vocabulary: &dyn Vocabulary) -> Result<Prompt, PromptError> {
        Ok(match self {
            Form::Text => Prompt::Text(text.into()),
            Form::Chat => Prompt::Messages([Message { role: Role::User, content: text }].into()),
            Form::TokenIds => Prompt::TokenIds(vocabulary.ids(&text)?.into()),
        })
    }
}

/// Shared text as plain text.
mod text {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::sync::Arc;

    pub(super) fn serialize<S: Serializer>(text: &Arc<str>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(text)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<Arc<str>, D::Error> {
        String::deserialize(d).map(Into::into)
    }
}

/// Shared lists as plain lists.
mod list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    pub(super) fn serialize<S: Serializer, T: Serialize>(list: &Arc<[T]>, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(list.iter())
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>, T: Deserialize<'d>>(
        d: D,
    ) -> Result<Arc<[T]>, D::Error> {
        Vec::deserialize(d).map(Into::into)
    }
}
