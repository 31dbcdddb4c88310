//! `cotenant token-server`.

use crate::cli::{RoleArg, TokenServerArgs};
use crate::exit::{Code, Failure};
use cotenant_lab::serving::{EngineSpec, parse_time};
use cotenant_token_server::{Fault, Options, Pace, RoleChunk, ServerError, Shape, Truth, spawn};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn bad(e: impl std::fmt::Display) -> Failure {
    Failure::new(Code::BadInput, e.to_string())
}

fn time(option: &'static str, text: &str) -> Result<Duration, Failure> {
    parse_time(option, text).map(Duration::from_nanos).map_err(bad)
}

/// Serves until interrupted.
pub fn token_server(a: TokenServerArgs) -> Result<Code, Failure> {
    let (pace, shape, faults) = (pace(&a)?, shape(&a)?, faults(&a)?);
    let mut truth = a.truth.map(TruthFile::create).transpose()?;
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
        keep_chunks: truth.is_some(),
        truth_limit: 100_000,
        adapters: a.adapters,
        max_model_len: a.max_model_len.unwrap_or(Options::default().max_model_len),
        api_key,
        ..Options::default()
    };
    let server = spawn(options).map_err(|e| {
        let advice = match &e {
            ServerError::Bind { .. } => "; end what listens there, or leave out --port for a free one",
            _ => "",
        };
        bad(format_args!("start the token server: {e}{advice}"))
    })?;
    super::print_text(&server.url());
    while !interrupted.load(Ordering::Relaxed) && server.is_running() {
        std::thread::sleep(Duration::from_millis(50));
        if let Some(file) = &mut truth {
            file.add(&server.truth())?;
        }
    }
    let rest = server.stop();
    if let Some(file) = &mut truth {
        file.add(&rest)?;
    }
    Ok(Code::Ok)
}

fn pace(a: &TokenServerArgs) -> Result<Pace, Failure> {
    Ok(match (&a.engine, &a.ttft, &a.itl) {
        (Some(json), ..) => {
            let engine: EngineSpec =
                serde_json::from_str(json).map_err(|e| bad(format_args!("use --engine: {e}")))?;
            let batching =
                engine.batching().map_err(|e| bad(format_args!("take a seat at the simulated GPU: {e}")))?;
            Pace::Batched(batching)
        }
        (None, None, None) => Pace::Unpaced,
        (None, ttft, itl) => Pace::Fixed {
            ttft: ttft.as_deref().map_or(Ok(Duration::ZERO), |t| time("--ttft", t))?,
            itl: itl.as_deref().map_or(Ok(Duration::ZERO), |t| time("--itl", t))?,
        },
    })
}

fn shape(a: &TokenServerArgs) -> Result<Shape, Failure> {
    let stall = |text: &str| {
        let fail =
            || bad(format_args!("use --stall `{text}`: it should be AFTER_TOKENS:TIME, such as 10:400ms"));
        let (after, length) = text.split_once(':').ok_or_else(fail)?;
        Ok::<_, Failure>((after.trim().parse().map_err(|_| fail())?, time("--stall", length)?))
    };
    Ok(Shape {
        role_chunk: match a.role_chunk {
            RoleArg::None => RoleChunk::None,
            RoleArg::WithFirst => RoleChunk::WithFirst,
            RoleArg::Early => RoleChunk::Early,
        },
        finish_chunk: a.finish_chunk,
        tail: a.tail.as_deref().map_or(Ok(Duration::ZERO), |t| time("--tail", t))?,
        tokens_per_chunk: a.tokens_per_chunk,
        coalesce: !a.single_writes,
        stall: a.stall.as_deref().map(stall).transpose()?,
        ..Shape::default()
    })
}

fn faults(a: &TokenServerArgs) -> Result<Vec<Fault>, Failure> {
    let Some(text) = &a.freeze else { return Ok(Vec::new()) };
    let fail = || bad(format_args!("use --freeze `{text}`: it should be START:LENGTH, such as 5s:3s"));
    let (at, length) = text.split_once(':').ok_or_else(fail)?;
    Ok(vec![Fault::Freeze { at: time("--freeze", at)?, length: time("--freeze", length)? }])
}

/// The file that takes what the server did.
struct TruthFile {
    path: PathBuf,
    to: BufWriter<File>,
}

impl TruthFile {
    fn create(path: PathBuf) -> Result<TruthFile, Failure> {
        let made = File::create(&path);
        let to = made.map_err(|e| bad(format_args!("create --truth {}: {e}", path.display())))?;
        Ok(TruthFile { path, to: BufWriter::new(to) })
    }

    /// Adds a line for each of these requests, and leaves whole lines behind.
    fn add(&mut self, ended: &[Truth]) -> Result<(), Failure> {
        let failed = |e: &dyn std::fmt::Display| {
            Failure::new(Code::Store, format!("write --truth {}: {e}", self.path.display()))
        };
        for truth in ended {
            serde_json::to_writer(&mut self.to, truth).map_err(|e| failed(&e))?;
            self.to.write_all(b"\n").map_err(|e| failed(&e))?;
        }
        self.to.flush().map_err(|e| failed(&e))
    }
}
