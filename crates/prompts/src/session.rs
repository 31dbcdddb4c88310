//! Sessions of several turns, each of which carries what was said before.

use crate::seed::generator;
use crate::synthetic::{form_fits, named};
use crate::vocabulary::append;
use crate::{
    Ask, Form, Length, Message, Prefix, Prompt, PromptError, Role, Seconds, SessionPart, Vocabulary,
};
use cotenant_load::stream_seed;
use std::sync::Arc;

/// Sessions. A session is a list of user turns; the prompt of a turn is all that was said before, the server's answers
/// too, and the turn's own text. As the answers come from the server, the first ask of a session is made by
/// [`Sessions::first`] and each later one by [`Sessions::next`].
///
/// The user's texts and the times between do not depend on the answers.
#[derive(Debug, Clone)]
pub struct Sessions {
    /// Turns of a session, 1 or more; not [`Length::Trace`].
    pub turns: Length,
    /// Time between an answer and the next ask, s.
    pub think: Seconds,
    /// Tokens that each user turn adds, without [`Vocabulary::overhead`]; not [`Length::Trace`].
    pub user: Length,
    /// Tokens to generate in each turn; not [`Length::Trace`].
    pub output: Length,
    /// What sessions begin with: a system message in a chat. It comes on top of the first turn's text; its share is
    /// one of sessions.
    pub prefix: Option<Prefix>,
    /// Words.
    pub vocabulary: Arc<dyn Vocabulary>,
    /// What prompts are sent as: a chat, or all that was said joined with spaces.
    pub form: Form,
    /// Seed.
    pub seed: u64,
}

impl Sessions {
    /// Whether all parts fit together.
    ///
    /// # Errors
    /// The first part that does not.
    pub fn check(&self) -> Result<(), PromptError> {
        for (length, part) in [(&self.turns, "turns"), (&self.user, "user"), (&self.output, "output")] {
            length.check().map_err(named(part))?;
            if *length == Length::Trace {
                return Err(PromptError::TraceInSession { part });
            }
        }
        self.think.check().map_err(named("think"))?;
        if let Some(prefix) = &self.prefix {
            prefix.check()?;
        }
        form_fits(self.form, self.vocabulary.as_ref())
    }

    /// Turns of a session.
    ///
    /// # Errors
    /// [`Length::Trace`].
    pub fn turns(&self, session: u64) -> Result<u32, PromptError> {
        self.draw(&self.turns, "turns", self.seed, session)
    }

    /// Time between the answer before and a turn, s; 0 for the first.
    pub fn think_s(&self, session: u64, turn: u32) -> f64 {
        let mut rng = generator(self.of(session), "think", u64::from(turn));
        if turn == 0 { 0.0 } else { self.think.draw(&mut rng) }
    }

    /// The first ask of a session.
    ///
    /// # Errors
    /// Those of [`Sessions::next`].
    pub fn first(&self, session: u64) -> Result<Ask, PromptError> {
        self.next(session, 0, &[])
    }

    /// The ask of a turn, from 0, after the answers to all turns before it, oldest first.
    ///
    /// `target_prompt_tokens` is what the vocabulary counts for the whole text; for a chat of more than one message it
    /// is not told, as the server's template decides.
    ///
    /// # Errors
    /// A turn that the session does not have; more or fewer answers than turns before; the vocabulary finds no text of
    /// the length, or has no ids for an answer that is to be sent as such.
    pub fn next(&self, session: u64, turn: u32, answers: &[String]) -> Result<Ask, PromptError> {
        self.next_in(session, turn, answers, self.seed)
    }

    /// The same with texts from another seed; turns, lengths and times stay.
    ///
    /// # Errors
    /// As [`Sessions::next`].
    pub fn next_in(
        &self,
        session: u64,
        turn: u32,
        answers: &[String],
        texts: u64,
    ) -> Result<Ask, PromptError> {
        let turns = self.turns(session)?;
        if turn >= turns {
            return Err(PromptError::Turn { session, turn, turns });
        }
        if answers.len() != turn as usize {
            return Err(PromptError::Answers { turn, found: answers.len() });
        }
        let vocabulary = self.vocabulary.as_ref();
        let mut messages: Vec<Message> = Vec::with_capacity(2 * answers.len() + 2);
        if let Some(prefix) = &self.prefix
            && let Some(which) = prefix.which(self.seed, session)
        {
            let content = prefix.text(vocabulary, texts, which, u32::MAX)?;
            messages.push(Message { role: Role::System, content });
        }
        let mut answers = answers.iter();
        for t in 0..=turn {
            let mut rng = generator(stream_seed(texts, "session", session), "text", u64::from(t));
            let tokens = self.draw(&self.user, "user", self.of(session), u64::from(t))?;
            let content = vocabulary.text(tokens.saturating_add(vocabulary.overhead()), &mut rng)?;
            messages.push(Message { role: Role::User, content });
            if let Some(answer) = answers.next() {
                messages.push(Message { role: Role::Assistant, content: answer.clone() });
            }
        }
        let (prompt, target) = match self.form {
            Form::Chat => {
                let only =
                    if let [one] = &messages[..] { Some(vocabulary.count(&one.content)?) } else { None };
                (Prompt::Messages(messages.into()), only)
            }
            form => {
                let mut text = String::new();
                append(&mut text, messages.iter().map(|m| m.content.trim()).filter(|c| !c.is_empty()));
                let target = vocabulary.count(&text)?;
                (form.prompt(text, vocabulary)?, Some(target))
            }
        };
        Ok(Ask {
            index: session,
            prompt,
            max_tokens: self.draw(&self.output, "output", self.of(session), u64::from(turn))?,
            session: Some(SessionPart { session, turn, turns, think_s: self.think_s(session, turn) }),
            class: None,
            model: None,
            target_prompt_tokens: target,
        })
    }

    /// Seed of what happens within a session.
    fn of(&self, session: u64) -> u64 {
        stream_seed(self.seed, "session", session)
    }

    fn draw(&self, length: &Length, part: &'static str, seed: u64, index: u64) -> Result<u32, PromptError> {
        length.draw(&mut generator(seed, part, index)).ok_or(PromptError::TraceInSession { part })
    }
}
