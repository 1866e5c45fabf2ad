"""Every registered block: made when a device is there, told how precisely and by which configs, asked what it takes."""

from __future__ import annotations

import inspect
import json
from typing import Any, get_args

import numpy as np
import pytest
from tools.workspace import packages

from ttt_core import DeviceError, LazyModule, ModuleRecord, PlacementError, ShapeError, SpecError, modules
from ttt_hw import board_of, record_operations, upload
from ttt_patterns import Residual
from ttt_weights import RandomWeights

CATEGORIES = ("attention", "embedding", "ffn", "head", "layer", "norm")
RECORDS = {
    record.name: record for record in modules() if record.package in packages() and record.category in CATEGORIES
}
HEADS = {"hidden_dim": 64, "num_heads": 2}
GROUPED = {**HEADS, "num_kv_heads": 1, "max_context": 1024}
INNER = {"hidden_dim": 64, "intermediate_dim": 96}
CONFIGS: dict[str, dict[str, Any]] = {
    "BaseAttention": GROUPED,
    "FlashAttention": GROUPED,
    "GroupedQueryAttention": GROUPED,
    "MultiHeadAttention": {**HEADS, "max_context": 1024},
    "MultiLatentAttention": {
        **HEADS,
        "q_rank": 64,
        "kv_rank": 64,
        "nope_dim": 32,
        "rope_dim": 32,
        "v_head_dim": 32,
        "max_context": 1024,
    },
    "MultiHeadCrossAttention": {**HEADS, "max_memory": 128},
    "SlidingWindowAttention": {**GROUPED, "window": 64},
    "TokenEmbedding": {"vocab_size": 96, "hidden_dim": 64},
    "PositionEmbedding": {"num_positions": 1024, "hidden_dim": 64},
    "GatedMLP": INNER,
    "GeGLU": INNER,
    "SwiGLU": INNER,
    "MLP": INNER,
    "MoE": {**INNER, "experts": 4, "active": 2},
    "HeadTransform": {"hidden_dim": 64, "activation": "gelu"},
    "LMHead": {"vocab_size": 96, "hidden_dim": 64},
    "LayerNorm": {"dim": 64},
    "RMSNorm": {"dim": 64},
}


def part(name: str, **more: Any) -> LazyModule[Any]:
    return LazyModule(RECORDS[name].load(), CONFIGS[name], **more)


CONFIGS |= {
    "DecoderLayer": {"attention": part("MultiHeadAttention"), "ffn": part("SwiGLU"), "norm": part("RMSNorm")},
    "EncoderLayer": {
        "attention": part("MultiHeadAttention", causal=False),
        "ffn": part("MLP"),
        "norm": part("LayerNorm"),
    },
    "CrossAttentionLayer": {
        "attention": part("MultiHeadAttention"),
        "cross_attention": part("MultiHeadCrossAttention"),
        "ffn": part("MoE"),
        "norm": part("LayerNorm"),
    },
}
EACH = pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)


def test_every_registered_block_is_here() -> None:
    assert RECORDS.keys() == CONFIGS.keys()


def shape(record: ModuleRecord, rows: int) -> tuple[int, ...]:
    return (1, rows) if record.category == "embedding" else (1, 1, rows, 64)


@EACH
def test_a_block_is_made_for_a_device_and_says_what_it_is(record: ModuleRecord, mesh: Any) -> None:
    block = LazyModule(record.load(), CONFIGS[record.name]).materialize(mesh)
    assert type(block) is record.load()
    config = json.loads(json.dumps(block.get_config()))
    assert config["block"] == record.name
    described = config["parts"].values() if record.category == "layer" else [config]
    assert all(each["spec"] and each["dtypes"] and each["stored"].keys() <= each["dtypes"].keys() for each in described)
    small, large = (block.estimate_memory(shape(record, rows)) for rows in (32, 1024))
    assert small.weight_bytes == large.weight_bytes == sum(weight.num_bytes for weight in block.weights) > 0
    assert large.activation_bytes > small.activation_bytes > 0
    assert small.dram_bytes == small.weight_bytes + small.activation_bytes
    step = block.estimate_memory(shape(record, 32), mode="decode") if record.name != "EncoderLayer" else small
    assert 0 < step.l1_bytes_per_core < board_of(mesh).chip.l1_bytes_per_core
    with pytest.raises(ShapeError, match=r"^estimate_memory of \[2, 1, 32, 64\]: give \[1, 1, rows, dim\]"):
        block.estimate_memory((2, 1, 32, 64))


@EACH
def test_a_block_has_hardware_modes(record: ModuleRecord, mesh: Any) -> None:
    kind = record.load()
    for mode in ("performance", "accuracy", "balanced"):
        assert (kind.get_default_hw_config("T3K", mode=mode).device, mode) == ("t3k", mode)
        made = kind(**CONFIGS[record.name], device=mesh, hw_mode=mode)
        for each in made._parts.values() if record.category == "layer" else [made]:
            chosen = type(each).get_default_hw_config("n150", mode).precision
            for role in chosen.keys() & {"qkv_weights", "gate_weights", "up_weights", "head_weights"}:
                stored = role.removesuffix("s") if "head" not in role else "weight"
                assert each._plans.dtypes.get(stored, chosen[role]) == chosen[role]
    with pytest.raises(DeviceError, match="Unknown device 't4k'"):
        kind.get_default_hw_config("t4k")
    unknown = r"^hardware mode 'best' is not known; known are performance, accuracy, balanced\.$"
    with pytest.raises(PlacementError, match=unknown):
        kind.get_default_hw_config("t3k", "best")
    with pytest.raises(PlacementError, match=unknown):
        kind(**CONFIGS[record.name], device=mesh, hw_mode="best")


@EACH
def test_a_block_takes_overrides(record: ModuleRecord, mesh: Any) -> None:
    """Of each of its parts that are made with it."""
    kind, config = record.load(), CONFIGS[record.name]
    mode, rows = ("prefill", 1024) if record.name == "EncoderLayer" else ("decode", 32)
    planned = {op.name: op.pattern for op in kind(**config, device=mesh).op_times(mode, rows) if op.pattern}
    parts = {name.partition(".")[0] for name in planned} if record.category == "layer" else [""]
    for part_name in parts:
        name = next(op for op in planned if op.startswith(f"{part_name}." if part_name else ""))
        kind(**config, device=mesh, hw_config_overrides={f"{mode}.{name}": {"pattern": planned[name]}})
        with pytest.raises(
            PlacementError, match=f"{name.removeprefix(f'{part_name}.')} on n150: pattern='NoSuchMatmul' does not"
        ):
            kind(**config, device=mesh, hw_config_overrides={f"{mode}.{name}": {"pattern": "NoSuchMatmul"}})
    with pytest.raises(PlacementError, match=r"^hw_config_overrides .*names 'decode\.nothing'"):
        kind(**config, device=mesh, hw_config_overrides={"decode.nothing": {"fidelity": "HiFi4"}})


LAYERS = {name: config for name, config in CONFIGS.items() if "norm" in config}


@pytest.mark.parametrize("name", LAYERS)
def test_what_a_layer_passes_on(name: str, mesh: Any) -> None:
    kind, config = RECORDS[name].load(), LAYERS[name]
    own = {**config, "ffn": config["ffn"].given(hw_mode="accuracy")}
    overrides = {"prefill.attention.output_matmul": {"pattern": "BcastMatmul"}}
    layer = kind(**own, device=mesh, hw_mode="performance", hw_config_overrides=overrides)
    dtypes = {part: block._plans.dtypes for part, block in layer._parts.items()}
    assert "bfloat4_b" not in dtypes["ffn"].values()  # which says its own
    assert dtypes["attention"]["qkv_weight"] == "bfloat8_b"
    changed = [op.name for op in layer.op_times("prefill", 1024) if op.pattern == "BcastMatmul"]
    assert changed == ["attention.output_matmul"]
    made = {part: block.materialize(mesh) for part, block in config.items()}
    with pytest.raises(SpecError, match=r"Layer was given hw_mode='accuracy', and its parts are made already\. Give"):
        kind(**made, device=mesh, hw_mode="accuracy")
    with pytest.raises(
        PlacementError, match=r"names 'attention\.qkv_matmul'; .* its parts are made already\. Give it to the p"
    ):
        kind(**made, device=mesh, hw_config_overrides={"attention.qkv_matmul": {"fidelity": "HiFi4"}})


def test_what_a_layer_cannot_say(mesh: Any) -> None:
    class Plain:
        def prefill_forward(self, x: Any, /, **_: Any) -> Any:
            return x

        decode_forward = prefill_forward

    kind = RECORDS["DecoderLayer"].load()
    layer = kind(**{**LAYERS["DecoderLayer"], "ffn": Plain()}, device=mesh)
    assert layer.get_config()["parts"]["ffn"] == {"block": "Plain"}
    with pytest.raises(
        PlacementError, match=r"^ffn of this DecoderLayer is a Plain, which has no estimate_memory\. Add it"
    ):
        layer.estimate_memory((1, 1, 32, 64))
    with pytest.raises(ShapeError, match=r"^estimate_memory of \[1, 32\] of a DecoderLayer: give \[1, 1, rows, dim\]"):
        kind(**LAYERS["DecoderLayer"], device=mesh).estimate_memory((1, 32))


def test_a_layer_that_is_itself_yet_to_be_made(mesh: Any) -> None:
    """As a part of another one may be."""
    lazy = LazyModule(RECORDS["DecoderLayer"].load(), LAYERS["DecoderLayer"], residual_pattern="parallel")
    assert lazy.materialize(mesh).get_config()["residual_pattern"] == "parallel"
    assert lazy.materialize(mesh).attention is not lazy.materialize(mesh).attention


PATTERNS: list[tuple[str, dict[str, Any]]] = [
    (name, {}) for name, record in RECORDS.items() if record.category != "layer"
]
PATTERNS += [("DecoderLayer", {"residual_pattern": each}) for each in get_args(Residual)]
PATTERNS += [("CrossAttentionLayer", {"residual_pattern": each}) for each in ("pre_norm", "post_norm")]
PATTERNS += [("EncoderLayer", {})]


@pytest.mark.parametrize(("name", "more"), PATTERNS)
def test_a_block_takes_the_memory_that_it_says(name: str, more: dict[str, Any], mesh: Any) -> None:
    """Of activations in prefill; what comes in is there before."""
    rows, dim = 1024, 512
    block = _widened(LazyModule(RECORDS[name].load(), CONFIGS[name]), dim).given(**more).materialize(mesh)
    for weight in block.load(RandomWeights()).weights:
        weight.tensor  # noqa: B018  (stored now)

    def hidden(count: int) -> Any:
        return upload(np.zeros((1, 1, count, dim), np.float32), mesh, dtype="bfloat16")

    def indices(dtype: Any) -> Any:
        return upload(np.arange(rows).astype(dtype)[None], mesh, dtype=dtype, layout="row_major")

    ids = RECORDS[name].category == "embedding"
    x, bytes_of_x = (indices("uint32"), rows * 4) if ids else (hidden(rows), rows * dim * 2)
    known = {"memory": hidden(128), "cache": None, "memory_cache": None, "positions": indices("int32")}
    takes = inspect.signature(block.prefill_forward).parameters
    given = {key: value for key, value in known.items() if key in takes}
    with record_operations(mesh) as recorder:
        block.prefill_forward(x, **given)
    taken = recorder.peak_dram_bytes_per_bank * board_of(mesh).chip.dram_banks
    said = block.estimate_memory(tuple(x.shape)).activation_bytes - bytes_of_x
    assert 0.99 * taken <= said <= 1.2 * taken, (taken, said)  # ttnn rounds up to as many pages in each bank


def _widened(lazy: LazyModule[Any], dim: int) -> LazyModule[Any]:
    """As wide as asked, and so its parts, in what they have of width."""
    wide = {"hidden_dim": dim, "dim": dim, "intermediate_dim": 2 * dim, "vocab_size": 4096}
    arguments = {
        key: _widened(value, dim) if isinstance(value, LazyModule) else wide.get(key, value)
        for key, value in lazy.arguments.items()
    }
    return LazyModule(lazy.cls, arguments)
