//! `cotenant load`: a load on a server that someone else runs.

use crate::cli::LoadArgs;
use crate::exit::{Code, Failure};
use cotenant_lab::backend::TrialError;
use cotenant_lab::provenance::{gather, rfc3339};
use cotenant_lab::serving::{Check, LoadOptions, VocabularyChoice, drive, parse_slo, parse_time, self_test};
use cotenant_report::serving::{render_load, summarize_stored};
use cotenant_servers::{External, Preset, ServerError};
use cotenant_store::LoadFolder;
use cotenant_store::format::FORMAT;
use cotenant_store::serving::{ClientOutcome, LoadManifest, LoadSummary};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// How long a server may take to say that it is there.
const THERE: Duration = Duration::from_secs(10);
/// How long it may take to answer its first request.
const FIRST: Duration = Duration::from_secs(120);

fn bad(e: impl std::fmt::Display) -> Failure {
    Failure::new(Code::BadInput, e.to_string())
}

/// Text of a file that an option names.
fn text(option: &str, path: &Option<std::path::PathBuf>) -> Result<Option<String>, Failure> {
    let read = |p: &std::path::PathBuf| {
        std::fs::read_to_string(p).map_err(|e| bad(format_args!("read {option} {}: {e}", p.display())))
    };
    path.as_ref().map(read).transpose()
}

fn options(a: &LoadArgs) -> Result<LoadOptions, Failure> {
    let time =
        |option, t: &Option<String>| t.as_deref().map(|t| parse_time(option, t)).transpose().map_err(bad);
    let mut body = serde_json::Map::new();
    for pair in &a.body {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            bad(format_args!("use --body `{pair}`: it should be KEY=JSON, such as temperature=0.7"))
        })?;
        // What is no JSON is a string, so that quotes need not be quoted.
        let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
        body.insert(key.to_owned(), value);
    }
    let vocabulary = match (&a.tokenizer, a.vocabulary.as_deref()) {
        (Some(_), Some(_)) => {
            return Err(bad("combine --tokenizer with --vocabulary: one of them makes the words"));
        }
        (Some(_), None) => {
            VocabularyChoice::Tokenizer(text("--tokenizer", &a.tokenizer)?.unwrap_or_default())
        }
        (None, None) => VocabularyChoice::Auto,
        (None, Some("words")) => VocabularyChoice::Words,
        (None, Some("plain")) => VocabularyChoice::Plain,
        (None, Some(other)) => {
            return Err(bad(format_args!("use --vocabulary `{other}`: there are words and plain")));
        }
    };
    Ok(LoadOptions {
        completions: a.completions,
        whole_answers: a.no_stream,
        may_end: a.may_end,
        concurrency: a.concurrency,
        think_ns: time("--think", &a.think)?.unwrap_or(0),
        rate: a.rate,
        arrivals: a.arrivals.clone(),
        profile: a.profile.clone(),
        trace: text("--trace", &a.trace)?,
        trace_part: a.trace_part.clone(),
        requests: a.requests,
        duration_ns: time("--duration", &a.duration)?,
        prompt_tokens: a.prompt_tokens.clone(),
        output_tokens: a.output_tokens.clone(),
        mix: a.mix.clone(),
        prefix: a.prefix.clone(),
        prompts: text("--prompts", &a.prompts)?,
        vocabulary,
        body,
        seed: a.seed,
        texts_seed: None,
        in_flight: a.max_in_flight,
        timeout_ns: time("--timeout", &Some(a.timeout.clone()))?.unwrap_or(u64::MAX),
        chunks: a.chunks,
    })
}

/// Whether the server is our token server, whatever preset was given: it names itself in its list of models.
fn tells_simulated(server: &External) -> bool {
    let endpoint = server.endpoint();
    let list = endpoint.dialect().models_path.and_then(|p| endpoint.get(p, FIRST, &|| false).ok());
    endpoint.preset == Preset::TokenServer || list.is_some_and(|l| l.text().contains("(simulated)"))
}

/// Drives a load and summarises it.
pub fn load(a: LoadArgs) -> Result<Code, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
    let stop = || interrupted.load(Ordering::Relaxed);

    if a.self_test {
        return check_self(a.json, &stop);
    }
    let address = a.url.clone().unwrap_or_default();
    let options = options(&a)?;
    let slo = a.slo.as_deref().map(parse_slo).transpose().map_err(bad)?;
    let preset: Preset = a.preset.parse().map_err(bad)?;
    let key = super::key_of(a.api_key_env.as_deref())?;
    let server = External::new("server", preset, &address, a.model.clone(), key).map_err(bad)?;
    let unreachable = |e: ServerError| match e {
        ServerError::Interrupted { .. } => Failure::new(Code::Interrupted, "reach the server: interrupted"),
        e => Failure::new(Code::NoDevice, e.to_string()),
    };
    let ready = server.wait_ready(THERE, FIRST, &stop).map_err(unreachable)?;
    let model = a
        .model
        .clone()
        .or_else(|| ready.served.first().cloned())
        .ok_or_else(|| bad("know the model: the server lists none; give --model NAME"))?;
    let provenance = gather(a.seed, super::run::GIT_REVISION);
    let mut planned = options.plan(server.endpoint(), &model, provenance).map_err(bad)?;
    let m = &mut planned.manifest;
    m.server_version = ready.version;
    m.simulated = tells_simulated(&server);
    (m.warmup, m.steady, m.slo) = (a.warmup, !a.whole, slo);

    let stamp: String = rfc3339(SystemTime::now()).chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let folder = LoadFolder::create(&a.out, &stamp, &planned.manifest)?;
    let driven = drive(vec![planned.load], u64::MAX, folder.requests()?, &stop).map_err(|e| match e {
        TrialError::Interrupted => Failure::new(Code::Interrupted, e.to_string()),
        e => Failure::new(Code::TrialsFailed, e.to_string()),
    })?;
    let o = driven.outcome;
    let client = ClientOutcome {
        format: FORMAT,
        wall_ns: o.wall_ns,
        cpu_ns: driven.cpu_ns,
        busiest: o.busiest,
        peak_in_flight: o.peak_in_flight,
        interrupted: o.interrupted,
        start_ns: driven.start_ns,
    };
    folder.finish(&client, driven.gaps.first())?;
    let (manifest, summary) = summarize_folder(folder.path())?;
    show(folder.path(), &manifest, &summary, a.json)?;
    Ok(match (o.interrupted, summary.failed.is_empty()) {
        (true, _) => Code::Interrupted,
        (false, false) => Code::TrialsFailed,
        (false, true) => Code::Ok,
    })
}

/// The generator beside a server that knows the truth.
fn check_self(json: bool, stop: &dyn Fn() -> bool) -> Result<Code, Failure> {
    let checks = self_test(stop).map_err(|e| match e {
        TrialError::Interrupted => Failure::new(Code::Interrupted, "test itself: interrupted"),
        e => Failure::new(Code::TrialsFailed, format!("test itself: {e}")),
    })?;
    let well = checks.iter().all(|c| c.ok);
    if json {
        super::print_json(&checks)?;
    } else {
        super::print_text(&render_checks(&checks));
    }
    Ok(if well { Code::Ok } else { Code::TrialsFailed })
}

fn render_checks(checks: &[Check]) -> String {
    let mut out =
        String::from("The load generator beside a server that knows what it did (SIMULATED tokens)\n");
    let mut scenario = "";
    for c in checks {
        if c.scenario != scenario {
            scenario = c.scenario;
            out.push_str(&format!("{scenario}\n"));
        }
        let verdict = if c.ok { "ok " } else { "OFF" };
        out.push_str(&format!(
            "  {verdict} {:<55} {:>10.3}, truth {:>10.3} ± {} {}\n",
            c.what, c.ours, c.truth, c.within, c.unit
        ));
    }
    out
}

/// Summary of a stored load, written beside it.
pub fn summarize_folder(path: &Path) -> Result<(LoadManifest, LoadSummary), Failure> {
    let stored = LoadFolder::load(path)?;
    let summary = summarize_stored(&stored);
    LoadFolder::write_summary(path, &summary)?;
    Ok((stored.manifest, summary))
}

/// Prints a load.
pub fn show(path: &Path, m: &LoadManifest, s: &LoadSummary, json: bool) -> Result<(), Failure> {
    if json {
        return super::print_json(s).map(drop);
    }
    let simulated = if m.simulated { " · SIMULATED" } else { "" };
    let mut head = format!("{} on {}{simulated}\n{}; {}\n", m.model, m.url, m.arrivals, m.asks);
    for d in &m.departures {
        head.push_str(&format!("arrivals are not what was asked for: {d}\n"));
    }
    super::print_text(&format!("{head}{}\nrequests: {}", render_load(s), path.display()));
    Ok(())
}
