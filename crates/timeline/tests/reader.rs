//! Trace files as they should be, torn, and corrupt.

use cotenant_timeline::format::{
    self, Event, HEADER_BYTES, Kernel, Lane, Mark, Shape, Site, Transfer, UNIT_BYTES,
};
use cotenant_timeline::{Fault, Interval, ReadError, Trace};
use proptest::prelude::*;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

/// A trace file's bytes: a header of version 1 and records, all committed.
fn file_of(records: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..8].copy_from_slice(b"CTNTRACE");
    bytes[8..12].copy_from_slice(&1u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&4096u32.to_le_bytes());
    bytes[16..20].copy_from_slice(&24u32.to_le_bytes());
    bytes[20..24].copy_from_slice(&4711u32.to_le_bytes());
    bytes[76..80].copy_from_slice(&2u32.to_le_bytes());
    bytes[128..136].copy_from_slice(&((HEADER_BYTES + records.len()) as u64).to_le_bytes());
    bytes.extend_from_slice(records);
    bytes
}

struct Scratch {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn scratch(bytes: &[u8]) -> Scratch {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("1.trace");
    fs::write(&path, bytes).unwrap();
    Scratch { _folder: folder, path }
}

fn read(bytes: &[u8]) -> Result<Trace, ReadError> {
    Trace::read(&scratch(bytes).path)
}

fn shape(name: u32, x: u32) -> Shape {
    Shape { name, grid: [x, 1, 1], block: [128, 1, 1], registers: 32, static_shared: 0, dynamic_shared: 0 }
}

fn site(shape: u32) -> Site {
    Site { shape, node: 0 }
}

fn kernel(site: u32, start_ns: u64) -> Kernel {
    Kernel { site, lane: 0, start_ns, duration_ns: 5, correlation: 1 }
}

/// Definitions of one lane, two names (one of several records) and two shapes, then a few executions.
fn sample() -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(Lane { device: 0, context: 1, stream: 7 }.encode(0));
    format::encode_name(0, b"short", &mut out);
    format::encode_name(
        1,
        "a rather long name, as templates have them, that takes several records".as_bytes(),
        &mut out,
    );
    out.extend(shape(0, 10).encode(0));
    out.extend(shape(1, 20).encode(1));
    out.extend(site(0).encode(0));
    out.extend(Site { shape: 1, node: 77 }.encode(1));
    out.extend(Mark { event: Event::On, time_ns: 90, value: 0 }.encode());
    out.extend(kernel(0, 100).encode());
    out.extend(kernel(1, 110).encode());
    let copy = Transfer {
        set: false,
        direction: 1,
        node: 0,
        lane: 0,
        start_ns: 120,
        duration_ns: 3,
        correlation: 2,
        bytes: 4096,
    };
    out.extend(copy.encode());
    out.extend(Mark { event: Event::Off, time_ns: 150, value: 0 }.encode());
    out
}

#[test]
fn reads_what_was_written() {
    let trace = read(&file_of(&sample())).unwrap();
    assert_eq!(trace.pid, 4711);
    assert_eq!(trace.names[0], "short");
    assert!(trace.names[1].starts_with("a rather long") && trace.names[1].ends_with("several records"));
    assert_eq!(trace.shapes, [shape(0, 10), shape(1, 20)]);
    assert_eq!(trace.kernels, [kernel(0, 100), kernel(1, 110)]);
    assert_eq!(trace.name(&trace.kernels[0]), "short");
    assert_eq!((trace.shape(&trace.kernels[1]).unwrap().grid[0], trace.node(&trace.kernels[1])), (20, 77));
    assert_eq!(trace.transfers.len(), 1);
    assert_eq!(trace.torn_bytes, 0);
    assert_eq!(trace.recorded(), [Interval { start_ns: 90, end_ns: 150 }]);
    let time = trace.device_time(&[Interval { start_ns: 95, end_ns: 140 }]).unwrap().iterations[0];
    assert_eq!((time.kernels.count, time.kernels.sum_ns, time.copies.sum_ns, time.union_ns), (2, 10, 3, 13));
}

#[test]
fn grows_while_it_is_read() {
    let records = sample();
    let cut = records.len() - 5 * UNIT_BYTES;
    let file = scratch(&file_of(&records[..cut]));
    let mut trace = Trace::read(&file.path).unwrap();
    assert_eq!((trace.kernels.len(), trace.names.len()), (0, 2));
    fs::write(&file.path, file_of(&records)).unwrap();
    trace.update().unwrap();
    assert_eq!((trace.kernels.len(), trace.names.len()), (2, 2));
    trace.clear_executions();
    let mut longer = records;
    longer.extend(kernel(1, 500).encode());
    fs::write(&file.path, file_of(&longer)).unwrap();
    trace.update().unwrap();
    assert_eq!(trace.kernels, [kernel(1, 500)]);
    assert_eq!(trace.name(&trace.kernels[0]), trace.names[1]);
}

#[test]
fn bytes_beyond_the_committed_length_are_not_read() {
    let mut bytes = file_of(&sample());
    bytes.extend([0xff; 100]);
    assert_eq!(read(&bytes).unwrap().kernels.len(), 2);
}

#[test]
fn a_recording_that_was_not_switched_off_counts_to_its_last_flush() {
    let mark = |event, time_ns| Mark { event, time_ns, value: 0 }.encode();
    let records: Vec<u8> = [
        mark(Event::On, 10),
        mark(Event::Flush, 15),
        mark(Event::Off, 20),
        mark(Event::On, 30),
        mark(Event::Flush, 40),
        mark(Event::Lost, 41),
        mark(Event::Flush, 45),
    ]
    .concat();
    let spans = read(&file_of(&records)).unwrap().recorded();
    assert_eq!(spans, [Interval { start_ns: 10, end_ns: 20 }, Interval { start_ns: 30, end_ns: 45 }]);
}

#[test]
fn other_files_are_refused() {
    assert!(matches!(read(b"CTNTRACE"), Err(ReadError::Short(8))));
    assert!(matches!(read(&[0; 5000]), Err(ReadError::Magic)));
    let mut bytes = file_of(&[]);
    bytes[8] = 9;
    assert!(matches!(read(&bytes), Err(ReadError::Version(9))));
    for (at, name) in [(12, "the header's length"), (16, "the unit's length"), (76, "the state")] {
        let mut bytes = file_of(&[]);
        bytes[at] = 77;
        assert!(matches!(read(&bytes), Err(ReadError::Header { field, .. }) if field == name), "{name}");
    }
    let mut bytes = file_of(&[]);
    bytes[128..136].copy_from_slice(&7u64.to_le_bytes());
    assert!(matches!(read(&bytes), Err(ReadError::Header { field: "the committed length", value: 7 })));
}

#[test]
fn corrupt_records_are_named_by_their_place() {
    let fault = |records: &[u8]| match read(&file_of(records)) {
        Err(ReadError::Record { offset, fault }) => (offset, fault),
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(&[0; 24]), (4096, Fault::Kind(0)));
    let lane = Lane { device: 0, context: 0, stream: 0 };
    let after_lane = |record: &[u8]| fault(&[&lane.encode(0)[..], record].concat());
    assert_eq!(after_lane(&lane.encode(2)), (4120, Fault::Order { what: "lane", found: 2, expected: 1 }));
    assert_eq!(after_lane(&kernel(3, 1).encode()), (4120, Fault::Undefined { what: "site", number: 3 }));
    assert_eq!(after_lane(&shape(0, 1).encode(0)), (4120, Fault::Undefined { what: "name", number: 0 }));
    assert_eq!(after_lane(&site(0).encode(0)), (4120, Fault::Undefined { what: "shape", number: 0 }));
    let mut mark = Mark { event: Event::On, time_ns: 0, value: 0 }.encode();
    mark[1] = 99;
    assert_eq!(after_lane(&mark), (4120, Fault::Event(99)));
    let mut name = Vec::new();
    format::encode_name(0, b"x", &mut name);
    name[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(fault(&name), (4096, Fault::Name(u32::MAX as usize)));
    assert_eq!(
        fault(&kernel(format::UNTOLD, 1).encode()),
        (4096, Fault::Undefined { what: "lane", number: 0 })
    );
}

#[test]
fn untold_shapes_and_lanes_are_allowed() {
    let record = Kernel { site: format::UNTOLD, lane: format::UNTOLD_LANE, ..kernel(0, 1) };
    let trace = read(&file_of(&record.encode())).unwrap();
    assert_eq!(trace.name(&trace.kernels[0]), "?");
}

#[test]
fn an_enormous_committed_length_costs_no_memory() {
    let mut bytes = file_of(&sample());
    bytes[128..136].copy_from_slice(&u64::MAX.to_le_bytes());
    let trace = read(&bytes).unwrap();
    assert_eq!(trace.kernels.len(), 2);
    assert_eq!(trace.torn_bytes, u64::MAX - bytes.len() as u64);
}

#[test]
fn more_than_one_chunk_is_read_and_names_across_the_border_too() {
    let mut out = Vec::new();
    out.extend(Lane { device: 0, context: 1, stream: 7 }.encode(0));
    let untold = Kernel { site: format::UNTOLD, ..kernel(0, 1) };
    while out.len() < 959_952 {
        out.extend(untold.encode());
    }
    format::encode_name(0, &[b'n'; 300], &mut out);
    let before = out.len();
    for start in 0..1000 {
        out.extend(Kernel { start_ns: start, ..untold }.encode());
    }
    let trace = read(&file_of(&out)).unwrap();
    assert_eq!(trace.names, ["n".repeat(300)]);
    // The reader takes 960,000 bytes at a time.
    assert!(before > 960_000);
    assert_eq!(trace.kernels.last().unwrap().start_ns, 999);
    assert_eq!(trace.torn_bytes, 0);
}

/// Executions as they may be written, with their definitions before them.
fn stream() -> impl Strategy<Value = (Vec<u8>, Vec<Kernel>)> {
    proptest::collection::vec((0u32..4, 0u64..1 << 50, 0u64..1 << 40, any::<u32>()), 0..60).prop_map(|rows| {
        let mut out = Vec::new();
        out.extend(Lane { device: 0, context: 1, stream: 7 }.encode(0));
        let mut defined = 0;
        let mut kernels = Vec::new();
        for (pick, start_ns, duration_ns, correlation) in rows {
            if pick >= defined {
                format::encode_name(defined, "k".repeat(defined as usize * 20).as_bytes(), &mut out);
                out.extend(shape(defined, defined).encode(defined));
                out.extend(site(defined).encode(defined));
                defined += 1;
            }
            let kernel = Kernel { site: pick.min(defined - 1), lane: 0, start_ns, duration_ns, correlation };
            out.extend(kernel.encode());
            kernels.push(kernel);
        }
        (out, kernels)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_read_or_refused(records in proptest::collection::vec(any::<u8>(), 0..2000)) {
        // Kinds that exist, so that reading gets beyond the first byte.
        let mut records = records;
        records.iter_mut().step_by(UNIT_BYTES).for_each(|kind| *kind %= 9);
        let _ = read(&file_of(&records));
    }

    #[test]
    fn any_header_is_read_or_refused(at in 8usize..HEADER_BYTES, value: u64) {
        let mut bytes = file_of(&sample());
        let end = (at + 8).min(HEADER_BYTES);
        bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
        if let Ok(trace) = read(&bytes) {
            prop_assert!(trace.kernels.len() <= 2);
        }
    }

    #[test]
    fn a_cut_file_gives_what_came_before_the_cut((records, kernels) in stream(), cut in 0.0f64..1.0) {
        let whole = file_of(&records);
        let length = HEADER_BYTES + (records.len() as f64 * cut) as usize;
        let trace = read(&whole[..length]).unwrap();
        prop_assert!(kernels.starts_with(&trace.kernels));
        prop_assert!(trace.torn_bytes as usize >= whole.len() - length);
        // Nothing but the last name or record is lost.
        prop_assert!(trace.torn_bytes as usize - (whole.len() - length) < 5 * UNIT_BYTES);
    }

    #[test]
    fn a_whole_file_gives_everything((records, kernels) in stream()) {
        let trace = read(&file_of(&records)).unwrap();
        prop_assert_eq!(&trace.kernels, &kernels);
        prop_assert_eq!(trace.torn_bytes, 0);
    }

    #[test]
    fn flipped_bytes_never_give_more_than_the_file_holds(
        (records, _) in stream(), flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..8),
    ) {
        let mut records = records;
        for (at, value) in flips {
            let at = at % records.len();
            records[at] ^= value;
        }
        if let Ok(trace) = read(&file_of(&records)) {
            let defined = trace.names.len() + trace.shapes.len() + trace.sites.len() + trace.lanes.len();
            let used = trace.kernels.len() + trace.transfers.len() + trace.marks.len();
            prop_assert!((defined + used) * UNIT_BYTES <= records.len());
        }
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error_or_torn() {
    let file = scratch(&file_of(&sample()));
    let mut trace = Trace::read(&file.path).unwrap();
    fs::OpenOptions::new().write(true).open(&file.path).unwrap().write_all(&file_of(&[])[..]).unwrap();
    assert!(matches!(trace.update(), Err(ReadError::Header { field: "the committed length", .. })));
}
