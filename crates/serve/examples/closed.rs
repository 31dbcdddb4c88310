//! A closed loop against a server, for looking at the client's own speed:
//! `closed URL USERS SECONDS TOKENS`

use cotenant_serve::{
    Api, Asked, BodyOptions, BodyWriter, Clock, Closed, Engine, Options, Target, Tenant, Url,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, url, users, seconds, tokens] = &args[..] else {
        return Err("closed URL USERS SECONDS TOKENS".into());
    };
    let (users, seconds, tokens): (u32, f64, u32) = (users.parse()?, seconds.parse()?, tokens.parse()?);
    let api = Api::Chat;
    let writer = BodyWriter::new(&BodyOptions::chat("simulated"));
    let prompt: String = (0..30).map(|i| format!("t{i} ")).collect();
    let bodies = move |_: u64, out: &mut Vec<u8>| {
        writer.write(Asked::Text(&prompt), tokens, out);
        (tokens, 0)
    };
    let until = (seconds * 1e9) as u64;
    let tenant = Tenant {
        target: Target::new(&Url::parse(url)?, api.path(), &[])?,
        source: Box::new(Closed::new(bodies, users, 0, u64::MAX, until)),
        in_flight: users,
        timeout_ns: 60_000_000_000,
        keep_text: false,
        connections: users,
    };
    let mut engine = Engine::new(vec![tenant])?;
    let (mut done, mut failed, mut chunks, mut tokens) = (0u64, 0u64, 0u64, 0u64);
    let mut why = None;
    let outcome = engine.run(
        Clock::start(),
        Options { stop_at_ns: u64::MAX },
        &mut |_, record, _| {
            done += 1;
            failed += u64::from(!record.ok());
            chunks += u64::from(record.chunks);
            tokens += u64::from(record.output_tokens);
            if why.is_none() {
                why = record.failure.clone();
            }
        },
        &|| false,
    )?;
    let s = outcome.wall_ns as f64 / 1e9;
    println!(
        "{:.0} requests/s, {:.0} tokens/s, {done} done, {failed} failed, {chunks} chunks of {tokens} tokens; CPU {:.3} s per 1,000, \
         {:.0} % of a core {why:?}",
        done as f64 / s,
        tokens as f64 / s,
        outcome.cpu_ns as f64 / 1e6 / done.max(1) as f64,
        outcome.cpu_ns as f64 / outcome.wall_ns as f64 * 100.0,
    );
    Ok(())
}
