//! `cotenant load`: a load on a server that someone else runs.

use crate::cli::LoadArgs;
use crate::exit::{Code, Failure};
use cotenant_lab::backend::TrialError;
use cotenant_lab::provenance::{gather, rfc3339, sha256};
use cotenant_lab::serving::{
    Check, Levels, LoadOptions, LoadSource, VocabularyChoice, drive, parse_levels, parse_slo, parse_time,
    search, self_test, verdict,
};
use cotenant_load::stream_seed;
use cotenant_report::serving::{
    LoadSide, derive_load, load_csv, render_load, render_series, series_csv, series_figures, served_by,
    summarize_series, summarize_stored,
};
use cotenant_servers::{External, Preset, ServerError};
use cotenant_store::format::FORMAT;
use cotenant_store::serving::{
    ClientOutcome, Level, LevelOf, LoadFile, LoadManifest, LoadSummary, SearchRecord, SeriesManifest,
    SeriesSummary, Slo,
};
use cotenant_store::{LoadFolder, SeriesFolder, write_derived};
use std::path::{Path, PathBuf};
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
        concurrency: None,
        think_ns: time("--think", &a.think)?.unwrap_or(0),
        rate: None,
        arrivals: a.arrivals.clone(),
        profile: a.profile.clone(),
        trace: text("--trace", &a.trace)?,
        trace_part: a.trace_part.clone(),
        exact_rate: a.exact_rate,
        turns: a.turns.clone(),
        turn_think: a.turn_think.clone(),
        models: a.models.clone(),
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

/// The files that a load is made of.
fn files(a: &LoadArgs, o: &LoadOptions) -> Vec<LoadFile> {
    let tokenizer = match &o.vocabulary {
        VocabularyChoice::Tokenizer(json) => Some(json),
        _ => None,
    };
    let all = [
        ("--trace", &a.trace, o.trace.as_ref()),
        ("--prompts", &a.prompts, o.prompts.as_ref()),
        ("--tokenizer", &a.tokenizer, tokenizer),
    ];
    let file = |(option, path, text): (&str, &Option<PathBuf>, Option<&String>)| {
        let name = path.as_ref()?.file_name()?.to_string_lossy().into_owned();
        Some(LoadFile { option: option.to_owned(), name, sha256: sha256(text?.as_bytes()) })
    };
    all.into_iter().filter_map(file).collect()
}

/// Whether the server is our token server, whatever preset was given: it names itself in its list of models.
fn tells_simulated(server: &External) -> bool {
    let endpoint = server.endpoint();
    let list = endpoint.dialect().models_path.and_then(|p| endpoint.get(p, FIRST, &|| false).ok());
    endpoint.preset == Preset::TokenServer || list.is_some_and(|l| l.text().contains("(simulated)"))
}

/// A server that is ready, and what every load on it has in common.
struct Ground<'a> {
    args: &'a LoadArgs,
    server: External,
    model: String,
    version: Option<String>,
    simulated: bool,
    files: Vec<LoadFile>,
    slo: Option<Slo>,
    stop: &'a dyn Fn() -> bool,
}

/// Where the folder of a load is to be.
enum Place<'a> {
    Alone,
    /// With its number in the series.
    In(&'a SeriesFolder, u64, Level),
}

/// How a load ended.
struct Done {
    path: PathBuf,
    manifest: LoadManifest,
    summary: LoadSummary,
    interrupted: bool,
}

impl Done {
    fn code(&self) -> Code {
        match (self.interrupted, self.summary.failed.is_empty()) {
            (true, _) => Code::Interrupted,
            (false, false) => Code::TrialsFailed,
            (false, true) => Code::Ok,
        }
    }
}

fn stamp() -> String {
    rfc3339(SystemTime::now()).chars().filter(|c| c.is_ascii_alphanumeric()).collect()
}

impl Ground<'_> {
    /// Drives one load and summarises it.
    fn drive(&self, options: &LoadOptions, place: &Place<'_>) -> Result<Done, Failure> {
        let a = self.args;
        let provenance = gather(a.seed, super::run::GIT_REVISION);
        let mut planned = options.plan(self.server.endpoint(), &self.model, provenance).map_err(bad)?;
        let m = &mut planned.manifest;
        (m.server_version, m.simulated) = (self.version.clone(), self.simulated);
        (m.warmup, m.steady, m.slo) = (a.warmup, !a.whole, self.slo);
        m.files.clone_from(&self.files);
        let folder = match place {
            Place::Alone => LoadFolder::create(&a.out, &stamp(), m)?,
            Place::In(series, number, level) => {
                m.level = Some(*level);
                LoadFolder::create_in(series, &format!("{number:03}"), m)?
            }
        };
        if let LoadSource::Open { times } = &planned.load.source {
            folder.write_schedule(times)?;
        }
        let driven =
            drive(vec![planned.load], u64::MAX, folder.requests()?, self.stop).map_err(|e| match e {
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
            writer_wait_ns: driven.writer_wait_ns,
            interrupted: o.interrupted,
            start_ns: driven.start_ns,
        };
        folder.finish(&client, driven.gaps.first())?;
        let (manifest, summary) = summarize_folder(folder.path())?;
        Ok(Done { path: folder.path().to_owned(), manifest, summary, interrupted: o.interrupted })
    }
}

/// Drives a load, or several, and summarises.
pub fn load(a: LoadArgs) -> Result<Code, Failure> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
    let stop = || interrupted.load(Ordering::Relaxed);

    if a.self_test {
        return check_self(a.json, &stop);
    }
    let address = a.url.clone().unwrap_or_default();
    let slo = a.slo.as_deref().map(parse_slo).transpose().map_err(bad)?;
    let (mut options, series) = asked(&a, slo)?;
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
    let simulated = tells_simulated(&server);
    let (version, files) = (ready.version, files(&a, &options));
    let ground = Ground { args: &a, server, model, version, simulated, files, slo, stop: &stop };
    match series {
        Some(manifest) => drive_series(&ground, &mut options, &manifest),
        None => {
            let done = ground.drive(&options, &Place::Alone)?;
            show(&done.path, &done.manifest, &done.summary, a.json)?;
            Ok(done.code())
        }
    }
}

/// The options of a load, or of the first of a series.
fn asked(a: &LoadArgs, slo: Option<Slo>) -> Result<(LoadOptions, Option<SeriesManifest>), Failure> {
    let mut options = options(a)?;
    let levels = |option, text: &Option<String>, whole| {
        text.as_deref().map(|t| parse_levels(option, t, whole)).transpose().map_err(bad)
    };
    let rate = levels("--rate", &a.rate, false)?;
    let users = levels("--concurrency", &a.concurrency, true)?;
    let mut series = None;
    for (over, levels) in [(LevelOf::Rate, rate), (LevelOf::Concurrency, users)] {
        let (first, levels, search) = match levels {
            None => continue,
            Some(Levels::One(v)) => {
                set(&mut options, over, v);
                continue;
            }
            Some(Levels::Each(all)) => (all[0], all, None),
            Some(Levels::Between(low, high)) => {
                if slo.is_none() {
                    return Err(bad(
                        "search a range without --slo: it says what is looked for, such as ttft=200ms,tpot=50ms",
                    ));
                }
                let search = SearchRecord {
                    low,
                    high,
                    attain: share("--attain", &a.attain)?,
                    within: share("--within", &a.within)?,
                    repeats: a.repeats.max(1),
                };
                (low, Vec::new(), Some(search))
            }
        };
        set(&mut options, over, first);
        series = Some(SeriesManifest { format: FORMAT, over, levels, search });
    }
    options.check().map_err(bad)?;
    Ok((options, series))
}

fn set(options: &mut LoadOptions, over: LevelOf, level: f64) {
    match over {
        LevelOf::Rate => options.rate = Some(level),
        LevelOf::Concurrency => options.concurrency = Some(level as u32),
    }
}

/// A share: `95%` or `0.95`.
fn share(option: &str, text: &str) -> Result<f64, Failure> {
    let value = match text.strip_suffix('%') {
        Some(t) => t.trim().parse::<f64>().map(|v| v / 100.0),
        None => text.parse::<f64>(),
    };
    match value {
        Ok(v) if v > 0.0 && v <= 1.0 => Ok(v),
        _ => Err(bad(format_args!(
            "use {option} `{text}`: it is a share above 0 and up to 1, such as 95% or 0.95"
        ))),
    }
}

/// Loads at several levels, one after the other.
fn drive_series(ground: &Ground<'_>, options: &mut LoadOptions, m: &SeriesManifest) -> Result<Code, Failure> {
    let folder = SeriesFolder::create(&ground.args.out, &stamp(), m)?;
    let mut code = Code::Ok;
    let mut loads: Vec<Summarised> = Vec::new();
    let mut one = |value: f64, repeat: u32| -> Result<LoadSummary, Failure> {
        set(options, m.over, value);
        // The same lengths and, of one repeat, the same drawn times at every level; never the same words, which a server may
        // have in its cache.
        options.seed = if repeat == 0 {
            ground.args.seed
        } else {
            stream_seed(ground.args.seed, "repeat", repeat.into())
        };
        let before = loads.len() as u64;
        options.texts_seed = Some(stream_seed(ground.args.seed, "texts", before));
        let done = ground.drive(options, &Place::In(&folder, before + 1, Level { value, repeat }))?;
        if !ground.args.json {
            eprintln!("{}: {}", level_words(m.over, value), one_line(&done.summary));
        }
        loads.push((done.manifest.clone(), done.summary.clone()));
        match done.code() {
            Code::Interrupted => return Err(Failure::new(Code::Interrupted, "drive all loads: interrupted")),
            c if c != Code::Ok => code = c,
            _ => {}
        }
        Ok(done.summary)
    };
    let driven = match m.search {
        None => m.levels.iter().try_for_each(|&level| one(level, 0).map(drop)),
        Some(s) => {
            let mut drive = |level, repeat| {
                let goodput = one(level, repeat)?.goodput;
                goodput.ok_or_else(|| Failure::new(Code::TrialsFailed, "count requests within the limits"))
            };
            search(&s, m.over == LevelOf::Concurrency, &mut drive).map(drop)
        }
    };
    // What was driven until then is kept and shown.
    finish_series(folder.path(), m, &loads, ground.args.json)?;
    driven?;
    // In a search some loads are meant to be too much.
    Ok(if m.search.is_some() { Code::Ok } else { code })
}

fn level_words(over: LevelOf, value: f64) -> String {
    match over {
        LevelOf::Rate => format!("{value} requests/s"),
        LevelOf::Concurrency => format!("{value} users"),
    }
}

fn one_line(s: &LoadSummary) -> String {
    let failed: u64 = s.failed.values().sum();
    let within = s.goodput.map(|g| format!(", {:.1} % within the limits", 100.0 * g.share.value));
    format!(
        "{} requests, {failed} failed, {:.1} tokens/s{}",
        s.requests,
        s.output_tokens_per_s.value,
        within.unwrap_or_default()
    )
}

type Summarised = (LoadManifest, LoadSummary);

/// What the loads of a series say together.
fn join(m: &SeriesManifest, loads: &[Summarised]) -> SeriesSummary {
    let judge = |of: &[LoadSummary]| {
        let all: Option<Vec<_>> = of.iter().map(|s| s.goodput).collect();
        Some(verdict(&all?, m.search?.attain))
    };
    summarize_series(m, loads, &judge)
}

/// Whether a folder is one of a load, or of a series of loads.
pub fn is_load(path: &Path) -> bool {
    LoadFolder::is_one(path) || SeriesFolder::is_one(path)
}

/// A stored load or series as one side of a comparison. Nothing is written.
pub fn side(path: &Path) -> Result<LoadSide, Failure> {
    let read = |p: &Path| {
        let stored = LoadFolder::load(p)?;
        Ok::<_, Failure>((summarize_stored(&stored)?, stored.manifest))
    };
    if !SeriesFolder::is_one(path) {
        let (s, m) = read(path)?;
        return Ok(LoadSide::of_load(&m, &s));
    }
    let (m, paths) = SeriesFolder::load(path)?;
    let mut loads = Vec::new();
    for p in &paths {
        let (summary, manifest) = read(p)?;
        loads.push((manifest, summary));
    }
    let one =
        loads.first().ok_or_else(|| bad(format_args!("compare {}: it has no loads", path.display())))?;
    Ok(LoadSide::of_series(&m, &one.0, &join(&m, &loads)))
}

/// All that is derived of a stored series and of its loads, made again, and printed.
pub fn show_series(path: &Path, json: bool) -> Result<(), Failure> {
    let (m, paths) = SeriesFolder::load(path)?;
    let loads = paths.iter().map(|p| summarize_folder(p)).collect::<Result<Vec<_>, _>>()?;
    finish_series(path, &m, &loads, json)
}

/// Summary, table and figures of a series, written into its folder, and printed.
fn finish_series(path: &Path, m: &SeriesManifest, loads: &[Summarised], json: bool) -> Result<(), Failure> {
    let summary = join(m, loads);
    SeriesFolder::write_summary(path, &summary)?;
    write_derived(path, "series.csv", &series_csv(m, &summary))?;
    if let Some((one, _)) = loads.first() {
        for (name, svg) in series_figures(m, &summary, one) {
            write_derived(path, &format!("figures/{name}"), &svg)?;
        }
    }
    if json {
        return super::print_json(&summary).map(drop);
    }
    let head = loads
        .first()
        .map(|(one, _)| format!("{}\nthe first load: {}; {}\n", served_by(one), one.arrivals, one.asks));
    super::print_text(&format!(
        "{}{}\nloads: {}",
        head.unwrap_or_default(),
        render_series(m, &summary),
        path.display()
    ));
    Ok(())
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
            c.what,
            c.ours,
            c.truth,
            (1e3 * c.within).round() / 1e3,
            c.unit
        ));
    }
    out
}

/// Summary of a stored load, written beside it.
pub fn summarize_folder(path: &Path) -> Result<Summarised, Failure> {
    let stored = LoadFolder::load(path)?;
    let (summary, figures) = derive_load(&stored)?;
    LoadFolder::write_summary(path, &summary)?;
    write_derived(path, "summary.csv", &load_csv(&summary))?;
    for (name, svg) in figures {
        write_derived(path, &format!("figures/{name}"), &svg)?;
    }
    Ok((stored.manifest, summary))
}

/// Prints a load.
pub fn show(path: &Path, m: &LoadManifest, s: &LoadSummary, json: bool) -> Result<(), Failure> {
    if json {
        return super::print_json(s).map(drop);
    }
    let mut head = format!("{}\n{}; {}\n", served_by(m), m.arrivals, m.asks);
    for d in &m.departures {
        head.push_str(&format!("arrivals are not what was asked for: {d}\n"));
    }
    super::print_text(&format!("{head}{}\nrequests: {}", render_load(s), path.display()));
    Ok(())
}
