//! Servers as tenants of experiments, on this host: what is recorded, what fails, and what is left behind.

use crate::room::{EXE, Room, json_lines};
use cotenant_token_server::{Options, Pace, spawn};
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How each experiment begins.
const HEAD: &str = "format = 1\nname = \"servers\"\ntitle = \"Servers\"\nsummary = \"x\"\n[measure]\nrepeats = [2, 2]\ntraced = 0\n";

/// An experiment of one trial with these tenants.
fn experiment(tenants: &[(&str, &str)]) -> String {
    let mut text = String::from(HEAD);
    for (name, lines) in tenants {
        text.push_str(&format!("[tenants.{name}]\n{lines}\n"));
    }
    let names: Vec<String> = tenants.iter().map(|t| format!("\"{}\"", t.0)).collect();
    text.push_str(&format!(
        "[[trial]]\nname = \"all\"\nsharing = \"processes\"\nprotocol = \"steady\"\ntenants = [{}]\n",
        names.join(", ")
    ));
    text
}

fn paced(model: &str, load: &str) -> String {
    format!(
        "server = {{ preset = \"token-server\", args = [\"--ttft\", \"20ms\", \"--itl\", \"4ms\", \"--model\", \"{model}\"], \
         start_together = true }}\nload = {load}"
    )
}

/// Processes whose command line has a word.
fn processes(word: &str) -> Vec<String> {
    let all = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    all.filter_map(|e| {
        let line = fs::read(e.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(word).then_some(line)
    })
    .collect()
}

#[track_caller]
fn none_left(word: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !processes(word).is_empty() {
        assert!(Instant::now() < deadline, "still there: {:?}", processes(word));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn run_folder(room: &Room) -> PathBuf {
    let mut all = fs::read_dir(room.path().join("runs")).expect("runs").map(|e| e.expect("entry").path());
    all.next().expect("a run")
}

#[test]
fn two_servers_are_driven_alone_and_together_and_every_request_is_kept() {
    let room = Room::new();
    let word = "two-servers-7c1";
    let closed = "{ concurrency = 4, requests = 16, warmup = 2, prompt_tokens = 32, output_tokens = 16 }";
    let open = "{ rate = 60, requests = 20, prompt_tokens = 32, output_tokens = \"uniform(8,24)\", slo = \"ttft=5s\" }";
    let text = experiment(&[("users", &paced(word, closed)), ("stream", &paced(word, open))]);
    room.file("servers.toml", &text);
    let ran = room.cotenant(&["run", "servers.toml", "--device", "host"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    for part in ["Servers", "4 users", "60.00/s", "TPOT p50", "slowdown"] {
        assert!(ran.out.contains(part), "{part} is not in\n{}", ran.out);
    }
    none_left(word);

    let folder = run_folder(&room);
    let requests = json_lines(&folder.join("requests.jsonl"));
    let of = |phase: &str, tenant: &str, repeat: u64| {
        let one = requests.iter().filter(move |r| {
            (r["phase"].as_str(), r["tenant"].as_str()) == (Some(phase), Some(tenant))
                && r["repeat"].as_u64().unwrap_or(0) == repeat
        });
        one.cloned().collect::<Vec<Value>>()
    };
    for repeat in 0..2 {
        assert_eq!(of("solo", "users", repeat).len(), 16);
        assert!(
            of("shared", "users", repeat).len() >= 16,
            "it goes on until the other has done its requests"
        );
        let (alone, shared) = (of("solo", "stream", repeat), of("shared", "stream", repeat));
        let facts = |all: &[Value]| {
            let mut v: Vec<_> = all
                .iter()
                .map(|r| (r["index"].as_u64(), r["intended_ns"].as_u64(), r["output_tokens"].as_u64()))
                .collect();
            v.sort_unstable();
            v
        };
        assert_eq!(facts(&alone), facts(&shared), "the same arrivals and lengths in all phases of a repeat");
    }
    assert_ne!(of("solo", "stream", 0)[3]["intended_ns"], of("solo", "stream", 1)[3]["intended_ns"]);

    let said = fs::read_to_string(folder.join("server-metrics.csv")).expect("what servers said");
    let mut rows = said.lines();
    assert_eq!(
        rows.next(),
        Some("trial,attempt,repeat,phase,tenant,t_s,running,waiting,kv_cache_pct,preemptions")
    );
    let rows: Vec<Vec<&str>> = rows.map(|r| r.split(',').collect()).collect();
    assert!(rows.iter().all(|r| r.len() == 10 && r[..2] == ["all", "1"]), "{said}");
    for (repeat, phase, tenant) in
        [("0", "solo", "users"), ("0", "shared", "users"), ("1", "shared", "stream")]
    {
        let of: Vec<_> = rows.iter().filter(|r| r[2..5] == [repeat, phase, tenant]).collect();
        let times: Vec<f64> = of.iter().map(|r| r[5].parse().expect("a time")).collect();
        // Just before the phase, just after it, and at most a quarter of a second apart in between.
        assert!(times.len() >= 2 && times.is_sorted(), "{times:?}");
        assert!(times[0].abs() < 0.2 && times[times.len() - 1] > 0.1, "{times:?}");
        assert!(of.iter().all(|r| r[6].parse::<f64>().is_ok_and(|n| n <= 4.0) || tenant == "stream"));
    }

    let table = fs::read_to_string(folder.join("metrics.csv")).expect("a table");
    let row = table.lines().find(|l| l.contains(",tpot_p50_ms,users,")).expect("a row for the metric");
    assert!(row.starts_with("servers,false,") && row.ends_with(",2,ms"), "{row}");
    let fields = table.lines().next().expect("a head").split(',').count();
    assert!(row.split(',').count() >= fields, "{row}");

    let summary: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("summary.json")).expect("summary"))
            .expect("JSON");
    let metric = |name: &str| summary["trials"][0]["metrics"][name]["value"].as_f64().unwrap_or(f64::NAN);
    // A busy test machine makes times longer, never shorter.
    for (name, least, most) in [
        ("tpot_p50_ms.users", 3.9, 8.0),
        ("solo_tpot_p50_ms.users", 3.9, 8.0),
        ("ttft_p50_ms.users", 19.0, 60.0),
        ("slo_pct.stream", 100.0, 100.0),
        ("failed_pct.stream", 0.0, 0.0),
        ("batch.users", 0.5, 4.0),
        ("tokens_per_s.users", 200.0, 4.0 * 16.0 / 0.080 + 1.0),
    ] {
        let v = metric(name);
        assert!(v >= least && v <= most, "{name} is {v}, not {least} to {most}");
    }
}

#[test]
fn a_server_that_ends_before_it_is_ready_fails_its_trial_with_its_last_words() {
    let room = Room::new();
    let lines = "server = { command = [\"sh\", \"-c\", \"echo no such model >&2; exit 3\"] }\nload = { concurrency = 1 }";
    let again = "[[trial]]\nname = \"again\"\nsharing = \"processes\"\ntenants = [\"broken\"]\n";
    room.file("servers.toml", &(experiment(&[("broken", lines)]) + again));
    let ran = room.cotenant(&["run", "servers.toml", "--device", "host"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    // It is not started for the second trial.
    for part in ["broken", "exit code 3", "no such model", "not tried again"] {
        assert!(ran.err.contains(part) || ran.out.contains(part), "{part} is not in\n{}{}", ran.out, ran.err);
    }
}

#[test]
fn a_server_that_never_gets_ready_is_given_up_and_ended() {
    let room = Room::new();
    let lines =
        "server = { command = [\"sleep\", \"1234.5\"], startup = \"500ms\" }\nload = { concurrency = 1 }";
    room.file("servers.toml", &experiment(&[("silent", lines)]));
    let ran = room.cotenant(&["run", "servers.toml", "--device", "host"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let said = format!("{}{}", ran.out, ran.err);
    assert!(said.contains("silent") && said.contains("its health check"), "{said}");
    none_left("sleep 1234.5");
}

#[test]
fn a_server_that_dies_under_load_fails_its_trial() {
    let room = Room::new();
    let exe = crate::room::EXE;
    let lines = format!(
        "server = {{ preset = \"token-server\", command = [\"timeout\", \"3\", \"{exe}\", \"token-server\", \"--port\", \"{{port}}\", \
         \"--ttft\", \"20ms\", \"--itl\", \"4ms\"] }}\nload = {{ concurrency = 2, requests = 100000, prompt_tokens = 20, output_tokens = 8 }}"
    );
    room.file("servers.toml", &experiment(&[("mortal", &lines)]));
    let ran = room.cotenant(&["run", "servers.toml", "--device", "host"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("mortal") && ran.err.contains("exit code 124"), "{}", ran.err);
    assert!(room.processes().is_empty(), "{:?}", room.processes());
}

#[test]
fn a_server_that_runs_out_of_gpu_memory_under_load_says_so() {
    let room = Room::new();
    let script = format!(
        "timeout 3 {EXE} token-server --port {{port}} --ttft 20ms --itl 4ms; \
         echo torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. >&2; exit 1"
    );
    let lines = format!(
        "server = {{ preset = \"token-server\", command = [\"sh\", \"-c\", \"{script}\"] }}\n\
         load = {{ concurrency = 2, requests = 100000, prompt_tokens = 20, output_tokens = 8 }}"
    );
    room.file("servers.toml", &experiment(&[("greedy", &lines)]));
    let ran = room.cotenant(&["run", "servers.toml", "--device", "host"]);
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    for part in
        ["greedy", "out of memory", "Tried to allocate 2.00 GiB", "lower the `memory_share`", "exit code 1"]
    {
        assert!(ran.err.contains(part), "`{part}` is not in\n{}", ran.err);
    }
    assert!(room.processes().is_empty(), "{:?}", room.processes());
}

#[test]
fn a_server_of_somebody_else_that_dies_under_load_fails_its_trial() {
    let pace = Pace::Fixed { ttft: Duration::from_millis(20), itl: Duration::from_millis(2) };
    let theirs = spawn(Options { pace, ..Options::default() }).expect("a token server");
    let room = Room::new();
    let lines = format!(
        "server = {{ preset = \"token-server\", url = \"{}\" }}\nload = {{ concurrency = 2, requests = 60, warmup = 0, \
         prompt_tokens = 20, output_tokens = 4 }}",
        theirs.url()
    );
    room.file("servers.toml", &experiment(&[("theirs", &lines)]));
    let mut child = room.start(&["run", "servers.toml", "--device", "host"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut asked = 0;
    while asked < 12 {
        asked += theirs.truth().len();
        assert!(Instant::now() < deadline, "it is not asked");
        std::thread::sleep(Duration::from_millis(5));
    }
    theirs.stop();
    let ended = child.wait().expect("reaped");
    let mut told = String::new();
    let _ = child.stderr.take().map(|mut e| e.read_to_string(&mut told));
    assert_eq!(ended.code(), Some(1), "{told}");
    // Requests did come back whole, so their failures alone would not have failed it.
    for part in ["theirs", "was up and is not any more", "of 60 requests failed", "connect"] {
        assert!(told.contains(part), "`{part}` is not in\n{told}");
    }
}

#[test]
fn a_server_of_somebody_else_is_asked_and_stays() {
    let pace = Pace::Fixed { ttft: Duration::from_millis(5), itl: Duration::from_millis(1) };
    let theirs = spawn(Options { pace, ..Options::default() }).expect("a token server");
    let room = Room::new();
    let lines = format!(
        "server = {{ preset = \"token-server\", url = \"{}\" }}\nload = {{ concurrency = 2, requests = 10, warmup = 0, \
         prompt_tokens = 20, output_tokens = 4 }}",
        theirs.url()
    );
    room.file("servers.toml", &experiment(&[("theirs", &lines)]));
    for _ in 0..2 {
        let ran = room.cotenant(&["run", "servers.toml", "--device", "host", "--quiet"]);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    }
    assert!(theirs.truth().len() >= 40, "both runs asked it");
}

#[test]
fn tenants_share_one_server_by_its_adapters() {
    let room = Room::new();
    let word = "one-server-of-two-5d2";
    let owner = format!(
        "server = {{ preset = \"token-server\", args = [\"--ttft\", \"10ms\", \"--itl\", \"2ms\", \"--model\", \"{word}\", \"--adapter\", \"red\"] }}\n\
         load = {{ concurrency = 2, requests = 8, prompt_tokens = 16, output_tokens = 8 }}"
    );
    let guest = "server = { of = \"base\" }\nload = { model = \"red\", concurrency = 2, requests = 8, prompt_tokens = 16, output_tokens = 8 }";
    room.file("servers.toml", &experiment(&[("red", guest), ("base", &owner)]));
    let ran = room.cotenant(&["run", "servers.toml", "--device", "host"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    none_left(word);
    let folder = run_folder(&room);
    let requests = json_lines(&folder.join("requests.jsonl"));
    let of = |phase: &str, tenant: &str| {
        let one = |r: &&Value| (r["phase"].as_str(), r["tenant"].as_str()) == (Some(phase), Some(tenant));
        requests.iter().filter(one).count()
    };
    assert!(of("shared", "red") >= 16 && of("shared", "base") >= 16 && of("solo", "red") == 16);
    let warnings = fs::read_to_string(folder.join("warnings.jsonl")).unwrap_or_default();
    assert!(!warnings.contains("time-sliced"), "one process alone has the GPU: {warnings}");

    for (server, part) in [
        ("{ of = \"nobody\" }", "which is no tenant"),
        ("{ of = \"base\", model = \"m\" }", "takes no `model`"),
    ] {
        let guest = format!("server = {server}\nload = {{ concurrency = 1 }}");
        room.file("wrong.toml", &experiment(&[("red", &guest), ("base", &owner)]));
        let ran = room.cotenant(&["run", "wrong.toml", "--device", "host"]);
        assert!(ran.code == 3 && ran.err.contains(part), "{} {}", ran.code, ran.err);
    }
}

#[test]
fn arrivals_that_are_not_what_was_asked_are_warned_of() {
    let room = Room::new();
    let word = "not-as-asked-9c3";
    let load = |arrivals: &str| {
        format!(
            "{{ rate = 100, arrivals = \"{arrivals}\", requests = 30, warmup = 0, prompt_tokens = 8, output_tokens = 2 }}"
        )
    };
    let tenants = [("bursts", paced(word, &load("weibull(3)"))), ("even", paced(word, &load("constant")))];
    let tenants: Vec<(&str, &str)> = tenants.iter().map(|(name, lines)| (*name, lines.as_str())).collect();
    // Of this seed the first repeat's bursts come at 20/s.
    let text = experiment(&tenants).replace("summary", "seed = 449\nsummary");
    room.file("servers.toml", &text);
    let ran = room.cotenant(&["run", "servers.toml", "--device", "host", "--quiet"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let warnings = json_lines(&run_folder(&room).join("warnings.jsonl"));
    let told: Vec<&Value> = warnings.iter().filter(|w| w["kind"] == "arrivals").collect();
    assert_eq!(told.len(), 1, "{warnings:?}");
    let message = told[0]["message"].as_str().unwrap_or_default();
    let begin =
        "the arrivals of bursts differ beyond chance from what was asked in 1 of 2 repeats: the rate is 20.1";
    assert!(message.starts_with(begin) && told[0]["trial"] == "all", "{message}");
}

#[test]
fn a_server_is_kept_from_trial_to_trial_or_started_anew() {
    let load = "{ concurrency = 2, requests = 4, warmup = 0, prompt_tokens = 20, output_tokens = 4 }";
    let kept = paced("kept-or-anew-8b2", load);
    let anew = kept.replace("start_together", "restart = true, start_together");
    let guest = format!("server = {{ of = \"llm\" }}\nload = {load}");
    for (server, same) in [(&kept, true), (&anew, false)] {
        let room = Room::new();
        let second = "[[trial]]\nname = \"again\"\nsharing = \"processes\"\nprotocol = \"steady\"\ntenants = [\"llm\", \"guest\"]\n";
        room.file("servers.toml", &(experiment(&[("llm", server), ("guest", &guest)]) + second));
        let ran = room.cotenant(&["run", "servers.toml", "--device", "host"]);
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        let outcomes = json_lines(&run_folder(&room).join("outcomes.jsonl"));
        let told =
            |key: &str| outcomes.iter().map(|o| o["facts"]["llm"][key].clone()).collect::<Vec<Value>>();
        for key in ["pid", "server_url"] {
            let [first, second] = &told(key)[..] else { panic!("{outcomes:?}") };
            assert!(!first.is_null() && (first == second) == same, "{key}: {first} and {second}");
        }
        none_left("kept-or-anew-8b2");
    }
    let room = Room::new();
    let theirs = format!("server = {{ url = \"http://127.0.0.1:1\", restart = true }}\nload = {load}");
    room.file("servers.toml", &experiment(&[("theirs", &theirs)]));
    let ran = room.cotenant(&["run", "servers.toml", "--device", "host"]);
    assert!(ran.code == 3 && ran.err.contains("`restart`"), "{} {}", ran.code, ran.err);
}

#[test]
fn a_run_that_is_killed_leaves_no_server() {
    let room = Room::new();
    let word = "killed-run-5e9";
    let load = "{ concurrency = 2, requests = 100000, prompt_tokens = 20, output_tokens = 64 }";
    room.file("servers.toml", &experiment(&[("a", &paced(word, load)), ("b", &paced(word, load))]));
    let mut child = room.start(&["run", "servers.toml", "--device", "host", "--quiet"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while processes(word).len() < 2 {
        assert!(Instant::now() < deadline, "the servers did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().expect("killed");
    child.wait().expect("reaped");
    none_left(word);
}

#[test]
fn a_run_goes_on_when_its_program_is_replaced() {
    let room = Room::new();
    let word = "replaced-2d4";
    let load = "{ concurrency = 2, requests = 4, prompt_tokens = 20, output_tokens = 8 }";
    room.file("servers.toml", &experiment(&[("a", &paced(word, load)), ("b", &paced(word, load))]));
    let copy = room.path().join("cotenant-of-yesterday");
    fs::copy(EXE, &copy).expect("copied");
    let mut child = room.start_program(&copy, &["run", "servers.toml", "--device", "host", "--quiet"]);
    // It runs from here on; all that it starts is started after this.
    fs::remove_file(&copy).expect("removed");
    let ended = child.wait().expect("reaped");
    let mut told = String::new();
    let _ = child.stderr.take().map(|mut e| e.read_to_string(&mut told));
    assert_eq!(ended.code(), Some(0), "{told}");
    none_left(word);
}

#[test]
fn what_is_wrong_with_a_server_or_a_load_is_told_before_anything_starts() {
    let room = Room::new();
    let server = "server = { preset = \"token-server\" }";
    for (lines, parts) in [
        ("server = { preset = \"vlm\", model = \"m\" }\nload = { concurrency = 1 }", &["`vlm`", "vllm"][..]),
        ("server = { preset = \"vllm\" }\nload = { concurrency = 1 }", &["no `model`"]),
        ("server = { presett = \"vllm\" }\nload = { concurrency = 1 }", &["unknown key `presett`", "preset"]),
        (&format!("{server}\nload = {{ users = 3 }}"), &["unknown key `users`"]),
        (server, &["does not say how much", "concurrency = 16"]),
        (&format!("{server}\nload = {{ concurrency = 2, rate = 3 }}"), &["closed", "open"]),
        (&format!("{server}\nload = {{ concurrency = 0 }}"), &["concurrency", "0"]),
        (&format!("{server}\nload = {{ rate = 3, arrivals = \"tidal\" }}"), &["tidal", "poisson"]),
        (&format!("{server}\nload = {{ rate = 3, slo = \"ttft=fast\" }}"), &["fast"]),
        (&format!("{server}\nload = {{ trace = \"/nowhere.csv\" }}"), &["/nowhere.csv"]),
        (&format!("{server}\nload = {{ concurrency = 1 }}\nbatch = 4"), &["server", "`batch`"]),
        (
            "server = { url = \"http://127.0.0.1:1\", memory_share = 0.5 }\nload = { concurrency = 1 }",
            &["someone else runs", "memory_share"],
        ),
    ] {
        room.file("servers.toml", &experiment(&[("one", lines)]));
        let ran = room.cotenant(&["run", "servers.toml", "--device", "host"]);
        assert_eq!(ran.code, 3, "{lines}\n{}{}", ran.out, ran.err);
        for part in parts {
            assert!(ran.err.contains(part), "{part} is not in\n{}", ran.err);
        }
        assert!(!room.path().join("runs").exists(), "nothing was made for {lines}");
    }
}

/// What stands in files is looked at too, since a server may need minutes until somebody reads them.
#[test]
fn files_of_loads_and_their_conflicts_are_looked_at_before_anything_starts() {
    let room = Room::new();
    let good = r#"{"prompt": "Why?", "max_tokens": 4}"#;
    room.file("bad.jsonl", &format!("{good}\n{{\"prompt\": 7}}\n"));
    room.file("empty.jsonl", "");
    room.file("good.jsonl", good);
    room.file("bad.csv", "t_s,prompt_tokens,output_tokens\n0,8,8\nsoon,8,8\n");
    room.file("bad.json", "{\"model\": 1}");
    // It would tell if it were started.
    let server =
        "server = { preset = \"token-server\", command = [\"sh\", \"-c\", \"touch started; exit 3\"] }";
    for (load, parts) in [
        ("concurrency = 1, prompts = \"bad.jsonl\"", &["load.prompts `bad.jsonl`", "line 2", "`prompt`"][..]),
        ("concurrency = 1, prompts = \"empty.jsonl\"", &["load.prompts `empty.jsonl`", "no prompts"]),
        ("concurrency = 1, prompts = \"absent.jsonl\"", &["load.prompts", "absent.jsonl"]),
        (
            "concurrency = 1, prompts = \"good.jsonl\", prompt_tokens = 8",
            &["load.prompts", "load.prompt_tokens"],
        ),
        ("trace = \"bad.csv\"", &["load.trace `bad.csv`", "line 3", "soon"]),
        ("concurrency = 1, tokenizer = \"absent.json\"", &["load.tokenizer", "absent.json"]),
        ("concurrency = 1, tokenizer = \"bad.json\"", &["load.tokenizer `bad.json`"]),
        ("concurrency = 1, mix = \"short=1\", prompt_tokens = 64", &["load.mix", "load.prompt_tokens"]),
        ("concurrency = 1, turns = 3, mix = \"short=1\"", &["load.turns", "load.mix"]),
    ] {
        room.file("servers.toml", &experiment(&[("asker", &format!("{server}\nload = {{ {load} }}"))]));
        let ran = room.cotenant(&["run", "servers.toml", "--device", "host"]);
        assert_eq!(ran.code, 3, "{load}\n{}{}", ran.out, ran.err);
        for part in ["trial all, tenant asker"].iter().chain(parts) {
            assert!(ran.err.contains(part), "`{part}` is not in\n{}", ran.err);
        }
        assert!(!room.path().join("runs").exists() && !room.path().join("started").exists(), "{load}");
    }
}

/// Two servers, by sharing mode, on the simulated GPU.
fn simulated(server: &str) -> String {
    let mut text = String::from(HEAD);
    text.push_str(&format!(
        "[tenants.llm]\nserver = {server}\nload = {{ concurrency = 4, requests = 8, warmup = 2, prompt_tokens = 64, output_tokens = 32 }}\n"
    ));
    for (name, sharing) in [
        ("turns", "\"processes\""),
        ("mps", "\"mps\""),
        ("quarter", "{ mode = \"mps\", percentage = [25, 25] }"),
    ] {
        text.push_str(&format!(
            "[[trial]]\nname = \"{name}\"\nsharing = {sharing}\nprotocol = \"steady\"\ntenants = [{{ use = \"llm\", copies = 2 }}]\n"
        ));
    }
    text
}

#[test]
fn servers_share_the_simulated_gpu() {
    let room = Room::new();
    let word = "simulated-servers-3f9";
    let server = format!(
        "{{ preset = \"vllm\", model = \"somewhere/llama-3.2-3b\", served_name = \"{word}\", memory_share = 0.3, max_model_len = 512 }}"
    );
    room.file("servers.toml", &simulated(&server));
    let ran = room.cotenant(&["run", "servers.toml", "--device", "sim:h100-sxm5-80gb"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("SIMULATED"), "{}", ran.out);
    none_left(word);
    let summary = fs::read_to_string(run_folder(&room).join("summary.json")).expect("summary");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    let metric = |trial: usize, name: &str| {
        summary["trials"][trial]["metrics"][name]["value"].as_f64().unwrap_or(f64::NAN)
    };
    // A busy test machine makes times longer, alone and together.
    for (trial, name, least, most) in [
        (0, "solo_tpot_p50_ms.llm-1", 3.2, 4.5),
        (0, "slowdown_tpot.llm-1", 1.8, 2.5),
        (1, "solo_tpot_p50_ms.llm-1", 3.4, 4.8),
        (1, "slowdown_tpot.llm-1", 1.4, 1.9),
        (2, "solo_tpot_p50_ms.llm-1", 4.4, 6.5), // on an H100 4.41
    ] {
        let v = metric(trial, name);
        assert!(v >= least && v <= most, "trial {trial}: {name} is {v}, not {least} to {most}");
    }
    let [free, limited] = [1, 2].map(|t| metric(t, "solo_tpot_p50_ms.llm-1"));
    assert!(limited > 1.08 * free, "a quarter of the SMs is slower: {limited} and {free}");
}

/// From the run through the process that drives a server to the server itself: a limit that is lost on the way makes every
/// number of an emulation wrong, and nothing else shows it.
#[test]
fn the_limit_of_an_mps_client_reaches_its_server() {
    let room = Room::new();
    let script = format!(
        "echo limit=$CUDA_MPS_ACTIVE_THREAD_PERCENTAGE >&2; exec {} token-server --port {{port}}",
        env!("CARGO_BIN_EXE_cotenant")
    );
    let server = format!("{{ preset = \"token-server\", command = [\"sh\", \"-c\", \"{script}\"] }}");
    room.file("servers.toml", &simulated(&server));
    let args = ["run", "servers.toml", "--device", "sim:h100-sxm5-80gb"];
    let of = |trial: &str| {
        let ran = room.cotenant(&[&args[..], &["--only", trial, "--out", trial]].concat());
        assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
        let mut runs = fs::read_dir(room.path().join(trial)).expect("a folder");
        let logs = runs.next().expect("a run").expect("entry").path().join("logs");
        let all = fs::read_dir(logs).expect("logs").map(|f| f.expect("entry").path());
        all.filter_map(|f| {
            fs::read_to_string(f).ok()?.lines().find(|l| l.starts_with("limit=")).map(String::from)
        })
        .collect::<Vec<String>>()
    };
    assert_eq!(of("quarter"), ["limit=25", "limit=25"]);
    assert_eq!(of("mps"), ["limit=", "limit="]);
}

#[test]
fn what_the_simulated_gpu_cannot_serve_is_told() {
    let told = |server: &str, code: i32, parts: &[&str]| {
        let room = Room::new();
        room.file("servers.toml", &simulated(server));
        let ran = room.cotenant(&["run", "servers.toml", "--device", "sim:h100-sxm5-80gb"]);
        let kept = fs::read_to_string(run_folder(&room).join("outcomes.jsonl")).unwrap_or_default();
        let all = format!("{}{}{kept}", ran.out, ran.err);
        assert_eq!(ran.code, code, "{all}");
        for part in parts {
            assert!(all.contains(part), "`{part}` is not in\n{all}");
        }
    };
    let vllm = |more: &str| format!("{{ preset = \"vllm\", max_model_len = 512, {more} }}");
    told(
        &vllm("model = \"gpt-9\", memory_share = 0.3"),
        6,
        &["skipped", "no model `gpt-9`", "cotenant models"],
    );
    told(&vllm("model = \"bert\", memory_share = 0.3"), 6, &["bert is no decoder"]);
    told(&vllm("model = \"llama-3.2-3b\", memory_share = 0.6"), 1, &["share the GPU's memory", "1.20"]);
    told(
        &vllm("model = \"llama-3.1-8b\", memory_share = 0.2"),
        1,
        &["no room for a KV cache", "server.memory_share"],
    );
}
