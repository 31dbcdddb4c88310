//! File systems that refuse: no permission, no room.

use crate::fixtures::{MANY, PAIR, many};
use crate::room::{EXE, Room, snap};
use std::fs;
use std::process::Command;

#[test]
fn an_out_that_cannot_be_made_is_said_so() {
    let room = Room::new();
    room.file("pair.toml", PAIR);
    room.file("taken", "a file, not a folder");
    let r = room.cotenant(&["run", "pair.toml", "--out", "taken"]).exits(5);
    snap!("out_is_a_file", r.err);
    // /proc takes no folders from anyone, root included.
    let r = room.cotenant(&["run", "pair.toml", "--out", "/proc/cotenant-runs"]).exits(5);
    assert!(r.err.contains("create /proc/cotenant-runs"), "{}", r.err);
    let r = room.cotenant(&["probe", "--device", "sim:l4-24gb", "--out", "taken/card.json"]).exits(5);
    assert!(r.err.contains("taken/card.json"), "{}", r.err);
    assert!(!r.err.contains("ceilings"), "it measured before it looked where to write: {}", r.err);
    let r = room.cotenant(&["man", "taken/pages"]).exits(5);
    assert!(r.err.contains("taken/pages"), "{}", r.err);
}

#[test]
fn an_out_without_permission_says_what_to_do() {
    use std::os::unix::fs::PermissionsExt;
    let room = Room::new();
    room.file("pair.toml", PAIR);
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: permissions do not bind root");
        return;
    }
    let closed = room.path().join("closed");
    fs::create_dir(&closed).expect("a folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).expect("close it");
    let r = room.cotenant(&["run", "pair.toml", "--out", "closed"]).exits(5);
    assert!(r.err.contains("--out"), "{}", r.err);
}

/// Runs a script in a mount namespace of its own, in which `$1` is a file system of `kib` KiB, with the program as
/// `$2`. `None`, with the reason printed, where this machine allows no such thing.
fn on_a_small_disk(room: &Room, kib: u32, script: &str) -> Option<std::process::Output> {
    let disk = room.path().join("disk");
    fs::create_dir_all(&disk).expect("a mount point");
    let mount = format!("mount -t tmpfs -o size={kib}k tmpfs \"$1\" || exit 99\n{script}");
    let out = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", &mount, "sh"])
        .arg(&disk)
        .arg(EXE)
        .current_dir(room.path())
        .env("CUDA_VISIBLE_DEVICES", "")
        .env_remove("COTENANT_DEVICE")
        .output();
    match out {
        Ok(o) if o.status.code() != Some(99) && !String::from_utf8_lossy(&o.stderr).contains("unshare:") => {
            Some(o)
        }
        Ok(o) => {
            eprintln!("skipped: no small file system here: {}", String::from_utf8_lossy(&o.stderr).trim());
            None
        }
        Err(e) => {
            eprintln!("skipped: `unshare` cannot be started: {e}");
            None
        }
    }
}

#[test]
fn a_disk_that_fills_up_mid_run_is_said_so_and_the_run_resumes_once_there_is_room() {
    let room = Room::new();
    // Each line of repeats.jsonl is some 700 bytes: 16 trials of 40 repeats need far more than 256 KiB.
    room.file("many.toml", &many(40));
    let script = r#"
        "$2" run many.toml --quiet --out "$1" >first.out 2>first.err; echo $? >first.code
        ls "$1" >folder
        mount -o remount,size=64m "$1" || exit 99
        "$2" run --resume "$1/$(cat folder)" --quiet --json >second.json 2>second.err; echo $? >second.code
        "$2" run many.toml --quiet --json --out elsewhere >whole.json 2>/dev/null
    "#;
    let Some(out) = on_a_small_disk(&room, 256, script) else { return };
    let read =
        |f: &str| fs::read_to_string(room.path().join(f)).unwrap_or_else(|e| panic!("{f}: {e} ({out:?})"));
    assert_eq!(read("first.code").trim(), "5", "{}", read("first.err"));
    let err = read("first.err");
    assert!(err.contains("repeats.jsonl") || err.contains("outcomes.jsonl"), "the place: {err}");
    assert!(err.contains("the disk is full") && err.contains("--resume"), "the remedy: {err}");
    assert_eq!(read("second.code").trim(), "0", "{}", read("second.err"));
    let json = |f: &str| serde_json::from_str::<serde_json::Value>(&read(f)).expect("JSON");
    assert_eq!(json("second.json")["trials"].as_array().map(Vec::len), Some(MANY));
    assert_eq!(json("second.json"), json("whole.json"), "the resumed run is the uninterrupted one");
}

#[test]
fn a_disk_without_room_for_the_manifest_is_said_so() {
    let room = Room::new();
    room.file("pair.toml", PAIR);
    // One page, and a file that takes it.
    let script = r#"
        head -c 4096 /dev/zero >"$1/filler" 2>/dev/null
        "$2" run pair.toml --quiet --out "$1" >out 2>err; echo $? >code
    "#;
    let Some(out) = on_a_small_disk(&room, 4, script) else { return };
    let read =
        |f: &str| fs::read_to_string(room.path().join(f)).unwrap_or_else(|e| panic!("{f}: {e} ({out:?})"));
    assert_eq!(read("code").trim(), "5", "{}", read("err"));
    assert!(
        read("err").contains("manifest.json") && read("err").contains("the disk is full"),
        "{}",
        read("err")
    );
}
