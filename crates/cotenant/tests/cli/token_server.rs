//! `cotenant token-server` as its user meets it: what it is told to do it does, and it writes down that it did.

use crate::loads::{load, only_folder};
use crate::room::{EXE, json_lines};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A token server with these options, and where it is.
fn serve(args: &[&str]) -> (Child, String) {
    let mut c = Command::new(EXE);
    let mut child = c.arg("token-server").args(args).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut url = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut url).expect("it says where it is");
    (child, url.trim().to_owned())
}

/// Asks it to end, which it does well.
#[track_caller]
fn stop(mut child: Child) {
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("sent");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn the_token_server_serves_until_it_is_told_to_stop() {
    let (child, url) = serve(&["--ttft", "5ms", "--itl", "1ms", "--model", "m"]);
    let out = tempfile::tempdir().expect("a folder");
    let args = ["--concurrency", "2", "--requests", "12", "--preset", "token-server", "--output-tokens", "4"];
    let (code, said, err) = load(&url, out.path(), &args);
    assert_eq!(code, 0, "{said}{err}");
    assert!(said.starts_with("m on http://127.0.0.1:"), "{said}");
    stop(child);
}

#[test]
fn it_answers_in_the_shape_that_it_is_told_and_writes_down_what_it_did() {
    let out = tempfile::tempdir().expect("a folder");
    let truth = out.path().join("truth.jsonl");
    let file = truth.display().to_string();
    let shape = ["--role-chunk", "early", "--finish-chunk", "--tail", "80ms", "--stall", "3:150ms"];
    let pace = ["--ttft", "60ms", "--itl", "2ms", "--truth", &file];
    let (child, url) = serve(&[&shape[..], &pace].concat());
    let runs = out.path().join("runs");
    let args = [
        "--concurrency",
        "2",
        "--requests",
        "8",
        "--preset",
        "token-server",
        "--output-tokens",
        "6",
        "--chunks",
    ];
    let (code, said, err) = load(&url, &runs, &args);
    assert_eq!(code, 0, "{said}{err}");
    stop(child);

    let did: HashMap<String, Value> = json_lines(&truth)
        .into_iter()
        .filter_map(|t| Some((t["request_id"].as_str()?.to_owned(), t)))
        .collect();
    let ms = |v: &Value| v.as_f64().expect("a time") / 1e6;
    let requests = json_lines(&only_folder(&runs).join("requests.jsonl"));
    assert_eq!((requests.len(), did.len()), (8, 8));
    for r in requests {
        let t = &did[&format!("cotenant-{}", r["index"])];
        let gaps = |v: &Value| {
            let at: Vec<f64> = v.as_array().expect("times").iter().map(ms).collect();
            at.windows(2).map(|w| w[1] - w[0]).collect::<Vec<_>>()
        };
        let (ours, theirs) = (gaps(&r["chunks_ns"]), gaps(&t["chunk_ns"]));
        assert!(ours.len() == 5 && theirs.len() == 5, "{r} {t}");
        // A busy machine makes single times longer; a pause is far longer than that.
        assert!(ours[2] > 145.0 && theirs[2] > 145.0 && ours[1] < 100.0, "{ours:?} {theirs:?}");
        let early = ms(&r["first_content_ns"]) - ms(&r["first_chunk_ns"]);
        assert!(early > 30.0, "the role comes {early} ms before the first text");
        let tail = ms(&r["end_ns"]) - ms(&r["last_content_ns"]);
        assert!(tail > 75.0, "the end comes {tail} ms after the last text");
        assert_eq!((t["output_tokens"].as_u64(), t["status"].as_u64()), (Some(6), Some(200)));
    }
}

#[test]
fn what_it_is_told_wrongly_says_what_would_be_right() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let in_use =
        format!("start the token server: port {port} of 127.0.0.1 cannot be opened: Address already in use");
    for (args, code, parts) in [
        (["--freeze", "5s"], 3, &["START:LENGTH"][..]),
        (["--stall", "150ms"], 3, &["--stall `150ms`", "AFTER_TOKENS:TIME"]),
        (["--stall", "x:150ms"], 3, &["--stall `x:150ms`"]),
        (["--stall", "3:150"], 3, &["--stall `150`", "250ms"]),
        (["--tail", "late"], 3, &["--tail `late`"]),
        (["--role-chunk", "late"], 2, &["early", "with-first", "none"]),
        (["--truth", "/no/such/folder/x"], 3, &["create --truth /no/such/folder/x"]),
        (["--tokens-per-chunk", "0"], 3, &["shape.tokens_per_chunk", "at least 1"]),
        (["--port", &port], 3, &[&in_use, "end what listens there, or leave out --port"]),
    ] {
        let done = Command::new(EXE).arg("token-server").args(args).output().expect("it ends");
        let err = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{args:?}: {err}");
        for part in parts {
            assert!(err.contains(part), "{args:?}: {part} is not in\n{err}");
        }
    }
}
