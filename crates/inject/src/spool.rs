//! The file: definitions are given numbers, records are appended in whole batches.

use crate::cupti::{KernelActivity, MOST_DEFINITIONS, TransferActivity};
use cotenant_timeline::format::{self, Event, HEADER_BYTES, Kernel, Lane, Mark, Shape, Transfer, UNTOLD, UNTOLD_LANE};
use cotenant_timeline::page::Page;
use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::hash::Hash;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers given to values in the order in which they first came.
struct Table<T> {
    numbers: HashMap<T, u32>,
    most: u32,
}

impl<T: Hash + Eq> Table<T> {
    fn new(most: u32) -> Self {
        Self { numbers: HashMap::new(), most }
    }

    /// The value's number, and whether it is new; `None` when the table is full.
    fn number(&mut self, value: T) -> Option<(u32, bool)> {
        let next = self.numbers.len() as u32;
        match self.numbers.entry(value) {
            std::collections::hash_map::Entry::Occupied(entry) => Some((*entry.get(), false)),
            std::collections::hash_map::Entry::Vacant(_) if next >= self.most => None,
            std::collections::hash_map::Entry::Vacant(entry) => Some((*entry.insert(next), true)),
        }
    }
}

/// Appends to a trace file.
pub struct Spool {
    file: File,
    page: &'static Page,
    offset: u64,
    batch: Vec<u8>,
    batch_kernels: u64,
    batch_copies: u64,
    batch_sets: u64,
    names: Table<Box<[u8]>>,
    /// Name texts by number, and the number by the address where CUPTI last had it, which saves hashing the text.
    texts: Vec<Box<[u8]>>,
    by_address: HashMap<usize, u32>,
    shapes: Table<Shape>,
    lanes: Table<Lane>,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Release);
}

impl Spool {
    /// A spool of a new file whose header page is mapped.
    pub fn new(file: File, page: &'static Page) -> Self {
        Self {
            file,
            page,
            offset: HEADER_BYTES as u64,
            batch: Vec::new(),
            batch_kernels: 0,
            batch_copies: 0,
            batch_sets: 0,
            names: Table::new(MOST_DEFINITIONS),
            texts: Vec::new(),
            by_address: HashMap::new(),
            shapes: Table::new(MOST_DEFINITIONS),
            lanes: Table::new(UNTOLD_LANE.into()),
        }
    }

    fn name(&mut self, text: Option<&CStr>) -> u32 {
        let Some(text) = text else { return UNTOLD };
        let bytes = text.to_bytes();
        let bytes = &bytes[..bytes.len().min(format::MAX_NAME_BYTES)];
        let address = text.as_ptr() as usize;
        // An address can be used again for another name when a module was unloaded.
        if let Some(&number) = self.by_address.get(&address)
            && *self.texts[number as usize] == *bytes
        {
            return number;
        }
        let Some((number, new)) = self.names.number(bytes.into()) else { return UNTOLD };
        if new {
            self.texts.push(bytes.into());
            format::encode_name(number, bytes, &mut self.batch);
        }
        if self.by_address.len() < MOST_DEFINITIONS as usize {
            self.by_address.insert(address, number);
        }
        number
    }

    fn lane(&mut self, lane: Lane) -> u16 {
        let Some((number, new)) = self.lanes.number(lane) else { return UNTOLD_LANE };
        if new {
            self.batch.extend_from_slice(&lane.encode(number));
        }
        number as u16
    }

    /// Adds an execution of a kernel to the batch; `name` is its name's text.
    pub fn kernel(&mut self, kernel: &KernelActivity, name: Option<&CStr>) {
        let shape = Shape {
            name: self.name(name),
            grid: kernel.grid,
            block: kernel.block,
            registers: kernel.registers,
            static_shared: kernel.static_shared,
            dynamic_shared: kernel.dynamic_shared,
        };
        let number = match self.shapes.number(shape) {
            None => UNTOLD,
            Some((number, new)) => {
                if new {
                    self.batch.extend_from_slice(&shape.encode(number));
                }
                number
            }
        };
        let record = Kernel {
            shape: number,
            lane: self.lane(kernel.lane),
            start_ns: kernel.start_ns,
            duration_ns: kernel.end_ns.saturating_sub(kernel.start_ns),
            correlation: kernel.correlation,
            node: kernel.node,
        };
        self.batch.extend_from_slice(&record.encode());
        self.batch_kernels += 1;
    }

    /// Adds a copy or setting of memory to the batch.
    pub fn transfer(&mut self, transfer: &TransferActivity) {
        let record = Transfer {
            set: transfer.set,
            direction: transfer.direction,
            graph: transfer.node != 0,
            lane: self.lane(transfer.lane),
            start_ns: transfer.start_ns,
            duration_ns: transfer.end_ns.saturating_sub(transfer.start_ns),
            correlation: transfer.correlation,
            bytes: transfer.bytes,
        };
        self.batch.extend_from_slice(&record.encode());
        if transfer.set { self.batch_sets += 1 } else { self.batch_copies += 1 }
    }

    /// Adds a mark to the batch.
    pub fn mark(&mut self, event: Event, time_ns: u64, value: u64) {
        self.batch.extend_from_slice(&Mark { event, time_ns, value }.encode());
    }

    /// Writes the batch and makes it part of the file.
    ///
    /// # Errors
    /// It could not be written. Nothing of the batch is part of the file then, so no more may be written: later
    /// records would refer to definitions that are missing.
    pub fn commit(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.batch, self.offset)?;
        self.offset += self.batch.len() as u64;
        self.batch.clear();
        add(&self.page.kernels, std::mem::take(&mut self.batch_kernels));
        add(&self.page.copies, std::mem::take(&mut self.batch_copies));
        add(&self.page.sets, std::mem::take(&mut self.batch_sets));
        self.page.committed.store(self.offset, Ordering::Release);
        Ok(())
    }
}
