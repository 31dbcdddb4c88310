//! The controlling side against a library that is played by a thread, which reads and writes the header page through
//! the file.

use cotenant_timeline::page::{Request, State};
use cotenant_timeline::{Control, ControlError};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_millis(120);
const LONG: Duration = Duration::from_secs(20);

fn header(state: State, pid: u32, reason: &str) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[..8].copy_from_slice(b"CTNTRACE");
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    bytes[20..24].copy_from_slice(&pid.to_le_bytes());
    bytes[76..80].copy_from_slice(&(state as u32).to_le_bytes());
    bytes[256..260].copy_from_slice(&(reason.len() as u32).to_le_bytes());
    bytes[264..264 + reason.len()].copy_from_slice(reason.as_bytes());
    bytes
}

fn scratch(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.trace");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn word(file: &File, at: u64) -> u32 {
    let mut bytes = [0; 4];
    file.read_exact_at(&mut bytes, at).unwrap();
    u32::from_le_bytes(bytes)
}

fn set(file: &File, at: u64, value: u32) {
    file.write_all_at(&value.to_le_bytes(), at).unwrap();
}

/// Answers requests as `answer` says: outcome and new state. Returns what was asked when told to stop.
fn library(
    path: &Path,
    stop: &Arc<AtomicBool>,
    answer: fn(Request) -> (u32, State),
) -> JoinHandle<Vec<Request>> {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let stop = stop.clone();
    std::thread::spawn(move || {
        let mut asked = Vec::new();
        let mut last = 0;
        while !stop.load(Ordering::Acquire) {
            let request = word(&file, 64);
            if request != last {
                last = request;
                asked.push(Request::of_word(request));
                let (outcome, state) = answer(Request::of_word(request));
                set(&file, 72, outcome);
                set(&file, 76, state as u32);
                set(&file, 68, request);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        asked
    })
}

#[test]
fn requests_are_carried_out_one_by_one() {
    let (_folder, path) = scratch(&header(State::Off, std::process::id(), ""));
    let stop = Arc::new(AtomicBool::new(false));
    let played = library(&path, &stop, |request| match request {
        Request::On | Request::Flush => (0, State::On),
        Request::Off | Request::Detach => (0, State::Off),
    });
    let mut control = Control::open(&path).unwrap();
    assert_eq!(control.state(), State::Off);
    control.switch(true, LONG).unwrap();
    assert_eq!(control.state(), State::On);
    control.flush(LONG).unwrap();
    control.switch(true, LONG).unwrap();
    control.switch(false, LONG).unwrap();
    assert!(control.detach(LONG).unwrap());
    assert_eq!(control.state(), State::Off);
    stop.store(true, Ordering::Release);
    let asked = played.join().unwrap();
    assert_eq!(asked, [Request::On, Request::Flush, Request::On, Request::Off, Request::Detach]);
}

#[test]
fn a_refusal_carries_its_reason() {
    let (_folder, path) = scratch(&header(State::Off, std::process::id(), "a profiler is active"));
    let stop = Arc::new(AtomicBool::new(false));
    let played = library(&path, &stop, |_| (1, State::Off));
    let error = Control::open(&path).unwrap().switch(true, LONG).unwrap_err();
    assert_eq!(error.to_string(), "switch recording: a profiler is active");
    stop.store(true, Ordering::Release);
    played.join().unwrap();
}

#[test]
fn a_disabled_library_is_told_with_its_reason() {
    let (_folder, path) = scratch(&header(State::Disabled, std::process::id(), "libcupti was not found"));
    let mut control = Control::open(&path).unwrap();
    let error = control.switch(true, LONG).unwrap_err();
    assert!(
        matches!(&error, ControlError::Disabled(reason) if reason == "libcupti was not found"),
        "{error}"
    );
}

#[test]
fn a_library_that_ends_before_answering_is_noticed() {
    let (_folder, path) = scratch(&header(State::On, std::process::id(), ""));
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let ends = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        set(&file, 76, State::Ended as u32);
    });
    let mut control = Control::open(&path).unwrap();
    assert!(matches!(control.flush(LONG), Err(ControlError::Ended)));
    ends.join().unwrap();
}

#[test]
fn silence_ends_with_the_time_limit() {
    let (_folder, path) = scratch(&header(State::Off, std::process::id(), ""));
    let mut control = Control::open(&path).unwrap();
    let begin = Instant::now();
    let error = control.switch(true, SOON).unwrap_err();
    assert!(matches!(error, ControlError::Timeout { alive: true, .. }), "{error}");
    assert!(begin.elapsed() >= SOON);
}

#[test]
fn a_process_that_is_gone_is_said_to_be() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    let (_folder, path) = scratch(&header(State::Off, pid, ""));
    let error = Control::open(&path).unwrap().switch(true, SOON).unwrap_err();
    assert_eq!(error.to_string(), "switch recording: no answer within 120 ms; the process is gone");
}

#[test]
fn only_one_controls_a_trace() {
    let (_folder, path) = scratch(&header(State::Off, 1, ""));
    let first = Control::open(&path).unwrap();
    assert!(matches!(Control::open(&path), Err(ControlError::Taken)));
    drop(first);
    Control::open(&path).unwrap();
}

#[test]
fn incomplete_and_other_files_are_refused() {
    let (_folder, path) = scratch(b"");
    assert!(matches!(Control::open(&path), Err(ControlError::NotReady)));
    std::fs::write(&path, vec![0; 4096]).unwrap();
    assert!(matches!(Control::open(&path), Err(ControlError::NotReady)));
    let mut other = header(State::Off, 1, "");
    other[8] = 2;
    std::fs::write(&path, other).unwrap();
    assert!(matches!(Control::open(&path), Err(ControlError::Version(2))));
    let absent = Control::wait_open(&path.with_extension("none"), Duration::from_millis(20));
    assert!(matches!(absent, Err(ControlError::Io(_))));
}

#[test]
fn a_trace_that_appears_later_is_waited_for() {
    let (folder, path) = scratch(b"");
    std::fs::remove_file(&path).unwrap();
    let late = path.clone();
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        std::fs::write(late, header(State::Off, 1, "")).unwrap();
    });
    assert_eq!(Control::wait_open(&path, LONG).unwrap().state(), State::Off);
    writer.join().unwrap();
    assert_eq!(cotenant_timeline::traces_in(folder.path()).unwrap(), [(1, path)]);
}
