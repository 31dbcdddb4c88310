//! Programs as tenants, on the host without a GPU: what is measured of them, and what becomes of a trial when one of
//! them misbehaves.

use cotenant_lab::backend::Backend;
use cotenant_lab::host::HostBackend;
use cotenant_lab::program::{Part, Troupe};
use cotenant_lab::run::{self, Observer, Tally};
use cotenant_spec::Spec;
use cotenant_spec::plan::{Plan, TrialPlan};
use cotenant_store::RunFolder;
use cotenant_store::format::{OutcomeRecord, RepeatRecord};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

struct Silent;

impl Observer for Silent {
    fn trial_started(&mut self, _: usize, _: usize, _: &TrialPlan) {}
    fn repeat_done(&mut self, _: &TrialPlan, _: &RepeatRecord, _: u32) {}
    fn trial_ended(&mut self, _: &TrialPlan, _: &OutcomeRecord) {}
}

fn tenants() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tenants")
}

fn script(name: &str, args: &[&str]) -> String {
    let mut words = vec!["python3".to_owned(), tenants().join("tests").join(name).display().to_string()];
    words.extend(args.iter().map(|a| (*a).to_owned()));
    format!("{words:?}")
}

const HEAD: &str = "format = 1\nname = \"programs\"\ntitle = \"t\"\nsummary = \"s\"\n";

/// A run of an experiment on the host.
struct Ran {
    tally: Tally,
    outcomes: Vec<OutcomeRecord>,
    repeats: Vec<RepeatRecord>,
    folder: tempfile::TempDir,
    run: PathBuf,
    took: Duration,
}

impl Ran {
    fn outcome(&self, trial: &str) -> &OutcomeRecord {
        self.outcomes.iter().find(|o| o.trial == trial).unwrap_or_else(|| panic!("no outcome of {trial}"))
    }

    fn reason(&self, trial: &str) -> &str {
        let o = self.outcome(trial);
        assert_eq!(o.status, "failed", "{trial}: {:?}", o.reason);
        o.reason.as_deref().unwrap_or_default()
    }
}

fn run_text(body: &str) -> Ran {
    let text = format!("{HEAD}{body}");
    let spec = Spec::parse(&text, "test.toml").expect("the experiment reads");
    let mut backend = HostBackend::new(Arc::new(AtomicBool::new(false)));
    let plan: Plan = spec.resolve(backend.sizes(), &[]).expect("the experiment resolves");
    let folder = tempfile::tempdir().expect("a folder");
    let m = run::manifest(&plan, &backend, &text, &[], "test");
    let mut stored = RunFolder::create(folder.path(), "t", &m).expect("a run folder");
    let begun = Instant::now();
    let tally = run::run(&plan, &mut backend, &mut stored, &mut Silent).expect("the run ends");
    let took = begun.elapsed();
    drop(backend);
    let run = stored.path().to_owned();
    drop(stored);
    let lines = |file: &str| std::fs::read_to_string(run.join(file)).unwrap_or_default();
    Ran {
        tally,
        outcomes: lines("outcomes.jsonl")
            .lines()
            .map(|l| serde_json::from_str(l).expect("an outcome"))
            .collect(),
        repeats: lines("repeats.jsonl").lines().map(|l| serde_json::from_str(l).expect("a repeat")).collect(),
        folder,
        run,
        took,
    }
}

/// A well-behaved tenant beside one that misbehaves, then a trial that must work again.
fn beside_bad(mode: &str, measure: &str) -> Ran {
    let (good, bad) = (script("good.py", &["--ms", "1"]), script("bad.py", &[mode]));
    run_text(&format!(
        "[measure]\nrepeats = [1, 1]\n{measure}\n[tenants]\ngood = {{ command = {good}, iterations = 20 }}\n\
         bad = {{ command = {bad}, iterations = 20 }}\n\
         [[trial]]\nname = \"bad\"\nsharing = \"processes\"\nprotocol = \"steady\"\ntenants = [\"good\", \"bad\"]\n\
         [[trial]]\nname = \"after\"\nsharing = \"processes\"\ntenants = [\"good\", \"good\"]\n"
    ))
}

/// Processes of a test's scripts that are still there.
fn left_behind(mode: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.trim_end().ends_with(&format!("tests/bad.py {mode}")) {
            found.push(line);
        }
    }
    found
}

#[test]
fn iterations_of_known_length_are_measured_back() {
    let ran = run_text(&format!(
        "[measure]\nrepeats = [2, 2]\n[tenants]\na = {{ command = {}, iterations = 40 }}\n\
         b = {{ command = {}, iterations = 20 }}\n\
         [[trial]]\nname = \"fixed\"\nsharing = \"processes\"\ntenants = [\"a\", \"b\"]\n\
         [[trial]]\nname = \"steady\"\nsharing = \"processes\"\nprotocol = \"steady\"\ntenants = [\"a\", \"b\"]\n",
        script("good.py", &["--ms", "2"]),
        script("good.py", &["--ms", "10"]),
    ));
    assert_eq!((ran.tally.done, ran.tally.failed), (2, 0), "{:?}", ran.outcomes);
    for r in &ran.repeats {
        for p in &r.phases {
            for t in &p.tenants {
                let asked = if t.name == "a" { 2e6 } else { 10e6 };
                // A sleep lasts at least as long as asked; how much longer is the machine's load.
                assert!(
                    t.time_ns >= asked && t.time_ns < asked * 2.0,
                    "{} {} {}",
                    r.trial,
                    t.name,
                    t.time_ns
                );
                assert_eq!(t.spans_ns.len(), t.launches as usize);
                assert_eq!(t.requests_ns.len(), t.launches as usize);
            }
            if p.phase == "shared" {
                let a = &p.tenants[0];
                match r.trial.as_str() {
                    // The short one is done after 80 ms and the long one after 200.
                    "fixed" => {
                        assert_eq!((a.launches, a.counted), (40, 40));
                        let last = p.parts.last().expect("parts");
                        assert_eq!(last.active, "one");
                        assert!(last.to_ns.0 - last.from_ns.0 > 60_000_000, "{:?}", p.parts);
                    }
                    // It goes on for as long as the other, and all but the edges count.
                    _ => {
                        assert!(
                            a.launches > 60 && a.counted + 3 >= a.launches,
                            "{} {}",
                            a.launches,
                            a.counted
                        );
                        assert!(p.overlap.expect("overlap") > 0.9);
                    }
                }
                assert!(p.start_spread_ns.expect("a spread") < 20_000_000);
            }
        }
    }
}

#[test]
fn processes_are_kept_from_trial_to_trial() {
    let ran = run_text(&format!(
        "[measure]\nrepeats = [1, 1]\n[tenants]\na = {{ command = {}, iterations = 5 }}\n\
         [[trial]]\nname = \"one\"\nsharing = \"solo\"\ntenants = [\"a\"]\n\
         [[trial]]\nname = \"two\"\nsharing = \"processes\"\ntenants = [\"a\", \"a\"]\n",
        script("good.py", &["--ms", "1", "--ready-ms", "700"]),
    ));
    assert_eq!(ran.tally.done, 2, "{:?}", ran.outcomes);
    let logs: Vec<_> = std::fs::read_dir(ran.run.join("logs")).expect("logs").flatten().collect();
    assert_eq!(logs.len(), 2, "the first process serves both trials");
    for o in &ran.outcomes {
        let t = o.timing.expect("a timing");
        assert!(t.own_ns.0 < 2_000_000_000, "the run's own time is {}", t.own_ns);
    }
}

#[test]
fn open_loops_are_measured_from_the_intended_arrival() {
    // Ten arrivals a millisecond apart for iterations of 5 ms: each waits for those before it.
    let ran = run_text(&format!(
        "[measure]\nrepeats = [1, 1]\n[tenants]\n\
         a = {{ command = {}, iterations = 10, warmup = 1, arrivals = \"constant\", rate = 1000 }}\n\
         [[trial]]\nname = \"late\"\nsharing = \"solo\"\ntenants = [\"a\"]\n",
        script("good.py", &["--ms", "5"]),
    ));
    assert_eq!(ran.tally.done, 1, "{:?}", ran.outcomes);
    let t = &ran.repeats[0].phases[0].tenants[0];
    assert_eq!(t.requests_ns.len(), 10);
    assert!(t.requests_ns.windows(2).all(|w| w[1] > w[0] + 3_000_000), "{:?}", t.requests_ns);
    let (start, end) = t.spans_ns[9];
    assert!(t.requests_ns[9] > 5 * (end - start), "the queue is part of the latency");
}

#[test]
fn a_relative_rate_refers_to_what_the_tenant_does_alone() {
    let ran = run_text(&format!(
        "[measure]\nrepeats = [1, 1]\n[tenants]\n\
         a = {{ command = {}, iterations = 20, warmup = 1, arrivals = \"constant\", rate = \"50%\" }}\n\
         [[trial]]\nname = \"half\"\nsharing = \"solo\"\ntenants = [\"a\"]\n",
        script("good.py", &["--ms", "4", "--spin"]),
    ));
    assert_eq!(ran.tally.done, 1, "{:?}", ran.outcomes);
    let capacity = ran.outcomes[0].capacity_per_s["a"];
    assert!((100.0..=250.0).contains(&capacity), "{capacity}");
    let t = &ran.repeats[0].phases[0].tenants[0];
    let length = (t.spans_ns[19].0 - t.spans_ns[0].0) as f64 / 19.0;
    let expected = 2e9 / capacity;
    assert!((length / expected - 1.0).abs() < 0.2, "{length} {expected}");
}

#[test]
fn a_trace_is_replayed_at_the_rate_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("arrivals.csv");
    std::fs::write(&trace, "t_s\n0\n0.1\n0.15\n0.4\n0.5\n").expect("write the trace");
    let ran = run_text(&format!(
        "[measure]\nrepeats = [1, 1]\n[tenants]\n\
         a = {{ command = {}, iterations = 5, warmup = 1, arrivals = \"trace\", trace = {:?} }}\n\
         [[trial]]\nname = \"as-recorded\"\nsharing = \"solo\"\ntenants = [\"a\"]\n\
         [[trial]]\nname = \"too-long\"\nsharing = \"solo\"\ntenants = [{{ use = \"a\", iterations = 6 }}]\n",
        script("good.py", &["--ms", "2"]),
        trace.display().to_string(),
    ));
    assert_eq!((ran.tally.done, ran.tally.failed), (1, 1), "{:?}", ran.outcomes);
    let starts: Vec<u64> =
        ran.repeats[0].phases[0].tenants[0].spans_ns.iter().map(|s| s.0 / 1_000_000).collect();
    for (start, at) in starts.iter().zip([0, 100, 150, 400, 500]) {
        assert!((*start + 5).abs_diff(at + 5) < 30, "{starts:?}");
    }
    assert!(ran.reason("too-long").contains("arrivals.csv"), "{}", ran.reason("too-long"));
}

#[test]
fn an_opaque_program_is_timed_whole() {
    let ran = run_text(
        "[measure]\nrepeats = [2, 2]\n[tenants]\na = { command = [\"sleep\", \"0.2\"], protocol = \"opaque\" }\n\
         b = { command = [\"sleep\", \"0.4\"], protocol = \"opaque\" }\n\
         c = { command = [\"false\"], protocol = \"opaque\" }\n\
         [[trial]]\nname = \"whole\"\nsharing = \"processes\"\ntenants = [\"a\", \"b\"]\n\
         [[trial]]\nname = \"fails\"\nsharing = \"processes\"\ntenants = [\"a\", \"c\"]\n",
    );
    assert_eq!((ran.tally.done, ran.tally.failed), (1, 1), "{:?}", ran.outcomes);
    for p in &ran.repeats[0].phases {
        for t in &p.tenants {
            let asked = if t.name == "a" { 0.2e9 } else { 0.4e9 };
            assert!(t.time_ns >= asked && t.time_ns < asked + 0.15e9, "{} {}", t.name, t.time_ns);
        }
    }
    assert!(ran.reason("fails").contains("exit code 1"), "{}", ran.reason("fails"));
}

#[test]
fn a_tenant_may_have_two_processes_of_which_one_is_new() {
    // As a trial with the whole GPU for its baseline has: the shared process and its twin.
    let text = format!(
        "{HEAD}[tenants]\na = {{ command = {} }}\n\
         [[trial]]\nname = \"one\"\nsharing = \"solo\"\ntenants = [\"a\"]\n",
        script("good.py", &["--ms", "1"]),
    );
    let backend = HostBackend::new(Arc::new(AtomicBool::new(false)));
    let plan = Spec::parse(&text, "t.toml").expect("reads").resolve(backend.sizes(), &[]).expect("resolves");
    let scratch = tempfile::tempdir().expect("a folder");
    let mut troupe = Troupe::new(scratch.path().to_owned(), Arc::new(AtomicBool::new(false)));
    let part = || Part { tenant: 0, plan: &plan.trials[0].tenants[0], env: Vec::new() };
    let patience = Duration::from_secs(20);
    let first = troupe.cast(&[part()]).expect("a process");
    troupe.set_up(&[part()], &first, patience).expect("it is ready");
    let both = troupe.cast(&[part(), part()]).expect("two processes");
    assert_eq!(both[0], first[0], "the first is kept");
    troupe.set_up(&[part(), part()], &both, patience).expect("both are ready");
    let keys = |h: u64| troupe.facts(h).into_iter().map(|f| f.0).collect::<Vec<_>>();
    assert_eq!(keys(both[0]), ["length_ns", "pid"]);
    assert_eq!(keys(both[1]), ["length_ns", "pid"]);
}

#[test]
fn the_end_of_an_opaque_program_is_noticed_while_others_go_on() {
    let ran = run_text(&format!(
        "[measure]\nrepeats = [1, 1]\n[tenants]\na = {{ command = [\"sleep\", \"0.1\"], protocol = \"opaque\" }}\n\
         b = {{ command = {}, iterations = 80 }}\n\
         [[trial]]\nname = \"beside\"\nsharing = \"processes\"\ntenants = [\"a\", \"b\"]\n",
        script("good.py", &["--ms", "10"]),
    ));
    assert_eq!(ran.tally.done, 1, "{:?}", ran.outcomes);
    let shared = ran.repeats[0].phases.iter().find(|p| p.phase == "shared").expect("a shared phase");
    let (a, b) = (&shared.tenants[0], &shared.tenants[1]);
    assert!(a.time_ns < 0.4e9 && b.end_ns.0 > 700_000_000, "{} {}", a.time_ns, b.end_ns);
}

macro_rules! bad {
    ($test:ident, $mode:literal, $measure:literal, $($words:literal),+) => {
        #[test]
        fn $test() {
            let ran = beside_bad($mode, $measure);
            let why = ran.reason("bad");
            for words in [$($words),+] {
                assert!(why.contains(words), "{why:?} does not say {words:?}");
            }
            assert_eq!(ran.outcome("after").status, "done", "{:?}", ran.outcome("after").reason);
            assert_eq!(left_behind($mode), Vec::<String>::new());
            assert!(ran.took < Duration::from_secs(60), "took {:?}", ran.took);
            drop(ran.folder);
        }
    };
}

bad!(out_of_memory_is_told, "memory", "", "tenant bad", "out of memory");
bad!(
    a_hang_within_a_phase_ends_at_the_watchdog,
    "hang",
    "watchdog = \"1s\"",
    "hung",
    "1 s",
    "measure.watchdog"
);
bad!(a_hang_in_setup_ends_at_the_watchdog, "hang-setup", "watchdog = \"1s\"", "hung", "`ready`");
bad!(garbage_on_the_protocol_is_shown, "garbage", "", "nonsense", "tenant bad");
bad!(an_endless_line_is_cut, "huge-line", "", "nonsense", "1048576 bytes");
bad!(a_killed_tenant_is_named, "die", "", "tenant bad", "signal 9");
bad!(an_early_end_is_noticed, "exit-early", "", "tenant bad", "ended");
bad!(last_words_are_shown, "stderr", "", "its last output", "tenant bad");
bad!(a_tenant_that_ignores_stop_is_hung, "slow-stop", "watchdog = \"1s\"", "hung", "`done`");
bad!(another_version_is_refused, "wrong-version", "", "version");

#[test]
fn a_missing_package_skips_the_trial() {
    let ran = beside_bad("no-torch", "");
    let o = ran.outcome("bad");
    assert_eq!(o.status, "skipped", "{:?}", o.reason);
    assert!(o.reason.as_deref().is_some_and(|r| r.contains("torch")), "{:?}", o.reason);
    assert_eq!(ran.outcome("after").status, "done");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let ran = run_text(
        "[measure]\nrepeats = [1, 1]\n[tenants]\na = { command = [\"/nowhere/at-all\"] }\n\
         [[trial]]\nname = \"bad\"\nsharing = \"solo\"\ntenants = [\"a\"]\n",
    );
    assert!(ran.reason("bad").contains("/nowhere/at-all"), "{}", ran.reason("bad"));
}
