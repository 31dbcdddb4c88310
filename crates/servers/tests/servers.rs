//! Starts, watches and ends servers of all kinds of behaviour.

use cotenant_servers::{Exit, External, Preset, Server, ServerError, ServerSpec, StoppedHow};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Long enough for a busy machine; nothing waits so long that does what it should.
const LONG: Duration = Duration::from_secs(60);

fn spec(behaviour: &str) -> ServerSpec {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_server.py");
    let mut s = ServerSpec::new("fake", Preset::Vllm);
    s.command = Some(["python3", script, "{port}", behaviour].map(str::to_owned).to_vec());
    s.model = Some("small".into());
    s.startup_timeout = LONG;
    s.stop_grace = LONG;
    s
}

struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn new() -> Case {
        Case { dir: tempfile::tempdir().unwrap() }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("server.log")
    }

    fn file(&self) -> String {
        self.dir.path().join("note").to_string_lossy().into_owned()
    }

    fn start(&self, spec: ServerSpec) -> Result<Server, ServerError> {
        Server::start(spec, [], &self.log())
    }

    fn fails(&self, spec: ServerSpec) -> ServerError {
        self.start(spec).unwrap().wait_ready(LONG, &|| false).unwrap_err()
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap()
    }
}

fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|s| !s.rsplit_once(')').unwrap().1.trim_start().starts_with(['Z', 'X']))
}

/// Waits for something that must come.
fn eventually(what: &str, mut f: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !f() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Some servers compile at their first request, long after they say that they are there.
#[test]
fn the_first_text_of_a_server_of_others_has_a_time_of_its_own() {
    let case = Case::new();
    let mut server = case.start(spec("slow-first")).unwrap();
    server.wait_ready(LONG, &|| false).unwrap();
    let url = format!("http://127.0.0.1:{}", server.port());
    let other = External::new("other", Preset::Generic, &url, None, None).unwrap();
    let second = Duration::from_secs(1);
    assert!(other.wait_ready(second, LONG, &|| false).is_ok());
    let e = other.wait_ready(LONG, second, &|| false).unwrap_err().to_string();
    assert!(e.contains("a whole answer within 1.0 s"), "{e}");
}

#[test]
fn a_server_is_ready_is_asked_and_ends() {
    let case = Case::new();
    let mut server = case.start(spec("well")).unwrap();
    let ready = server.wait_ready(LONG, &|| false).unwrap();
    assert_eq!(ready.served, ["small", "adapter-1"]);
    assert_eq!(ready.version.as_deref(), Some("1.2.3"));
    assert!(ready.startup > Duration::ZERO && ready.startup < LONG);
    assert_eq!((server.exited(), server.pids().first().copied()), (None, Some(server.pid())));
    let state = server.endpoint().state(LONG).unwrap().unwrap();
    assert_eq!((state.running, state.kv_usage, state.waiting), (Some(2.0), Some(0.5), None));
    assert_eq!((state.queue_time_s, state.queued), (Some(1.5), Some(6.0)));

    // Somebody else may ask it too; that does not end it.
    let url = format!("http://127.0.0.1:{}/v1", server.port());
    let other = External::new("other", Preset::Generic, &url, None, None).unwrap();
    assert_eq!(other.wait_ready(LONG, LONG, &|| false).unwrap().served[0], "small");
    drop(other);
    assert_eq!(server.exited(), None);

    let stopped = server.stop();
    assert_eq!((stopped.how, stopped.swept, stopped.left), (StoppedHow::Graceful, 0, 0));
    assert_eq!(server.stop(), stopped);
    assert!(server.exited().is_some() && server.pids().is_empty());
    assert!(case.text().contains("serving\n"), "{}", case.text());
}

#[test]
fn the_log_is_added_to() {
    let case = Case::new();
    std::fs::write(case.log(), "before\n").unwrap();
    case.fails(spec("exits"));
    assert!(case.text().starts_with("before\nstarting on "), "{}", case.text());
}

#[test]
fn one_that_is_never_healthy_times_out() {
    let case = Case::new();
    let mut s = spec("never");
    s.startup_timeout = Duration::from_secs(4);
    let e = case.fails(s);
    let ServerError::TimedOut { after, waited_for, ref lines, .. } = e else { panic!("{e}") };
    assert!(after >= Duration::from_secs(4), "{after:?}");
    assert_eq!(waited_for, "its health check");
    assert!(
        !lines.is_empty() && e.to_string().starts_with("reach server `fake`: it was not ready after "),
        "{e}"
    );
}

#[test]
fn one_that_exits_tells_its_code_and_last_lines() {
    let e = Case::new().fails(spec("exits"));
    let ServerError::Exited { exit: Exit::Code(3), ref lines, .. } = e else { panic!("{e}") };
    assert_eq!(lines.last().map(String::as_str), Some("ValueError: no such model"));
    assert!(
        e.to_string().contains("(exit code 3) before it was ready; its last output:\n    starting on"),
        "{e}"
    );
}

#[test]
fn lack_of_gpu_memory_is_recognised_even_if_its_line_has_scrolled_away() {
    let e = Case::new().fails(spec("no-memory"));
    let ServerError::OutOfMemory { ref line, ref lines, .. } = e else { panic!("{e}") };
    assert!(line.starts_with("torch.OutOfMemoryError"), "{line}");
    assert_eq!((lines.len(), lines[11].as_str()), (12, "  frame 29"));
    assert!(e.to_string().contains("lower the `memory_share`"), "{e}");
}

#[test]
fn one_that_ignores_sigterm_is_killed() {
    let case = Case::new();
    let mut s = spec("stubborn");
    s.stop_grace = Duration::from_millis(300);
    let mut server = case.start(s).unwrap();
    server.wait_ready(LONG, &|| false).unwrap();
    let (pid, stopped) = (server.pid(), server.stop());
    assert_eq!((stopped.how, stopped.left), (StoppedHow::Killed, 0));
    assert!(stopped.took >= Duration::from_millis(300) && !alive(pid));
    assert_eq!(server.exited(), Some(Exit::Signal(9)));
}

#[test]
fn children_end_too_also_one_that_left_the_group() {
    let case = Case::new();
    let mut s = spec("children");
    s.args = vec![case.file()];
    let mut server = case.start(s).unwrap();
    server.wait_ready(LONG, &|| false).unwrap();
    let note = std::fs::read_to_string(case.file()).unwrap();
    let children: Vec<u32> = note.split_whitespace().map(|p| p.parse().unwrap()).collect();
    assert_eq!(children.len(), 2);
    let pids = server.pids();
    assert!(children.iter().all(|c| pids.contains(c) && alive(*c)), "{children:?} {pids:?}");
    let stopped = server.stop();
    assert_eq!((stopped.how, stopped.swept, stopped.left), (StoppedHow::Graceful, 2, 0));
    assert!(!children.iter().any(|c| alive(*c)));
}

#[test]
fn a_dropped_server_ends() {
    let case = Case::new();
    let server = case.start(spec("well")).unwrap();
    let pid = server.pid();
    assert!(alive(pid));
    drop(server);
    assert!(!alive(pid));
}

#[test]
fn a_wrong_model_name_lists_the_right_ones() {
    let mut s = spec("well");
    s.model = Some("large".into());
    let e = Case::new().fails(s);
    assert_eq!(e.to_string(), "use model `large` of server `fake`: it serves `small`, `adapter-1`");
}

#[test]
fn a_key_is_sent_and_not_written() {
    let case = Case::new();
    let mut s = spec("key");
    s.env = vec![("SERVER_API_KEY".into(), "sk-very-secret".into())];
    s.api_key_env = Some("SERVER_API_KEY".into());
    let mut server = case.start(s.clone()).unwrap();
    server.wait_ready(LONG, &|| false).unwrap();
    assert!(!format!("{server:?}").contains("sk-very-secret"));
    server.stop();
    assert!(case.text().contains("args: --api-key ***\n"), "{}", case.text());
    assert!(!case.text().contains("sk-very-secret"));
    s.api_key_env = None;
    let begun = std::time::Instant::now();
    let e = case.fails(s).to_string();
    assert!(e.contains("/v1/models gave status 401") && e.contains("no key"), "{e}");
    assert!(begun.elapsed() < Duration::from_secs(20), "asking again would not help");
}

#[test]
fn a_given_port_in_use_is_told_before_the_start() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let case = Case::new();
    let mut s = spec("well");
    let port = listener.local_addr().unwrap().port();
    s.port = Some(port);
    let e = case.start(s).unwrap_err().to_string();
    assert!(e.contains(&format!("port {port} is in use")), "{e}");
    assert!(!case.log().exists());
}

#[test]
fn a_chosen_port_that_was_taken_meanwhile_is_replaced_once() {
    let case = Case::new();
    let mut s = spec("port-taken-once");
    s.args = vec![case.file()];
    let mut server = case.start(s.clone()).unwrap();
    let first = server.port();
    server.wait_ready(LONG, &|| false).unwrap();
    assert_ne!(server.port(), first);
    assert_eq!(std::fs::read_to_string(case.file()).unwrap(), first.to_string());
    server.stop();
    // A port that was asked for is not replaced.
    std::fs::remove_file(case.file()).unwrap();
    s.port = Some(first);
    assert!(matches!(case.fails(s), ServerError::Exited { exit: Exit::Code(1), .. }));
}

#[test]
fn an_answer_without_text_and_a_death_at_work_are_told_apart() {
    let e = Case::new().fails(spec("no-text"));
    assert!(matches!(e, ServerError::BadAnswer { status: 400, path: "/v1/completions", .. }), "{e}");
    assert!(e.to_string().contains("no chat template") && e.to_string().contains("serving"), "{e}");
    let e = Case::new().fails(spec("dies-at-work"));
    assert!(matches!(e, ServerError::Exited { exit: Exit::Code(7), .. }), "{e}");
    assert!(e.to_string().contains("RuntimeError: engine died"), "{e}");
}

#[test]
fn a_death_in_mid_run_is_seen() {
    let case = Case::new();
    let server = case.start(spec("dies-later")).unwrap();
    eventually("its end is seen", || server.exited().is_some());
    assert_eq!(server.exited(), Some(Exit::Code(9)));
    eventually("its output is read", || server.last_lines().contains(&"serving".to_owned()));
    let e = server.ended().unwrap();
    assert!(matches!(e, ServerError::Died { exit: Exit::Code(9), .. }), "{e}");
    assert!(e.to_string().contains("(exit code 9) while it was used; its last output"), "{e}");
}

#[test]
fn a_death_in_mid_run_for_want_of_gpu_memory_is_explained() {
    let case = Case::new();
    let server = case.start(spec("no-memory-later")).unwrap();
    assert!(server.ended().is_none());
    eventually("its end is seen", || server.exited().is_some());
    let e = server.ended().unwrap();
    let ServerError::RanOutOfMemory { exit: Exit::Code(1), ref line, ref lines, .. } = e else {
        panic!("{e}")
    };
    assert!(line.starts_with("torch.OutOfMemoryError"), "{line}");
    assert_eq!(lines.last().map(String::as_str), Some("  frame 29"), "all of it is read");
    assert!(e.is_lack_of_memory() && e.to_string().contains("lower the `memory_share`"), "{e}");
}

#[test]
fn a_server_of_others_that_went_away_is_told() {
    let case = Case::new();
    let mut server = case.start(spec("well")).unwrap();
    server.wait_ready(LONG, &|| false).unwrap();
    let url = format!("http://127.0.0.1:{}", server.port());
    let other = External::new("other", Preset::Vllm, &url, None, None).unwrap();
    assert!(other.endpoint().still_there(&|| false).is_ok());
    server.stop();
    let e = other.endpoint().still_there(&|| false).unwrap_err().to_string();
    assert!(
        e.starts_with("reach server `other`: it was up and is not any more: /health: failed to connect"),
        "{e}"
    );
}

#[test]
fn a_wait_can_be_interrupted() {
    let case = Case::new();
    let mut server = case.start(spec("never")).unwrap();
    let asked = std::cell::Cell::new(0);
    let e = server.wait_ready(LONG, &|| {
        asked.set(asked.get() + 1);
        asked.get() > 5
    });
    assert!(matches!(e, Err(ServerError::Interrupted { .. })));
    assert_eq!(server.exited(), None);
}

#[test]
fn an_absent_program_and_a_bad_log_are_named() {
    let mut s = spec("well");
    s.command = Some(vec!["no-such-program-here".into()]);
    let e = Case::new().start(s).unwrap_err().to_string();
    assert!(e.starts_with("start server `fake`: cannot run `no-such-program-here`: "), "{e}");
    let e = Server::start(spec("well"), [], Path::new("/no/such/folder/log")).unwrap_err().to_string();
    assert!(e.contains("cannot open its log /no/such/folder/log"), "{e}");
}

#[test]
fn nobody_at_an_address_times_out() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let other = External::new("o", Preset::Vllm, &format!("http://127.0.0.1:{free}"), None, None).unwrap();
    let e = other.wait_ready(Duration::from_millis(300), LONG, &|| false).unwrap_err().to_string();
    assert!(e.contains("waited for its health check") && e.contains("failed to connect to"), "{e}");
}

#[test]
fn a_server_outlives_the_thread_that_started_it() {
    let case = Case::new();
    let log = case.log();
    let mut server =
        std::thread::spawn(move || Server::start(spec("well"), [], &log).unwrap()).join().unwrap();
    server.wait_ready(LONG, &|| false).unwrap();
    assert_eq!(server.exited(), None);
}

/// Not a test of its own: the process that dies in the next one.
#[test]
fn starts_a_server_and_dies() {
    let Some(dir) = std::env::var_os("COTENANT_SERVERS_TEST_DIR") else { return };
    let dir = PathBuf::from(dir);
    let mut server = Server::start(spec("stubborn"), [], &dir.join("log")).unwrap();
    server.wait_ready(LONG, &|| false).unwrap();
    std::fs::write(dir.join("pid"), server.pid().to_string()).unwrap();
    std::process::abort();
}

#[test]
fn a_server_dies_with_its_starter() {
    let case = Case::new();
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "starts_a_server_and_dies"])
        .env("COTENANT_SERVERS_TEST_DIR", case.dir.path())
        .output()
        .unwrap();
    let pid = std::fs::read_to_string(case.dir.path().join("pid"));
    let pid: u32 = pid.unwrap_or_else(|e| panic!("{e}: {out:?}")).parse().unwrap();
    eventually("the server is gone", || !alive(pid));
}
