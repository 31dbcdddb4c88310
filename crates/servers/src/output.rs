//! A server's output: copied to its log without secrets, its last lines kept, and the few lines known that explain a
//! failure.

use crate::mask::Mask;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines that a failure shows.
const LAST_LINES: usize = 12;
/// Characters of each.
const LINE_CHARS: usize = 300;
/// Longest line that is kept back until it is whole, in bytes.
const LONGEST_LINE: usize = 1 << 16;

/// What was heard so far.
#[derive(Debug, Default)]
struct Heard {
    last: VecDeque<String>,
    out_of_memory: Option<String>,
    address_in_use: Option<String>,
}

/// Reader of a server's output.
#[derive(Debug)]
pub(crate) struct Output {
    heard: Arc<Mutex<Heard>>,
    reader: JoinHandle<()>,
}

impl Output {
    /// Copies `from` to `log` until its end; see [`Mask::of`] for what is replaced.
    pub(crate) fn copy(from: impl Read + Send + 'static, log: File, mask: Mask) -> std::io::Result<Output> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let theirs = heard.clone();
        let reader = std::thread::Builder::new()
            .name("server-output".into())
            .spawn(move || read_all(from, log, &mask, &theirs))?;
        Ok(Output { heard, reader })
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its last lines.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.heard().last.iter().cloned().collect()
    }

    /// The first line that tells of too little GPU memory.
    pub(crate) fn out_of_memory(&self) -> Option<String> {
        self.heard().out_of_memory.clone()
    }

    /// The first line that tells of an address in use.
    pub(crate) fn address_in_use(&self) -> Option<String> {
        self.heard().address_in_use.clone()
    }

    /// Waits until all is read, for at most so long: a process that has left the family may hold the other end.
    pub(crate) fn let_end(&self, most: Duration) {
        let deadline = Instant::now() + most;
        while !self.reader.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn read_all(mut from: impl Read, mut log: File, mask: &Mask, heard: &Mutex<Heard>) {
    let mut buf = [0u8; 8192];
    let mut pending: Vec<u8> = Vec::new();
    let mut line = |bytes: &[u8]| {
        let text = mask.apply(&String::from_utf8_lossy(bytes));
        // Reading goes on when the disk is full: a server whose output nobody reads stands still.
        let _ = log.write_all(text.as_bytes());
        listen(&text, heard);
    };
    loop {
        let n = match from.read(&mut buf) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        pending.extend_from_slice(&buf[..n]);
        while let Some(end) = pending.iter().position(|&b| b == b'\n') {
            line(&pending[..=end]);
            pending.drain(..=end);
        }
        if pending.len() > LONGEST_LINE + mask.overlap() {
            let masked = mask.apply(&String::from_utf8_lossy(&pending)).into_bytes();
            let cut = masked.len().saturating_sub(mask.overlap());
            line(&masked[..cut]);
            pending = masked[cut..].to_vec();
        }
    }
    if !pending.is_empty() {
        line(&pending);
    }
}

fn listen(text: &str, heard: &Mutex<Heard>) {
    // Progress bars overwrite their line: what stands at the end is what a terminal shows.
    let shown = text.trim_end().rsplit('\r').next().unwrap_or_default().trim_end();
    if shown.is_empty() {
        return;
    }
    let kept: String = shown.chars().take(LINE_CHARS).collect();
    let lower = shown.to_lowercase();
    let mut h = heard.lock().unwrap_or_else(PoisonError::into_inner);
    if h.out_of_memory.is_none() && tells_out_of_memory(&lower) {
        h.out_of_memory = Some(kept.clone());
    }
    if h.address_in_use.is_none() && tells_address_in_use(&lower) {
        h.address_in_use = Some(kept.clone());
    }
    if h.last.len() == LAST_LINES {
        h.last.pop_front();
    }
    h.last.push_back(kept);
}

fn tells_out_of_memory(lower: &str) -> bool {
    let words = [
        "cuda out of memory",
        "outofmemoryerror",
        "cuda error: out of memory",
        "cuda_error_out_of_memory",
        "cudaerrormemoryallocation",
        "cudamalloc failed: out of memory",
        "no available memory for the cache blocks",
        "insufficient memory",
        "not enough memory. please try to increase --mem-fraction-static",
    ];
    words.iter().any(|w| lower.contains(w))
        || (lower.contains("free memory on device") && lower.contains("less than desired"))
}

fn tells_address_in_use(lower: &str) -> bool {
    let words =
        ["address already in use", "address in use", "eaddrinuse", "couldn't bind http server socket"];
    words.iter().any(|w| lower.contains(w))
}

/// What can be done about a line that tells of too little GPU memory.
pub(crate) fn memory_advice(line: &str) -> &'static str {
    let lower = line.to_lowercase();
    if lower.contains("free memory on device") {
        "less of the card is free than its share; lower its `memory_share`, or end what else uses the card"
    } else if lower.contains("cache blocks") || lower.contains("mem-fraction-static") {
        "its share holds the model but no KV cache; raise its `memory_share`, or lower `max_model_len`"
    } else {
        "lower the `memory_share` of the servers on this card or `max_model_len`, take a smaller model, or end what \
         else uses the card"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &[u8], mask: Mask) -> (String, Output) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let out =
            Output::copy(std::io::Cursor::new(text.to_vec()), File::create(&path).unwrap(), mask).unwrap();
        out.let_end(Duration::from_secs(10));
        (std::fs::read_to_string(path).unwrap(), out)
    }

    fn mask(env: &[(&str, &str)], argv: &[&str]) -> Mask {
        let argv: Vec<String> = argv.iter().map(|a| (*a).to_owned()).collect();
        Mask::of(env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), &argv)
    }

    #[test]
    fn secrets_are_replaced_wherever_they_are() {
        let env = [("HF_TOKEN", "hf_1234"), ("MY_KEY", "hf_12345678"), ("A_KEY", "1"), ("HOME", "/root")];
        let m = mask(&env, &["x", "--api-key", "sk-abc", "--hf-token=tok-9"]);
        let (log, out) = run(b"a hf_12345678 b hf_1234 /root 1\nsk-abctok-9", m);
        assert_eq!(log, "a *** b *** /root 1\n******");
        assert_eq!(out.last_lines(), ["a *** b *** /root 1", "******"]);
    }

    #[test]
    fn a_secret_across_the_cut_of_an_endless_line_is_replaced() {
        for before in LONGEST_LINE - 20..LONGEST_LINE + 20 {
            let mut text = vec![b'x'; before];
            text.extend_from_slice(b"hf_12345678");
            text.extend_from_slice(&vec![b'y'; 20_000]);
            let (log, _) = run(&text, mask(&[("HF_TOKEN", "hf_12345678")], &[]));
            assert!(log.contains("***") && !log.contains("hf_12"), "{before}");
        }
    }

    #[test]
    fn the_last_lines_and_the_telling_ones_are_kept() {
        let mut text = String::from(
            "torch.OutOfMemoryError: CUDA out of memory. Tried\n[Errno 98] Address already in use\n",
        );
        for i in 0..30 {
            text.push_str(&format!("10%\r20%\rline {i}\n\n"));
        }
        let (log, out) = run(text.as_bytes(), Mask::default());
        assert_eq!(log, text);
        let lines = out.last_lines();
        assert_eq!((lines.len(), lines[0].as_str(), lines[11].as_str()), (12, "line 18", "line 29"));
        assert!(out.out_of_memory().unwrap().starts_with("torch.OutOf"));
        assert!(out.address_in_use().unwrap().contains("Errno 98"));
    }

    #[test]
    fn what_servers_say_without_memory_is_known() {
        for line in [
            "ValueError: Free memory on device cuda:0 (3.1/79.2 GiB) on startup is less than desired GPU memory utilization",
            "ValueError: No available memory for the cache blocks. Try increasing",
            "ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed: out of memory",
            "RuntimeError: CUDA error: out of memory",
            "Error: insufficient memory",
        ] {
            assert!(tells_out_of_memory(&line.to_lowercase()), "{line}");
        }
        assert!(!tells_out_of_memory("free memory on device: 70 gib"));
        assert!(memory_advice("No available memory for the cache blocks").contains("raise"));
    }
}
