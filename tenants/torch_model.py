"""Models for the torch worker: the built-in architectures, loading, and what one step of each mode is.

Imports torch and transformers, so it is imported late. The protocol is the worker's matter; here are models only.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import inspect
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Callable

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from cotenant import Failure, note

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
MODES = ("forward", "prefill", "decode")
VERSION: tuple[int, ...] = tuple(int(part) for part in transformers.__version__.split(".")[:2] if part.isdigit())
#: `from_pretrained` and `from_config` call the type of the weights `dtype` from this version on.
DTYPE_KEY = "dtype" if VERSION >= (4, 56) else "torch_dtype"

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "models.json"), encoding="utf-8") as _file:
    _TABLE = json.load(_file)

#: Synthetic token ids lie in [0, this): the smallest vocabulary of the built-in models, so that all of them can have
#: the same input.
INPUT_IDS: int = _TABLE["input_ids"]


def built_in(name: str) -> dict[str, Any] | None:
    """The table's entry of this name, hub id or alias; upper and lower case are the same."""
    wanted = name.lower()
    for entry in _TABLE["models"]:
        hub = entry["hub"] or ""
        names = [entry["name"], hub, hub.rpartition("/")[2], *entry["aliases"]]
        if wanted in (known.lower() for known in names if known):
            return entry
    return None


# -- input ------------------------------------------------------------------------------------------------------------

_MASK = (1 << 64) - 1


def _mix(x: int) -> int:
    """SplitMix64's output function (Steele, Lea, Flood 2014): a well mixed 64-bit value for each 64-bit value."""
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def token_ids(seed: int, batch: int, sequence: int, vocabulary: int) -> list[list[int]]:
    """The synthetic input, `batch` rows of `sequence` ids.

    The id at (row, column) depends on the seed, the row and the column alone: a smaller batch or a shorter sequence is
    a part of a larger one, and every model whose vocabulary has at least `INPUT_IDS` entries gets the same ids. Smaller
    vocabularies get them modulo their size.
    """
    base = _mix(seed & _MASK)
    rows = []
    for row in range(batch):
        start = _mix(base ^ row)
        rows.append([_mix((start + column) & _MASK) % INPUT_IDS % vocabulary for column in range(sequence)])
    return rows


# -- loading ----------------------------------------------------------------------------------------------------------


@dataclass
class Loaded:
    """A model on its device."""

    model: Any
    role: str
    parameters: int
    weight_bytes: int
    weights: str
    seconds: float
    max_sequence: int | None


def _config(setup: dict[str, Any]) -> tuple[Any, str | None, int | None]:
    """Configuration, role if it is known, and longest sequence if it is known, of the model that a set-up names."""
    name, weights = setup["model"], setup["weights"]
    entry = built_in(name)
    if weights != "random":
        config = _read_config(weights)
        if entry is not None and config.model_type != entry["config"]["model_type"]:
            raise Failure(
                "failed",
                f'the weights in {weights} are of a {config.model_type} model, and "{name}" is a '
                f"{entry['config']['model_type']} model; name the model by its folder or hub id",
            )
        return config, entry["role"] if entry else None, None
    if entry is not None:
        fields = dict(entry["config"])
        return AutoConfig.for_model(fields.pop("model_type"), **fields), entry["role"], entry["max_sequence"]
    return _read_config(name), None, None


def _read_config(place: str) -> Any:
    """The configuration in a file, a folder or on the hub."""
    try:
        if os.path.isfile(place):
            with open(place, encoding="utf-8") as file:
                fields = json.load(file)
            kind = fields.pop("model_type", None)
            if kind is None:
                raise Failure("failed", f'{place} has no "model_type", by which transformers knows an architecture')
            return AutoConfig.for_model(kind, **fields)
        return AutoConfig.from_pretrained(place)
    except Failure:
        raise
    except Exception as exc:
        known = ", ".join(entry["name"] for entry in _TABLE["models"])
        raise Failure(
            "unavailable",
            f'"{place}" is neither a built-in model ({known}), nor a config.json, nor a folder with one, nor to be had '
            f"from the hub: {type(exc).__name__}: {exc}",
        ) from exc


def _role(config: Any) -> str:
    """`decoder` or `encoder`, by the class that the configuration names; else by what transformers can make of it."""
    if getattr(config, "is_encoder_decoder", False):
        raise Failure("failed", f"{config.model_type} is an encoder and a decoder in one, which the worker cannot run")
    for name in getattr(config, "architectures", None) or []:
        return "decoder" if name.endswith(("ForCausalLM", "LMHeadModel")) else "encoder"
    from transformers.models.auto import modeling_auto as auto

    if config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return "encoder"
    return "decoder" if config.model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES else "encoder"


@contextlib.contextmanager
def _parameters_without_memory() -> Iterator[None]:
    """While modules are built, their parameters get no memory and no values; their buffers are made as always.

    Building everything on the meta device would be simpler, but the buffers that are no part of a checkpoint (inverse
    frequencies of rotary embeddings, position ids) would be lost with it, and only the module knows how to make them.
    """
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        # One that is there already is shared by two modules and must stay the same object.
        if parameter is not None and parameter.device.type != "meta":
            module._parameters[name] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _fill(model: nn.Module, device: torch.device, dtype: torch.dtype, seed: int, std: float) -> None:
    """Gives parameters memory and random values on the device, and moves buffers there.

    Matrices are normal with the configuration's deviation, one-dimensional parameters are what they are at the start
    of a training: 0 for biases, 1 for the scales of norms. Values come from one generator in the order of the model's
    own list of parameters, so they depend on seed, architecture, type and kind of device.
    """
    generator = torch.Generator(device).manual_seed(seed)
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, old in list(module._parameters.items()):
            if old is None:
                continue
            if id(old) not in made:
                data = torch.empty(old.shape, dtype=dtype if old.is_floating_point() else old.dtype, device=device)
                if data.ndim >= 2 and data.is_floating_point():
                    data.normal_(0.0, std, generator=generator)
                else:
                    data.fill_(0 if name.endswith("bias") else 1)
                made[id(old)] = nn.Parameter(data, requires_grad=False)
                # The old one must live until the end: its id stands for it.
                made[id(old)].made_of = old  # type: ignore[attr-defined]
            module._parameters[name] = made[id(old)]
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = buffer.to(device)
    for parameter in made.values():
        del parameter.made_of  # type: ignore[attr-defined]


def _make(
    kind: Any, config: Any, options: dict[str, Any], setup: dict[str, Any], device: torch.device, dtype: torch.dtype
) -> tuple[Any, str]:
    """The model with random or real weights, and what the weights are."""
    if setup["weights"] != "random":
        return kind.from_pretrained(setup["weights"], **options).to(device), setup["weights"]
    with _parameters_without_memory():
        model = kind.from_config(config, **options)
    _fill(model, device, dtype, setup["seed"], getattr(config, "initializer_range", None) or 0.02)
    model.tie_weights()
    return model, f"random, seed {setup['seed']}"


def load(setup: dict[str, Any], device: torch.device) -> Loaded:
    """Loads the model that a set-up names onto the device. Seconds are without the import of torch."""
    begin = time.monotonic()
    dtype = DTYPES[setup["dtype"]]
    config, role, max_sequence = _config(setup)
    role = role or _role(config)
    kind = AutoModelForCausalLM if role == "decoder" else AutoModel
    options = {DTYPE_KEY: dtype, "attn_implementation": setup["attention"]}
    try:
        model, weights = _make(kind, config, options, setup, device, dtype)
    except ImportError as exc:
        # What an attention implementation or a quantised checkpoint needs beside torch and transformers.
        raise Failure("unavailable", f"{type(exc).__name__}: {exc}") from exc
    model.requires_grad_(False)
    model.eval()
    left = [name for name, tensor in [*model.named_parameters(), *model.named_buffers()] if tensor.is_meta]
    if left:
        raise Failure("failed", f"no values were made for {', '.join(left[:5])} of {config.model_type}")
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    if max_sequence is None:
        max_sequence = getattr(config, "max_position_embeddings", None)
        # RoBERTa and its kin count positions from the padding's id + 1.
        if config.model_type in ("roberta", "xlm-roberta", "camembert") and max_sequence:
            max_sequence -= config.pad_token_id + 1
    return Loaded(
        model=model,
        role=role,
        parameters=sum(p.numel() for p in model.parameters()),
        weight_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        weights=weights,
        seconds=time.monotonic() - begin,
        max_sequence=max_sequence,
    )


# -- the KV cache -----------------------------------------------------------------------------------------------------


class Place:
    """Where in the sequence a decoder stands; one object for all layers of a cache.

    The library's static cache counts the position in every layer, which would take one more kernel per layer to go
    back to the end of the prompt. Here one tensor on the device holds it, and one gather moves it on.
    """

    def __init__(self, prompt: int, steps: int, device: torch.device) -> None:
        self.prompt = prompt
        self.length = prompt + steps
        self.prefilling = True
        self.position = torch.full((1,), prompt, dtype=torch.long, device=device)
        after = torch.arange(1, self.length + 1, dtype=torch.long, device=device)
        after[-1] = prompt
        self.after = after

    def advance(self) -> None:
        """To the next position; after the last one back to the end of the prompt."""
        self.position.copy_(self.after.index_select(0, self.position))


def cache_of(config: Any, place: Place) -> Any:
    """A cache with a static buffer of `place.length` tokens per layer."""
    try:
        from transformers.cache_utils import Cache, StaticLayer
    except ImportError as exc:
        raise Failure(
            "unavailable",
            f"transformers {transformers.__version__} has no layered caches, which the modes prefill and decode need: "
            "install transformers 4.56 or newer",
        ) from exc

    class Layer(StaticLayer):
        """Keys and values of one layer, [batch, heads, length, head size]."""

        # While the prompt is read the model may leave the mask away, as it does with an empty cache that grows.
        is_compileable = property(lambda self: not place.prefilling)

        def __init__(self) -> None:
            super().__init__(max_cache_len=place.length)

        def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
            if self.keys is None or self.values is None:
                batch, heads, _tokens, _size = key_states.shape
                self.keys = key_states.new_zeros(batch, heads, place.length, key_states.shape[-1])
                self.values = value_states.new_zeros(batch, heads, place.length, value_states.shape[-1])
                self.is_initialized = True
            if place.prefilling:
                tokens = key_states.shape[-2]
                self.keys[:, :, :tokens].copy_(key_states)
                self.values[:, :, :tokens].copy_(value_states)
                return key_states, value_states
            self.keys.index_copy_(2, place.position, key_states)
            self.values.index_copy_(2, place.position, value_states)
            return self.keys, self.values

        def get_mask_sizes(self, query: Any) -> tuple[int, int]:
            # The number of tokens, or in version 4 their positions.
            tokens = query if isinstance(query, int) else query.shape[0]
            return (tokens if place.prefilling else place.length), 0

        def get_seq_length(self, *_: Any) -> Any:
            return 0 if place.prefilling else place.position[0]

    layers = getattr(config, "num_hidden_layers", None)
    if not layers:
        raise Failure("failed", f"the configuration of {config.model_type} does not say how many layers it has")
    return Cache(layers=[Layer() for _ in range(layers)])


@contextlib.contextmanager
def same_masks_as_eager() -> Iterator[None]:
    """While a graph is captured or compiled, the library chooses attention masks as it does in eager mode.

    In eager mode it looks at the values of masks and positions, finds that nothing is hidden, and leaves the mask
    away, so that the fast attention kernels can run. Under capture it cannot look and makes a mask to be safe, so the
    graph would have other kernels than the model it stands for. Here nothing is ever hidden: no padding, no packing.
    """
    try:
        from transformers import masking_utils as masks
    except ImportError:
        yield
        return
    changes = {"find_packed_sequence_indices": lambda *_, **__: None, "is_tracing": lambda *_, **__: False}
    saved = {name: getattr(masks, name) for name in changes if hasattr(masks, name)}
    for name in saved:
        setattr(masks, name, changes[name])
    try:
        yield
    finally:
        for name, value in saved.items():
            setattr(masks, name, value)


# -- steps ------------------------------------------------------------------------------------------------------------


class Steps:
    """One workload on a loaded model: `run()` is one iteration, which produces `tokens` tokens."""

    def __init__(self, loaded: Loaded, setup: dict[str, Any], device: torch.device) -> None:
        self.mode, self.device = setup["mode"], device
        self.batch, self.sequence = setup["batch"], setup["sequence"]
        model, config = loaded.model, loaded.model.config
        self._check(loaded, setup)
        rows = token_ids(setup["seed"], self.batch, self.sequence, config.vocab_size)
        self.ids = torch.tensor(rows, dtype=torch.long, device=device)
        self.call: Any = model
        self.graph: Any = None
        self.compile_seconds: float | None = None
        self.capture_seconds: float | None = None
        self.tokens = self.batch * (1 if self.mode == "decode" else self.sequence)
        self.out: Any = None
        self._steps_done = 0

        if self.mode == "forward":
            step = self._forward_decoder if loaded.role == "decoder" else self._forward_encoder
        else:
            steps = setup["tokens"] if self.mode == "decode" else 0
            self.place = Place(self.sequence, max(steps, 1), device)
            if self.mode == "prefill":
                self.place.length = self.sequence
            self.cache = cache_of(config, self.place)
            self.prompt_positions = torch.arange(self.sequence, device=device)
            self.keywords = self._keywords(model)
            self.logits_key = self._logits_key(model)
            step = self._prefill
        # Once as it is, so that libraries are loaded, and to see whether the numbers make sense.
        first = step()
        self.finite = self._finite(first)
        if self.mode == "decode":
            self.place.prefilling = False
            self.token = first[:, -1:].argmax(-1)
            self.first_token = self.token.clone()
            step = self._decode
            self.finite = self._finite(step()) and self.finite
        del first
        self.eager = step
        self.run: Callable[[], Any] = self._keep(step)
        if setup["compile"]:
            self._compile(model)
        if setup["cuda_graph"]:
            self._capture()
        self.rewind()

    def _check(self, loaded: Loaded, setup: dict[str, Any]) -> None:
        if self.mode != "forward" and loaded.role != "decoder":
            raise Failure(
                "failed",
                f'mode = "{self.mode}" needs a decoder, and {setup["model"]} is an encoder: use mode = "forward"',
            )
        if self.mode == "decode" and "flash" in setup["attention"]:
            raise Failure(
                "failed",
                f'attention = "{setup["attention"]}" cannot leave out the unused end of a static cache, which '
                'mode = "decode" needs: use "sdpa" or "eager"',
            )
        if setup["cuda_graph"] and self.device.type != "cuda":
            raise Failure("failed", 'cuda_graph = true needs device = "cuda"')
        longest = self.sequence + (setup["tokens"] if self.mode == "decode" else 0)
        if loaded.max_sequence and longest > loaded.max_sequence:
            what = f"sequence = {self.sequence}" + (f" and tokens = {setup['tokens']}" if self.mode == "decode" else "")
            raise Failure("failed", f"{what} exceed the {loaded.max_sequence} positions of {setup['model']}")

    @staticmethod
    def _keywords(model: Any) -> list[str]:
        """Names under which the model wants positions; version 4 also asks for places in the cache."""
        names = inspect.signature(model.forward).parameters
        return [name for name in ("position_ids", "cache_position") if name in names]

    @staticmethod
    def _logits_key(model: Any) -> dict[str, int]:
        names = inspect.signature(model.forward).parameters
        return {name: 1 for name in ("logits_to_keep", "num_logits_to_keep") if name in names}

    def _positions(self, positions: Any) -> dict[str, Any]:
        values = {"position_ids": positions.unsqueeze(0), "cache_position": positions}
        return {name: values[name] for name in self.keywords}

    def _forward_encoder(self) -> Any:
        return self.call(input_ids=self.ids).last_hidden_state

    def _forward_decoder(self) -> Any:
        return self.call(input_ids=self.ids, use_cache=False).logits

    def _prefill(self) -> Any:
        positions = self._positions(self.prompt_positions)
        out = self.call(input_ids=self.ids, past_key_values=self.cache, use_cache=True, **positions, **self.logits_key)
        return out.logits[:, -1:]

    def _decode(self) -> Any:
        positions = self._positions(self.place.position)
        logits = self.call(input_ids=self.token, past_key_values=self.cache, use_cache=True, **positions).logits
        self.token.copy_(logits[:, -1:].argmax(-1))
        self.place.advance()
        return logits

    def _keep(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """The step, with its output alive until the next one: no tensor is freed within an iteration's time."""

        def run() -> None:
            self.out = step()

        return run

    @staticmethod
    def _finite(out: Any) -> bool:
        # Row by row: a copy of all logits may not fit.
        return all(bool(torch.isfinite(row).all()) for row in out)

    def rewind(self) -> None:
        """Back to the end of the prompt, so that every phase begins with the same step."""
        if self.mode == "decode":
            self.place.position.fill_(self.place.prompt)
            self.token.copy_(self.first_token)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _compile(self, model: Any) -> None:
        begin = time.monotonic()
        note("compiling the model")
        self.call = torch.compile(model)
        try:
            with same_masks_as_eager():
                for _ in range(3):
                    self.eager()
                self._wait()
        except Exception as exc:
            raise Failure("failed", f"torch.compile: {type(exc).__name__}: {exc}") from exc
        self.compile_seconds = time.monotonic() - begin

    def _capture(self) -> None:
        begin = time.monotonic()
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        graph = torch.cuda.CUDAGraph()
        try:
            with same_masks_as_eager():
                with torch.cuda.stream(side):
                    for _ in range(3):
                        self.eager()
                torch.cuda.current_stream(self.device).wait_stream(side)
                self._wait()
                self.out = None
                with torch.cuda.graph(graph, stream=side):
                    self.out = self.eager()
        except torch.OutOfMemoryError:
            raise
        except Exception as exc:
            raise Failure("failed", f"capture of the step as a CUDA graph: {type(exc).__name__}: {exc}") from exc
        self.graph = graph
        self.run = graph.replay
        self.run()
        self._wait()
        self.capture_seconds = time.monotonic() - begin


def free(device: torch.device) -> None:
    """Gives memory of dropped models and caches back, to the device as well: others live there."""
    gc.unfreeze()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def preload() -> None:
    """Imports the code of the built-in architectures, which transformers would do at the first use of each."""
    for family in ("gpt2", "bert", "distilbert", "roberta", "llama", "mistral", "qwen2"):
        # Another version may have arranged them otherwise; then the first use imports them.
        with contextlib.suppress(ImportError):
            importlib.import_module(f"transformers.models.{family}.modeling_{family}")
