//! A run with programs that is interrupted or killed leaves no process and no file of theirs, and touches nobody
//! else's.

use crate::programs::{experiment, good};
use crate::room::Room;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Two trials: the first is soon over, the second lasts longer than any test waits.
fn long(room: &Room) {
    let tenants = [
        ("fast", good(1) + "\niterations = 5\nwarmup = 1"),
        ("slow", good(20) + "\niterations = 3000\nwarmup = 0"),
    ];
    let tenants: Vec<(&str, &str)> = tenants.iter().map(|(n, l)| (*n, l.as_str())).collect();
    let text = experiment(&tenants, &[("short", "[\"fast\"]"), ("long", "[\"fast\", \"slow\"]")]);
    assert!(text.contains("watchdog = \"2s\""));
    // No machine is so slow that the watchdog ends the phase before the test does.
    room.file("long.toml", &text.replace("watchdog = \"2s\"", "watchdog = \"60s\""));
}

/// Waits until something is so.
#[track_caller]
fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The run, once its second trial is in a phase with its programs running.
fn in_a_phase(room: &Room) -> (Child, PathBuf) {
    long(room);
    let child = room.start(&["run", "long.toml", "--device", "host", "--quiet"]);
    let outcomes = || {
        let run = room.runs().into_iter().next();
        run.and_then(|r| fs::read_to_string(r.join("outcomes.jsonl")).ok()).unwrap_or_default()
    };
    wait_until("the first trial ends", || outcomes().contains("\"short\""));
    wait_until("both programs run", || {
        room.processes().iter().filter(|p| p.contains("good.py")).count() == 2
    });
    // The programs are set up within a fraction of a second, and a phase of the slow one lasts a minute.
    std::thread::sleep(Duration::from_millis(700));
    (child, room.runs().remove(0))
}

/// A process of somebody else in the same folder, which no run has started.
fn bystander(room: &Room) -> Child {
    std::process::Command::new("sleep")
        .arg("300")
        .current_dir(room.path())
        .stdin(Stdio::null())
        .spawn()
        .expect("sleep starts")
}

fn lives(child: &Child) -> bool {
    Pid::from_raw(child.id() as i32).is_some_and(|p| test_kill_process(p).is_ok())
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_raw(child.id() as i32).expect("a process id"), signal).expect("signal");
}

/// Resumes: the short trial stays as it is, and the long one runs again, until it is interrupted.
fn resumes_and_is_interrupted_again(room: &Room, run: &std::path::Path) {
    let before = fs::read_to_string(run.join("outcomes.jsonl")).expect("outcomes");
    assert_eq!(before.lines().count(), 1, "{before}");
    let mut child = room.start(&["run", "--resume", run.to_str().expect("UTF-8"), "--quiet"]);
    wait_until("both programs run again", || {
        room.processes().iter().filter(|p| p.contains("good.py")).count() == 2
    });
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("wait").code(), Some(130));
    assert_eq!(room.processes(), Vec::<String>::new());
    let after = fs::read_to_string(run.join("outcomes.jsonl")).expect("outcomes");
    assert_eq!(before, after, "the trial that was done stays as it is, and the other is not done");
}

#[test]
fn an_interrupt_within_a_phase_ends_all_programs_and_nobody_else() {
    for sent in [Signal::INT, Signal::TERM] {
        let room = Room::new();
        let mut other = bystander(&room);
        let (mut child, run) = in_a_phase(&room);
        let asked = Instant::now();
        signal(&child, sent);
        let status = child.wait().expect("wait");
        let mut err = String::new();
        child.stderr.take().expect("stderr").read_to_string(&mut err).expect("UTF-8");
        assert_eq!(status.code(), Some(130), "{err}");
        assert!(err.contains("--resume"), "{err}");
        assert!(asked.elapsed() < Duration::from_secs(15), "it took {:?}", asked.elapsed());
        assert_eq!(room.processes(), Vec::<String>::new(), "programs are left");
        assert_eq!(room.scratch(), Vec::<String>::new(), "files are left");
        assert!(run.join("report.html").is_file(), "what was measured is reported");
        resumes_and_is_interrupted_again(&room, &run);
        assert!(lives(&other), "somebody else's process was ended");
        other.kill().expect("kill");
        other.wait().expect("wait");
    }
}

#[test]
fn kill_9_leaves_no_program_and_the_next_run_sweeps_the_files() {
    let room = Room::new();
    let (mut child, run) = in_a_phase(&room);
    child.kill().expect("kill");
    child.wait().expect("wait");
    wait_until("the programs end with the run", || room.processes().is_empty());
    let left = room.scratch();
    assert_eq!(left.len(), 1, "nobody was there to remove them: {left:?}");
    assert!(left[0].starts_with(&format!("cotenant-tenants-{}.", child.id())), "{left:?}");
    // Of a run that lives, and somebody's notes: neither may be touched.
    let living = format!("cotenant-tenants-{}.0", std::process::id());
    for name in [living.as_str(), "cotenant-tenants-notes"] {
        fs::create_dir(room.tmp().join(name)).expect("a folder");
    }
    resumes_and_is_interrupted_again(&room, &run);
    let mut now = room.scratch();
    now.sort();
    assert_eq!(now, [living, "cotenant-tenants-notes".to_owned()]);
}

#[test]
fn a_run_that_was_interrupted_resumes_to_its_end() {
    let room = Room::new();
    let slow = good(2) + "\niterations = 40\nwarmup = 0";
    let trials: Vec<(String, String)> =
        (0..6).map(|i| (format!("t{i}"), "[\"a\", \"a\"]".to_owned())).collect();
    let trials: Vec<(&str, &str)> = trials.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    room.file("six.toml", &experiment(&[("a", &slow)], &trials));
    let mut child = room.start(&["run", "six.toml", "--device", "host", "--quiet"]);
    let lines = |file: &str| {
        let run = room.runs().into_iter().next();
        run.and_then(|r| fs::read_to_string(r.join(file)).ok()).unwrap_or_default().lines().count()
    };
    wait_until("a trial is done and another under way", || {
        lines("outcomes.jsonl") >= 1 && lines("repeats.jsonl") > 3 * lines("outcomes.jsonl")
    });
    signal(&child, Signal::INT);
    assert_eq!(child.wait().expect("wait").code(), Some(130));
    let run = room.runs().remove(0);
    let done = lines("outcomes.jsonl");
    assert!(done < 6, "it was over before it was interrupted");
    let r = room.cotenant(&["run", "--resume", run.to_str().expect("UTF-8"), "--quiet"]).exits(0);
    assert!(r.out.contains("t5"), "{}", r.out);
    let outcomes = fs::read_to_string(run.join("outcomes.jsonl")).expect("outcomes");
    let ended: Vec<serde_json::Value> =
        outcomes.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(ended.len(), 6);
    for (i, o) in ended.iter().enumerate() {
        assert_eq!((&o["trial"], &o["status"]), (&format!("t{i}").into(), &"done".into()), "{o}");
    }
    assert_eq!(ended[0]["attempt"], 1, "a trial that is done does not run again");
    assert!(room.processes().is_empty() && room.scratch().is_empty());
}
