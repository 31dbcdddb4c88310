//! Reading trace files, also while they grow, and whatever has happened to them.
//!
//! A tail that is not a whole record, or is missing, is what a killed process leaves behind: everything before it is
//! read and the loss is told ([`Trace::torn_bytes`]). Anything else that the format does not allow is an error that
//! names the byte. Memory is bounded by what the file really holds, never by a number in it.

use crate::busy::{self, Attribution, Class, Execution, Interval, IntervalError};
use crate::format::{self, HEADER_BYTES, Kernel, Kind, Lane, Mark, Shape, Site, Transfer, UNIT_BYTES};
use crate::page::{Counters, REASON_BYTES, State};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Why a trace cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("read the trace: {0}")]
    Io(#[from] io::Error),
    /// Shorter than a header.
    #[error("read the trace: it has {0} bytes, and the header alone has {HEADER_BYTES}")]
    Short(u64),
    /// It does not begin with the magic number.
    #[error("read the trace: it does not begin with CTNTRACE, so it is no trace or not complete yet")]
    Magic,
    /// Written in another version of the format.
    #[error("read the trace: it has format version {0}; this program reads version {version}", version = format::VERSION)]
    Version(u32),
    /// The header contradicts itself.
    #[error("read the trace's header: {field} is {value}, which is not possible")]
    Header {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A record that the format does not allow.
    #[error("read the record at byte {offset}: {fault}")]
    Record {
        /// Where it begins in the file.
        offset: u64,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Unknown kind.
    #[error("{0} is no kind of record")]
    Kind(u8),
    /// Unknown event of a mark.
    #[error("{0} is no event of a mark")]
    Event(u8),
    /// A definition out of order.
    #[error("it defines {what} {found} where {expected} is next")]
    Order {
        /// What is defined.
        what: &'static str,
        /// Its number.
        found: u32,
        /// The number that comes next.
        expected: usize,
    },
    /// Something used before it was defined.
    #[error("it refers to {what} {number}, which is not defined")]
    Undefined {
        /// What is referred to.
        what: &'static str,
        /// Its number.
        number: u32,
    },
    /// A name longer than names can be.
    #[error("its name has {0} bytes; at most {max} are allowed", max = format::MAX_NAME_BYTES)]
    Name(usize),
}

/// A trace: definitions, executions and marks read so far.
#[derive(Debug)]
pub struct Trace {
    file: File,
    offset: u64,
    /// The process that wrote it.
    pub pid: u32,
    /// Version number of the CUPTI library that told it, 0 if none was loaded.
    pub cupti_version: u32,
    /// What the library was doing when last read.
    pub state: State,
    /// Why it was disabled or refused; empty where there is no reason.
    pub reason: String,
    /// Counters when last read.
    pub counters: Counters,
    /// Names of kernels, by number.
    pub names: Vec<String>,
    /// Launch shapes, by number.
    pub shapes: Vec<Shape>,
    /// Sites, by number.
    pub sites: Vec<Site>,
    /// Lanes, by number.
    pub lanes: Vec<Lane>,
    /// Executions of kernels, in the order of the file, which is not that of time.
    pub kernels: Vec<Kernel>,
    /// Copies and settings of memory, in the order of the file.
    pub transfers: Vec<Transfer>,
    /// Marks, in order.
    pub marks: Vec<Mark>,
    /// Bytes at the end that are missing or are no whole record.
    pub torn_bytes: u64,
}

/// Bytes read at a time.
const CHUNK_BYTES: usize = 40_000 * UNIT_BYTES;

impl Trace {
    /// Opens a trace and reads what it holds.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let mut trace = Self {
            file: File::open(path)?,
            offset: HEADER_BYTES as u64,
            pid: 0,
            cupti_version: 0,
            state: State::Starting,
            reason: String::new(),
            counters: Counters::default(),
            names: Vec::new(),
            shapes: Vec::new(),
            sites: Vec::new(),
            lanes: Vec::new(),
            kernels: Vec::new(),
            transfers: Vec::new(),
            marks: Vec::new(),
            torn_bytes: 0,
        };
        trace.update()?;
        Ok(trace)
    }

    /// Reads what has been written since.
    ///
    /// # Errors
    /// See [`ReadError`]. What was read before stays; the same place fails again.
    pub fn update(&mut self) -> Result<(), ReadError> {
        let length = self.file.metadata()?.len();
        if length < HEADER_BYTES as u64 {
            return Err(ReadError::Short(length));
        }
        let mut header = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut header, 0)?;
        let committed = self.read_header(&header)?;
        let end = committed.min(length);
        let mut chunk = Vec::new();
        while self.offset + (UNIT_BYTES as u64) <= end {
            let size = (end - self.offset).min(CHUNK_BYTES as u64) as usize / UNIT_BYTES * UNIT_BYTES;
            chunk.resize(size, 0);
            self.file.read_exact_at(&mut chunk, self.offset)?;
            let used = self.read_records(&chunk)?;
            self.offset += used as u64;
            if used == 0 {
                break;
            }
        }
        self.torn_bytes = committed - self.offset;
        Ok(())
    }

    fn read_header(&mut self, header: &[u8; HEADER_BYTES]) -> Result<u64, ReadError> {
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
        if header[..8] != format::MAGIC {
            return Err(ReadError::Magic);
        }
        if u32_at(8) != format::VERSION {
            return Err(ReadError::Version(u32_at(8)));
        }
        let fixed = |field, at: usize, want: usize| match u32_at(at) {
            value if value as usize == want => Ok(()),
            value => Err(ReadError::Header { field, value: value.into() }),
        };
        fixed("the header's length", 12, HEADER_BYTES)?;
        fixed("the unit's length", 16, UNIT_BYTES)?;
        let state = u32_at(76);
        self.state =
            State::of_word(state).ok_or(ReadError::Header { field: "the state", value: state.into() })?;
        let committed = u64_at(128);
        if committed < self.offset {
            return Err(ReadError::Header { field: "the committed length", value: committed });
        }
        self.pid = u32_at(20);
        self.cupti_version = u32_at(32);
        self.counters = Counters {
            kernels: u64_at(136),
            copies: u64_at(144),
            sets: u64_at(152),
            dropped: u64_at(160),
            buffers_lost: u64_at(168),
            incomplete: u64_at(176),
        };
        let reason = (u32_at(256) as usize).min(REASON_BYTES);
        self.reason = String::from_utf8_lossy(&header[264..264 + reason]).into_owned();
        Ok(committed)
    }

    /// Reads whole records from a chunk and returns how many bytes they are. A record that the chunk cuts stays.
    fn read_records(&mut self, chunk: &[u8]) -> Result<usize, ReadError> {
        let mut at = 0;
        loop {
            match self.read_record(&chunk[at..]) {
                Ok(0) => return Ok(at),
                Ok(taken) => at += taken,
                Err(fault) => {
                    // What came before is kept and not read again.
                    self.offset += at as u64;
                    return Err(ReadError::Record { offset: self.offset, fault });
                }
            }
        }
    }

    /// Reads the record at the start of `rest`; returns its bytes, 0 if `rest` ends within it.
    fn read_record(&mut self, rest: &[u8]) -> Result<usize, Fault> {
        let known = |what, number: u32, untold: u32, count: usize| {
            if number == untold || (number as usize) < count {
                Ok(())
            } else {
                Err(Fault::Undefined { what, number })
            }
        };
        let next = |what, found: u32, expected: usize| {
            if found as usize == expected { Ok(()) } else { Err(Fault::Order { what, found, expected }) }
        };
        let untold_lane = u32::from(format::UNTOLD_LANE);
        let Some(unit) = rest.first_chunk() else { return Ok(0) };
        let kind = format::kind(unit).map_err(Fault::Kind)?;
        match kind {
            Kind::Kernel => {
                let kernel = Kernel::decode(unit);
                known("site", kernel.site, format::UNTOLD, self.sites.len())?;
                known("lane", kernel.lane.into(), untold_lane, self.lanes.len())?;
                self.kernels.push(kernel);
            }
            Kind::Site => {
                let (number, site) = Site::decode(unit);
                next("site", number, self.sites.len())?;
                known("shape", site.shape, format::UNTOLD, self.shapes.len())?;
                self.sites.push(site);
            }
            Kind::Lane => {
                let (number, lane) = Lane::decode(unit);
                next("lane", number, self.lanes.len())?;
                self.lanes.push(lane);
            }
            Kind::Mark => self.marks.push(Mark::decode(unit).map_err(Fault::Event)?),
            Kind::Copy | Kind::Set => {
                let Some(pair) = rest.first_chunk() else { return Ok(0) };
                let transfer = Transfer::decode(pair);
                known("lane", transfer.lane.into(), untold_lane, self.lanes.len())?;
                self.transfers.push(transfer);
                return Ok(pair.len());
            }
            Kind::Shape => {
                let Some(pair) = rest.first_chunk() else { return Ok(0) };
                let (number, shape) = Shape::decode(pair);
                next("shape", number, self.shapes.len())?;
                known("name", shape.name, format::UNTOLD, self.names.len())?;
                self.shapes.push(shape);
                return Ok(pair.len());
            }
            Kind::Name => {
                let (number, length) = format::decode_name_head(unit);
                next("name", number, self.names.len())?;
                if length > format::MAX_NAME_BYTES {
                    return Err(Fault::Name(length));
                }
                let size = format::name_units(length) * UNIT_BYTES;
                let Some(record) = rest.get(..size) else { return Ok(0) };
                self.names.push(format::decode_name_text(record, length));
                return Ok(size);
            }
        }
        Ok(UNIT_BYTES)
    }

    /// Forgets executions and marks but keeps definitions, so that a long recording can be read phase by phase.
    pub fn clear_executions(&mut self) {
        self.kernels.clear();
        self.transfers.clear();
        self.marks.clear();
    }

    /// What a kernel was launched with; `None` where it was not told.
    pub fn shape(&self, kernel: &Kernel) -> Option<&Shape> {
        self.sites.get(kernel.site as usize).and_then(|site| self.shapes.get(site.shape as usize))
    }

    /// The name of a kernel as the compiler wrote it (mangled); `?` where it was not told.
    pub fn name(&self, kernel: &Kernel) -> &str {
        self.shape(kernel).and_then(|shape| self.names.get(shape.name as usize)).map_or("?", String::as_str)
    }

    /// CUPTI's number of the graph node that launched a kernel; 0 outside graphs.
    pub fn node(&self, kernel: &Kernel) -> u64 {
        self.sites.get(kernel.site as usize).map_or(0, |site| site.node)
    }

    /// All executions, in the order of the file.
    pub fn executions(&self) -> impl Iterator<Item = Execution> {
        let kernels = self.kernels.iter().map(|kernel| Execution {
            class: Class::Kernel,
            start_ns: kernel.start_ns,
            duration_ns: kernel.duration_ns,
        });
        let transfers = self.transfers.iter().map(|transfer| Execution {
            class: if transfer.set { Class::Set } else { Class::Copy },
            start_ns: transfer.start_ns,
            duration_ns: transfer.duration_ns,
        });
        kernels.chain(transfers)
    }

    /// The device time of each iteration; see [`busy::attribute`].
    ///
    /// # Errors
    /// Intervals that run backwards or overlap.
    pub fn device_time(&self, intervals: &[Interval]) -> Result<Attribution, IntervalError> {
        busy::attribute(intervals, &self.executions().collect::<Vec<_>>())
    }

    /// The spans of time during which recording was on, as far as the marks tell. A recording that was never
    /// switched off ends with the last flush, since what came after may not be in the file.
    pub fn recorded(&self) -> Vec<Interval> {
        let mut spans: Vec<Interval> = Vec::new();
        let mut open: Option<Interval> = None;
        for mark in &self.marks {
            match (mark.event, &mut open) {
                (format::Event::On, None) => {
                    open = Some(Interval { start_ns: mark.time_ns, end_ns: mark.time_ns })
                }
                (format::Event::Flush, Some(span)) => span.end_ns = span.end_ns.max(mark.time_ns),
                (format::Event::Off, Some(span)) => {
                    spans.push(Interval { end_ns: span.end_ns.max(mark.time_ns), ..*span });
                    open = None;
                }
                _ => {}
            }
        }
        spans.extend(open);
        spans
    }
}
