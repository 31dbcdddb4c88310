use super::*;
use cotenant_gpu::nvml::{ProcessMemory, Reading};
use proptest::prelude::*;

fn row(at_ms: u64, reading: Reading) -> Row {
    Row { at: at_ms * MS, reading, ..Row::default() }
}

fn clocked(at_ms: u64, mhz: u32) -> Row {
    row(at_ms, Reading { sm_clock_mhz: Some(mhz), ..Reading::default() })
}

fn log(rows: impl IntoIterator<Item = Row>) -> Log {
    let mut log = Log::default();
    rows.into_iter().for_each(|r| log.push(r));
    log
}

/// A row with a window of GPM, written 65 ms after the window's end.
fn window(from_ms: u64, to_ms: u64, dram: f64) -> Row {
    let value = Gpm { dram: Some(dram), sm_active: Some(100.0 - dram), ..Gpm::default() };
    let gpm = Some(Span { from: from_ms * MS, to: to_ms * MS, value });
    Row { at: (to_ms + 65) * MS, gpm, ..Row::default() }
}

fn ms(log: &Log, from: u64, to: u64) -> Option<GpuState> {
    log.state(from * MS, to * MS)
}

#[test]
fn readings_count_for_as_long_as_they_held() {
    let l = log([clocked(0, 1000), clocked(100, 1900), clocked(400, 1500)]);
    // 50 ms at 1000 (from the reading before), 300 ms at 1900, 50 ms at 1500.
    let s = ms(&l, 50, 450).expect("a state");
    assert_eq!(s.sm_clock_mhz, Some((50.0 * 1000.0 + 300.0 * 1900.0 + 50.0 * 1500.0) / 400.0));
    assert_eq!(s.temperature_c, None, "never told");
}

#[test]
fn the_nearest_reading_serves_a_stretch_without_any() {
    let l = log([clocked(1000, 1000), clocked(9000, 1900)]);
    let clock = |from, to| ms(&l, from, to).and_then(|s| s.sm_clock_mhz);
    assert_eq!(clock(1001, 1002), Some(1000.0), "the one in force");
    assert_eq!(clock(900, 950), Some(1000.0), "the first one, a little later");
    assert_eq!(clock(8000, 8001), Some(1900.0), "the next is nearer than the last");
    assert_eq!(clock(5000, 5001), None, "both are too far");
    assert_eq!(clock(20_000, 20_001), None, "the thread has ended");
    assert_eq!(clock(1500, 1500), Some(1000.0), "a moment");
    assert_eq!(ms(&Log::default(), 0, 1), None);
}

#[test]
fn throttle_reasons_are_united_and_memory_is_the_most() {
    let reading = |throttle: &[&'static str], used| Reading {
        throttle: throttle.to_vec(),
        memory_used: Some(used),
        ..Reading::default()
    };
    let l = log([row(0, reading(&["b"], 7)), row(10, reading(&["a", "b"], 9)), row(20, reading(&[], 3))]);
    let s = ms(&l, 0, 30).expect("a state");
    assert_eq!((s.throttle, s.memory_used_bytes), (vec!["a".to_owned(), "b".to_owned()], Some(9)));
    let late = ms(&l, 21, 30).expect("a state");
    assert_eq!((late.throttle, late.memory_used_bytes), (vec![], Some(3)));
}

#[test]
fn processes_come_from_the_lists_inside_or_from_the_last_one_before() {
    let list = |at, processes: &[(u32, u64)]| Row {
        processes: Some(processes.iter().map(|&(pid, b)| ProcessMemory { pid, bytes: Some(b) }).collect()),
        ..clocked(at, 1)
    };
    let l =
        log([list(0, &[(1, 10)]), list(500, &[(1, 30), (2, 5)]), list(1000, &[(2, 6)]), clocked(1500, 1)]);
    let of = |from, to| ms(&l, from, to).map(|s| s.process_memory_bytes.into_iter().collect::<Vec<_>>());
    assert_eq!(of(400, 1100), Some(vec![(1, 30), (2, 6)]));
    assert_eq!(of(600, 700), Some(vec![(1, 30), (2, 5)]));
    assert_eq!(of(1200, 1600), Some(vec![(2, 6)]));
}

#[test]
fn windows_inside_count_alone_where_they_are_half_of_it() {
    let l =
        log([window(0, 100, 10.0), window(100, 200, 50.0), window(200, 300, 70.0), window(300, 400, 90.0)]);
    let s = ms(&l, 60, 340).expect("a state");
    assert_eq!((s.dram_pct, s.sm_active_pct, s.gpm_share), (Some(60.0), Some(40.0), Some(1.0)));
}

#[test]
fn windows_at_the_ends_count_by_what_of_them_is_inside() {
    let l = log([window(0, 100, 10.0), window(100, 200, 50.0)]);
    let s = ms(&l, 75, 150).expect("a state");
    let dram = s.dram_pct.expect("DRAM");
    assert!((dram - (25.0 * 10.0 + 50.0 * 50.0) / 75.0).abs() < 1e-9, "{dram}");
    assert_eq!(s.gpm_share, Some(75.0 / 200.0));
    let short = ms(&l, 110, 115).expect("a state");
    assert_eq!((short.dram_pct, short.gpm_share), (Some(50.0), Some(0.05)), "5 ms of a window of 100");
}

#[test]
fn no_window_no_values() {
    let l = log([window(0, 100, 10.0)]);
    let s = ms(&l, 150, 200).expect("the row is near");
    assert_eq!((s.dram_pct, s.gpm_share), (None, None));
}

#[test]
fn the_engines_count_where_most_of_their_stretch_is_asked_for() {
    let mut r = clocked(1200, 1);
    r.graphics = Some(Span { from: 0, to: 1000 * MS, value: 80.0 });
    let l = log([clocked(0, 1), r]);
    assert_eq!(ms(&l, 100, 1100).and_then(|s| s.graphics_pct), Some(80.0));
    assert_eq!(ms(&l, 600, 1100).and_then(|s| s.graphics_pct), None);
}

#[test]
fn rows_are_drained_once_and_forgotten_after_an_hour() {
    let mut l = log([clocked(1000, 1), clocked(1100, 2)]);
    assert_eq!(l.drain(1000 * MS).iter().map(|l| &l[..7]).collect::<Vec<_>>(), ["0.0000,", "0.1000,"]);
    assert!(l.drain(1000 * MS).is_empty());
    l.push(clocked(3_700_000, 3));
    assert_eq!(l.drain(0).len(), 1);
    assert_eq!(l.rows.len(), 1, "the first two are over an hour old");
    l.push(clocked(3_700_001, 4));
    assert_eq!(l.drain(0).len(), 1);
}

proptest! {
    #[test]
    fn means_lie_between_the_values(
        gaps in prop::collection::vec((1u64..300, 200u32..2000, 0.0f64..100.0), 1..60),
        from in 0u64..6000, length in 0u64..4000,
    ) {
        let mut at = 0;
        let l = log(gaps.iter().flat_map(|&(gap, mhz, dram)| {
            at += gap;
            let mut w = window(at.saturating_sub(gap), at, dram);
            w.at = at * MS;
            w.reading.sm_clock_mhz = Some(mhz);
            [w]
        }));
        if let Some(s) = ms(&l, from, from + length) {
            let clock = s.sm_clock_mhz.expect("told in every row");
            prop_assert!((200.0..2000.0).contains(&clock));
            prop_assert!(s.dram_pct.is_none_or(|d| (0.0..=100.0).contains(&d)));
            prop_assert!(s.gpm_share.is_none_or(|g| g > 0.0 && g <= 1.0));
            prop_assert_eq!(s.dram_pct.is_some(), s.gpm_share.is_some());
        }
    }
}
