//! What is answered to which request.

use crate::answer::{Answer, Wanted};
use crate::body::{self, Kind};
use crate::context::{Context, Key};
use crate::http::Head;
use crate::options::{Fault, Usage};
use crate::output::Output;
use crate::pace::nanos;
use crate::truth::{Truth, now_ns};
use crate::wire::{self, FINGERPRINT, Reply, Stamped, quoted};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How a request came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) slot: u32,
    /// When its last bytes were read.
    pub(crate) read_ns: u64,
    /// When it may start: as soon as the answer before it on the connection has ended.
    pub(crate) start_ns: u64,
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The answer is in the output; the record belongs to a request for tokens.
    Replied(Option<Truth>),
    /// The answer takes time.
    Answering(Box<Answer>),
}

/// An answer in a few words.
struct Short {
    status: u16,
    content_type: &'static str,
    headers: String,
    body: Vec<u8>,
}

impl Short {
    fn new(content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Short { status: 200, content_type, headers: String::new(), body: body.into() }
    }
    fn json(body: String) -> Self {
        Short::new("application/json", body)
    }
    fn error(status: u16, message: &str, param: Option<&str>) -> Self {
        let kind = match status {
            401 => "AuthenticationError",
            404 => "NotFoundError",
            400..500 => "BadRequestError",
            _ => "InternalServerError",
        };
        let mut body = Vec::new();
        wire::error_json(&mut body, status, kind, message, param);
        Short { status, ..Short::new("application/json", body) }
    }
    fn append(&self, io: &mut Output, keep_alive: bool) {
        let Short { status, content_type, headers, body } = self;
        Reply { status: *status, content_type, keep_alive, headers }.append(&mut io.buffer, body);
    }
}

/// Answers what is not HTTP.
pub(crate) fn refuse(io: &mut Output, status: u16, reason: &str) {
    Short::error(status, reason, None).append(io, false);
}

/// Answers a request, or begins to.
pub(crate) fn handle(
    head: &Head<'_>,
    body: &[u8],
    arrival: Arrival,
    io: &mut Output,
    stamped: &mut Stamped,
    context: &mut Context,
) -> Outcome {
    context.counters.http_requests += 1;
    let kind = match head.path {
        "/v1/chat/completions" => Some(Kind::Chat),
        "/v1/completions" => Some(Kind::Text),
        _ => None,
    };
    let short = match (kind, head.method) {
        (Some(kind), "POST") => {
            context.last_id += 1;
            let key = Key { slot: arrival.slot, id: context.last_id };
            let request_id = head.request_id.map(|id| String::from_utf8_lossy(id).into_owned());
            match tokens(kind, head, body, arrival, key, request_id, io, stamped, context) {
                Ok(answer) => return Outcome::Answering(Box::new(answer)),
                Err((short, request_id)) => {
                    short.append(io, head.keep_alive);
                    return Outcome::Replied(Some(Truth {
                        id: key.id,
                        arrival_ns: arrival.read_ns,
                        request_id,
                        status: short.status,
                        ..Truth::default()
                    }));
                }
            }
        }
        (None, "GET") => get(head, context),
        _ if kind.is_some() || head.path.starts_with("/v1/models") => {
            Short::error(405, "Method Not Allowed", None)
        }
        _ => Short::error(404, "Not Found", None),
    };
    short.append(io, head.keep_alive);
    Outcome::Replied(None)
}

/// Whether the request has the key, if one is asked for.
fn authorized(head: &Head<'_>, context: &Context) -> bool {
    context.options.api_key.as_ref().is_none_or(|key| {
        let given = head.authorization.and_then(|a| a.split_at_checked(7));
        given.is_some_and(|(scheme, k)| {
            scheme.eq_ignore_ascii_case(b"bearer ") && k.trim_ascii() == key.as_bytes()
        })
    })
}

/// Begins to answer a request for tokens, or says why not (and gives the request's id back).
#[expect(clippy::too_many_arguments, reason = "called once; a struct of them would be built for it alone")]
fn tokens(
    kind: Kind,
    head: &Head<'_>,
    body: &[u8],
    arrival: Arrival,
    key: Key,
    request_id: Option<String>,
    io: &mut Output,
    stamped: &mut Stamped,
    context: &mut Context,
) -> Result<Answer, (Short, Option<String>)> {
    if !authorized(head, context) {
        return Err((Short::error(401, "Unauthorized", None), request_id));
    }
    let fault = context.options.faults.iter().find(|f| f.hits(key.id)).cloned();
    if let Some(short) = fault.as_ref().and_then(faulty) {
        return Err((short, request_id));
    }
    let ask = match body::read(kind, body) {
        Ok(ask) => ask,
        Err(message) => return Err((Short::error(400, &message, None), request_id)),
    };
    let Some(model) =
        context.models.iter().position(|m| ask.model.as_ref().is_none_or(|name| *name == m.name))
    else {
        let name = ask.model.as_deref().unwrap_or_default();
        let message = format!("The model `{name}` does not exist.");
        return Err((Short::error(404, &message, Some("model")), request_id));
    };
    let (prompt, output, max) = (ask.prompt_tokens, ask.max_tokens, context.options.max_model_len);
    if prompt.checked_add(output).is_none_or(|total| total > max) {
        let message = format!(
            "This model's maximum context length is {max} tokens. However, you requested {} tokens ({prompt} in \
             the messages, {output} in the completion). Please reduce the length of the messages or completion.",
            u64::from(prompt) + u64::from(output),
        );
        return Err((Short::error(400, &message, None), request_id));
    }
    let source = if matches!(fault, Some(Fault::NoAnswer { .. })) {
        None
    } else {
        let source = context.engage(key, prompt, output, arrival.start_ns);
        if source.is_none() {
            let message = format!("{prompt} tokens of prompt and {output} of answer exceed the KV cache.");
            return Err((Short::error(400, &message, None), request_id));
        }
        source
    };
    let usage = match context.options.shape.usage {
        Usage::Always => true,
        Usage::WhenAsked => ask.include_usage,
        Usage::Never => false,
    };
    let wanted = Wanted {
        key,
        kind,
        model,
        stream: ask.stream,
        usage,
        prompt_tokens: prompt,
        output_tokens: output,
        chunked: !head.http10,
        keep_alive: head.keep_alive,
        arrival_ns: arrival.read_ns,
        created: created(),
        request_id,
    };
    Ok(Answer::begin(wanted, source, fault.as_ref(), io, stamped, context))
}

/// The answer of faults that do not even look at the request.
fn faulty(fault: &Fault) -> Option<Short> {
    match fault {
        Fault::Status { code, retry_after, .. } => {
            let mut short = Short::error(*code, "The request fails on purpose.", None);
            if let Some(seconds) = retry_after {
                short.headers = format!("retry-after: {seconds}\r\n");
            }
            Some(short)
        }
        Fault::Redirect { to, .. } => {
            let mut short = Short::error(307, "The request is sent elsewhere on purpose.", None);
            short.headers = format!("location: {to}\r\n");
            Some(short)
        }
        Fault::Garbage { .. } => {
            let garbage = b"\x00\xff\xfe(simulated) this is neither an event\nnor JSON: {]\r\r\n\x80\n\n";
            Some(Short::new("text/event-stream; charset=utf-8", &garbage[..]))
        }
        _ => None,
    }
}

fn get(head: &Head<'_>, context: &mut Context) -> Short {
    match head.path {
        "/v1/models" if authorized(head, context) => Short::json(models(context)),
        "/v1/models" => Short::error(401, "Unauthorized", None),
        "/health" | "/ping" => {
            let up = Duration::from_nanos(now_ns().saturating_sub(context.start_ns));
            if up < context.options.ready_after {
                Short::error(503, "The server is not ready yet.", None)
            } else {
                Short::json(format!("{{\"system_fingerprint\":\"{FINGERPRINT}\"}}"))
            }
        }
        "/version" => Short::json(format!(
            "{{\"version\":\"{}\",\"system_fingerprint\":\"{FINGERPRINT}\"}}",
            env!("CARGO_PKG_VERSION")
        )),
        "/metrics" => Short::new("text/plain; version=0.0.4; charset=utf-8", metrics(context)),
        "/truth" => Short::new("application/x-ndjson", truth_lines(&context.ledger.take())),
        "/stats" => Short::json(stats(context)),
        _ => Short::error(404, "Not Found", None),
    }
}

/// Records as JSON lines.
fn truth_lines(records: &[Truth]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        let start = out.len();
        match serde_json::to_writer(&mut out, record) {
            Ok(()) => out.push(b'\n'),
            // Numbers and strings always have a JSON form.
            Err(_) => out.truncate(start),
        }
    }
    out
}

/// Seconds since 1970.
fn created() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn models(context: &Context) -> String {
    let root = quoted(&context.options.model);
    let since =
        created().saturating_sub(now_ns().saturating_sub(context.start_ns) / nanos(Duration::from_secs(1)));
    let entries: Vec<String> = context
        .models
        .iter()
        .enumerate()
        .map(|(i, m)| {
            format!(
                "{{\"id\":{},\"object\":\"model\",\"created\":{since},\"owned_by\":\"{FINGERPRINT}\",\
                 \"root\":{root},\"parent\":{},\"max_model_len\":{}}}",
                quoted(&m.name),
                if i == 0 { "null" } else { &root },
                context.options.max_model_len
            )
        })
        .collect();
    format!("{{\"object\":\"list\",\"data\":[{}]}}", entries.join(","))
}

/// Counters in the names of vLLM, as Prometheus reads them.
fn metrics(context: &Context) -> String {
    let (running, waiting) = context.load();
    let (kv, preemptions) = context.engine.as_ref().map_or((0.0, 0), |e| (e.kv_usage(), e.preemptions()));
    let c = &context.counters;
    let model = context.options.model.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut out = format!("# {FINGERPRINT}\n");
    let mut metric = |name: &str, kind: &str, help: &str, labels: &str, value: f64| {
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{model_name=\"{model}\"{labels}}} {value:?}"
        );
    };
    metric("vllm:num_requests_running", "gauge", "Requests in the batch.", "", running as f64);
    metric("vllm:num_requests_waiting", "gauge", "Requests in the queue.", "", waiting as f64);
    metric("vllm:kv_cache_usage_perc", "gauge", "Used share of the KV memory, 0 to 1.", "", kv);
    metric("vllm:num_preemptions_total", "counter", "Preempted sequences.", "", preemptions as f64);
    metric("vllm:prompt_tokens_total", "counter", "Tokens of prompts.", "", c.prompt_tokens as f64);
    metric("vllm:generation_tokens_total", "counter", "Tokens of answers.", "", c.output_tokens as f64);
    metric(
        "vllm:request_success_total",
        "counter",
        "Complete answers.",
        ",finished_reason=\"length\"",
        c.completed as f64,
    );
    out
}

fn stats(context: &Context) -> String {
    let (running, waiting) = context.load();
    let c = &context.counters;
    format!(
        "{{\"system_fingerprint\":\"{FINGERPRINT}\",\"uptime_ns\":{},\"connections\":{},\"http_requests\":{},\
         \"token_requests\":{},\"running\":{running},\"waiting\":{waiting},\"completed\":{},\"aborted\":{},\
         \"prompt_tokens\":{},\"output_tokens\":{},\"truth_dropped\":{}}}",
        now_ns().saturating_sub(context.start_ns),
        c.connections,
        c.http_requests,
        context.last_id,
        c.completed,
        c.aborted,
        c.prompt_tokens,
        c.output_tokens,
        context.ledger.dropped(),
    )
}
