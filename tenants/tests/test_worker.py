"""The model worker on the CPU, with models small enough for any machine. Skipped where torch or transformers is absent.

COTENANT_TEST_COMPILE=1 adds torch.compile, which takes a minute.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import unittest
from typing import Any

from driver import TENANTS, Tenant, TenantError, python

HAVE = all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))
sys.path.insert(0, TENANTS)
if HAVE:
    import torch

    import torch_model
WORKER = os.path.join(TENANTS, "torch_worker.py")
SETUP: dict[str, Any] = {
    "model": "tiny",
    "weights": "random",
    "dtype": "fp32",
    "batch": 2,
    "sequence": 16,
    "mode": "forward",
    "tokens": 8,
    "cuda_graph": False,
    "compile": False,
    "device": "cpu",
    "seed": 1,
    "attention": "sdpa",
}


class WithoutTorch(unittest.TestCase):
    def test_missing_module(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (
                ("torch", "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"),
                ("torch", "raise OSError('libcudart.so.13: cannot open shared object file')"),
            ):
                with open(os.path.join(folder, name + ".py"), "w", encoding="utf-8") as file:
                    file.write(text)
                path = os.pathsep.join((folder, TENANTS))
                with python("-B", WORKER, env={"PYTHONPATH": path}) as t:
                    t.expect("hello 1")
                    with self.assertRaises(TenantError) as caught:
                        t.line()
                    self.assertEqual(caught.exception.kind, "unavailable")
                    self.assertIn(sys.executable, caught.exception.text)
                    self.assertIn("install torch and transformers", caught.exception.text)
                    self.assertEqual(t.process.wait(10), 1)
                    self.assertIn("Traceback", t.tail())
                    self.assertEqual(t.said(), "")

    def test_started_by_hand(self) -> None:
        import subprocess

        environment = {k: v for k, v in os.environ.items() if not k.startswith("COTENANT")}
        run = subprocess.run([sys.executable, WORKER], env=environment, capture_output=True, text=True)
        self.assertEqual(run.returncode, 1)
        self.assertIn("docs/tenants.md", run.stderr)


@unittest.skipUnless(HAVE, "torch or transformers is not installed")
class Worker(unittest.TestCase):
    def worker(self) -> Tenant:
        # One thread each: the tests care for what is computed, not for speed.
        t = python(WORKER, timeout=120, env={"OMP_NUM_THREADS": "1"})
        t.greet()
        return t

    def test_modes_one_worker(self) -> None:
        with self.worker() as t:
            loaded = []
            for change, tokens in (
                ({}, 32),
                ({"batch": 3, "sequence": 8}, 24),
                ({"mode": "prefill"}, 32),
                ({"mode": "decode"}, 2),
                ({"attention": "eager", "mode": "decode"}, 2),
                ({"dtype": "bf16", "mode": "prefill"}, 32),
                ({"model": "tiny-encoder"}, 32),
            ):
                with self.subTest(change):
                    facts = t.setup(**{**SETUP, **change})
                    _, its = t.phase(20, warmup=2)
                    self.assertEqual(len(its), 20)
                    self.assertEqual({i.options["tokens"] for i in its}, {tokens})
                    self.assertNotIn("event", its[0].options)
                    self.assertTrue(facts["finite_outputs"])
                    self.assertEqual(facts["attention"], change.get("attention", "sdpa"))
                    self.assertEqual(facts["weights"], "random, seed 1")
                    self.assertEqual(facts["tokens_per_iteration"], tokens)
                    loaded.append(facts["loaded"].split(" ")[0])
                    with open(os.path.join(TENANTS, "models.json"), encoding="utf-8") as file:
                        table = {m["name"]: m for m in json.load(file)["models"]}
                    entry = table[change.get("model", "tiny")]
                    self.assertEqual(facts["parameters"], entry["parameters"])
                    self.assertEqual(facts["role"], entry["role"])
                    size = {"bf16": 2}.get(change.get("dtype", ""), 4)
                    self.assertEqual(facts["weight_bytes"], size * entry["parameters"])
            self.assertEqual(loaded, ["new", "kept", "kept", "kept", "new", "new", "new"])
            # Two phases of one set-up, the second until stopped.
            t.arm(2, until="stop")
            t.go()
            t.collect("enough")
            t.send("stop")
            t.collect()
            self.assertEqual(t.end(), 0)
            self.assertEqual(t.said(), "")
            self.assertEqual(t.tail(), "")

    def test_what_cannot_be(self) -> None:
        cases = [
            ({"mode": "decode", "model": "tiny-encoder"}, "failed", "needs a decoder"),
            ({"sequence": 600}, "failed", "exceed the 512 positions"),
            ({"mode": "decode", "sequence": 508}, "failed", "sequence = 508 and tokens = 8 exceed the 512 positions"),
            ({"mode": "decode", "attention": "flash_attention_2"}, "unavailable", "FlashAttention"),
            ({"cuda_graph": True}, "failed", 'needs device = "cuda"'),
            ({"model": "./no/such/model"}, "unavailable", "is neither a built-in model (distilgpt2, "),
            ({"dtype": "fp8"}, "failed", "dtype = 'fp8' is none of fp16, bf16, fp32"),
            ({"batch": 0}, "failed", "batch = 0 is not a positive whole number"),
            ({"device": "abacus"}, "failed", "none that torch knows"),
        ]
        if not torch.cuda.is_available():
            cases.append(({"device": "cuda"}, "unavailable", 'set device = "cpu"'))
        for change, kind, text in cases:
            with self.subTest(change), self.worker() as t:
                with self.assertRaises(TenantError) as caught:
                    t.setup(**{**SETUP, **change})
                self.assertEqual(caught.exception.kind, kind)
                self.assertIn(text, caught.exception.text)
                self.assertEqual(t.process.wait(20), 1)
                self.assertIn("Traceback", t.tail())

    def test_armed_before_set_up(self) -> None:
        with self.worker() as t:
            t.send("arm warmup=1 iterations=1 until=count gap=0")
            with self.assertRaisesRegex(TenantError, "before it set it up"):
                t.line()

    def test_configuration_and_weights_from_files(self) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        with open(os.path.join(TENANTS, "models.json"), encoding="utf-8") as file:
            config = next(m for m in json.load(file)["models"] if m["name"] == "tiny")["config"]
        with tempfile.TemporaryDirectory() as folder:
            fields = {k: v for k, v in config.items() if k != "model_type"}
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(config["model_type"], **fields))
            model.save_pretrained(folder)
            file = os.path.join(folder, "config.json")
            with self.worker() as t:
                facts = t.setup(**{**SETUP, "model": file, "mode": "decode"})
                self.assertEqual((facts["role"], facts["weights"]), ("decoder", "random, seed 1"))
                self.assertEqual(facts["parameters"], 205120)
                t.setup(**{**SETUP, "model": folder})
                facts = t.setup(**{**SETUP, "model": "tiny", "weights": folder})
                self.assertEqual((facts["weights"], facts["parameters"]), (folder, 205120))
                self.assertEqual(len(t.phase(2)[1]), 2)
                with self.assertRaisesRegex(TenantError, 'of a llama model, and "distilgpt2" is a gpt2 model'):
                    t.setup(**{**SETUP, "model": "distilgpt2", "weights": folder})

    @unittest.skipUnless(os.environ.get("COTENANT_TEST_COMPILE"), "COTENANT_TEST_COMPILE is not set")
    def test_compile(self) -> None:
        with self.worker() as t:
            for mode in ("forward", "decode"):
                facts = t.setup(**{**SETUP, "compile": True, "mode": mode})
                self.assertGreater(facts["compile_seconds"], 0)
                self.assertEqual(len(t.phase(5)[1]), 5)


@unittest.skipUnless(HAVE, "torch or transformers is not installed")
class Models(unittest.TestCase):
    """What the worker computes, without the protocol."""

    @classmethod
    def setUpClass(cls) -> None:
        torch.set_num_threads(1)
        cls.device = torch.device("cpu")

    def steps(self, **change: Any) -> Any:
        setup = {**SETUP, **change}
        loaded = torch_model.load(setup, self.device)
        with torch.inference_mode():
            return loaded, torch_model.Steps(loaded, setup, self.device)

    def test_input(self) -> None:
        small = torch_model.token_ids(7, 2, 10, 50257)
        large = torch_model.token_ids(7, 3, 20, 30522)
        self.assertEqual(small, [row[:10] for row in large[:2]])
        self.assertEqual(torch_model.token_ids(7, 1, 10, 100), [[i % 100 for i in small[0]]])
        self.assertNotEqual(small, torch_model.token_ids(8, 2, 10, 50257))
        # The generator's first number from seed 0, as its authors' code gives it.
        self.assertEqual(torch_model._mix(0), 0xE220A8397B1DCDAF)
        # The numbers of this version for ever: input must be equal across machines and releases.
        self.assertEqual(torch_model.token_ids(1, 1, 4, 30522), [[27201, 3643, 27369, 17838]])
        counts = torch.bincount(torch.tensor(torch_model.token_ids(1, 32, 512, 30522)).flatten() // 3053, minlength=10)
        self.assertLess(float((counts - counts.float().mean()).abs().max() / counts.float().mean()), 0.1)

    def test_decoding_is_greedy_generation(self) -> None:
        for attention in ("sdpa", "eager"):
            with self.subTest(attention):
                loaded, steps = self.steps(mode="decode", tokens=12, attention=attention)
                with torch.inference_mode():
                    wanted = loaded.model.generate(
                        steps.ids, attention_mask=torch.ones_like(steps.ids), max_new_tokens=12, do_sample=False
                    )[:, steps.sequence :]
                    got = [steps.token.clone()]
                    places = []
                    for _ in range(11):
                        steps.run()
                        got.append(steps.token.clone())
                        places.append(int(steps.place.position))
                self.assertTrue(torch.equal(torch.cat(got, 1), wanted))
                self.assertEqual(places, list(range(17, 28)))
                with torch.inference_mode():
                    # The last place, and back to the end of the prompt.
                    steps.run()
                    self.assertEqual(int(steps.place.position), 16)
                    # From the same start come the same tokens: nothing of the prompt was overwritten.
                    steps.rewind()
                    again = [steps.token.clone()]
                    for _ in range(11):
                        steps.run()
                        again.append(steps.token.clone())
                self.assertTrue(torch.equal(torch.cat(again, 1), wanted))

    def test_prefill_gives_the_last_logits_of_forward(self) -> None:
        for model in ("tiny", "distilgpt2"):
            _, forward = self.steps(model=model)
            _, prefill = self.steps(model=model, mode="prefill")
            with torch.inference_mode():
                forward.run()
                prefill.run()
            self.assertEqual(tuple(prefill.out.shape), (2, 1, forward.out.shape[-1]))
            torch.testing.assert_close(prefill.out[:, 0], forward.out[:, -1], rtol=1e-4, atol=1e-4)

    def test_outputs(self) -> None:
        _, steps = self.steps(model="tiny-encoder")
        with torch.inference_mode():
            steps.run()
        self.assertEqual(tuple(steps.out.shape), (2, 16, 64))
        self.assertGreater(float(steps.out.std()), 0.1)

    def test_random_weights(self) -> None:
        one, _ = self.steps()
        same, _ = self.steps()
        other, _ = self.steps(seed=2)
        for (name, a), b, c in zip(one.model.named_parameters(), same.model.parameters(), other.model.parameters()):
            self.assertTrue(torch.equal(a, b), name)
            if a.ndim > 1:
                self.assertFalse(torch.equal(a, c), name)
                self.assertAlmostEqual(float(a.std()), 0.02, delta=0.002)
        encoder, _ = self.steps(model="tiny-encoder")
        for name, p in encoder.model.named_parameters():
            if p.ndim == 1:
                self.assertEqual(set(p.tolist()), {0.0 if name.endswith("bias") else 1.0}, name)

    def test_tied_weights_are_one_tensor(self) -> None:
        loaded, _ = self.steps(model="distilgpt2")
        self.assertIs(loaded.model.lm_head.weight, loaded.model.transformer.wte.weight)
        self.assertEqual(loaded.parameters, 81_912_576)

    def test_buffers_are_those_of_an_ordinary_model(self) -> None:
        small = {"num_hidden_layers": 1, "vocab_size": 64, "intermediate_size": 64, "hidden_size": 256}
        small.update(num_attention_heads=2, num_key_value_heads=1, head_dim=128)
        small.update(bos_token_id=0, eos_token_id=0)
        for name in ("llama-3.2-3b", "mistral-7b", "qwen2.5-1.5b", "tiny-encoder"):
            with self.subTest(name):
                entry = torch_model.built_in(name)
                fields = dict(entry["config"])
                kind = torch_model.AutoModelForCausalLM if entry["role"] == "decoder" else torch_model.AutoModel
                if entry["role"] == "decoder":
                    fields.update(small)
                config = torch_model.AutoConfig.for_model(fields.pop("model_type"), **fields)
                wanted = dict(kind.from_config(config).named_buffers())
                with torch_model._parameters_without_memory():
                    model = kind.from_config(config, **{torch_model.DTYPE_KEY: torch.float16})
                torch_model._fill(model, self.device, torch.float16, 1, 0.02)
                got = dict(model.named_buffers())
                self.assertEqual(wanted.keys(), got.keys())
                self.assertTrue(wanted)
                for key, buffer in wanted.items():
                    self.assertEqual(buffer.dtype, got[key].dtype, key)
                    self.assertTrue(torch.equal(buffer, got[key]), key)
                self.assertEqual({p.dtype for p in model.parameters()}, {torch.float16})

    def test_counts_of_parameters(self) -> None:
        for entry in torch_model._TABLE["models"]:
            fields = dict(entry["config"])
            kind = torch_model.AutoModelForCausalLM if entry["role"] == "decoder" else torch_model.AutoModel
            with torch.device("meta"):
                model = kind.from_config(torch_model.AutoConfig.for_model(fields.pop("model_type"), **fields))
            model.tie_weights()
            self.assertEqual(sum(p.numel() for p in model.parameters()), entry["parameters"], entry["name"])

    def test_names(self) -> None:
        for name in ("mistral-7b", "Mistral-7B-Instruct-v0.2", "mistralai/Mistral-7B-Instruct-v0.2"):
            self.assertEqual(torch_model.built_in(name)["name"], "mistral-7b")
        self.assertIsNone(torch_model.built_in(""))

    def test_steps_leave_no_garbage(self) -> None:
        import gc

        if torch_model.VERSION < (5, 0):
            self.skipTest("version 4 of transformers leaves cycles in each step; see torch_worker.tidy")
        for mode in ("forward", "prefill", "decode"):
            _, steps = self.steps(mode=mode)
            with torch.inference_mode():
                steps.run()
                gc.collect()
                gc.disable()
                try:
                    for _ in range(20):
                        steps.run()
                    self.assertLess(gc.collect(), 20, mode)
                finally:
                    gc.enable()

    def test_garbage_is_collected_between_iterations(self) -> None:
        import gc
        import weakref

        import torch_worker

        class Node:
            itself: Node

        gc.collect()
        gc.disable()
        try:
            for _ in range(torch_worker.GARBAGE):
                node = Node()
                node.itself = node
                last = weakref.ref(node)
            del node
            self.assertIsNotNone(last())
            torch_worker.tidy()
            self.assertIsNone(last())
        finally:
            gc.enable()


if __name__ == "__main__":
    unittest.main()
