//! How many requests a token server answers: `hammer [--port N] [--connections N] [--tokens N] [--seconds X]`.
//!
//! A closed loop of streaming chats on one thread, over the given connections in lockstep. Without a port it starts a
//! server in this process. Prints requests per second and the processor time of the server's thread per request.

use cotenant_token_server::{Options, spawn};
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let (mut port, mut connections, mut tokens, mut seconds) = (None, 64_usize, 32_u32, 3.0_f64);
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--port" => port = Some(value.parse()?),
            "--connections" => connections = value.parse()?,
            "--tokens" => tokens = value.parse()?,
            "--seconds" => seconds = value.parse()?,
            _ => return Err(format!("{name} is none of --port, --connections, --tokens, --seconds").into()),
        }
    }
    let server =
        if port.is_none() { Some(spawn(Options { truth_limit: 0, ..Options::default() })?) } else { None };
    let port = port.or(server.as_ref().map(|s| s.port())).unwrap_or(0);
    let body = format!(
        r#"{{"model":"simulated","messages":[{{"role":"user","content":"a b c d"}}],"max_tokens":{tokens},"stream":true}}"#
    );
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let mut buffer = vec![0; 64 << 10];
    let (begin, cpu_begin) = (Instant::now(), server_cpu());
    let mut done = 0_u64;
    while begin.elapsed() < Duration::from_secs_f64(seconds) {
        for stream in &mut streams {
            stream.write_all(request.as_bytes())?;
        }
        for stream in &mut streams {
            let mut end = Vec::new();
            while !end.ends_with(b"\r\n0\r\n\r\n") {
                let n = stream.read(&mut buffer)?;
                if n == 0 {
                    return Err("the server closed a connection".into());
                }
                end.extend_from_slice(&buffer[n.saturating_sub(7)..n]);
            }
            done += 1;
        }
    }
    let took = begin.elapsed().as_secs_f64();
    println!("{:.0} requests/s", done as f64 / took);
    if let (Some(from), Some(to)) = (cpu_begin, server_cpu()) {
        let per_request = (to - from) / done as f64;
        println!(
            "{:.2} us of the server's thread per request: {:.0} requests/s on a core",
            per_request * 1e6,
            1.0 / per_request
        );
    }
    Ok(())
}

/// Processor time of the server's thread when it is in this process, s.
fn server_cpu() -> Option<f64> {
    for task in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        if name.trim() == "token-server" {
            let times = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            return Some(times.split(' ').next()?.parse::<f64>().ok()? / 1e9);
        }
    }
    None
}
