//! A load as a user describes it, to what is driven.

use super::calibrate::calibrate;
use super::drive::{LoadSource, TenantLoad};
use cotenant_load::{
    Arrivals, Lengths, Process, Profile, Step, Trace, Until, departs, shape, stream_seed, stretch,
};
use cotenant_prompts::{
    Asks, Choice, Class, Form, Length, Mix, Order, Plain, Prefix, PromptFile, Replay, Synthetic, Tokenizer,
    Vocabulary, Words,
};
use cotenant_serve::{Api, BodyOptions};
use cotenant_servers::Endpoint;

use cotenant_store::serving::{LoadManifest, RequestLine, Slo};
use serde_json::{Map, Value};
use std::sync::Arc;

/// Words that the made-up vocabulary of our own token server and of dummy tokenizers has.
const WORDS: u32 = 32_000;
/// Window in which arrivals are counted for their dispersion, ns.
const COUNTED_NS: u64 = 1_000_000_000;
/// Requests of a load without a number and without a time.
const REQUESTS: u64 = 1000;

/// What a load option is wrong about. Messages read after "failed to".
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadOptionError {
    /// An option's value is none.
    #[error("use {option} `{value}`: {why}")]
    Value {
        /// Option.
        option: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        why: String,
    },
    /// Options that do not go together.
    #[error("{0}")]
    Together(String),
    /// The server did not answer as it must for what was asked.
    #[error("calibrate the length of prompts: {0}; give --tokenizer FILE or --vocabulary words instead")]
    Calibrate(String),
}

/// Where words of made-up prompts come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum VocabularyChoice {
    /// Numbered words, where the server is our token server; else plain ones, calibrated.
    #[default]
    Auto,
    /// `t0 t1 …`: one token each for our token server and for dummy tokenizers.
    Words,
    /// Plain English words; tokens per word are found by asking the server.
    Plain,
    /// Text of a tokenizer file: exact.
    Tokenizer(String),
}

/// A load as described on a command line or in an experiment.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// `chat` or `completions`.
    pub completions: bool,
    /// Do not stream.
    pub whole_answers: bool,
    /// Let answers end by themselves.
    pub may_end: bool,
    /// Users of a closed loop.
    pub concurrency: Option<u32>,
    /// Their think time, ns.
    pub think_ns: u64,
    /// Requests per second of an open loop.
    pub rate: Option<f64>,
    /// `poisson`, `constant`, `gamma(2)`, `weibull(2)`.
    pub arrivals: Option<String>,
    /// `on-off(5s,15s)`, `ramp(0,2,60s)`, `step(30s,2)`.
    pub profile: Option<String>,
    /// Text of a trace.
    pub trace: Option<String>,
    /// `1/2`: the first of two equal parts of the trace, every other request.
    pub trace_part: Option<String>,
    /// Stretch the times of an open loop to exactly the rate.
    pub exact_rate: bool,
    /// Most requests.
    pub requests: Option<u64>,
    /// Length of the load, ns.
    pub duration_ns: Option<u64>,
    /// Lengths of prompts.
    pub prompt_tokens: Option<String>,
    /// Lengths of answers.
    pub output_tokens: Option<String>,
    /// `short=2,medium=1,long=1`.
    pub mix: Option<String>,
    /// `COUNT:TOKENS:SHARE`.
    pub prefix: Option<String>,
    /// Text of a file of prompts.
    pub prompts: Option<String>,
    /// Where words come from.
    pub vocabulary: VocabularyChoice,
    /// What else stands in each body.
    pub body: Map<String, Value>,
    /// Seed.
    pub seed: u64,
    /// Seed of made-up texts, where it is another one than that of classes and lengths.
    pub texts_seed: Option<u64>,
    /// Most requests in flight in an open loop; `None`: 10,000.
    pub in_flight: Option<u32>,
    /// Time limit of a request, ns.
    pub timeout_ns: u64,
    /// Keep the time of each chunk.
    pub chunks: bool,
}

fn wrong(option: &'static str, value: &str, why: impl Into<String>) -> LoadOptionError {
    LoadOptionError::Value { option, value: value.to_owned(), why: why.into() }
}

/// A length of time, ns: `250ms`, `1.5s`, `2m`, `1h`.
///
/// # Errors
/// Anything else.
pub fn parse_time(option: &'static str, text: &str) -> Result<u64, LoadOptionError> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let scale = match unit {
        "us" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" | "min" => 60e9,
        "h" => 3600e9,
        _ => return Err(wrong(option, text, "a time is a number and a unit: 250ms, 1.5s, 2m, 1h")),
    };
    match number.trim().parse::<f64>() {
        Ok(n) if n.is_finite() && n >= 0.0 && n * scale < 1e18 => Ok((n * scale).round() as u64),
        _ => Err(wrong(option, text, "a time is a number and a unit: 250ms, 1.5s, 2m, 1h")),
    }
}

/// Limits: `ttft=200ms,tpot=50ms,e2e=10s`.
///
/// # Errors
/// Anything else.
pub fn parse_slo(text: &str) -> Result<Slo, LoadOptionError> {
    let mut slo = Slo::default();
    for part in text.split(',') {
        let (name, limit) = part
            .split_once('=')
            .ok_or_else(|| wrong("--slo", text, "limits are like ttft=200ms,tpot=50ms,e2e=10s"))?;
        let ms = parse_time("--slo", limit.trim())? as f64 / 1e6;
        let slot = match name.trim() {
            "ttft" => &mut slo.ttft_ms,
            "tpot" => &mut slo.tpot_ms,
            "e2e" => &mut slo.e2e_ms,
            other => return Err(wrong("--slo", other, "there are limits on ttft, tpot and e2e")),
        };
        if slot.replace(ms).is_some() {
            return Err(wrong("--slo", text, format!("{} is limited twice", name.trim())));
        }
    }
    Ok(slo)
}

/// A call such as `gamma(2)`: its name and what stands in the brackets.
fn call(text: &str) -> Option<(&str, Vec<&str>)> {
    match text.split_once('(') {
        None => Some((text.trim(), Vec::new())),
        Some((name, rest)) => {
            let inside = rest.trim_end().strip_suffix(')')?;
            Some((name.trim(), inside.split(',').map(str::trim).collect()))
        }
    }
}

fn process(text: &str) -> Result<Process, LoadOptionError> {
    let why = "arrivals are poisson, constant, gamma(CV) or weibull(CV)";
    let fail = || wrong("--arrivals", text, why);
    let (name, inside) = call(text).ok_or_else(fail)?;
    let cv = || match inside[..] {
        [cv] => cv.parse::<f64>().map_err(|_| fail()),
        _ => Err(fail()),
    };
    match (name, inside.len()) {
        ("poisson", 0) => Ok(Process::Poisson),
        ("constant", 0) => Ok(Process::Constant),
        ("gamma", _) => Ok(Process::Gamma { cv: cv()? }),
        ("weibull", _) => Ok(Process::Weibull { cv: cv()? }),
        _ => Err(fail()),
    }
}

fn profile(text: &str) -> Result<Profile, LoadOptionError> {
    let why = "a profile is on-off(ON,OFF), on-off(ON,OFF,random), ramp(FROM,TO,TIME) or step(TIME,FACTOR); times \
               such as 5s, factors multiply the rate";
    let fail = || wrong("--profile", text, why);
    let (name, inside) = call(text).ok_or_else(fail)?;
    let seconds = |t: &str| parse_time("--profile", t).map(|ns| ns as f64 / 1e9);
    let factor = |t: &str| t.parse::<f64>().map_err(|_| fail());
    match (name, &inside[..]) {
        ("on-off", [on, off]) => {
            Ok(Profile::OnOff { on_s: seconds(on)?, off_s: seconds(off)?, lengths: Lengths::Fixed })
        }
        ("on-off", [on, off, "random"]) => {
            Ok(Profile::OnOff { on_s: seconds(on)?, off_s: seconds(off)?, lengths: Lengths::Exponential })
        }
        ("ramp", [from, to, over]) => {
            Ok(Profile::Ramp { from: factor(from)?, to: factor(to)?, over_s: seconds(over)? })
        }
        ("step", [at, to]) => {
            Ok(Profile::Steps { first: 1.0, then: vec![Step { at_s: seconds(at)?, factor: factor(to)? }] })
        }
        _ => Err(fail()),
    }
}

fn length(option: &'static str, text: Option<&str>, default: u32) -> Result<Length, LoadOptionError> {
    match text {
        None => Ok(Length::Exact(default)),
        Some(t) => t.parse::<Length>().map_err(|e| wrong(option, t, e.to_string())),
    }
}

fn prefix(text: &str) -> Result<Prefix, LoadOptionError> {
    let fail = || wrong("--prefix", text, "prefixes are COUNT:TOKENS:SHARE, such as 8:512:0.5");
    let [count, tokens, share] = text.split(':').collect::<Vec<_>>()[..] else { return Err(fail()) };
    Ok(Prefix {
        count: count.parse().map_err(|_| fail())?,
        tokens: tokens.parse().map_err(|_| fail())?,
        share: share.parse().map_err(|_| fail())?,
        choice: Choice::Uniform,
    })
}

fn classes(text: &str) -> Result<Vec<Class>, LoadOptionError> {
    let why = "a mix is like short=2,medium=1,long=1: weights of the classes short, medium and long";
    text.split(',')
        .map(|part| {
            let (name, weight) = part.split_once('=').ok_or_else(|| wrong("--mix", text, why))?;
            let weight: f64 = weight.trim().parse().map_err(|_| wrong("--mix", text, why))?;
            match name.trim() {
                "short" => Ok(Class::short(weight)),
                "medium" => Ok(Class::medium(weight)),
                "long" => Ok(Class::long(weight)),
                _ => Err(wrong("--mix", text, why)),
            }
        })
        .collect()
}

/// A load that is ready to be driven, and what to write down about it.
#[derive(Debug)]
pub struct Planned {
    /// To be driven.
    pub load: TenantLoad,
    /// For `load.json`.
    pub manifest: LoadManifest,
}

impl LoadOptions {
    /// Plans the load on a server that is ready and serves `model`.
    ///
    /// # Errors
    /// Options that are wrong or do not go together, or a server whose prompts cannot be calibrated.
    pub fn plan(
        &self,
        endpoint: &Endpoint,
        model: &str,
        provenance: cotenant_store::format::Provenance,
    ) -> Result<Planned, LoadOptionError> {
        let dialect = endpoint.dialect();
        let trace = self.parsed_trace()?.map(Arc::new);
        let (source, arrivals, departures) = self.source(trace.as_deref())?;
        let (asks, asked) = self.asks(endpoint, model, trace.as_ref())?;
        let asks = match self.texts_seed {
            Some(seed) => asks.with_texts(seed),
            None => asks,
        };
        let api = if self.completions { Api::Completions } else { Api::Chat };
        let stream = !self.whole_answers;
        let body = BodyOptions {
            api,
            model: model.to_owned(),
            stream,
            usage: dialect.stream_options,
            ignore_eos: dialect.ignore_eos && !self.may_end,
            max_tokens_field: dialect.max_tokens_field.to_owned(),
            extra: self.body.clone(),
        };
        let open = matches!(source, LoadSource::Open { .. });
        let in_flight = match &source {
            LoadSource::Closed { users, .. } => *users,
            LoadSource::Open { .. } => self.in_flight.unwrap_or(10_000),
        };
        let mut headers = Vec::new();
        if let Some(key) = endpoint.key() {
            headers.push(("authorization".to_owned(), format!("Bearer {key}")));
        }
        let manifest = LoadManifest {
            format: cotenant_store::format::FORMAT,
            url: endpoint.url.to_string(),
            preset: endpoint.preset.name().to_owned(),
            model: model.to_owned(),
            server_version: None,
            simulated: false,
            api: if self.completions { "completions" } else { "chat" }.to_owned(),
            stream,
            asks: asked,
            arrivals,
            open,
            seed: self.seed,
            warmup: 0,
            steady: true,
            slo: None,
            in_flight,
            timeout_s: self.timeout_ns as f64 / 1e9,
            body: self.body.clone(),
            departures,
            level: None,
            provenance,
        };
        let load = TenantLoad {
            line: RequestLine::default(),
            url: endpoint.url.to_string(),
            headers,
            body,
            asks,
            source,
            in_flight,
            timeout_ns: self.timeout_ns,
            chunks: self.chunks,
            control: None,
        };
        Ok(Planned { load, manifest })
    }

    /// What can be known to be wrong before there is a server.
    ///
    /// # Errors
    /// As [`LoadOptions::plan`].
    pub fn check(&self) -> Result<(), LoadOptionError> {
        self.source(self.parsed_trace()?.as_ref())?;
        if let Some(mix) = &self.mix {
            classes(mix)?;
        }
        self.prefix.as_deref().map(prefix).transpose()?;
        length("--prompt-tokens", self.prompt_tokens.as_deref(), 512)?;
        length("--output-tokens", self.output_tokens.as_deref(), 128)?;
        Ok(())
    }

    fn parsed_trace(&self) -> Result<Option<Trace>, LoadOptionError> {
        let refused = |e: cotenant_load::TraceError| wrong("--trace", "the file", e.to_string());
        let trace = self.trace.as_deref().map(|text| Trace::parse(text).map_err(refused)).transpose()?;
        let Some(part) = &self.trace_part else { return Ok(trace) };
        let Some(trace) = trace else {
            return Err(LoadOptionError::Together("use --trace-part without --trace".into()));
        };
        let fail = || wrong("--trace-part", part, "a part is like 1/2, the first of two, or 2/2");
        let (i, n) = part.split_once('/').ok_or_else(fail)?;
        let (i, n): (usize, usize) =
            (i.trim().parse().map_err(|_| fail())?, n.trim().parse().map_err(|_| fail())?);
        if i == 0 || i > n {
            return Err(fail());
        }
        trace.part(i - 1, n).map(Some).map_err(refused)
    }

    /// When requests are sent, in words too, and what the drawn times differ in from what was asked.
    fn source(&self, trace: Option<&Trace>) -> Result<(LoadSource, String, Vec<String>), LoadOptionError> {
        let together = |what: &str| Err(LoadOptionError::Together(what.to_owned()));
        let requests = self.requests.unwrap_or(if self.duration_ns.is_some() { u64::MAX } else { REQUESTS });
        if requests == 0 {
            return Err(wrong("--requests", "0", "at least one"));
        }
        let until_ns = self.duration_ns.unwrap_or(u64::MAX);
        if self.exact_rate {
            if self.rate.is_none() {
                return together("use an exact rate without --rate");
            }
            if self.duration_ns.is_some() {
                return together(
                    "combine --exact-rate with --duration: a number of requests has an exact rate; give --requests",
                );
            }
            if self.profile.is_some() {
                return together("combine --exact-rate with --profile: a profile changes the rate");
            }
        }
        if let Some(users) = self.concurrency {
            if self.rate.is_some() || trace.is_some() || self.arrivals.is_some() || self.profile.is_some() {
                return together(
                    "combine --concurrency with --rate, --arrivals, --profile or --trace: a load is closed or open",
                );
            }
            if users == 0 {
                return Err(wrong("--concurrency", "0", "at least one user"));
            }
            let think = match self.think_ns {
                0 => String::new(),
                ns => format!(", thinking {} s", ns as f64 / 1e9),
            };
            let source = LoadSource::Closed { users, think_ns: self.think_ns, requests, until_ns };
            return Ok((source, format!("closed loop of {users} users{think}"), Vec::new()));
        }
        if self.think_ns > 0 {
            return together("use --think without --concurrency: only users of a closed loop think");
        }
        let until = match (self.duration_ns, requests) {
            (Some(ns), _) => Until::Horizon(ns),
            (None, n) => Until::Count(usize::try_from(n).unwrap_or(usize::MAX)),
        };
        if let Some(trace) = trace {
            if self.arrivals.is_some() || self.profile.is_some() {
                return together("combine --trace with --arrivals or --profile: a trace has its own");
            }
            let refused = |e: cotenant_load::TraceError| wrong("--trace", "the file", e.to_string());
            let scaled = match self.rate {
                Some(rate) => trace.at_rate(rate).map_err(refused)?,
                None => trace.clone(),
            };
            let until = match until {
                Until::Count(n) if self.requests.is_none() => Until::Count(n.min(trace.records().len())),
                until => until,
            };
            let mut times = scaled.offsets(until).map_err(refused)?;
            times.truncate(usize::try_from(requests).unwrap_or(usize::MAX));
            self.make_exact(&mut times)?;
            let part = self.trace_part.as_ref().map_or_else(String::new, |p| format!(" (part {p} of it)"));
            let words = match self.rate {
                Some(rate) => {
                    let exactly = if self.exact_rate { "exactly " } else { "" };
                    format!(
                        "trace of {} requests{part}, stretched to {exactly}{rate}/s",
                        trace.records().len()
                    )
                }
                None => format!("trace of {} requests{part}, as recorded", trace.records().len()),
            };
            return Ok((LoadSource::Open { times }, words, Vec::new()));
        }
        let Some(rate) = self.rate else {
            return together(
                "start a load without --concurrency, --rate or --trace: one of them says how much",
            );
        };
        let process = process(self.arrivals.as_deref().unwrap_or("poisson"))?;
        let profile = self.profile.as_deref().map(profile).transpose()?.unwrap_or_default();
        let flat = profile == Profile::Flat;
        let seed = stream_seed(self.seed, "arrivals", 0);
        let times = Arrivals { process, profile, rate_per_s: rate, seed }
            .offsets(until)
            .map_err(|e| wrong("--rate", &rate.to_string(), e.to_string()))?;
        let mut times = times;
        times.truncate(usize::try_from(requests).unwrap_or(usize::MAX));
        self.make_exact(&mut times)?;
        let departures = match shape(&times, COUNTED_NS) {
            Some(s) if flat => departs(&s, &process, Some(rate)).iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        let name = self.arrivals.as_deref().unwrap_or("poisson");
        let shape = self.profile.as_deref().map_or_else(String::new, |p| format!(", {p}"));
        let exactly = if self.exact_rate { "exactly " } else { "" };
        Ok((LoadSource::Open { times }, format!("open loop, {name} at {exactly}{rate}/s{shape}"), departures))
    }

    /// Stretches times to the rate where that is asked for.
    fn make_exact(&self, times: &mut [u64]) -> Result<(), LoadOptionError> {
        match self.rate.filter(|_| self.exact_rate) {
            Some(rate) => {
                stretch(times, rate).map_err(|e| wrong("--exact-rate", &rate.to_string(), e.to_string()))
            }
            None => Ok(()),
        }
    }

    /// What is asked, in words too.
    fn asks(
        &self,
        endpoint: &Endpoint,
        model: &str,
        trace: Option<&Arc<Trace>>,
    ) -> Result<(Asks, String), LoadOptionError> {
        let seed = stream_seed(self.seed, "asks", 0);
        let form = if self.completions { Form::Text } else { Form::Chat };
        let lengths = self.prompt_tokens.is_some() || self.mix.is_some() || self.prefix.is_some();
        if let Some(text) = &self.prompts {
            if lengths {
                return Err(LoadOptionError::Together(
                    "combine --prompts with --prompt-tokens, --mix or --prefix: the file has the prompts"
                        .into(),
                ));
            }
            let file = PromptFile::parse(text).map_err(|e| wrong("--prompts", "the file", e.to_string()))?;
            let tokens = match length("--output-tokens", self.output_tokens.as_deref(), 128)? {
                Length::Exact(n) => n,
                other => {
                    return Err(wrong(
                        "--output-tokens",
                        &other.to_string(),
                        "with --prompts, one number for all",
                    ));
                }
            };
            let words = format!("{} prompts of a file, in order, {tokens} tokens each", file.entries().len());
            let asks = Asks::file(Arc::new(file), Order::InOrder, seed, tokens)
                .map_err(|e| wrong("--prompts", "the file", e.to_string()))?;
            return Ok((asks, words));
        }
        let (vocabulary, spoken) = self.words(endpoint, model)?;
        let refused = |e: cotenant_prompts::PromptError| LoadOptionError::Together(e.to_string());
        if let Some(mix) = &self.mix {
            if self.prompt_tokens.is_some() || self.output_tokens.is_some() || self.prefix.is_some() {
                return Err(LoadOptionError::Together(
                    "combine --mix with --prompt-tokens, --output-tokens or --prefix: classes have their own"
                        .into(),
                ));
            }
            let asks = Mix::new(classes(mix)?, &vocabulary, form, seed).map_err(refused)?;
            return Ok((Asks::mix(asks), format!("mix {mix}, {spoken}")));
        }
        let by_trace = trace.filter(|t| {
            !lengths && self.output_tokens.is_none() && t.records().iter().all(|r| r.prompt_tokens.is_some())
        });
        let prefix = self.prefix.as_deref().map(prefix).transpose()?;
        let (prompt, output) = match by_trace {
            Some(_) => (Length::Trace, Length::Trace),
            None => (
                length("--prompt-tokens", self.prompt_tokens.as_deref(), 512)?,
                length("--output-tokens", self.output_tokens.as_deref(), 128)?,
            ),
        };
        let words = match by_trace {
            Some(t) if t.has_blocks() => format!("lengths and shared prefixes of the trace, {spoken}"),
            Some(_) => format!("lengths of the trace, {spoken}"),
            None => {
                let start = self.prefix.as_deref().map_or_else(String::new, |p| format!(", prefixes {p}"));
                format!("prompts of {prompt} tokens, answers of {output}{start}, {spoken}")
            }
        };
        let replay =
            by_trace.map(|t| Replay { trace: Arc::clone(t), order: Order::InOrder, blocks: t.has_blocks() });
        let synthetic = Synthetic { prompt, output, prefix, replay, vocabulary, form, seed };
        Ok((Asks::synthetic(synthetic).map_err(refused)?, words))
    }

    fn words(
        &self,
        endpoint: &Endpoint,
        model: &str,
    ) -> Result<(Arc<dyn Vocabulary>, String), LoadOptionError> {
        let refused = |e: cotenant_prompts::PromptError| LoadOptionError::Calibrate(e.to_string());
        let own = endpoint.preset == cotenant_servers::Preset::TokenServer;
        match &self.vocabulary {
            VocabularyChoice::Tokenizer(json) => {
                let t = Tokenizer::parse(json, false)
                    .map_err(|e| wrong("--tokenizer", "the file", e.to_string()))?;
                Ok((Arc::new(t), "text of the tokenizer".into()))
            }
            VocabularyChoice::Auto if !own => {
                let found = calibrate(endpoint, model, self.completions)?;
                let words = format!(
                    "plain words of {:.2} tokens each (and {:.0} of the template), as the server counts them",
                    found.tokens_per_word, found.overhead
                );
                Ok((Arc::new(Plain::new(found).map_err(refused)?), words))
            }
            VocabularyChoice::Plain => {
                let found = calibrate(endpoint, model, self.completions)?;
                Ok((Arc::new(Plain::new(found).map_err(refused)?), "plain words, calibrated".into()))
            }
            VocabularyChoice::Auto | VocabularyChoice::Words => {
                Ok((Arc::new(Words::new(0, WORDS).map_err(refused)?), "numbered words".into()))
            }
        }
    }
}
