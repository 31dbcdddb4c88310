//! How many tokens a server counts in a word of ours.

use super::options::LoadOptionError;
use cotenant_prompts::{Calibration, Plain};
use cotenant_servers::Endpoint;
use cotenant_servers::http::{Request, send};
use serde_json::{Value, json};
use std::time::Duration;

/// Asks the server how many tokens texts of several lengths have. A length that it refuses, as one of a short context does, is
/// halved.
pub fn calibrate(
    endpoint: &Endpoint,
    model: &str,
    completions: bool,
) -> Result<Calibration, LoadOptionError> {
    use rand::SeedableRng;
    let fail = |why: String| LoadOptionError::Calibrate(why);
    let mut rng = rand_pcg::Pcg64::seed_from_u64(17);
    let (mut pairs, mut longest) = (Vec::new(), u32::MAX);
    for words in [FEW, 64, 64, 256, 256] {
        loop {
            let words = words.min(longest);
            let text = Plain::words(words, &mut rng);
            match tokens_of(endpoint, model, completions, &text)? {
                Ok(tokens) => {
                    pairs.push((words, tokens));
                    break;
                }
                // A line needs two lengths.
                Err(why) if words <= 2 * FEW => return Err(fail(why)),
                Err(_) => longest = words / 2,
            }
        }
    }
    Calibration::fit(&pairs).map_err(|e| fail(e.to_string()))
}

/// The shortest text that is measured, in words.
const FEW: u32 = 8;

/// How many tokens a server counts in a text, or how it refused the request.
fn tokens_of(
    endpoint: &Endpoint,
    model: &str,
    completions: bool,
    text: &str,
) -> Result<Result<u32, String>, LoadOptionError> {
    let dialect = endpoint.dialect();
    let fail = |why: String| LoadOptionError::Calibrate(why);
    let (path, mut body) = match dialect.completions_path.filter(|_| completions) {
        Some(path) => (path, json!({"model": model, "prompt": text})),
        None => (dialect.chat_path, json!({"model": model, "messages": [{"role": "user", "content": text}]})),
    };
    body[dialect.max_tokens_field] = 1.into();
    let request = Request {
        url: &endpoint.url,
        path,
        json: Some(&body.to_string()),
        key: endpoint.key(),
        limit: Duration::from_secs(120),
    };
    let answer = send(&request, &|| false).map_err(|e| fail(e.to_string()))?;
    if answer.status != 200 {
        let said: String = endpoint.mask().apply(&answer.text()).chars().take(200).collect();
        let why = format!("the server answered {}: {said}", answer.status);
        return if matches!(answer.status, 400 | 413 | 422) { Ok(Err(why)) } else { Err(fail(why)) };
    }
    let parsed: Value = serde_json::from_slice(&answer.body).map_err(|e| fail(e.to_string()))?;
    let tokens = parsed["usage"]["prompt_tokens"].as_u64().and_then(|n| u32::try_from(n).ok());
    Ok(Ok(tokens.ok_or_else(|| fail("the server does not count prompt tokens".into()))?))
}
