//! A run that is killed at any moment is continued to the same end.

use crate::fixtures::{MANY, PAIR, many};
use crate::room::Room;
use cotenant_lab::run::{Observer, run as run_trials};
use cotenant_lab::simulated::SimBackend;
use cotenant_report::summarize;
use cotenant_spec::Spec;
use cotenant_spec::plan::{Plan, TrialPlan};
use cotenant_store::format::{OutcomeRecord, RepeatRecord, Summary};
use cotenant_store::{RunFolder, load};
use proptest::prelude::*;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// SplitMix64: moments that are random and the same in every run of the tests.
struct Moments(u64);

impl Moments {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

/// Waits until the run in `room` has written `bytes` of repeats, or has ended.
fn wait_for_bytes(room: &Room, child: &mut Child, bytes: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let written = room.runs().first().map_or(0, |f| size(&f.join("repeats.jsonl")));
        if written >= bytes || !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        assert!(Instant::now() < deadline, "the run wrote {written} of {bytes} bytes in a minute");
        std::thread::yield_now();
    }
}

fn the_run(room: &Room) -> PathBuf {
    let all = room.runs();
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().expect("one run")
}

/// The summary of an uninterrupted run, and the bytes of its repeats.
fn uninterrupted(text: &str) -> (serde_json::Value, u64) {
    let room = Room::new();
    room.file("many.toml", text);
    let r = room.cotenant(&["run", "many.toml", "--json"]).exits(0);
    (r.json(), size(&the_run(&room).join("repeats.jsonl")))
}

/// Resumes to the end and holds the result against the uninterrupted run.
fn resumes_to(room: &Room, folder: &Path, whole: &serde_json::Value) {
    let r = room.cotenant(&["run", "--resume", folder.to_str().expect("UTF-8"), "--json"]).exits(0);
    assert_eq!(&r.json(), whole, "the resumed run differs from the uninterrupted one");
    let run = load(folder).expect("a sound folder");
    assert_eq!(run.manifest.trials.len(), MANY);
    let mut ids: Vec<&str> = run.outcomes.iter().map(|o| o.trial.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), MANY, "every trial has its outcome");
    assert_eq!(run.outcomes.len(), MANY, "no trial has two");
    assert!(run.outcomes.iter().all(|o| o.status == "done"));
}

#[test]
fn kill_9_at_any_moment_leaves_a_run_that_resumes_to_the_same_end() {
    let text = many(12);
    let (whole, bytes) = uninterrupted(&text);
    let mut moments = Moments(2026);
    for _ in 0..8 {
        let room = Room::new();
        room.file("many.toml", &text);
        let mut child = room.start(&["run", "many.toml", "--quiet"]);
        wait_for_bytes(&room, &mut child, moments.below(bytes));
        std::thread::sleep(Duration::from_micros(moments.below(3000)));
        child.kill().expect("kill");
        child.wait().expect("wait");
        resumes_to(&room, &the_run(&room), &whole);
    }
}

#[test]
fn a_run_killed_again_and_again_still_ends_the_same() {
    let text = many(12);
    let (whole, bytes) = uninterrupted(&text);
    let mut moments = Moments(7);
    let room = Room::new();
    room.file("many.toml", &text);
    let mut child = room.start(&["run", "many.toml", "--quiet"]);
    let mut kills = 0;
    while kills < 6 {
        let so_far = room.runs().first().map_or(0, |f| size(&f.join("repeats.jsonl")));
        wait_for_bytes(&room, &mut child, so_far + 1 + moments.below(bytes / 5));
        child.kill().expect("kill");
        child.wait().expect("wait");
        kills += 1;
        let folder = the_run(&room);
        child = room.start(&["run", "--resume", folder.to_str().expect("UTF-8"), "--quiet"]);
    }
    child.wait().expect("wait");
    resumes_to(&room, &the_run(&room), &whole);
}

#[test]
fn kill_9_while_it_starts_leaves_nothing_or_a_run_that_resumes() {
    let text = many(2);
    let (whole, _) = uninterrupted(&text);
    let mut moments = Moments(5);
    for _ in 0..12 {
        let room = Room::new();
        room.file("many.toml", &text);
        let mut child = room.start(&["run", "many.toml", "--quiet"]);
        std::thread::sleep(Duration::from_micros(moments.below(25_000)));
        child.kill().expect("kill");
        child.wait().expect("wait");
        match room.runs().as_slice() {
            [] => {}
            [folder] if folder.join("manifest.json").exists() => resumes_to(&room, folder, &whole),
            [folder] => {
                // Killed before the manifest: nothing was measured, and that is what it says.
                room.cotenant(&["run", "--resume", folder.to_str().expect("UTF-8")]).exits(5);
            }
            more => panic!("one run made {more:?}"),
        }
    }
}

#[test]
fn an_interrupt_ends_with_130_and_names_the_way_on() {
    let text = many(40);
    let (whole, bytes) = uninterrupted(&text);
    for signal in [Signal::INT, Signal::TERM] {
        let room = Room::new();
        room.file("many.toml", &text);
        let mut child = room.start(&["run", "many.toml", "--quiet"]);
        wait_for_bytes(&room, &mut child, bytes / 3);
        let pid = Pid::from_raw(child.id() as i32).expect("a process id");
        kill_process(pid, signal).expect("signal");
        let status = child.wait().expect("wait");
        let mut err = String::new();
        child.stderr.take().expect("stderr").read_to_string(&mut err).expect("UTF-8");
        assert_eq!(status.code(), Some(130), "{err}");
        let folder = the_run(&room);
        let name = folder.file_name().and_then(|n| n.to_str()).expect("UTF-8");
        assert!(err.contains("--resume") && err.contains(name), "{err}");
        assert!(folder.join("report.html").is_file(), "what was measured is reported");
        let summary: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(folder.join("summary.json")).expect("a summary"))
                .expect("JSON");
        let status = |s: &str| {
            summary["trials"].as_array().map_or(0, |t| t.iter().filter(|t| t["status"] == s).count())
        };
        assert!(status("done") >= 1 && status("unfinished") >= 1, "{summary}");
        resumes_to(&room, &folder, &whole);
    }
}

#[test]
fn resuming_a_finished_run_changes_no_record() {
    let room = Room::new();
    room.file("pair.toml", PAIR);
    let r = room.cotenant(&["run", "pair.toml", "-q"]).exits(0);
    let folder = room.path().join(r.run_folder());
    let records =
        || ["repeats.jsonl", "outcomes.jsonl", "warnings.jsonl"].map(|f| fs::read(folder.join(f)).expect(f));
    let before = records();
    let again = room.cotenant(&["run", "--resume", r.run_folder()]).exits(0);
    assert_eq!(records(), before);
    assert_eq!(again.out, r.out);
}

#[test]
fn a_selection_and_its_overrides_survive_resuming() {
    let room = Room::new();
    room.file("many.toml", &many(3));
    let args = ["run", "many.toml", "-q", "--only", "t1*", "--set", "tenants.a.threads=64"];
    let r = room.cotenant(&args).exits(0);
    let folder = room.path().join(r.run_folder());
    fs::write(folder.join("outcomes.jsonl"), "").expect("forget the outcomes");
    let again = room.cotenant(&["run", "--resume", r.run_folder(), "-q"]).exits(0);
    assert_eq!(again.out, r.out, "the same trials, the same numbers");
    let run = load(&folder).expect("a sound folder");
    assert_eq!(run.outcomes.len(), 8, "t1 and t10 to t16");
    assert!(run.outcomes.iter().all(|o| o.attempt == 2));
}

#[test]
fn a_done_trial_that_lost_its_repeats_runs_again() {
    let room = Room::new();
    room.file("pair.toml", PAIR);
    let r = room.cotenant(&["run", "pair.toml", "-q"]).exits(0);
    let folder = room.path().join(r.run_folder());
    let repeats = fs::read_to_string(folder.join("repeats.jsonl")).expect("repeats");
    let first = repeats.lines().next().expect("a line").to_owned() + "\n";
    fs::write(folder.join("repeats.jsonl"), first).expect("lose two repeats");
    let again = room.cotenant(&["run", "--resume", r.run_folder(), "-q"]).exits(0);
    assert_eq!(again.out, r.out);
    let run = load(&folder).expect("a sound folder");
    assert_eq!(run.outcomes.iter().map(|o| o.attempt).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(run.repeats.iter().filter(|r| r.attempt == 2).count(), 3);
}

struct Silent;

impl Observer for Silent {
    fn trial_started(&mut self, _: usize, _: usize, _: &TrialPlan) {}
    fn repeat_done(&mut self, _: &TrialPlan, _: &RepeatRecord, _: u32) {}
    fn trial_ended(&mut self, _: &TrialPlan, _: &OutcomeRecord) {}
}

fn backend() -> SimBackend {
    let card = cotenant_model::builtin("h100-sxm5-80gb").expect("a built-in card");
    SimBackend::new(card, Arc::new(AtomicBool::new(false)))
}

/// Finishes what a folder lacks, in this process; returns the summary.
fn finish(plan: &Plan, folder: &Path) -> Summary {
    use cotenant_lab::backend::Backend;
    let (mut open, _) = RunFolder::resume(folder).expect("resumes");
    let mut b = backend();
    b.set_seed(plan.seed);
    let tally = run_trials(plan, &mut b, &mut open, &mut Silent).expect("runs");
    assert_eq!((tally.done, tally.failed, tally.skipped), (plan.trials.len(), 0, 0));
    let run = load(folder).expect("a sound folder");
    summarize(&run.manifest, &run.repeats, &run.outcomes)
}

/// A finished run: its plan, its files, its summary.
type Finished = (Plan, Vec<(String, Vec<u8>)>, Summary);

/// A finished run of a few trials.
fn template() -> &'static Finished {
    static TEMPLATE: std::sync::OnceLock<Finished> = std::sync::OnceLock::new();
    TEMPLATE.get_or_init(|| {
        use cotenant_lab::backend::Backend;
        let text =
            many(3).replace("n = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]", "n = [1, 2, 3]");
        let b = backend();
        let plan = Spec::parse(&text, "many.toml").and_then(|s| s.resolve(b.sizes(), &[])).expect("a plan");
        assert_eq!(plan.trials.len(), 3);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let manifest = cotenant_lab::run::manifest(&plan, &b, &text, &[], "unknown");
        let folder = RunFolder::create(dir.path(), "20260101T000000Z", &manifest).expect("a run folder");
        let path = folder.path().to_owned();
        drop(folder);
        let summary = finish(&plan, &path);
        let read = |name: &str| (name.to_owned(), fs::read(path.join(name)).expect("a file"));
        let files = ["manifest.json", "repeats.jsonl", "outcomes.jsonl", "warnings.jsonl"].map(read).to_vec();
        (plan, files, summary)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Wherever the records are cut, independently of each other, resuming ends with the same trials and numbers.
    #[test]
    fn records_cut_at_any_byte_resume_to_the_same_end(
        repeats in 0.0f64..1.0, outcomes in 0.0f64..1.0, warnings in 0.0f64..1.0,
    ) {
        let (plan, files, whole) = template();
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (name, bytes) in files {
            let share = match name.as_str() {
                "repeats.jsonl" => repeats,
                "outcomes.jsonl" => outcomes,
                "warnings.jsonl" => warnings,
                _ => 1.0,
            };
            let cut = (bytes.len() as f64 * share).round() as usize;
            fs::write(dir.path().join(name), &bytes[..cut]).expect("write");
        }
        prop_assert_eq!(&finish(plan, dir.path()), whole);
    }
}
