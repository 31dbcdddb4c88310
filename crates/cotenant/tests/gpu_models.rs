//! Models as tenants on a real GPU: three clocks, kernels beside models, partitions, and faults that take the MPS server
//! down. They need Python with torch and transformers beside the GPU.
//!
//! `scripts/gpu-tests.sh` runs these; they are ignored where there may be no GPU.

use cotenant_store::format::{OutcomeRecord, PhaseRecord, PhaseTenant, RepeatRecord, Summary};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program: the one of this build, or the one that was built for this machine.
fn exe() -> PathBuf {
    std::env::var_os("COTENANT_WORKER_EXE")
        .map_or_else(|| env!("CARGO_BIN_EXE_cotenant").into(), PathBuf::from)
}

/// Where `tenants/tests` is: beside the sources, or where the binaries were carried to.
fn scripts() -> PathBuf {
    let carried = exe().parent().map(|d| d.join("tenants/tests")).filter(|d| d.is_dir());
    carried.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tenants/tests"))
}

struct Ran {
    dir: tempfile::TempDir,
    outcomes: Vec<OutcomeRecord>,
    repeats: Vec<RepeatRecord>,
    summary: Summary,
}

impl Ran {
    fn status(&self, trial: &str) -> (&str, &str) {
        let o = self.outcomes.iter().find(|o| o.trial == trial).unwrap_or_else(|| panic!("no {trial}"));
        (&o.status, o.reason.as_deref().unwrap_or_default())
    }

    fn phases(&self, trial: &str, kind: &str) -> Vec<&PhaseRecord> {
        let of = self.repeats.iter().filter(|r| r.trial == trial).flat_map(|r| &r.phases);
        of.filter(|p| p.phase == kind).collect()
    }

    fn metric(&self, trial: &str, name: &str) -> f64 {
        let t = self.summary.trials.iter().find(|t| t.trial == trial).expect("a summary");
        t.metrics.get(name).unwrap_or_else(|| panic!("{trial} has no {name}: {:?}", t.metrics.keys())).value
    }
}

fn run(body: &str) -> Ran {
    let dir = tempfile::tempdir().expect("a folder");
    let scratch = dir.path().join("scratch");
    fs::create_dir(&scratch).expect("a scratch folder");
    let head = "format = 1\nname = \"models\"\ntitle = \"t\"\nsummary = \"s\"\n";
    fs::write(dir.path().join("models.toml"), format!("{head}{body}")).expect("write the experiment");
    let ended = Command::new(exe())
        .args(["run", "models.toml", "--device", "cuda:0", "--quiet", "--out", "runs"])
        .current_dir(dir.path())
        .env("TMPDIR", &scratch)
        .env_remove("CUDA_MPS_PIPE_DIRECTORY")
        .env_remove("COTENANT_WORKER_EXE")
        .output()
        .expect("the program starts");
    let left: Vec<_> = fs::read_dir(&scratch)
        .expect("the scratch folder")
        .flatten()
        .map(|e| e.file_name())
        .filter(|n| n.to_string_lossy().starts_with("cotenant"))
        .collect();
    assert!(left.is_empty(), "left in the scratch folder: {left:?}");
    let mut runs = fs::read_dir(dir.path().join("runs")).unwrap_or_else(|e| {
        panic!("no run ({e}): {}", String::from_utf8_lossy(&ended.stderr));
    });
    let run = runs.next().expect("a run").expect("a folder").path();
    let lines = |file: &str| fs::read_to_string(run.join(file)).expect("a file of the run");
    Ran {
        outcomes: lines("outcomes.jsonl")
            .lines()
            .map(|l| serde_json::from_str(l).expect("an outcome"))
            .collect(),
        repeats: lines("repeats.jsonl").lines().map(|l| serde_json::from_str(l).expect("a repeat")).collect(),
        summary: serde_json::from_str(&lines("summary.json")).expect("a summary"),
        dir,
    }
}

fn median(values: &[u64]) -> f64 {
    let mut v = values.to_vec();
    v.sort_unstable();
    v[v.len() / 2] as f64
}

/// Kernel time within busy time within wall time, event time about wall time.
fn clocks_agree(t: &PhaseTenant) {
    let wall: Vec<u64> = t.spans_ns.iter().map(|(s, e)| e - s).collect();
    assert_eq!((t.event_ns.len(), t.kernel_ns.len(), t.busy_ns.len()), (wall.len(), wall.len(), wall.len()));
    for (i, w) in wall.iter().enumerate() {
        assert!(t.busy_ns[i] <= t.kernel_ns[i] && t.busy_ns[i] <= *w, "{} iteration {i}", t.name);
        assert!(t.event_ns[i] <= *w + 20_000, "{}: event {} wall {w}", t.name, t.event_ns[i]);
        assert!(t.kernels[i] > 20, "{} has {} kernels", t.name, t.kernels[i]);
    }
    assert!(median(&t.event_ns) > 0.8 * median(&wall), "{}", t.name);
}

#[test]
#[ignore = "needs a GPU, torch and transformers; run by scripts/gpu-tests.sh"]
fn a_pair_of_models_has_three_clocks_and_starts_together() {
    let ran = run(
        "[measure]\nrepeats = [3, 3]\n[tenants]\na = { torch = \"distilgpt2\", iterations = 50 }\n\
                   b = { torch = \"distilbert\", iterations = 50 }\n\
                   [[trial]]\nname = \"pair\"\nsharing = \"mps\"\nprotocol = \"steady\"\ntenants = [\"a\", \"b\"]\n",
    );
    assert_eq!(ran.status("pair").0, "done", "{}", ran.status("pair").1);
    for kind in ["solo-traced", "shared-traced"] {
        let phases = ran.phases("pair", kind);
        assert!(!phases.is_empty(), "no {kind}");
        phases.iter().flat_map(|p| &p.tenants).for_each(clocks_agree);
    }
    for p in ran.phases("pair", "shared") {
        assert!(p.start_spread_ns.expect("a spread") < 50_000, "{:?}", p.start_spread_ns);
        assert!(p.tenants.iter().all(|t| t.counted >= 40), "{:?}", p.tenants.iter().map(|t| t.counted));
        assert!(p.overlap.expect("an overlap") > 0.9);
    }
    assert!(ran.metric("pair", "slowdown.a") > 0.8 && ran.metric("pair", "slowdown.b") < 3.0);
    // Eager at this size, most of an iteration is the host's.
    assert!(ran.metric("pair", "launch_bound.b") > 0.4);
    let facts = &ran.outcomes[0].facts["a"];
    assert_eq!(facts["parameters"], 81_912_576);
    assert!(facts["weights"].as_str().is_some_and(|w| w.contains("random")));
    drop(ran.dir);
}

#[test]
#[ignore = "needs a GPU, torch and transformers; run by scripts/gpu-tests.sh"]
fn ten_tenants_start_together_and_the_run_takes_little() {
    let ran = run(
        "[measure]\nrepeats = [2, 2]\ntraced = 0\n[tenants]\na = { torch = \"distilgpt2\", iterations = 40 }\n\
                   [[trial]]\nname = \"ten\"\nsharing = \"mps\"\nprotocol = \"steady\"\n\
                   tenants = [{ use = \"a\", copies = 10 }]\n",
    );
    assert_eq!(ran.status("ten").0, "done", "{}", ran.status("ten").1);
    for p in ran.phases("ten", "shared") {
        assert!(p.start_spread_ns.expect("a spread") < 50_000, "{:?}", p.start_spread_ns);
    }
    let t = ran.outcomes[0].timing.expect("a timing");
    assert!(t.own_ns.0 < 2_000_000_000, "own time {}", t.own_ns);
    let share = t.phases_cpu_ns.0 as f64 / t.phases_ns.0 as f64;
    assert!(share < 0.05, "the run took {share} of a core");
}

#[test]
#[ignore = "needs a GPU, torch and transformers; run by scripts/gpu-tests.sh"]
fn a_kernel_runs_beside_a_model_on_one_clock() {
    let ran = run(
        "[measure]\nrepeats = [2, 2]\ntraced = 0\n[tenants]\nm = { torch = \"distilbert\", iterations = 40 }\n\
                   k = { kernel = \"sleep\", blocks = 1, params = { ns = \"1ms\" }, iterations = 1, launches = 30 }\n\
                   [[trial]]\nname = \"mixed\"\nsharing = \"mps\"\nprotocol = \"steady\"\ntenants = [\"m\", \"k\"]\n",
    );
    assert_eq!(ran.status("mixed").0, "done", "{}", ran.status("mixed").1);
    for p in ran.phases("mixed", "shared") {
        let (m, k) = (&p.tenants[0], &p.tenants[1]);
        // Both start at one moment and stop together: the clocks of the device and of the host are brought together.
        assert!(m.start_ns.0.abs_diff(k.start_ns.0) < 1_000_000, "{:?} {:?}", m.start_ns, k.start_ns);
        assert!(m.end_ns.0.abs_diff(k.end_ns.0) < 10_000_000, "{:?} {:?}", m.end_ns, k.end_ns);
        assert!((k.time_ns / 1e6 - 1.0).abs() < 0.1, "a sleep of 1 ms took {}", k.time_ns);
    }
    assert!(ran.metric("mixed", "slowdown.m") < 1.3, "a sleeping block takes nothing");
}

#[test]
#[ignore = "needs a GPU, torch and transformers; run by scripts/gpu-tests.sh"]
fn a_partition_is_what_the_tenant_sees() {
    let ran = run(
        "[measure]\nrepeats = [2, 2]\ntraced = 0\n[tenants]\na = { torch = \"distilbert\", iterations = 20 }\n\
                   [[trial]]\nname = \"parts\"\nsharing = { mode = \"mps\", percentage = [25, 75] }\n\
                   baseline = \"whole-gpu\"\nprotocol = \"steady\"\ntenants = [\"a\", \"a\"]\n\
                   [[trial]]\nname = \"again\"\nsharing = { mode = \"mps\", percentage = [25, 50] }\n\
                   baseline = \"whole-gpu\"\nprotocol = \"steady\"\ntenants = [\"a\", \"a\"]\n",
    );
    for (trial, shares) in [("parts", [25.0, 75.0]), ("again", [25.0, 50.0])] {
        assert_eq!(ran.status(trial).0, "done", "{}", ran.status(trial).1);
        let o = ran.outcomes.iter().find(|o| o.trial == trial).expect("an outcome");
        assert_eq!(o.grants.iter().filter_map(|g| g.percentage).collect::<Vec<_>>(), shares);
    }
}

#[test]
#[ignore = "needs a GPU, torch and transformers; run by scripts/gpu-tests.sh"]
fn a_client_that_takes_the_mps_server_down_fails_its_trial_only() {
    let fault = scripts().join("fault.py").display().to_string();
    let ran = run(&format!(
        "[measure]\nrepeats = [2, 2]\ntraced = 0\nwatchdog = \"30s\"\n[tenants]\n\
         a = {{ torch = \"distilgpt2\", iterations = 40 }}\n\
         f = {{ command = [\"python3\", {fault:?}, \"--after\", \"75\"], iterations = 40 }}\n\
         [[trial]]\nname = \"fault\"\nsharing = \"mps\"\nprotocol = \"steady\"\ntenants = [\"a\", \"f\"]\n\
         [[trial]]\nname = \"after\"\nsharing = \"mps\"\nprotocol = \"steady\"\ntenants = [\"a\", \"a\"]\n"
    ));
    let (status, why) = ran.status("fault");
    assert_eq!(status, "failed");
    assert!(why.contains("tenant ") && why.contains("its last output"), "{why}");
    assert_eq!(ran.status("after").0, "done", "{}", ran.status("after").1);
}

#[test]
#[ignore = "needs a GPU, torch and transformers; run by scripts/gpu-tests.sh"]
fn a_model_that_does_not_fit_says_so() {
    let ran = run("[measure]\nrepeats = [2, 2]\ntraced = 0\n[tenants]\n\
                   a = { torch = \"distilgpt2\", iterations = 10 }\n\
                   big = { torch = \"distilgpt2\", batch = 2048, sequence = 1024, iterations = 10 }\n\
                   [[trial]]\nname = \"memory\"\nsharing = \"processes\"\ntenants = [\"a\", \"big\"]\n\
                   [[trial]]\nname = \"after\"\nsharing = \"processes\"\ntenants = [\"a\"]\n");
    let (status, why) = ran.status("memory");
    assert_eq!(status, "failed");
    assert!(why.contains("tenant big") && why.contains("out of memory"), "{why}");
    assert_eq!(ran.status("after").0, "done", "{}", ran.status("after").1);
}
