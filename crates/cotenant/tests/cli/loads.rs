//! `cotenant load` against a token server, and what it says about bad input and bad servers.

use cotenant_token_server::{Fault, Handle, Options, Pace, spawn};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn cotenant() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cotenant"))
}

pub fn server(options: Options) -> Handle {
    spawn(options).expect("a token server")
}

pub fn paced() -> Options {
    let pace = Pace::Fixed { ttft: Duration::from_millis(8), itl: Duration::from_millis(1) };
    Options { pace, ..Options::default() }
}

/// Runs `load` and returns exit code, what it printed, and its errors.
pub fn load(url: &str, out: &Path, args: &[&str]) -> (i32, String, String) {
    let mut c = cotenant();
    c.args(["load", url, "--out"]).arg(out).args(args);
    let done = c.output().expect("it runs");
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
}

pub fn only_folder(out: &Path) -> PathBuf {
    let mut all = std::fs::read_dir(out).expect("made").map(|e| e.expect("read").path());
    let one = all.next().expect("a folder");
    assert!(all.next().is_none());
    one
}

#[test]
fn several_levels_are_a_table_and_a_range_is_searched() {
    // Eight at a time, each for 8 ms and nine tokens more: 470 a second at most.
    let server = server(Options { running_limit: Some(8), ..paced() });
    let out = tempfile::tempdir().expect("a folder");
    let common =
        ["--output-tokens", "10", "--prompt-tokens", "8", "--vocabulary", "words", "--slo", "ttft=60ms"];
    let sweep = ["--concurrency", "2,1", "--requests", "20"];
    let (code, said, err) = load(&server.url(), out.path(), &[&common[..], &sweep].concat());
    assert_eq!(code, 0, "{said}{err}");
    assert!(err.contains("2 users: 20 requests, 0 failed") && said.contains("SIMULATED"), "{said}{err}");
    let folder = only_folder(out.path());
    let kept = |name: &str| std::fs::read_to_string(folder.join(name)).expect("written");
    let summary: serde_json::Value = serde_json::from_str(&kept("summary.json")).expect("JSON");
    let levels: Vec<_> =
        summary["points"].as_array().expect("points").iter().map(|p| p["level"].as_f64()).collect();
    assert_eq!(levels, [Some(1.0), Some(2.0)]);
    assert!(kept("series.csv").starts_with("concurrency,loads,metric,value,low,high\n1,1,completed_per_s,"));
    assert!(folder.join("figures/figure-5-goodput.svg").is_file());
    let texts: Vec<String> = (1..=2).map(|n| kept(&format!("loads/00{n}/load.json"))).collect();
    assert!(
        texts[0].contains("\"value\": 2.0") && texts[1].contains("\"value\": 1.0"),
        "as they were driven"
    );
    assert!(folder.join("loads/001/figures/figure-1-times.svg").is_file());
    std::fs::remove_file(folder.join("summary.json")).expect("removed");
    let again = cotenant().arg("report").arg(&folder).output().expect("it runs");
    assert!(again.status.success() && String::from_utf8_lossy(&again.stdout) == said, "the same once more");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&kept("summary.json")).expect("JSON"), summary);

    // Beside itself nothing differs; beside a single load it is refused.
    let compare = |b: &Path| {
        let ran = cotenant().arg("compare").args([folder.as_path(), b]).output().expect("it runs");
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        (ran.status.code(), text(&ran.stdout), text(&ran.stderr))
    };
    let (code, said, err) = compare(&folder);
    assert_eq!(code, Some(0), "{err}");
    assert!(said.contains("ttft_p99_ms") && said.contains("1.000") && !said.contains("higher"), "{said}");
    let (code, _, err) = compare(&folder.join("loads/001"));
    assert!(code == Some(3) && err.contains("several concurrencies with one load"), "{code:?} {err}");

    // At 40 a second nobody waits; at 4,000 nearly all do.
    let found = tempfile::tempdir().expect("a folder");
    let range = ["--rate", "40..4000", "--requests", "150", "--within", "60%", "--json"];
    let (code, said, err) = load(&server.url(), found.path(), &[&common[..], &range].concat());
    assert_eq!(code, 0, "{said}{err}");
    let s: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let (kept, broken) = (s["kept"].as_f64().expect("found"), s["broken"].as_f64().expect("found"));
    assert!(
        kept >= 40.0 && broken <= 4000.0 && kept < broken && broken - kept <= 0.6 * broken,
        "{kept} to {broken}"
    );
    assert!(broken > 100.0, "{broken}");

    for (args, said) in [
        (vec!["--rate", "8..2", "--slo", "ttft=1s"], "a range goes up"),
        (vec!["--rate", "1..2"], "without --slo"),
        (vec!["--concurrency", "1,1.5"], "whole numbers"),
        (vec!["--rate", "1..2", "--slo", "ttft=1s", "--attain", "101%"], "--attain `101%`"),
        (vec!["--rate", "1,2", "--concurrency", "1"], "--concurrency"),
    ] {
        let none = tempfile::tempdir().expect("a folder");
        let (code, _, err) = load(&server.url(), none.path(), &args);
        assert!(code == 3 && err.contains(said), "{args:?}: {code} {err}");
        assert_eq!(std::fs::read_dir(none.path()).expect("it is there").count(), 0);
    }
}

/// Plain words are measured with texts of up to 256 words, which a short context refuses.
#[test]
fn words_are_calibrated_on_a_server_of_a_short_context() {
    let server = server(Options { max_model_len: 100, ..paced() });
    let out = tempfile::tempdir().expect("a folder");
    let common = [
        "--concurrency",
        "2",
        "--requests",
        "10",
        "--output-tokens",
        "2",
        "--vocabulary",
        "plain",
        "--prompt-tokens",
    ];
    let (code, said, err) = load(&server.url(), out.path(), &[&common[..], &["40"]].concat());
    assert_eq!(code, 0, "{said}{err}");
    assert!(said.contains("10 requests") && said.contains("plain words, calibrated"), "{said}");

    let server = self::server(Options { max_model_len: 9, ..paced() });
    let (code, said, err) = load(&server.url(), out.path(), &[&common[..], &["4"]].concat());
    assert!(
        code != 0 && err.contains("failed to calibrate the length of prompts: the server answered 400"),
        "{said}{err}"
    );
}

#[test]
fn a_closed_loop_is_summarised_and_its_folder_can_be_reported_again() {
    let server = server(paced());
    let out = tempfile::tempdir().expect("a folder");
    let args = [
        "--concurrency",
        "4",
        "--requests",
        "120",
        "--warmup",
        "8",
        "--prompt-tokens",
        "20",
        "--output-tokens",
    ];
    let limits = ["6", "--slo", "ttft=1s,tpot=1s", "--vocabulary", "words"];
    let (code, said, err) = load(&server.url(), out.path(), &[&args[..], &limits].concat());
    assert_eq!(code, 0, "{said}{err}");
    for part in [
        "SIMULATED",
        "120 requests",
        "closed loop of 4 users",
        "prompt 20.00 tokens, answer 6.000",
        "TTFT, from intended",
        "TPOT",
        "ITL, by chunk",
        "(100.0 [100.0, 100.0] %)",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let folder = only_folder(out.path());
    let requests = std::fs::read_to_string(folder.join("requests.jsonl")).expect("written");
    assert_eq!(requests.lines().count(), 120);
    for line in requests.lines() {
        let r: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!((r["output_tokens"].as_u64(), r["prompt_tokens"].as_u64()), (Some(6), Some(20)), "{r}");
    }
    let table = std::fs::read_to_string(folder.join("summary.csv")).expect("written");
    assert!(
        table.starts_with("name,unit,statistic,value,low,high,class\nrequests,requests,count,120,,,\n"),
        "{table}"
    );
    let summary = std::fs::read_to_string(folder.join("summary.json")).expect("written");
    std::fs::remove_file(folder.join("summary.json")).expect("removed");
    let again = cotenant().arg("report").arg(&folder).output().expect("it runs");
    assert!(again.status.success());
    assert_eq!(String::from_utf8_lossy(&again.stdout), said);
    assert_eq!(std::fs::read_to_string(folder.join("summary.json")).expect("written"), summary);
    // Every request is one that the server knows.
    assert_eq!(server.truth().iter().filter(|t| t.output_tokens == 6).count(), 120);
}

#[test]
fn an_open_loop_repeats_its_times_with_the_seed() {
    let server = server(Options::default());
    let times = |seed: &str| {
        let out = tempfile::tempdir().expect("a folder");
        let args = [
            "--rate",
            "400",
            "--arrivals",
            "gamma(2)",
            "--requests",
            "200",
            "--output-tokens",
            "2",
            "--seed",
        ];
        let (code, said, err) =
            load(&server.url(), out.path(), &[&args[..], &[seed, "--vocabulary", "words"]].concat());
        assert_eq!(code, 0, "{said}{err}");
        assert!(said.contains("open loop, gamma(2) at 400/s"), "{said}");
        let text = std::fs::read_to_string(only_folder(out.path()).join("requests.jsonl")).expect("written");
        let of = |l: &str| serde_json::from_str::<serde_json::Value>(l).expect("JSON");
        let mut all: Vec<(u64, u64)> = text
            .lines()
            .map(of)
            .map(|r| (r["index"].as_u64().unwrap_or(0), r["intended_ns"].as_u64().unwrap_or(0)))
            .collect();
        all.sort_unstable();
        all
    };
    let first = times("7");
    assert_eq!(first.len(), 200);
    assert_eq!(first, times("7"));
    assert_ne!(first, times("8"));
}

#[test]
fn traces_mixes_and_files_of_prompts_are_driven() {
    let server = server(Options::default());
    let files = tempfile::tempdir().expect("a folder");
    let trace = files.path().join("trace.csv");
    let rows: String =
        (0..40).map(|i| format!("2023-11-16 18:17:{:02}.5,{},{}\n", i % 60, 10 + i, 1 + i % 5)).collect();
    std::fs::write(&trace, format!("TIMESTAMP,ContextTokens,GeneratedTokens\n{rows}")).expect("written");
    let prompts = files.path().join("prompts.jsonl");
    std::fs::write(&prompts, "{\"prompt\": \"a b c\", \"max_tokens\": 3}\n{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}\n")
        .expect("written");
    let (trace, prompts) = (trace.display().to_string(), prompts.display().to_string());
    for (args, part) in [
        (
            vec!["--trace", trace.as_str(), "--rate", "200"],
            "trace of 40 requests, stretched to 200/s; lengths of the trace",
        ),
        (vec!["--concurrency", "2", "--requests", "20", "--mix", "short=1"], "mix short=1"),
        (
            vec![
                "--concurrency",
                "2",
                "--requests",
                "20",
                "--prompts",
                prompts.as_str(),
                "--output-tokens",
                "4",
            ],
            "2 prompts of a file",
        ),
        (
            vec!["--concurrency", "2", "--requests", "20", "--prefix", "2:16:1", "--prompt-tokens", "32"],
            "prefixes 2:16:1",
        ),
        (vec!["--rate", "300", "--profile", "on-off(50ms,50ms)", "--duration", "300ms"], "on-off(50ms,50ms)"),
    ] {
        let out = tempfile::tempdir().expect("a folder");
        let (code, said, err) = load(&server.url(), out.path(), &[&args[..], &["--completions"]].concat());
        // Prompts in chats cannot be asked for as completions without a word; here they can.
        assert_eq!(code, 0, "{args:?}: {said}{err}");
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}

#[test]
fn failed_requests_are_counted_by_kind_and_end_in_code_1() {
    let faults = vec![
        Fault::Status { code: 429, every: 5, retry_after: None },
        Fault::CloseEarly { every: 7, after_tokens: 2 },
    ];
    let server = server(Options { faults, ..Options::default() });
    let out = tempfile::tempdir().expect("a folder");
    let args = [
        "--concurrency",
        "3",
        "--requests",
        "70",
        "--vocabulary",
        "words",
        "--whole",
        "--output-tokens",
        "5",
    ];
    let (code, said, err) = load(&server.url(), out.path(), &args);
    assert_eq!(code, 1, "{said}{err}");
    assert!(said.contains("status") && said.contains("closed-early"), "{said}");
}

#[test]
fn wrong_options_say_what_would_be_right() {
    let server = server(Options::default());
    let out = tempfile::tempdir().expect("a folder");
    for (args, part) in [
        (vec![], "--concurrency, --rate or --trace"),
        (vec!["--concurrency", "0"], "whole numbers above 0"),
        (vec!["--concurrency", "2", "--rate", "3"], "a load is closed or open"),
        (vec!["--rate", "3", "--think", "1s"], "only users of a closed loop think"),
        (vec!["--rate", "0"], "rate"),
        (vec!["--rate", "3", "--arrivals", "normal"], "poisson, constant, gamma(CV)"),
        (vec!["--rate", "3", "--profile", "ramp(1)"], "ramp(FROM,TO,TIME)"),
        (vec!["--rate", "3", "--duration", "5"], "250ms, 1.5s"),
        (vec!["--concurrency", "1", "--prompt-tokens", "many"], "--prompt-tokens `many`"),
        (vec!["--concurrency", "1", "--mix", "tiny=1"], "short=2,medium=1,long=1"),
        (vec!["--concurrency", "1", "--prefix", "1:2"], "COUNT:TOKENS:SHARE"),
        (vec!["--concurrency", "1", "--slo", "ttfb=1s"], "ttft, tpot and e2e"),
        (vec!["--concurrency", "1", "--preset", "vlm"], "vllm"),
        (vec!["--concurrency", "1", "--vocabulary", "klingon"], "words and plain"),
        (vec!["--concurrency", "1", "--body", "temperature"], "KEY=JSON"),
        (vec!["--concurrency", "1", "--trace", "/no/such/file"], "read --trace /no/such/file"),
        (
            vec!["--concurrency", "1", "--api-key-env", "COTENANT_NO_SUCH_KEY"],
            "COTENANT_NO_SUCH_KEY is not set",
        ),
    ] {
        let (code, said, err) = load(&server.url(), out.path(), &args);
        assert_eq!((code, said.as_str()), (3, ""), "{args:?}: {err}");
        assert!(err.contains(part), "{args:?}: {part} is not in\n{err}");
    }
    assert!(std::fs::read_dir(out.path()).expect("there").next().is_none(), "nothing is left behind");
}

#[test]
fn a_server_that_is_not_there_or_lacks_the_model_is_named() {
    let out = tempfile::tempdir().expect("a folder");
    let server = server(Options::default());
    let (code, _, err) = load(&server.url(), out.path(), &["--concurrency", "1", "--model", "gpt"]);
    assert_eq!(code, 4, "{err}");
    assert!(err.contains("simulated"), "it names what is served: {err}");
    for (url, part) in [
        ("ftp://127.0.0.1:1", "neither http nor https"),
        ("127.0.0.1:1", "http://"),
        ("http://me:secret@h", "environment"),
    ] {
        let (code, _, err) = load(url, out.path(), &["--concurrency", "1"]);
        assert_eq!(code, 3, "{url}: {err}");
        assert!(err.contains(part) && !err.contains("secret"), "{url}: {err}");
    }
}

/// A load that lasts for a minute where nobody ends it.
fn a_minute(server: &Handle, out: &Path) -> Command {
    let mut c = cotenant();
    c.args(["load", &server.url(), "--concurrency", "2", "--duration", "60s", "--vocabulary", "words"]);
    c.args(["--output-tokens", "3", "--out"]).arg(out);
    c
}

#[test]
fn an_interrupt_keeps_what_was_measured() {
    use std::process::Stdio;
    let server = server(paced());
    let out = tempfile::tempdir().expect("a folder");
    let child = a_minute(&server, out.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let pid = rustix::process::Pid::from_child(&child);
    std::thread::sleep(Duration::from_millis(1500));
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
    let done = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(130), "{said}{}", String::from_utf8_lossy(&done.stderr));
    assert!(said.contains("TTFT"), "{said}");
    let text = std::fs::read_to_string(only_folder(out.path()).join("requests.jsonl")).expect("written");
    assert!(text.lines().count() > 20);
}

#[test]
fn a_killed_load_leaves_whole_lines_that_can_be_reported() {
    use std::process::Stdio;
    let server = server(Options::default());
    let out = tempfile::tempdir().expect("a folder");
    let mut child =
        a_minute(&server, out.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    std::thread::sleep(Duration::from_millis(1500));
    child.kill().expect("killed");
    child.wait().expect("it ends");
    let again = cotenant().arg("report").arg(only_folder(out.path())).output().expect("it runs");
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
    assert!(String::from_utf8_lossy(&again.stdout).contains("TTFT"));
}
