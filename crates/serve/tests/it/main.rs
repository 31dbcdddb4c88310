//! The client against the token server: its records beside what the server knows it did, and everything that can go
//! wrong on the way.

mod faults;
mod shapes;
mod truth;

use cotenant_serve::{
    Api, Asked, BodyOptions, BodyWriter, Clock, Closed, Engine, Open, Options, Outcome, Source, Target,
    Tenant, Url,
};
use cotenant_store::serving::RequestRecord;
use cotenant_token_server::{Handle, Pace, spawn};
use std::time::Duration;

type Server = cotenant_token_server::Options;

/// A server with fixed times.
fn fixed(ttft_ms: f64, itl_ms: f64) -> Server {
    let ms = |ms: f64| Duration::from_secs_f64(ms / 1e3);
    Server { pace: Pace::Fixed { ttft: ms(ttft_ms), itl: ms(itl_ms) }, ..Server::default() }
}

fn start(options: Server) -> Handle {
    spawn(options).expect("a token server")
}

/// Writes bodies that ask for so many tokens.
fn bodies(tokens: u32, stream: bool) -> impl FnMut(u64, &mut Vec<u8>) -> (u32, u32) + Clone {
    let writer = BodyWriter::new(&BodyOptions {
        api: Api::Chat,
        model: "simulated".into(),
        stream,
        usage: true,
        ignore_eos: true,
        max_tokens_field: "max_tokens".into(),
        extra: serde_json::Map::new(),
    });
    move |_, out| {
        writer.write(Asked::Text("a b c d e"), tokens, out);
        (tokens, 0)
    }
}

/// `count` requests of `users`.
fn closed(users: u32, count: u64, tokens: u32) -> Box<dyn Source> {
    Box::new(Closed::new(bodies(tokens, true), users, 0, count, u64::MAX))
}

/// Requests at a constant rate.
fn open(per_s: u64, count: u64, tokens: u32) -> Box<dyn Source> {
    let times = (0..count).map(|i| i * 1_000_000_000 / per_s).collect();
    Box::new(Open::new(bodies(tokens, true), times))
}

fn tenant(url: &str, source: Box<dyn Source>) -> Tenant<'static> {
    let target = Target::new(&Url::parse(url).expect("a URL"), Api::Chat.path(), &[]).expect("a target");
    Tenant { target, source, in_flight: 1000, timeout_ns: 20_000_000_000, keep_text: false, connections: 0 }
}

/// Drives one tenant to its end: records with stamps, by index, and how it went.
fn drive(tenant: Tenant<'_>) -> (Vec<(RequestRecord, Vec<u64>)>, Outcome, Clock) {
    let mut engine = Engine::new(vec![tenant]).expect("an engine");
    let (clock, mut records) = (Clock::start(), Vec::new());
    let mut sink = |_: usize, r: &RequestRecord, stamps: &[u64]| records.push((r.clone(), stamps.to_vec()));
    let options = Options { stop_at_ns: 60_000_000_000 };
    let outcome = engine.run(clock, options, &mut sink, &|| false).expect("it runs");
    drop(engine);
    records.sort_by_key(|(r, _)| r.index);
    (records, outcome, clock)
}

fn records(tenant: Tenant<'_>) -> Vec<RequestRecord> {
    drive(tenant).0.into_iter().map(|(r, _)| r).collect()
}

/// Every time of a record is there and in order.
fn check_order(r: &RequestRecord) {
    let all = [
        Some(r.intended_ns),
        r.sent_ns,
        r.first_byte_ns,
        r.first_chunk_ns,
        r.first_content_ns,
        r.last_content_ns,
        Some(r.end_ns),
    ];
    let known: Vec<u64> = all.into_iter().flatten().collect();
    assert_eq!(known.len(), all.len(), "{r:?}");
    assert!(known.is_sorted(), "{r:?}");
}
