//! A key reaches the server that asks for it and nothing else, also where the server says it back.

use crate::loads::{load, server};
use crate::room::Room;
use cotenant_token_server::Options;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

const KEY: &str = "sk-not-for-any-file";
/// Not even the begin of it may be anywhere, as is left where text is cut before it is masked.
const BEGIN: &str = "sk-n";

/// Which requests a server says the key back to.
#[derive(Clone, Copy, PartialEq)]
enum Echo {
    /// Also to the question which models there are.
    All,
    /// To all but the first, by which it is known that the server is there.
    AllButFirst,
    /// To most: by status, redirect, error event, and what is no event and no chunk.
    Most,
}

/// A request up to the end of its body, and whether it is a POST.
fn request(socket: &mut TcpStream) -> Option<bool> {
    let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&got).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let line = head
                .lines()
                .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= line.unwrap_or(0usize) {
                assert!(head.contains(&format!("Bearer {KEY}")), "it gets the key: {head}");
                return Some(text.starts_with("POST"));
            }
        }
        match socket.read(&mut buffer) {
            Ok(n) if n > 0 => got.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    }
}

/// The address of a server that says the key back.
fn echo(how: Echo) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        let mut posts = 0;
        for socket in listener.incoming() {
            let mut socket = socket.expect("a connection");
            // One that is opened ahead and not used is closed without a word.
            let Some(post) = request(&mut socket) else { continue };
            posts += u32::from(post);
            let sent = socket.write_all(answer(how, post, posts).as_bytes());
            sent.expect("it takes the answer");
        }
    });
    url
}

fn answer(how: Echo, post: bool, posts: u32) -> String {
    let of = |status: &str, kind: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    // The key stands where the text of a failure is cut.
    let refused = of("401 Unauthorized", "text/plain", &format!("{} {KEY} is no good key", "x".repeat(290)));
    let which = match how {
        Echo::All => return refused,
        _ if !post => {
            let body = format!("{{\"data\": [{{\"id\": \"m\"}}], \"version\": \"1 for {KEY}\"}}");
            return of("200 OK", "application/json", &body);
        }
        _ if posts == 1 => 0,
        Echo::AllButFirst => 1,
        Echo::Most => posts % 6,
    };
    let event = |data: &str| of("200 OK", "text/event-stream", &format!("data: {data}\n\n"));
    match which {
        1 => refused,
        2 => format!(
            "HTTP/1.1 307 Elsewhere\r\nlocation: /{KEY}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        ),
        3 => event(&format!("{{\"error\": {{\"message\": \"not {KEY}\"}}}}")),
        4 => event(&format!("{{\"error\": {KEY}")),
        5 => format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{} {KEY}\r\n",
            "y".repeat(30)
        ),
        _ => of("200 OK", "application/json", r#"{"choices": [{"text": "x", "finish_reason": "length"}]}"#),
    }
}

/// Looks for the key in all files below a folder; what they hold, all together.
#[track_caller]
fn without_key(folder: &Path) -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir(folder).expect("there") {
        let path = entry.expect("read").path();
        let text = match path.is_dir() {
            true => without_key(&path),
            false => String::from_utf8_lossy(&std::fs::read(&path).expect("read")).into_owned(),
        };
        assert!(!text.contains(BEGIN), "{} has the key", path.display());
        all.push_str(&text);
    }
    all
}

/// Runs the program in a room with the key in its environment: exit code, and what it said without the key.
#[track_caller]
fn with_key(room: &Room, args: &[&str]) -> (i32, String) {
    let mut c = room.command(args);
    c.env("MY_KEY", KEY);
    let ran = Room::ran(c);
    let said = ran.out + &ran.err;
    assert!(!said.contains(BEGIN), "{said}");
    (ran.code, said)
}

#[test]
fn a_key_reaches_the_server_and_nothing_else() {
    let server = server(Options { api_key: Some(KEY.into()), ..Options::default() });
    let room = Room::new();
    let load_it = ["--concurrency", "2", "--requests", "12", "--vocabulary", "words"];
    let (code, _, err) = load(&server.url(), room.path(), &load_it);
    assert_ne!(code, 0, "without the key nothing works");
    assert!(err.contains("401"), "{err}");
    let keyed = |url: &str, more: &[&str]| {
        with_key(
            &room,
            &[&["load", url, "--api-key-env", "MY_KEY", "--preset", "vllm"], &load_it[..], more].concat(),
        )
    };
    let (code, said) = keyed(&server.url(), &[]);
    assert_eq!(code, 0, "{said}");
    without_key(room.path());

    // Servers that say it back.
    let (code, said) = keyed(&echo(Echo::Most), &["--out", "most"]);
    assert_eq!(code, 1, "{said}");
    let kept = without_key(&room.path().join("most"));
    for part in
        ["401: xxx", "307 to /***", "not ***", "an event is no JSON", "no size of a chunk", "1 for ***"]
    {
        assert!(kept.contains(part), "{part} is not in\n{kept}");
    }
    let (code, said) = keyed(&echo(Echo::All), &[]);
    assert!(code == 4 && said.contains("401"), "{code} {said}");
    // Prompts whose length is calibrated.
    let load_plain = ["load", &echo(Echo::AllButFirst), "--api-key-env", "MY_KEY", "--concurrency", "1"];
    let (code, said) = with_key(&room, &load_plain);
    assert!(
        code == 3 && said.contains("calibrate the length of prompts: the server answered 401"),
        "{code} {said}"
    );
    without_key(room.path());
}

#[test]
fn a_key_is_in_no_file_of_a_run() {
    for (how, parts) in [
        (Echo::Most, &["401: xxx", "307 to /***", "not ***", "no size of a chunk", "1 for ***"][..]),
        (Echo::AllButFirst, &["none of 12 requests came back whole; the first failed: status: 401: xxx"]),
        (Echo::All, &["gave status 401: xxx"]),
    ] {
        let room = Room::new();
        let text = format!(
            "format = 1\nname = \"echo\"\ntitle = \"Echo\"\nsummary = \"x\"\n[measure]\nrepeats = [1, 1]\ntraced = 0\n\
             [tenants.theirs]\nserver = {{ preset = \"vllm\", url = \"{}\", api_key_env = \"MY_KEY\" }}\n\
             load = {{ concurrency = 2, requests = 12, warmup = 0, vocabulary = \"words\" }}\n\
             [[trial]]\nname = \"all\"\nsharing = \"processes\"\nprotocol = \"steady\"\ntenants = [\"theirs\"]\n",
            echo(how)
        );
        room.file("echo.toml", &text);
        let (_, said) = with_key(&room, &["run", "echo.toml", "--device", "host"]);
        let kept = without_key(room.path()) + &said;
        for part in parts {
            assert!(kept.contains(part), "{part} is not in\n{kept}");
        }
    }
}
