//! Every verb, as documented.

use crate::fixtures::PAIR;
use crate::room::{Room, snap};
use std::fs;

/// Replaces every number, so that a snapshot shows a table's form and not one card's values.
fn without_numbers(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let masked: Vec<String> = line
            .split_whitespace()
            .map(|w| {
                let number = w.chars().any(|c| c.is_ascii_digit())
                    && w.chars().all(|c| c.is_ascii_digit() || ".,[]×−+%-".contains(c));
                if number { "#".to_owned() } else { w.to_owned() }
            })
            .collect();
        out.push_str(&masked.join(" "));
        out.push('\n');
    }
    out
}

#[test]
fn doctor_works_without_a_gpu_and_says_what_to_do() {
    let room = Room::new();
    let r = room.cotenant(&["doctor"]).exits(7);
    for word in ["GPU", "SHARING", "MEASUREMENT", "missing", "→", "--device sim:CARD"] {
        assert!(r.out.contains(word), "{word} is not in:\n{}", r.out);
    }
    let all = room.cotenant(&["doctor", "--json"]).exits(7).json();
    let findings = all.as_array().expect("a list");
    for item in
        ["driver", "simulated GPUs", "green contexts", "MIG", "MPS control program", "NVML", "ncu", "CUPTI"]
    {
        assert!(findings.iter().any(|f| f["item"] == item), "{item} is not among {findings:#?}");
    }
    for f in findings {
        assert!(f["status"] != "missing" || f["remedy"] != "", "a lack without remedy: {f}");
    }
}

#[test]
fn experiments_are_listed() {
    let room = Room::new();
    let table = room.cotenant(&["experiments"]).exits(0).out;
    let list = room.cotenant(&["experiments", "--json"]).exits(0).json();
    let names: Vec<&str> =
        list.as_array().expect("a list").iter().filter_map(|e| e["name"].as_str()).collect();
    assert!(names.len() >= 20 && names[0] == "quickstart", "{names:?}");
    for name in &names {
        assert!(table.contains(name), "{name} is not in the table");
    }
    let file_stems = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments"));
    if let Ok(files) = file_stems {
        assert_eq!(files.count(), names.len(), "each file of experiments/ is built in");
    }
    for e in list.as_array().expect("a list") {
        for key in ["title", "summary"] {
            assert!(e[key].as_str().is_some_and(|s| !s.is_empty()), "{key} of {e}");
        }
    }
}

#[test]
fn kernels_are_listed_with_units_and_parameters() {
    let room = Room::new();
    let table = room.cotenant(&["kernels"]).exits(0).out;
    let list = room.cotenant(&["kernels", "--json"]).exits(0).json();
    for k in list.as_array().expect("a list") {
        let name = k["name"].as_str().expect("a name");
        assert!(table.contains(name), "{name} is not in the table");
        assert!(k["demand"].is_object() && k["turn"].as_str().is_some_and(|t| !t.is_empty()), "{name}: {k}");
        for p in k["params"].as_array().expect("a list") {
            let at = |key: &str| p[key].as_f64().unwrap_or(f64::NAN);
            assert!(at("least") <= at("default") && at("default") <= at("most"), "{name}: {p}");
        }
    }
}

#[test]
fn cards_are_listed() {
    let room = Room::new();
    let r = room.cotenant(&["cards"]).exits(0);
    let list = room.cotenant(&["cards", "--json"]).exits(0).json();
    for c in list.as_array().expect("a list") {
        assert!(r.out.contains(c["name"].as_str().expect("a name")));
        let origin = if c["measured"] == true { "measured" } else { "unmeasured" };
        let name = c["name"].as_str().unwrap_or_default();
        assert!(r.out.lines().any(|l| l.contains(name) && l.contains(origin)), "{name}: {origin}");
    }
}

#[test]
fn completions_and_man_pages_name_every_verb() {
    let room = Room::new();
    let verbs = [
        "run",
        "doctor",
        "probe",
        "report",
        "compare",
        "experiments",
        "kernels",
        "cards",
        "completions",
        "man",
    ];
    for shell in ["bash", "zsh", "fish"] {
        let script = room.cotenant(&["completions", shell]).exits(0).out;
        for v in verbs {
            assert!(script.contains(v), "{v} is not in the {shell} completions");
        }
        assert!(!script.contains("kernel-once"), "a hidden verb is in the {shell} completions");
    }
    room.cotenant(&["completions", "tcsh"]).exits(2);
    room.cotenant(&["man", "pages"]).exits(0);
    for v in verbs {
        let page = fs::read_to_string(room.path().join(format!("pages/cotenant-{v}.1"))).expect(v);
        assert!(page.contains(".TH"), "{v} has no man page header");
    }
    assert!(!room.path().join("pages/cotenant-worker.1").exists());
}

#[test]
fn the_bash_completion_script_is_accepted_by_bash() {
    let room = Room::new();
    let script = room.cotenant(&["completions", "bash"]).exits(0).out;
    let path = room.file("c.bash", &script);
    match std::process::Command::new("bash").arg("-n").arg(path).status() {
        Ok(s) => assert!(s.success()),
        Err(e) => eprintln!("skipped: bash cannot be started ({e})"),
    }
}

#[test]
fn help_and_version() {
    let room = Room::new();
    snap!("help", room.cotenant(&["--help"]).exits(0).out);
    snap!("help_run", room.cotenant(&["run", "--help"]).exits(0).out);
    assert!(room.cotenant(&["--version"]).exits(0).out.starts_with("cotenant "));
    room.cotenant(&["nonsense"]).exits(2);
    room.cotenant(&["run"]).exits(2);
}

#[test]
fn quickstart_prints_its_table_and_leaves_a_whole_run_folder() {
    let room = Room::new();
    let r = room.cotenant(&["run", "quickstart"]).exits(0);
    snap!("quickstart_form", without_numbers(&r.out));
    let folder = room.path().join(r.run_folder());
    for f in [
        "manifest.json",
        "repeats.jsonl",
        "outcomes.jsonl",
        "warnings.jsonl",
        "telemetry.csv",
        "summary.json",
    ] {
        assert!(folder.join(f).is_file(), "{f} is missing");
    }
    let page = fs::read_to_string(folder.join("report.html")).expect("a report");
    assert!(page.contains("<svg") && page.to_lowercase().contains("simulated"));
    assert!(fs::read_dir(folder.join("figures")).expect("figures").count() >= 1);
    assert!(r.err.contains("4 trials on simulated"), "{}", r.err);
    let quiet = room.cotenant(&["run", "quickstart", "--quiet"]).exits(0);
    assert_eq!(quiet.err, "");
}

#[test]
fn numbers_of_a_seed_are_printed_alike_everywhere() {
    let room = Room::new();
    snap!("sleep_table", room.cotenant(&["run", "quickstart", "--only", "sleep-*"]).exits(0).out);
}

/// Outcomes without what they say about the tool's own time, which differs from run to run.
fn without_timing(outcomes: &str) -> String {
    let line = |l: &str| {
        let mut o: serde_json::Value = serde_json::from_str(l).expect("JSON");
        assert!(o["timing"]["own_ns"].is_u64(), "{l}");
        o["timing"] = serde_json::Value::Null;
        o.to_string()
    };
    outcomes.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn two_runs_of_one_seed_are_the_same_run() {
    let room = Room::new();
    let runs: Vec<_> = (0..2)
        .map(|_| {
            let r = room.cotenant(&["run", "quickstart", "-q"]).exits(0);
            room.path().join(r.run_folder())
        })
        .collect();
    assert_ne!(runs[0], runs[1]);
    // A figure says when its run started; that alone may differ.
    let started = |i: usize| -> String {
        let text = fs::read_to_string(runs[i].join("manifest.json")).expect("a manifest");
        let m: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        m["provenance"]["started"].as_str().expect("a time").to_owned()
    };
    for file in
        ["summary.json", "repeats.jsonl", "outcomes.jsonl", "warnings.jsonl", "figures/figure-1-speedup.svg"]
    {
        let [a, b] = [0, 1].map(|i| {
            let text = fs::read_to_string(runs[i].join(file)).expect(file).replace(&started(i), "STARTED");
            if file == "outcomes.jsonl" { without_timing(&text) } else { text }
        });
        assert!(a == b, "{file} differs between two runs of one seed");
    }
    let manifest = |i: usize| -> serde_json::Value {
        let text = fs::read_to_string(runs[i].join("manifest.json")).expect("a manifest");
        let mut m: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        m["provenance"]["started"] = serde_json::Value::Null;
        m
    };
    assert_eq!(manifest(0), manifest(1));
    assert_eq!(manifest(0)["simulated"], true);
}

#[test]
fn another_seed_is_another_run() {
    let room = Room::new();
    let value = |seed: &str| {
        let args = ["run", "quickstart", "--only", "sleep-1*", "--json", "--set", seed];
        room.cotenant(&args).exits(0).json()["trials"][0]["metrics"]["speedup"].clone()
    };
    assert_eq!(value("seed=7"), value("seed=7"));
    assert_ne!(value("seed=7"), value("seed=8"));
}

#[test]
fn only_selects_and_does_not_change_numbers() {
    let room = Room::new();
    let all = room.cotenant(&["run", "quickstart", "--json"]).exits(0).json();
    let some = room
        .cotenant(&["run", "quickstart", "--json", "--only", "*-2-*", "--only", "copy*t128"])
        .exits(0)
        .json();
    let ids: Vec<_> = some["trials"].as_array().expect("a list").iter().map(|t| t["trial"].clone()).collect();
    assert_eq!(ids, ["copy-mul-ilp1-t128", "sleep-2-per-sm"]);
    let metrics = |v: &serde_json::Value, id: &str| {
        v["trials"].as_array().and_then(|a| a.iter().find(|t| t["trial"] == id)).map(|t| t["metrics"].clone())
    };
    assert_eq!(metrics(&all, "sleep-2-per-sm"), metrics(&some, "sleep-2-per-sm"));
    let none = room.cotenant(&["run", "quickstart", "--only", "nope"]).exits(3);
    snap!("only_nothing", none.err);
}

#[test]
fn set_overrides_a_value_and_is_recorded() {
    let room = Room::new();
    room.file("pair.toml", PAIR);
    let r = room.cotenant(&[
        "run",
        "pair.toml",
        "--set",
        "tenants.b.threads=64",
        "--set",
        "measure.repeats=[4, 4]",
    ]);
    let r = r.exits(0);
    let manifest =
        fs::read_to_string(room.path().join(r.run_folder()).join("manifest.json")).expect("a manifest");
    let m: serde_json::Value = serde_json::from_str(&manifest).expect("JSON");
    assert_eq!(m["trials"][0]["tenants"][1]["threads"], 64);
    assert_eq!(m["overrides"], serde_json::json!(["tenants.b.threads=64", "measure.repeats=[4, 4]"]));
    assert_eq!(m["spec_text"], PAIR, "the file stays as it was read");
    let lines = fs::read_to_string(room.path().join(r.run_folder()).join("repeats.jsonl")).expect("repeats");
    assert_eq!(lines.lines().count(), 4);
}

#[test]
fn a_report_is_made_again_from_the_stored_run_alone() {
    let room = Room::new();
    let r = room.cotenant(&["run", "quickstart", "-q"]).exits(0);
    let folder = room.path().join(r.run_folder());
    let derived = ["summary.json", "report.html", "figures/figure-1-speedup.svg"];
    let before: Vec<String> = derived.iter().map(|f| fs::read_to_string(folder.join(f)).expect(f)).collect();
    for f in derived {
        fs::remove_file(folder.join(f)).expect(f);
    }
    // The run carries its experiment and moves with its folder.
    let moved = room.path().join("moved");
    fs::rename(&folder, &moved).expect("move the folder");
    let again = room.cotenant(&["report", "moved"]).exits(0);
    assert_eq!(again.out.lines().next(), r.out.lines().next());
    for (f, old) in derived.iter().zip(before) {
        assert!(fs::read_to_string(moved.join(f)).expect(f) == old, "{f} changed");
    }
    let list = room.cotenant(&["report", "moved", "moved", "--json"]).exits(0).json();
    assert_eq!(list.as_array().map(Vec::len), Some(2));
}

#[test]
fn a_run_compared_with_itself_is_the_same() {
    let room = Room::new();
    // Repeats enough that every interval is narrow: a wide one is "ambiguous", even beside itself.
    let r = room.cotenant(&["run", "quickstart", "-q", "--set", "measure.repeats=[40, 40]"]).exits(0);
    let f = r.run_folder();
    let table = room.cotenant(&["compare", f, f, "--fail-above", "0"]).exits(0).out;
    assert!(table.contains("mean |error| 0.0 %"), "{table}");
    for line in table.lines().filter(|l| l.contains('×') || l.contains(" ms ")) {
        assert!(line.contains(" 0.0 % "), "{line}");
        assert!(line.trim_end().ends_with("same"), "{line}");
    }
    let c = room.cotenant(&["compare", f, f, "--json"]).exits(0);
    c.json();
    for verdict in ["faster", "slower", "ambiguous"] {
        assert!(!c.out.contains(&format!("\"{verdict}\"")), "{verdict} in {}", c.out);
    }
}

#[test]
fn different_runs_differ_and_the_bound_decides_the_exit_code() {
    let room = Room::new();
    room.file("pair.toml", PAIR);
    let short = room.cotenant(&["run", "pair.toml", "-q"]).exits(0);
    let long = room.cotenant(&["run", "pair.toml", "-q", "--set", "tenants.a.iterations=200"]).exits(0);
    let (a, b) = (short.run_folder(), long.run_folder());
    let table = room.cotenant(&["compare", a, b]).exits(0).out;
    assert!(table.lines().any(|l| l.contains("solo_ms.a") && l.contains("slower")), "{table}");
    room.cotenant(&["compare", a, b, "--fail-above", "1000"]).exits(0);
    // `slowdown` and `speedup` hardly move, times do not count in the error: a bound of nothing is passed by noise.
    room.cotenant(&["compare", a, b, "--fail-above", "0"]).exits(8);
}

#[test]
fn a_run_is_compared_with_its_references() {
    let room = Room::new();
    let r = room.cotenant(&["run", "quickstart", "-q"]).exits(0);
    let f = r.run_folder();
    let all = room.cotenant(&["compare", f, "--reference"]).exits(0).out;
    assert!(all.contains("paper, H100 NVL") && all.contains("peer's code"), "{all}");
    let one = room.cotenant(&["compare", f, "--reference", "--source", "paper"]).exits(0).out;
    assert!(one.contains("paper, H100 NVL") && !one.contains("peer's code"), "{one}");
    room.cotenant(&["compare", f, "--reference", "--fail-above", "0"]).exits(8);
    room.cotenant(&["compare", f]).exits(2);
    room.cotenant(&["compare", f, f, "--reference"]).exits(2);
}

#[test]
fn probe_writes_a_card_that_can_be_simulated() {
    let room = Room::new();
    let r = room.cotenant(&["probe", "--device", "sim:l4-24gb", "--out", "mine.json"]).exits(0);
    assert!(r.out.contains("card: mine.json") && r.out.contains("report: mine.html"), "{}", r.out);
    let card: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(room.path().join("mine.json")).expect("a card"))
            .expect("JSON");
    assert_eq!(card["measured"], false, "what a simulator says of itself is no measurement");
    assert!(card["provenance"][0].as_str().is_some_and(|p| p.starts_with("simulated")), "{card}");
    let page = fs::read_to_string(room.path().join("mine.html")).expect("a page");
    assert!(page.contains("<svg") && page.to_lowercase().contains("simulated"));
    room.file("pair.toml", PAIR);
    let r = room.cotenant(&["run", "pair.toml", "--device", "sim:mine.json"]).exits(0);
    assert!(r.out.contains("SIMULATED") && r.out.contains("L4"), "{}", r.out);
}

#[test]
fn run_prints_json_that_is_the_summary() {
    let room = Room::new();
    room.file("pair.toml", PAIR);
    let r = room.cotenant(&["run", "pair.toml", "--json"]).exits(0);
    assert_eq!(r.err, "", "nothing beside the JSON");
    let runs = room.runs();
    let stored = fs::read_to_string(runs[0].join("summary.json")).expect("a summary");
    assert_eq!(r.json(), serde_json::from_str::<serde_json::Value>(&stored).expect("JSON"));
    assert_eq!(r.json()["trials"][0]["status"], "done");
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let room = Room::new();
    let pipe = format!("'{}' kernels | head -n 1", crate::room::EXE);
    let out = std::process::Command::new("bash")
        .args(["-o", "pipefail", "-c", &pipe])
        .current_dir(room.path())
        .output();
    let out = out.expect("bash starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(String::from_utf8_lossy(&out.stderr), "");
}

#[test]
fn every_sharing_mode_but_mig_runs_on_the_simulated_gpu() {
    let room = Room::new();
    let r =
        room.cotenant(&["run", "mode-matrix", "--json", "--set", "measure.repeats=[3, 3]"]).exits(0).json();
    let trials = r["trials"].as_array().expect("a list");
    for mode in ["streams", "processes", "mps", "green"] {
        let done = trials
            .iter()
            .any(|t| t["trial"].as_str().is_some_and(|id| id.contains(mode)) && t["status"] == "done");
        assert!(done, "no trial of {mode} is done: {trials:#?}");
    }
}

#[test]
fn doctor_lists_the_mig_instances_that_nvml_knows() {
    let room = Room::new();
    let library = room.path().join("libfake-nvml.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../gpu/tests/fake_nvml.c");
    match std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status()
    {
        Ok(s) => assert!(s.success(), "the fake NVML does not compile"),
        Err(e) => return eprintln!("skipped: `cc` cannot be started: {e}"),
    }
    let mut c = room.command(&["doctor", "--json"]);
    c.env("COTENANT_NVML", &library);
    let findings = Room::ran(c).exits(7).json();
    let find = |item: &str| findings.as_array().and_then(|f| f.iter().find(|f| f["item"] == item)).cloned();
    let mig = find("MIG").expect("a finding on MIG");
    assert_eq!(mig["status"], "ok", "{mig}");
    for uuid in ["MIG-11111111-aaaa-5bbb-8ccc-000000000001", "MIG-11111111-aaaa-5bbb-8ccc-000000000002"] {
        assert!(mig["detail"].as_str().is_some_and(|d| d.contains(uuid)), "{mig}");
    }
    assert!(mig["detail"].as_str().is_some_and(|d| d.contains("1g.10gb")), "{mig}");
    let nvml = find("NVML").expect("a finding on NVML");
    assert!(nvml["detail"].as_str().is_some_and(|d| d.contains("999.42.07")), "{nvml}");
    let mut c = room.command(&["doctor"]);
    c.env("COTENANT_NVML", &library);
    assert!(Room::ran(c).exits(7).out.contains("MIG-11111111-aaaa-5bbb-8ccc-000000000001"));
}
