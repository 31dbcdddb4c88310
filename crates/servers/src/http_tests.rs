use super::*;
use proptest::prelude::*;
use std::net::TcpListener;

/// Answers one request with these bytes, piece by piece, and returns what was asked.
fn once(pieces: Vec<Vec<u8>>, close: bool) -> (Url, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let (mut s, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        let mut buf = [0u8; 4096];
        loop {
            let text = String::from_utf8_lossy(&got).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|l| l.strip_prefix("Content-Length: "));
                if body.len() >= length.map_or(0, |l| l.parse().unwrap()) {
                    break;
                }
            }
            let n = s.read(&mut buf).unwrap();
            got.extend_from_slice(&buf[..n]);
        }
        for p in pieces {
            s.write_all(&p).unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        if !close {
            // The client must not need the end of the connection.
            let _ = s.read(&mut buf);
        }
        String::from_utf8(got).unwrap()
    });
    (Url { host: "127.0.0.1".into(), port, tls: false, prefix: String::new() }, thread)
}

fn get<'a>(url: &'a Url, limit: Duration) -> Request<'a> {
    Request { url, path: "/x", json: None, key: None, limit }
}

const LONG: Duration = Duration::from_secs(10);

#[test]
fn a_body_of_known_length_in_pieces() {
    let pieces =
        vec![b"HTTP/1.1 200 OK\r\ncontent-len".to_vec(), b"gth: 5\r\n\r\nhe".to_vec(), b"llo".to_vec()];
    let (url, thread) = once(pieces, false);
    let r = Request { json: Some("{\"a\":1}"), key: Some("k1"), ..get(&url, LONG) };
    assert_eq!(send(&r, &|| false).unwrap(), Answer { status: 200, body: b"hello".to_vec() });
    let asked = thread.join().unwrap();
    assert!(asked.starts_with("POST /x HTTP/1.1\r\nHost: 127.0.0.1:"), "{asked}");
    assert!(
        asked.contains("Authorization: Bearer k1\r\n") && asked.ends_with("\r\n\r\n{\"a\":1}"),
        "{asked}"
    );
}

#[test]
fn chunks_in_pieces_after_a_continue() {
    let all = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
    let (url, thread) = once(all.chunks(7).map(<[u8]>::to_vec).collect(), false);
    let a = send(&get(&url, LONG), &|| false).unwrap();
    assert_eq!((a.status, a.text().as_str()), (503, "abc0123456789"));
    thread.join().unwrap();
}

#[test]
fn a_body_until_the_end() {
    let (url, thread) = once(vec![b"HTTP/1.0 200 OK\r\n\r\nall of ".to_vec(), b"it".to_vec()], true);
    assert_eq!(send(&get(&url, LONG), &|| false).unwrap().text(), "all of it");
    thread.join().unwrap();
}

#[test]
fn what_goes_wrong_is_told_apart() {
    let (url, thread) = once(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec()], true);
    assert!(matches!(send(&get(&url, LONG), &|| false), Err(HttpError::Closed(_))));
    thread.join().unwrap();
    let (url, thread) = once(vec![b"SSH-2.0-x\r\n\r\n".to_vec()], true);
    assert!(matches!(send(&get(&url, LONG), &|| false), Err(HttpError::Malformed(_))));
    thread.join().unwrap();
    let (url, thread) = once(vec![b"HTTP/1.1 200 OK\r\n".to_vec()], false);
    assert!(matches!(send(&get(&url, Duration::from_millis(150)), &|| false), Err(HttpError::TimedOut(_))));
    thread.join().unwrap();
    let (url, thread) = once(vec![], false);
    assert!(matches!(send(&get(&url, LONG), &|| true), Err(HttpError::Interrupted)));
    thread.join().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = Url { host: "127.0.0.1".into(), port: free, tls: false, prefix: String::new() };
    let e = send(&get(&url, LONG), &|| false).unwrap_err().to_string();
    assert!(e.starts_with(&format!("connect to 127.0.0.1:{free}: ")), "{e}");
}

#[test]
fn addresses() {
    let u = |s: &str| Url::parse(s).map(|u| (u.host, u.port, u.prefix));
    assert_eq!(u("http://a.b:8000/v1/").unwrap(), ("a.b".into(), 8000, String::new()));
    assert_eq!(u("HTTP://a/x/v1").unwrap(), ("a".into(), 80, "/x".into()));
    assert_eq!(u("http://[::1]:9").unwrap(), ("::1".into(), 9, String::new()));
    assert_eq!(Url::parse("http://[::1]:9/p").unwrap().to_string(), "http://[::1]:9/p");
    let https = Url::parse("https://a/v1").unwrap();
    assert_eq!((https.port, https.tls, https.to_string()), (443, true, "https://a:443".to_owned()));
    for bad in
        ["a:80", "http://", "http://a:0", "http://a:x", "http://[::1", "http://[::1]x", "http://u@a", "é"]
    {
        assert!(matches!(u(bad), Err(HttpError::Url { .. })), "{bad}");
    }
}

proptest! {
    #[test]
    fn never_panics(s in "\\PC*", body in "[0-9a-f\r\n;]{0,40}") {
        let _ = Url::parse(&s);
        let _ = Url::parse(&format!("http://{s}"));
        let _ = decode(s.as_bytes(), true);
        let _ = decode(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}").as_bytes(), true);
    }

    #[test]
    fn chunks_come_back(chunks in proptest::collection::vec("[a-z\r\n]{1,40}", 0..6), cut in 1usize..30) {
        let mut all = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for c in &chunks {
            all.extend_from_slice(format!("{:x}\r\n{c}\r\n", c.len()).as_bytes());
        }
        all.extend_from_slice(b"0\r\n\r\n");
        prop_assert_eq!(decode(&all, false).unwrap().unwrap().text(), chunks.concat());
        // Part of it is never taken for all: only the trailer's line may be missing.
        let part = all.len().saturating_sub(2 + cut);
        prop_assert_eq!(decode(&all[..part], false).unwrap(), None);
    }
}

#[test]
fn no_error_shows_a_password() {
    for url in ["http://me:secret@host", "https://me:secret@host/v1", "http://me:secret@host:0"] {
        let e = Url::parse(url).expect_err("refused").to_string();
        assert!(!e.contains("secret") && e.contains("***@host"), "{e}");
    }
}

#[test]
fn urls_are_taken_apart() {
    let of = |u: &str| Url::parse(u).map(|u| (u.host.clone(), u.port, u.prefix.clone(), u.authority()));
    let is = |h: &str, p, x: &str, a: &str| Ok::<_, ()>((h.into(), p, x.into(), a.into()));
    assert_eq!(of("http://127.0.0.1:8000").map_err(drop), is("127.0.0.1", 8000, "", "127.0.0.1:8000"));
    assert_eq!(of("http://host/v1/").map_err(drop), is("host", 80, "", "host:80"));
    assert_eq!(of("HTTP://h:1/a/b/v1").map_err(drop), is("h", 1, "/a/b", "h:1"));
    assert_eq!(of("http://[::1]:9").map_err(drop), is("::1", 9, "", "[::1]:9"));
}

#[test]
fn bad_urls_say_what_is_wrong() {
    for (url, why) in [
        ("127.0.0.1:8000", "no scheme"),
        ("ftp://h", "neither http nor https"),
        ("http://", "no host"),
        ("http://h:0", "port"),
        ("http://h:99999", "port"),
        ("http://::1:80", "brackets"),
        ("http://[::1", "bracket"),
        ("http://h/?a", "query"),
        ("http://h h/", "white space"),
        ("http://me:secret@h", "user name"),
    ] {
        let e = Url::parse(url).expect_err(url).to_string();
        assert!(e.contains(why), "{e}");
        assert!(!e.contains("secret"), "{e}");
    }
}
