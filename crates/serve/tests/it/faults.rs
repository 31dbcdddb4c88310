//! What can go wrong: each is counted and named, and nothing hangs.

use super::*;
use cotenant_store::serving::FailureKind::{self, *};
use cotenant_token_server::Fault;
use std::io::{Read, Write};
use std::net::TcpListener;

/// Six requests to a server in which every third goes wrong: the other four are well.
fn every_third(fault: Fault, kind: FailureKind, said: &str) {
    let server = start(Server { faults: vec![fault.clone()], ..Server::default() });
    let all = records(Tenant { timeout_ns: 400_000_000, ..tenant(&server.url(), closed(1, 6, 8)) });
    assert_eq!(all.len(), 6);
    let failed: Vec<_> = all.iter().filter_map(|r| r.failure.clone()).collect();
    assert_eq!(failed.len(), 2, "{fault:?}: {failed:?}");
    for f in failed {
        assert_eq!(f.kind, kind, "{fault:?}: {f:?}");
        assert!(f.detail.contains(said), "{fault:?}: {f:?}");
    }
}

#[test]
fn statuses_are_counted_with_what_the_server_said() {
    every_third(Fault::Status { code: 429, every: 3, retry_after: Some(1) }, Status, "429");
    every_third(Fault::Status { code: 500, every: 3, retry_after: None }, Status, "500");
}

#[test]
fn redirects_are_not_followed() {
    every_third(Fault::Redirect { every: 3, to: "http://127.0.0.1:1/v1".into() }, Redirect, "127.0.0.1:1");
}

#[test]
fn broken_streams_are_named() {
    every_third(Fault::HalfJson { every: 3 }, ClosedEarly, "in the middle");
    every_third(Fault::CloseEarly { every: 3, after_tokens: 4 }, ClosedEarly, "after 4 chunks");
    every_third(Fault::ErrorEvent { every: 3, after_tokens: 2 }, ErrorEvent, "error");
}

#[test]
fn silence_ends_at_the_time_limit() {
    every_third(Fault::NoAnswer { every: 3 }, Timeout, "0.4 s");
}

/// What is answered to each connection, from raw bytes.
fn raw(answers: Vec<Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for answer in answers {
            let Ok((mut socket, _)) = listener.accept() else { return };
            let mut request = [0; 65536];
            let _ = socket.read(&mut request);
            let _ = socket.write_all(&answer);
        }
    });
    url
}

#[test]
fn what_is_no_stream_and_no_json_is_garbage() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: ";
    for (answer, kind, said) in [
        ("complete nonsense\r\n\r\n".to_owned(), Garbage, "no HTTP"),
        (format!("{head}text/event-stream\r\n\r\ndata: {{oops\n\n"), Garbage, "no JSON"),
        (format!("{head}application/json\r\ncontent-length: 5\r\n\r\n{{\"a\":"), Garbage, "no JSON"),
        (format!("{head}text/event-stream\r\n\r\ndata: [DONE]\n\n"), Empty, "no content"),
        (
            format!("{head}text/event-stream\r\ncontent-length: 99\r\n\r\ndata: {{}}\n\n"),
            ClosedEarly,
            "middle",
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n".to_owned(), Garbage, "size"),
        (String::new(), ClosedEarly, "without an answer"),
    ] {
        let all = records(tenant(&raw(vec![answer.clone().into_bytes()]), closed(1, 1, 4)));
        let failure = all[0].failure.clone().expect(&answer);
        assert_eq!(failure.kind, kind, "{answer}: {failure:?}");
        assert!(failure.detail.contains(said), "{answer}: {failure:?}");
    }
}

/// A server that says the key back: no detail has it, nor the begin of it where the text is cut.
#[test]
fn what_a_failure_quotes_is_without_the_key() {
    let headers = [("authorization".to_owned(), "Bearer sk-secret-key".to_owned())];
    let event = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ";
    let pad = "x".repeat(285);
    for answer in [
        format!("HTTP/1.1 401 No\r\n\r\n{pad} sk-secret-key"),
        "HTTP/1.1 307 No\r\nlocation: /sk-secret-key\r\ncontent-length: 0\r\n\r\n".to_owned(),
        format!("{event}{{\"error\": \"sk-secret-key\"}}\n\n"),
        format!("{event}sk-secret-key\n\n"),
        "HTTP/1.1 200 OK\r\n\r\nsk-secret-key".to_owned(),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{} sk-secret-key\r\n", "y".repeat(30)),
    ] {
        let url = raw(vec![answer.clone().into_bytes()]);
        let target = Target::new(&Url::parse(&url).expect("a URL"), "/v1/x", &headers).expect("a target");
        let all = records(Tenant { target, ..tenant(&url, closed(1, 1, 4)) });
        let failure = all[0].failure.clone().expect(&answer);
        assert!(!failure.detail.contains("sk-s"), "{answer}: {failure:?}");
        assert!(failure.detail.contains("***"), "{answer}: {failure:?}");
    }
}

#[test]
fn nobody_there_is_a_failed_connection() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let all = records(tenant(&format!("http://{free}"), closed(2, 4, 4)));
    assert_eq!(all.len(), 4);
    for r in all {
        let failure = r.failure.clone().expect("nobody there");
        assert_eq!((failure.kind, r.sent_ns, r.status), (Connect, None, 0), "{failure:?}");
        assert!(failure.detail.contains("refused"), "{failure:?}");
    }
}

/// A server closes a connection that it kept open, just when the next request is on its way: it is sent again once.
#[test]
fn a_stale_connection_is_no_failure_of_the_request() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let server = std::thread::spawn(move || {
        let body = r#"{"choices":[{"text":"x","finish_reason":null}]}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        for _ in 0..2 {
            let (mut socket, _) = listener.accept().expect("a connection");
            let mut request = [0; 65536];
            let _ = socket.read(&mut request);
            let _ = socket.write_all(answer.as_bytes());
            // Takes the next request, says nothing, and closes.
            let _ = socket.read(&mut request);
        }
    });
    let all = records(tenant(&url, closed(1, 2, 1)));
    server.join().expect("it ends");
    assert_eq!(all.len(), 2);
    assert!(all[0].ok() && !all[0].resent, "{:?}", all[0]);
    assert!(all[1].ok() && all[1].resent, "{:?}", all[1]);
}

#[test]
fn a_server_that_dies_in_the_middle_fails_what_is_under_way_and_what_follows() {
    let server = start(fixed(5.0, 20.0));
    let url = server.url();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(250));
        server.stop();
    });
    let all = records(tenant(&url, open(40, 20, 10)));
    killer.join().expect("it ends");
    assert_eq!(all.len(), 20);
    assert!(all.iter().any(RequestRecord::ok), "the first ones were well");
    let kinds: Vec<_> = all.iter().filter_map(|r| r.failure.as_ref().map(|f| f.kind)).collect();
    assert!(kinds.contains(&ClosedEarly) || kinds.contains(&Reset), "{kinds:?}");
    assert!(kinds.contains(&Connect), "{kinds:?}");
}

#[test]
fn the_end_of_the_phase_and_an_interrupt_give_up_what_is_under_way() {
    let server = start(fixed(5.0, 50.0));
    for (stop_at_ns, interrupt) in [(300_000_000, false), (u64::MAX, true)] {
        let mut engine = Engine::new(vec![tenant(&server.url(), closed(3, 30, 100))]).expect("an engine");
        let mut kinds = Vec::new();
        let mut sink =
            |_: usize, r: &RequestRecord, _: &[u64]| kinds.push(r.failure.as_ref().map(|f| f.kind));
        let clock = Clock::start();
        let stop = || interrupt && clock.now() > 200_000_000;
        let outcome = engine.run(clock, Options { stop_at_ns }, &mut sink, &stop).expect("it runs");
        assert_eq!(outcome.interrupted, interrupt);
        assert!(outcome.wall_ns < 3_000_000_000);
        assert_eq!(kinds, [Some(Cancelled); 3]);
    }
}
