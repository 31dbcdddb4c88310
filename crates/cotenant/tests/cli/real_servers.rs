//! Servers that we did not write, on a CPU with a tiny random model: started, driven and ended as in an experiment.
//!
//! `scripts/real-servers.sh` installs them, makes the model and runs these tests.

use crate::room::{Ran, Room, json_lines};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Imports of gigabytes of Python, on two cores.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where the script has put the servers and what they serve.
fn place() -> PathBuf {
    let folder = std::env::var_os("COTENANT_REAL_SERVERS").expect("run scripts/real-servers.sh");
    PathBuf::from(folder)
}

/// What makes them small, quiet and offline.
fn environment() -> Vec<(&'static str, String)> {
    let bin = place().join("venv/bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let fixed = [
        ("HF_HUB_OFFLINE", "1"),
        ("TRANSFORMERS_OFFLINE", "1"),
        ("VLLM_CPU_KVCACHE_SPACE", "1"),
        ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
        ("OMP_NUM_THREADS", "1"),
        ("VLLM_NO_USAGE_STATS", "1"),
        ("DO_NOT_TRACK", "1"),
    ];
    let mut all: Vec<_> = fixed.map(|(k, v)| (k, v.to_owned())).to_vec();
    all.push(("HF_HUB_CACHE", place().join("hub").display().to_string()));
    all.push(("PATH", path));
    all
}

fn cotenant(room: &Room, args: &[&str]) -> Ran {
    let mut c = room.command(args);
    c.timeout(PATIENCE).envs(environment());
    Room::ran(c)
}

fn tiny() -> String {
    place().join("models/tiny").display().to_string()
}

fn adapter(name: &str) -> String {
    place().join("models/adapters").join(name).display().to_string()
}

/// Runs an experiment on this host to its end; its requests and its metrics.
fn experiment(room: &Room, text: &str) -> (Vec<Value>, Value) {
    room.file("servers.toml", text);
    let ran = cotenant(room, &["run", "servers.toml", "--device", "host"]).exits(0);
    let folder = room.path().join(ran.run_folder());
    let summary = fs::read_to_string(folder.join("summary.json")).expect("a summary");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    (json_lines(&folder.join("requests.jsonl")), summary["trials"][0]["metrics"].clone())
}

/// All came back whole, with so many tokens each; prompts have what was asked for: always, or where plain words were sent, whose
/// tokens differ, on average.
#[track_caller]
fn all_asked_for(requests: &[Value], output_tokens: u64, prompt_tokens: u64, plain: bool) {
    let mut sum = 0.0;
    for r in requests {
        assert_eq!((r["status"].as_u64(), &r["failure"]), (Some(200), &Value::Null), "{r}");
        assert_eq!(r["output_tokens"].as_u64(), Some(output_tokens), "{r}");
        let prompt = r["prompt_tokens"].as_u64().unwrap_or(0);
        assert!(plain || prompt == prompt_tokens, "{r}");
        sum += prompt as f64;
    }
    let mean = sum / requests.len() as f64 / prompt_tokens as f64;
    assert!((0.88..1.12).contains(&mean), "prompts have {mean:.2} times the tokens");
}

/// Everything that was started here has ended.
#[track_caller]
fn none_left(room: &Room) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !room.processes().is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", room.processes());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs real servers: scripts/real-servers.sh"]
fn two_vllm_servers_and_an_adapter_are_tenants() {
    let room = Room::new();
    let (model, a) = (tiny(), adapter("a"));
    let server = |more: &str| {
        format!(
            "server = {{ preset = \"vllm\", model = \"{model}\", served_name = \"tiny\", dtype = \"float32\", max_model_len = 2048, \
             start_together = true, args = [\"--enforce-eager\", \"--max-num-seqs\", \"64\"]{more} }}\n"
        )
    };
    let load = |more: &str| {
        format!(
            "load = {{ concurrency = 2, requests = 8, warmup = 2, prompt_tokens = 48, output_tokens = 12{more} }}\n"
        )
    };
    let text = format!(
        "format = 1\nname = \"real\"\ntitle = \"Real\"\nsummary = \"x\"\n[measure]\nrepeats = [2, 2]\ntraced = 0\n\
         [tenants.base]\n{}{}[tenants.adapted]\nserver = {{ of = \"base\" }}\n{}[tenants.other]\n{}{}\
         [[trial]]\nname = \"all\"\nsharing = \"processes\"\nprotocol = \"steady\"\ntenants = [\"base\", \"adapted\", \"other\"]\n",
        server(&format!(", adapters = {{ a = \"{a}\" }}")),
        load(""),
        load(", model = \"a\""),
        server(""),
        load(", completions = true"),
    );
    let (requests, metrics) = experiment(&room, &text);
    none_left(&room);

    all_asked_for(&requests, 12, 48, true);
    for tenant in ["base", "adapted", "other"] {
        let of =
            |phase: &str| requests.iter().filter(|r| r["tenant"] == *tenant && r["phase"] == *phase).count();
        assert!(of("solo") == 16 && of("shared") >= 16, "{tenant}: {} and {}", of("solo"), of("shared"));
        let value = |name: &str| metrics[format!("{name}.{tenant}")]["value"].as_f64().unwrap_or(f64::NAN);
        assert!(value("slowdown") > 1.05, "three on two cores slow each other: {}", value("slowdown"));
        let (ttft, tpot) = (value("ttft_p50_ms"), value("tpot_p50_ms"));
        assert!(ttft > 0.0 && tpot > 0.0 && value("p50_ms") > ttft, "{ttft}, {tpot}");
        // From the server's own metrics.
        assert!((0.5..=4.0).contains(&value("batch")), "{}", value("batch"));
        assert!((0.0..=20.0).contains(&value("kv_pct")), "{}", value("kv_pct"));
    }
}

/// A server that a test has started by itself, in a process group of its own.
struct Own(Child);

impl Own {
    fn kill(&self) {
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.kill();
        let _ = self.0.wait();
    }
}

fn vllm(room: &Room, port: u16) -> Own {
    use std::os::unix::process::CommandExt;
    let log = fs::File::create(room.path().join("vllm.log")).expect("a log");
    let mut c = Command::new(place().join("venv/bin/vllm"));
    c.args([
        "serve",
        &tiny(),
        "--host",
        "127.0.0.1",
        "--port",
        &port.to_string(),
        "--served-model-name",
        "tiny",
    ])
    .args(["--max-model-len", "512", "--dtype", "float32", "--enforce-eager", "--max-num-seqs", "64"])
    .args(["--enable-lora", "--max-loras", "2", "--lora-modules"])
    .args([format!("a={}", adapter("a")), format!("b={}", adapter("b"))])
    .envs(environment())
    .stdin(Stdio::null())
    .stdout(log.try_clone().expect("a log"))
    .stderr(log)
    .process_group(0);
    Own(c.spawn().expect("vllm starts"))
}

#[test]
#[ignore = "needs real servers: scripts/real-servers.sh"]
fn a_vllm_server_of_others_is_asked_in_every_way() {
    let room = Room::new();
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let server = vllm(&room, port);
    let url = format!("http://127.0.0.1:{port}");
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        let log = || fs::read_to_string(room.path().join("vllm.log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "it does not come up:\n{}", log());
        std::thread::sleep(Duration::from_millis(100));
    }
    let tokenizer = place().join("models/tiny/tokenizer.json").display().to_string();
    let load = |more: &[&str]| {
        let common = ["load", &url, "--preset", "vllm", "--concurrency", "4", "--output-tokens", "10"];
        cotenant(&room, &[&common[..], more].concat())
    };
    let folder = |ran: &Ran| {
        let line = ran.out.lines().find_map(|l| l.strip_prefix("requests: ")).expect("its folder is named");
        room.path().join(line)
    };
    let few = ["--requests", "20", "--prompt-tokens", "40"];

    // A real tokenizer gives exact lengths: 40 and the sixteen tokens of the template.
    for (more, prompt) in [
        (vec!["--tokenizer", &tokenizer], 56),
        (vec!["--tokenizer", &tokenizer, "--completions"], 40),
        (vec!["--tokenizer", &tokenizer, "--no-stream"], 56),
        (vec!["--tokenizer", &tokenizer, "--model", "b"], 56),
        (vec![], 40),
    ] {
        let ran = load(&[&few[..], &more].concat()).exits(0);
        let requests = json_lines(&folder(&ran).join("requests.jsonl"));
        assert_eq!(requests.len(), 20);
        all_asked_for(&requests, 10, prompt, more.is_empty());
    }

    let ran = load(&[&few[..], &["--model", "nope"]].concat());
    assert!(ran.code != 0 && ran.err.contains("it serves `tiny`, `a`, `b`"), "{}", ran.err);

    // Longer than the model allows: refused, counted, and said.
    let ran = load(&["--requests", "5", "--prompt-tokens", "600", "--tokenizer", &tokenizer]).exits(1);
    let refused = json_lines(&folder(&ran).join("requests.jsonl"));
    assert!(refused.len() == 5 && refused.iter().all(|r| r["status"] == 400), "{refused:?}");
    assert!(ran.out.contains("status"), "{}", ran.out);

    // It dies under the load: what came stays, what did not is counted.
    let dying = std::thread::scope(|s| {
        let killed = s.spawn(|| {
            std::thread::sleep(Duration::from_secs(4));
            server.kill();
        });
        let ran = load(&["--duration", "8s", "--prompt-tokens", "40"]);
        killed.join().expect("the one who kills");
        ran
    })
    .exits(1);
    let requests = json_lines(&folder(&dying).join("requests.jsonl"));
    let ok = requests.iter().filter(|r| r["failure"].is_null()).count();
    assert!(ok > 10 && ok < requests.len(), "{ok} of {}", requests.len());
}

#[test]
#[ignore = "needs real servers: scripts/real-servers.sh"]
fn transformers_serve_with_its_own_ways_is_a_tenant() {
    let room = Room::new();
    let text = format!(
        "format = 1\nname = \"real\"\ntitle = \"Real\"\nsummary = \"x\"\n[measure]\nrepeats = [2, 2]\ntraced = 0\n\
         [tenants.chat]\n\
         server = {{ preset = \"transformers-serve\", model = \"{}\", dtype = \"float32\", \
         args = [\"--device\", \"cpu\", \"--cb-num-blocks\", \"256\", \"--cb-block-size\", \"32\"] }}\n\
         load = {{ rate = 4, requests = 12, prompt_tokens = 48, output_tokens = 12, slo = \"ttft=20s\" }}\n\
         [[trial]]\nname = \"alone\"\nsharing = \"solo\"\ntenants = [\"chat\"]\n",
        tiny()
    );
    let (requests, metrics) = experiment(&room, &text);
    none_left(&room);
    assert_eq!(requests.len(), 24);
    // No `[DONE]`, an early chunk with a role, usage in the chunk with the reason of the end.
    all_asked_for(&requests, 12, 48, true);
    for r in &requests {
        assert_eq!(r["finish"], "length", "{r}");
        let (first, content) = (r["first_chunk_ns"].as_u64(), r["first_content_ns"].as_u64());
        assert!(first < content && content < r["last_content_ns"].as_u64(), "{r}");
    }
    assert_eq!(metrics["slo_pct.chat"]["value"].as_f64(), Some(100.0));
}
