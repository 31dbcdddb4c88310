//! Runs a token server until it is killed: `serve [--port N] [--ttft-ms X] [--itl-ms X]`.
//!
//! Without a time to the first token and between tokens it is as fast as it can. The address is the first line it prints.

use cotenant_token_server::{Options, Pace, spawn};
use std::error::Error;
use std::time::Duration;

fn main() -> Result<(), Box<dyn Error>> {
    let mut options = Options::default();
    let (mut ttft, mut itl) = (None, None);
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--port" => options.port = value.parse()?,
            "--ttft-ms" => ttft = Some(Duration::try_from_secs_f64(value.parse::<f64>()? / 1e3)?),
            "--itl-ms" => itl = Some(Duration::try_from_secs_f64(value.parse::<f64>()? / 1e3)?),
            _ => return Err(format!("{name} is none of --port, --ttft-ms, --itl-ms").into()),
        }
    }
    if ttft.is_some() || itl.is_some() {
        options.pace =
            Pace::Fixed { ttft: ttft.unwrap_or(Duration::ZERO), itl: itl.unwrap_or(Duration::ZERO) };
    }
    let server = spawn(options)?;
    println!("{}", server.url());
    while server.is_running() {
        std::thread::sleep(Duration::from_secs(1));
    }
    Err("the event loop ended".into())
}
