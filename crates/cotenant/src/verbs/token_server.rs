//! `cotenant token-server`.

use crate::cli::TokenServerArgs;
use crate::exit::{Code, Failure};
use cotenant_lab::serving::{EngineSpec, parse_time};
use cotenant_token_server::{Fault, Options, Pace, Shape, spawn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Serves until interrupted.
pub fn token_server(a: TokenServerArgs) -> Result<Code, Failure> {
    let bad = |e: &dyn std::fmt::Display| Failure::new(Code::BadInput, e.to_string());
    let time = |option, text: &str| parse_time(option, text).map(Duration::from_nanos).map_err(|e| bad(&e));
    let pace = match (&a.engine, &a.ttft, &a.itl) {
        (Some(json), ..) => {
            let engine: EngineSpec =
                serde_json::from_str(json).map_err(|e| bad(&format_args!("use --engine: {e}")))?;
            let batching =
                engine.batching().map_err(|e| bad(&format_args!("take a seat at the simulated GPU: {e}")))?;
            Pace::Batched(batching)
        }
        (None, None, None) => Pace::Unpaced,
        (None, ttft, itl) => Pace::Fixed {
            ttft: ttft.as_deref().map_or(Ok(Duration::ZERO), |t| time("--ttft", t))?,
            itl: itl.as_deref().map_or(Ok(Duration::ZERO), |t| time("--itl", t))?,
        },
    };
    let faults = match a.freeze.as_deref().map(|f| f.split_once(':').ok_or(f)) {
        None => Vec::new(),
        Some(Err(f)) => {
            return Err(bad(&format_args!("use --freeze `{f}`: it should be START:LENGTH, such as 5s:3s")));
        }
        Some(Ok((at, length))) => {
            vec![Fault::Freeze { at: time("--freeze", at)?, length: time("--freeze", length)? }]
        }
    };
    let shape =
        Shape { coalesce: !a.single_writes, tokens_per_chunk: a.tokens_per_chunk, ..Shape::default() };
    let api_key = super::key_of(a.api_key_env.as_deref())?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    let _ = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed));
    let options = Options {
        port: a.port,
        model: a.model,
        pace,
        shape,
        faults,
        running_limit: a.running,
        truth_limit: 100_000,
        adapters: a.adapters,
        max_model_len: a.max_model_len.unwrap_or(Options::default().max_model_len),
        api_key,
        ..Options::default()
    };
    let server = spawn(options).map_err(|e| bad(&e))?;
    super::print_text(&server.url());
    while !interrupted.load(Ordering::Relaxed) && server.is_running() {
        std::thread::sleep(Duration::from_millis(50));
    }
    server.stop();
    Ok(Code::Ok)
}
