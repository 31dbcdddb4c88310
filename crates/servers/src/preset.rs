//! Kinds of servers, and what each understands.

use std::fmt;
use std::str::FromStr;

/// What kind of server: which command line starts it, which paths are asked, which request fields it understands.
///
/// The options were read in the projects' documentation, and the command lines are checked by tests as text. **Started were**
/// vLLM (0.23 on a GPU, 0.32 on a CPU) and `transformers serve` (5.17 on a CPU; `scripts/real-servers.sh`); the others were not. What each kind lacks is an error of
/// [`crate::ServerSpec::command_line`], except `memory_share`: where a server has no such option it only counts in
/// [`crate::check_shares`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    /// vLLM: `vllm serve MODEL`, or `python -m vllm.entrypoints.cli.main serve MODEL` where no program `vllm` is on the
    /// path. Adapters with `--enable-lora --max-loras n --lora-modules name=path …`; an adapter is asked for as a model.
    /// `memory_share` is `--gpu-memory-utilization`, a part of the whole card. Its metrics are read.
    Vllm,
    /// SGLang: `python -m sglang.launch_server`. `memory_share` is `--mem-fraction-static` (weights and KV cache; what
    /// CUDA graphs and activations need comes on top), `max_model_len` is `--context-length`, adapters are
    /// `--lora-paths name=path …`. Started with `--enable-metrics`, without which it has none. Not started;
    /// metrics and LoRA options are from its documentation.
    Sglang,
    /// llama.cpp: `llama-server -m FILE`, with `--metrics`. `max_model_len` is `-c`, the served name is `--alias`. No
    /// option for a part of the memory or a type, and adapters have no names; layers go to the GPU as its `-ngl` says
    /// (give it with `args`). Not started; usage is from its README.
    LlamaCpp,
    /// Text Generation Inference: `text-generation-launcher`. `memory_share` is `--cuda-memory-fraction`,
    /// `max_model_len` is `--max-total-tokens`; adapters are `--lora-adapters name=path,…`, which requests name in a
    /// field of their own. Served names cannot be chosen. Not started; the memory
    /// option is from its documentation, the others are not checked.
    Tgi,
    /// `transformers serve` with continuous batching: `python -m transformers.cli.transformers serve MODEL`.
    /// `memory_share` is `--cb-max-memory-percent` (of the memory for the KV cache), the device is `cuda:0` unless one
    /// is given. A request's model must be exactly the path it was started with; fields that it does not know (such as
    /// `ignore_eos`) are refused with status 422; a stream ends without `[DONE]` and its usage comes in the chunk with
    /// the reason of the end. It has no metrics, and its list of models is of the local cache. Its first request takes long,
    /// 37 s on a CPU.
    TransformersServe,
    /// mistral.rs: `mistralrs-server --port P plain -m MODEL`. `max_model_len` is `--max-seq-len`, `dtype` is `--dtype`,
    /// both after `plain`. Its `/health` answers before a model is loaded, so that the first request decides. It listens on all
    /// addresses. Newer
    /// versions are started with `mistralrs serve`: give that as `command`. Not started; usage is
    /// from its README, `--max-seq-len` and `--dtype` are not checked.
    MistralRs,
    /// This project's token server: deals out tokens at a given pace. Needs a `command`. It understands all fields.
    TokenServer,
    /// Anything with OpenAI's paths. Needs a `command`; only OpenAI's own fields are sent.
    Generic,
}

/// How to talk to a kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dialect {
    /// Path of chats.
    pub chat_path: &'static str,
    /// Path of completions of plain text, if it has one.
    pub completions_path: Option<&'static str>,
    /// Path that gives status 200 when it is up; `None`: its list of models is asked instead.
    pub health_path: Option<&'static str>,
    /// Path of the list of models that it serves; `None` if it has none that says so.
    pub models_path: Option<&'static str>,
    /// Path of its metrics.
    pub metrics_path: Option<&'static str>,
    /// Path of a JSON object with its version, and the key in it.
    pub version: Option<(&'static str, &'static str)>,
    /// Request field that limits generated tokens.
    pub max_tokens_field: &'static str,
    /// Whether the field `ignore_eos` makes it go on to the limit.
    pub ignore_eos: bool,
    /// Whether it knows the field `min_tokens`.
    pub min_tokens: bool,
    /// Whether it takes `stream_options`, to give usage at the end of a stream.
    pub stream_options: bool,
    /// Whether a stream ends with `data: [DONE]`.
    pub done_event: bool,
    /// Whether a request's model must be exactly the model that it was started with.
    pub model_is_path: bool,
    /// Whether an adapter is asked for by giving its name as the model.
    pub lora_names: bool,
}

/// What most kinds have in common: OpenAI's paths and fields.
const OPENAI: Dialect = Dialect {
    chat_path: "/v1/chat/completions",
    completions_path: Some("/v1/completions"),
    health_path: Some("/health"),
    models_path: Some("/v1/models"),
    metrics_path: Some("/metrics"),
    version: None,
    max_tokens_field: "max_tokens",
    ignore_eos: false,
    min_tokens: false,
    stream_options: true,
    done_event: true,
    model_is_path: false,
    lora_names: false,
};

impl Preset {
    /// All kinds.
    pub const ALL: [Preset; 8] = [
        Preset::Vllm,
        Preset::Sglang,
        Preset::LlamaCpp,
        Preset::Tgi,
        Preset::TransformersServe,
        Preset::MistralRs,
        Preset::TokenServer,
        Preset::Generic,
    ];

    /// Its name in files and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Vllm => "vllm",
            Preset::Sglang => "sglang",
            Preset::LlamaCpp => "llama-cpp",
            Preset::Tgi => "tgi",
            Preset::TransformersServe => "transformers-serve",
            Preset::MistralRs => "mistral-rs",
            Preset::TokenServer => "token-server",
            Preset::Generic => "generic",
        }
    }

    /// How to talk to it.
    pub fn dialect(self) -> Dialect {
        match self {
            Preset::Vllm => Dialect {
                version: Some(("/version", "version")),
                ignore_eos: true,
                min_tokens: true,
                lora_names: true,
                ..OPENAI
            },
            Preset::Sglang => Dialect {
                version: Some(("/get_server_info", "version")),
                ignore_eos: true,
                min_tokens: true,
                lora_names: true,
                ..OPENAI
            },
            Preset::LlamaCpp => {
                Dialect { version: Some(("/props", "build_info")), ignore_eos: true, ..OPENAI }
            }
            Preset::Tgi => Dialect { version: Some(("/info", "version")), ..OPENAI },
            Preset::TransformersServe => Dialect {
                completions_path: None,
                models_path: None,
                metrics_path: None,
                stream_options: false,
                done_event: false,
                model_is_path: true,
                ..OPENAI
            },
            Preset::MistralRs => Dialect { metrics_path: None, stream_options: false, ..OPENAI },
            Preset::TokenServer => Dialect { ignore_eos: true, min_tokens: true, lora_names: true, ..OPENAI },
            Preset::Generic => Dialect { health_path: None, metrics_path: None, ..OPENAI },
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no such kind of server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("find the server preset `{name}`: {}there are {}", hint(nearest), Preset::ALL.map(Preset::name).join(", "))]
pub struct UnknownPreset {
    /// The name asked for.
    pub name: String,
    /// The most similar one, if one is similar.
    pub nearest: Option<Preset>,
}

fn hint(nearest: &Option<Preset>) -> String {
    nearest.map(|n| format!("did you mean `{n}`? ")).unwrap_or_default()
}

/// Letters and digits in lower case: `llama.cpp` and `llama_cpp` are `llamacpp`.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    /// By name; case, dots, dashes and underscores do not matter, and common other names are known.
    fn from_str(s: &str) -> Result<Preset, UnknownPreset> {
        let asked = plain(s);
        let also = match asked.as_str() {
            "transformers" => Some(Preset::TransformersServe),
            "llamaserver" => Some(Preset::LlamaCpp),
            "textgenerationinference" => Some(Preset::Tgi),
            "mistralrsserver" => Some(Preset::MistralRs),
            _ => None,
        };
        if let Some(p) = also.or_else(|| Preset::ALL.into_iter().find(|p| plain(p.name()) == asked)) {
            return Ok(p);
        }
        let limit = (asked.len() / 3).max(1);
        let near = Preset::ALL.into_iter().map(|p| (distance(&asked, &plain(p.name())), p));
        let nearest = near.filter(|(d, _)| *d <= limit).min_by_key(|(d, _)| *d).map(|(_, p)| p);
        Err(UnknownPreset { name: s.to_owned(), nearest })
    }
}

/// Edits of single bytes that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.bytes().enumerate() {
            let best = (row[j] + usize::from(x != y)).min(row[j + 1] + 1).min(next[j] + 1);
            next.push(best);
        }
        row = next;
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_spellings_do_not_matter() {
        for p in Preset::ALL {
            assert_eq!(p.to_string().parse(), Ok(p));
            let d = p.dialect();
            assert!(d.health_path.is_some() || d.models_path.is_some(), "{p}: nothing says that it is up");
        }
        for (text, p) in [
            ("vLLM", Preset::Vllm),
            ("llama.cpp", Preset::LlamaCpp),
            ("mistral.rs", Preset::MistralRs),
            ("transformers", Preset::TransformersServe),
        ] {
            assert_eq!(text.parse(), Ok(p));
        }
    }

    #[test]
    fn an_unknown_name_suggests_a_similar_one() {
        let e = "vlm".parse::<Preset>().unwrap_err();
        assert_eq!(e.nearest, Some(Preset::Vllm));
        assert!(e.to_string().contains("did you mean `vllm`? there are vllm, sglang"), "{e}");
        assert_eq!("ollama".parse::<Preset>().unwrap_err().nearest, None);
        assert_eq!("".parse::<Preset>().unwrap_err().nearest, None);
    }
}
