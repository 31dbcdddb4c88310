//! `cotenant cards`.

use super::table::table;
use crate::exit::{Code, Failure};
use cotenant_model as card;

/// Lists the built-in device cards.
pub fn cards(json: bool) -> Result<Code, Failure> {
    let cards: Vec<_> =
        card::builtin_names().into_iter().filter_map(|n| Some((n, card::builtin(n)?))).collect();
    if json {
        return super::print_json(&cards.iter().map(|(_, c)| c).collect::<Vec<_>>());
    }
    let mut t = table(&["card", "GPU", "SMs", "numbers"]);
    for (name, c) in cards {
        let origin = if c.measured { "measured" } else { "published specification, unmeasured" };
        t.add_row([name, &c.device, &c.spec.sms.to_string(), origin]);
    }
    super::print_text(&t.to_string());
    Ok(Code::Ok)
}
