//! How streams are cut.

use crate::api::records;
use crate::client::{Answer, Client, chat_body, content_of};
use cotenant_token_server::{Options, Pace, RoleChunk, Shape, Usage, now_ns, spawn};
use serde_json::json;
use std::time::Duration;

fn with(shape: Shape) -> Options {
    Options { shape, ..Options::default() }
}

fn one(options: Options, body: &str) -> Answer {
    let server = spawn(options).unwrap();
    let answer = Client::new(&server).chat(body);
    assert!(answer.complete);
    answer
}

#[test]
fn an_early_role_comes_long_before_the_first_token() {
    let server = spawn(Options {
        pace: Pace::Fixed { ttft: Duration::from_millis(300), itl: Duration::ZERO },
        ..with(Shape { role_chunk: RoleChunk::Early, ..Shape::default() })
    })
    .unwrap();
    let mut client = Client::new(&server);
    let start = now_ns();
    let answer = client.chat(&chat_body(3, ""));
    assert_eq!(answer.events()[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(answer.times[0] - start < 200_000_000, "the role came late");
    assert!(answer.times[1] - start >= 300_000_000, "a token came early");
    let t = &records(&server, 1)[0];
    assert!(t.first_token_ns.unwrap() - t.arrival_ns >= 300_000_000, "the role is not content");
}

#[test]
fn no_role_no_done_and_no_usage_leave_only_content() {
    let shape = Shape { role_chunk: RoleChunk::None, done: false, usage: Usage::Never, ..Shape::default() };
    let answer = one(with(shape), &chat_body(3, r#","stream_options":{"include_usage":true}"#));
    assert_eq!((answer.payloads().len(), answer.words()), (3, 3));
}

#[test]
fn the_finish_comes_after_the_tail_with_the_usage_in_it() {
    let shape = Shape {
        finish_chunk: true,
        usage: Usage::Always,
        usage_in_finish: true,
        tail: Duration::from_millis(150),
        ..Shape::default()
    };
    let answer = one(with(shape.clone()), &chat_body(3, ""));
    let events = answer.events();
    assert_eq!(events.len(), 1 + 3 + 1);
    assert_eq!(events[3]["choices"][0]["finish_reason"], json!(null));
    assert_eq!(events[4]["choices"][0]["delta"], json!({}));
    assert_eq!(events[4]["choices"][0]["finish_reason"], "length");
    assert_eq!(events[4]["usage"]["completion_tokens"], 3);
    assert!(answer.times[4] - answer.times[3] > 100_000_000);
    let answer = one(with(Shape { finish_chunk: false, tail: Duration::ZERO, ..shape }), &chat_body(3, ""));
    let events = answer.events();
    assert_eq!(events.len(), 1 + 3);
    assert_eq!(events[3]["usage"]["completion_tokens"], 3);
    assert_eq!(
        (content_of(&events[3]).len(), &events[3]["choices"][0]["finish_reason"]),
        (5, &json!("length"))
    );
}

#[test]
fn however_it_is_cut_the_text_is_the_same() {
    let plain = one(with(Shape::default()), &chat_body(40, "")).content();
    assert_eq!(plain.split_whitespace().count(), 40);
    for shape in [
        Shape { write_bytes: Some(1), ..Shape::default() },
        Shape { write_bytes: Some(7), crlf: true, ..Shape::default() },
        Shape { coalesce: false, comments: true, ..Shape::default() },
        Shape { tokens_per_chunk: 3, ..Shape::default() },
        Shape { tokens_per_chunk: 100, finish_chunk: true, ..Shape::default() },
        Shape { pad_bytes: 1 << 20, role_chunk: RoleChunk::Early, ..Shape::default() },
    ] {
        let answer = one(with(shape.clone()), &chat_body(40, ""));
        assert_eq!(answer.content(), plain, "{shape:?}");
        assert_eq!(answer.text().contains("\r\n\r\n"), shape.crlf);
        assert_eq!(answer.text().matches(": ping\n\n").count() > 40, shape.comments);
        let contents = answer.events().iter().filter(|e| !content_of(e).is_empty()).count();
        assert_eq!(contents, 40_usize.div_ceil(shape.tokens_per_chunk as usize));
        assert!(answer.body.len() >= 40 * shape.pad_bytes);
    }
    let other = one(Options { seed: 2, ..Options::default() }, &chat_body(40, "")).content();
    assert_ne!(other, plain);
}

#[test]
fn events_that_are_not_coalesced_have_times_of_their_own() {
    let distinct = |coalesce| {
        let options = with(Shape { coalesce, ..Shape::default() });
        let server = spawn(Options { keep_chunks: true, ..options }).unwrap();
        Client::new(&server).chat(&chat_body(10, ""));
        let mut times = records(&server, 1).remove(0).chunk_ns;
        assert!(times.is_sorted() && times.len() == 10);
        times.dedup();
        times.len()
    };
    assert_eq!((distinct(true), distinct(false)), (1, 10));
}
