use super::*;
use std::os::unix::fs::PermissionsExt;

fn line(s: &ServerSpec) -> Result<String, String> {
    s.command_line(8123, "127.0.0.1", Path::new("/logs")).map(|v| v.join(" ")).map_err(|e| e.to_string())
}

fn spec(preset: Preset) -> ServerSpec {
    let mut s = ServerSpec::new("s", preset);
    s.model = Some("org/m".into());
    s.memory_share = Some(0.4);
    s
}

#[test]
fn vllm_as_a_program_and_as_a_module() {
    let dir = tempfile::tempdir().unwrap();
    let mut s = spec(Preset::Vllm);
    s.served_name = Some("n".into());
    s.max_model_len = Some(4096);
    s.adapters = vec![("a".into(), "/a".into()), ("b".into(), "/b".into())];
    s.args = vec!["--enforce-eager".into()];
    s.env = vec![("PATH".into(), dir.path().to_string_lossy().into_owned())];
    let rest = "serve org/m --host 127.0.0.1 --port 8123 --served-model-name n --gpu-memory-utilization 0.4 \
                --max-model-len 4096 --enable-lora --max-loras 2 --lora-modules a=/a b=/b --enforce-eager";
    assert_eq!(line(&s).unwrap(), format!("python3 -m vllm.entrypoints.cli.main {rest}"));
    let file = dir.path().join("vllm");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(line(&s).unwrap(), format!("vllm {rest}"));
}

#[test]
fn the_other_presets() {
    let mut s = spec(Preset::Sglang);
    s.adapters = vec![("a".into(), "/a".into())];
    assert_eq!(
        line(&s).unwrap(),
        "python3 -m sglang.launch_server --model-path org/m --host 127.0.0.1 --port 8123 --enable-metrics \
         --mem-fraction-static 0.4 --enable-lora --max-loras-per-batch 2 --lora-paths a=/a"
    );
    let mut s = spec(Preset::LlamaCpp);
    s.max_model_len = Some(2048);
    assert_eq!(line(&s).unwrap(), "llama-server -m org/m --host 127.0.0.1 --port 8123 --metrics -c 2048");
    let mut s = spec(Preset::Tgi);
    s.max_model_len = Some(2048);
    assert_eq!(
        line(&s).unwrap(),
        "text-generation-launcher --model-id org/m --hostname 127.0.0.1 --port 8123 --cuda-memory-fraction 0.4 \
         --max-total-tokens 2048"
    );
    let mut s = spec(Preset::TransformersServe);
    s.device = Some("cpu".into());
    assert_eq!(
        line(&s).unwrap(),
        "python3 -m transformers.cli.transformers serve org/m --host 127.0.0.1 --port 8123 --device cpu \
         --continuous-batching --cb-max-memory-percent 0.4"
    );
    assert_eq!(line(&spec(Preset::MistralRs)).unwrap(), "mistralrs-server --port 8123 plain -m org/m");
}

#[test]
fn what_is_wrong_is_named() {
    let mut s = spec(Preset::LlamaCpp);
    s.dtype = Some("f16".into());
    assert!(line(&s).unwrap_err().contains("preset llama-cpp has no option for `dtype`"));
    let mut s = spec(Preset::Sglang);
    s.model = None;
    assert_eq!(line(&s).unwrap_err(), "start server `s`: the preset sglang needs a `model`");
    s.memory_share = Some(1.5);
    assert!(line(&s).unwrap_err().contains("memory share 1.5"));
    assert!(line(&spec(Preset::Generic)).unwrap_err().contains("needs a `command`"));
    let mut s = spec(Preset::Generic);
    s.command = Some(vec![]);
    assert!(line(&s).unwrap_err().contains("command is empty"));
    s.command = Some(vec!["x".into(), "{max_model_len}".into()]);
    assert!(line(&s).unwrap_err().contains("set `max_model_len`"));
}

#[test]
fn a_command_replaces_the_preset_and_takes_args() {
    let mut s = spec(Preset::Vllm);
    s.command = Some(vec!["my".into(), "{host}:{port}".into(), "{served_name}".into()]);
    s.args = vec!["{log_dir}/x".into(), "{{}}".into()];
    assert_eq!(line(&s).unwrap(), "my 127.0.0.1:8123 org/m /logs/x {}");
}

#[test]
fn values_of_the_environment_are_not_shown() {
    let mut s = spec(Preset::Vllm);
    s.env = vec![("HF_TOKEN".into(), "hf_abcdef".into())];
    let text = format!("{s:?}");
    assert!(text.contains("HF_TOKEN") && !text.contains("hf_abcdef"), "{text}");
}
