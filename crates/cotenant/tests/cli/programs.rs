//! Programs as tenants, on the device `host`: scripted ones in Python, well-behaved and not.

use crate::room::{Ran, Room, snap};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A scripted tenant of `tenants/tests`.
fn script(name: &str) -> String {
    format!("{}/../../tenants/tests/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A tenant whose iterations last so many milliseconds.
pub fn good(ms: u32) -> String {
    format!("command = [\"python3\", \"{}\", \"--ms\", \"{ms}\"]", script("good.py"))
}

fn bad(mode: &str) -> String {
    format!("command = [\"python3\", \"{}\", \"{mode}\"]", script("bad.py"))
}

/// An experiment of these tenants (name, lines) and trials (name, tenants), with a watchdog of 2 s.
pub fn experiment(tenants: &[(&str, &str)], trials: &[(&str, &str)]) -> String {
    let mut text = String::from(
        "format = 1\nname = \"programs\"\ntitle = \"Programs\"\nsummary = \"Scripted programs.\"\n\
         [measure]\nrepeats = [3, 3]\nprecision = 0.5\nwatchdog = \"2s\"\n",
    );
    for (name, lines) in tenants {
        text.push_str(&format!("[tenants.{name}]\n{lines}\n"));
    }
    for (name, tenants) in trials {
        text.push_str(&format!(
            "[[trial]]\nname = \"{name}\"\nsharing = \"processes\"\nprotocol = \"steady\"\ntenants = {tenants}\n"
        ));
    }
    text
}

/// Runs it on the host.
fn on_the_host(room: &Room, text: &str, more: &[&str]) -> Ran {
    room.file("programs.toml", text);
    let args: Vec<&str> = ["run", "programs.toml", "--device", "host"].iter().chain(more).copied().collect();
    let ran = room.cotenant(&args);
    assert_eq!(room.processes(), Vec::<String>::new(), "a tenant outlived its run");
    assert_eq!(room.scratch(), Vec::<String>::new(), "files of the tenants are left");
    ran
}

/// Lines of a file of the only run, as JSON.
fn records(room: &Room, file: &str) -> Vec<Value> {
    let runs = room.runs();
    assert_eq!(runs.len(), 1, "{runs:?}");
    let text = fs::read_to_string(runs[0].join(file)).expect(file);
    text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect()
}

/// What the record says of the only trial.
fn outcome(room: &Room) -> (String, String) {
    let all = records(room, "outcomes.jsonl");
    assert_eq!(all.len(), 1, "{all:?}");
    let text = |key: &str| all[0][key].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

/// The first tenant of a repeat's solo phase.
fn solo(repeat: &Value) -> &Value {
    let phase = repeat["phases"].as_array().expect("phases").iter().find(|p| p["phase"] == "solo");
    &phase.expect("a solo phase")["tenants"][0]
}

/// Nothing of the page is loaded from elsewhere.
fn loads_nothing(page: &str) {
    let page = page.replace("<link rel=\"icon\" href=\"data:,\">", "").replace("http-equiv", "");
    for tag in ["<script src", "<link", "<img", "@import", "url(", "<iframe"] {
        assert!(!page.contains(tag), "the page has {tag}");
    }
    // The name of SVG looks like an address, and nothing fetches it.
    let page = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!page.contains("http"), "the page names an address");
}

#[test]
fn two_programs_give_a_table_a_report_and_their_logs() {
    let room = Room::new();
    room.file(
        "mine.py",
        "import sys, time, cotenant\nprint('hello from stdout', flush=True)\nsys.stderr.write('and stderr\\n')\n\
         cotenant.fact('layers', 12)\nfor _ in cotenant.iterations(tokens=8):\n    time.sleep(0.003)\n",
    );
    let mine = "command = [\"python3\", \"mine.py\"]\nrole = \"decoder\"\niterations = 10\nwarmup = 1";
    let tenants = [("a", format!("{}\niterations = 10", good(1))), ("mine", mine.to_owned())];
    let tenants: Vec<(&str, &str)> = tenants.iter().map(|(n, l)| (*n, l.as_str())).collect();
    let text = experiment(&tenants, &[("both", "[\"a\", \"mine\"]")]) + "[[figure]]\nkind = \"kde\"\n";
    let r = on_the_host(&room, &text, &[]).exits(0);
    for word in ["host, no GPU", "both", "mine", "p50", "STP", "tok/s"] {
        assert!(r.out.contains(word), "{word} is not in:\n{}", r.out);
    }
    assert!(r.err.contains("1 trials on") && !r.err.contains("simulated"), "{}", r.err);

    let folder = room.path().join(r.run_folder());
    let page = fs::read_to_string(folder.join("report.html")).expect("a report");
    assert!(page.contains("<svg") && page.contains("mine"), "a figure and the tenants");
    loads_nothing(&page);
    assert!(fs::read_dir(folder.join("figures")).expect("figures").count() >= 1);

    let log = |tenant: &str| {
        let all = fs::read_dir(folder.join("logs")).expect("logs").filter_map(|e| Some(e.ok()?.path()));
        let mine: Vec<_> = all.filter(|p| p.to_string_lossy().ends_with(&format!("-{tenant}.log"))).collect();
        assert_eq!(mine.len(), 1, "one process of {tenant}: {mine:?}");
        fs::read_to_string(&mine[0]).expect("a log")
    };
    assert!(log("mine").contains("hello from stdout\n") && log("mine").contains("and stderr\n"));
    assert_eq!(log("a"), "");

    let done = &records(&room, "outcomes.jsonl")[0];
    assert_eq!(
        (&done["facts"]["mine"]["layers"], &done["facts"]["a"]["length_ns"]),
        (&12.into(), &1_000_000.into())
    );
    let repeats = records(&room, "repeats.jsonl");
    assert_eq!(repeats.len(), 3);
    for t in repeats
        .iter()
        .flat_map(|r| r["phases"].as_array().expect("phases"))
        .flat_map(|p| p["tenants"].as_array().expect("tenants").iter())
    {
        let (least, tokens) = if t["name"] == "mine" { (3e6, 8) } else { (1e6, 0) };
        assert!(t["time_ns"].as_f64().expect("a time") >= least, "{t}");
        assert!(t["counted"].as_u64().expect("a count") >= 1, "{t}");
        assert_eq!(
            t["tokens"].as_u64().unwrap_or(0),
            tokens * t["launches"].as_u64().expect("a count"),
            "{t}"
        );
    }
    let manifest: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("manifest.json")).expect("it")).expect("JSON");
    assert_eq!((&manifest["simulated"], &manifest["device"]["selector"]), (&false.into(), &"host".into()));
    let tenants = &manifest["trials"][0]["tenants"];
    assert_eq!((&tenants[1]["kind"], &tenants[1]["role"]), (&"command".into(), &"decoder".into()));

    // All that is shown follows from the folder alone.
    let again = room.cotenant(&["report", r.run_folder()]).exits(0);
    assert!(again.out.contains("STP") && again.out.contains("mine"), "{}", again.out);
}

#[test]
fn every_fault_fails_its_trial_with_the_tenant_and_the_cause() {
    let cases = [
        ("memory", "out of memory: CUDA out of memory. Tried to allocate 20.00 GiB"),
        ("hang", "hung: nothing was heard of it for 2 s (measure.watchdog) while `done` was awaited"),
        ("hang-setup", "loading weights from a disk that does not answer"),
        ("garbage", "nonsense on the tenant protocol: `it one two`"),
        ("huge-line", "a line of more than 1048576 bytes"),
        ("die", "killed by signal 9"),
        ("exit-early", "its process ended (exit code 0)"),
        ("stderr", "RuntimeError: the last line tells why"),
        ("slow-stop", "it went on after `stop`"),
        ("duplicate-done", "`done` out of turn"),
        ("wrong-version", "version 99 of the tenant protocol"),
    ];
    for (mode, cause) in cases {
        let room = Room::new();
        let tenants = [("fine", good(1) + "\niterations = 5"), ("broken", bad(mode) + "\niterations = 5")];
        let tenants: Vec<(&str, &str)> = tenants.iter().map(|(n, l)| (*n, l.as_str())).collect();
        let text = experiment(&tenants, &[("both", "[\"fine\", \"broken\"]")]);
        let r = on_the_host(&room, &text, &[]).exits(1);
        let (status, reason) = outcome(&room);
        assert_eq!(status, "failed", "{mode}");
        assert!(reason.starts_with("tenant broken: ") && reason.contains(cause), "{mode}: {reason}");
        assert!(r.err.contains(cause), "{mode}: the user is told: {}", r.err);
        let page =
            fs::read_to_string(room.path().join(r.run_folder()).join("report.html")).expect("a report");
        assert!(page.contains("failed"), "{mode}");
    }
}

/// The reason in the record of a program with this text, which fails.
fn reason_of(room: &Room, program: &str) -> String {
    room.file("chatty.py", program);
    let chatty = "command = [\"python3\", \"chatty.py\"]";
    on_the_host(room, &experiment(&[("chatty", chatty)], &[("alone", "[\"chatty\"]")]), &["-q"]).exits(1);
    outcome(room).1
}

#[test]
fn last_words_stand_in_the_reason_and_all_of_them_in_the_log() {
    let room = Room::new();
    let reason = reason_of(
        &room,
        "import sys\nfor i in range(500):\n    print('line', i, file=sys.stderr)\nsys.exit('no data in /data')\n",
    );
    assert!(reason.contains("exit code 1") && reason.contains("no data in /data"), "{reason}");
    assert!(reason.contains("line 499") && !reason.contains("line 400\n"), "{reason}");
    let logs = room.runs()[0].join("logs");
    let log = fs::read_dir(logs).expect("logs").next().expect("one").expect("an entry").path();
    assert_eq!(fs::read_to_string(log).expect("a log").lines().count(), 501);
}

#[test]
fn the_last_output_of_a_tenant_that_tells_its_error_is_the_last() {
    // It has written everything before it tells the error, however far the run has read by then.
    let room = Room::new();
    let reason = reason_of(
        &room,
        "import cotenant\nprint('\\n'.join(f'line {i}' for i in range(20000)))\ncotenant.fail('no data')\n",
    );
    assert!(reason.starts_with("tenant chatty: no data"), "{reason}");
    assert!(reason.contains("line 19999"), "{reason}");
}

#[test]
fn a_program_that_ends_instead_of_looping_is_told_so() {
    let room = Room::new();
    let reason = reason_of(&room, "import cotenant\n");
    assert!(reason.contains("ended before its first iteration"), "{reason}");
    let room = Room::new();
    let reason =
        reason_of(&room, "import cotenant\nfor _, i in zip(cotenant.iterations(), range(7)):\n    pass\n");
    assert!(reason.contains("of 100 iterations"), "{reason}");
}

#[test]
fn the_trial_after_a_fault_starts_on_fresh_processes() {
    let room = Room::new();
    let tenants = [("fine", good(1) + "\niterations = 5"), ("broken", bad("die") + "\niterations = 5")];
    let tenants: Vec<(&str, &str)> = tenants.iter().map(|(n, l)| (*n, l.as_str())).collect();
    let text = experiment(
        &tenants,
        &[("first", "[\"fine\"]"), ("fault", "[\"fine\", \"broken\"]"), ("last", "[\"fine\", \"fine\"]")],
    );
    on_the_host(&room, &text, &["-q"]).exits(1);
    let ended: Vec<String> = records(&room, "outcomes.jsonl")
        .iter()
        .map(|o| format!("{} {}", o["trial"].as_str().unwrap_or(""), o["status"].as_str().unwrap_or("")))
        .collect();
    assert_eq!(ended, ["first done", "fault failed", "last done"]);
}

#[test]
fn what_this_machine_lacks_skips_the_trial() {
    // A package that is not there, a program of another kind, a way of sharing a GPU: none is an error of the run.
    let cases = [
        (bad("no-torch"), "\"processes\"", "no module torch"),
        ("torch = \"tiny\"".to_owned(), "\"processes\"", "is a model for `cuda`"),
        ("kernel = \"sleep\"\nduration = \"1ms\"".to_owned(), "\"processes\"", "is a kernel"),
        (good(1), "\"mps\"", "mps shares a GPU"),
    ];
    for (lines, sharing, why) in cases {
        let room = Room::new();
        let text = experiment(&[("t", &lines)], &[("alone", "[\"t\"]")]).replace("\"processes\"", sharing);
        on_the_host(&room, &text, &["-q"]).exits(6);
        let (status, reason) = outcome(&room);
        assert_eq!(status, "skipped", "{reason}");
        assert!(reason.contains(why), "{reason}");
    }
}

#[test]
fn a_program_that_is_not_there_fails_its_trial() {
    let room = Room::new();
    let text = experiment(&[("gone", "command = [\"./no-such-program\"]")], &[("alone", "[\"gone\"]")]);
    on_the_host(&room, &text, &["-q"]).exits(1);
    let (_, reason) = outcome(&room);
    assert!(reason.contains("cannot start `./no-such-program`"), "{reason}");
}

#[test]
fn an_opaque_program_is_timed_whole() {
    let room = Room::new();
    let text = experiment(
        &[("nap", "command = [\"sleep\", \"0.05\"]\nprotocol = \"opaque\"")],
        &[("alone", "[\"nap\"]"), ("both", "[\"nap\", \"nap\"]")],
    );
    // One run is one iteration, and two of them never lie within each other: what `steady` counts.
    let text = text.replace("protocol = \"steady\"", "");
    on_the_host(&room, &text, &["-q"]).exits(0);
    for r in records(&room, "repeats.jsonl") {
        for p in r["phases"].as_array().expect("phases") {
            for t in p["tenants"].as_array().expect("tenants") {
                assert_eq!((&t["launches"], &t["counted"]), (&1.into(), &1.into()), "{t}");
                assert!((5e7..5e9).contains(&t["time_ns"].as_f64().expect("a time")), "{t}");
            }
        }
    }
    let text = experiment(
        &[("no", "command = [\"sh\", \"-c\", \"echo why; exit 3\"]\nprotocol = \"opaque\"")],
        &[("alone", "[\"no\"]")],
    )
    .replace("protocol = \"steady\"", "");
    let room = Room::new();
    on_the_host(&room, &text, &["-q"]).exits(1);
    let (_, reason) = outcome(&room);
    assert!(reason.contains("exit code 3") && reason.contains("why"), "{reason}");
}

#[test]
fn open_loops_count_from_the_intended_arrival_and_repeat_with_the_seed() {
    let lines = format!("{}\niterations = 12\nwarmup = 0\narrivals = \"poisson\"\nrate = 150", good(4));
    let text = experiment(&[("t", &lines)], &[("alone", "[\"t\"]")]);
    // Intended arrivals, since a request's latency counts from there: its end less its latency.
    let arrivals = |text: &str| -> Vec<Vec<u64>> {
        let room = Room::new();
        on_the_host(&room, text, &["-q"]).exits(0);
        records(&room, "repeats.jsonl")
            .iter()
            .map(|r| {
                let t = solo(r);
                let list = |key: &str| t[key].as_array().expect("a list").clone();
                let (spans, latencies) = (list("spans_ns"), list("requests_ns"));
                assert_eq!((spans.len(), latencies.len()), (12, 12));
                let at = |i: usize| {
                    spans[i][1].as_u64().expect("ns") as i64 - latencies[i].as_u64().expect("ns") as i64
                };
                let first = at(0);
                (0..12).map(|i| (at(i) - first).unsigned_abs()).collect()
            })
            .collect()
    };
    let (one, two, other) =
        (arrivals(&text), arrivals(&text), arrivals(&text.replace("[measure]", "seed = 2\n[measure]")));
    assert_eq!(one, two, "the same seed, the same arrivals to the nanosecond");
    assert_ne!(one, other, "another seed, others");
    assert_ne!(one[0], one[1], "each repeat has its own");
    assert!(one.iter().all(|r| r.is_sorted()));
}

#[test]
fn a_rate_may_be_a_share_of_what_the_tenant_does_alone() {
    let room = Room::new();
    let lines = format!("{}\niterations = 10\nwarmup = 0\narrivals = \"constant\"\nrate = \"50%\"", good(2));
    let text = experiment(&[("t", &lines)], &[("alone", "[\"t\"]")]);
    on_the_host(&room, &text, &["-q"]).exits(0);
    let alone = records(&room, "outcomes.jsonl")[0]["capacity_per_s"]["t"].as_f64().expect("a rate");
    assert!((100.0..=500.0).contains(&alone), "2 ms each, so at most 500 per second: {alone}");
    let repeats = records(&room, "repeats.jsonl");
    let solo = solo(&repeats[0]);
    let starts: Vec<f64> =
        solo["spans_ns"].as_array().expect("spans").iter().map(|s| s[0].as_f64().expect("ns")).collect();
    let distance = (starts[9] - starts[0]) / 9.0;
    assert!((distance * alone / 1e9 - 2.0).abs() < 0.4, "{distance} ns at a capacity of {alone} per second");
}

#[test]
fn a_trace_that_is_not_there_fails_its_trial_by_name() {
    let room = Room::new();
    let lines = format!("{}\narrivals = \"trace\"\ntrace = \"nowhere.csv\"", good(1));
    on_the_host(&room, &experiment(&[("t", &lines)], &[("alone", "[\"t\"]")]), &["-q"]).exits(1);
    let (_, reason) = outcome(&room);
    assert!(reason.contains("tenant t") && reason.contains("nowhere.csv"), "{reason}");
}

#[test]
fn a_pause_of_a_closed_loop_is_kept_and_not_charged() {
    let room = Room::new();
    let lines = format!("{}\niterations = 8\nwarmup = 0\ngap = \"5ms\"", good(1));
    on_the_host(&room, &experiment(&[("t", &lines)], &[("alone", "[\"t\"]")]), &["-q"]).exits(0);
    for r in records(&room, "repeats.jsonl") {
        let t = solo(&r);
        let spans: Vec<(f64, f64)> = serde_json::from_value(t["spans_ns"].clone()).expect("spans");
        assert!(spans.windows(2).all(|w| w[1].0 - w[0].1 >= 5e6), "{spans:?}");
        assert!(t["time_ns"].as_f64().expect("a time") < 5e6, "{t}");
    }
}

#[test]
fn models_are_listed() {
    let room = Room::new();
    snap!("models", room.cotenant(&["models"]).exits(0).out);
    let file = room.cotenant(&["models", "--json"]).exits(0).json();
    for m in file["models"].as_array().expect("a list") {
        assert!(m["parameters"].as_u64().is_some_and(|n| n > 0) && m["config"].is_object(), "{m}");
    }
}

#[test]
fn the_printed_helper_is_the_file_and_works_alone() {
    let room = Room::new();
    let printed = room.cotenant(&["helper"]).exits(0).out;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tenants/cotenant.py");
    assert_eq!(printed, fs::read_to_string(file).expect("the helper"));
    room.file("cotenant.py", &printed);
    room.file("mine.py", "import cotenant\nprint(sum(1 for _ in cotenant.iterations(alone=7)))\n");
    let out = std::process::Command::new("python3").arg("mine.py").current_dir(room.path()).output();
    assert_eq!(String::from_utf8_lossy(&out.expect("python3").stdout), "7\n");
}

/// The first block of that language after some words of the README.
fn readme_block<'a>(readme: &'a str, after: &str, language: &str) -> &'a str {
    let (_, rest) = readme.split_once(after).expect("the words");
    let (_, rest) = rest.split_once(&format!("```{language}\n")).expect("the block");
    rest.split_once("```").expect("its end").0
}

#[test]
fn the_example_of_the_readme_runs_without_a_gpu() {
    let readme = include_str!("../../../../README.md");
    let room = Room::new();
    room.file("mine.py", readme_block(readme, "With `mine.py`", "python"));
    let text = readme_block(readme, "and `my.toml`", "toml");
    let r = on_the_host(&room, text, &["--set", "measure.repeats=[2,2]"]).exits(0);
    for trial in ["1-at-once", "2-at-once", "4-at-once", "hash-4"] {
        assert!(r.out.contains(trial), "{trial} is not in:\n{}", r.out);
    }
}
