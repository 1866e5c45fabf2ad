"""Hugging Face configs to ModelSpec. Reads JSON only; transformers is not needed."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ttt_attention import (
    AttentionSpec,
    HeadNormSpec,
    LatentAttentionSpec,
    Llama3Scaling,
    LongRopeScaling,
    RopeScaling,
    RopeSpec,
    YarnScaling,
)
from ttt_core import SpecError
from ttt_embedding import EmbeddingSpec, HeadSpec
from ttt_factory._deepseek import deepseek_experts, latent_attention
from ttt_factory._families import FAMILIES, Family
from ttt_factory._reader import CONFIG_FILE, ConfigReader, shown
from ttt_factory._tracking import Tracker
from ttt_factory.spec import DecoderLayerSpec, ModelSpec
from ttt_ffn import ActivationType, FFNSpec, MoESpec
from ttt_norm import NormSpec, NormType

__all__ = ["read_config", "read_config_at", "read_json", "spec_of_config"]

LAYER_TYPES = ("full_attention", "sliding_attention")
ROPE_KEYS = ("rope_theta", "rope_type", "type")
SCALING_KEYS = {
    "default": (),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": (
        "factor",
        "original_max_position_embeddings",
        "beta_fast",
        "beta_slow",
        "mscale",
        "mscale_all_dim",
        "attention_factor",
        "truncate",
    ),
    "longrope": ("short_factor", "long_factor", "factor", "attention_factor", "original_max_position_embeddings"),
}
LONGROPE_NAMES = ("su", "yarn")  # what Phi-3 files call longrope
ACTIVATIONS = {
    "silu": ActivationType.SILU,
    "gelu": ActivationType.GELU,
    "gelu_fast": ActivationType.GELU_TANH,
    "gelu_new": ActivationType.GELU_TANH,
    "gelu_pytorch_tanh": ActivationType.GELU_TANH,
    "relu": ActivationType.RELU,
    "relu2": ActivationType.RELU2,
    "quick_gelu": ActivationType.QUICK_GELU,
}
MAX_LAYERS = 1_000  # blocks are built one by one: more is a slip that would keep a machine busy for minutes


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


def read_config_at(path: Path) -> dict[str, Any]:
    """A config file, or the config.json of a folder: what commands that need no weights take.

    Errors: SpecError if there is neither, or it is no JSON object.
    """
    if path.is_dir() and not (path / CONFIG_FILE).is_file():
        raise SpecError(
            f"The folder {path} has no {CONFIG_FILE}. Give a Hugging Face config.json, or the folder of one."
        )
    if not path.exists():
        raise SpecError(f"There is no {path}. Give a Hugging Face config.json, or the folder of one.")
    return read_json(path / CONFIG_FILE if path.is_dir() else path)


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
    reader = ConfigReader(config, family)
    hidden_dim = reader.number("hidden_size", int)
    vocab_size = reader.number("vocab_size", int)
    max_context = reader.number("max_position_embeddings", int)
    num_layers = reader.number("num_hidden_layers", int, most=MAX_LAYERS)
    norm = _norm(reader, family, hidden_dim)
    attention = _attention(reader, family, hidden_dim, max_context, norm.eps)
    windows = _windows(reader, family, num_layers)
    ffn = _ffn(reader, family, hidden_dim)
    num_dense, experts = deepseek_experts(reader, family, hidden_dim) if family.latent else (num_layers, ffn)
    head = HeadSpec(
        vocab_size=vocab_size,
        hidden_dim=hidden_dim,
        tied=reader.flag("tie_word_embeddings"),
        bias=family.head_bias,
        soft_cap=reader.cap("final_logit_softcapping") if family.soft_caps else None,
    )
    parallel = family.residual == "parallel" and (family.shared_norm or reader.flag("use_parallel_residual"))
    residual = "pre_norm" if family.residual == "parallel" and not parallel else family.residual
    reader.finish()
    output_norm = norm if residual == "sandwich" else None
    kinds = [(window, ffn if number < num_dense else experts) for number, window in enumerate(windows)]
    layers = {
        (window, own): DecoderLayerSpec(
            attention=attention if isinstance(attention, LatentAttentionSpec) else replace(attention, window=window),
            ffn=own,
            attention_norm=norm,
            ffn_norm=norm,
            residual=residual,
            shared_norm=family.shared_norm,
            attention_output_norm=output_norm,
            ffn_output_norm=output_norm,
        )
        for window, own in set(kinds)
    }
    track = Tracker(family.names)
    return ModelSpec(
        family=str(config["model_type"]),
        hidden_dim=hidden_dim,
        vocab_size=vocab_size,
        max_context=max_context,
        embedding=track.part(
            EmbeddingSpec(
                vocab_size=vocab_size, hidden_dim=hidden_dim, scale=hidden_dim**0.5 if family.soft_caps else 1.0
            ),
            "embedding",
        ),
        layers=tuple(track.layer(layers[kind], number) for number, kind in enumerate(kinds)),
        final_norm=track.part(norm, "final_norm"),
        head=track.part(head, "head"),
    )


def _attention(
    reader: ConfigReader, family: Family, hidden_dim: int, max_context: int, eps: float
) -> AttentionSpec | LatentAttentionSpec:
    if family.latent:
        rope = _rope(reader, family, reader.number("qk_rope_head_dim", int), max_context)
        return latent_attention(reader, hidden_dim=hidden_dim, max_context=max_context, rope=rope)
    num_heads = reader.number("num_attention_heads", int)
    grouped = reader.optional("num_key_value_heads") is not None  # null means one for each query head
    width = hidden_dim // num_heads
    head_dim = reader.number("head_dim", int, default=width) if family.head_dim_key else width
    biased = family.attention_bias_key and reader.flag("attention_bias")
    return AttentionSpec(
        hidden_dim=hidden_dim,
        num_heads=num_heads,
        num_kv_heads=reader.number("num_key_value_heads", int) if grouped else num_heads,
        head_dim=head_dim,
        max_context=max_context,
        rope=_rope(reader, family, head_dim, max_context),
        qkv_bias=family.qkv_bias or biased,
        output_bias=family.output_bias or biased,
        head_norm=HeadNormSpec(eps=eps) if family.head_norm else None,
        score_scale=reader.number("query_pre_attn_scalar", float) ** -0.5 if family.soft_caps else None,
        soft_cap=reader.cap("attn_logit_softcapping") if family.soft_caps else None,
    )


def _ffn(reader: ConfigReader, family: Family, hidden_dim: int) -> FFNSpec | MoESpec:
    activation = ActivationType.SILU
    if "hidden_act" not in family.required:
        name = reader.get("hidden_act")
        if name not in ACTIVATIONS:
            raise SpecError(
                f"{CONFIG_FILE}: {reader.name('hidden_act')} is {shown(name)}; supported are: {', '.join(ACTIVATIONS)}."
            )
        activation = ACTIVATIONS[name]
    # Only GPT-J lets it out, and then means four times the hidden size.
    intermediate_dim = reader.number("intermediate_size", int, default=4 * hidden_dim)
    ffn = FFNSpec(
        hidden_dim=hidden_dim,
        intermediate_dim=intermediate_dim,
        activation=activation,
        gated=family.gated,
        bias=family.ffn_bias,
    )
    if not family.experts:
        return ffn
    return MoESpec(
        experts=reader.number("num_local_experts", int), active=reader.number("num_experts_per_tok", int), ffn=ffn
    )


def _norm(reader: ConfigReader, family: Family, hidden_dim: int) -> NormSpec:
    layer = family.norm == "layer"
    return NormSpec(
        dim=hidden_dim,
        eps=reader.number("rms_norm_eps", float),
        kind=NormType.LAYER if layer else NormType.RMS,
        offset=1 if family.norm == "rms_plus_one" else 0,
        bias=layer,
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


def _rope(reader: ConfigReader, family: Family, head_dim: int, max_context: int) -> RopeSpec:
    """transformers 5 writes rope_parameters; older files have rope_theta and rope_scaling."""
    theta, old = reader.get("rope_theta"), reader.get("rope_scaling")
    new = reader.get("rope_parameters")
    for key, value in (("rope_parameters", new), ("rope_scaling", old)):
        if value is not None and not isinstance(value, Mapping):
            raise SpecError(f"{CONFIG_FILE}: {key} is {value!r}, a JSON object is wanted.")
    parameters: Mapping[str, Any] = new or old or {}
    theta = _positive(parameters.get("rope_theta") or theta or 10_000.0, "rope_theta")
    kind = parameters.get("rope_type", parameters.get("type", "default"))
    if kind in LONGROPE_NAMES and "longrope" in family.rope_types:
        kind = "longrope"
    if kind not in family.rope_types:
        raise SpecError(
            f"{CONFIG_FILE}: rope scaling {kind!r} is not supported; supported are: {', '.join(family.rope_types)}."
        )
    shared = ROPE_KEYS if family.rotated in (None, "rotary_dim") else (*ROPE_KEYS, "partial_rotary_factor")
    known = (*shared, *SCALING_KEYS[kind])
    for key, value in parameters.items():
        if key not in known and value:
            raise SpecError(
                f"{CONFIG_FILE}: {key} = {shown(value)} of the rotary embedding is not understood with rope type {kind!r} "
                f"and could change the result; understood are: {', '.join(known)}. Remove it if it has no influence."
            )
    dim = _rotated(reader, family, parameters, head_dim)
    scaling: RopeScaling | None = _yarn(parameters) if kind == "yarn" else None
    if "longrope" in family.rope_types:  # also where its key is without influence
        original = reader.number("original_max_position_embeddings", int)
        scaling = _longrope(parameters, original, max_context) if kind == "longrope" else None
    if kind == "llama3":
        scaling = Llama3Scaling(
            factor=_positive(parameters.get("factor"), "factor"),
            low_freq_factor=_positive(parameters.get("low_freq_factor"), "low_freq_factor"),
            high_freq_factor=_positive(parameters.get("high_freq_factor"), "high_freq_factor"),
            original_context=_whole(
                parameters.get("original_max_position_embeddings"), "original_max_position_embeddings"
            ),
        )
    style = family.rope_style
    if family.latent and "rope_interleave" in family.defaults and not reader.flag("rope_interleave"):
        style = "half"
    return RopeSpec(theta=theta, scaling=scaling, style=style, dim=dim)


def _yarn(parameters: Mapping[str, Any]) -> YarnScaling:
    """Keys that are not there have transformers' defaults; an mscale of 0 is none [_compute_yarn_parameters]."""

    def optional(key: str, default: float | None = None) -> Any:
        return _positive(value, key) if (value := parameters.get(key)) else default

    return YarnScaling(
        factor=_positive(parameters.get("factor"), "factor"),
        original_context=_whole(parameters.get("original_max_position_embeddings"), "original_max_position_embeddings"),
        beta_fast=optional("beta_fast", 32.0),
        beta_slow=optional("beta_slow", 1.0),
        attention_factor=optional("attention_factor"),
        mscale=optional("mscale"),
        mscale_all_dim=optional("mscale_all_dim"),
        truncate=parameters.get("truncate", True) is not False,
    )


def _rotated(reader: ConfigReader, family: Family, parameters: Mapping[str, Any], head_dim: int) -> int | None:
    """How many elements of a head turn; None for all."""
    if family.rotated is None:
        return None
    if family.rotated == "rotary_dim":
        dim = reader.number("rotary_dim", int)
    else:
        share = reader.number(family.rotated, float)
        dim = int(head_dim * _positive(parameters.get("partial_rotary_factor", share), "partial_rotary_factor"))
    return None if dim == head_dim else dim


def _longrope(parameters: Mapping[str, Any], original: int, max_context: int) -> LongRopeScaling:
    """The attention factor is sqrt(1 + ln(factor) / ln(original)) unless given [_compute_longrope_parameters]."""
    original = _whole(parameters.get("original_max_position_embeddings", original), "original_max_position_embeddings")
    factors = {}
    for key in ("short_factor", "long_factor"):
        if not isinstance(values := parameters.get(key), list):
            raise SpecError(f"{CONFIG_FILE}: {key} of the rotary embedding is {shown(values)}, a list is wanted.")
        factors[key] = tuple(_positive(value, key) for value in values)
    given = parameters.get("attention_factor")
    factor = _positive(parameters.get("factor") or max_context / original, "factor")
    attention_factor = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 and original > 1 else 1.0
    return LongRopeScaling(
        short_factors=factors["short_factor"],
        long_factors=factors["long_factor"],
        original_context=original,
        attention_factor=attention_factor if given is None else _positive(given, "attention_factor"),
    )


def _windows(reader: ConfigReader, family: Family, num_layers: int) -> list[int | None]:
    """How many tokens each layer's queries see; None for all."""
    if family.window == "none":
        return [None] * num_layers
    window = reader.optional("sliding_window")
    if window is not None and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
        raise SpecError(f"{CONFIG_FILE}: sliding_window is {window!r}, a positive integer or null is wanted.")
    if family.window == "all_layers":
        return [window] * num_layers
    if family.window == "alternating":
        kinds = reader.get("layer_types") or [
            "full_attention" if layer % 2 else "sliding_attention" for layer in range(num_layers)
        ]
        return _by_kind(kinds, window, num_layers)
    full = (
        reader.number("max_window_layers", int, default=num_layers) if reader.flag("use_sliding_window") else num_layers
    )
    reader.get("max_window_layers")
    kinds = reader.get("layer_types") or [
        "sliding_attention" if window is not None and layer >= full else "full_attention" for layer in range(num_layers)
    ]
    return _by_kind(kinds, window, num_layers)


def _by_kind(kinds: Any, window: int | None, num_layers: int) -> list[int | None]:
    if not isinstance(kinds, list) or len(kinds) != num_layers or any(kind not in LAYER_TYPES for kind in kinds):
        raise SpecError(
            f"{CONFIG_FILE}: layer_types is {kinds!r}; a list of {num_layers} is wanted, each one of {', '.join(LAYER_TYPES)}."
        )
    return [window if kind == "sliding_attention" else None for kind in kinds]


def _positive(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= sys.float_info.max:
        raise SpecError(f"{CONFIG_FILE}: {key} of the rotary embedding is {shown(value)}, a positive number is wanted.")
    return float(value)


def _whole(value: Any, key: str) -> int:
    number = _positive(value, key)
    if not number.is_integer():
        raise SpecError(f"{CONFIG_FILE}: {key} of the rotary embedding is {value!r}, a whole number is wanted.")
    return int(number)
