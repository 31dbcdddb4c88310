"""Makes what the real servers serve in tests: a Llama of 3.4 million random weights with a tokenizer of its own, and adapters.

    make_models.py OUT      OUT/tiny, OUT/adapters/a, OUT/adapters/b

Nothing is fetched. The model has no end-of-text token, so that it answers with as many tokens as it is asked for, also where a
server knows no `ignore_eos`.
"""
import json
import pathlib
import random
import subprocess
import sys

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>"]
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(folder):
    """A byte-level BPE of 4,096 entries, trained on made-up words; returns how many it has."""
    rng = random.Random(7)
    words = ["".join(rng.choice("bdfgklmnprstv") + rng.choice("aeiou") for _ in range(rng.randint(1, 4))) for _ in range(3000)]
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=4096, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator((" ".join(rng.choices(words, k=30)) for _ in range(10000)), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    names = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[2], "pad_token": SPECIAL[3], "unk_token": SPECIAL[0]}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 4096, "clean_up_tokenization_spaces": False, "chat_template": CHAT}
    (folder / "tokenizer_config.json").write_text(json.dumps({**names, **config}, indent=1))
    (folder / "special_tokens_map.json").write_text(json.dumps(names, indent=1))
    return made.get_vocab_size()


def main():
    out = pathlib.Path(sys.argv[1])
    tiny = out / "tiny"
    size = tokenizer(tiny)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size, hidden_size=256, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=0, eos_token_id=None, pad_token_id=3, dtype="float32",
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=None, pad_token_id=3, max_new_tokens=64, do_sample=False)
    model.save_pretrained(tiny)
    script = pathlib.Path(__file__).parent.parent / "random-adapter.py"
    for seed, name in enumerate("ab", start=1):
        subprocess.run([sys.executable, script, tiny, out / "adapters" / name, "--seed", str(seed)], check=True)


if __name__ == "__main__":
    main()
