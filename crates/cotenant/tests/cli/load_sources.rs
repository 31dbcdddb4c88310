//! What `cotenant load` sends beyond single requests of one model: sessions, several models, rates of windows.

use crate::loads::{load, only_folder, paced, server};
use crate::room::{EXE, json_lines};
use cotenant_token_server::{Fault, Options};
use std::collections::BTreeMap;
use std::path::Path;

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
fn classes_of_a_mix_and_of_a_file_are_told_apart() {
    let server = server(paced());
    let (room, out) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let prompts = room.path().join("prompts.jsonl");
    let line = |class: &str, tokens: u32| format!("{{\"prompt\": \"a\", \"max_tokens\": {tokens}{class}}}\n");
    let text = line(", \"class\": \"brief\"", 2) + &line(", \"class\": \"wordy\"", 30) + &line("", 9);
    std::fs::write(&prompts, text).expect("written");
    let file = prompts.to_str().expect("a path");
    let how = ["--concurrency", "2", "--requests", "30", "--whole", "--prompts", file];
    let (code, said, err) = load(&server.url(), out.path(), &how);
    assert_eq!(code, 0, "{said}{err}");
    for part in ["by class, ms", "brief", "wordy", "(no class)"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let read = |folder: &Path, name: &str| -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(folder.join(name)).expect("written")).expect("JSON")
    };
    let folder = only_folder(out.path());
    assert_eq!(read(&folder, "load.json")["classes"], serde_json::json!(["brief", "wordy", "(no class)"]));
    let classes = read(&folder, "summary.json")["classes"].clone();
    let of = |i: usize| classes[i]["times"]["e2e"]["p50"]["value"].as_f64().expect("measured");
    assert_eq!([0, 1, 2].map(|i| number(&classes[i], "requests")), [10, 10, 10]);
    // 8 ms to the first token and 1 ms for each other one.
    assert!(of(0) >= 8.9 && of(2) >= 15.9 && of(1) >= 36.9 && of(0) < of(2) && of(2) < of(1), "{classes}");

    let out = tempfile::tempdir().expect("a folder");
    let mix =
        ["--concurrency", "8", "--requests", "40", "--mix", "short=1,medium=1", "--vocabulary", "words"];
    let (code, said, err) = load(&server.url(), out.path(), &mix);
    assert_eq!(code, 0, "{said}{err}");
    assert!(said.contains("by class, ms") && said.contains("medium"), "{said}");
    assert_eq!(
        read(&only_folder(out.path()), "load.json")["classes"],
        serde_json::json!(["short", "medium"])
    );
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

/// Rows of a schedule: number and time, ns.
fn schedule(folder: &Path) -> Vec<(u64, u64)> {
    let text = std::fs::read_to_string(folder.join("schedule.csv")).expect("there from the start");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("index,intended_s"));
    let row = |l: &str| {
        let (index, at) = l.split_once(',').expect("two cells");
        let (s, ns) = at.split_once('.').expect("nanoseconds");
        assert_eq!(ns.len(), 9, "{l}");
        let number = |t: &str| t.parse::<u64>().expect("a number");
        (number(index), number(s) * 1_000_000_000 + number(ns))
    };
    lines.map(row).collect()
}

#[test]
fn the_schedule_and_what_it_is_made_of_are_kept_before_the_first_request() {
    let server = server(paced());
    let (room, out) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let path = |name: &str, text: &str| {
        let path = room.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_str().expect("a path").to_owned()
    };
    let trace = path("trace.csv", "0,40,1.0,Gamma,1,0.025\n");
    let prompts = path("prompts.jsonl", "{\"prompt\": \"a\"}\n");
    let how = ["--trace", &trace, "--prompts", &prompts, "--duration", "900ms"];
    let (code, said, err) = load(&server.url(), out.path(), &[&["--output-tokens", "2"][..], &how].concat());
    assert_eq!(code, 0, "{said}{err}");
    let folder = only_folder(out.path());
    let mut sent: Vec<(u64, u64)> = json_lines(&folder.join("requests.jsonl"))
        .iter()
        .map(|r| (number(r, "index"), number(r, "intended_ns")))
        .collect();
    sent.sort_unstable();
    assert!(sent.len() > 20);
    assert_eq!(schedule(&folder), sent);
    let manifest = std::fs::read_to_string(folder.join("load.json")).expect("written");
    assert!(
        !manifest.contains(room.path().to_str().expect("a path")),
        "no folder of this machine: {manifest}"
    );
    let m: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    assert_eq!((m["duration_s"].as_f64(), m["requests"].as_u64()), (Some(0.9), None));
    // Of `printf '{"prompt": "a"}\n' | sha256sum`.
    let known = "8a8c2da9cd6156c411e04714ce81cde2425df195083077b23550021445caf826";
    let files = m["files"].as_array().expect("two files");
    let facts = |i: usize| (files[i]["option"].as_str(), files[i]["name"].as_str());
    assert_eq!(
        (facts(0), facts(1)),
        ((Some("--trace"), Some("trace.csv")), (Some("--prompts"), Some("prompts.jsonl")))
    );
    assert_eq!(files[1]["sha256"], known);

    // A load that is killed has the times that it did not come to.
    let out = tempfile::tempdir().expect("a folder");
    let mut c = std::process::Command::new(EXE);
    c.args(["load", &server.url(), "--rate", "20", "--duration", "60s", "--out"]).arg(out.path()).args(SHORT);
    let quiet = std::process::Stdio::null;
    let mut child = c.stdout(quiet()).stderr(quiet()).spawn().expect("it starts");
    std::thread::sleep(std::time::Duration::from_millis(1200));
    child.kill().expect("killed");
    child.wait().expect("it ends");
    let all = schedule(&only_folder(out.path()));
    assert!(all.len() > 900 && all.is_sorted_by_key(|r| r.1), "{}", all.len());

    // Users of a closed loop have no times of their own.
    let out = tempfile::tempdir().expect("a folder");
    let how = ["--concurrency", "2", "--requests", "4"];
    let (code, said, err) = load(&server.url(), out.path(), &[&SHORT[..], &how].concat());
    assert_eq!(code, 0, "{said}{err}");
    assert!(!only_folder(out.path()).join("schedule.csv").exists());
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
