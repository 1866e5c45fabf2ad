"""Hugging Face configs to ModelSpec. Reads JSON only; transformers is not needed."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ttt_attention import AttentionSpec, HeadNormSpec, Llama3Scaling, RopeSpec
from ttt_core import SpecError
from ttt_embedding import EmbeddingSpec, HeadSpec
from ttt_factory.families import FAMILIES, UNUSED_EVERYWHERE, Family
from ttt_factory.spec import DecoderLayerSpec, ModelSpec
from ttt_ffn import FFNSpec
from ttt_norm import NormSpec

CONFIG_FILE = "config.json"
ROPE_TYPES = ("default", "llama3")
LAYER_TYPES = ("full_attention", "sliding_attention")
ROPE_KEYS = ("rope_theta", "rope_type", "type")
LLAMA3_KEYS = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
MAX_LAYERS = 1_000  # blocks are built one by one: more is a slip that would keep a machine busy for minutes

Number = TypeVar("Number", int, float)


def read_config(directory: str | Path) -> dict[str, Any]:
    """The config.json of a checkpoint directory. Raises SpecError if there is none or it is no JSON object."""
    directory = Path(directory)
    path = directory / CONFIG_FILE
    if not path.is_file():
        what = "is not a directory" if not directory.is_dir() else f"has no {CONFIG_FILE}"
        raise SpecError(
            f"{directory} {what}. Give the directory of a Hugging Face checkpoint, with config.json, safetensors and tokenizer."
        )
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """A config file by its own name. Raises SpecError if it cannot be read or is no JSON object."""
    try:
        config = json.loads(path.read_text())
    except OSError as error:
        raise SpecError(f"{path} cannot be read: {error.strerror}. Give a file that this user may read.") from error
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path} is not valid JSON: {error}. Fetch the checkpoint again.") from error
    if not isinstance(config, dict):
        raise SpecError(f"{path} holds a {type(config).__name__}, a JSON object is wanted. Fetch the checkpoint again.")
    return config


def spec_of_config(config: Mapping[str, Any]) -> ModelSpec:
    """The ModelSpec that a config describes.

    Errors: SpecError for an unsupported model_type, a key that would change the result and is not understood, a value out of
    range; each names the key, the value and what is possible.
    """
    family = _family(config)
    reader = _Reader(config, family)
    hidden_dim = reader.number("hidden_size", int)
    num_heads = reader.number("num_attention_heads", int)
    grouped = reader.optional("num_key_value_heads") is not None  # null means one for each query head
    num_kv_heads = reader.number("num_key_value_heads", int) if grouped else num_heads
    head_dim = reader.number("head_dim", int, default=hidden_dim // num_heads)
    vocab_size = reader.number("vocab_size", int)
    max_context = reader.number("max_position_embeddings", int)
    eps = reader.number("rms_norm_eps", float)
    num_layers = reader.number("num_hidden_layers", int, most=MAX_LAYERS)
    tied = reader.flag("tie_word_embeddings")
    attention = AttentionSpec(
        hidden_dim=hidden_dim,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        max_context=max_context,
        rope=_rope(reader),
        qkv_bias=family.qkv_bias,
        head_norm=HeadNormSpec(eps=eps) if family.head_norm else None,
    )
    windows = _windows(reader, family, num_layers)
    ffn = FFNSpec(hidden_dim=hidden_dim, intermediate_dim=reader.number("intermediate_size", int))
    norm = NormSpec(dim=hidden_dim, eps=eps)
    reader.finish()
    layers = {
        window: DecoderLayerSpec(
            attention=replace(attention, window=window), ffn=ffn, attention_norm=norm, ffn_norm=norm
        )
        for window in set(windows)
    }
    return ModelSpec(
        family=str(config["model_type"]),
        hidden_dim=hidden_dim,
        vocab_size=vocab_size,
        max_context=max_context,
        embedding=EmbeddingSpec(vocab_size=vocab_size, hidden_dim=hidden_dim),
        layers=tuple(layers[window] for window in windows),
        final_norm=norm,
        head=HeadSpec(vocab_size=vocab_size, hidden_dim=hidden_dim, tied=tied),
    )


def _family(config: Mapping[str, Any]) -> Family:
    model_type = config.get("model_type")
    family = FAMILIES.get(str(model_type))
    if family is None:
        given = f"model_type {model_type!r}" if model_type is not None else "no model_type"
        raise SpecError(f"{CONFIG_FILE} has {given}; supported are: {', '.join(sorted(FAMILIES))}.")
    architectures = config.get("architectures") or [family.architecture]
    if architectures != [family.architecture]:
        raise SpecError(
            f"{CONFIG_FILE} names the architecture {architectures}; of model_type {model_type!r} only "
            f"{family.architecture} is supported."
        )
    return family


class _Reader:
    """Reads keys with types and defaults, and remembers which were read."""

    def __init__(self, config: Mapping[str, Any], family: Family) -> None:
        self._config = config
        self._family = family
        self._read: set[str] = set()

    def get(self, key: str) -> Any:
        self._read.add(key)
        value = self._config.get(key)
        return self._family.defaults.get(key) if value is None else value

    def optional(self, key: str) -> Any:
        """A key whose null means none, and not the default."""
        self._read.add(key)
        return self._config[key] if key in self._config else self._family.defaults.get(key)

    def number(self, key: str, kind: type[Number], *, default: Number | None = None, most: int = 2**31 - 1) -> Number:
        """A positive number; an integer is at most `most`, by default what ttnn's sizes and positions can hold."""
        value = self.get(key)
        value = default if value is None else value
        allowed = (int,) if kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, allowed) or not 0 < value <= sys.float_info.max:
            word = "a positive integer" if kind is int else "a positive number"
            raise SpecError(f"{CONFIG_FILE}: {key} is {_shown(value)}, {word} is wanted.")
        if kind is int and value > most:
            raise SpecError(f"{CONFIG_FILE}: {key} is {_shown(value)}, at most {most:,} is wanted.")
        return kind(value)

    def flag(self, key: str) -> bool:
        value = self.get(key)
        if not isinstance(value, bool):
            raise SpecError(f"{CONFIG_FILE}: {key} is {value!r}, true or false is wanted.")
        return value

    def finish(self) -> None:
        """Every key is read, without influence, or an error; an unknown key that says no (null, false, empty) is let pass."""
        for key, wanted in self._family.required.items():
            value = self._config.get(key, wanted)
            if value != wanted:
                raise SpecError(
                    f"{CONFIG_FILE}: {key} is {value!r}; of {self._family.architecture} only {wanted!r} is supported so far."
                )
        known = self._read | UNUSED_EVERYWHERE | self._family.unused | self._family.required.keys()
        for key, value in self._config.items():
            if key not in known and value:
                close = difflib.get_close_matches(key, known, n=1)
                hint = f" Did you mean {close[0]}?" if close else ""
                raise SpecError(
                    f"{CONFIG_FILE}: {key} = {value!r} is not understood and could change the result, so it is not passed "
                    f"over.{hint} Remove it if it has no influence."
                )


def _rope(reader: _Reader) -> RopeSpec:
    """transformers 5 writes rope_parameters; older files have rope_theta and rope_scaling."""
    theta, old = reader.get("rope_theta"), reader.get("rope_scaling")
    new = reader.get("rope_parameters")
    for key, value in (("rope_parameters", new), ("rope_scaling", old)):
        if value is not None and not isinstance(value, Mapping):
            raise SpecError(f"{CONFIG_FILE}: {key} is {value!r}, a JSON object is wanted.")
    parameters = new or old or {}
    theta = parameters.get("rope_theta") or theta or 10_000.0
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind not in ROPE_TYPES:
        raise SpecError(
            f"{CONFIG_FILE}: rope scaling {kind!r} is not supported; supported are: {', '.join(ROPE_TYPES)}."
        )
    known = ROPE_KEYS if kind == "default" else (*ROPE_KEYS, *LLAMA3_KEYS)
    for key, value in parameters.items():
        if key not in known and value:
            raise SpecError(
                f"{CONFIG_FILE}: {key} = {_shown(value)} of the rotary embedding is not understood with rope type {kind!r} "
                f"and could change the result; understood are: {', '.join(known)}. Remove it if it has no influence."
            )
    if kind == "default":
        return RopeSpec(theta=_positive(theta, "rope_theta"))
    scaling = Llama3Scaling(
        factor=_positive(parameters.get("factor"), "factor"),
        low_freq_factor=_positive(parameters.get("low_freq_factor"), "low_freq_factor"),
        high_freq_factor=_positive(parameters.get("high_freq_factor"), "high_freq_factor"),
        original_context=_whole(parameters.get("original_max_position_embeddings"), "original_max_position_embeddings"),
    )
    return RopeSpec(theta=_positive(theta, "rope_theta"), scaling=scaling)


def _windows(reader: _Reader, family: Family, num_layers: int) -> list[int | None]:
    """How many tokens each layer's queries see; None for all."""
    if family.window == "none":
        return [None] * num_layers
    window = reader.optional("sliding_window")
    if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
        raise SpecError(f"{CONFIG_FILE}: sliding_window is {window!r}, a positive integer or null is wanted.")
    if family.window == "all_layers":
        return [window] * num_layers
    full = (
        reader.number("max_window_layers", int, default=num_layers) if reader.flag("use_sliding_window") else num_layers
    )
    reader.get("max_window_layers")
    kinds = reader.get("layer_types") or [
        "sliding_attention" if window is not None and layer >= full else "full_attention" for layer in range(num_layers)
    ]
    if not isinstance(kinds, list) or len(kinds) != num_layers or any(kind not in LAYER_TYPES for kind in kinds):
        raise SpecError(
            f"{CONFIG_FILE}: layer_types is {kinds!r}; a list of {num_layers} is wanted, each one of {', '.join(LAYER_TYPES)}."
        )
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _positive(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= sys.float_info.max:
        raise SpecError(
            f"{CONFIG_FILE}: {key} of the rotary embedding is {_shown(value)}, a positive number is wanted."
        )
    return float(value)


def _whole(value: Any, key: str) -> int:
    number = _positive(value, key)
    if not number.is_integer():
        raise SpecError(f"{CONFIG_FILE}: {key} of the rotary embedding is {value!r}, a whole number is wanted.")
    return int(number)


def _shown(value: object) -> str:
    """Not more than a line of it: a config can hold a number of any length."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
