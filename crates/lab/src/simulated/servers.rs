//! Servers of language models on the simulated GPU: each is our token server, paced as an engine on the card would be.
//!
//! Unlike everything else here they run in real time, since those who drive them do, and are driven, warmed up,
//! measured and told of as real ones are.

use crate::backend::TrialError;
use crate::program::Part;
use crate::serving::{EngineModel, EngineSharing, EngineSpec, memory_shares};
use crate::sharing::Layout;
use cotenant_model::DeviceCard;
use cotenant_servers::{Preset, check_shares};
use cotenant_spec::plan::{ServerSetup, Sharing, TrialPlan, Workload};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Memory that an engine needs beside weights and KV cache, bytes.
const BESIDE: f64 = 2.0 * 1024.0 * 1024.0 * 1024.0;
/// Part of the card's memory that a server takes where it is not told.
const SHARE: f64 = 0.9;
/// Most sequences in a batch where nothing is said.
const BATCH: u32 = 256;
/// Most tokens of an iteration where nothing is said.
const BATCHED_TOKENS: u32 = 8192;
/// Tokens in a block of KV memory.
const BLOCK: u32 = 16;

/// Where servers at the simulated GPU know of each other: memory of this process that others open by its descriptor,
/// so that no file is left whatever happens.
#[derive(Debug)]
pub(super) struct Seats {
    memory: std::fs::File,
}

impl Seats {
    pub(super) fn new() -> Result<Seats, TrialError> {
        let made = rustix::fs::memfd_create("cotenant-gpu", rustix::fs::MemfdFlags::CLOEXEC);
        let memory =
            made.map_err(|e| TrialError::Failed(format!("make the seats at the simulated GPU: {e}")))?;
        Ok(Seats { memory: memory.into() })
    }

    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.memory.as_raw_fd()).into()
    }
}

/// Whether any tenant is a server.
pub(super) fn has_servers(trial: &TrialPlan) -> bool {
    trial.tenants.iter().any(|t| t.server().is_some())
}

/// The trial with token servers in place of its servers.
///
/// # Errors
/// A tenant that is no server, one that somebody else runs, or a model that is no built-in decoder
/// ([`TrialError::Unavailable`]); shares of memory that do not fit ([`TrialError::Failed`]).
pub(super) fn stand_ins(
    card: &DeviceCard,
    seats: &Seats,
    trial: &TrialPlan,
    layout: &Layout,
) -> Result<TrialPlan, TrialError> {
    let no = |why: String| Err(TrialError::Unavailable(why));
    check_shares(&memory_shares(trial), card.spec.memory_bytes.0, 0)
        .map_err(|e| TrialError::Failed(e.to_string()))?;
    let mut out = trial.clone();
    for (seat, t) in (0u32..).zip(&mut out.tenants) {
        let name = t.name.clone();
        let Workload::Server(plan) = &mut t.workload else {
            return no(format!(
                "tenant {name} is no server; on the simulated GPU servers run beside servers only, in real time"
            ));
        };
        if plan.setup.url.is_some() {
            return no(format!(
                "tenant {name}: a server that somebody else runs is not on the simulated GPU"
            ));
        }
        // Our own server has a pace of its own here as everywhere, and who uses another tenant's has none.
        if plan.setup.preset == Preset::TokenServer.name() || plan.setup.of.is_some() {
            continue;
        }
        let percentage = layout.process_of(seat as usize).and_then(|p| p.percentage);
        let place = Place {
            sharing: match trial.sharing {
                Sharing::Mps { .. } => EngineSharing::Mps,
                _ => EngineSharing::Turns,
            },
            share: percentage.map_or(1.0, |p| p / 100.0),
            seat,
        };
        let engine = engine(card, seats, &name, &plan.setup, place)?;
        plan.setup = stand_in(&plan.setup, &engine)?;
    }
    Ok(out)
}

/// Where a server is at the GPU.
struct Place {
    sharing: EngineSharing,
    share: f64,
    seat: u32,
}

/// The number behind a flag of the server that is stood in for.
fn flag(setup: &ServerSetup, name: &str) -> Option<f64> {
    let at = setup.args.iter().position(|a| a == name)?;
    setup.args.get(at + 1)?.parse().ok()
}

/// What paces the server of a tenant.
fn engine(
    card: &DeviceCard,
    seats: &Seats,
    tenant: &str,
    setup: &ServerSetup,
    place: Place,
) -> Result<EngineSpec, TrialError> {
    let no = |why: String| TrialError::Unavailable(format!("tenant {tenant}: {why}"));
    let named = setup.model.as_deref().unwrap_or("llama-3.2-3b");
    // A folder is called after its model, as a rule; its weights are not needed.
    let last = Path::new(named).file_name().and_then(|n| n.to_str()).unwrap_or(named);
    let model = cotenant_spec::models::find(named).or_else(|| cotenant_spec::models::find(last)).ok_or_else(|| {
        no(format!(
            "the simulated GPU knows no model `{named}`: servers are simulated with the built-in decoders \
             (`cotenant models`)"
        ))
    })?;
    let model = EngineModel::new(card, model).map_err(no)?;
    let memory = setup.memory_share.unwrap_or(SHARE) * card.spec.memory_bytes.0 as f64;
    let cache =
        flag(setup, "--kv-cache-memory-bytes").unwrap_or(memory - model.weight_bytes() as f64 - BESIDE);
    let blocks = cache / (model.kv_bytes_per_token() as f64 * f64::from(BLOCK));
    if blocks < 1.0 {
        let gib = |bytes: f64| bytes / (1u64 << 30) as f64;
        return Err(TrialError::Failed(format!(
            "tenant {tenant}: {:.1} GiB of memory leave no room for a KV cache beside {:.1} GiB of weights and {:.1} GiB \
             for the engine; raise server.memory_share",
            gib(memory),
            gib(model.weight_bytes() as f64),
            gib(BESIDE)
        )));
    }
    Ok(EngineSpec {
        model,
        sharing: place.sharing,
        share: place.share,
        gpu: Some(seats.path()),
        seat: place.seat,
        max_running: flag(setup, "--max-num-seqs").map_or(BATCH, |n| n as u32),
        kv_blocks: blocks as u32,
        block_tokens: BLOCK,
        max_batched_tokens: flag(setup, "--max-num-batched-tokens").map_or(BATCHED_TOKENS, |n| n as u32),
    })
}

fn stand_in(setup: &ServerSetup, engine: &EngineSpec) -> Result<ServerSetup, TrialError> {
    let failed = |e: &dyn std::fmt::Display| TrialError::Failed(e.to_string());
    let exe = crate::provenance::own_program()
        .map_err(|e| failed(&format_args!("find the program of token servers: {e}")))?;
    let model =
        setup.served_name.clone().or_else(|| setup.model.clone()).unwrap_or_else(|| "simulated".into());
    let mut argv = vec![exe.to_string_lossy().into_owned()];
    argv.extend(["token-server", "--port", "{port}", "--model"].map(String::from));
    argv.push(escaped(&model));
    argv.push("--engine".into());
    argv.push(escaped(&serde_json::to_string(engine).map_err(|e| failed(&e))?));
    for name in setup.adapters.keys() {
        argv.extend(["--adapter".into(), escaped(name)]);
    }
    if let Some(n) = setup.max_model_len {
        argv.extend(["--max-model-len".into(), n.to_string()]);
    }
    if let Some(name) = &setup.api_key_env {
        argv.extend(["--api-key-env".into(), escaped(name)]);
    }
    Ok(ServerSetup {
        preset: Preset::TokenServer.name().into(),
        command: Some(argv),
        served_name: Some(model),
        api_key_env: setup.api_key_env.clone(),
        startup: setup.startup,
        start_together: true,
        restart: setup.restart,
        ..ServerSetup::default()
    })
}

/// Braces are placeholders in commands.
fn escaped(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// The tenants as parts of a troupe, with the environment that clients of a real GPU would get.
pub(super) fn parts<'a>(trial: &'a TrialPlan, layout: &Layout) -> Vec<Part<'a>> {
    let part = |(tenant, plan)| {
        let env = layout.process_of(tenant).map(|p| p.env.clone()).unwrap_or_default();
        Part { tenant, plan, env }
    };
    trial.tenants.iter().enumerate().map(part).collect()
}
