//! Telemetry from end to end, with a small library in place of NVML (`crates/gpu/tests/fake_nvml.c`).

use cotenant_gpu::nvml::{GpmGap, Monitor};
use cotenant_lab::backend::TELEMETRY_HEADER;
use cotenant_lab::telemetry::Telemetry;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

struct Fake {
    library: PathBuf,
    _dir: tempfile::TempDir,
}

/// `None`, with the reason printed, where there is no C compiler.
fn fake(flags: &[&str]) -> Option<Fake> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let library = dir.path().join("libfake-nvml.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../gpu/tests/fake_nvml.c");
    match Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).args(flags).arg(source).status() {
        Ok(status) => assert!(status.success(), "the fake NVML does not compile"),
        Err(e) => {
            eprintln!("skipped: `cc` cannot be started: {e}");
            return None;
        }
    }
    Some(Fake { library, _dir: dir })
}

impl Fake {
    fn telemetry(&self, gpu: u32) -> Telemetry {
        Telemetry::start(Monitor::load_from(Some(self.library.as_os_str())).expect("the fake loads"), gpu)
    }
}

/// Cells of each line by column; empty ones are left out.
fn cells(lines: &[String]) -> Vec<BTreeMap<String, String>> {
    let names: Vec<&str> = TELEMETRY_HEADER.split(',').collect();
    let line = |line: &String| {
        let values: Vec<&str> = line.split(',').collect();
        assert_eq!(values.len(), names.len(), "{line}");
        let told = names.iter().zip(values).filter(|(_, v)| !v.is_empty());
        told.map(|(n, v)| ((*n).to_owned(), v.to_owned())).collect()
    };
    lines.iter().map(line).collect()
}

#[test]
fn a_phase_gets_its_means_and_the_file_its_rows() {
    let Some(fake) = fake(&["-DMIG_OFF", "-DTHROTTLE=0x4"]) else { return };
    let mut t = fake.telemetry(0);
    assert_eq!(t.gpm(), Ok(()));
    let opened = Instant::now();
    std::thread::sleep(Duration::from_millis(400));
    let (from, to) = (Instant::now(), Instant::now() + Duration::from_millis(1500));
    std::thread::sleep(Duration::from_millis(1900));
    let s = t.between(from, to).expect("a state");
    assert_eq!(t.between_ns(t.monotonic_ns(from), t.monotonic_ns(to)).as_ref(), Some(&s));
    assert_eq!(
        (s.sm_clock_mhz, s.memory_clock_mhz, s.temperature_c),
        (Some(1755.0), Some(2619.0), Some(41.0))
    );
    assert_eq!((s.utilization_pct, s.throttle), (Some(77.0), vec!["software power cap".to_owned()]));
    let close = |value: Option<f64>, expected: f64| value.is_some_and(|v| (v / expected - 1.0).abs() < 1e-6);
    assert!(close(s.power_w, 50.0), "the power of the moment, not the average: {:?}", s.power_w);
    assert!(close(s.energy_j, 75.0), "50 W for 1.5 s; the counter is too young: {:?}", s.energy_j);
    assert_eq!(s.memory_used_bytes, Some(1 << 30));
    assert_eq!(s.process_memory_bytes, BTreeMap::from([(4242, 3 << 20)]));
    for (value, expected) in [
        (s.sm_active_pct, 2.0),
        (s.sm_occupancy_pct, 3.0),
        (s.integer_pct, 4.0),
        (s.tensor_pct, 5.0),
        (s.tensor_hmma_pct, 7.0),
        (s.tensor_imma_pct, 9.0),
        (s.dram_pct, 10.0),
        (s.fp64_pct, 11.0),
        (s.fp32_pct, 12.0),
        (s.fp16_pct, 13.0),
        (s.gpm_share, 1.0),
    ] {
        assert!(close(value, expected), "{value:?} for {expected}");
    }
    assert_eq!(s.tensor_dfma_pct, None, "this GPU lacks it");

    let elapsed = opened.elapsed();
    let rows = cells(&t.drain());
    assert!(t.drain().len() <= 2, "only what has come since");
    let at: Vec<u64> = rows.iter().map(|r| r["monotonic_ns"].parse().expect("a time")).collect();
    assert!(at.is_sorted());
    assert!(rows.len() as f64 >= 5.0 * elapsed.as_secs_f64(), "{} rows in {elapsed:?}", rows.len());
    let with = |column: &str| rows.iter().filter(|r| r.contains_key(column)).collect::<Vec<_>>();
    assert_eq!(with("sm_clock_mhz").len(), rows.len(), "known in every row");
    assert!(with("energy_j").len() >= 2 && with("process_memory_bytes").len() >= 3);
    assert_eq!(with("process_memory_bytes")[0]["process_memory_bytes"], "4242:3145728");
    let graphics = with("graphics_pct");
    assert!(!graphics.is_empty() && graphics.iter().all(|r| r["graphics_pct"] == "1.00"));
    let windows = with("gpm_from_ns");
    assert!(windows.len() as f64 >= 4.0 * elapsed.as_secs_f64() && windows.len() <= 25, "{}", windows.len());
    for pair in windows.windows(2) {
        assert_eq!(pair[0]["gpm_to_ns"], pair[1]["gpm_from_ns"], "no gaps between windows");
    }
    for w in &windows {
        let time = |column: &str| w[column].parse::<u64>().expect("a time");
        let length = time("gpm_to_ns") - time("gpm_from_ns");
        assert!((80_000_000..2_000_000_000).contains(&length), "{length}");
        assert!(time("gpm_to_ns") < time("monotonic_ns"), "a window ends before it is told of");
    }
    let cost = t.cost();
    assert!(cost > 0.0 && cost < 0.05, "{cost}");
}

#[test]
fn without_gpm_its_columns_are_empty_and_the_reason_is_told() {
    for (flags, gpu, gap) in
        [(&[][..], 0, GpmGap::Mig), (&[], 1, GpmGap::NoCounters), (&["-DBARE"], 0, GpmGap::OldDriver)]
    {
        let Some(fake) = fake(flags) else { return };
        let mut t = fake.telemetry(gpu);
        assert_eq!(t.gpm(), Err(gap));
        let from = Instant::now();
        std::thread::sleep(Duration::from_millis(250));
        let state = t.between(from, Instant::now());
        let rows = cells(&t.drain());
        if flags.contains(&"-DBARE") {
            assert_eq!((state, rows.len()), (None, 0), "nothing is told, nothing is written");
            continue;
        }
        let state = state.expect("a state");
        assert_eq!((state.sm_clock_mhz, state.sm_active_pct, state.gpm_share), (Some(1755.0), None, None));
        assert!(rows.len() >= 2);
        for row in rows {
            assert!(
                !row.contains_key("dram_pct")
                    && !row.contains_key("gpm_from_ns")
                    && !row.contains_key("graphics_pct")
            );
        }
    }
}

#[test]
fn a_gpu_that_is_not_there_gives_nothing_and_stops_well() {
    let Some(fake) = fake(&[]) else { return };
    let mut t = fake.telemetry(7);
    assert!(matches!(t.gpm(), Err(GpmGap::Refused(_))));
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!((t.between(Instant::now(), Instant::now()), t.drain()), (None, Vec::new()));
}
