//! Faults on a real GPU: killed workers, killed runs, interrupts, exhausted memory, and MPS daemons of others. After
//! each, nothing of ours may be left and nothing of others touched.
//!
//! `scripts/gpu-tests.sh` runs these; they are ignored where there may be no GPU.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program: the one of this build, or the one that was built for this machine.
fn exe() -> PathBuf {
    std::env::var_os("COTENANT_WORKER_EXE")
        .map_or_else(|| env!("CARGO_BIN_EXE_cotenant").into(), PathBuf::from)
}

/// Processes of which some environment entry satisfies `wanted`, as `(pid, name)`. Zombies have no environment.
fn processes(wanted: impl Fn(&str) -> bool) -> Vec<(u32, String)> {
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    all.filter_map(|e| {
        let pid: u32 = e.ok()?.file_name().to_str()?.parse().ok()?;
        let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
        let found = environ.split(|&b| b == 0).any(|v| std::str::from_utf8(v).is_ok_and(&wanted));
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        found.then(|| (pid, name.trim().to_owned()))
    })
    .collect()
}

fn signal(pid: u32, s: Signal) {
    if let Some(p) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(p, s);
    }
}

/// Waits until `done`; false after `patience`.
fn within(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if done() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    done()
}

/// A run under way in a folder of its own. Whatever the test does, dropping it ends everything that it started.
struct Run {
    child: Child,
    dir: tempfile::TempDir,
}

/// How a run ended.
struct Ended {
    code: Option<i32>,
    err: String,
}

impl Run {
    fn start(experiment: &str, more: &[&str], env: &[(&str, &Path)]) -> Run {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join("fault.toml"), experiment).expect("write the experiment");
        let scratch = dir.path().join("scratch");
        fs::create_dir(&scratch).expect("a scratch folder");
        let mut c = Command::new(exe());
        c.args(["run", "fault.toml", "--device", "cuda:0"]).args(more).current_dir(dir.path());
        // The run's MPS folders go where the test can see that they are gone.
        c.env("TMPDIR", &scratch).env_remove("CUDA_MPS_PIPE_DIRECTORY").env_remove("COTENANT_WORKER_EXE");
        for (k, v) in env {
            c.env(k, v);
        }
        let log = |name: &str| fs::File::create(dir.path().join(name)).expect("a log");
        let child =
            c.stdin(Stdio::null()).stdout(log("out")).stderr(log("err")).spawn().expect("the program starts");
        Run { child, dir }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its tenant processes, by the mark that it gives them.
    fn workers(&self) -> Vec<u32> {
        let mark = format!("COTENANT_WORKER={}", self.pid());
        processes(|v| v == mark).into_iter().map(|p| p.0).collect()
    }

    /// Its MPS control and server processes, by their pipe folder (the kernel cuts their names to 15 letters).
    fn daemons(&self) -> Vec<(u32, String)> {
        let prefix = format!("CUDA_MPS_PIPE_DIRECTORY={}", self.scratch().display());
        processes(|v| v.starts_with(&prefix))
            .into_iter()
            .filter(|p| p.1.starts_with("nvidia-cuda-mps"))
            .collect()
    }

    fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }

    fn folder(&self) -> Option<PathBuf> {
        fs::read_dir(self.dir.path().join("runs")).ok()?.find_map(|e| Some(e.ok()?.path()))
    }

    fn lines(&self, file: &str) -> Vec<serde_json::Value> {
        let text = self.folder().and_then(|f| fs::read_to_string(f.join(file)).ok()).unwrap_or_default();
        text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
    }

    /// Waits until trial `id` has `n` repeats on disk.
    #[track_caller]
    fn wait_for_repeats(&mut self, id: &str, n: usize) {
        let there = within(Duration::from_secs(60), || {
            let done = self.lines("repeats.jsonl").iter().filter(|r| r["trial"] == id).count() >= n;
            done || !matches!(self.child.try_wait(), Ok(None))
        });
        assert!(
            there && matches!(self.child.try_wait(), Ok(None)),
            "no {n} repeats of {id}; it said: {}",
            self.err()
        );
    }

    fn err(&self) -> String {
        fs::read_to_string(self.dir.path().join("err")).unwrap_or_default()
    }

    /// Waits for its end.
    #[track_caller]
    fn ends(&mut self) -> Ended {
        let ended = within(Duration::from_secs(90), || !matches!(self.child.try_wait(), Ok(None)));
        assert!(ended, "the run hangs; it said: {}", self.err());
        Ended { code: self.child.wait().expect("wait").code(), err: self.err() }
    }

    /// The outcome of a trial: status and reason.
    #[track_caller]
    fn outcome(&self, id: &str) -> (String, String) {
        let all = self.lines("outcomes.jsonl");
        let o =
            all.iter().find(|o| o["trial"] == id).unwrap_or_else(|| panic!("no outcome of {id}: {all:?}"));
        let text = |key: &str| o[key].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"))
    }

    /// No process and no folder of the run is left.
    #[track_caller]
    fn left_nothing(&self) {
        let gone = within(Duration::from_secs(5), || self.workers().is_empty() && self.daemons().is_empty());
        assert!(gone, "left: workers {:?}, daemons {:?}", self.workers(), self.daemons());
        let left: Vec<_> = fs::read_dir(self.scratch())
            .map(|d| d.filter_map(|e| Some(e.ok()?.file_name())).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "left in the scratch folder: {left:?}");
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in self.workers().into_iter().chain(self.daemons().into_iter().map(|d| d.0)) {
            signal(pid, Signal::KILL);
        }
    }
}

/// A first trial that takes its time, to be hit in the middle, and a short one after it, each under `mode`.
fn long_then_short(mode: &str) -> String {
    format!(
        r#"format = 1
name = "fault"
title = "A fault"
summary = "s"

[measure]
repeats = [30, 30]
precision = 0.5
budget = "60s"
warmup = 0
setups = 1

[tenants.long]
kernel = "fp32-mul"
blocks = "sms"
threads = 128
duration = "40ms"
launches = 5

[tenants.short]
kernel = "fp32-mul"
blocks = "sms"
threads = 128
duration = "1ms"

[[trial]]
name = "hit"
sharing = {mode}
tenants = ["long", {{ use = "long", as = "other" }}]

[[trial]]
name = "after"
sharing = {mode}
tenants = ["short", {{ use = "short", as = "other" }}]

[[trial]]
name = "elsewhere"
sharing = "streams"
tenants = ["short", {{ use = "short", as = "other" }}]
"#
    )
}

fn a_killed_worker_fails_its_trial_only(mode: &str) {
    let mut run = Run::start(&long_then_short(mode), &[], &[]);
    run.wait_for_repeats("hit", 2);
    let workers = run.workers();
    assert!(!workers.is_empty(), "the run has no worker");
    signal(workers[0], Signal::KILL);
    let ended = run.ends();
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let (status, reason) = run.outcome("hit");
    assert_eq!(status, "failed");
    assert!(reason.contains("killed by signal 9"), "{reason}");
    for id in ["after", "elsewhere"] {
        assert_eq!(run.outcome(id), ("done".into(), String::new()), "the other trials go on");
    }
    assert!(ended.err.contains("failed") && ended.err.contains("hit"), "{}", ended.err);
    run.left_nothing();
}

#[test]
#[ignore = "needs a GPU: scripts/gpu-tests.sh"]
fn a_worker_killed_under_mps_fails_its_trial_and_the_others_go_on() {
    a_killed_worker_fails_its_trial_only("\"mps\"");
}

#[test]
#[ignore = "needs a GPU: scripts/gpu-tests.sh"]
fn a_worker_killed_beside_another_process_fails_its_trial_and_the_others_go_on() {
    a_killed_worker_fails_its_trial_only("\"processes\"");
}

#[test]
#[ignore = "needs a GPU: scripts/gpu-tests.sh"]
fn a_worker_killed_with_both_tenants_in_it_fails_its_trial_and_the_others_go_on() {
    a_killed_worker_fails_its_trial_only("\"streams\"");
}

#[test]
#[ignore = "needs a GPU: scripts/gpu-tests.sh"]
fn a_run_killed_with_9_takes_its_workers_and_its_daemon_along() {
    let mut run = Run::start(&long_then_short("\"mps\""), &[], &[]);
    run.wait_for_repeats("hit", 2);
    assert_eq!(run.workers().len(), 2);
    assert!(!run.daemons().is_empty(), "an MPS run has a daemon");
    run.child.kill().expect("kill");
    run.child.wait().expect("wait");
    let gone = within(Duration::from_secs(5), || run.workers().is_empty() && run.daemons().is_empty());
    assert!(gone, "left after 5 s: workers {:?}, daemons {:?}", run.workers(), run.daemons());
    // And what was measured is there.
    let folder = run.folder().expect("a run folder");
    let report = Command::new(exe()).arg("report").arg(&folder).output().expect("the program starts");
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stderr));
}

#[test]
#[ignore = "needs a GPU: scripts/gpu-tests.sh"]
fn an_interrupt_in_the_middle_of_an_mps_trial_leaves_nothing() {
    let mut run = Run::start(&long_then_short("{ mode = \"mps\", percentage = [50, 50] }"), &[], &[]);
    run.wait_for_repeats("hit", 2);
    signal(run.pid(), Signal::INT);
    let ended = run.ends();
    assert_eq!(ended.code, Some(130), "{}", ended.err);
    assert!(ended.err.contains("--resume"), "{}", ended.err);
    run.left_nothing();
}

#[test]
#[ignore = "needs a GPU: scripts/gpu-tests.sh"]
fn exhausted_memory_fails_the_trial_with_numbers_and_the_next_one_works() {
    // Four arrays of 24.95 % each: the card has room for them and none for the contexts beside them.
    let big = "kernel = \"copy\"\nblocks = \"sms\"\nthreads = 1024\nparams = { bytes = \"0.2495*dram\" }\niterations = 1";
    let text = long_then_short("\"processes\"")
        .replace("kernel = \"fp32-mul\"\nblocks = \"sms\"\nthreads = 128\nduration = \"40ms\"", big);
    let mut run = Run::start(&text, &[], &[]);
    let ended = run.ends();
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let (status, reason) = run.outcome("hit");
    assert_eq!(status, "failed");
    assert!(reason.contains("memory") && reason.contains("free"), "{reason}");
    let numbers =
        reason.split(|c: char| !c.is_ascii_digit() && c != '.').filter(|w| w.parse::<f64>().is_ok()).count();
    assert!(numbers >= 2, "bytes wanted and bytes free: {reason}");
    assert_eq!(run.outcome("after").0, "done");
    run.left_nothing();
}

/// An MPS daemon of somebody else, with folders of its own. Stopped when the test ends, however it ends.
struct Foreign {
    child: Child,
    dir: tempfile::TempDir,
}

impl Foreign {
    fn start() -> Foreign {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let control = cotenant_gpu::mps::control_program().expect("the MPS control program is installed");
        let child = Command::new(control)
            .arg("-f")
            .env("CUDA_MPS_PIPE_DIRECTORY", dir.path())
            .env("CUDA_MPS_LOG_DIRECTORY", dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the daemon starts");
        let f = Foreign { child, dir };
        assert!(within(Duration::from_secs(10), || f.ask("get_default_active_thread_percentage").is_some()));
        f
    }

    fn pipe(&self) -> &Path {
        self.dir.path()
    }

    /// The daemon's answer to a command of its control program.
    fn ask(&self, command: &str) -> Option<String> {
        let mut c = Command::new(cotenant_gpu::mps::control_program()?)
            .env("CUDA_MPS_PIPE_DIRECTORY", self.dir.path())
            .env("CUDA_MPS_LOG_DIRECTORY", self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        writeln!(c.stdin.take()?, "{command}").ok()?;
        let mut text = String::new();
        c.stdout.take()?.read_to_string(&mut text).ok()?;
        c.wait().ok()?.success().then_some(text)
    }

    /// Servers that it has started: one per user who had a client.
    fn servers(&self) -> Vec<u32> {
        let text = self.ask("get_server_list").expect("the daemon answers");
        text.split_whitespace().filter_map(|w| w.parse().ok()).collect()
    }

    fn alive(&self) -> bool {
        i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .is_some_and(|p| test_kill_process(p).is_ok())
            && self.ask("get_default_active_thread_percentage").is_some()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let servers = self.ask("get_server_list").unwrap_or_default();
        let _ = self.ask("quit -t 1");
        if !within(Duration::from_secs(4), || !matches!(self.child.try_wait(), Ok(None))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let mark = format!("CUDA_MPS_PIPE_DIRECTORY={}", self.dir.path().display());
        for (pid, name) in processes(|v| v == mark) {
            if name.starts_with("nvidia-cuda-mps") && servers.split_whitespace().any(|s| s == pid.to_string())
            {
                signal(pid, Signal::KILL);
            }
        }
    }
}

/// Only the short trials.
const SHORT: [&str; 4] = ["--only", "after", "--only", "elsewhere"];

#[test]
#[ignore = "needs a GPU: scripts/gpu-tests.sh"]
fn a_daemon_of_others_is_neither_used_nor_stopped() {
    let foreign = Foreign::start();
    for mode in ["\"mps\"", "\"processes\""] {
        let mut run =
            Run::start(&long_then_short(mode), &SHORT, &[("CUDA_MPS_PIPE_DIRECTORY", foreign.pipe())]);
        let ended = run.ends();
        assert_eq!(ended.code, Some(0), "{mode}: {}", ended.err);
        run.left_nothing();
        assert!(foreign.alive(), "{mode}: the daemon of others was stopped");
        assert_eq!(foreign.servers(), [0u32; 0], "{mode}: the daemon of others had a client");
    }
}

#[test]
#[ignore = "needs a GPU: scripts/gpu-tests.sh"]
fn joining_a_daemon_uses_it_and_leaves_it_running() {
    let foreign = Foreign::start();
    let more: Vec<&str> = SHORT.iter().copied().chain(["--join-mps"]).collect();
    let mut run =
        Run::start(&long_then_short("\"mps\""), &more, &[("CUDA_MPS_PIPE_DIRECTORY", foreign.pipe())]);
    let ended = run.ends();
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    run.left_nothing();
    assert!(foreign.alive(), "the daemon of others was stopped");
    assert_eq!(foreign.servers().len(), 1, "the daemon had no client");
}

#[test]
#[ignore = "needs a GPU: scripts/gpu-tests.sh"]
fn joining_where_no_daemon_is_skips_with_words() {
    let nowhere = tempfile::tempdir().expect("a temporary folder");
    let more = ["--only", "after", "--join-mps"];
    let mut run =
        Run::start(&long_then_short("\"mps\""), &more, &[("CUDA_MPS_PIPE_DIRECTORY", nowhere.path())]);
    let ended = run.ends();
    assert_eq!(ended.code, Some(6), "{}", ended.err);
    let (status, reason) = run.outcome("after");
    assert_eq!(status, "skipped");
    assert!(reason.contains("no MPS daemon"), "{reason}");
    run.left_nothing();
}

#[test]
#[ignore = "needs a GPU: scripts/gpu-tests.sh"]
fn looking_at_the_machine_touches_no_daemon_of_others_but_names_it() {
    let foreign = Foreign::start();
    let out = Command::new(exe())
        .args(["doctor", "--json"])
        .env("CUDA_MPS_PIPE_DIRECTORY", foreign.pipe())
        .output()
        .expect("the program starts");
    let findings: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let named =
        findings.as_array().and_then(|f| f.iter().find(|f| f["item"] == "MPS daemon already running"));
    let named = named.expect("a finding on running daemons");
    assert_eq!(named["status"], "note", "{named}");
    assert!(
        named["detail"].as_str().is_some_and(|d| d.contains(&foreign.pipe().display().to_string())),
        "{named}"
    );
    assert!(foreign.alive() && foreign.servers().is_empty(), "doctor made a client of the daemon of others");
}
