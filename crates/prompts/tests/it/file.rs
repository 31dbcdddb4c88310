//! Files of prompts.

use cotenant_prompts::{Asks, FileError, Message, Order, Prompt, PromptFile, Role};
use proptest::prelude::*;
use std::sync::Arc;

const FILE: &str = r#"{"prompt": "Once upon a time", "max_tokens": 12, "id": "story", "class": "short"}
{"messages": [{"role": "user", "content": "Hello"}], "class": "chat"}
{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hi."}, {"role": "user", "content": "Why?"}], "class": "short"}
{"prompt": "And you?", "system": "Answer in verse."}
"#;

fn refused(text: &str) -> String {
    PromptFile::parse(text).expect_err("refused").to_string()
}

#[test]
fn lines_become_asks_in_order_over_and_over() {
    let file = Arc::new(PromptFile::parse(FILE).expect("a file"));
    assert_eq!(file.entries()[0].id.as_deref(), Some("story"));
    let mut asks = Asks::file(Arc::clone(&file), Order::InOrder, 0, 64).expect("asks");
    assert_eq!(asks.classes(), ["short", "chat", "(no class)"]);
    let all: Vec<_> = (0..5).map(|_| asks.get().expect("an ask")).collect();
    assert_eq!(all.iter().map(|a| a.max_tokens).collect::<Vec<_>>(), [12, 64, 64, 64, 12]);
    assert_eq!(
        all.iter().map(|a| a.class).collect::<Vec<_>>(),
        [Some(0), Some(1), Some(0), Some(2), Some(0)]
    );
    assert_eq!(all[0].prompt, Prompt::Text("Once upon a time".into()));
    assert_eq!((all[4].index, &all[4].prompt), (4, &all[0].prompt));
    let message = |role, content: &str| Message { role, content: content.to_owned() };
    let verse = [message(Role::System, "Answer in verse."), message(Role::User, "And you?")];
    assert_eq!(all[3].prompt, Prompt::Messages(verse.into()));
}

#[test]
fn drawn_entries_depend_on_the_seed() {
    let file = Arc::new(PromptFile::parse(FILE).expect("a file"));
    let run = |seed| {
        let mut asks = Asks::file(Arc::clone(&file), Order::Drawn, seed, 64).expect("asks");
        (0..400).map(|_| asks.get().expect("an ask").prompt).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let first = run(1).iter().filter(|p| matches!(p, Prompt::Text(_))).count();
    assert!((65..135).contains(&first), "a quarter of 400: {first}");
}

#[test]
fn errors_name_line_field_and_what_would_be_right() {
    assert!(refused("").contains("the file has no prompts"));
    assert!(refused("\n\n").contains("the file has no prompts"));
    assert!(refused("{\"prompt\": \"a\"}\n\n{\"prompt\": \"b\"}").contains("line 2: the line is blank"));
    assert!(refused("// a comment\n{\"prompt\": \"a\"}").contains("line 1, character 1: not JSON"));
    assert!(refused("{\"prompt\": \"a\"}\n{\"prompt\": }").contains("line 2, character 12: not JSON"));
    assert!(refused("[1]").contains("line 1: there is a list; each line is an object"));
    assert!(refused("{}").contains("line 1: there is neither `prompt` nor `messages`"));
    assert!(
        refused("{\"prompt\": 5}").contains("line 1, field `prompt`: there is the number 5; it must be text")
    );
    assert!(refused("{\"prompt\": \" \"}").contains("there is empty text"));
    let both = "{\"prompt\": \"a\", \"messages\": [{\"role\": \"user\", \"content\": \"b\"}]}";
    assert!(refused(both).contains("there are `prompt` and `messages`; give one of them"));
    for tokens in ["0", "-1", "1.5", "\"12\"", "null", "99999999999"] {
        let e = refused(&format!("{{\"prompt\": \"a\", \"max_tokens\": {tokens}}}"));
        assert!(e.contains("field `max_tokens`") && e.contains("a whole number from 1"), "{e}");
    }
}

#[test]
fn unknown_fields_get_a_suggestion() {
    assert!(refused("{\"promt\": \"a\"}").contains("there is no field `promt`; did you mean `prompt`?"));
    let e = refused("{\"prompt\": \"a\", \"max_new_tokens\": 5}");
    assert!(e.contains("did you mean `max_tokens`?"), "{e}");
    let e = refused("{\"prompt\": \"a\", \"temperature\": 5}");
    assert!(
        e.contains("there are `prompt`, `messages`, `system`, `max_tokens`, `id`, `class`, `model`"),
        "{e}"
    );
    let e = refused("{\"messages\": [{\"roles\": \"user\", \"content\": \"b\"}]}");
    assert!(e.contains("no field `messages[0].roles`; did you mean `role`?"), "{e}");
}

#[test]
fn messages_are_looked_at_one_by_one() {
    assert!(refused("{\"messages\": \"a\"}").contains("field `messages`: there is the text \"a\""));
    assert!(refused("{\"messages\": []}").contains("there is an empty list; it must be a list, not empty"));
    assert!(refused("{\"messages\": [5]}").contains("field `messages[0]`: there is the number 5"));
    let e = refused("{\"messages\": [{\"role\": \"human\", \"content\": \"b\"}]}");
    assert!(
        e.contains("field `messages[0].role`: there is the text \"human\"; it must be `system`, `user`"),
        "{e}"
    );
    let e = refused("{\"messages\": [{\"role\": \"user\"}]}");
    assert!(e.contains("field `messages[0].content`: there is null; it must be text"), "{e}");
    let e = refused("{\"messages\": [{\"role\": \"assistant\", \"content\": \"b\"}]}");
    assert!(e.contains("field `messages[0].role`: there is a message that is not the user's"), "{e}");
    let e = refused(
        "{\"system\": \"a\", \"messages\": [{\"role\": \"system\", \"content\": \"b\"}, {\"role\": \"user\", \"content\": \"c\"}]}",
    );
    assert!(e.contains("there are `system` and a message with the role `system`"), "{e}");
}

#[test]
fn entries_may_ask_models_of_their_own() {
    let text = "{\"prompt\": \"a\", \"model\": \"fr\"}\n{\"prompt\": \"b\"}\n{\"prompt\": \"c\", \"model\": \"de\"}\n{\"prompt\": \"d\", \"model\": \"fr\"}\n";
    let file = PromptFile::parse(text).expect("a file");
    assert_eq!(file.models(), ["fr", "de"]);
    let asked = |i| file.ask(i, Order::InOrder, 1, 8).expect("an ask").model;
    assert_eq!((0..4).map(asked).collect::<Vec<_>>(), [Some(0), None, Some(1), Some(0)]);
    let e = PromptFile::parse("{\"prompt\": \"a\", \"model\": 3}\n").expect_err("refused").to_string();
    assert!(e.contains("line 1") && e.contains("`model`") && e.contains("the number 3"), "{e}");
}

#[test]
fn a_file_has_a_thousand_classes_at_most() {
    let text: String = (0..1001).map(|i| format!("{{\"prompt\": \"a\", \"class\": \"c{i}\"}}\n")).collect();
    let e = PromptFile::parse(&text).expect_err("refused");
    assert_eq!(e, FileError::Names { line: 1001, what: "classes", name: "c1000".to_owned() });
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_its_line(lines in prop::collection::vec("\\PC{0,30}", 1..5)) {
        let text = lines.join("\n");
        if let Err(e) = PromptFile::parse(&text) {
            prop_assert!(e == FileError::Empty || e.to_string().starts_with("line "));
        }
    }

    #[test]
    fn any_prompt_comes_through_as_it_is(prompt in "\\PC{0,40}[a-z]") {
        let line = serde_json::json!({ "prompt": prompt }).to_string();
        let file = PromptFile::parse(&line).expect("a file");
        prop_assert_eq!(&file.entries()[0].prompt, &Prompt::Text(prompt.into()));
    }
}
