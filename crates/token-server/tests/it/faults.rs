//! What goes wrong on purpose.

use crate::api::records;
use crate::client::{Client, chat_body};
use cotenant_token_server::{Fault, Handle, Options, Pace, now_ns, spawn};
use std::time::Duration;

fn with(fault: Fault) -> Handle {
    spawn(Options { faults: vec![fault], ..Options::default() }).unwrap()
}

#[test]
fn every_nth_request_gets_the_status() {
    let server = with(Fault::Status { code: 429, every: 3, retry_after: Some(7) });
    let mut client = Client::new(&server);
    for n in 1..=6 {
        let answer = client.chat(&chat_body(2, ""));
        assert_eq!(answer.status, if n % 3 == 0 { 429 } else { 200 });
        assert_eq!(answer.header("retry-after"), (n % 3 == 0).then_some("7"));
    }
    assert_eq!(
        records(&server, 6).iter().map(|t| t.status).collect::<Vec<_>>(),
        [200, 200, 429, 200, 200, 429]
    );
}

#[test]
fn garbage_is_no_text() {
    let server = with(Fault::Garbage { every: 1 });
    let answer = Client::new(&server).chat(&chat_body(2, ""));
    assert_eq!((answer.status, answer.complete), (200, true));
    assert!(std::str::from_utf8(&answer.body).is_err());
}

#[test]
fn half_an_event_is_followed_by_the_end() {
    let server = with(Fault::HalfJson { every: 1 });
    let answer = Client::new(&server).chat(&chat_body(2, ""));
    assert_eq!((answer.status, answer.complete), (200, false));
    let last = answer.text().rsplit("data: ").next().unwrap();
    assert!(last.starts_with('{') && serde_json::from_str::<serde_json::Value>(last).is_err());
    let whole = Client::new(&server).chat(&chat_body(2, "").replace("true", "false"));
    assert!(!whole.complete);
    assert!(serde_json::from_slice::<serde_json::Value>(&whole.body).is_err());
    let truth = records(&server, 2);
    assert!(truth.iter().all(|t| (t.first_token_ns, t.output_tokens) == (None, 0)), "{truth:?}");
}

#[test]
fn the_connection_closes_after_so_many_tokens() {
    let server = with(Fault::CloseEarly { every: 1, after_tokens: 3 });
    let answer = Client::new(&server).chat(&chat_body(9, ""));
    assert_eq!((answer.words(), answer.complete), (3, false));
    let answer = Client::new(&server).chat(&chat_body(2, ""));
    assert_eq!((answer.words(), answer.complete), (2, false));
    assert!(!answer.text().contains("[DONE]"));
    let mut client = Client::new(&server);
    client.write(crate::client::post("/v1/chat/completions", "", r#"{"messages":[{"content":"a"}]}"#));
    assert!(client.read().is_err(), "nothing is sent of an answer in one piece");
    assert_eq!(records(&server, 3).iter().map(|t| t.output_tokens).collect::<Vec<_>>(), [3, 2, 0]);
}

#[test]
fn an_error_in_mid_stream_is_an_event() {
    let server = with(Fault::ErrorEvent { every: 1, after_tokens: 3 });
    let mut client = Client::new(&server);
    let answer = client.chat(&chat_body(9, ""));
    assert_eq!((answer.words(), answer.complete), (3, true));
    assert_eq!(answer.events().last().unwrap()["error"]["code"], 500);
    assert_eq!(answer.payloads().last(), Some(&"[DONE]"));
    assert_eq!(client.chat(r#"{"messages":[{"content":"a"}]}"#).status, 500);
    assert_eq!(client.get("/stats").json()["completed"], 0);
}

#[test]
fn no_answer_is_silence_until_the_client_leaves() {
    let server = with(Fault::NoAnswer { every: 2 });
    let mut client = Client::new(&server);
    assert_eq!(client.chat(&chat_body(2, "")).status, 200);
    client.write(crate::client::post("/v1/chat/completions", "", &chat_body(2, "")));
    client.set_timeout(Duration::from_millis(100));
    let error = client.read().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    drop(client);
    let truth = records(&server, 2);
    assert_eq!((truth[1].status, truth[1].aborted, truth[1].first_token_ns), (0, true, None));
    assert_eq!(Client::new(&server).chat(&chat_body(2, "")).status, 200);
}

#[test]
fn a_redirect_says_where_to() {
    let server = with(Fault::Redirect { every: 1, to: "http://127.0.0.1:1/v1".to_owned() });
    let answer = Client::new(&server).chat(&chat_body(2, ""));
    assert_eq!((answer.status, answer.header("location")), (307, Some("http://127.0.0.1:1/v1")));
}

#[test]
fn a_frozen_server_lets_arrivals_wait_in_the_kernel() {
    let start = now_ns();
    let server = spawn(Options {
        faults: vec![Fault::Freeze { at: Duration::ZERO, length: Duration::from_millis(400) }],
        ..Options::default()
    })
    .unwrap();
    let mut client = Client::new(&server);
    let sent = now_ns();
    let answer = client.chat(&chat_body(2, ""));
    let end = now_ns();
    assert_eq!(answer.words(), 2);
    assert!(sent - start < 300_000_000, "the connection was not accepted by the kernel");
    assert!(end - start >= 400_000_000, "the server was not frozen");
    let t = &records(&server, 1)[0];
    assert!(t.arrival_ns - start >= 400_000_000, "an arrival is what the server has read");
    let again = now_ns();
    client.chat(&chat_body(2, ""));
    assert!(now_ns() - again < 300_000_000);
}

#[test]
fn a_server_stops_at_once_even_when_frozen_or_busy() {
    let freeze = Fault::Freeze { at: Duration::ZERO, length: Duration::from_secs(60) };
    let pace = Pace::Fixed { ttft: Duration::from_secs(60), itl: Duration::ZERO };
    for options in
        [Options { faults: vec![freeze], ..Options::default() }, Options { pace, ..Options::default() }]
    {
        let server = spawn(options).unwrap();
        let mut client = Client::new(&server);
        client.write(crate::client::post("/v1/chat/completions", "", &chat_body(2, "")));
        std::thread::sleep(Duration::from_millis(30));
        assert!(server.is_running());
        let start = now_ns();
        server.stop();
        assert!(now_ns() - start < 5_000_000_000);
    }
}
