//! The records of a trace file: one or more units of 24 bytes each, little endian, after a header page of 4,096 bytes.
//!
//! A kernel's execution is one unit. What executions have in common is written once, before its first use, and named
//! by a number from then on: a kernel's name, the shape that it is launched with, the site (shape and graph node) that
//! it is launched from, and the lane (device, context and stream) that it runs on. Numbers count up from 0 in the
//! order of writing, so a reader knows each next one.

/// Magic number at the start of a trace file.
pub const MAGIC: [u8; 8] = *b"CTNTRACE";
/// Version of the format; it grows when a reader of the old one would misread the new one.
pub const VERSION: u32 = 1;
/// Bytes of the header page.
pub const HEADER_BYTES: usize = 4096;
/// Bytes of a unit; a record is one or more of them.
pub const UNIT_BYTES: usize = 24;
/// Most bytes of a kernel's name; longer ones are cut.
pub const MAX_NAME_BYTES: usize = 4096;
/// Name, shape or site that was not told or did not fit into its table any more.
pub const UNTOLD: u32 = 0x00ff_ffff;
/// As [`UNTOLD`], in the 16 bits that a launch has for its lane.
pub const UNTOLD_LANE: u16 = u16::MAX;
/// Longest duration that a record can hold, ns (78 h).
pub const MAX_DURATION_NS: u64 = (1 << 48) - 1;

/// A unit's bytes.
pub type Unit = [u8; UNIT_BYTES];
/// The bytes of a record of two units.
pub type Pair = [u8; 2 * UNIT_BYTES];

/// The kind of a record: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Kernel`], one unit.
    Kernel = 1,
    /// [`Transfer`] that copies, two units.
    Copy = 2,
    /// [`Transfer`] that sets memory, two units.
    Set = 3,
    /// [`Shape`], two units.
    Shape = 4,
    /// A name: [`name_units`] units.
    Name = 5,
    /// [`Lane`], one unit.
    Lane = 6,
    /// [`Mark`], one unit.
    Mark = 7,
    /// [`Site`], one unit.
    Site = 8,
}

/// One execution of a kernel on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// Number of its [`Site`], or [`UNTOLD`].
    pub site: u32,
    /// Number of its [`Lane`], or [`UNTOLD_LANE`].
    pub lane: u16,
    /// Start, ns of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Duration, ns.
    pub duration_ns: u64,
    /// CUPTI's number of the call that launched it; all kernels of one graph launch share it.
    pub correlation: u32,
}

/// Where kernels are launched from: a shape and, in a graph, a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Site {
    /// Number of its [`Shape`], or [`UNTOLD`].
    pub shape: u32,
    /// CUPTI's number of the graph node, 0 outside graphs. The upper 32 bits are the graph's number.
    pub node: u64,
}

/// One copy or setting of memory by the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer {
    /// A setting (`memset`), not a copy.
    pub set: bool,
    /// Direction of a copy, in CUPTI's numbers: 1 host to device, 2 device to host, 8 device to device, 10 peer to
    /// peer; 0 for a setting.
    pub direction: u8,
    /// CUPTI's number of the graph node, 0 outside graphs.
    pub node: u64,
    /// Number of its [`Lane`], or [`UNTOLD_LANE`].
    pub lane: u16,
    /// Start, ns of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Duration, ns.
    pub duration_ns: u64,
    /// CUPTI's number of the call.
    pub correlation: u32,
    /// Bytes moved or set.
    pub bytes: u64,
}

/// What a kernel is launched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Number of the kernel's name, or [`UNTOLD`].
    pub name: u32,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y, z.
    pub block: [u32; 3],
    /// Registers of a thread.
    pub registers: u16,
    /// Static shared memory of a block, bytes.
    pub static_shared: u32,
    /// Dynamic shared memory of a block, bytes.
    pub dynamic_shared: u32,
}

/// Where launches run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane {
    /// CUDA device index as the process sees it.
    pub device: u32,
    /// CUPTI's number of the context.
    pub context: u32,
    /// CUPTI's number of the stream.
    pub stream: u32,
}

/// What happened to the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// Recording is on from this time.
    On = 1,
    /// Recording goes off at this time; everything that ended before is in the file.
    Off = 2,
    /// Everything that ended before this time is in the file.
    Flush = 3,
    /// Records were lost before this time; the value says how many.
    Lost = 4,
}

/// A point in the life of the recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// What happened.
    pub event: Event,
    /// When, ns of `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// How many, where that applies.
    pub value: u64,
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

fn head(kind: Kind, rest: u32) -> [u8; 4] {
    (kind as u32 | rest.min(UNTOLD) << 8).to_le_bytes()
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(get(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}

/// The 24 bits beside the kind.
fn number(bytes: &[u8]) -> u32 {
    u32_at(bytes, 0) >> 8
}

fn lane_and_duration(lane: u16, duration_ns: u64) -> [u8; 8] {
    (duration_ns.min(MAX_DURATION_NS) | u64::from(lane) << 48).to_le_bytes()
}

/// The kind of a record from its first unit, or the byte that is none.
pub fn kind(unit: &Unit) -> Result<Kind, u8> {
    Ok(match unit[0] {
        1 => Kind::Kernel,
        2 => Kind::Copy,
        3 => Kind::Set,
        4 => Kind::Shape,
        5 => Kind::Name,
        6 => Kind::Lane,
        7 => Kind::Mark,
        8 => Kind::Site,
        other => return Err(other),
    })
}

impl Kernel {
    /// The record.
    pub fn encode(&self) -> Unit {
        let mut unit = [0; UNIT_BYTES];
        put(&mut unit, 0, head(Kind::Kernel, self.site));
        put(&mut unit, 4, self.correlation.to_le_bytes());
        put(&mut unit, 8, self.start_ns.to_le_bytes());
        put(&mut unit, 16, lane_and_duration(self.lane, self.duration_ns));
        unit
    }

    /// Reads a record of this kind.
    pub fn decode(unit: &Unit) -> Self {
        let word = u64_at(unit, 16);
        Self {
            site: number(unit),
            lane: (word >> 48) as u16,
            start_ns: u64_at(unit, 8),
            duration_ns: word & MAX_DURATION_NS,
            correlation: u32_at(unit, 4),
        }
    }

    /// End, ns of `CLOCK_MONOTONIC`.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.duration_ns)
    }
}

impl Site {
    /// The record that gives this site its number.
    pub fn encode(&self, number: u32) -> Unit {
        let mut unit = [0; UNIT_BYTES];
        put(&mut unit, 0, head(Kind::Site, number));
        put(&mut unit, 4, self.shape.to_le_bytes());
        put(&mut unit, 8, self.node.to_le_bytes());
        unit
    }

    /// Reads a record of this kind: number and site.
    pub fn decode(unit: &Unit) -> (u32, Self) {
        (number(unit), Self { shape: u32_at(unit, 4), node: u64_at(unit, 8) })
    }
}

impl Transfer {
    /// The record.
    pub fn encode(&self) -> Pair {
        let mut pair = [0; 2 * UNIT_BYTES];
        let kind = if self.set { Kind::Set } else { Kind::Copy };
        put(&mut pair, 0, head(kind, self.direction.into()));
        put(&mut pair, 4, self.correlation.to_le_bytes());
        put(&mut pair, 8, self.start_ns.to_le_bytes());
        put(&mut pair, 16, lane_and_duration(self.lane, self.duration_ns));
        put(&mut pair, 24, self.bytes.to_le_bytes());
        put(&mut pair, 32, self.node.to_le_bytes());
        pair
    }

    /// Reads a record of one of these kinds.
    pub fn decode(pair: &Pair) -> Self {
        let word = u64_at(pair, 16);
        Self {
            set: pair[0] == Kind::Set as u8,
            direction: pair[1],
            node: u64_at(pair, 32),
            lane: (word >> 48) as u16,
            start_ns: u64_at(pair, 8),
            duration_ns: word & MAX_DURATION_NS,
            correlation: u32_at(pair, 4),
            bytes: u64_at(pair, 24),
        }
    }

    /// End, ns of `CLOCK_MONOTONIC`.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.duration_ns)
    }
}

impl Shape {
    /// The record that gives this shape its number.
    pub fn encode(&self, number: u32) -> Pair {
        let mut pair = [0; 2 * UNIT_BYTES];
        put(&mut pair, 0, head(Kind::Shape, number));
        put(&mut pair, 4, self.name.to_le_bytes());
        let sizes = self.grid.into_iter().chain(self.block).chain([self.static_shared, self.dynamic_shared]);
        for (index, size) in sizes.enumerate() {
            put(&mut pair, 8 + 4 * index, size.to_le_bytes());
        }
        put(&mut pair, 40, self.registers.to_le_bytes());
        pair
    }

    /// Reads a record of this kind: number and shape.
    pub fn decode(pair: &Pair) -> (u32, Self) {
        let size = |index: usize| u32_at(pair, 8 + 4 * index);
        let shape = Self {
            name: u32_at(pair, 4),
            grid: [size(0), size(1), size(2)],
            block: [size(3), size(4), size(5)],
            registers: u16_at(pair, 40),
            static_shared: size(6),
            dynamic_shared: size(7),
        };
        (number(pair), shape)
    }
}

impl Lane {
    /// The record that gives this lane its number.
    pub fn encode(&self, number: u32) -> Unit {
        let mut unit = [0; UNIT_BYTES];
        put(&mut unit, 0, head(Kind::Lane, number));
        put(&mut unit, 4, self.device.to_le_bytes());
        put(&mut unit, 8, self.context.to_le_bytes());
        put(&mut unit, 12, self.stream.to_le_bytes());
        unit
    }

    /// Reads a record of this kind: number and lane.
    pub fn decode(unit: &Unit) -> (u32, Self) {
        (number(unit), Self { device: u32_at(unit, 4), context: u32_at(unit, 8), stream: u32_at(unit, 12) })
    }
}

impl Mark {
    /// The record.
    pub fn encode(&self) -> Unit {
        let mut unit = [0; UNIT_BYTES];
        put(&mut unit, 0, head(Kind::Mark, self.event as u32));
        put(&mut unit, 8, self.time_ns.to_le_bytes());
        put(&mut unit, 16, self.value.to_le_bytes());
        unit
    }

    /// Reads a record of this kind; an unknown event is returned as its byte.
    pub fn decode(unit: &Unit) -> Result<Self, u8> {
        let event = match unit[1] {
            1 => Event::On,
            2 => Event::Off,
            3 => Event::Flush,
            4 => Event::Lost,
            other => return Err(other),
        };
        Ok(Self { event, time_ns: u64_at(unit, 8), value: u64_at(unit, 16) })
    }
}

/// Bytes of a name's record before its text.
const NAME_HEAD_BYTES: usize = 8;

/// Units that a name of so many bytes takes.
pub fn name_units(bytes: usize) -> usize {
    (NAME_HEAD_BYTES + bytes).div_ceil(UNIT_BYTES)
}

/// Appends the record that gives a name its number. The text is cut at [`MAX_NAME_BYTES`].
pub fn encode_name(number: u32, text: &[u8], out: &mut Vec<u8>) {
    let text = &text[..text.len().min(MAX_NAME_BYTES)];
    let begin = out.len();
    out.extend_from_slice(&head(Kind::Name, number));
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
    out.resize(begin + name_units(text.len()) * UNIT_BYTES, 0);
}

/// Reads the first unit of a name: number and length in bytes.
pub fn decode_name_head(unit: &Unit) -> (u32, usize) {
    (number(unit), u32_at(unit, 4) as usize)
}

/// The text of a name from its record, whose units the caller has counted with [`name_units`].
pub fn decode_name_text(record: &[u8], bytes: usize) -> String {
    String::from_utf8_lossy(record.get(NAME_HEAD_BYTES..NAME_HEAD_BYTES + bytes).unwrap_or_default())
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout_is_the_documented_one() {
        let kernel = Kernel {
            site: 0x0003_0201,
            lane: 0x0504,
            start_ns: 0x1716_1514_1312_1110,
            duration_ns: 0x0000_2524_2322_2120,
            correlation: 0x3332_3130,
        };
        let mut expected = vec![1, 0x01, 0x02, 0x03, 0x30, 0x31, 0x32, 0x33];
        expected.extend(0x10..=0x17);
        expected.extend(0x20..=0x25);
        expected.extend([0x04, 0x05]);
        assert_eq!(kernel.encode()[..], expected);
    }

    #[test]
    fn ten_million_kernels_stay_below_300_megabytes() {
        let kernel = Kernel { site: 0, lane: 0, start_ns: 0, duration_ns: 0, correlation: 0 };
        assert!(kernel.encode().len() * 10_000_000 < 300_000_000);
    }

    #[test]
    fn too_long_a_duration_does_not_run_into_the_lane() {
        let kernel = Kernel { site: 0, lane: 3, start_ns: 1, duration_ns: u64::MAX, correlation: 0 };
        let back = Kernel::decode(&kernel.encode());
        assert_eq!((back.lane, back.duration_ns), (3, MAX_DURATION_NS));
    }

    #[test]
    fn names_take_whole_units_and_are_cut_at_the_limit() {
        for length in [0, 1, 15, 16, 17, 40, 41, MAX_NAME_BYTES, MAX_NAME_BYTES + 1] {
            let text = vec![b'k'; length];
            let mut out = Vec::new();
            encode_name(7, &text, &mut out);
            let kept = length.min(MAX_NAME_BYTES);
            assert_eq!(out.len(), name_units(kept) * UNIT_BYTES);
            assert!(out.len() < 8 + kept + UNIT_BYTES);
            let first = out.first_chunk().unwrap();
            assert_eq!(kind(first), Ok(Kind::Name));
            assert_eq!(decode_name_head(first), (7, kept));
            assert_eq!(decode_name_text(&out, kept).as_bytes(), &text[..kept]);
        }
    }

    proptest! {
        #[test]
        fn kernels_round_trip(site in 0..=UNTOLD, lane: u16, start_ns: u64, duration_ns in 0..=MAX_DURATION_NS,
                              correlation: u32) {
            let kernel = Kernel { site, lane, start_ns, duration_ns, correlation };
            prop_assert_eq!(kind(&kernel.encode()), Ok(Kind::Kernel));
            prop_assert_eq!(Kernel::decode(&kernel.encode()), kernel);
        }

        #[test]
        fn transfers_round_trip(set: bool, direction: u8, node: u64, lane: u16, start_ns: u64,
                                duration_ns in 0..=MAX_DURATION_NS, correlation: u32, bytes: u64) {
            let transfer = Transfer { set, direction, node, lane, start_ns, duration_ns, correlation, bytes };
            prop_assert_eq!(Transfer::decode(&transfer.encode()), transfer);
        }

        #[test]
        fn definitions_round_trip(number in 0..=UNTOLD, name: u32, grid: [u32; 3], block: [u32; 3], registers: u16,
                                  shared: [u32; 2], node: u64, lane: [u32; 3]) {
            let shape = Shape { name, grid, block, registers, static_shared: shared[0], dynamic_shared: shared[1] };
            prop_assert_eq!(Shape::decode(&shape.encode(number)), (number, shape));
            let site = Site { shape: name, node };
            prop_assert_eq!(Site::decode(&site.encode(number)), (number, site));
            let lane = Lane { device: lane[0], context: lane[1], stream: lane[2] };
            prop_assert_eq!(Lane::decode(&lane.encode(number)), (number, lane));
        }
    }
}
