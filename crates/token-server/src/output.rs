//! What a connection still has to send, and when the content in it was sent.

use crate::truth::now_ns;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::TcpStream;

/// A buffer that grew beyond this is given back once it is empty.
const KEEP_BYTES: usize = 1 << 20;

/// When the content of one answer was handed to the system. Positions count the connection's bytes.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    first_end: Option<u64>,
    last_end: Option<u64>,
    /// Ends of events, when each is to be kept.
    ends: VecDeque<u64>,
    pub(crate) first_ns: Option<u64>,
    pub(crate) last_ns: Option<u64>,
    pub(crate) chunk_ns: Vec<u64>,
}

impl Stamps {
    /// Takes notice that all bytes before `written` have been sent just now.
    fn sent(&mut self, written: u64) {
        let is_sent = |end: Option<u64>| end.is_some_and(|e| e <= written);
        if !is_sent(self.first_end) && !is_sent(self.last_end) && !is_sent(self.ends.front().copied()) {
            return;
        }
        let now = now_ns();
        if is_sent(self.first_end) {
            self.first_end = None;
            self.first_ns = Some(now);
        }
        if is_sent(self.last_end) {
            self.last_end = None;
            self.last_ns = Some(now);
        }
        while is_sent(self.ends.front().copied()) {
            self.ends.pop_front();
            self.chunk_ns.push(now);
        }
    }
}

/// The sending side of a connection.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stream: TcpStream,
    /// What is rendered; the first `at` bytes of it have been sent.
    pub(crate) buffer: Vec<u8>,
    at: usize,
    /// Bytes sent so far.
    written: u64,
    write_bytes: usize,
    pub(crate) stamps: Stamps,
}

impl Output {
    pub(crate) fn new(stream: TcpStream, write_bytes: Option<usize>) -> Self {
        Output {
            stream,
            buffer: Vec::new(),
            at: 0,
            written: 0,
            write_bytes: write_bytes.unwrap_or(usize::MAX),
            stamps: Stamps::default(),
        }
    }

    /// Bytes that wait to be sent.
    pub(crate) fn pending(&self) -> usize {
        self.buffer.len() - self.at
    }

    /// Bytes sent so far.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Says that the buffer now ends with content: the first of its answer, the last, or some in between.
    pub(crate) fn mark_content(&mut self, first: bool, last: bool, keep: bool) {
        let end = self.written + self.pending() as u64;
        if first {
            self.stamps.first_end = Some(end);
        }
        if last {
            self.stamps.last_end = Some(end);
        }
        if keep {
            self.stamps.ends.push_back(end);
        }
    }

    /// Sends what the system takes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while let Some(rest) = self.buffer.get(self.at..).filter(|rest| !rest.is_empty()) {
            let piece = rest.get(..self.write_bytes).unwrap_or(rest);
            match (&self.stream).write(piece) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.at += n;
                    self.written += n as u64;
                    self.stamps.sent(self.written);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    // A slow reader must not make the buffer grow by what it has already got.
                    if self.at >= KEEP_BYTES {
                        self.buffer.drain(..self.at);
                        self.at = 0;
                    }
                    return Ok(());
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.buffer.clear();
        self.at = 0;
        if self.buffer.capacity() > KEEP_BYTES {
            self.buffer.shrink_to(KEEP_BYTES / 4);
        }
        Ok(())
    }
}
