//! Sessions of several turns.

use cotenant_prompts::{
    Asks, Choice, Form, Length, Prefix, Prompt, PromptError, Role, Seconds, Sessions, Words,
};
use std::sync::Arc;

fn sessions(form: Form) -> Sessions {
    Sessions {
        turns: "uniform(2,4)".parse().expect("a length"),
        think: "exponential(5)".parse().expect("a time"),
        user: "uniform(5,20)".parse().expect("a length"),
        output: "7".parse().expect("a length"),
        prefix: None,
        vocabulary: Arc::new(Words::new(0, 1000).expect("words")),
        form,
        seed: 9,
    }
}

fn text(prompt: &Prompt) -> &str {
    let Prompt::Text(text) = prompt else { panic!("{prompt:?}") };
    text
}

fn answers(n: u32) -> Vec<String> {
    (0..n).map(|i| format!("t{i} t{i}")).collect()
}

#[test]
fn later_turns_carry_what_was_said() {
    let s = sessions(Form::Text);
    for session in 0..20 {
        let turns = s.turns(session).expect("turns");
        let mut before = String::new();
        for turn in 0..turns {
            let ask = s.next(session, turn, &answers(turn)).expect("an ask");
            let now = text(&ask.prompt);
            assert!(now.starts_with(&before), "{now} / {before}");
            let added = now.split(' ').count() - before.split_whitespace().count();
            assert!((5..=20).contains(&added), "{added}");
            assert_eq!(ask.target_prompt_tokens, Some(now.split(' ').count() as u32));
            let part = ask.session.expect("a session");
            assert_eq!((part.session, part.turn, part.turns, ask.index), (session, turn, turns, session));
            assert_eq!(part.think_s == 0.0, turn == 0);
            before = format!("{now} t{turn} t{turn}");
        }
    }
}

#[test]
fn chats_alternate_and_begin_with_the_shared_message() {
    let prefix = Some(Prefix { count: 1, tokens: 30, share: 1.0, choice: Choice::Uniform });
    let s = Sessions { prefix, ..sessions(Form::Chat) };
    let (a, b) = (s.next(0, 1, &answers(1)).expect("an ask"), s.first(1).expect("an ask"));
    let (Prompt::Messages(a), Prompt::Messages(b)) = (&a.prompt, &b.prompt) else { panic!() };
    let roles: Vec<Role> = a.iter().map(|m| m.role).collect();
    assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
    assert_eq!(a[0], b[0]);
    assert_eq!(a[0].content.split(' ').count(), 30);
    assert_eq!(a[2].content, "t0 t0");
    assert_ne!(a[1], b[1]);
}

#[test]
fn the_users_texts_do_not_depend_on_the_answers() {
    let s = sessions(Form::Text);
    let own = |answer: &str| {
        let ask = s.next(3, 1, &[answer.to_owned()]).expect("an ask");
        text(&ask.prompt).replacen(answer, "", 1)
    };
    assert_eq!(own("x y"), own("z"));
}

#[test]
fn streams_give_first_turns() {
    let mut asks = Asks::sessions(sessions(Form::Text)).expect("asks");
    let first = asks.get().expect("an ask");
    let second = asks.get().expect("an ask");
    assert_eq!((first.index, second.index), (0, 1));
    assert_eq!(asks.sessions_of().expect("sessions").first(1), Ok(second));
}

#[test]
fn turns_and_answers_must_fit() {
    let s = sessions(Form::Text);
    assert_eq!(s.next(0, 1, &[]), Err(PromptError::Answers { turn: 1, found: 0 }));
    let turns = s.turns(0).expect("turns");
    assert_eq!(s.next(0, turns, &answers(turns)), Err(PromptError::Turn { session: 0, turn: turns, turns }));
    let ids = sessions(Form::TokenIds);
    assert!(matches!(ids.next(0, 1, &["hello".to_owned()]), Err(PromptError::Word(_))));
    let e = Sessions { turns: Length::Trace, ..sessions(Form::Text) }.check().expect_err("refused");
    assert!(e.to_string().contains("the turns of sessions cannot be `trace`"), "{e}");
    let e = Sessions { think: Seconds::Exact(-1.0), ..sessions(Form::Text) }.check().expect_err("refused");
    assert!(e.to_string().starts_with("think: the time of `exact` is -1"), "{e}");
}

#[test]
fn times_between_turns_have_their_mean() {
    let s = sessions(Form::Text);
    let mean = (0..4000).map(|i| s.think_s(i, 1)).sum::<f64>() / 4000.0;
    assert!((mean - 5.0).abs() < 4.0 * 5.0 / 4000f64.sqrt(), "{mean}");
}

#[test]
fn other_texts_leave_turns_and_lengths_as_they_are() {
    let asks = Asks::sessions(sessions(Form::Text)).expect("sessions");
    let other = asks.clone().with_texts(77);
    for session in 0..10 {
        let (a, b) = (asks.turn(session, 1, &answers(1)), other.turn(session, 1, &answers(1)));
        let (a, b) = (a.expect("an ask"), b.expect("an ask"));
        assert_ne!(text(&a.prompt), text(&b.prompt));
        assert_eq!(
            (a.target_prompt_tokens, a.max_tokens, a.session),
            (b.target_prompt_tokens, b.max_tokens, b.session)
        );
    }
}
