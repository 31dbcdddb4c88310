//! Writing and reading a run folder.
//!
//! ```text
//! runs/20261121T030405Z-issue-slots/
//!   manifest.json    what ran on what; written first, never changed
//!   requests.jsonl   one line per request to a server tenant
//!   server-metrics.csv  what servers said of themselves
//!   repeats.jsonl    one line per repeat, flushed to disk as it ends
//!   outcomes.jsonl   one line per trial that ended
//!   warnings.jsonl   typed warnings
//!   telemetry.csv    GPU state over time
//!   summary.json, figures/*.svg, report.html    derived; `cotenant report` makes them again
//! ```
//!
//! Only whole lines count: a process killed in the middle of a line leaves a torn one, which reading ignores
//! and the next writer cuts off.

use crate::format::{FORMAT, Manifest, OutcomeRecord, RepeatRecord, Summary, WarningRecord};
use crate::serving::RequestLine;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes that are read at once of a file of lines.
const READ: usize = 1 << 18;

/// What can go wrong with a run folder. Messages read after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("{action} {path}: {source}{}", hint(.source))]
    Io {
        /// `read`, `write`, `create`.
        action: &'static str,
        /// File.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("read {path}, line {line}: {reason}; the run folder is damaged there{}", .remedy)]
    Damaged {
        /// File.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Parser's words.
        reason: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Written by a newer version.
    #[error("read {path}: its format is {found} and this version reads up to {FORMAT}; use a newer cotenant")]
    TooNew {
        /// File.
        path: PathBuf,
        /// Version found.
        found: u32,
    },
    /// Not a run folder.
    #[error("open {0}: there is no manifest.json in it, so it is not a run folder")]
    NotARun(PathBuf),
    /// Not the folder of a load.
    #[error("open {0}: there is no load.json in it, so it is not the folder of a load")]
    NotALoad(PathBuf),
    /// A file name in a run would leave its folder.
    #[error("write {0}: the name leaves the run folder")]
    Escapes(String),
}

fn hint(e: &io::Error) -> &'static str {
    match e.kind() {
        io::ErrorKind::StorageFull => " (the disk is full: make room, then continue with --resume)",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            " (choose another folder with --out)"
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            " (a file is in the way: choose another folder)"
        }
        _ => "",
    }
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

/// Makes `parent/base/`, with `-2`, `-3`, … if taken.
pub(crate) fn fresh_folder(parent: &Path, base: &str) -> Result<PathBuf, StoreError> {
    std::fs::create_dir_all(parent).map_err(io_error("create", parent))?;
    let mut path = parent.join(base);
    for n in 2.. {
        match std::fs::create_dir(&path) {
            Ok(()) => break,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && n < 1000 => {
                path = parent.join(format!("{base}-{n}"));
            }
            Err(e) => return Err(io_error("create", &path)(e)),
        }
    }
    Ok(path)
}

/// Which attempt a request is of.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Attempt {
    trial: String,
    attempt: u32,
}

/// A run folder open for writing.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    repeats: File,
    outcomes_file: File,
    warnings: File,
    telemetry: File,
    outcomes: Vec<OutcomeRecord>,
    attempts: std::collections::BTreeMap<String, u32>,
}

impl RunFolder {
    /// Makes `parent/<stamp>-<name>/` (with `-2`, `-3`, … if taken) and writes the manifest.
    ///
    /// # Errors
    /// [`StoreError::Io`], with a hint for a full disk; [`StoreError::Escapes`] for a name with a separator.
    pub fn create(parent: &Path, stamp: &str, manifest: &Manifest) -> Result<RunFolder, StoreError> {
        let plain =
            |s: &str| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !plain(&manifest.name) || !plain(stamp) || manifest.name.starts_with('.') {
            return Err(StoreError::Escapes(manifest.name.clone()));
        }
        let path = fresh_folder(parent, &format!("{stamp}-{}", manifest.name))?;
        write_whole(&path.join("manifest.json"), &pretty(manifest))?;
        Self::open_files(path, Vec::new(), &[])
    }

    /// Opens an existing folder to continue it: torn last lines are cut off, and a trial that is said to be done but
    /// has lost repeats (a disk that dropped what it had confirmed) counts as not ended, so that it runs again.
    ///
    /// # Errors
    /// As [`load`].
    pub fn resume(path: &Path) -> Result<(RunFolder, Run), StoreError> {
        let run = load(path)?;
        let whole = run.outcomes.iter().filter(|o| has_its_repeats(o, &run)).cloned().collect();
        let mut f = Self::open_files(path.to_owned(), whole, &run.repeats)?;
        for o in &run.outcomes {
            let a = f.attempts.entry(o.trial.clone()).or_insert(0);
            *a = o.attempt.max(*a);
        }
        // Requests are written before the repeat that they are of: an attempt may have left nothing else.
        each_line(&path.join("requests.jsonl"), u64::MAX, &mut |r: Attempt| {
            let a = f.attempts.entry(r.trial).or_insert(0);
            *a = r.attempt.max(*a);
        })?;
        Ok((f, run))
    }

    fn open_files(
        path: PathBuf,
        outcomes: Vec<OutcomeRecord>,
        repeats: &[RepeatRecord],
    ) -> Result<RunFolder, StoreError> {
        let mut attempts = std::collections::BTreeMap::new();
        for r in repeats {
            let a = attempts.entry(r.trial.clone()).or_insert(0);
            *a = r.attempt.max(*a);
        }
        Ok(RunFolder {
            repeats: open_lines(&path.join("repeats.jsonl"))?,
            outcomes_file: open_lines(&path.join("outcomes.jsonl"))?,
            warnings: open_lines(&path.join("warnings.jsonl"))?,
            telemetry: open_lines(&path.join("telemetry.csv"))?,
            path,
            outcomes,
            attempts,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Outcomes so far.
    pub fn outcomes(&self) -> &[OutcomeRecord] {
        &self.outcomes
    }

    /// Whether a trial has ended.
    pub fn has_outcome(&self, trial: &str) -> bool {
        self.outcomes.iter().any(|o| o.trial == trial)
    }

    /// The attempt number for a trial that starts now.
    pub fn next_attempt(&self, trial: &str) -> u32 {
        self.attempts.get(trial).copied().unwrap_or(0) + 1
    }

    /// Appends a repeat and waits until it is on disk.
    pub fn append_repeat(&mut self, r: &RepeatRecord) -> Result<(), StoreError> {
        append(&mut self.repeats, &self.path.join("repeats.jsonl"), r)
    }

    /// Appends requests to `requests.jsonl`, which is made for the first ones.
    pub fn append_requests(&mut self, requests: &[RequestLine]) -> Result<(), StoreError> {
        if requests.is_empty() {
            return Ok(());
        }
        let path = self.path.join("requests.jsonl");
        let mut text = Vec::new();
        for r in requests {
            serde_json::to_writer(&mut text, r).map_err(|e| io_error("write", &path)(e.into()))?;
            text.push(b'\n');
        }
        let mut file = open_lines(&path)?;
        file.write_all(&text).and_then(|()| file.sync_data()).map_err(io_error("write", &path))
    }

    /// Appends rows to `server-metrics.csv`, which is made with its header for the first ones.
    pub fn append_server_metrics(&mut self, header: &str, rows: &[String]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let path = self.path.join("server-metrics.csv");
        let mut file = open_lines(&path)?;
        let new = file.metadata().map_err(io_error("read", &path))?.len() == 0;
        let mut text = if new { format!("{header}\n") } else { String::new() };
        for row in rows {
            text.push_str(row);
            text.push('\n');
        }
        file.write_all(text.as_bytes()).map_err(io_error("write", &path))
    }

    /// Appends a trial's outcome and waits until it is on disk.
    pub fn append_outcome(&mut self, o: &OutcomeRecord) -> Result<(), StoreError> {
        append(&mut self.outcomes_file, &self.path.join("outcomes.jsonl"), o)?;
        self.outcomes.push(o.clone());
        Ok(())
    }

    /// Appends a warning and waits until it is on disk.
    pub fn append_warning(&mut self, w: &WarningRecord) -> Result<(), StoreError> {
        append(&mut self.warnings, &self.path.join("warnings.jsonl"), w)
    }

    /// Writes the header of `telemetry.csv` where the file is new.
    pub fn telemetry_header(&mut self, header: &str) -> Result<(), StoreError> {
        let path = self.path.join("telemetry.csv");
        let new = self.telemetry.metadata().map_err(io_error("read", &path))?.len() == 0;
        if new { writeln!(self.telemetry, "{header}").map_err(io_error("write", &path)) } else { Ok(()) }
    }

    /// Appends rows of telemetry.
    pub fn append_telemetry(&mut self, rows: &[String]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let text = rows.join("\n") + "\n";
        self.telemetry.write_all(text.as_bytes()).map_err(io_error("write", &self.path.join("telemetry.csv")))
    }
}

/// Whether the repeats behind an outcome are there: none missing between the first and the last, and as many of the
/// last set-up as the rule that ended it asks for at least.
fn has_its_repeats(o: &OutcomeRecord, run: &Run) -> bool {
    if o.status != "done" {
        return true;
    }
    let rule = &run.manifest.stopping;
    let setups = rule.setups.max(1);
    let least = match o.stopped_by.as_deref() {
        Some("max-repeats") => rule.max_repeats.div_ceil(setups),
        Some("precision") => rule.min_repeats.div_ceil(setups),
        _ => 1,
    };
    let of_attempt = || run.repeats.iter().filter(|r| r.trial == o.trial && r.attempt == o.attempt);
    let next = of_attempt().map(|r| r.repeat + 1).max().unwrap_or(0);
    let last = of_attempt().filter(|r| r.setup + 1 == setups).count() as u32;
    of_attempt().count() as u32 >= next && last >= least.max(1)
}

/// A run as it stands in its folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// What ran on what.
    pub manifest: Manifest,
    /// All repeats, of all attempts.
    pub repeats: Vec<RepeatRecord>,
    /// Trials that ended.
    pub outcomes: Vec<OutcomeRecord>,
    /// Warnings.
    pub warnings: Vec<WarningRecord>,
}

/// Reads a run folder.
///
/// # Errors
/// [`StoreError::NotARun`], [`StoreError::Damaged`] with file and line, [`StoreError::TooNew`], [`StoreError::Io`].
pub fn load(path: &Path) -> Result<Run, StoreError> {
    let manifest_path = path.join("manifest.json");
    if !manifest_path.is_file() {
        return Err(StoreError::NotARun(path.to_owned()));
    }
    let text = std::fs::read_to_string(&manifest_path).map_err(io_error("read", &manifest_path))?;
    let found = version(&text);
    if found > FORMAT {
        return Err(StoreError::TooNew { path: manifest_path, found });
    }
    let manifest = serde_json::from_str(&text).map_err(|e| StoreError::Damaged {
        path: manifest_path,
        line: e.line(),
        reason: e.to_string(),
        remedy: ": without a manifest nothing can be derived from it; restore it or run again",
    })?;
    Ok(Run {
        manifest,
        repeats: read_lines(&path.join("repeats.jsonl"))?,
        outcomes: read_lines(&path.join("outcomes.jsonl"))?,
        warnings: read_lines(&path.join("warnings.jsonl"))?,
    })
}

pub(crate) fn version(json: &str) -> u32 {
    #[derive(serde::Deserialize)]
    struct Head {
        #[serde(default)]
        format: u32,
    }
    serde_json::from_str::<Head>(json).map_or(0, |h| h.format)
}

/// Writes the derived summary.
pub fn write_summary(folder: &Path, s: &Summary) -> Result<(), StoreError> {
    write_whole(&folder.join("summary.json"), &pretty(s))
}

/// Writes a derived file, `figures/…svg` or `report.html`, whole or not at all.
///
/// # Errors
/// [`StoreError::Escapes`] for a name that leaves the folder.
pub fn write_derived(folder: &Path, name: &str, text: &str) -> Result<PathBuf, StoreError> {
    let relative = Path::new(name);
    if !relative.components().all(|c| matches!(c, std::path::Component::Normal(_))) {
        return Err(StoreError::Escapes(name.to_owned()));
    }
    let path = folder.join(relative);
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(io_error("create", dir))?;
    }
    write_whole(&path, text)?;
    Ok(path)
}

pub(crate) fn pretty<T: Serialize>(v: &T) -> String {
    serde_json::to_string_pretty(v).unwrap_or_default() + "\n"
}

/// Whether [`write_whole`] could make this file: tried, and taken back.
///
/// # Errors
/// [`StoreError::Io`] as [`write_whole`] would give it.
pub fn check_writable(path: &Path) -> Result<(), StoreError> {
    let part = part_of(path);
    File::create(&part).and_then(|_| std::fs::remove_file(&part)).map_err(io_error("write", path))
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".part");
    path.with_file_name(name)
}

/// Replaces a file by rename, so that a reader sees the old or the new one.
pub fn write_whole(path: &Path, text: &str) -> Result<(), StoreError> {
    write_whole_by(path, |f| f.write_all(text.as_bytes()))
}

/// The same, of what `write` makes a piece at a time.
pub(crate) fn write_whole_by(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), StoreError> {
    let part = part_of(path);
    let done = File::create(&part)
        .and_then(|f| {
            let mut f = BufWriter::new(f);
            write(&mut f)?;
            f.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
        })
        .and_then(|()| std::fs::rename(&part, path));
    if done.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    done.map_err(io_error("write", path))
}

/// Opens a file for appending whole lines; a torn last line is cut off first.
fn open_lines(path: &Path) -> Result<File, StoreError> {
    let err = || io_error("write", path);
    let mut f =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(err())?;
    let mut bytes = Vec::new();
    f.read_to_end(&mut bytes).map_err(err())?;
    let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    if whole < bytes.len() {
        f.set_len(whole as u64).map_err(err())?;
    }
    f.seek(SeekFrom::Start(whole as u64)).map_err(err())?;
    Ok(f)
}

fn append<T: Serialize>(f: &mut File, path: &Path, v: &T) -> Result<(), StoreError> {
    let mut line = serde_json::to_vec(v).map_err(|e| io_error("write", path)(io::Error::other(e)))?;
    line.push(b'\n');
    f.write_all(&line).and_then(|()| f.sync_data()).map_err(io_error("write", path))
}

/// The parser's words and column. Its own line number counts within the one line that it was given.
fn words_of(e: &serde_json::Error) -> String {
    let text = e.to_string();
    let words = text.rsplit_once(" at line ").map_or(text.as_str(), |(words, _)| words);
    format!("{words} at column {}", e.column())
}

pub(crate) fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StoreError> {
    let mut all = Vec::new();
    each_line(path, u64::MAX, &mut |line| all.push(line))?;
    Ok(all)
}

/// Hands over each whole line within the first `bytes` of a file, one at a time; a file that is not there has none.
pub(crate) fn each_line<T: DeserializeOwned>(
    path: &Path,
    bytes: u64,
    f: &mut dyn FnMut(T),
) -> Result<(), StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io_error("read", path)(e)),
    };
    let mut reader = BufReader::with_capacity(READ, file.take(bytes));
    let mut buffer = Vec::new();
    for line in 1.. {
        buffer.clear();
        reader.read_until(b'\n', &mut buffer).map_err(io_error("read", path))?;
        // What has no end is torn, or nothing at all.
        let Some(whole) = buffer.strip_suffix(b"\n") else { break };
        let damaged = |reason, remedy| StoreError::Damaged { path: path.to_owned(), line, reason, remedy };
        let text = std::str::from_utf8(whole).map_err(|_| {
            // As the standard library words it of a whole file.
            damaged("stream did not contain valid UTF-8".to_owned(), ": it is not text")
        })?;
        if text.trim().is_empty() {
            continue;
        }
        f(serde_json::from_str(text).map_err(|e| match version(text) {
            found if found > FORMAT => StoreError::TooNew { path: path.to_owned(), found },
            _ => damaged(words_of(&e), ": delete that line to go on with the rest"),
        })?);
    }
    Ok(())
}
