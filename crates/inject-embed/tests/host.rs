//! The library in a program, without a GPU: `examples/inject_host.rs` loads it as the CUDA driver does, and
//! `examples/fake_cupti.rs` stands in for CUPTI.

use cotenant_inject_embed::{environment, install};
use cotenant_timeline::format::Shape;
use cotenant_timeline::page::State;
use cotenant_timeline::{Control, ControlError, Interval, Trace, trace_path};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

fn example(name: &str) -> PathBuf {
    // This test is <target>/<profile>/deps/host-<hash>.
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name)
}

struct Host {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    pid: u32,
    folder: tempfile::TempDir,
}

#[derive(Default)]
struct Options {
    from_start: bool,
    version: Option<u32>,
    no_folder: bool,
    no_cupti: bool,
    missing_folder: bool,
}

impl Host {
    fn start(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = install(folder.path()).unwrap();
        let traces =
            if options.missing_folder { folder.path().join("missing") } else { folder.path().to_path_buf() };
        let mut command = Command::new(example("inject_host"));
        command.envs(environment(&library, &traces, options.from_start));
        if options.no_folder {
            command.env_remove(cotenant_timeline::ENV_FOLDER);
        }
        let cupti =
            if options.no_cupti { "/nonexistent/libcupti.so".into() } else { example("libfake_cupti.so") };
        command.env("COTENANT_CUPTI", cupti);
        if let Some(version) = options.version {
            command.env("FAKE_CUPTI_VERSION", version.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let commands = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let (pid, returned) = line.trim().split_once(' ').expect("the host did not start");
        assert_eq!(returned, "1", "the driver must be told to go on");
        Self { pid: pid.parse().unwrap(), child, commands, answers, folder }
    }

    fn ask(&mut self, command: &str) -> u32 {
        writeln!(self.commands, "{command}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().parse().unwrap_or_else(|_| panic!("{command}: {line:?}"))
    }

    fn path(&self) -> PathBuf {
        trace_path(self.folder.path(), self.pid)
    }

    fn control(&self) -> Control {
        Control::wait_open(&self.path(), LIMIT).unwrap()
    }

    fn read(&self) -> Trace {
        Trace::read(&self.path()).unwrap()
    }

    fn traces(&self) -> usize {
        cotenant_timeline::traces_in(self.folder.path()).unwrap().len()
    }

    /// Has the host exit and returns what it wrote to standard error. It must have ended well.
    fn exit(&mut self) -> String {
        writeln!(self.commands, "exit").unwrap();
        let status = self.child.wait().unwrap();
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(status.success(), "{status}: {text}");
        let mut rest = String::new();
        self.answers.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "the library must not write to standard output");
        text
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[test]
fn without_a_folder_it_does_nothing() {
    let mut host = Host::start(Options { no_folder: true, ..Default::default() });
    assert_eq!(host.ask("launch 10"), host.ask("launch 10"));
    assert_eq!(host.exit(), "");
    assert_eq!(host.traces(), 0);
}

#[test]
fn without_cupti_it_passes_through_and_says_so_once() {
    let mut host = Host::start(Options { no_cupti: true, ..Default::default() });
    let mut control = host.control();
    let error = control.switch(true, LIMIT).unwrap_err();
    assert!(
        matches!(&error, ControlError::Disabled(reason) if reason.contains("/nonexistent/libcupti.so")),
        "{error}"
    );
    assert!(control.flush(LIMIT).is_err());
    assert_eq!(host.ask("again"), 1);
    let said = host.exit();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with("cotenant: kernel times are not recorded: /nonexistent/libcupti.so"), "{said}");
    assert_eq!(host.read().state, State::Disabled);
}

#[test]
fn a_folder_that_is_missing_is_said_and_nothing_else_happens() {
    let mut host = Host::start(Options { missing_folder: true, ..Default::default() });
    host.ask("launch 3");
    assert!(host.exit().contains("cannot create"));
}

#[test]
fn records_what_is_launched_while_it_is_on() {
    let mut host = Host::start(Options::default());
    let mut control = host.control();
    assert!(matches!(control.state(), State::Starting | State::Off));
    host.ask("launch 10");
    control.switch(true, LIMIT).unwrap();
    assert_eq!(control.state(), State::On);
    let begin = now_ns();
    host.ask("launch 300");
    let end = now_ns();
    control.flush(LIMIT).unwrap();
    let mut trace = host.read();
    assert_eq!(trace.kernels.len(), 300);
    assert_eq!(trace.counters.kernels, 300);
    let time = trace.device_time(&[Interval { start_ns: begin, end_ns: end }]).unwrap();
    assert_eq!((time.iterations[0].kernels.count, time.iterations[0].kernels.sum_ns), (300, 300_000));
    assert_eq!((time.iterations[0].copies.count, time.iterations[0].sets.count, time.outside), (30, 30, 0));

    host.ask("launch 50");
    control.switch(false, LIMIT).unwrap();
    assert_eq!(control.state(), State::Off);
    host.ask("launch 20");
    control.switch(true, LIMIT).unwrap();
    host.ask("launch 5");
    control.switch(false, LIMIT).unwrap();
    trace.update().unwrap();
    assert_eq!(trace.kernels.len(), 355);
    let spans = trace.recorded();
    assert_eq!(spans.len(), 2);
    assert!(spans[0].start_ns <= begin && end <= spans[0].end_ns);
    assert!(!trace.counters.lost_any());
    assert_eq!(host.exit(), "");
    assert_eq!(host.read().state, State::Ended);
}

#[test]
fn records_of_every_version_are_read_alike() {
    for version in [18, 22, 28, 130_001] {
        let mut host = Host::start(Options { version: Some(version), ..Default::default() });
        let mut control = host.control();
        control.switch(true, LIMIT).unwrap();
        host.ask("graph 30");
        control.switch(false, LIMIT).unwrap();
        let trace = host.read();
        assert_eq!(trace.cupti_version, version);
        assert_eq!(trace.kernels.len(), 30, "version {version}");
        let names: Vec<&str> = trace.kernels[..3].iter().map(|kernel| trace.name(kernel)).collect();
        assert_eq!(names, ["void kernel_of_the_first_kind<float, 128>(float*, int)", "short", "?"]);
        let expected = Shape {
            name: 1,
            grid: [264, 2, 1],
            block: [128, 1, 1],
            registers: 40,
            static_shared: 1024,
            dynamic_shared: 2048,
        };
        assert_eq!(trace.shape(&trace.kernels[1]), Some(&expected));
        assert_eq!((trace.node(&trace.kernels[1]), trace.kernels[1].correlation), (5 << 32 | 2, 2));
        assert_eq!(trace.node(&trace.kernels[2]), 0);
        assert!(trace.kernels.iter().all(|kernel| kernel.duration_ns == 1000));
        let lane = trace.lanes[trace.kernels[0].lane as usize];
        assert_eq!((lane.device, lane.context, lane.stream), (0, 1, 7));
        let (copy, set) = (trace.transfers[0], trace.transfers[1]);
        assert_eq!((copy.set, copy.direction, copy.bytes, copy.duration_ns), (false, 8, 4096, 1000));
        assert_eq!((set.set, set.direction, set.bytes), (true, 0, 512));
        host.exit();
    }
}

#[test]
fn unknown_versions_are_refused() {
    for (version, word) in [(17, "too old"), (140_000, "newer")] {
        let mut host = Host::start(Options { version: Some(version), ..Default::default() });
        let error = host.control().switch(true, LIMIT).unwrap_err();
        assert!(matches!(&error, ControlError::Disabled(reason) if reason.contains(word)), "{error}");
        assert_eq!(host.exit().lines().count(), 1);
    }
}

#[test]
fn many_launches_take_many_buffers_and_24_bytes_each() {
    let mut host = Host::start(Options::default());
    let mut control = host.control();
    control.switch(true, LIMIT).unwrap();
    host.ask("launch 100000");
    control.switch(false, LIMIT).unwrap();
    let trace = host.read();
    assert_eq!((trace.kernels.len(), trace.transfers.len()), (100_000, 20_000));
    assert_eq!(trace.counters.buffers_lost, 0);
    let correlations: Vec<u32> = trace.kernels.iter().map(|kernel| kernel.correlation).collect();
    assert!(correlations.iter().copied().eq(1..=100_000));
    let bytes = fs::metadata(host.path()).unwrap().len();
    assert!(bytes < 4096 + 100_000 * 24 + 20_000 * 48 + 1000, "{bytes}");
}

#[test]
fn gives_way_to_another_client_and_can_be_asked_again() {
    for version in [18, 130_001] {
        let mut host = Host::start(Options { version: Some(version), ..Default::default() });
        let mut control = host.control();
        host.ask("seat 1");
        let error = control.switch(true, LIMIT).unwrap_err();
        assert!(
            matches!(&error, ControlError::Refused(reason) if reason.contains("another client")),
            "{error}"
        );
        assert_eq!(control.state(), State::Off);
        host.ask("seat 0");
        control.switch(true, LIMIT).unwrap();
        host.ask("launch 4");
        control.switch(false, LIMIT).unwrap();
        assert_eq!(host.read().kernels.len(), 4);
        assert_eq!(host.exit(), "");
    }
}

#[test]
fn a_kind_that_is_refused_leaves_the_seat_free() {
    let mut host = Host::start(Options::default());
    let mut control = host.control();
    host.ask("refuse 2");
    let error = control.switch(true, LIMIT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "switch recording: cuptiActivityEnable failed: CUPTI_ERROR_INVALID_PARAMETER"
    );
    host.ask("refuse 0");
    control.switch(true, LIMIT).unwrap();
}

#[test]
fn detaching_takes_cupti_out_again_and_again() {
    let mut host = Host::start(Options::default());
    let mut control = host.control();
    assert!(control.detach(LIMIT).unwrap());
    assert_eq!(host.ask("finalized"), 0);
    host.ask("instantiate");
    for round in 1..4 {
        control.switch(true, LIMIT).unwrap();
        assert!(control.attached());
        host.ask("launch 2");
        assert!(control.detach(LIMIT).unwrap());
        assert_eq!((host.ask("finalized"), control.state()), (round, State::Off));
        // Somebody else can have the seat now.
        host.ask("seat 1");
        assert!(control.detach(LIMIT).unwrap());
        host.ask("seat 0");
    }
    assert_eq!(host.ask("finalized"), 3);
    assert_eq!((host.read().kernels.len(), host.read().recorded().len()), (6, 3));
}

#[test]
fn cupti_stays_where_taking_it_out_could_break_the_program() {
    let cases: [&[&str]; 4] = [&["graph 10"], &["instantiate"], &["unfinished"], &["off", "on"]];
    for steps in cases {
        let mut host = Host::start(Options::default());
        let mut control = host.control();
        control.switch(true, LIMIT).unwrap();
        for &step in steps {
            match step {
                "off" => control.switch(false, LIMIT).unwrap(),
                "on" => control.switch(true, LIMIT).unwrap(),
                step => drop(host.ask(step)),
            }
        }
        assert!(!control.detach(LIMIT).unwrap(), "{steps:?}");
        assert_eq!((host.ask("finalized"), control.state()), (0, State::Off), "{steps:?}");
        // It can be recorded again.
        control.switch(true, LIMIT).unwrap();
        host.ask("launch 1");
        assert!(!control.detach(LIMIT).unwrap());
    }
}

#[test]
fn an_old_cupti_stays_in_the_process() {
    let mut host = Host::start(Options { version: Some(22), ..Default::default() });
    let mut control = host.control();
    control.switch(true, LIMIT).unwrap();
    assert!(!control.detach(LIMIT).unwrap());
    assert_eq!((host.ask("finalized"), control.state()), (0, State::Off));
    control.switch(true, LIMIT).unwrap();
}

#[test]
fn a_forked_child_leaves_the_trace_alone() {
    let mut host = Host::start(Options::default());
    let mut control = host.control();
    control.switch(true, LIMIT).unwrap();
    host.ask("launch 10");
    control.flush(LIMIT).unwrap();
    let before = fs::read(host.path()).unwrap();
    assert_eq!(host.ask("fork"), 0);
    assert_eq!(fs::read(host.path()).unwrap(), before);
    assert_eq!((control.state(), host.traces()), (State::On, 1));
    host.ask("launch 5");
    control.switch(false, LIMIT).unwrap();
    assert_eq!(host.read().kernels.len(), 15);
    assert_eq!(host.exit(), "");
}

#[test]
fn exiting_while_on_completes_the_file() {
    let mut host = Host::start(Options { from_start: true, ..Default::default() });
    host.ask("launch 1234");
    assert_eq!(host.exit(), "");
    let trace = host.read();
    assert_eq!((trace.state, trace.kernels.len(), trace.torn_bytes), (State::Ended, 1234, 0));
    assert_eq!(trace.recorded().len(), 1);
    assert!(matches!(host.control().switch(true, LIMIT), Err(ControlError::Ended)));
}

#[test]
fn being_killed_leaves_what_was_flushed() {
    let mut host = Host::start(Options { from_start: true, ..Default::default() });
    let mut control = host.control();
    host.ask("launch 100");
    control.flush(LIMIT).unwrap();
    host.ask("launch 100");
    host.child.kill().unwrap();
    host.child.wait().unwrap();
    assert_eq!(host.read().kernels.len(), 100);
    let error = control.flush(Duration::from_millis(100)).unwrap_err();
    assert!(matches!(error, ControlError::Timeout { alive: false, .. }), "{error}");
}

#[test]
fn a_full_disk_ends_recording_and_not_the_program() {
    let mut host = Host::start(Options::default());
    let mut control = host.control();
    control.switch(true, LIMIT).unwrap();
    host.ask("launch 100");
    control.flush(LIMIT).unwrap();
    host.ask("limit 65536");
    host.ask("launch 50000");
    let error = control.flush(LIMIT).unwrap_err();
    assert!(matches!(&error, ControlError::Disabled(reason) if reason.contains("cannot write")), "{error}");
    host.ask("launch 10");
    let trace = host.read();
    assert_eq!((trace.kernels.len(), trace.state), (100, State::Disabled));
    assert!(trace.counters.buffers_lost > 0);
    let said = host.exit();
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn work_that_has_not_ended_is_counted_and_not_recorded() {
    let mut host = Host::start(Options { from_start: true, ..Default::default() });
    host.ask("launch 2");
    host.ask("unfinished");
    host.control().switch(false, LIMIT).unwrap();
    let trace = host.read();
    assert_eq!((trace.kernels.len(), trace.counters.incomplete), (2, 1));
}

#[test]
fn the_file_is_its_owners_alone() {
    let host = Host::start(Options::default());
    let _ = host.control();
    assert_eq!(fs::metadata(host.path()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_librarys_thread_sleeps_while_nothing_is_asked() {
    let mut host = Host::start(Options::default());
    let mut control = host.control();
    control.switch(true, LIMIT).unwrap();
    control.switch(false, LIMIT).unwrap();
    let switches = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", host.pid)).unwrap();
        let ours = tasks.map(|task| task.unwrap().path()).find(|task| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "cotenant-trace")
        });
        let status = fs::read_to_string(ours.expect("no such thread").join("status")).unwrap();
        let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
        lines.map(|line| line.split_whitespace().last().unwrap().parse::<u64>().unwrap()).sum::<u64>()
    };
    std::thread::sleep(Duration::from_millis(50));
    let before = switches();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(switches(), before);
    host.ask("launch 1");
}

#[test]
fn installing_twice_writes_once_and_mends_what_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let path = install(folder.path()).unwrap();
    let first = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(install(folder.path()).unwrap(), path);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), first);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"something else").unwrap();
    install(folder.path()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), cotenant_inject_embed::library());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(cotenant_inject_embed::library().starts_with(b"\x7fELF"));
}
