//! A model or program as a process: start it with its two descriptors, hear what it says, notice its death, end it
//! with all its children.

use super::lines::{self, Line};
use crate::backend::TrialError;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines of a program's own output that a failure shows.
const LAST_LINES: usize = 12;
/// Characters of each.
const LINE_CHARS: usize = 300;
/// Longest line that is kept back until it is whole.
const LONGEST_LINE: usize = 1 << 16;
/// How long a failed program may take to end and to have its last words read.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a program may take to end when told to, before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// The same where it has a server to end, which it gives some seconds itself.
const SHEPHERD_GRACE: Duration = Duration::from_secs(10);

/// Last lines of one output.
type Said = Arc<Mutex<VecDeque<String>>>;

/// What the reader of a program's answers passes on, with the program's number.
#[derive(Debug)]
pub enum Heard {
    /// A line of the protocol.
    Line(Line),
    /// Something that is none.
    Nonsense(String),
    /// The descriptor was closed: it ended or died.
    Closed,
}

/// Where answers of all programs arrive.
pub type Ear = Sender<(u64, Heard)>;

/// How to start a program.
#[derive(Debug)]
pub struct Start<'a> {
    /// Number in what is heard.
    pub id: u64,
    /// Tenant's name, for messages and the log.
    pub name: &'a str,
    /// Program and arguments.
    pub argv: &'a [String],
    /// Environment over the inherited one.
    pub env: &'a [(String, String)],
    /// Opaque: no descriptors.
    pub opaque: bool,
    /// File that takes its output.
    pub log: Option<PathBuf>,
    /// It has a server of its own to end: it is not killed with this process, and before it is killed it gets time. It
    /// ends by itself when its input is closed.
    pub shepherd: bool,
}

/// A running program. Dropping it ends it and whatever it started.
#[derive(Debug)]
pub struct Program {
    /// Number in what is heard.
    pub id: u64,
    /// Tenant's name when it was started.
    pub name: String,
    child: Child,
    input: Option<File>,
    /// Last lines of its standard error, and of its standard output.
    said: [Said; 2],
    note: String,
    readers: Vec<JoinHandle<()>>,
    ended: Option<ExitStatus>,
    shepherd: bool,
}

impl Program {
    /// Starts it.
    ///
    /// # Errors
    /// The program is absent or cannot be started; the message names it.
    pub fn start(s: &Start<'_>, ear: &Ear) -> Result<Program, TrialError> {
        let (first, rest) =
            s.argv.split_first().ok_or_else(|| TrialError::Failed("no program is named".into()))?;
        let fail = |what: &str, e: std::io::Error| {
            TrialError::Failed(format!("tenant {}: cannot {what} `{first}`: {e}", s.name))
        };
        let mut cmd = Command::new(first);
        cmd.args(rest).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        cotenant_gpu::mps::without_client_settings(&mut cmd);
        cmd.env("PYTHONUNBUFFERED", "1").envs(s.env.iter().cloned());
        let mut ends = None;
        if !s.opaque {
            let pipe =
                || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(std::io::Error::from);
            let (their_in, our_out) = pipe().map_err(|e| fail("make a pipe for", e))?;
            let (our_in, their_out) = pipe().map_err(|e| fail("make a pipe for", e))?;
            for end in [&their_in, &their_out] {
                // Only the process about to start inherits them: both are closed here right after.
                rustix::io::fcntl_setfd(end, rustix::io::FdFlags::empty())
                    .map_err(|e| fail("pass a pipe to", e.into()))?;
            }
            cmd.env("COTENANT_IN", their_in.as_raw_fd().to_string());
            cmd.env("COTENANT_OUT", their_out.as_raw_fd().to_string());
            ends = Some((their_in, our_out, our_in, their_out));
        }
        if !s.shepherd {
            cotenant_gpu::mps::be_killed_with_parent(&mut cmd);
        }
        let mut child = cmd.spawn().map_err(|e| fail("start", e))?;
        let said: [Said; 2] = Default::default();
        let log = s.log.as_ref().and_then(|p| File::create(p).ok()).map(|f| Arc::new(Mutex::new(f)));
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            readers.push(keep(out, said[1].clone(), log.clone()));
        }
        if let Some(err) = child.stderr.take() {
            readers.push(keep(err, said[0].clone(), log));
        }
        let mut input = None;
        if let Some((their_in, our_out, our_in, their_out)) = ends {
            drop((their_in, their_out));
            input = Some(File::from(our_out));
            let (id, ear) = (s.id, ear.clone());
            readers.push(std::thread::spawn(move || listen(id, our_in, &ear)));
        }
        let name = s.name.to_owned();
        Ok(Program {
            id: s.id,
            name,
            child,
            input,
            said,
            note: String::new(),
            readers,
            ended: None,
            shepherd: s.shepherd,
        })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Says a line (with its line end).
    ///
    /// # Errors
    /// It is gone; the message says how it ended and what it said last.
    pub fn tell(&mut self, line: &str) -> Result<(), TrialError> {
        let told = self.input.as_mut().is_some_and(|f| f.write_all(line.as_bytes()).is_ok());
        if told { Ok(()) } else { Err(self.death()) }
    }

    /// Keeps what it says it is doing.
    pub fn noted(&mut self, note: String) {
        self.note = note;
    }

    /// A failure of this program, in the words that the record gets: the cause and its last output.
    pub fn failure(&mut self, cause: &str) -> TrialError {
        TrialError::Failed(self.words(cause))
    }

    /// See [`Program::failure`].
    pub fn words(&mut self, cause: &str) -> String {
        let mut out = format!("tenant {}: {cause}", self.name);
        if !self.note.is_empty() {
            out.push_str(&format!("; it was at: {}", self.note));
        }
        // What goes wrong is told on standard error; a chatty standard output must not push that out.
        let last = self.said.iter().map(|s| s.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let lines: Vec<String> = last.flatten().collect();
        if !lines.is_empty() {
            out.push_str(&format!("; its last output:\n    {}", lines.join("\n    ")));
        }
        out
    }

    /// Waits a little for the end of a program that is about to end, and for its last words to be read.
    pub fn let_end(&mut self) {
        let deadline = Instant::now() + LAST_WORDS;
        while self.status().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        // A child of its own may hold its output open: then what there is must do.
        while self.readers.iter().any(|r| !r.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The failure of a program that has gone, or is about to.
    pub fn death(&mut self) -> TrialError {
        self.let_end();
        let how = match self.status() {
            Some(s) => format!("its process ended ({})", describe(s)),
            None => "it closed its side of the protocol".to_owned(),
        };
        self.failure(&how)
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Asks it to end, without waiting.
    pub fn dismiss(&mut self) {
        if let Some(mut f) = self.input.take() {
            let _ = f.write_all(b"exit\n");
        }
    }

    /// Kills it and all it started.
    pub fn kill(&mut self) {
        if self.shepherd {
            self.input = None;
            let deadline = Instant::now() + SHEPHERD_GRACE;
            while self.status().is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let opaque = self.input.is_none() && self.readers.len() < 3;
        self.dismiss();
        let grace = if self.shepherd { SHEPHERD_GRACE } else { GRACE };
        let deadline = Instant::now() + if opaque { Duration::ZERO } else { grace };
        while self.status().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        // Also after its own end: what it has started and left behind is still in its group.
        self.kill();
        let _ = self.child.wait();
        for r in self.readers.drain(..) {
            let _ = r.join();
        }
    }
}

/// Ends many at once: all are told before the first is waited for.
pub fn end_all(programs: &mut Vec<Program>) {
    for p in programs.iter_mut() {
        p.dismiss();
    }
    programs.clear();
}

pub(crate) fn describe(s: ExitStatus) -> String {
    match (s.signal(), s.code()) {
        (Some(9), _) => "killed by signal 9, SIGKILL: by hand, or by the kernel for lack of memory".into(),
        (Some(n), _) => format!("killed by signal {n}"),
        (None, Some(c)) => format!("exit code {c}"),
        (None, None) => "unknown status".into(),
    }
}

/// Copies output to the log and keeps its last lines.
fn keep(mut from: impl Read + Send + 'static, said: Said, log: Option<Arc<Mutex<File>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut buf, mut line) = ([0u8; 8192], Vec::new());
        let push = |line: &mut Vec<u8>| {
            let text: String = String::from_utf8_lossy(line).trim_end().chars().take(LINE_CHARS).collect();
            line.clear();
            if text.is_empty() {
                return;
            }
            let mut s = said.lock().unwrap_or_else(PoisonError::into_inner);
            if s.len() == LAST_LINES {
                s.pop_front();
            }
            s.push_back(text);
        };
        // Whole lines only: the other output goes to the same file.
        let mut pending: Vec<u8> = Vec::new();
        let write = |bytes: &[u8]| {
            if let Some(log) = log.as_ref().filter(|_| !bytes.is_empty()) {
                let _ = log.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes);
            }
        };
        while let Ok(n) = from.read(&mut buf) {
            if n == 0 {
                break;
            }
            pending.extend_from_slice(&buf[..n]);
            let whole = pending.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
            let whole = if pending.len() > LONGEST_LINE { pending.len() } else { whole };
            write(&pending[..whole]);
            pending.drain(..whole);
            for &b in &buf[..n] {
                if b == b'\n' {
                    push(&mut line);
                } else if line.len() < 4 * LINE_CHARS {
                    line.push(b);
                }
            }
        }
        write(&pending);
        push(&mut line);
    })
}

/// Reads answers until the descriptor closes or something comes that is no line of the protocol.
fn listen(id: u64, from: OwnedFd, ear: &Ear) {
    let mut reader = BufReader::with_capacity(1 << 16, File::from(from));
    let mut buf = Vec::new();
    loop {
        buf.clear();
        let mut limited = (&mut reader).take(lines::LONGEST as u64);
        let heard = match limited.read_until(b'\n', &mut buf) {
            Ok(0) | Err(_) => Heard::Closed,
            Ok(_) if buf.last() != Some(&b'\n') && buf.len() == lines::LONGEST => {
                Heard::Nonsense(format!("a line of more than {} bytes", lines::LONGEST))
            }
            // A last line without its end: the writer died within it.
            Ok(_) if buf.last() != Some(&b'\n') => Heard::Closed,
            Ok(_) => {
                buf.pop();
                match std::str::from_utf8(&buf) {
                    Ok(text) => match lines::parse(text) {
                        Ok(l) => Heard::Line(l),
                        Err(why) => Heard::Nonsense(why),
                    },
                    Err(_) => Heard::Nonsense("bytes that are no UTF-8".into()),
                }
            }
        };
        let last = !matches!(heard, Heard::Line(_));
        if ear.send((id, heard)).is_err() || last {
            return;
        }
    }
}

/// The files that tenants need (worker, helper, library), in a private folder that goes with this value.
#[derive(Debug)]
pub struct Kit {
    dir: PathBuf,
}

/// Name of a kit's folder before the id of the process that made it.
const FOLDER: &str = "cotenant-tenants-";

impl Kit {
    /// Writes the files under `parent`.
    ///
    /// # Errors
    /// The folder cannot be made or written.
    pub fn unpack(parent: &Path) -> std::io::Result<Kit> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        cotenant_gpu::mps::sweep_folders(parent, FOLDER);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("{FOLDER}{}.{number}", std::process::id()));
        // Fails where something of that name is: nobody else may have laid it there for us.
        std::fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let kit = Kit { dir };
        for (name, text) in super::FILES {
            std::fs::write(kit.dir.join(name), text)?;
        }
        cotenant_inject_embed::install(&kit.dir)?;
        std::fs::create_dir(kit.traces())?;
        Ok(kit)
    }

    /// The folder, to import `cotenant` from.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> String {
        self.dir.join(name).to_string_lossy().into_owned()
    }

    /// Environment that has a program write traces into a folder, once it is asked to.
    pub fn trace_env(&self, folder: &Path) -> Vec<(String, String)> {
        let library = self.dir.join(cotenant_inject_embed::FILE_NAME);
        cotenant_inject_embed::environment(&library, folder, false)
            .into_iter()
            .map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned()))
            .collect()
    }

    /// Where traced processes write.
    pub fn traces(&self) -> PathBuf {
        self.dir.join("traces")
    }
}

impl Drop for Kit {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
