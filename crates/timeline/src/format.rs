//! The records of a trace file: 32 bytes each, little endian, after a header page of 4,096 bytes.
//!
//! A launch is one record. What launches have in common is written once, before its first use, and named by a
//! number from then on: a kernel's name, the shape that it is launched with, and the lane (device, context and
//! stream) that it runs on. Numbers count up from 0 in the order of writing, so a reader knows each next one.

/// Magic number at the start of a trace file.
pub const MAGIC: [u8; 8] = *b"CTNTRACE";
/// Version of the format; it grows when a reader of the old one would misread the new one.
pub const VERSION: u32 = 1;
/// Bytes of the header page.
pub const HEADER_BYTES: usize = 4096;
/// Bytes of a record.
pub const RECORD_BYTES: usize = 32;
/// Most bytes of a kernel's name; longer ones are cut.
pub const MAX_NAME_BYTES: usize = 4096;
/// Name, shape or lane that was not told or did not fit into the table any more.
pub const UNTOLD: u32 = 0x00ff_ffff;
/// As [`UNTOLD`], in the 16 bits that a launch has for its lane.
pub const UNTOLD_LANE: u16 = u16::MAX;
/// Longest duration that a record can hold, ns (78 h).
pub const MAX_DURATION_NS: u64 = (1 << 48) - 1;

/// A record's bytes.
pub type Bytes = [u8; RECORD_BYTES];

/// The kind of a record: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Kernel`].
    Kernel = 1,
    /// [`Transfer`] that copies.
    Copy = 2,
    /// [`Transfer`] that sets memory.
    Set = 3,
    /// [`Shape`].
    Shape = 4,
    /// A name; its text goes on in the records that follow.
    Name = 5,
    /// [`Lane`].
    Lane = 6,
    /// [`Mark`].
    Mark = 7,
}

/// One execution of a kernel on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel {
    /// Number of its [`Shape`], or [`UNTOLD`].
    pub shape: u32,
    /// Number of its [`Lane`], or [`UNTOLD_LANE`].
    pub lane: u16,
    /// Start, ns of `CLOCK_MONOTONIC`.
    pub start_ns: u64,
    /// Duration, ns.
    pub duration_ns: u64,
    /// CUPTI's number of the call that launched it; all kernels of one graph launch share it.
    pub correlation: u32,
    /// CUPTI's number of the graph node, 0 outside graphs.
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
    /// Part of a graph.
    pub graph: bool,
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

fn put<const N: usize>(bytes: &mut Bytes, at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn get<const N: usize>(bytes: &Bytes, at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

fn head(kind: Kind, rest: u32) -> [u8; 4] {
    (kind as u32 | rest.min(UNTOLD) << 8).to_le_bytes()
}

fn u16_at(bytes: &Bytes, at: usize) -> u16 {
    u16::from_le_bytes(get(bytes, at))
}

fn u32_at(bytes: &Bytes, at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

fn u64_at(bytes: &Bytes, at: usize) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}

/// The 24 bits beside the kind.
pub(crate) fn number(bytes: &Bytes) -> u32 {
    u32_at(bytes, 0) >> 8
}

fn lane_and_duration(lane: u16, duration_ns: u64) -> [u8; 8] {
    (duration_ns.min(MAX_DURATION_NS) | u64::from(lane) << 48).to_le_bytes()
}

/// The kind of a record, or the byte that is none.
pub fn kind(bytes: &Bytes) -> Result<Kind, u8> {
    Ok(match bytes[0] {
        1 => Kind::Kernel,
        2 => Kind::Copy,
        3 => Kind::Set,
        4 => Kind::Shape,
        5 => Kind::Name,
        6 => Kind::Lane,
        7 => Kind::Mark,
        other => return Err(other),
    })
}

impl Kernel {
    /// The record.
    pub fn encode(&self) -> Bytes {
        let mut bytes = [0; RECORD_BYTES];
        put(&mut bytes, 0, head(Kind::Kernel, self.shape));
        put(&mut bytes, 4, self.correlation.to_le_bytes());
        put(&mut bytes, 8, self.start_ns.to_le_bytes());
        put(&mut bytes, 16, lane_and_duration(self.lane, self.duration_ns));
        put(&mut bytes, 24, self.node.to_le_bytes());
        bytes
    }

    /// Reads a record of this kind.
    pub fn decode(bytes: &Bytes) -> Self {
        let word = u64_at(bytes, 16);
        Self {
            shape: number(bytes),
            lane: (word >> 48) as u16,
            start_ns: u64_at(bytes, 8),
            duration_ns: word & MAX_DURATION_NS,
            correlation: u32_at(bytes, 4),
            node: u64_at(bytes, 24),
        }
    }

    /// End, ns of `CLOCK_MONOTONIC`.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.duration_ns)
    }
}

impl Transfer {
    /// The record.
    pub fn encode(&self) -> Bytes {
        let mut bytes = [0; RECORD_BYTES];
        let kind = if self.set { Kind::Set } else { Kind::Copy };
        put(&mut bytes, 0, head(kind, u32::from(self.direction) | u32::from(self.graph) << 8));
        put(&mut bytes, 4, self.correlation.to_le_bytes());
        put(&mut bytes, 8, self.start_ns.to_le_bytes());
        put(&mut bytes, 16, lane_and_duration(self.lane, self.duration_ns));
        put(&mut bytes, 24, self.bytes.to_le_bytes());
        bytes
    }

    /// Reads a record of one of these kinds.
    pub fn decode(bytes: &Bytes) -> Self {
        let word = u64_at(bytes, 16);
        Self {
            set: bytes[0] == Kind::Set as u8,
            direction: bytes[1],
            graph: bytes[2] & 1 != 0,
            lane: (word >> 48) as u16,
            start_ns: u64_at(bytes, 8),
            duration_ns: word & MAX_DURATION_NS,
            correlation: u32_at(bytes, 4),
            bytes: u64_at(bytes, 24),
        }
    }

    /// End, ns of `CLOCK_MONOTONIC`.
    pub fn end_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.duration_ns)
    }
}

/// CUDA bounds these below 65,536: `gridDim.y` and `.z`, and all of `blockDim`.
fn narrow(value: u32) -> [u8; 2] {
    u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes()
}

impl Shape {
    /// The record that gives this shape its number.
    pub fn encode(&self, number: u32) -> Bytes {
        let mut bytes = [0; RECORD_BYTES];
        put(&mut bytes, 0, head(Kind::Shape, number));
        put(&mut bytes, 4, self.name.to_le_bytes());
        put(&mut bytes, 8, self.grid[0].to_le_bytes());
        put(&mut bytes, 12, narrow(self.grid[1]));
        put(&mut bytes, 14, narrow(self.grid[2]));
        put(&mut bytes, 16, narrow(self.block[0]));
        put(&mut bytes, 18, narrow(self.block[1]));
        put(&mut bytes, 20, narrow(self.block[2]));
        put(&mut bytes, 22, self.registers.to_le_bytes());
        put(&mut bytes, 24, self.static_shared.to_le_bytes());
        put(&mut bytes, 28, self.dynamic_shared.to_le_bytes());
        bytes
    }

    /// Reads a record of this kind: number and shape.
    pub fn decode(bytes: &Bytes) -> (u32, Self) {
        let wide = |at| u32::from(u16_at(bytes, at));
        let shape = Self {
            name: u32_at(bytes, 4),
            grid: [u32_at(bytes, 8), wide(12), wide(14)],
            block: [wide(16), wide(18), wide(20)],
            registers: u16_at(bytes, 22),
            static_shared: u32_at(bytes, 24),
            dynamic_shared: u32_at(bytes, 28),
        };
        (number(bytes), shape)
    }
}

impl Lane {
    /// The record that gives this lane its number.
    pub fn encode(&self, number: u32) -> Bytes {
        let mut bytes = [0; RECORD_BYTES];
        put(&mut bytes, 0, head(Kind::Lane, number));
        put(&mut bytes, 4, self.device.to_le_bytes());
        put(&mut bytes, 8, self.context.to_le_bytes());
        put(&mut bytes, 12, self.stream.to_le_bytes());
        bytes
    }

    /// Reads a record of this kind: number and lane.
    pub fn decode(bytes: &Bytes) -> (u32, Self) {
        (number(bytes), Self { device: u32_at(bytes, 4), context: u32_at(bytes, 8), stream: u32_at(bytes, 12) })
    }
}

impl Mark {
    /// The record.
    pub fn encode(&self) -> Bytes {
        let mut bytes = [0; RECORD_BYTES];
        put(&mut bytes, 0, head(Kind::Mark, self.event as u32));
        put(&mut bytes, 8, self.time_ns.to_le_bytes());
        put(&mut bytes, 16, self.value.to_le_bytes());
        bytes
    }

    /// Reads a record of this kind; an unknown event is returned as its byte.
    pub fn decode(bytes: &Bytes) -> Result<Self, u8> {
        let event = match bytes[1] {
            1 => Event::On,
            2 => Event::Off,
            3 => Event::Flush,
            4 => Event::Lost,
            other => return Err(other),
        };
        Ok(Self { event, time_ns: u64_at(bytes, 8), value: u64_at(bytes, 16) })
    }
}

/// Bytes of a name's text in its first record.
const NAME_HEAD_BYTES: usize = RECORD_BYTES - 8;

/// Records that a name of so many bytes takes.
pub fn name_records(bytes: usize) -> usize {
    1 + bytes.saturating_sub(NAME_HEAD_BYTES).div_ceil(RECORD_BYTES)
}

/// Appends the records that give a name its number. The text is cut at [`MAX_NAME_BYTES`].
pub fn encode_name(number: u32, text: &[u8], out: &mut Vec<u8>) {
    let text = &text[..text.len().min(MAX_NAME_BYTES)];
    let begin = out.len();
    out.extend_from_slice(&head(Kind::Name, number));
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
    out.resize(begin + name_records(text.len()) * RECORD_BYTES, 0);
}

/// Reads a name's first record: number and length in bytes.
pub fn decode_name_head(bytes: &Bytes) -> (u32, usize) {
    (number(bytes), u32_at(bytes, 4) as usize)
}

/// The text of a name from all its records, which the caller has counted with [`name_records`].
pub fn decode_name_text(records: &[u8], bytes: usize) -> String {
    String::from_utf8_lossy(records.get(8..8 + bytes).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout_is_the_documented_one() {
        let kernel = Kernel {
            shape: 0x0002_0301,
            lane: 0x0504,
            start_ns: 0x1716_1514_1312_1110,
            duration_ns: 0x0000_2524_2322_2120,
            correlation: 0x3332_3130,
            node: 0x4746_4544_4342_4140,
        };
        let bytes = kernel.encode();
        assert_eq!(bytes[..4], [1, 0x01, 0x03, 0x02]);
        assert_eq!(bytes[4..8], [0x30, 0x31, 0x32, 0x33]);
        assert_eq!(bytes[8..16], [0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17]);
        assert_eq!(bytes[16..24], [0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x04, 0x05]);
        assert_eq!(bytes[24..], [0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47]);
    }

    #[test]
    fn too_long_a_duration_does_not_run_into_the_lane() {
        let kernel = Kernel { shape: 0, lane: 3, start_ns: 1, duration_ns: u64::MAX, correlation: 0, node: 0 };
        let back = Kernel::decode(&kernel.encode());
        assert_eq!((back.lane, back.duration_ns), (3, MAX_DURATION_NS));
    }

    #[test]
    fn names_take_whole_records_and_are_cut_at_the_limit() {
        for length in [0, 1, 23, 24, 25, 56, 57, MAX_NAME_BYTES, MAX_NAME_BYTES + 1] {
            let text = vec![b'k'; length];
            let mut out = Vec::new();
            encode_name(7, &text, &mut out);
            let kept = length.min(MAX_NAME_BYTES);
            assert_eq!(out.len(), name_records(kept) * RECORD_BYTES);
            let first: Bytes = out[..RECORD_BYTES].try_into().unwrap();
            assert_eq!(kind(&first), Ok(Kind::Name));
            assert_eq!(decode_name_head(&first), (7, kept));
            assert_eq!(decode_name_text(&out, kept).len(), kept);
        }
    }

    proptest! {
        #[test]
        fn kernels_round_trip(shape in 0..=UNTOLD, lane: u16, start_ns: u64, duration_ns in 0..=MAX_DURATION_NS,
                              correlation: u32, node: u64) {
            let kernel = Kernel { shape, lane, start_ns, duration_ns, correlation, node };
            prop_assert_eq!(kind(&kernel.encode()), Ok(Kind::Kernel));
            prop_assert_eq!(Kernel::decode(&kernel.encode()), kernel);
        }

        #[test]
        fn transfers_round_trip(set: bool, direction: u8, graph: bool, lane: u16, start_ns: u64,
                                duration_ns in 0..=MAX_DURATION_NS, correlation: u32, bytes: u64) {
            let transfer = Transfer { set, direction, graph, lane, start_ns, duration_ns, correlation, bytes };
            prop_assert_eq!(Transfer::decode(&transfer.encode()), transfer);
        }

        #[test]
        fn shapes_and_lanes_round_trip(number in 0..=UNTOLD, name: u32, x: u32, y: u16, z: u16, block: [u16; 3],
                                       registers: u16, static_shared: u32, dynamic_shared: u32, lane: [u32; 3]) {
            let shape = Shape {
                name, grid: [x, y.into(), z.into()], block: block.map(u32::from), registers, static_shared, dynamic_shared,
            };
            prop_assert_eq!(Shape::decode(&shape.encode(number)), (number, shape));
            let lane = Lane { device: lane[0], context: lane[1], stream: lane[2] };
            prop_assert_eq!(Lane::decode(&lane.encode(number)), (number, lane));
        }
    }
}
