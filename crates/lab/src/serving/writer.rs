//! Records to their file, off the thread that takes the stamps.

use cotenant_stats::Gaps;
use cotenant_store::serving::{RequestLine, RequestRecord};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Records that go over at once.
const BATCH: usize = 128;
/// Times of chunks that go over at once: fewer records where answers are long.
const STAMPS: usize = 1 << 14;
/// Most batches that wait to be written, some 10 MB. Beyond, whoever brings one waits.
const QUEUE: usize = 64;

/// The file, and the gaps between chunks of each tenant.
type Written = io::Result<(File, Vec<Gaps>)>;
type Batch = Vec<(usize, RequestRecord, Vec<u64>)>;

/// Takes records and writes each as a line.
pub(super) struct Writer {
    batch: Batch,
    /// Times of chunks in the batch.
    stamps: usize,
    to: Option<SyncSender<Batch>>,
    waited: Duration,
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
        let (to, from) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("requests".into())
            .spawn(move || write_all(file, headings, &from))?;
        let batch = Vec::with_capacity(BATCH);
        Ok(Writer { batch, stamps: 0, to: Some(to), waited: Duration::ZERO, thread: Some(thread) })
    }

    /// Takes a record with the times of its chunks.
    pub fn take(&mut self, tenant: usize, record: &RequestRecord, stamps: &[u64]) {
        self.batch.push((tenant, record.clone(), stamps.to_vec()));
        self.stamps += stamps.len();
        if self.batch.len() == BATCH || self.stamps >= STAMPS {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.stamps = 0;
        let Some(to) = &self.to else { return };
        // A writer that failed says so at the end.
        if let Err(TrySendError::Full(batch)) = to.try_send(batch) {
            let from = Instant::now();
            let _ = to.send(batch);
            self.waited += from.elapsed();
        }
    }

    /// How long [`Writer::take`] has waited for room.
    pub fn waited(&self) -> Duration {
        self.waited
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn a_writer_that_lags_is_waited_for_and_loses_nothing() {
        // A pipe that nobody reads for a while.
        let (reader, into) = std::io::pipe().expect("a pipe");
        let file = File::from(std::os::fd::OwnedFd::from(into));
        let heading = Heading { line: RequestLine::default(), chunks: true };
        let mut writer = Writer::start(file, vec![heading]).expect("a thread");
        let read = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            let (mut reader, mut text) = (reader, String::new());
            reader.read_to_string(&mut text).map(|_| text)
        });
        let stamps: Vec<u64> = (0..STAMPS as u64 / 2).collect();
        let records = 4 * QUEUE as u64;
        for index in 0..records {
            writer.take(0, &RequestRecord { index, ..RequestRecord::default() }, &stamps);
        }
        assert!(writer.waited() > Duration::from_millis(50), "{:?}", writer.waited());
        let (file, _) = writer.finish().expect("written");
        drop(file);
        let text = read.join().expect("no panic").expect("read");
        let lines: Vec<RequestLine> = text.lines().map(|l| serde_json::from_str(l).expect("whole")).collect();
        assert!(lines.iter().map(|l| l.record.index).eq(0..records));
        assert!(lines.iter().all(|l| l.chunks_ns == stamps));
    }
}
