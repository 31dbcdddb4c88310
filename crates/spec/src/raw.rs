//! The experiment file as written: one struct per table. The doc comments here become the descriptions of the
//! JSON Schema. Reading them from a document is in `read.rs`; turning them into numbers in `resolve.rs`.

use crate::expr::Expr;
use crate::tree::{Entry, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A value and where it stands. The place is not part of the schema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct At<T> {
    pub value: T,
    pub span: Span,
}

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }
    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl JsonSchema for Expr {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number, or an expression over the card's sizes (sms, l2, l1, dram, smem) and the \
                            trial's sweep variables: `0.25*sms`, `min(l2/2, 16MiB)`, `20us`.",
            "type": ["number", "string"],
            "maxLength": crate::expr::MAX_LEN,
        })
    }
}

/// An experiment: tenants, the trials they run in, and the figures drawn of them.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Experiment")]
pub(crate) struct SpecFile {
    /// Version of this format: 1.
    #[schemars(extend("const" = 1))]
    pub format: At<u32>,
    /// Short name: letters, digits, `.`, `_`, `-`.
    pub name: At<String>,
    /// Headline.
    pub title: At<String>,
    /// Section and figure or table of the paper; absent or empty if beyond the paper.
    pub section: Option<At<String>>,
    /// What the experiment shows and why: one paragraph.
    pub summary: At<String>,
    /// Seed of everything random; default 1.
    pub seed: Option<At<u64>>,
    /// When to stop repeating.
    pub measure: Option<Measure>,
    /// Workloads by name.
    pub tenants: BTreeMap<String, At<Tenant>>,
    /// What runs together, and how.
    pub trial: Vec<At<Trial>>,
    /// Figures, in order.
    pub figure: Option<Vec<At<Figure>>>,
}

/// When to stop repeating a trial.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Measure {
    /// Fewest and most repeats; default `[10, 40]`.
    #[schemars(length(min = 2, max = 2))]
    pub repeats: Option<At<Vec<At<u32>>>>,
    /// Stop once the 95 % interval of every median is within this share of it; default 0.01.
    pub precision: Option<At<Expr>>,
    /// Wall-clock budget of one trial; default `"20s"`.
    pub budget: Option<At<Expr>>,
    /// Unrecorded repeats before the first; default 2.
    pub warmup: Option<At<u32>>,
    /// Independent set-ups, 1 to 100, that the repeats and the budget are spread over, each with the tenants' memory
    /// at other addresses; 1 by default.
    pub setups: Option<At<u32>>,
    /// How often, 0 to 100, the phases run once more at the end with the kernel clock on (models and programs); 1 by
    /// default.
    pub traced: Option<At<u32>>,
    /// A model or program of which nothing is heard for this long is hung; `"120s"` by default.
    pub watchdog: Option<At<Expr>>,
}

/// A workload. Within a trial every field may be replaced: `{ use = "mul", as = "mul2", threads = 256 }`.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Tenant {
    #[schemars(flatten)]
    pub what: What,
    #[schemars(flatten)]
    pub settings: Settings,
}

/// What a tenant runs: exactly one of the four.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema)]
pub(crate) struct What {
    /// Kernel of the registry, for example `fp32-mul`.
    pub kernel: Option<At<String>>,
    /// Model: a built-in architecture (`distilgpt2`), the path of a `config.json` or model folder, or a hub id.
    pub torch: Option<At<String>>,
    /// Program and its arguments.
    #[schemars(length(min = 1))]
    pub command: Option<At<Vec<At<String>>>>,
    /// Server of a language model: how it is started, or where it is. In a trial, keys replace single keys.
    pub server: Option<At<ServerText>>,
}

/// The table `server`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ServerText(pub Vec<Entry>);

/// The table `load`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct LoadText(pub Vec<Entry>);

impl JsonSchema for ServerText {
    fn schema_name() -> Cow<'static, str> {
        "Server".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        crate::server::schema(crate::server::SERVER_KEYS)
    }
}

impl JsonSchema for LoadText {
    fn schema_name() -> Cow<'static, str> {
        "Load".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        crate::server::schema(crate::server::LOAD_KEYS)
    }
}

/// What can be set of a tenant, and replaced within a trial.
#[derive(Debug, Clone, PartialEq, Default, JsonSchema)]
pub(crate) struct Settings {
    /// Blocks in the grid: a count of at least 1; default: the kernel's, scaled to the card.
    pub blocks: Option<At<Expr>>,
    /// Threads per block: at least 1 and at most the card's limit; default: the kernel's.
    pub threads: Option<At<Expr>>,
    /// Parameters of the kernel, in the unit that the registry states.
    pub params: Option<Params>,
    /// Kernel: turns of its loop per launch; exactly one of `iterations` and `duration` stands. Model or program:
    /// iterations per phase, 100 by default.
    pub iterations: Option<At<Expr>>,
    /// How long one launch lasts alone; the iterations are calibrated before the first repeat.
    pub duration: Option<At<Expr>>,
    /// Launches per phase, back to back; default 1.
    pub launches: Option<At<Expr>>,
    /// Closed loop: pause of the host after each request (launch, where `request` is 1; iteration of a model or
    /// program); default `"0us"`.
    pub gap: Option<At<Expr>>,
    /// Part of an SM's L1 set aside as shared memory while the kernel runs; zero: the driver chooses. By default
    /// 32 KiB for kernels without shared memory.
    pub carveout: Option<At<Expr>>,
    /// Launches per request, for latency experiments; default 1.
    pub request: Option<At<Expr>>,
    /// Label that tables group by; default: the model's, `encoder` or `decoder`.
    pub role: Option<At<String>>,
    /// Models and programs: iterations before each phase that do not count; default 10.
    pub warmup: Option<At<Expr>>,
    /// Open loop: how requests arrive.
    #[schemars(extend("enum" = ["constant", "poisson", "gamma", "trace"]))]
    pub arrivals: Option<At<String>>,
    /// Open loop: requests per second, or a share such as `"60%"` of what the tenant does alone in a closed loop.
    pub rate: Option<At<Expr>>,
    /// `arrivals = "gamma"`: standard deviation of the distance between arrivals over its mean.
    pub cv: Option<At<Expr>>,
    /// `arrivals = "trace"`: path of the trace file.
    pub trace: Option<At<String>>,
    /// Models: `random` (default), or path or hub id of real weights.
    pub weights: Option<At<String>>,
    /// Models: default `fp16`.
    #[schemars(extend("enum" = ["fp16", "bf16", "fp32"]))]
    pub dtype: Option<At<String>>,
    /// Models: sequences that run together; default 8.
    pub batch: Option<At<Expr>>,
    /// Models: tokens of each sequence, of the prompt in `decode`; default 128.
    pub sequence: Option<At<Expr>>,
    /// Models: what one iteration is; default `forward`.
    #[schemars(extend("enum" = ["forward", "prefill", "decode"]))]
    pub mode: Option<At<String>>,
    /// Models, `decode`: steps until the position returns to the end of the prompt; default 128.
    pub tokens: Option<At<Expr>>,
    /// Models: replay one captured CUDA graph per iteration; default false.
    pub cuda_graph: Option<At<bool>>,
    /// Models: through `torch.compile`; default false.
    pub compile: Option<At<bool>>,
    /// Models: attention implementation, default `sdpa`.
    #[schemars(extend("enum" = ["sdpa", "eager", "flash_attention_2"]))]
    pub attention: Option<At<String>>,
    /// Models: `cuda` (default) or `cpu`.
    #[schemars(extend("enum" = ["cuda", "cpu"]))]
    pub device: Option<At<String>>,
    /// Models: Python interpreter, default `python3`.
    pub python: Option<At<String>>,
    /// Programs: `lines` (default) where it speaks the tenant protocol, `opaque` where it does not.
    #[schemars(extend("enum" = ["lines", "opaque"]))]
    pub protocol: Option<At<String>>,
    /// Models, programs and servers: environment variables beside those of the sharing mode.
    pub env: Option<Env>,
    /// Servers: what is asked of it, and when. In a trial, keys replace single keys.
    pub load: Option<At<LoadText>>,
}

/// Environment variables.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Env(pub Vec<(At<String>, At<String>)>);

impl JsonSchema for Env {
    fn schema_name() -> Cow<'static, str> {
        "Env".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}

/// Parameters of a kernel, in the order of the text.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Params(pub Vec<(At<String>, At<Expr>)>);

impl JsonSchema for Params {
    fn schema_name() -> Cow<'static, str> {
        "Params".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<Expr>();
        json_schema!({ "type": "object", "additionalProperties": value })
    }
}

impl Settings {
    /// The keys that are set here, with their places.
    pub fn keys(&self) -> Vec<(&'static str, Span)> {
        macro_rules! set {
            ($($key:ident),*) => {
                [$((stringify!($key), self.$key.as_ref().map(|v| v.span))),*]
            };
        }
        let mut out: Vec<(&'static str, Span)> = set!(
            blocks, threads, iterations, duration, launches, gap, carveout, request, role, warmup, arrivals,
            rate, cv, trace, weights, dtype, batch, sequence, mode, tokens, cuda_graph, compile, attention,
            device, python, protocol, load
        )
        .into_iter()
        .filter_map(|(key, span)| Some((key, span?)))
        .collect();
        out.extend(self.given().first().map(|p| ("params", p.0.span)));
        out.extend(self.env.as_ref().and_then(|e| e.0.first()).map(|e| ("env", e.0.span)));
        out
    }

    /// The parameters that are set here.
    pub fn given(&self) -> &[(At<String>, At<Expr>)] {
        self.params.as_ref().map_or(&[], |p| &p.0)
    }
}

/// Tenants under one sharing mode, with an optional sweep: one cell per combination of sweep values.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Trial {
    /// Name of the cell, unique in the experiment; `{variable}` is replaced by the variable's value.
    pub name: At<String>,
    /// Line or group of bars in the figure; default: the sharing mode.
    pub series: Option<At<String>>,
    /// How the tenants share the GPU.
    pub sharing: At<SharingText>,
    /// Tenants, in order; one named twice becomes `copy-1` and `copy-2`. Needed where neither `each` nor `pairs`
    /// stands; those come after these.
    pub tenants: Option<At<Vec<At<TenantUse>>>>,
    /// One cell for each tenant of the list; `{a}` in names is its name.
    #[schemars(length(min = 1))]
    pub each: Option<At<Vec<At<String>>>>,
    /// One cell for each pair of tenants of the list, with itself too; `{a}` and `{b}` in names are their names.
    #[schemars(length(min = 1))]
    pub pairs: Option<At<Vec<At<String>>>>,
    /// How many of the tenant that `each` chose; default 1.
    pub copies: Option<At<Expr>>,
    /// Variables whose values go together: lists of equal length.
    pub sweep: Option<Variables>,
    /// Variables whose values are combined with each other and with the sweep; the last varies fastest.
    pub cross: Option<Variables>,
    /// Position on the figure's x axis.
    pub x: Option<At<Expr>>,
    /// When a shared phase ends: `fixed` (default) or `steady`.
    #[schemars(extend("enum" = ["fixed", "steady"]))]
    pub protocol: Option<At<String>>,
    /// What slowdowns are relative to: `same-share` (default) or `whole-gpu`.
    #[schemars(extend("enum" = ["same-share", "whole-gpu"]))]
    pub baseline: Option<At<String>>,
    /// Also run the tenants back to back in each repeat, for the speedup. Default: true in one process
    /// (`streams`, `green`) under the fixed protocol.
    pub sequential: Option<At<bool>>,
    /// Bound by launches or by processes and not by the GPU: not counted in the simulator's accuracy.
    pub host_bound: Option<At<bool>>,
    /// Give each model or program an equal number of the host's cores for itself; default false.
    pub pin: Option<At<bool>>,
    /// Values to compare with.
    pub reference: Option<Vec<At<ReferenceText>>>,
}

/// Sweep variables, in the order of the text.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Variables(pub Vec<Variable>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variable {
    pub name: At<String>,
    pub values: At<Vec<At<Expr>>>,
}

impl JsonSchema for Variables {
    fn schema_name() -> Cow<'static, str> {
        "Variables".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let item = generator.subschema_for::<Expr>();
        json_schema!({
            "type": "object",
            "additionalProperties": { "type": "array", "minItems": 1, "items": item },
        })
    }
}

/// A tenant of a trial: a name, or a table that replaces some of its fields.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TenantUse {
    pub base: At<String>,
    pub rename: Option<At<String>>,
    pub copies: Option<At<Expr>>,
    pub what: What,
    pub settings: Settings,
}

impl TenantUse {
    /// A tenant as it is.
    pub fn plain(base: At<String>) -> TenantUse {
        TenantUse { base, rename: None, copies: None, what: What::default(), settings: Settings::default() }
    }
}

impl JsonSchema for TenantUse {
    fn schema_name() -> Cow<'static, str> {
        "TenantUse".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<TenantTable>();
        json_schema!({ "anyOf": [{ "type": "string", "description": "Name of a tenant." }, table] })
    }
}

/// A tenant with some fields replaced.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the table form of `TenantUse` to the schema generator")]
struct TenantTable {
    /// Name of the tenant to start from.
    #[schemars(rename = "use")]
    base: String,
    /// Name in this trial; default: the tenant's.
    #[schemars(rename = "as")]
    rename: Option<String>,
    /// How many of it; default 1.
    copies: Option<Expr>,
    #[schemars(flatten)]
    what: What,
    #[schemars(flatten)]
    settings: Settings,
}

/// Sharing modes and the keys that each of them has.
pub(crate) const MODES: [(&str, &[&str]); 7] = [
    ("solo", &[]),
    ("sequential", &[]),
    ("streams", &["priority"]),
    ("processes", &[]),
    ("mps", &["percentage", "priority", "pinned_memory"]),
    ("green", &["sms", "priority"]),
    ("mig", &["instances"]),
];

/// A sharing mode: its name, or a table with one value per tenant in each list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SharingText {
    pub mode: At<String>,
    pub percentage: Option<At<PerTenant>>,
    pub priority: Option<At<PerTenant>>,
    pub pinned_memory: Option<At<PerTenant>>,
    pub sms: Option<At<PerTenant>>,
    pub instances: Option<At<Vec<At<String>>>>,
}

/// One value per tenant, or one for all.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PerTenant {
    Each(Vec<At<Expr>>),
    All(At<Expr>),
}

impl JsonSchema for SharingText {
    fn schema_name() -> Cow<'static, str> {
        "Sharing".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let quantity = generator.subschema_for::<Expr>();
        let names: Vec<&str> = MODES.iter().map(|m| m.0).collect();
        let tables: Vec<Schema> = MODES
            .iter()
            .map(|(mode, keys)| {
                let mut properties = serde_json::Map::new();
                properties.insert("mode".into(), serde_json::json!({ "const": mode }));
                for key in *keys {
                    let quantity = quantity.clone().to_value();
                    let value = match *key {
                        "instances" => {
                            serde_json::json!({ "type": "array", "items": { "type": "string", "pattern": "^MIG-" } })
                        }
                        _ => serde_json::json!({ "anyOf": [{ "type": "array", "items": quantity }, quantity] }),
                    };
                    properties.insert((*key).into(), value);
                }
                let required = match *mode {
                    "green" => vec!["mode", "sms"],
                    "mig" => vec!["mode", "instances"],
                    _ => vec!["mode"],
                };
                json_schema!({
                    "type": "object",
                    "properties": properties,
                    "required": required,
                    "additionalProperties": false,
                })
            })
            .collect();
        json_schema!({
            "description": "How tenants share the GPU; lists have one value per tenant, a single value goes for all.",
            "anyOf": [{ "enum": names }, { "oneOf": tables }],
        })
    }
}

/// Printed or measured elsewhere, to compare with.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields, rename = "Reference")]
pub(crate) struct ReferenceText {
    /// Where it comes from, for example `paper, H100 NVL`.
    pub source: At<String>,
    /// Metric, for example `speedup`, `slowdown.copy-1`.
    pub metric: At<String>,
    /// The value for each cell of the trial.
    pub value: Option<At<f64>>,
    /// One value per cell, in the order of the cells; `nan` where there is none. Exactly one of `value` and
    /// `values` stands.
    pub values: Option<At<Vec<At<f64>>>>,
}

/// A figure over the trials.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Figure {
    /// `bars` and `line`: a metric over `x`. `kde`: densities of iteration times. `ecdf`: distributions of the times
    /// of servers' requests. `iterations`: time of each iteration over a phase. `matrix`: directed slowdown of every
    /// pair. `telemetry`: GPU counters under the time line.
    #[schemars(extend("enum" = ["bars", "line", "kde", "ecdf", "iterations", "matrix", "telemetry"]))]
    pub kind: At<String>,
    /// Metric drawn (`bars`, `line` and `matrix`).
    pub metric: Option<At<String>>,
    /// Label of the x axis, with unit (`bars` and `line`).
    pub x_label: Option<At<String>>,
    /// Label of the y axis, with unit (`bars` and `line`).
    pub y_label: Option<At<String>>,
    /// Trials it is drawn of, by name, with `*` for any part; default: all.
    pub trials: Option<At<Vec<At<String>>>>,
    /// Logarithmic x axis; default false.
    pub log_x: Option<At<bool>>,
}

/// The JSON Schema of an experiment file (of the JSON value that its TOML stands for).
pub fn schema() -> Schema {
    schemars::schema_for!(SpecFile)
}
