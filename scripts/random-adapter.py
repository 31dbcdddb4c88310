#!/usr/bin/env python3
"""Makes a LoRA adapter of random numbers for a Llama-shaped model, in the layout of PEFT, to measure what adapters cost.

    scripts/random-adapter.py MODEL OUT [--seed 1] [--rank 8]

MODEL is a folder with config.json; OUT gets adapter_config.json and adapter_model.safetensors, for q_proj and v_proj of every
layer. Needs torch and safetensors.
"""
import argparse
import json
import pathlib
import sys

TARGETS = ("q_proj", "v_proj")


def shapes(config, rank):
    """Names of the adapter's tensors with their shapes: A is rank × hidden size, B is outputs × rank."""
    try:
        hidden, heads, layers = (config[k] for k in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    except KeyError as e:
        raise SystemExit(f"config.json has no {e}; it must be that of a Llama-shaped model") from None
    head = config.get("head_dim") or hidden // heads
    outputs = {"q_proj": heads * head, "v_proj": config.get("num_key_value_heads", heads) * head}
    for layer in range(layers):
        for target in TARGETS:
            name = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            yield f"{name}.lora_A.weight", (rank, hidden)
            yield f"{name}.lora_B.weight", (outputs[target], rank)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rank", type=int, default=8)
    args = parser.parse_args()
    if args.rank < 1:
        parser.error("--rank must be 1 or more")
    try:
        config = json.loads((args.model / "config.json").read_text())
    except (OSError, ValueError) as e:
        sys.exit(f"{args.model / 'config.json'}: {e}")

    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(args.seed)
    # Small, so that the answers of a real model would stay close to its own.
    tensors = {name: (torch.randn(*shape, generator=generator) * 0.01).to(torch.bfloat16) for name, shape in shapes(config, args.rank)}
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, args.out / "adapter_model.safetensors")
    about = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": args.rank, "lora_alpha": 2 * args.rank, "lora_dropout": 0.0,
             "bias": "none", "target_modules": list(TARGETS), "base_model_name_or_path": str(args.model), "inference_mode": True}
    (args.out / "adapter_config.json").write_text(json.dumps(about, indent=1) + "\n")
    print(f"{args.out}: rank {args.rank}, {len(tensors)} tensors")


if __name__ == "__main__":
    main()
