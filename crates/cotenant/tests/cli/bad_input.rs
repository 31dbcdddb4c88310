//! Bad input: each is refused with its exit code, and the message names the place and the remedy.

use crate::fixtures::{PAIR, pair};
use crate::room::{Ran, Room, snap};
use std::fs;

/// Runs an experiment file that must be refused; nothing may be left behind.
#[track_caller]
fn refused(text: &str, more: &[&str]) -> Ran {
    let room = Room::new();
    room.file("pair.toml", text);
    let args: Vec<&str> = ["run", "pair.toml"].iter().chain(more).copied().collect();
    let r = room.cotenant(&args).exits(3);
    assert_eq!(r.out, "");
    assert!(r.err.starts_with("cotenant: failed to "), "{}", r.err);
    assert!(room.runs().is_empty(), "a refused experiment left a run folder");
    r
}

macro_rules! refusals {
    ($($name:ident: $text:expr;)*) => {
        $(#[test]
        fn $name() {
            let r = refused(&$text, &[]);
            assert!(r.err.contains("pair.toml:"), "no place in: {}", r.err);
            snap!(stringify!($name), r.err);
        })*
    };
}

refusals! {
    unknown_key: pair("threads = 128", "thraeds = 128");
    wrong_type: pair("warmup = 0", "warmup = \"once\"");
    not_toml: pair("warmup = 0", "warmup = = 0");
    percentage_of_zero: pair("\"streams\"", "{ mode = \"mps\", percentage = [0, 50] }");
    percentage_of_101: pair("\"streams\"", "{ mode = \"mps\", percentage = [101, 50] }");
    more_sms_than_the_card: pair("\"streams\"", "{ mode = \"green\", sms = [8, 200] }");
    more_memory_than_the_card:
        pair("kernel = \"sleep\"\nblocks = 8", "kernel = \"copy\"\nblocks = 8").replace("threads = 128\nparams = { ns = \"10us\" }", "threads = 128\nparams = { bytes = \"100GiB\" }");
    zero_blocks: pair("blocks = 8", "blocks = 0");
    two_thousand_threads: pair("threads = 128", "threads = 2000");
    unknown_kernel: pair("kernel = \"sleep\"\nblocks = 8", "kernel = \"slep\"\nblocks = 8");
    unknown_mode: pair("\"streams\"", "\"steams\"");
    unknown_tenant: pair("[\"a\", \"b\"]", "[\"a\", \"c\"]");
    negative_launches: pair("iterations = 50", "iterations = 50\nlaunches = -1");
    a_name_that_leaves_the_folder: pair("name = \"pair\"", "name = \"../../pair\"");
    a_trial_that_leaves_the_folder: pair("name = \"both\"", "name = \"../both\"");
}

#[test]
fn a_wrong_override_is_named_as_an_override() {
    let room = Room::new();
    room.file("pair.toml", PAIR);
    let set = |s: &str| room.cotenant(&["run", "pair.toml", "--set", s]).exits(3).err;
    snap!("set_without_value", set("tenants.a.threads"));
    snap!("set_unknown_key", set("tenants.a.thread=64"));
    snap!("set_impossible", set("tenants.a.threads=2000"));
    assert!(room.runs().is_empty());
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() {
    let room = Room::new();
    snap!("unknown_experiment", room.cotenant(&["run", "quickstat"]).exits(3).err);
    room.file("pair.toml", PAIR);
    let device = |d: &str| room.cotenant(&["run", "pair.toml", "--device", d]);
    snap!("unknown_device", device("gpu0").exits(3).err);
    let card = device("sim:h9000").exits(3).err;
    assert!(card.contains("`h9000`") && card.contains("h100-sxm5-80gb") && card.contains(".json"), "{card}");
    snap!("missing_card_file", device("sim:nowhere.json").exits(3).err);
    room.file("bad.json", "{\"format\": 1");
    let bad = device("sim:bad.json").exits(3).err;
    assert!(bad.contains("bad.json"), "{bad}");
    assert!(room.runs().is_empty());
}

#[test]
fn a_file_that_is_a_folder_is_no_experiment() {
    let room = Room::new();
    fs::create_dir(room.path().join("folder.toml")).expect("a folder");
    snap!("experiment_is_a_folder", room.cotenant(&["run", "folder.toml"]).exits(3).err);
    fs::write(room.path().join("binary.toml"), [0xff, 0xfe, 0x00]).expect("a file");
    snap!("experiment_is_not_text", room.cotenant(&["run", "binary.toml"]).exits(3).err);
}

#[test]
fn an_absent_gpu_is_said_in_clear_words() {
    let room = Room::new();
    room.file("pair.toml", PAIR);
    for verb in [&["run", "pair.toml"][..], &["probe"][..]] {
        let args: Vec<&str> = verb.iter().chain(&["--device", "cuda:0"]).copied().collect();
        let r = room.cotenant(&args).exits(4);
        assert!(r.err.starts_with("cotenant: failed to open cuda:0: "), "{}", r.err);
        assert!(r.err.contains("cotenant doctor"), "{}", r.err);
        assert_eq!(r.err.lines().count(), 1, "{}", r.err);
    }
    assert!(room.runs().is_empty());
}

#[test]
fn a_trial_that_no_device_can_do_is_skipped_with_its_reason() {
    let room = Room::new();
    room.file("pair.toml", &pair("\"streams\"", "{ mode = \"mig\", instances = [\"MIG-a\", \"MIG-b\"] }"));
    let r = room.cotenant(&["run", "pair.toml"]).exits(6);
    assert!(r.err.contains("skipped") && r.err.contains("MIG"), "{}", r.err);
    let outcomes =
        fs::read_to_string(room.path().join(r.run_folder()).join("outcomes.jsonl")).expect("outcomes");
    assert!(outcomes.contains("\"skipped\"") && outcomes.contains("MIG"), "{outcomes}");
    let warnings =
        fs::read_to_string(room.path().join(r.run_folder()).join("warnings.jsonl")).expect("warnings");
    assert!(warnings.contains("\"unavailable\""), "{warnings}");
}

#[test]
fn a_missing_run_folder_is_said_so() {
    let room = Room::new();
    fs::create_dir(room.path().join("empty")).expect("a folder");
    for args in
        [&["report", "nowhere"][..], &["compare", "nowhere", "--reference"], &["run", "--resume", "nowhere"]]
    {
        let r = room.cotenant(args).exits(5);
        assert!(r.err.contains("nowhere") && r.err.contains("manifest.json"), "{}", r.err);
    }
    snap!("not_a_run_folder", room.cotenant(&["report", "empty"]).exits(5).err);
}

/// A finished run of the pair, in its room.
fn finished() -> (Room, std::path::PathBuf) {
    let room = Room::new();
    room.file("pair.toml", PAIR);
    let r = room.cotenant(&["run", "pair.toml", "-q"]).exits(0);
    let folder = room.path().join(r.run_folder());
    let fixed = room.path().join("run");
    fs::rename(folder, &fixed).expect("rename the run");
    (room, fixed)
}

#[test]
fn a_damaged_run_folder_is_named_by_file_and_line() {
    let (room, run) = finished();
    let repeats = fs::read_to_string(run.join("repeats.jsonl")).expect("repeats");
    let mut lines: Vec<&str> = repeats.lines().collect();
    lines[1] = "{\"format\":1,\"trial\":";
    fs::write(run.join("repeats.jsonl"), lines.join("\n") + "\n").expect("damage");
    for args in [&["report", "run"][..], &["run", "--resume", "run"], &["compare", "run", "run"]] {
        let r = room.cotenant(args).exits(5);
        assert!(r.err.contains("run/repeats.jsonl, line 2"), "{}", r.err);
    }
    snap!("damaged_repeats", room.cotenant(&["report", "run"]).exits(5).err);

    let (room, run) = finished();
    fs::write(run.join("outcomes.jsonl"), [0xff, 0xfe, b'\n']).expect("damage");
    snap!("outcomes_not_text", room.cotenant(&["report", "run"]).exits(5).err);

    let (room, run) = finished();
    let manifest = fs::read_to_string(run.join("manifest.json")).expect("a manifest");
    fs::write(run.join("manifest.json"), &manifest[..manifest.len() / 2]).expect("damage");
    let r = room.cotenant(&["report", "run"]).exits(5);
    assert!(r.err.contains("run/manifest.json, line "), "{}", r.err);
    assert!(r.err.contains("restore it or run again"), "{}", r.err);

    let (room, run) = finished();
    let future = manifest.replacen("\"format\": 1", "\"format\": 99", 1);
    fs::write(run.join("manifest.json"), future).expect("damage");
    snap!("run_of_the_future", room.cotenant(&["report", "run"]).exits(5).err);
}

#[test]
fn a_run_is_not_resumed_on_another_gpu() {
    let (room, run) = finished();
    let path = run.join("manifest.json");
    let manifest =
        fs::read_to_string(&path).expect("a manifest").replacen("sim:h100-sxm5-80gb", "sim:l4-24gb", 1);
    fs::write(path, manifest).expect("write");
    snap!("resumed_on_another_gpu", room.cotenant(&["run", "--resume", "run"]).exits(4).err);
}
