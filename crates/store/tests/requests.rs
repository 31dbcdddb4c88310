//! Requests of a load, read a line at a time.

use cotenant_store::serving::{RequestLine, RequestRecord};
use cotenant_store::{LoadFolder, RequestFile, Requests, StoreError};
use std::io::Write;
use std::path::PathBuf;
use tempfile::TempDir;

fn line(index: u64) -> String {
    let record =
        RequestRecord { index, intended_ns: 5 * index, end_ns: 9 + index, ..RequestRecord::default() };
    let line = RequestLine { record, chunks_ns: vec![1, 2, 3], ..RequestLine::default() };
    serde_json::to_string(&line).expect("printed")
}

fn file(text: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("requests.jsonl");
    std::fs::write(&path, text).expect("written");
    (folder, path)
}

fn indices(file: &RequestFile) -> Result<Vec<u64>, StoreError> {
    let mut all = Vec::new();
    file.each(&mut |r| all.push(r.index))?;
    Ok(all)
}

#[test]
fn a_damaged_line_is_named() {
    let (_folder, path) = file(format!("{}\n\n{}\n{{\"index\":oops}}\n{}\n", line(0), line(1), line(2)));
    let mut seen = Vec::new();
    let e = RequestFile::open(&path).expect("there").each(&mut |r| seen.push(r.index)).expect_err("damaged");
    assert_eq!(seen, [0, 1], "what stands before is handed over");
    assert!(matches!(&e, StoreError::Damaged { path: p, line: 4, .. } if *p == path), "{e:?}");
    assert_eq!(
        e.to_string(),
        format!(
            "read {}, line 4: expected value at column 10; the run folder is damaged there: delete that line to go on with the \
             rest",
            path.display()
        )
    );
}

#[test]
fn a_line_that_lacks_something_or_is_no_text_is_named_too() {
    let lacking = line(1).replace("\"end_ns\":10,", "");
    let (_folder, path) = file(format!("{}\n{lacking}\n", line(0)));
    let e = indices(&RequestFile::open(&path).expect("there")).expect_err("damaged").to_string();
    assert!(e.contains("line 2: missing field `end_ns`"), "{e}");
    let (_folder, path) = file([line(0).as_bytes(), b"\n\xff\xfe\n"].concat());
    let e = indices(&RequestFile::open(&path).expect("there")).expect_err("damaged").to_string();
    assert!(e.contains("line 2") && e.contains("it is not text"), "{e}");
}

#[test]
fn a_torn_last_line_is_no_request_and_a_file_that_grows_is_read_as_it_was() {
    let whole = format!("{}\n{}\n", line(0), line(1));
    // Torn in the middle of a character.
    let (_folder, path) = file([whole.as_bytes(), b"{\"index\":2,\"x\":\"\xe2\x80"].concat());
    let opened = RequestFile::open(&path).expect("there");
    assert_eq!(indices(&opened).expect("read"), [0, 1]);
    let mut more = std::fs::File::options().append(true).open(&path).expect("there");
    writeln!(more, "\n{}", line(3)).expect("written");
    assert_eq!(indices(&opened).expect("read"), [0, 1], "each walk sees the same");
    assert!(indices(&RequestFile::open(&path).expect("there")).is_err());
}

#[test]
fn a_load_without_requests_has_none_and_gaps_must_be_json() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("load.json");
    let manifest = serde_json::json!({
        "format": 1, "url": "http://127.0.0.1:1", "preset": "generic", "model": "m", "server_version": null, "simulated": true,
        "api": "chat", "stream": true, "asks": "x", "arrivals": "y", "open": true, "seed": 1, "warmup": 0, "steady": false,
        "in_flight": 10, "timeout_s": 1.0, "body": {}, "departures": [],
        "provenance": {"version": "0.1.0", "git_revision": "0", "ptx_sha256": "", "seed": 1,
            "started": "2026-01-01T00:00:00Z", "os": "x", "cpu": "x"},
    });
    std::fs::write(&path, manifest.to_string()).expect("written");
    let stored = LoadFolder::load(folder.path()).expect("a load");
    assert_eq!(indices(&stored.requests).expect("none"), [0; 0]);
    assert_eq!((stored.gaps, stored.client), (None, None));
    std::fs::write(folder.path().join("gaps.json"), "{\"chunk\":").expect("written");
    let e = LoadFolder::load(folder.path()).expect_err("damaged").to_string();
    assert!(e.contains("gaps.json, line 1"), "{e}");
}
