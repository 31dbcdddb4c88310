//! Records to their file, off the thread that takes the stamps.

use cotenant_stats::Gaps;
use cotenant_store::serving::{RequestLine, RequestRecord};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Records that go over at once.
const BATCH: usize = 128;

/// The file, and the gaps between chunks of each tenant.
type Written = io::Result<(File, Vec<Gaps>)>;
type Batch = Vec<(usize, RequestRecord, Vec<u64>)>;

/// Takes records and writes each as a line.
pub(super) struct Writer {
    batch: Batch,
    to: Option<Sender<Batch>>,
    thread: Option<JoinHandle<Written>>,
}

/// What stands before each record of a tenant.
pub(super) struct Heading {
    /// Trial, phase and so on; the record is left out.
    pub line: RequestLine,
    /// Keep the time of each chunk.
    pub chunks: bool,
}

impl Writer {
    /// A writer that appends to `file`.
    pub fn start(file: File, headings: Vec<Heading>) -> io::Result<Writer> {
        let (to, from) = channel();
        let thread = std::thread::Builder::new()
            .name("requests".into())
            .spawn(move || write_all(file, headings, &from))?;
        Ok(Writer { batch: Vec::with_capacity(BATCH), to: Some(to), thread: Some(thread) })
    }

    /// Takes a record with the times of its chunks.
    pub fn take(&mut self, tenant: usize, record: &RequestRecord, stamps: &[u64]) {
        self.batch.push((tenant, record.clone(), stamps.to_vec()));
        if self.batch.len() == BATCH {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        if let Some(to) = &self.to {
            // A writer that failed says so at the end.
            let _ = to.send(batch);
        }
    }

    /// Writes what is left; the file and the gaps between chunks of each tenant.
    pub fn finish(mut self) -> Written {
        self.hand_over();
        drop(self.to.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(done)) => done,
            _ => Err(io::Error::other("the thread that writes requests ended early")),
        }
    }
}

fn write_all(file: File, headings: Vec<Heading>, from: &Receiver<Batch>) -> Written {
    let mut gaps = vec![Gaps::default(); headings.len()];
    let mut out = BufWriter::with_capacity(1 << 18, file);
    let mut lines: Vec<RequestLine> = headings.iter().map(|h| h.line.clone()).collect();
    while let Ok(batch) = from.recv() {
        for (who, record, stamps) in batch {
            if record.ok() {
                gaps[who].add(record.output_tokens, &stamps);
            }
            let line = &mut lines[who];
            line.record = record;
            line.chunks_ns = if headings[who].chunks { stamps } else { Vec::new() };
            serde_json::to_writer(&mut out, line)?;
            out.write_all(b"\n")?;
        }
        // Whole lines on disk after each batch: what a kill leaves can be read.
        out.flush()?;
    }
    Ok((out.into_inner().map_err(io::IntoInnerError::into_error)?, gaps))
}
