//! Requests that are walked over, and not held.

use crate::StoreError;
use crate::folder::{each_line, io_error};
use crate::serving::RequestRecord;
use std::io;
use std::path::{Path, PathBuf};

/// Requests of one tenant in one phase, in any order that is the same in each walk: there may be more than memory has room for, so what
/// is made of them is made in one walk or in several.
pub trait Requests {
    /// Hands over each request, one after the other.
    ///
    /// # Errors
    /// What keeps the rest from being read.
    fn each(&self, f: &mut dyn FnMut(&RequestRecord)) -> Result<(), StoreError>;
}

impl Requests for [RequestRecord] {
    fn each(&self, f: &mut dyn FnMut(&RequestRecord)) -> Result<(), StoreError> {
        self.iter().for_each(f);
        Ok(())
    }
}

impl Requests for Vec<RequestRecord> {
    fn each(&self, f: &mut dyn FnMut(&RequestRecord)) -> Result<(), StoreError> {
        self.as_slice().each(f)
    }
}

/// The requests of a `requests.jsonl`, as far as it went when it was opened: a load that still runs may go on writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestFile {
    path: PathBuf,
    bytes: u64,
}

impl RequestFile {
    /// Looks how long a file is. One that is not there has no requests.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(path: &Path) -> Result<RequestFile, StoreError> {
        let bytes = match path.metadata() {
            Ok(m) => m.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(io_error("read", path)(e)),
        };
        Ok(RequestFile { path: path.to_owned(), bytes })
    }
}

impl Requests for RequestFile {
    /// Reads the file from its start, a line at a time.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with file and line, [`StoreError::TooNew`], [`StoreError::Io`].
    fn each(&self, f: &mut dyn FnMut(&RequestRecord)) -> Result<(), StoreError> {
        // A line is a `RequestLine`; what it says beside the record is passed over, since taking the whole line apart makes a copy of
        // every field first.
        each_line(&self.path, self.bytes, &mut |record: RequestRecord| f(&record))
    }
}
