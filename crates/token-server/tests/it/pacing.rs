//! When tokens come.

use crate::api::records;
use crate::client::{Client, chat_body, post};
use cotenant_token_server::{
    Batching, Fault, Handle, LinearStep, Options, Pace, Shape, Truth, now_ns, spawn,
};
use std::sync::Arc;
use std::time::Duration;

const MS: u64 = 1_000_000;

fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values[values.len() / 2]
}

fn fixed(ttft_ms: u64, itl_ms: u64) -> Pace {
    Pace::Fixed { ttft: Duration::from_millis(ttft_ms), itl: Duration::from_millis(itl_ms) }
}

/// Sends bodies at once, one per connection, and waits for all answers.
fn at_once(server: &Handle, bodies: &[String]) -> Vec<Truth> {
    let mut clients: Vec<Client> = bodies.iter().map(|_| Client::new(server)).collect();
    for (client, body) in clients.iter_mut().zip(bodies) {
        client.write(post("/v1/chat/completions", "", body));
    }
    for client in &mut clients {
        assert!(client.read().unwrap().complete);
    }
    let mut truth = records(server, bodies.len());
    truth.sort_by_key(|t| t.id);
    truth
}

#[test]
fn tokens_keep_to_the_schedule_and_do_not_drift() {
    let server = spawn(Options { pace: fixed(50, 10), keep_chunks: true, ..Options::default() }).unwrap();
    let truth = at_once(&server, &vec![chat_body(50, ""); 4]);
    let mut late = Vec::new();
    for t in &truth {
        for (i, &at) in (0..).zip(&t.chunk_ns) {
            let due = t.arrival_ns + 50 * MS + i * 10 * MS;
            assert!(at >= due, "token {i} came early");
            late.push(at - due);
        }
        let last_quarter: Vec<u64> = late[late.len() - 12..].to_vec();
        assert!(median(last_quarter) < 5 * MS, "it drifts");
    }
    assert_eq!(late.len(), 200);
    assert!(median(late) < 2 * MS);
}

#[test]
fn the_client_sees_the_times_that_the_server_tells() {
    let server = spawn(Options { pace: fixed(20, 5), keep_chunks: true, ..Options::default() }).unwrap();
    let answer = Client::new(&server).chat(&chat_body(40, ""));
    let t = records(&server, 1).remove(0);
    // The first chunk is the role's.
    let after: Vec<u64> = answer.times[1..41].iter().zip(&t.chunk_ns).map(|(c, s)| c.abs_diff(*s)).collect();
    assert!(median(after) < 2 * MS);
}

#[test]
fn an_answer_in_one_piece_comes_when_its_last_token_is_due() {
    let server = spawn(Options { pace: fixed(20, 10), ..Options::default() }).unwrap();
    let start = now_ns();
    Client::new(&server).chat(&chat_body(10, "").replace("true", "false"));
    assert!(now_ns() - start >= 110 * MS);
    let t = &records(&server, 1)[0];
    assert_eq!(t.first_token_ns, t.last_token_ns);
}

#[test]
fn a_stall_moves_the_tokens_after_it() {
    let shape = Shape { stall: Some((5, Duration::from_millis(200))), ..Shape::default() };
    for pace in [fixed(10, 5), Pace::Unpaced, Pace::Batched(quick(64, 1000))] {
        let server =
            spawn(Options { pace, shape: shape.clone(), keep_chunks: true, ..Options::default() }).unwrap();
        let t = at_once(&server, &[chat_body(10, "")]).remove(0);
        let gaps: Vec<u64> = t.chunk_ns.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(gaps[4] >= 150 * MS, "{gaps:?}");
        assert!(median(gaps) < 50 * MS);
    }
}

#[test]
fn beyond_the_running_limit_requests_wait_for_their_turn() {
    let server = spawn(Options { pace: fixed(60, 0), running_limit: Some(1), ..Options::default() }).unwrap();
    let mut gone = Client::new(&server);
    gone.write(post("/v1/chat/completions", "", &chat_body(2, "")));
    while Client::new(&server).get("/stats").json()["running"] == 0 {}
    let mut left = Client::new(&server);
    left.write(post("/v1/chat/completions", "", &chat_body(2, "")));
    while Client::new(&server).get("/stats").json()["waiting"] == 0 {}
    // One that leaves while it waits, and one that leaves while it runs, hold nobody up.
    drop(left);
    drop(gone);
    records(&server, 2);
    let truth = at_once(&server, &vec![chat_body(3, ""); 4]);
    let mut firsts: Vec<u64> = truth.iter().filter_map(|t| t.first_token_ns).collect();
    firsts.sort_unstable();
    assert_eq!(firsts.len(), 4);
    assert!(firsts.windows(2).all(|w| w[1] - w[0] >= 59 * MS), "{firsts:?}");
    let stats = Client::new(&server).get("/stats").json();
    assert_eq!((&stats["running"], &stats["waiting"], &stats["aborted"]), (&0.into(), &0.into(), &2.into()));
}

/// Iterations of 1 ms.
fn quick(max_running: u32, kv_blocks: u32) -> Batching {
    let step = LinearStep {
        base_ns: 1e6,
        per_prefill_token_ns: 0.0,
        per_sequence_ns: 0.0,
        per_context_token_ns: 0.0,
    };
    Batching { max_running, kv_blocks, block_tokens: 4, max_batched_tokens: 64, step: Arc::new(step) }
}

#[test]
fn a_batch_shares_iterations() {
    let step = LinearStep {
        base_ns: 5e6,
        per_prefill_token_ns: 0.0,
        per_sequence_ns: 0.0,
        per_context_token_ns: 0.0,
    };
    let batching = Batching { step: Arc::new(step), ..quick(64, 1000) };
    let server =
        spawn(Options { pace: Pace::Batched(batching), keep_chunks: true, ..Options::default() }).unwrap();
    let truth = at_once(&server, &vec![chat_body(40, ""); 8]);
    let mut gaps = Vec::new();
    for t in &truth {
        assert_eq!(t.output_tokens, 40);
        assert!(t.chunk_ns[0] - t.arrival_ns >= 5 * MS);
        gaps.extend(t.chunk_ns.windows(2).map(|w| w[1] - w[0]));
    }
    let middle = median(gaps);
    assert!((3 * MS..8 * MS).contains(&middle), "{middle}");
}

#[test]
fn under_kv_pressure_sequences_are_preempted_and_still_end() {
    // 40 tokens a request are 10 blocks; 25 blocks hold two and a half.
    let server = spawn(Options { pace: Pace::Batched(quick(8, 25)), ..Options::default() }).unwrap();
    let truth = at_once(&server, &vec![chat_body(37, ""); 6]);
    assert!(truth.iter().all(|t| t.output_tokens == 37 && t.status == 200 && !t.aborted));
    let mut client = Client::new(&server);
    let metrics = client.get("/metrics");
    let value = |name: &str| {
        let line = metrics.text().lines().find(|l| l.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("vllm:num_preemptions_total") >= 1.0);
    assert_eq!((value("vllm:kv_cache_usage_perc"), value("vllm:num_requests_running")), (0.0, 0.0));
    assert_eq!(client.chat(&chat_body(200, "")).status, 400, "it would never fit");
    // A client that leaves gives its blocks back.
    client.write(post("/v1/chat/completions", "", &chat_body(90, "")));
    drop(client);
    records(&server, 2);
    assert_eq!(at_once(&server, &[chat_body(90, "")])[0].output_tokens, 90);
}

#[test]
fn a_freeze_in_mid_stream_is_caught_up_with() {
    let freeze = Fault::Freeze { at: Duration::from_millis(100), length: Duration::from_millis(250) };
    let server =
        spawn(Options { pace: fixed(10, 10), faults: vec![freeze], keep_chunks: true, ..Options::default() })
            .unwrap();
    let t = at_once(&server, &[chat_body(60, "")]).remove(0);
    let widest = t.chunk_ns.windows(2).map(|w| w[1] - w[0]).max().unwrap();
    assert!(widest >= 200 * MS, "{widest}");
    let last_due = t.arrival_ns + 10 * MS + 59 * 10 * MS;
    assert!(t.last_token_ns.unwrap() - last_due < 100 * MS, "the schedule moved");
}
