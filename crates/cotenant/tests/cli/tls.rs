//! `cotenant load` on servers that are reached by https.

use crate::loads::{only_folder, paced, server};
use crate::room::{EXE, json_lines};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Speaks TLS for the server at `to`, with a certificate of its own for `name`, which goes into `file`. Ends with the test.
fn in_front_of(to: &str, name: &str, file: &Path) -> u16 {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    std::fs::write(file, cert.pem()).expect("written");
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a configuration");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let to = to.trim_start_matches("http://").to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (config, to) = (Arc::clone(&config), to.clone());
            std::thread::spawn(move || relay(client, config, &to));
        }
    });
    port
}

/// Carries bytes both ways, turn by turn, until one side closes.
fn relay(client: TcpStream, config: Arc<ServerConfig>, to: &str) -> Option<()> {
    let turn = Some(Duration::from_millis(1));
    let mut server = TcpStream::connect(to).ok()?;
    client.set_nodelay(true).ok()?;
    server.set_nodelay(true).ok()?;
    client.set_read_timeout(turn).ok()?;
    server.set_read_timeout(turn).ok()?;
    let mut client = StreamOwned::new(ServerConnection::new(config).ok()?, client);
    let mut buffer = [0; 16 << 10];
    let waits = |e: &std::io::Error| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return Some(()),
            Ok(n) => server.write_all(&buffer[..n]).ok()?,
            Err(e) if waits(&e) => {}
            Err(_) => return None,
        }
        match server.read(&mut buffer) {
            Ok(0) => return Some(()),
            Ok(n) => client.write_all(&buffer[..n]).ok()?,
            Err(e) if waits(&e) => {}
            Err(_) => return None,
        }
    }
}

fn load(url: &str, out: &Path, trusted: Option<&Path>) -> (i32, String) {
    let mut c = Command::new(EXE);
    c.args([
        "load",
        url,
        "--concurrency",
        "6",
        "--requests",
        "120",
        "--output-tokens",
        "8",
        "--vocabulary",
        "words",
    ]);
    c.arg("--out").arg(out).env_remove("SSL_CERT_FILE").env_remove("SSL_CERT_DIR");
    if let Some(file) = trusted {
        c.env("SSL_CERT_FILE", file);
    }
    let done = c.output().expect("it runs");
    (done.status.code().unwrap_or(-1), String::from_utf8_lossy(&done.stderr).into_owned())
}

#[test]
fn a_server_by_https_is_measured_if_its_certificate_is_trusted() {
    let (room, out) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (ours, another) = (room.path().join("ours.pem"), room.path().join("another.pem"));
    let server = server(paced());
    let port = in_front_of(&server.url(), "localhost", &ours);
    let url = format!("https://localhost:{port}");
    let (code, err) = load(&url, out.path(), Some(&ours));
    assert_eq!(code, 0, "{err}");
    let all = json_lines(&only_folder(out.path()).join("requests.jsonl"));
    assert_eq!(all.len(), 120);
    let mut connected = 0;
    for r in &all {
        assert_eq!((r["output_tokens"].as_u64(), r["status"].as_u64()), (Some(8), Some(200)), "{r}");
        let at = |key: &str| r[key].as_u64().expect("a time");
        assert!(at("first_content_ns") >= at("sent_ns") + 8_000_000, "the server takes 8 ms: {r}");
        connected += u64::from(r["connected"] == true);
    }
    assert!(connected <= 6, "connections are used again: {connected}");

    // Trusted is somebody else; then nobody but the system's own; then another name.
    in_front_of(&server.url(), "localhost", &another);
    let none = tempfile::tempdir().expect("a folder");
    let by_number = format!("https://127.0.0.1:{port}");
    for (url, file) in [(&url, Some(&another)), (&by_number, Some(&ours))] {
        let began = Instant::now();
        let (code, err) = load(url, none.path(), file.map(|f| f.as_path()));
        assert_eq!(code, 4, "{err}");
        assert!(err.contains("certificate") && err.contains("SSL_CERT_FILE"), "{err}");
        assert!(began.elapsed() < Duration::from_secs(8), "it is told at once: {:?}", began.elapsed());
    }
    // Who does not speak TLS is told apart.
    let plain = server.url().replace("http://", "https://");
    let (code, err) = load(&plain, none.path(), Some(&ours));
    assert!(code == 4 && err.contains("TLS"), "{code}: {err}");
    let (code, err) = load(&url, none.path(), Some(Path::new("/nowhere.pem")));
    assert!(
        code == 4 && err.contains("no certificates to trust") && err.contains("/nowhere.pem"),
        "{code}: {err}"
    );
    assert_eq!(std::fs::read_dir(none.path()).expect("there").count(), 0, "nothing was driven");
}
