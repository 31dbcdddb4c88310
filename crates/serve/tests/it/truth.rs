//! What the client says beside what the server did.

use super::*;
use cotenant_token_server::{Fault, Truth};
use std::collections::HashMap;

fn by_id(server: &Handle) -> HashMap<String, Truth> {
    server.truth().into_iter().filter_map(|t| Some((t.request_id.clone()?, t))).collect()
}

fn percentile(mut v: Vec<f64>, p: f64) -> f64 {
    v.sort_by(f64::total_cmp);
    v[((v.len() - 1) as f64 * p).round() as usize]
}

#[test]
fn stamps_are_what_the_server_did() {
    let server = start(Server { keep_chunks: true, ..fixed(20.0, 4.0) });
    let (got, outcome, clock) = drive(tenant(&server.url(), closed(16, 160, 20)));
    // The server notes the end of an answer after the client has read it.
    std::thread::sleep(Duration::from_millis(50));
    let truth = by_id(&server);
    assert_eq!((got.len(), truth.len()), (160, 160));
    let (mut ttft, mut chunk) = (Vec::new(), Vec::new());
    for (r, stamps) in &got {
        let t = &truth[&format!("cotenant-{}", r.index)];
        let real = |ns: u64| ns as f64 - clock.start_ns() as f64;
        let theirs = real(t.first_token_ns.expect("answered")) - real(t.arrival_ns);
        let ours = (r.first_content_ns.expect("answered") - r.sent_ns.expect("sent")) as f64;
        ttft.push((ours - theirs).abs() / 1e6);
        assert_eq!(stamps.len(), t.chunk_ns.len());
        chunk.extend(stamps.iter().zip(&t.chunk_ns).map(|(a, b)| (*a as f64 - real(*b)).abs() / 1e6));
    }
    // Bounds for a machine that does other things too; what is measured on a quiet one stands in docs/performance.md.
    assert!(percentile(ttft.clone(), 0.5) < 0.5, "{:?}", percentile(ttft, 0.5));
    assert!(percentile(chunk.clone(), 0.5) < 0.5, "{:?}", percentile(chunk, 0.5));
    assert!(outcome.busiest < 1.2);
}

/// A server that stands still for a while: who counts from the intended time sees all that were due meanwhile wait.
#[test]
fn a_freeze_shows_in_latency_from_the_intended_time_and_not_from_the_sending() {
    let freeze = Fault::Freeze { at: Duration::from_millis(700), length: Duration::from_millis(900) };
    let server = start(Server { faults: vec![freeze], ..fixed(15.0, 0.5) });
    // Places for four, as a client with a limit on what is in flight has.
    let all = records(Tenant { in_flight: 4, ..tenant(&server.url(), open(50, 100, 4)) });
    assert!(all.iter().all(RequestRecord::ok));
    let of = |f: fn(&RequestRecord) -> u64| percentile(all.iter().map(|r| f(r) as f64 / 1e6).collect(), 0.75);
    let intended = of(|r| r.end_ns - r.intended_ns);
    let sent = of(|r| r.end_ns - r.sent_ns.unwrap_or(0));
    assert!(intended > 150.0, "from the intended time: {intended} ms");
    assert!(sent < 100.0, "from the sending: {sent} ms");
    let capped = all.iter().filter(|r| r.capped).count();
    assert!((20..95).contains(&capped), "{capped} of 100 waited for a place");
    assert!(all.iter().all(|r| r.capped || r.lateness_ns().is_some_and(|l| l < 100_000_000)));
}

#[test]
fn an_open_loop_sends_when_it_should() {
    let server = start(fixed(5.0, 1.0));
    let all = records(Tenant { connections: 20, ..tenant(&server.url(), open(400, 400, 3)) });
    let late: Vec<f64> = all.iter().filter_map(|r| Some(r.lateness_ns()? as f64 / 1e6)).collect();
    assert_eq!(late.len(), 400);
    assert!(percentile(late.clone(), 0.5) < 1.0, "median {} ms late", percentile(late, 0.5));
}
