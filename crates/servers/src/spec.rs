//! One server as a user describes it, and the command line that starts it.

use crate::error::ServerError;
use crate::preset::Preset;
use crate::template::{Values, expand};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A server to start.
#[derive(Clone, PartialEq)]
pub struct ServerSpec {
    /// Name in messages.
    pub name: String,
    /// Kind.
    pub preset: Preset,
    /// Command line instead of the preset's; items may hold placeholders (see [`crate::expand`]). Never given to a
    /// shell.
    pub command: Option<Vec<String>>,
    /// Added to the end of the command line; placeholders as in `command`.
    pub args: Vec<String>,
    /// Model: a name or a path, as the server takes it.
    pub model: Option<String>,
    /// Name that requests use, where that can be chosen; otherwise requests use `model`.
    pub served_name: Option<String>,
    /// Adapters: name and path.
    pub adapters: Vec<(String, String)>,
    /// Part of the card's memory, in (0, 1].
    pub memory_share: Option<f64>,
    /// Most tokens of a request, prompt and answer.
    pub max_model_len: Option<u32>,
    /// Type of weights and activations, as the server names it.
    pub dtype: Option<String>,
    /// Device as the server names it, where that can be chosen (`cpu`, `cuda:0`).
    pub device: Option<String>,
    /// Environment over the inherited one.
    pub env: Vec<(String, String)>,
    /// Name of the environment variable (of `env`, or inherited) whose value requests must bring as their key.
    pub api_key_env: Option<String>,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    /// Time until it must be ready.
    pub startup_timeout: Duration,
    /// Time that it gets to end by itself.
    pub stop_grace: Duration,
    /// Port; a free one is chosen where none is given.
    pub port: Option<u16>,
    /// Python, for kinds that are modules of it.
    pub python: String,
}

impl fmt::Debug for ServerSpec {
    /// Without the values of the environment, which may be keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env: Vec<&str> = self.env.iter().map(|(k, _)| k.as_str()).collect();
        f.debug_struct("ServerSpec")
            .field("name", &self.name)
            .field("preset", &self.preset)
            .field("model", &self.model)
            .field("served_name", &self.served_name)
            .field("memory_share", &self.memory_share)
            .field("max_model_len", &self.max_model_len)
            .field("port", &self.port)
            .field("env", &env)
            .finish_non_exhaustive()
    }
}

impl ServerSpec {
    /// One of a kind with everything else at its default: 300 s to start, 15 s to end, a free port, `python3`.
    pub fn new(name: impl Into<String>, preset: Preset) -> ServerSpec {
        ServerSpec {
            name: name.into(),
            preset,
            command: None,
            args: Vec::new(),
            model: None,
            served_name: None,
            adapters: Vec::new(),
            memory_share: None,
            max_model_len: None,
            dtype: None,
            device: None,
            env: Vec::new(),
            api_key_env: None,
            cwd: None,
            startup_timeout: Duration::from_secs(300),
            stop_grace: Duration::from_secs(15),
            port: None,
            python: "python3".into(),
        }
    }

    /// The name that requests for the base model use; `None`: the first that the server lists.
    pub fn request_model(&self) -> Option<&str> {
        let named = self.served_name.as_deref().filter(|_| !self.preset.dialect().model_is_path);
        named.or(self.model.as_deref())
    }

    /// The command line, with all placeholders filled in.
    ///
    /// # Errors
    /// A placeholder that is unknown or without a value; a preset without its model; an option that the preset's server
    /// does not have; a share of memory outside (0, 1].
    pub fn command_line(&self, port: u16, host: &str, log_dir: &Path) -> Result<Vec<String>, ServerError> {
        let values = Values {
            port,
            host: host.to_owned(),
            model: self.model.clone(),
            served_name: self.served_name.clone().or_else(|| self.model.clone()),
            memory_share: self.memory_share,
            max_model_len: self.max_model_len,
            log_dir: log_dir.to_string_lossy().into_owned(),
        };
        if let Some(s) = self.memory_share.filter(|s| !(*s > 0.0 && *s <= 1.0)) {
            return Err(self.wrong(format!("its memory share {s} is not above 0 and at most 1")));
        }
        let fill = |item: &String| {
            expand(item, &values)
                .map_err(|source| ServerError::Template { server: self.name.clone(), source })
        };
        let mut argv = match &self.command {
            Some(command) => command.iter().map(fill).collect::<Result<_, _>>()?,
            None => self.preset_argv(&values)?,
        };
        for item in &self.args {
            argv.push(fill(item)?);
        }
        match argv.first() {
            None => Err(self.wrong("its command is empty".into())),
            Some(p) if p.is_empty() => Err(self.wrong("its command names no program".into())),
            Some(_) => Ok(argv),
        }
    }

    fn wrong(&self, why: String) -> ServerError {
        ServerError::Spec { server: self.name.clone(), why }
    }

    /// Refuses what the preset's server has no option for, rather than to leave it out in silence.
    fn refuse(&self, fields: &[&str]) -> Result<(), ServerError> {
        for field in fields {
            let given = match *field {
                "served_name" => self.served_name.is_some(),
                "adapters" => !self.adapters.is_empty(),
                "max_model_len" => self.max_model_len.is_some(),
                "dtype" => self.dtype.is_some(),
                "device" => self.device.is_some(),
                _ => false,
            };
            if given {
                let why = format!(
                    "the preset {} has no option for `{field}`; leave it out, or give what is needed in `args`",
                    self.preset
                );
                return Err(self.wrong(why));
            }
        }
        Ok(())
    }

    fn preset_argv(&self, v: &Values) -> Result<Vec<String>, ServerError> {
        let model = || {
            let m = self.model.clone();
            m.ok_or_else(|| self.wrong(format!("the preset {} needs a `model`", self.preset)))
        };
        let mut a = Argv::default();
        let port = v.port.to_string();
        let share = self.memory_share.map(|s| s.to_string());
        let len = self.max_model_len.map(|n| n.to_string());
        let adapters: Vec<String> = self.adapters.iter().map(|(n, p)| format!("{n}={p}")).collect();
        match self.preset {
            Preset::Vllm => {
                self.refuse(&["device"])?;
                if on_path("vllm", &self.env) {
                    a.items(&["vllm", "serve"]);
                } else {
                    a.items(&[&self.python, "-m", "vllm.entrypoints.cli.main", "serve"]);
                }
                a.items(&[&model()?, "--host", &v.host, "--port", &port]);
                a.option("--served-model-name", &self.served_name);
                a.option("--gpu-memory-utilization", &share);
                a.option("--max-model-len", &len);
                a.option("--dtype", &self.dtype);
                if !adapters.is_empty() {
                    a.items(&["--enable-lora", "--max-loras", &adapters.len().to_string(), "--lora-modules"]);
                    a.0.extend(adapters);
                }
            }
            Preset::Sglang => {
                a.items(&[&self.python, "-m", "sglang.launch_server", "--model-path", &model()?]);
                a.items(&["--host", &v.host, "--port", &port, "--enable-metrics"]);
                a.option("--served-model-name", &self.served_name);
                a.option("--mem-fraction-static", &share);
                a.option("--context-length", &len);
                a.option("--dtype", &self.dtype);
                a.option("--device", &self.device);
                if !adapters.is_empty() {
                    // One more place than adapters: the base model takes one.
                    let places = (adapters.len() + 1).to_string();
                    a.items(&["--enable-lora", "--max-loras-per-batch", &places, "--lora-paths"]);
                    a.0.extend(adapters);
                }
            }
            Preset::LlamaCpp => {
                self.refuse(&["adapters", "dtype", "device"])?;
                a.items(&["llama-server", "-m", &model()?, "--host", &v.host, "--port", &port, "--metrics"]);
                a.option("--alias", &self.served_name);
                a.option("-c", &len);
            }
            Preset::Tgi => {
                self.refuse(&["served_name", "device"])?;
                a.items(&["text-generation-launcher", "--model-id", &model()?]);
                a.items(&["--hostname", &v.host, "--port", &port]);
                a.option("--cuda-memory-fraction", &share);
                a.option("--max-total-tokens", &len);
                a.option("--dtype", &self.dtype);
                a.option("--lora-adapters", &(!adapters.is_empty()).then(|| adapters.join(",")));
            }
            Preset::TransformersServe => {
                self.refuse(&["served_name", "adapters", "max_model_len"])?;
                a.items(&[&self.python, "-m", "transformers.cli.transformers", "serve", &model()?]);
                a.items(&["--host", &v.host, "--port", &port]);
                a.items(&["--device", self.device.as_deref().unwrap_or("cuda:0"), "--continuous-batching"]);
                a.option("--cb-max-memory-percent", &share);
                a.option("--dtype", &self.dtype);
            }
            Preset::MistralRs => {
                self.refuse(&["served_name", "adapters", "device"])?;
                a.items(&["mistralrs-server", "--port", &port, "plain", "-m", &model()?]);
                a.option("--max-seq-len", &len);
                a.option("--dtype", &self.dtype);
            }
            Preset::TokenServer | Preset::Generic => {
                return Err(self.wrong(format!("the preset {} needs a `command`", self.preset)));
            }
        }
        Ok(a.0)
    }
}

#[derive(Default)]
struct Argv(Vec<String>);

impl Argv {
    fn items(&mut self, items: &[&str]) {
        self.0.extend(items.iter().map(|&i| i.to_owned()));
    }

    fn option(&mut self, flag: &str, value: &Option<String>) {
        if let Some(v) = value {
            self.items(&[flag, v]);
        }
    }
}

/// Whether a program of that name is on the path that a process with this environment gets.
fn on_path(program: &str, env: &[(String, String)]) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let given = env.iter().rev().find(|(k, _)| k == "PATH").map(|(_, v)| v.into());
    let Some(path) = given.or_else(|| std::env::var_os("PATH")) else { return false };
    std::env::split_paths(&path).any(|dir| {
        let meta = std::fs::metadata(dir.join(program));
        meta.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
