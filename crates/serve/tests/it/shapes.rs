//! Streams of every shape that servers are known to send.

use super::*;
use cotenant_store::serving::{FailureKind, Finish};
use cotenant_token_server::{RoleChunk, Shape, Usage};

#[test]
fn a_closed_loop_gets_all_its_tokens_over_few_connections() {
    let server = start(Server::default());
    let (got, outcome, _) = drive(tenant(&server.url(), closed(8, 200, 32)));
    assert_eq!(got.len(), 200);
    for (i, (r, stamps)) in got.iter().enumerate() {
        assert!(r.ok(), "{r:?}");
        check_order(r);
        assert_eq!((r.index, r.output_tokens, r.chunks, r.by_chunks), (i as u64, 32, 32, false));
        assert_eq!((r.status, r.finish, r.prompt_tokens), (200, Some(Finish::Length), Some(5)));
        assert_eq!(stamps.len(), 32);
        assert!(stamps.is_sorted());
        assert_eq!(
            (stamps.first().copied(), stamps.last().copied()),
            (r.first_content_ns, r.last_content_ns)
        );
    }
    assert_eq!(outcome.peak_in_flight, 8);
    assert!(got.iter().filter(|(r, _)| r.connected).count() <= 8);
    assert!(!outcome.interrupted && outcome.cpu_ns > 0 && outcome.wall_ns > 0);
}

#[test]
fn an_early_role_chunk_and_a_late_finish_are_no_content() {
    let shape = Shape {
        role_chunk: RoleChunk::Early,
        finish_chunk: true,
        tail: Duration::from_millis(60),
        ..Shape::default()
    };
    let server = start(Server { shape, ..fixed(80.0, 5.0) });
    let all = records(tenant(&server.url(), closed(1, 5, 8)));
    for r in &all {
        assert!(r.ok(), "{r:?}");
        check_order(r);
    }
    // A busy machine stamps single chunks late, which makes a time before one longer and the time behind it shorter: of
    // five requests the least is held against what it must not exceed, and the most against what it must not fall below.
    let range = |f: fn(&RequestRecord) -> u64| {
        let ms = || all.iter().map(|r| f(r) as f64 / 1e6);
        (ms().fold(f64::INFINITY, f64::min), ms().fold(0.0, f64::max))
    };
    let chunk = range(|r| r.first_chunk_ns.unwrap_or(0) - r.sent_ns.unwrap_or(0));
    let content = range(|r| r.first_content_ns.unwrap_or(0) - r.sent_ns.unwrap_or(0));
    let between = range(|r| r.last_content_ns.unwrap_or(0) - r.first_content_ns.unwrap_or(0));
    let tail = range(|r| r.end_ns - r.last_content_ns.unwrap_or(0));
    assert!(chunk.0 < 40.0, "first chunk after {chunk:?} ms");
    assert!(content.0 < 120.0 && content.1 >= 79.0, "first content after {content:?} ms");
    assert!(between.0 < 60.0 && between.1 >= 34.0, "seven tokens in {between:?} ms");
    assert!(tail.0 < 100.0 && tail.1 >= 59.0, "a tail of {tail:?} ms");
}

#[test]
fn several_tokens_in_a_chunk_are_counted_by_usage() {
    let server =
        start(Server { shape: Shape { tokens_per_chunk: 4, ..Shape::default() }, ..Server::default() });
    for r in records(tenant(&server.url(), closed(1, 3, 32))) {
        assert_eq!((r.ok(), r.output_tokens, r.chunks, r.by_chunks), (true, 32, 8, false), "{r:?}");
    }
}

#[test]
fn without_usage_tokens_are_chunks_and_say_so() {
    let server =
        start(Server { shape: Shape { usage: Usage::Never, ..Shape::default() }, ..Server::default() });
    for r in records(tenant(&server.url(), closed(1, 3, 16))) {
        assert_eq!((r.ok(), r.output_tokens, r.by_chunks, r.prompt_tokens), (true, 16, true, None), "{r:?}");
    }
}

#[test]
fn awkward_streams_are_read_all_the_same() {
    let plain = Shape::default();
    for shape in [
        Shape { done: false, usage_in_finish: true, ..plain.clone() },
        Shape { write_bytes: Some(1), ..plain.clone() },
        Shape { write_bytes: Some(7), crlf: true, comments: true, ..plain.clone() },
        Shape { pad_bytes: 1 << 20, ..plain.clone() },
        Shape { coalesce: false, finish_chunk: true, ..plain.clone() },
        Shape { role_chunk: RoleChunk::None, coalesce: true, ..plain },
    ] {
        let server = start(Server { shape: shape.clone(), ..Server::default() });
        for r in records(tenant(&server.url(), closed(2, 4, 6))) {
            assert!(r.ok() && r.output_tokens == 6, "{shape:?}: {r:?}");
            check_order(&r);
        }
    }
}

#[test]
fn an_answer_that_is_no_stream_comes_at_its_end() {
    let server = start(Server::default());
    let source = Closed::new(bodies(9, false), 1, 0, 2, u64::MAX);
    for r in records(tenant(&server.url(), Box::new(source))) {
        assert_eq!(
            (r.ok(), r.output_tokens, r.chunks, r.finish),
            (true, 9, 1, Some(Finish::Length)),
            "{r:?}"
        );
        assert_eq!(r.first_content_ns, Some(r.end_ns));
        check_order(&r);
    }
}

#[test]
fn think_time_keeps_users_apart() {
    let server = start(Server::default());
    let source = Closed::new(bodies(2, true), 1, 20_000_000, 4, u64::MAX);
    let all = records(tenant(&server.url(), Box::new(source)));
    for pair in all.windows(2) {
        assert_eq!(pair[1].intended_ns, pair[0].end_ns + 20_000_000);
        assert!(pair[1].sent_ns >= Some(pair[1].intended_ns));
    }
}

#[test]
fn the_text_is_kept_where_it_is_asked_for() {
    struct Keeps<S>(S, std::rc::Rc<std::cell::RefCell<Vec<String>>>);
    impl<S: Source> Source for Keeps<S> {
        fn due(&mut self) -> cotenant_serve::Due {
            self.0.due()
        }
        fn take(&mut self, body: &mut Vec<u8>) -> cotenant_serve::Request {
            self.0.take(body)
        }
        fn ended(&mut self, record: &RequestRecord, text: &str, now_ns: u64) {
            self.1.borrow_mut().push(text.to_owned());
            self.0.ended(record, text, now_ns);
        }
    }
    let server = start(Server::default());
    let texts = std::rc::Rc::default();
    let inner = Closed::new(bodies(5, true), 1, 0, 2, u64::MAX);
    let source = Keeps(inner, std::rc::Rc::clone(&texts));
    let all = records(Tenant { keep_text: true, ..tenant(&server.url(), Box::new(source)) });
    assert!(all.iter().all(RequestRecord::ok));
    let texts = texts.borrow();
    assert_eq!(texts.len(), 2);
    assert!(texts.iter().all(|t| t.split_whitespace().count() == 5), "{texts:?}");
}

#[test]
fn two_servers_are_driven_on_one_clock() {
    let (a, b) = (start(fixed(10.0, 1.0)), start(fixed(10.0, 1.0)));
    let tenants = vec![tenant(&a.url(), open(200, 100, 3)), tenant(&b.url(), closed(4, 50, 3))];
    let mut engine = Engine::new(tenants).expect("an engine");
    let mut counts = [0; 2];
    let mut sink = |who: usize, r: &RequestRecord, _: &[u64]| {
        assert!(r.ok(), "{r:?}");
        counts[who] += 1;
    };
    engine.run(Clock::start(), Options { stop_at_ns: u64::MAX }, &mut sink, &|| false).expect("it runs");
    assert_eq!(counts, [100, 50]);
}

/// A pause within an answer lies in one gap between stamps; a time limit shorter than it ends the request and keeps what had come.
#[test]
fn a_pause_within_an_answer_is_one_gap_or_the_end() {
    let shape = || Shape { stall: Some((5, Duration::from_millis(600))), ..Shape::default() };
    let server = start(Server { shape: shape(), ..fixed(10.0, 4.0) });
    let (got, ..) = drive(tenant(&server.url(), closed(2, 6, 12)));
    assert_eq!(got.len(), 6);
    for (r, stamps) in &got {
        assert!(r.ok() && stamps.len() == 12, "{r:?}");
        let gaps: Vec<u64> = stamps.windows(2).map(|w| w[1] - w[0]).collect();
        let longest = gaps.iter().max().copied();
        // The kernel's stamps and the server's timer agree to far less than what a busy machine adds.
        assert!((595_000_000..800_000_000).contains(&gaps[4]) && longest == Some(gaps[4]), "{gaps:?}");
    }

    let server = start(Server { shape: shape(), ..fixed(10.0, 4.0) });
    let (got, ..) = drive(Tenant { timeout_ns: 300_000_000, ..tenant(&server.url(), closed(2, 6, 12)) });
    assert_eq!(got.len(), 6);
    for (r, stamps) in &got {
        let failure = r.failure.as_ref().map(|f| (f.kind, f.detail.as_str()));
        assert_eq!(failure, Some((FailureKind::Timeout, "not complete within 0.3 s")));
        // Tokens are counted by chunks: the usage comes at the end.
        assert_eq!((r.chunks, stamps.len(), r.output_tokens, r.by_chunks), (5, 5, 5, true), "{r:?}");
        assert_eq!(
            (r.first_content_ns, r.last_content_ns),
            (stamps.first().copied(), stamps.last().copied())
        );
        let took = r.end_ns - r.sent_ns.unwrap_or(0);
        assert!((295_000_000..500_000_000).contains(&took), "{took}");
    }
}
