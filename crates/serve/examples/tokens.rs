//! A token server on a port until it is killed, for looking at the client's own speed: `tokens PORT [TTFT_MS ITL_MS]`
use cotenant_token_server::{Options, Pace, Shape, spawn};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let port: u16 = args.get(1).ok_or("tokens PORT [TTFT_MS ITL_MS]")?.parse()?;
    let ms = |s: &String| s.parse::<f64>().map(|ms| Duration::from_secs_f64(ms / 1e3));
    let pace = match (args.get(2), args.get(3)) {
        (Some(ttft), Some(itl)) => Pace::Fixed { ttft: ms(ttft)?, itl: ms(itl)? },
        _ => Pace::Unpaced,
    };
    let shape = Shape { coalesce: std::env::var_os("COALESCE").is_some(), ..Shape::default() };
    let server = spawn(Options { port, pace, shape, truth_limit: 0, ..Options::default() })?;
    println!("{}", server.url());
    loop {
        std::thread::park();
    }
}
