//! Writing and reading the folder of a load of its own.
//!
//! ```text
//! runs/20261121T030405Z-load/
//!   load.json        what was asked of which server; written first, never changed
//!   schedule.csv     when requests were to be sent, of an open loop; written before the first of them
//!   requests.jsonl   one line per request, as it ends
//!   gaps.json        times between chunks, as sketches by second, or by several
//!   client.json      how the driving went; written last
//!   summary.json     derived; `cotenant report` makes it again
//!   summary.csv, figures/
//!                    likewise
//!
//! runs/20261121T030405Z-loads/
//!   series.json      at which levels; written first, never changed
//!   loads/           a folder like that above for each load, in their order
//!   summary.json, series.csv, figures/
//!                    derived
//! ```

use crate::folder::{fresh_folder, io_error, pretty, version, write_whole, write_whole_by};
use crate::format::FORMAT;
use crate::serving::{ClientOutcome, LoadManifest, LoadSummary, SeriesManifest, SeriesSummary};
use crate::{RequestFile, StoreError};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of a load that is being driven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadFolder {
    path: PathBuf,
}

/// What the folder of a load holds.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredLoad<R = RequestFile> {
    /// `load.json`.
    pub manifest: LoadManifest,
    /// `requests.jsonl`, not yet read.
    pub requests: R,
    /// `gaps.json` as it stands, some JSON; `None` where the load did not come to its end.
    pub gaps: Option<String>,
    /// `client.json`; `None` where the load did not come to its end.
    pub client: Option<ClientOutcome>,
}

impl LoadFolder {
    /// Makes `parent/<stamp>-load/` (with `-2`, `-3`, … if taken) and writes what is asked.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn create(parent: &Path, stamp: &str, manifest: &LoadManifest) -> Result<LoadFolder, StoreError> {
        let path = fresh_folder(parent, &format!("{stamp}-load"))?;
        write_whole(&path.join("load.json"), &pretty(manifest))?;
        Ok(LoadFolder { path })
    }

    /// Makes the folder of a load of a series, `parent/name/`.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn create_in(
        series: &SeriesFolder,
        name: &str,
        manifest: &LoadManifest,
    ) -> Result<LoadFolder, StoreError> {
        let path = fresh_folder(&series.path.join(LOADS), name)?;
        write_whole(&path.join("load.json"), &pretty(manifest))?;
        Ok(LoadFolder { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes when requests are to be sent, ns since the start.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn write_schedule(&self, times_ns: &[u64]) -> Result<(), StoreError> {
        write_whole_by(&self.path.join("schedule.csv"), |f| {
            f.write_all(b"index,intended_s\n")?;
            (0..).zip(times_ns).try_for_each(|(index, ns): (u64, _)| {
                writeln!(f, "{index},{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
            })
        })
    }

    /// The file that takes requests.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn requests(&self) -> Result<File, StoreError> {
        let path = self.path.join("requests.jsonl");
        File::options().create(true).append(true).open(&path).map_err(io_error("create", &path))
    }

    /// Writes what is known at the end.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn finish<G: Serialize>(&self, client: &ClientOutcome, gaps: Option<&G>) -> Result<(), StoreError> {
        if let Some(gaps) = gaps {
            let text = serde_json::to_string(gaps).unwrap_or_default() + "\n";
            write_whole(&self.path.join("gaps.json"), &text)?;
        }
        write_whole(&self.path.join("client.json"), &pretty(client))
    }

    /// Whether a folder is one of a load.
    pub fn is_one(path: &Path) -> bool {
        path.join("load.json").is_file()
    }

    /// Reads a folder, but for its requests.
    ///
    /// # Errors
    /// [`StoreError::NotALoad`], [`StoreError::Damaged`] with file and line, [`StoreError::TooNew`], [`StoreError::Io`].
    pub fn load(path: &Path) -> Result<StoredLoad, StoreError> {
        if !Self::is_one(path) {
            return Err(StoreError::NotALoad(path.to_owned()));
        }
        let optional = |name| Some(path.join(name)).filter(|p| p.is_file());
        Ok(StoredLoad {
            manifest: json(&path.join("load.json"))?,
            requests: RequestFile::open(&path.join("requests.jsonl"))?,
            gaps: optional("gaps.json").map(|p| json_text(&p)).transpose()?,
            client: optional("client.json").map(|p| json(&p)).transpose()?,
        })
    }

    /// Writes the derived summary.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn write_summary(path: &Path, summary: &LoadSummary) -> Result<(), StoreError> {
        write_whole(&path.join("summary.json"), &pretty(summary))
    }
}

/// Where a series has its loads.
const LOADS: &str = "loads";

/// The folder of loads at several levels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesFolder {
    path: PathBuf,
}

impl SeriesFolder {
    /// Makes `parent/<stamp>-loads/` (with `-2`, `-3`, … if taken) and writes what is asked.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn create(parent: &Path, stamp: &str, manifest: &SeriesManifest) -> Result<SeriesFolder, StoreError> {
        let path = fresh_folder(parent, &format!("{stamp}-loads"))?;
        write_whole(&path.join("series.json"), &pretty(manifest))?;
        Ok(SeriesFolder { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a folder is one of a series.
    pub fn is_one(path: &Path) -> bool {
        path.join("series.json").is_file()
    }

    /// Reads what was asked, and the folders of its loads in the order of their names.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::TooNew`], [`StoreError::Io`].
    pub fn load(path: &Path) -> Result<(SeriesManifest, Vec<PathBuf>), StoreError> {
        let manifest = json(&path.join("series.json"))?;
        let loads = path.join(LOADS);
        let mut all = Vec::new();
        if loads.is_dir() {
            for entry in std::fs::read_dir(&loads).map_err(io_error("read", &loads))? {
                all.push(entry.map_err(io_error("read", &loads))?.path());
            }
        }
        all.retain(|p| LoadFolder::is_one(p));
        all.sort();
        Ok((manifest, all))
    }

    /// Writes the derived summary.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn write_summary(path: &Path, summary: &SeriesSummary) -> Result<(), StoreError> {
        write_whole(&path.join("summary.json"), &pretty(summary))
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<T, StoreError> {
    parsed(path).map(|(value, _)| value)
}

/// The text of a file that is JSON.
fn json_text(path: &Path) -> Result<String, StoreError> {
    parsed::<IgnoredAny>(path).map(|(_, text)| text)
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Result<(T, String), StoreError> {
    let text = std::fs::read_to_string(path).map_err(io_error("read", path))?;
    let found = version(&text);
    if found > FORMAT {
        return Err(StoreError::TooNew { path: path.to_owned(), found });
    }
    let value = serde_json::from_str(&text).map_err(|e| StoreError::Damaged {
        path: path.to_owned(),
        line: e.line(),
        reason: e.to_string(),
        remedy: ": restore it or run again",
    })?;
    Ok((value, text))
}
