//! A small HTTP client, so that the server is not checked by code of its own.

use cotenant_token_server::{Handle, now_ns};
use serde_json::Value;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer as far as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Lines of the head after the first, in lower case.
    pub head: Vec<String>,
    pub body: Vec<u8>,
    /// When each HTTP chunk had arrived.
    pub times: Vec<u64>,
    /// Whether the end of the body was seen.
    pub complete: bool,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
    }
    /// Payloads of the events.
    pub fn payloads(&self) -> Vec<&str> {
        self.text().lines().filter_map(|l| l.strip_prefix("data: ")).collect()
    }
    /// Payloads that are JSON.
    pub fn events(&self) -> Vec<Value> {
        let payloads = self.payloads().into_iter().filter(|p| *p != "[DONE]");
        payloads.map(|p| serde_json::from_str(p).unwrap_or_else(|e| panic!("{e}: {p}"))).collect()
    }
    /// The content of a stream of chat or text.
    pub fn content(&self) -> String {
        self.events().iter().map(content_of).collect()
    }
    /// Number of words of a stream.
    pub fn words(&self) -> usize {
        self.content().split_whitespace().count()
    }
}

/// The content of an event.
pub fn content_of(event: &Value) -> String {
    let choice = &event["choices"][0];
    choice["delta"]["content"].as_str().or(choice["text"].as_str()).unwrap_or_default().to_owned()
}

pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn new(server: &Handle) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { reader: BufReader::new(stream) }
    }

    pub fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.reader.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    pub fn reader(&mut self) -> &mut impl Read {
        &mut self.reader
    }

    pub fn set_timeout(&mut self, timeout: Duration) {
        self.reader.get_mut().set_read_timeout(Some(timeout)).unwrap();
    }

    /// Sends a body and reads the answer.
    pub fn post(&mut self, path: &str, body: &str) -> Answer {
        self.write(post(path, "", body));
        self.read().unwrap()
    }
    pub fn chat(&mut self, body: &str) -> Answer {
        self.post("/v1/chat/completions", body)
    }
    pub fn get(&mut self, path: &str) -> Answer {
        self.write(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
        self.read().unwrap()
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Reads an answer; an error when not even its head came.
    pub fn read(&mut self) -> io::Result<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head: vec![], body: vec![], times: vec![], complete: false };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            answer.head.push(line.to_lowercase());
        }
        assert_eq!(answer.header("server"), Some("cotenant-token-server (simulated)"));
        answer.complete = if let Some(n) = answer.header("content-length") {
            let n: u64 = n.parse().unwrap();
            (&mut self.reader).take(n).read_to_end(&mut answer.body)? as u64 == n
        } else if answer.header("transfer-encoding") == Some("chunked") {
            self.chunks(&mut answer).is_ok()
        } else {
            self.reader.read_to_end(&mut answer.body).is_ok()
        };
        Ok(answer)
    }

    fn chunks(&mut self, answer: &mut Answer) -> io::Result<()> {
        loop {
            let size = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
            let mut chunk = vec![0; size + 2];
            let mut got = 0;
            while got < chunk.len() {
                match self.reader.read(&mut chunk[got..])? {
                    0 => {
                        answer.body.extend_from_slice(&chunk[..got.min(size)]);
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    n => got += n,
                }
            }
            assert_eq!(&chunk[size..], b"\r\n");
            if size == 0 {
                return Ok(());
            }
            answer.times.push(now_ns());
            answer.body.extend_from_slice(&chunk[..size]);
        }
    }
}

/// A request as text; `headers` are lines with their ends.
pub fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The body of a streaming chat for so many tokens, with further fields (`,"name":value`).
pub fn chat_body(tokens: u32, more: &str) -> String {
    format!(
        r#"{{"model":"simulated","messages":[{{"role":"user","content":"one two three"}}],"max_tokens":{tokens},"stream":true{more}}}"#
    )
}
