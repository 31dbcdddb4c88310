//! NVML as a machine with MIG would answer, from a small library that is compiled here: no such machine is at hand.

use cotenant_gpu::nvml::{Gpm, GpmGap, Inventory, Monitor, ProcessMemory, Reading};
use std::path::PathBuf;
use std::process::Command;

/// A fake library, removed at the end.
struct Fake {
    library: PathBuf,
    _dir: tempfile::TempDir,
}

impl Fake {
    /// Compiles `fake_nvml.c`. `None`, with the reason printed, where there is no C compiler.
    fn compile(flags: &[&str]) -> Option<Fake> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let library = dir.path().join("libfake-nvml.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_nvml.c");
        let done = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .args(flags)
            .arg(source)
            .status();
        match done {
            Err(e) => {
                eprintln!("skipped: `cc` cannot be started: {e}");
                None
            }
            Ok(status) => {
                assert!(status.success(), "the fake NVML does not compile: {status}");
                Some(Fake { library, _dir: dir })
            }
        }
    }

    fn monitor(&self) -> Monitor {
        Monitor::load_from(Some(self.library.as_os_str())).expect("the fake loads")
    }
}

#[test]
fn mig_instances_are_discovered_wherever_they_stand() {
    let Some(fake) = Fake::compile(&[]) else { return };
    let m = fake.monitor();
    assert_eq!(m.count().expect("a count"), 2);
    let first = m.inventory(0).expect("an inventory");
    assert_eq!(first.mig, Some(true));
    let found: Vec<_> =
        first.mig_instances.iter().map(|i| (i.uuid.as_str(), i.name.as_str(), i.memory)).collect();
    assert_eq!(
        found,
        [
            ("MIG-11111111-aaaa-5bbb-8ccc-000000000001", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", Some(10 << 30)),
            ("MIG-11111111-aaaa-5bbb-8ccc-000000000002", "NVIDIA H100 80GB HBM3 MIG 3g.40gb", Some(40 << 30)),
        ]
    );
    assert!(first.mig_instances.iter().all(|i| i.memory_used.is_some_and(|used| Some(used) < i.memory)));
    let second = m.inventory(1).expect("an inventory");
    assert_eq!((second.mig, second.mig_instances.len()), (None, 0), "a GPU without MIG says so");
}

#[test]
fn the_inventory_says_what_nvml_says() {
    let Some(fake) = Fake::compile(&[]) else { return };
    let m = fake.monitor();
    assert_eq!(m.driver_version().expect("a version"), "999.42.07");
    let i = m.inventory(0).expect("an inventory");
    assert_eq!(
        (i.name.as_str(), i.uuid.as_str()),
        ("NVIDIA H100 80GB HBM3", "GPU-00000000-0000-0000-0000-00000000000a")
    );
    assert_eq!((i.max_sm_clock_mhz, i.max_memory_clock_mhz), (Some(1980), Some(2619)));
    assert_eq!(i.power_limit_w, Some(700.0));
    assert_eq!((i.gpm, m.inventory(1).expect("an inventory").gpm), (true, false));
    assert_eq!(i.compute_mode.as_deref(), Some("ExclusiveProcess"));
    assert_eq!(i.persistence, Some(true));
    assert_eq!(i.processes, [(4242, "/usr/bin/neighbour".to_owned())]);
    assert_eq!(
        m.index_of("gpu-00000000-0000-0000-0000-00000000000B"),
        Some(1),
        "UUIDs are compared without case"
    );
    assert_eq!(m.index_of("GPU-nobody"), None);
    assert!(m.inventory(2).is_err() && m.read(2).is_err(), "there is no third GPU");
}

#[test]
fn a_reading_carries_units_and_throttle_words() {
    // Idle, application clocks, software power cap, hardware and thermal slowdown, and a bit that is not known yet.
    let Some(fake) = Fake::compile(&["-DTHROTTLE=0x400000000000004fULL"]) else { return };
    let r = fake.monitor().read(0).expect("a reading");
    assert_eq!((r.sm_clock_mhz, r.memory_clock_mhz), (Some(1755), Some(2619)));
    assert_eq!((r.power_w, r.power_instant_w, r.temperature_c), (Some(123.456), Some(50.0), Some(41)));
    assert_eq!((r.utilization_pct, r.memory_used), (Some(77), Some(1 << 30)));
    assert_eq!(r.throttle, ["software power cap", "hardware slowdown", "hardware thermal slowdown"]);
    let other = fake.monitor().read(1).expect("a reading");
    assert_eq!(other.throttle, [""; 0], "the other GPU is not throttled");
}

#[test]
fn each_throttle_bit_has_its_word() {
    for (bit, word) in [
        ("0x4", "software power cap"),
        ("0x8", "hardware slowdown"),
        ("0x10", "sync boost"),
        ("0x20", "software thermal slowdown"),
        ("0x40", "hardware thermal slowdown"),
        ("0x80", "power brake"),
    ] {
        let Some(fake) = Fake::compile(&[&format!("-DTHROTTLE={bit}ULL")]) else { return };
        assert_eq!(fake.monitor().read(0).expect("a reading").throttle, [word], "{bit}");
    }
    for quiet in ["0x0", "0x1", "0x2", "0x100"] {
        let Some(fake) = Fake::compile(&[&format!("-DTHROTTLE={quiet}ULL")]) else { return };
        assert_eq!(
            fake.monitor().read(0).expect("a reading").throttle,
            [""; 0],
            "{quiet} slows nothing down"
        );
    }
}

#[test]
fn a_sampler_reads_processes_memory_and_energy() {
    let Some(fake) = Fake::compile(&[]) else { return };
    let m = fake.monitor();
    let s = m.sampler(0).expect("a sampler");
    assert_eq!(s.read(), Reading { memory_used: None, ..m.read(0).expect("a reading") });
    assert_eq!(s.memory_used(), Some(1 << 30));
    assert_eq!(s.processes(), Some(vec![ProcessMemory { pid: 4242, bytes: Some(3 << 20) }]));
    assert_eq!(m.sampler(1).expect("a sampler").processes(), Some(Vec::new()));
    let first = s.energy_mj().expect("energy");
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(s.energy_mj().expect("energy") >= first + 100 * 19, "100 W");
    assert!(m.sampler(2).is_err(), "there is no third GPU");
}

#[test]
fn gpm_tells_the_means_between_two_snapshots_once_the_counters_are_new() {
    let Some(fake) = Fake::compile(&["-DMIG_OFF"]) else { return };
    let m = fake.monitor();
    let s = m.sampler(0).expect("a sampler");
    assert_eq!(s.gpm(), Ok(()));
    let begin = s.gpm_snapshot().expect("a snapshot");
    assert_eq!(s.gpm_between(&begin, &begin), None, "counters stand still within a tick");
    std::thread::sleep(std::time::Duration::from_millis(101));
    let end = s.gpm_snapshot().expect("a snapshot");
    let expected = Gpm {
        sm_active: Some(2.0),
        sm_occupancy: Some(3.0),
        integer: Some(4.0),
        tensor: Some(5.0),
        tensor_dfma: None,
        tensor_hmma: Some(7.0),
        tensor_imma: Some(9.0),
        dram: Some(10.0),
        fp64: Some(11.0),
        fp32: Some(12.0),
        fp16: Some(13.0),
    };
    assert_eq!(s.gpm_between(&begin, &end), Some(expected));
    assert_eq!(s.graphics_between(&begin, &end), Some(1.0));
}

#[test]
fn a_gpu_without_gpm_says_why() {
    let gap = |flags: &[&str], gpu| {
        let fake = Fake::compile(flags)?;
        let m = fake.monitor();
        let s = m.sampler(gpu).expect("a sampler");
        assert!(s.gpm_snapshot().is_none());
        Some(s.gpm().expect_err("a gap"))
    };
    let Some(mig) = gap(&[], 0) else { return };
    assert_eq!(mig, GpmGap::Mig);
    assert_eq!(gap(&[], 1), Some(GpmGap::NoCounters));
    assert_eq!(gap(&["-DREFUSING"], 0), Some(GpmGap::NoCounters));
    assert_eq!(gap(&["-DBARE"], 0), Some(GpmGap::OldDriver));
    let refused = gap(&["-DMIG_OFF", "-DGPM_REFUSED"], 0).expect("a gap");
    assert!(matches!(&refused, GpmGap::Refused(words) if words.contains("permission")), "{refused}");
}

/// Everything that may be absent is.
#[track_caller]
fn holds_only_names(i: &Inventory) {
    let expected = Inventory {
        name: "NVIDIA H100 80GB HBM3".into(),
        uuid: "GPU-00000000-0000-0000-0000-00000000000a".into(),
        max_sm_clock_mhz: None,
        max_memory_clock_mhz: None,
        power_limit_w: None,
        mig: None,
        mig_instances: Vec::new(),
        gpm: false,
        compute_mode: None,
        persistence: None,
        processes: Vec::new(),
    };
    assert_eq!(*i, expected);
}

#[test]
fn functions_that_are_missing_or_refuse_leave_gaps_and_no_panic() {
    for flag in ["-DBARE", "-DREFUSING"] {
        let Some(fake) = Fake::compile(&[flag]) else { return };
        let m = fake.monitor();
        holds_only_names(&m.inventory(0).expect("an inventory"));
        assert_eq!(m.read(0).expect("a reading"), Reading::default());
        assert!(m.driver_version().is_err());
    }
}

#[test]
fn a_library_that_is_absent_broken_or_none_is_an_error_with_words() {
    let words = |path: &std::ffi::OsStr| match Monitor::load_from(Some(path)) {
        Ok(_) => panic!("{} loaded", path.display()),
        Err(e) => e.to_string(),
    };
    let absent = words("/nonexistent/libnvidia-ml.so.1".as_ref());
    assert!(absent.contains("/nonexistent/libnvidia-ml.so.1"), "{absent}");
    let none = words(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_nvml.c").as_ref());
    assert!(none.contains("NVML"), "{none}");
    let Some(fake) = Fake::compile(&["-DBROKEN"]) else { return };
    let broken = words(fake.library.as_os_str());
    assert!(broken.to_lowercase().contains("driver"), "{broken}");
}
