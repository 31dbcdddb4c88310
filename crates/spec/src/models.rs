//! The built-in architectures of model tenants: `tenants/models.json`, which the Python worker reads too.

use serde::Deserialize;
use std::sync::LazyLock;

/// The file as it is shipped.
pub const TEXT: &str = include_str!("../../../tenants/models.json");

/// What the spec needs to know of an architecture.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Model {
    /// Name in a spec.
    pub name: String,
    /// Other names of it.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// `encoder` or `decoder`.
    pub role: String,
    /// Name on the model hub that the architecture is of.
    #[serde(default)]
    pub hub: Option<String>,
    /// Longest sequence, tokens; `None`: not limited by the architecture.
    #[serde(default, rename = "max_sequence")]
    pub positions: Option<u32>,
    /// Parameters.
    #[serde(default)]
    pub parameters: Option<u64>,
    #[serde(default)]
    config: Config,
}

/// What of a model's configuration the size of its KV cache follows from; GPT-2 has names of its own.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
struct Config {
    #[serde(alias = "n_layer")]
    num_hidden_layers: Option<u32>,
    num_key_value_heads: Option<u32>,
    #[serde(alias = "n_head")]
    num_attention_heads: Option<u32>,
    #[serde(alias = "n_embd")]
    hidden_size: Option<u32>,
    head_dim: Option<u32>,
}

/// Sizes of a decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderShape {
    /// Layers.
    pub layers: u32,
    /// Heads of keys and values in each.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
}

impl Model {
    /// Sizes, where it is a decoder that tells them.
    pub fn decoder_shape(&self) -> Option<DecoderShape> {
        let c = &self.config;
        let heads = c.num_attention_heads.filter(|h| *h > 0)?;
        let head_dim = c.head_dim.or(c.hidden_size.map(|h| h / heads))?;
        let shape = DecoderShape {
            layers: c.num_hidden_layers?,
            kv_heads: c.num_key_value_heads.unwrap_or(heads),
            head_dim,
        };
        (self.role == "decoder").then_some(shape)
    }
}

#[derive(Deserialize)]
struct File {
    models: Vec<Model>,
}

/// All built-in architectures, in the file's order.
pub fn all() -> &'static [Model] {
    // The file is part of the binary and a test reads it; a broken one leaves no built-in model.
    static MODELS: LazyLock<Vec<Model>> =
        LazyLock::new(|| serde_json::from_str::<File>(TEXT).map(|f| f.models).unwrap_or_default());
    &MODELS
}

/// The architecture of that name or alias, upper or lower case.
pub fn find(name: &str) -> Option<&'static Model> {
    let same = |other: &str| other.eq_ignore_ascii_case(name);
    all()
        .iter()
        .find(|m| same(&m.name) || m.aliases.iter().any(|a| same(a)) || m.hub.as_deref().is_some_and(same))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoders_tell_their_sizes() {
        let shape = |name| find(name).and_then(Model::decoder_shape);
        assert_eq!(shape("llama-3.2-3b"), Some(DecoderShape { layers: 28, kv_heads: 8, head_dim: 128 }));
        assert_eq!(shape("gpt2"), Some(DecoderShape { layers: 12, kv_heads: 12, head_dim: 64 }));
        assert_eq!(shape("bert"), None);
        assert!(all().iter().filter(|m| m.role == "decoder").all(|m| m.decoder_shape().is_some()));
    }

    #[test]
    fn the_file_is_sound() {
        let names = [
            "distilgpt2",
            "gpt2",
            "distilbert",
            "bert",
            "roberta",
            "llama-3.2-3b",
            "mistral-7b",
            "llama-3.1-8b",
            "qwen2.5-1.5b",
        ];
        for name in names {
            let m = find(name).unwrap_or_else(|| panic!("{name} is missing"));
            assert!(m.role == "encoder" || m.role == "decoder", "{name}");
            assert!(m.positions.is_some() && m.parameters.is_some(), "{name}");
        }
        assert_eq!(find("RoBERTa-base").map(|m| m.name.as_str()), Some("roberta"));
        assert!(find("gpt5").is_none());
    }
}
