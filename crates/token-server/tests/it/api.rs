//! What is answered to which request.

use crate::client::{Client, chat_body, post};
use cotenant_token_server::{Options, Truth, now_ns, spawn};
use serde_json::json;
use std::io::Read;
use std::time::Duration;

const CHAT: &str = "/v1/chat/completions";

#[test]
fn a_streaming_chat_has_role_content_usage_and_end() {
    let server = spawn(Options { keep_chunks: true, ..Options::default() }).unwrap();
    let before = now_ns();
    let body = chat_body(5, r#","stream_options":{"include_usage":true}"#);
    let mut client = Client::new(&server);
    client.write(post(CHAT, "X-Request-Id: r-1\r\n", &body));
    let answer = client.read().unwrap();
    let after = now_ns();
    assert_eq!((answer.status, answer.complete), (200, true));
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(answer.payloads().last(), Some(&"[DONE]"));
    let events = answer.events();
    assert_eq!(events.len(), 1 + 5 + 1);
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    for e in &events {
        assert_eq!(e["system_fingerprint"], "cotenant-token-server (simulated)");
        assert_eq!(e["id"], events[0]["id"]);
        assert_eq!(e["object"], "chat.completion.chunk");
    }
    assert_eq!(events[4]["choices"][0]["finish_reason"], json!(null));
    assert_eq!(events[5]["choices"][0]["finish_reason"], "length");
    assert_eq!(events[6]["choices"], json!([]));
    assert_eq!(events[6]["usage"], json!({"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}));
    assert_eq!(answer.words(), 5);

    // The record is made after the write that the client has seen.
    let truth = records(&server, 1);
    let t = &truth[0];
    assert_eq!((t.id, t.status, t.prompt_tokens, t.output_tokens, t.aborted), (1, 200, 3, 5, false));
    assert_eq!(t.request_id.as_deref(), Some("r-1"));
    assert_eq!(t.chunk_ns.len(), 5);
    assert_eq!((t.first_token_ns, t.last_token_ns), (Some(t.chunk_ns[0]), Some(t.chunk_ns[4])));
    assert!(before < t.arrival_ns && t.arrival_ns < t.chunk_ns[0]);
    assert!(t.chunk_ns[4] <= t.end_ns && t.arrival_ns < after);
}

/// Waits for so many records.
pub fn records(server: &cotenant_token_server::Handle, count: usize) -> Vec<Truth> {
    let mut all = Vec::new();
    for _ in 0..2000 {
        all.extend(server.truth());
        if all.len() >= count {
            return all;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{count} records expected, got {all:?}");
}

#[test]
fn an_answer_that_is_not_streamed_is_one_object() {
    let server = spawn(Options::default()).unwrap();
    let mut client = Client::new(&server);
    let v = client.chat(r#"{"messages":[{"role":"user","content":"a b"}],"max_completion_tokens":4}"#).json();
    assert_eq!(v["object"], "chat.completion");
    assert_eq!(v["choices"][0]["message"]["content"].as_str().unwrap().split_whitespace().count(), 4);
    assert_eq!(v["usage"], json!({"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}));
    let v = client.post("/v1/completions", r#"{"prompt":[1,2,3]}"#).json();
    assert_eq!(v["object"], "text_completion");
    assert_eq!(v["choices"][0]["text"].as_str().unwrap().split_whitespace().count(), 16);
    assert_eq!(v["choices"][0]["finish_reason"], "length");
    let stream = client.post("/v1/completions", r#"{"prompt":"x y","max_tokens":3,"stream":true}"#);
    assert_eq!((stream.words(), stream.events().len()), (3, 3));
    let truth = records(&server, 3);
    assert!(truth.iter().all(|t| t.first_token_ns.is_some() && t.last_token_ns.is_some()));
}

#[test]
fn a_connection_serves_many_requests_also_when_they_come_at_once() {
    let server = spawn(Options::default()).unwrap();
    let mut client = Client::new(&server);
    for n in 1..=20 {
        assert_eq!(client.chat(&chat_body(n, "")).words(), n as usize);
    }
    let many: String = (1..=20).map(|n| post(CHAT, "", &chat_body(n, ""))).collect();
    // In pieces that are no requests, so that boundaries of reads and of requests differ.
    for piece in many.as_bytes().chunks(701) {
        client.write(piece);
    }
    for n in 1..=20 {
        assert_eq!(client.read().unwrap().words(), n);
    }
    assert_eq!(client.get("/stats").json()["connections"], 1);
    assert_eq!(client.get("/stats").json()["completed"], 40);
}

#[test]
fn long_answers_and_long_prompts_pass_through_small_buffers() {
    let server = spawn(Options::default()).unwrap();
    let mut client = Client::new(&server);
    let words = "word ".repeat(60_000);
    let body = format!(r#"{{"prompt":"{words}","max_tokens":20000,"stream":true}}"#);
    let mut writer = Client::new(&server);
    writer.write(post("/v1/completions", "", &body));
    std::thread::sleep(Duration::from_millis(50));
    // While one client does not read its 4 MB, another is served.
    assert_eq!(client.chat(&chat_body(2, "")).words(), 2);
    let answer = writer.read().unwrap();
    assert_eq!((answer.words(), answer.complete), (20_000, true));
    let truth = records(&server, 2);
    assert_eq!(truth[1].prompt_tokens, 60_000);
    assert!(truth[1].first_token_ns < truth[1].last_token_ns);
    let body = format!(r#"{{"prompt":"{words}","max_tokens":1}}"#);
    writer
        .write("POST /v1/completions HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut told = [0; 25];
    writer.reader().read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    for piece in body.as_bytes().chunks(10_000) {
        writer.write(format!("{:x}\r\n", piece.len()));
        writer.write(piece);
        writer.write("\r\n");
    }
    writer.write("0\r\n\r\n");
    assert_eq!(writer.read().unwrap().json()["usage"]["prompt_tokens"], 60_000);
}

#[test]
fn old_clients_and_those_that_ask_for_it_are_closed_on() {
    let server = spawn(Options::default()).unwrap();
    let mut client = Client::new(&server);
    client.write(post(CHAT, "", &chat_body(3, "")).replace("HTTP/1.1", "HTTP/1.0"));
    let answer = client.read().unwrap();
    assert_eq!((answer.header("transfer-encoding"), answer.words()), (None, 3));
    let mut client = Client::new(&server);
    client.write(post(CHAT, "Connection: close\r\n", &chat_body(3, "")));
    let answer = client.read().unwrap();
    assert_eq!((answer.header("connection"), answer.complete), (Some("close"), true));
    assert!(client.read().is_err());
}

#[test]
fn requests_that_cannot_be_served_say_why() {
    let server = spawn(Options {
        max_model_len: 20,
        adapters: vec!["tuned".to_owned()],
        api_key: Some("secret".to_owned()),
        ..Options::default()
    })
    .unwrap();
    let mut client = Client::new(&server);
    let mut ask = |key: &str, body: &str| {
        client.write(post(CHAT, &format!("Authorization: {key}\r\n"), body));
        let answer = client.read().unwrap();
        let error = if answer.status == 200 { json!(null) } else { answer.json()["error"].clone() };
        (answer.status, error)
    };
    let good = chat_body(2, "");
    for key in ["", "secret", "Bearer ", "Bearer secrets", "Basic secret"] {
        assert_eq!(ask(key, &good).0, 401, "{key}");
    }
    assert_eq!(ask("Bearer secret", &good).0, 200);
    assert_eq!(ask("bearer secret", &good.replace("simulated", "tuned")).0, 200);
    let (status, error) = ask("Bearer secret", &good.replace("simulated", "other"));
    assert_eq!((status, &error["code"], &error["param"]), (404, &json!(404), &json!("model")));
    assert_eq!(error["message"], "The model `other` does not exist.");
    let (status, error) = ask("Bearer secret", &chat_body(18, ""));
    assert_eq!((status, &error["type"]), (400, &json!("BadRequestError")));
    assert!(
        error["message"].as_str().unwrap().starts_with("This model's maximum context length is 20 tokens")
    );
    assert_eq!(ask("Bearer secret", &chat_body(17, "")).0, 200);
    for bad in ["", "{", "[]", r#"{"messages":[{"content":"a"}],"max_tokens":-1}"#, "{\"messages\":3}"] {
        let (status, error) = ask("Bearer secret", bad);
        assert_eq!((status, error["code"].clone()), (400, json!(400)), "{bad}");
    }
    assert_eq!(client.get("/v1/models").status, 401);
    assert_eq!(client.get("/health").status, 200);
    assert_eq!(client.get("/nowhere").status, 404);
    assert_eq!(client.get(CHAT).status, 405);
    let refused = records(&server, 15);
    assert_eq!(refused.iter().filter(|t| t.status == 401).count(), 5);
    client.write("\x16\x03\x01 TLS?\r\n\r\n");
    assert_eq!(client.read().unwrap().status, 400);
    assert!(client.read().is_err());
}

#[test]
fn the_other_paths_answer() {
    let server = spawn(Options {
        adapters: vec!["tuned".to_owned()],
        ready_after: Duration::from_millis(400),
        ..Options::default()
    })
    .unwrap();
    let mut client = Client::new(&server);
    assert_eq!(client.get("/health").status, 503);
    let models = client.get("/v1/models?x=y").json();
    assert_eq!((&models["data"][0]["id"], &models["data"][1]["id"]), (&json!("simulated"), &json!("tuned")));
    assert_eq!(models["data"][1]["parent"], "simulated");
    assert!(client.get("/version").json()["version"].is_string());
    client.chat(&chat_body(7, ""));
    client.chat(&chat_body(2, ""));
    let metrics = client.get("/metrics");
    for line in [
        "vllm:num_requests_running{model_name=\"simulated\"} 0.0",
        "vllm:num_requests_waiting{model_name=\"simulated\"} 0.0",
        "vllm:kv_cache_usage_perc{model_name=\"simulated\"} 0.0",
        "vllm:num_preemptions_total{model_name=\"simulated\"} 0.0",
        "vllm:prompt_tokens_total{model_name=\"simulated\"} 6.0",
        "vllm:generation_tokens_total{model_name=\"simulated\"} 9.0",
        "vllm:request_success_total{model_name=\"simulated\",finished_reason=\"length\"} 2.0",
    ] {
        assert!(metrics.text().lines().any(|l| l == line), "{line}\n{}", metrics.text());
    }
    let lines = client.get("/truth");
    let truth: Vec<Truth> = lines.text().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(truth.iter().map(|t| t.output_tokens).collect::<Vec<_>>(), [7, 2]);
    assert_eq!(client.get("/truth").text(), "");
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(client.get("/health").status, 200);
}
