//! The cards that come with the program (`devices/*.json`).

use crate::card::DeviceCard;

const CARDS: [(&str, &str); 6] = [
    ("h100-sxm5-80gb", include_str!("../../../devices/h100-sxm5-80gb.json")),
    ("h100-nvl-94gb", include_str!("../../../devices/h100-nvl-94gb.json")),
    ("h200-sxm5-141gb", include_str!("../../../devices/h200-sxm5-141gb.json")),
    ("a100-sxm4-80gb", include_str!("../../../devices/a100-sxm4-80gb.json")),
    ("l4-24gb", include_str!("../../../devices/l4-24gb.json")),
    ("rtx3090-24gb", include_str!("../../../devices/rtx3090-24gb.json")),
];

/// The built-in card of that name.
pub fn builtin(name: &str) -> Option<DeviceCard> {
    let text = CARDS.iter().find(|c| c.0 == name)?.1;
    // A built-in card that does not validate is caught by this crate's tests; it never ships.
    DeviceCard::from_json(text).ok()
}

/// Names of the built-in cards, the measured one first.
pub fn builtin_names() -> Vec<&'static str> {
    CARDS.iter().map(|c| c.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_card_is_valid_and_named_as_its_file() {
        for (name, text) in CARDS {
            match DeviceCard::from_json(text) {
                Ok(card) => {
                    assert_eq!(card.name, name);
                    assert!(!card.provenance.is_empty(), "{name} says where it comes from");
                }
                Err(e) => panic!("{name}: failed to {e}"),
            }
        }
    }

    #[test]
    fn unknown_names_are_none() {
        assert!(builtin("voodoo2").is_none());
    }
}
