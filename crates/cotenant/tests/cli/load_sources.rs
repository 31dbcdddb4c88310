//! What `cotenant load` sends beyond single requests of one model: sessions, several models, rates of windows.

use crate::loads::{load, only_folder, paced, server};
use crate::room::json_lines;
use cotenant_token_server::{Fault, Options};
use std::collections::BTreeMap;

const SHORT: [&str; 6] = ["--output-tokens", "6", "--prompt-tokens", "10", "--vocabulary", "words"];

fn number(v: &serde_json::Value, key: &str) -> u64 {
    v[key].as_u64().unwrap_or_default()
}

#[test]
fn turns_of_a_session_carry_what_was_said_before() {
    let server = server(paced());
    for (how, sessions, requests) in [
        (["--concurrency", "3", "--requests", "24"], 8..=10, 24),
        (["--rate", "200", "--requests", "10"], 10..=10, 30),
    ] {
        let out = tempfile::tempdir().expect("a folder");
        let turns = ["--turns", "3", "--turn-think", "0.01"];
        let (code, said, err) = load(&server.url(), out.path(), &[&SHORT[..], &turns, &how].concat());
        assert_eq!(code, 0, "{said}{err}");
        assert!(said.contains("sessions of 3 turns, 0.01 s between them, each of 10 tokens"), "{said}");
        let all = json_lines(&only_folder(out.path()).join("requests.jsonl"));
        assert_eq!(all.len(), requests);
        let mut by_session: BTreeMap<u64, Vec<&serde_json::Value>> = BTreeMap::new();
        for r in &all {
            by_session.entry(r["session"].as_u64().expect("a session")).or_default().push(r);
        }
        // Of a closed loop the last sessions are cut off where the requests end.
        assert!(sessions.contains(&by_session.len()), "{}", by_session.len());
        for turns in by_session.values_mut() {
            turns.sort_by_key(|r| number(r, "tag"));
            let mut before: Option<&serde_json::Value> = None;
            for (turn, r) in (0u64..).zip(turns.iter()) {
                assert_eq!(number(r, "tag"), turn);
                // Ten tokens of each turn, six of each answer.
                assert_eq!(number(r, "prompt_tokens"), 10 * (turn + 1) + 6 * turn, "{r}");
                if let Some(b) = before {
                    assert_eq!(number(r, "intended_ns"), number(b, "end_ns") + 10_000_000);
                }
                before = Some(r);
            }
        }
    }
}

#[test]
fn a_session_whose_turn_fails_ends_and_the_load_too() {
    let server = server(Options { faults: vec![Fault::Garbage { every: 3 }], ..paced() });
    let out = tempfile::tempdir().expect("a folder");
    let how = ["--turns", "4", "--rate", "200", "--requests", "6"];
    let (code, said, err) = load(&server.url(), out.path(), &[&SHORT[..], &how].concat());
    assert_eq!(code, 1, "{said}{err}");
    let all = json_lines(&only_folder(out.path()).join("requests.jsonl"));
    assert!((6..24).contains(&all.len()), "{} requests", all.len());
}

#[test]
fn requests_are_drawn_for_models_by_weight() {
    let server = server(Options { adapters: vec!["fr".into(), "de".into()], ..paced() });
    let out = tempfile::tempdir().expect("a folder");
    let how = ["--concurrency", "8", "--requests", "400", "--models", "fr=3,simulated=1"];
    let (code, said, err) = load(&server.url(), out.path(), &[&SHORT[..], &how].concat());
    assert_eq!(code, 0, "{said}{err}");
    let folder = only_folder(out.path());
    let manifest: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("load.json")).expect("kept"))
            .expect("JSON");
    assert_eq!(manifest["models"], serde_json::json!(["fr", "simulated"]));
    let all = json_lines(&folder.join("requests.jsonl"));
    let fr = all.iter().filter(|r| r["model"] == 0).count();
    assert_eq!(all.iter().filter(|r| r["model"] == 1).count(), 400 - fr);
    assert!((250..350).contains(&fr), "{fr}");

    // Lines of a file name theirs; one that is not served is refused by the server, and counted.
    let (room, out) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let prompts = room.path().join("prompts.jsonl");
    std::fs::write(
        &prompts,
        "{\"prompt\": \"a\", \"model\": \"de\"}\n{\"prompt\": \"b\", \"model\": \"es\"}\n",
    )
    .expect("written");
    let file = prompts.to_str().expect("a path");
    let (code, said, err) =
        load(&server.url(), out.path(), &["--concurrency", "1", "--requests", "4", "--prompts", file]);
    assert_eq!(code, 1, "{said}{err}");
    let all = json_lines(&only_folder(out.path()).join("requests.jsonl"));
    for r in &all {
        let status = if number(r, "model") == 0 { 200 } else { 404 };
        assert_eq!((number(r, "status"), number(r, "model")), (status, number(r, "index") % 2), "{r}");
    }
}

#[test]
fn requests_are_drawn_at_the_rates_of_windows() {
    let server = server(paced());
    let (room, out) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let file = room.path().join("chunk-0-trace.csv");
    std::fs::write(&file, "0,40,1.0,Gamma,1,0.025\n1,0,0,,0,0\n2,80,2.0,Gamma,0.25,0.05\n").expect("written");
    let path = file.to_str().expect("a path");
    let how = ["--trace", path, "--exact-rate", "--rate", "60", "--requests", "60"];
    let (code, said, err) = load(&server.url(), out.path(), &[&SHORT[..], &how].concat());
    assert_eq!(code, 0, "{said}{err}");
    assert!(said.contains("3 windows of 1 s with a rate each, multiplied to exactly 60/s"), "{said}");
    let all = json_lines(&only_folder(out.path()).join("requests.jsonl"));
    let at: Vec<u64> = all.iter().map(|r| number(r, "intended_ns")).collect();
    let (first, last) = (at.iter().min().expect("some"), at.iter().max().expect("some"));
    assert!((last - first).abs_diff(59 * 1_000_000_000 / 60) <= 60, "{}", last - first);
    // As recorded: 40 in the first second, none in the second.
    let out = tempfile::tempdir().expect("a folder");
    let how = ["--trace", path, "--duration", "1500ms"];
    let (code, said, err) = load(&server.url(), out.path(), &[&SHORT[..], &how].concat());
    assert_eq!(code, 0, "{said}{err}");
    let all = json_lines(&only_folder(out.path()).join("requests.jsonl"));
    assert_eq!(
        (all.len(), all.iter().filter(|r| number(r, "intended_ns") >= 1_000_000_000).count()),
        (40, 0)
    );
}

#[test]
fn what_does_not_go_together_is_told_before_anything_is_sent() {
    let server = server(paced());
    let room = tempfile::tempdir().expect("a folder");
    let path = |name: &str, text: &str| {
        let path = room.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("a path").to_owned()
    };
    let windows = path("windows.csv", "0,40,1.0,Gamma,1,0.025\n1,x,0,,0,0\n");
    let good = path("good.csv", "0,40,1.0,Gamma,1,0.025\n");
    let prompts = path("prompts.jsonl", "{\"prompt\": \"a\", \"model\": \"de\"}\n");
    for (args, said) in [
        (vec!["--concurrency", "2", "--turns", "zero"], "--turns `zero`"),
        (vec!["--concurrency", "2", "--turns", "2", "--mix", "short=1"], "--turns with --mix"),
        (vec!["--concurrency", "2", "--turns", "2", "--turn-think", "soon"], "--turn-think `soon`"),
        (vec!["--concurrency", "2", "--models", "a=1,a=2"], "each once"),
        (vec!["--concurrency", "2", "--models", "a=1", "--prompts", &prompts], "--models with --prompts"),
        (vec!["--trace", &windows], "line 2"),
        (vec!["--trace", &good, "--trace-part", "1/2"], "no requests to be parted"),
        (vec!["--rate", "2", "--exact-rate", "--duration", "3s"], "give --requests"),
    ] {
        let none = tempfile::tempdir().expect("a folder");
        let (code, _, err) = load(&server.url(), none.path(), &args);
        assert!(code != 0 && err.contains(said), "{args:?}: {code} {err}");
        assert_eq!(std::fs::read_dir(none.path()).expect("it is there").count(), 0, "{args:?}");
    }
}
