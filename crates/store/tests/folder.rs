//! Run folders survive what happens to run folders.

use cotenant_store::format::*;
use cotenant_store::serving::RequestLine;
use cotenant_store::{RunFolder, StoreError, load, write_derived};
use cotenant_units::{Bytes, Nanos};
use proptest::prelude::*;
use std::fs;
use std::io::Write;
use std::path::Path;

fn manifest(name: &str) -> Manifest {
    Manifest {
        format: FORMAT,
        name: name.into(),
        title: "t".into(),
        summary: "s".into(),
        section: String::new(),
        simulated: true,
        device: DeviceRecord {
            name: "card".into(),
            selector: "sim:card".into(),
            uuid_hash: None,
            sms: 2,
            l2_bytes: Bytes::mib(1),
            l1_bytes: Bytes::kib(128),
            memory_bytes: Bytes::gib(1),
            capability: "9.0".into(),
            driver: None,
            cuda: None,
            max_sm_clock_mhz: 1000.0,
            max_memory_clock_mhz: 1000.0,
            card: Some("card".into()),
        },
        trials: Vec::new(),
        figures: Vec::new(),
        stopping: StoppingRecord {
            min_repeats: 1,
            max_repeats: 2,
            precision: 0.01,
            budget_ns: Nanos(1),
            warmup: 0,
            setups: 1,
            traced: 0,
            watchdog_ns: Nanos(0),
        },
        provenance: Provenance {
            version: "0".into(),
            git_revision: "0".into(),
            ptx_sha256: "0".into(),
            seed: 1,
            started: "1970-01-01T00:00:00Z".into(),
            os: "o".into(),
            cpu: "c".into(),
        },
        spec_text: "x = 1".into(),
        overrides: Vec::new(),
    }
}

fn repeat(trial: &str, attempt: u32, n: u32) -> RepeatRecord {
    RepeatRecord {
        format: FORMAT,
        trial: trial.into(),
        attempt,
        repeat: n,
        setup: 0,
        phases: Vec::new(),
        marked: Vec::new(),
    }
}

fn outcome(trial: &str) -> OutcomeRecord {
    OutcomeRecord {
        format: FORMAT,
        trial: trial.into(),
        attempt: 1,
        status: "done".into(),
        reason: None,
        stopped_by: None,
        iterations: vec![3],
        grants: Vec::new(),
        facts: std::collections::BTreeMap::new(),
        capacity_per_s: std::collections::BTreeMap::new(),
        timing: None,
    }
}

fn fresh(dir: &Path) -> RunFolder {
    RunFolder::create(dir, "20260101T000000Z", &manifest("x")).unwrap()
}

#[test]
fn what_was_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut f = fresh(dir.path());
    f.append_repeat(&repeat("a", 1, 0)).unwrap();
    f.append_repeat(&repeat("a", 1, 1)).unwrap();
    f.append_outcome(&outcome("a")).unwrap();
    let run = load(f.path()).unwrap();
    assert_eq!(run.manifest, manifest("x"));
    assert_eq!(run.repeats, [repeat("a", 1, 0), repeat("a", 1, 1)]);
    assert_eq!(run.outcomes, [outcome("a")]);
    assert!(f.has_outcome("a") && !f.has_outcome("b"));
}

/// A run may be killed between the requests of a repeat and the repeat: the next attempt must not take their number.
#[test]
fn an_attempt_that_left_requests_only_has_its_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut f = fresh(dir.path());
    let of = |trial: &str, attempt| RequestLine { trial: trial.into(), attempt, ..RequestLine::default() };
    f.append_repeat(&repeat("a", 2, 0)).unwrap();
    f.append_requests(&[of("a", 1), of("b", 1), of("b", 3)]).unwrap();
    f.append_server_metrics("t_s,running", &["0.1,2".into(), "0.2,3".into()]).unwrap();
    let path = f.path().to_owned();
    drop(f);
    for (file, torn) in [("requests.jsonl", "{\"trial\":\"b\",\"attempt\":9"), ("server-metrics.csv", "0.3")]
    {
        let mut file = fs::OpenOptions::new().append(true).open(path.join(file)).unwrap();
        file.write_all(torn.as_bytes()).unwrap();
    }
    let (mut f, _) = RunFolder::resume(&path).unwrap();
    assert_eq!(["a", "b", "c"].map(|t| f.next_attempt(t)), [3, 4, 1]);
    f.append_requests(&[of("b", 4)]).unwrap();
    f.append_server_metrics("t_s,running", &["0.0,1".into()]).unwrap();
    let text = fs::read_to_string(path.join("requests.jsonl")).unwrap();
    let attempts: Vec<u32> =
        text.lines().map(|l| serde_json::from_str::<RequestLine>(l).unwrap().attempt).collect();
    assert_eq!(attempts, [1, 1, 3, 4], "the torn line is gone");
    let text = fs::read_to_string(path.join("server-metrics.csv")).unwrap();
    assert_eq!(text, "t_s,running\n0.1,2\n0.2,3\n0.0,1\n");
}

#[test]
fn a_taken_name_gets_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (fresh(dir.path()), fresh(dir.path()));
    assert_ne!(a.path(), b.path());
    assert!(b.path().to_string_lossy().ends_with("-x-2"));
}

#[test]
fn a_torn_last_line_is_no_record_and_does_not_spoil_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut f = fresh(dir.path());
    f.append_repeat(&repeat("a", 1, 0)).unwrap();
    let path = f.path().to_owned();
    drop(f);
    let file = path.join("repeats.jsonl");
    fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"{\"format\":1,\"tri").unwrap();
    assert_eq!(load(&path).unwrap().repeats.len(), 1);
    let (mut f, run) = RunFolder::resume(&path).unwrap();
    assert_eq!(run.repeats.len(), 1);
    assert_eq!(f.next_attempt("a"), 2, "an unfinished trial starts over");
    f.append_repeat(&repeat("a", 2, 0)).unwrap();
    assert_eq!(load(&path).unwrap().repeats, [repeat("a", 1, 0), repeat("a", 2, 0)]);
}

#[test]
fn damage_is_named_with_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut f = fresh(dir.path());
    f.append_repeat(&repeat("a", 1, 0)).unwrap();
    let file = f.path().join("repeats.jsonl");
    let mut text = fs::read_to_string(&file).unwrap();
    text.push_str("not json\n");
    fs::write(&file, text).unwrap();
    let e = load(f.path()).unwrap_err();
    assert!(matches!(e, StoreError::Damaged { line: 2, .. }), "{e}");
    assert!(e.to_string().contains("repeats.jsonl, line 2"), "{e}");

    fs::write(f.path().join("manifest.json"), "{").unwrap();
    assert!(load(f.path()).unwrap_err().to_string().contains("manifest.json"));
    fs::remove_file(f.path().join("manifest.json")).unwrap();
    assert!(matches!(load(f.path()), Err(StoreError::NotARun(_))));
}

#[test]
fn a_newer_format_is_refused_with_words() {
    let dir = tempfile::tempdir().unwrap();
    let f = fresh(dir.path());
    let path = f.path().join("manifest.json");
    let text = fs::read_to_string(&path).unwrap().replacen("\"format\": 1", "\"format\": 99", 1);
    fs::write(&path, text).unwrap();
    let e = load(f.path()).unwrap_err();
    assert!(matches!(e, StoreError::TooNew { found: 99, .. }), "{e}");
}

#[test]
fn unknown_fields_are_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let mut f = fresh(dir.path());
    f.append_outcome(&outcome("a")).unwrap();
    let path = f.path().join("outcomes.jsonl");
    let text = fs::read_to_string(&path).unwrap().replacen('{', "{\"later\":true,", 1);
    fs::write(&path, text).unwrap();
    assert_eq!(load(f.path()).unwrap().outcomes, [outcome("a")]);
}

#[test]
fn names_cannot_leave_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    for bad in ["../x", "a/b", "", ".hidden", "x\0"] {
        assert!(RunFolder::create(dir.path(), "s", &manifest(bad)).is_err(), "{bad:?}");
    }
    for bad in ["../report.html", "/etc/x", "figures/../../x"] {
        assert!(matches!(write_derived(dir.path(), bad, ""), Err(StoreError::Escapes(_))), "{bad}");
    }
    let p = write_derived(dir.path(), "figures/a.svg", "<svg/>").unwrap();
    assert_eq!(fs::read_to_string(p).unwrap(), "<svg/>");
}

#[test]
fn a_full_disk_is_said_so_and_loses_nothing_written() {
    // /dev/full accepts opens and fails every write with "no space left on device".
    let dir = tempfile::tempdir().unwrap();
    let f = fresh(dir.path());
    let path = f.path().to_owned();
    drop(f);
    fs::remove_file(path.join("repeats.jsonl")).unwrap();
    std::os::unix::fs::symlink("/dev/full", path.join("repeats.jsonl")).unwrap();
    let e = cotenant_store::write_whole(Path::new("/dev/full/x"), "x").unwrap_err();
    assert!(e.to_string().starts_with("write"), "{e}");
    let mut full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let source = full.write_all(b"x").and_then(|()| full.flush()).unwrap_err();
    let e = StoreError::Io { action: "write", path: path.clone(), source };
    assert!(e.to_string().contains("--resume"), "{e}");
    assert!(path.join("manifest.json").is_file());
}

proptest! {
    /// Wherever a kill cuts the file, reading gives exactly the whole lines before the cut.
    #[test]
    fn any_cut_leaves_the_whole_lines(n in 1u32..6, cut in 0usize..400) {
        let dir = tempfile::tempdir().unwrap();
        let mut f = fresh(dir.path());
        for i in 0..n {
            f.append_repeat(&repeat("a", 1, i)).unwrap();
        }
        let file = f.path().join("repeats.jsonl");
        let bytes = fs::read(&file).unwrap();
        let cut = cut.min(bytes.len());
        fs::write(&file, &bytes[..cut]).unwrap();
        let whole = bytes[..cut].iter().filter(|&&b| b == b'\n').count();
        let (mut again, run) = RunFolder::resume(f.path()).unwrap();
        prop_assert_eq!(run.repeats.len(), whole);
        again.append_repeat(&repeat("a", 2, 0)).unwrap();
        prop_assert_eq!(load(f.path()).unwrap().repeats.len(), whole + 1);
    }
}
