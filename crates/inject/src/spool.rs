//! The file: definitions are given numbers, records are appended in whole batches.

use crate::cupti::{KernelActivity, MOST_DEFINITIONS, TransferActivity};
use cotenant_timeline::format::{
    self, Event, HEADER_BYTES, Kernel, Lane, Mark, Shape, Site, Transfer, UNTOLD, UNTOLD_LANE,
};
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
    sites: Table<Site>,
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
            sites: Table::new(MOST_DEFINITIONS),
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

    fn site(&mut self, shape: u32, node: u64) -> u32 {
        // A program that makes graphs again and again has ever new nodes; shapes must still find room.
        let node = if self.sites.numbers.len() as u32 >= MOST_DEFINITIONS / 2 { 0 } else { node };
        let site = Site { shape, node };
        let Some((number, new)) = self.sites.number(site) else { return UNTOLD };
        if new {
            self.batch.extend_from_slice(&site.encode(number));
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
        let shape = match self.shapes.number(shape) {
            None => UNTOLD,
            Some((number, new)) => {
                if new {
                    self.batch.extend_from_slice(&shape.encode(number));
                }
                number
            }
        };
        let record = Kernel {
            site: self.site(shape, kernel.node),
            lane: self.lane(kernel.lane),
            start_ns: kernel.start_ns,
            duration_ns: kernel.end_ns.saturating_sub(kernel.start_ns),
            correlation: kernel.correlation,
        };
        self.batch.extend_from_slice(&record.encode());
        self.batch_kernels += 1;
    }

    /// Adds a copy or setting of memory to the batch.
    pub fn transfer(&mut self, transfer: &TransferActivity) {
        let record = Transfer {
            set: transfer.set,
            direction: transfer.direction,
            node: transfer.node,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_number_from_zero_until_they_are_full() {
        let mut table = Table::new(2);
        assert_eq!(table.number("a"), Some((0, true)));
        assert_eq!(table.number("b"), Some((1, true)));
        assert_eq!(table.number("a"), Some((0, false)));
        assert_eq!(table.number("c"), None);
        assert_eq!(table.number("b"), Some((1, false)));
    }

    #[test]
    fn a_name_that_moves_in_where_another_was_gets_a_number_of_its_own() {
        // SAFETY: a page is atomics and integers, for which all zeros is a value.
        let page: &'static Page = Box::leak(Box::new(unsafe { std::mem::zeroed() }));
        let file = File::open("/dev/null").expect("every system has it");
        let mut spool = Spool::new(file, page);
        let mut memory = *b"first\0";
        let first = spool.name(CStr::from_bytes_with_nul(&memory).ok());
        assert_eq!(spool.name(CStr::from_bytes_with_nul(&memory).ok()), first);
        memory[..5].copy_from_slice(b"other");
        let other = spool.name(CStr::from_bytes_with_nul(&memory).ok());
        assert_eq!((first, other), (0, 1));
        // The same text elsewhere is the same name.
        assert_eq!(spool.name(Some(c"first")), first);
        assert_eq!(spool.name(None), UNTOLD);
    }
}
