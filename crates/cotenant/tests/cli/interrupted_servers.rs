//! A run with servers that is interrupted or killed leaves none of them, and is continued to the same records as any other.

use crate::room::{Room, json_lines};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Requests of each tenant in a phase of the long trial.
const REQUESTS: u64 = 20;

/// Two trials of two servers: the first is soon over.
fn two_trials() -> String {
    let mut text = String::from(
        "format = 1\nname = \"servers\"\ntitle = \"Servers\"\nsummary = \"x\"\n[measure]\nrepeats = [2, 2]\ntraced = 0\n",
    );
    for name in ["a", "b"] {
        text.push_str(&format!(
            "[tenants.{name}]\nserver = {{ preset = \"token-server\", args = [\"--ttft\", \"20ms\", \"--itl\", \"4ms\"], \
             start_together = true }}\n\
             load = {{ concurrency = 2, requests = {REQUESTS}, warmup = 2, prompt_tokens = 20, output_tokens = 16 }}\n"
        ));
    }
    text.push_str(
        "[[trial]]\nname = \"short\"\nsharing = \"processes\"\nprotocol = \"steady\"\n\
         tenants = [{ use = \"a\", load = { requests = 4 } }]\n\
         [[trial]]\nname = \"long\"\nsharing = \"processes\"\nprotocol = \"steady\"\ntenants = [\"a\", \"b\"]\n",
    );
    text
}

/// Waits until something is so.
#[track_caller]
fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "not within 60 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The run, ended by a signal within the second repeat of its second trial.
fn cut_off(room: &Room, signal: Signal) -> PathBuf {
    room.file("servers.toml", &two_trials());
    let mut child = room.start(&["run", "servers.toml", "--device", "host", "--quiet"]);
    let read = |file: &str| {
        let run = room.runs().into_iter().next();
        run.and_then(|r| fs::read_to_string(r.join(file)).ok()).unwrap_or_default()
    };
    wait_until("the first repeat of the long trial", || read("repeats.jsonl").contains("\"long\""));
    kill_process(Pid::from_raw(child.id() as i32).expect("a process id"), signal).expect("signal");
    let status = child.wait().expect("wait");
    assert_eq!(status.code(), if signal == Signal::INT { Some(130) } else { None });
    wait_until("its servers end with it", || room.processes().is_empty());
    assert!(!read("outcomes.jsonl").contains("\"long\""), "it was over before it was cut off");
    room.runs().remove(0)
}

/// Resumes, and demands that each trial is whole, once, in one attempt that none of the requests of another is counted to.
#[track_caller]
fn resumes_to_whole_trials(room: &Room, run: &Path) {
    room.cotenant(&["run", "--resume", run.to_str().expect("UTF-8"), "--quiet"]).exits(0);
    assert_eq!(room.processes(), Vec::<String>::new(), "servers are left");
    let outcomes = json_lines(&run.join("outcomes.jsonl"));
    let told: Vec<_> =
        outcomes.iter().map(|o| (o["trial"].as_str(), o["status"].as_str(), o["attempt"].as_u64())).collect();
    assert_eq!(told, [(Some("short"), Some("done"), Some(1)), (Some("long"), Some("done"), Some(2)),]);
    let requests = json_lines(&run.join("requests.jsonl"));
    let of = |r: &Value| {
        let number = |key: &str| r[key].as_u64().unwrap_or(0);
        let text = |key: &str| r[key].as_str().unwrap_or_default().to_owned();
        (text("trial"), number("attempt"), number("repeat"), text("phase"), text("tenant"))
    };
    let mut seen = BTreeSet::new();
    let mut counts = BTreeMap::new();
    for r in &requests {
        assert!(seen.insert((of(r), r["index"].as_u64())), "twice: {r}");
        *counts.entry(of(r)).or_insert(0) += 1;
    }
    for repeat in 0..2 {
        for tenant in ["a", "b"] {
            let n = |phase: &str| {
                counts.get(&("long".into(), 2, repeat, phase.into(), tenant.into())).copied().unwrap_or(0)
            };
            assert_eq!(n("solo"), REQUESTS, "{tenant} alone, repeat {repeat}");
            assert!(n("shared") >= REQUESTS, "{tenant} shared, repeat {repeat}: {}", n("shared"));
        }
    }
    // The rows of what servers said belong to the same attempts.
    let said = fs::read_to_string(run.join("server-metrics.csv")).expect("what servers said");
    assert_eq!(said.matches("trial,attempt,").count(), 1, "one header");
    assert!(said.contains("\nlong,2,1,shared,b,"), "{said}");
    let summary: Value =
        serde_json::from_str(&fs::read_to_string(run.join("summary.json")).expect("a summary"))
            .expect("JSON");
    assert_eq!(
        (&summary["trials"][1]["status"], &summary["trials"][1]["repeats"]),
        (&"done".into(), &2.into())
    );
}

#[test]
fn an_interrupted_run_with_servers_resumes_to_whole_trials() {
    let room = Room::new();
    let run = cut_off(&room, Signal::INT);
    resumes_to_whole_trials(&room, &run);
}

#[test]
fn a_killed_run_with_servers_resumes_to_whole_trials_whatever_was_half_written() {
    let room = Room::new();
    let run = cut_off(&room, Signal::KILL);
    // As if it had been killed between the requests of a repeat and the repeat, within the last line of requests.
    let repeats = fs::read_to_string(run.join("repeats.jsonl")).expect("repeats");
    let kept: Vec<&str> = repeats.lines().filter(|l| !l.contains("\"long\"")).collect();
    fs::write(run.join("repeats.jsonl"), kept.join("\n") + "\n").expect("written");
    for file in ["requests.jsonl", "server-metrics.csv"] {
        let text = fs::read_to_string(run.join(file)).expect(file);
        let last = text.lines().last().expect("a line");
        let mut f = OpenOptions::new().append(true).open(run.join(file)).expect("opened");
        f.write_all(&last.as_bytes()[..last.len() / 2]).expect("written");
    }
    resumes_to_whole_trials(&room, &run);
}
