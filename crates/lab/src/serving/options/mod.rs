//! A load as a user describes it, to what is driven.

mod what;
mod when;

use super::drive::{LoadSource, TenantLoad};
use cotenant_serve::{Api, BodyOptions};
use cotenant_servers::Endpoint;
use cotenant_store::serving::{LoadManifest, RequestLine, Slo};
use serde_json::{Map, Value};

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
    /// Turns of a session; makes sessions of what else would be single requests.
    pub turns: Option<String>,
    /// Time between an answer and the next turn, s.
    pub turn_think: Option<String>,
    /// Models that requests are drawn for: `a=2,b=1`.
    pub models: Option<String>,
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
        let recorded = self.recorded()?;
        let (source, arrivals, departures) = self.source(recorded.as_ref())?;
        let trace = recorded.as_ref().and_then(|r| r.trace());
        let (asks, asked) = self.asks(&|| self.words(endpoint, model), trace)?;
        let models = self.models(&asks)?;
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
            models: models.names.clone(),
            classes: asks.classes().into_iter().map(str::to_owned).collect(),
            server_version: None,
            simulated: false,
            api: if self.completions { "completions" } else { "chat" }.to_owned(),
            stream,
            asks: asked,
            arrivals,
            open,
            seed: self.seed,
            requests: Some(self.most_requests()).filter(|&n| n != u64::MAX),
            duration_s: self.duration_ns.map(|ns| ns as f64 / 1e9),
            files: Vec::new(),
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
            models,
            asks,
            source,
            in_flight,
            timeout_ns: self.timeout_ns,
            chunks: self.chunks,
            control: None,
        };
        Ok(Planned { load, manifest })
    }

    /// What can be known to be wrong before there is a server. Files are read in full, and the first request is made.
    ///
    /// # Errors
    /// As [`LoadOptions::plan`].
    pub fn check(&self) -> Result<(), LoadOptionError> {
        let recorded = self.recorded()?;
        self.source(recorded.as_ref())?;
        self.check_asks(recorded.as_ref().and_then(|r| r.trace()))
    }
}
