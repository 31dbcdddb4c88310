"""The model worker: runs transformer models as tenants.

`cotenant run` starts it as ``python3 torch_worker.py`` with cotenant.py, torch_model.py and models.json beside it, and
sends what to run as ``setup JSON``, more than once in its life: a model that the next set-up needs too stays loaded.
What the keys mean stands in docs/tenants.md. Nothing is written to standard output; the traceback of what went wrong
goes to standard error, the reason in one line to the run.
"""

from __future__ import annotations

import gc
import os
import platform
import sys
import traceback
from typing import Any

import cotenant

# Before transformers is imported: what it says to people belongs to nobody here.
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

#: Keys of a set-up with what is taken when they are absent.
DEFAULTS: dict[str, Any] = {
    "model": None,
    "weights": "random",
    "dtype": "fp16",
    "batch": 8,
    "sequence": 128,
    "mode": "forward",
    "tokens": 128,
    "cuda_graph": False,
    "compile": False,
    "device": "cuda",
    "seed": 1,
    "attention": "sdpa",
}

#: The model stays loaded while these are the same.
OF_THE_MODEL = ("model", "weights", "dtype", "seed", "device", "attention", "compile")

#: Objects made and not freed again by their counts, from which on garbage is collected between two iterations.
GARBAGE = 10_000


def checked(setup: dict[str, Any]) -> dict[str, Any]:
    """The set-up with defaults, or `Failure` with the key that is wrong and what would be right."""
    full = {**DEFAULTS, **{key: value for key, value in setup.items() if key in DEFAULTS}}
    choices = {"dtype": ("fp16", "bf16", "fp32"), "mode": ("forward", "prefill", "decode")}
    for key, known in choices.items():
        if full[key] not in known:
            raise cotenant.Failure("failed", f"{key} = {full[key]!r} is none of {', '.join(known)}")
    for key in ("batch", "sequence", "tokens"):
        if not isinstance(full[key], int) or isinstance(full[key], bool) or full[key] < 1:
            raise cotenant.Failure("failed", f"{key} = {full[key]!r} is not a positive whole number")
    for key in ("model", "weights", "device", "attention"):
        if not isinstance(full[key], str) or not full[key]:
            raise cotenant.Failure("failed", f"{key} = {full[key]!r} is not a name")
    return full


def tidy() -> None:
    """Between two iterations: collects garbage if much has gathered.

    transformers 5 leaves none; version 4 leaves cycles of objects in each step, which may hold tensors, so it would not
    do to collect at the barrier alone.
    """
    if gc.get_count()[0] > GARBAGE:
        gc.collect()


class Worker:
    """The model and the workload of now."""

    def __init__(self) -> None:
        self.key: tuple[Any, ...] | None = None
        self.loaded: Any = None
        self.steps: Any = None
        self.device: Any = None

    def setup(self, setup: dict[str, Any]) -> None:
        """Prepares a workload; the failure of it is told to the run by the caller."""
        try:
            self._setup(setup)
        except BaseException:
            traceback.print_exc(file=sys.stderr)
            sys.stderr.flush()
            raise

    def _setup(self, asked: dict[str, Any]) -> None:
        import torch
        import transformers

        import torch_model

        setup = checked(asked)
        self._environment(asked.get("env") or {})
        device = self._device(setup["device"])
        # The old workload goes first, so that both never need memory at the same time.
        self.steps = None
        key = tuple(setup[name] for name in OF_THE_MODEL)
        kept = key == self.key
        if not kept:
            self.loaded, self.key = None, None
        torch_model.free(self.device or device)
        if setup["compile"]:
            torch._dynamo.reset()
        self.device = device
        if not kept:
            cotenant.note(f"loading {setup['model']}, {setup['dtype']}, {setup['weights']} weights")
            # Not in inference mode: compilers want ordinary tensors as weights.
            with torch.inference_mode(False), torch.no_grad():
                self.loaded = torch_model.load(setup, device)
            self.key = key
        loaded = self.loaded
        shape = f"{setup['mode']}, batch {setup['batch']}, sequence {setup['sequence']}"
        extra = "".join(f", {name}" for name in ("compile", "cuda_graph") if setup[name])
        cotenant.note(f"preparing {setup['model']}: {shape}{extra}")
        self.steps = torch_model.Steps(loaded, setup, device)
        steps = self.steps
        torch_model.free(device)

        facts: dict[str, Any] = {
            "model": setup["model"],
            "role": loaded.role,
            "parameters": loaded.parameters,
            "weights": loaded.weights,
            "weight_bytes": loaded.weight_bytes,
            "dtype": setup["dtype"],
            "mode": setup["mode"],
            "batch": setup["batch"],
            "sequence": setup["sequence"],
            "tokens_per_iteration": steps.tokens,
            "input": f"SplitMix64 ids below {torch_model.INPUT_IDS}, seed {setup['seed']}",
            "attention": getattr(loaded.model.config, "_attn_implementation", setup["attention"]),
            "cuda_graph": setup["cuda_graph"],
            "compile": setup["compile"],
            "finite_outputs": steps.finite,
            "loaded": "kept from the last set-up" if kept else "new",
            "load_seconds": round(loaded.seconds, 3),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
            "garbage_collection": "between iterations",
        }
        if setup["mode"] == "decode":
            facts["tokens"] = setup["tokens"]
        if steps.compile_seconds is not None:
            facts["compile_seconds"] = round(steps.compile_seconds, 3)
        if steps.capture_seconds is not None:
            facts["capture_seconds"] = round(steps.capture_seconds, 3)
        if device.type == "cuda":
            facts["device"] = torch.cuda.get_device_name(device)
            facts["memory_allocated"] = torch.cuda.memory_allocated(device)
            facts["memory_reserved"] = torch.cuda.memory_reserved(device)
        else:
            facts["device"] = str(device)
            facts["threads"] = torch.get_num_threads()
        for name, value in facts.items():
            cotenant.fact(name, value)
        # What lives now lives until the next set-up, and leaving it out of collections keeps them short. They happen
        # at the barrier and between iterations (`tidy`): one within an iteration would look like interference.
        gc.freeze()
        gc.disable()

    def _environment(self, env: dict[str, str]) -> None:
        """Takes over the environment of the sharing mode, which CUDA reads when it starts: with the first set-up.

        So a worker can be started, and import what takes seconds, before it is known for which trial.
        """
        if self.device is None:
            os.environ.update(env)
        elif any(os.environ.get(name) != value for name, value in env.items()):
            raise cotenant.Failure("failed", "the environment of CUDA cannot change within a process")

    @staticmethod
    def _device(name: str) -> Any:
        import torch

        try:
            device = torch.device(name)
        except RuntimeError as exc:
            raise cotenant.Failure(
                "failed", f'device = "{name}" is none that torch knows: use "cuda" or "cpu"'
            ) from exc
        if device.type == "cuda" and not torch.cuda.is_available():
            reason = "was built without CUDA" if torch.version.cuda is None else "finds no usable GPU"
            raise cotenant.Failure(
                "unavailable",
                f"torch {torch.__version__} {reason}: install a build of torch that fits the driver, "
                'or set device = "cpu"',
            )
        if device.type != "cuda":
            return device
        # With its number: "cuda" alone means whichever is current.
        index = torch.cuda.current_device() if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise cotenant.Failure(
                "unavailable", f'device = "{name}" is not there: torch sees {torch.cuda.device_count()}'
            )
        torch.cuda.set_device(index)
        return torch.device("cuda", index)

    def armed(self) -> None:
        """After the warm-up, before the barrier."""
        gc.collect()
        if self.steps is not None:
            self.steps.rewind()
            if self.device.type == "cuda":
                import torch

                torch.cuda.synchronize(self.device)

    def run(self) -> int:
        """One iteration; the number of its tokens."""
        if self.steps is None:
            raise cotenant.Failure("failed", "cotenant armed the worker before it set it up")
        self.steps.run()
        return self.steps.tokens


def main() -> None:
    if not cotenant.active():
        sys.exit("torch_worker.py is started by `cotenant run`; to measure your own model see docs/tenants.md")
    cotenant.note("importing torch and transformers")
    try:
        import torch

        import torch_model

        torch_model.preload()
    except Exception as exc:
        traceback.print_exc(file=sys.stderr)
        missing = getattr(exc, "name", None) if isinstance(exc, ModuleNotFoundError) else None
        reason = (
            f"has no module {missing}"
            if missing
            else f"cannot import torch and transformers ({type(exc).__name__}: {exc})"
        )
        cotenant.fail(
            f"{sys.executable} (Python {platform.python_version()}) {reason}: install torch and transformers for it, "
            'or name another interpreter with python = "…"',
            kind="unavailable",
        )
    worker = Worker()
    cotenant.on_setup(worker.setup)
    cotenant.on_armed(worker.armed)
    cotenant.ready()
    with torch.inference_mode():
        while True:
            with cotenant.iteration() as it:
                it.tokens = worker.run()
            tidy()


if __name__ == "__main__":
    main()
