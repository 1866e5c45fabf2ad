"""Lists of operations: the ones that the forwards issue, sizes that add up to the spec, and every family, mode and split."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import pytest

from ttt_attention import AttentionSpec, LatentAttentionSpec, padded_head_dim
from ttt_attention.heads import split_heads
from ttt_core import PlacementError, ShapeError, SpecError
from ttt_factory import ModelSpec, spec_of_config
from ttt_factory.huggingface import read_json
from ttt_factory.requests import ModelRequest, model_request, precision_of
from ttt_factory.spec import DecoderLayerSpec
from ttt_ffn import FFNSpec, MoESpec
from ttt_hw import ComputeKernel
from ttt_hw.requests import (
    BatchedMatmulRequest,
    BinaryRequest,
    BlockRequest,
    DecodeAttentionRequest,
    MatmulRequest,
    MoveRequest,
    OpRequest,
    PrefillAttentionRequest,
    Workload,
)

PROGRAM = Path(__file__).with_name("issued_operations.py")
CONFIGS = Path(__file__).with_name("configs")
ALL = sorted(path.stem for path in CONFIGS.glob("*.json"))
CHIPS = (1, 2, 4, 8, 16, 32)
WORKS = [
    *(Workload(mode="decode", users=users, context=1024) for users in (1, 8, 32)),
    *(Workload(mode="prefill", tokens=tokens, context=max(tokens, 1024)) for tokens in (100, 1024, 2048, 8192)),
]
NAMES = {
    "MatmulRequest": "linear",
    "LMHeadRequest": "linear",
    "NormRequest": "rms_norm",
    "EmbeddingRequest": "embedding",
    "RotaryRequest": "experimental.rotary_embedding_hf",
    "HeadConcatRequest": "experimental.nlp_concat_heads",
    "PrefillAttentionRequest": "transformer.scaled_dot_product_attention",
    "DecodeAttentionRequest": "transformer.scaled_dot_product_attention_decode",
    "ConcatRequest": "concat",
    "CacheFillRequest": "fill_cache",
    "CacheUpdateRequest": "experimental.paged_update_cache",
}


def spec_of(name: str) -> ModelSpec:
    return spec_of_config(read_json(CONFIGS / f"{name}.json"))


def every_operation(request: ModelRequest) -> Iterator[OpRequest]:
    for part in request.parts:
        yield from part.block.ops


def ttnn_name(op: OpRequest) -> str:
    if isinstance(op, MoveRequest):
        return op.op
    if isinstance(op, BinaryRequest):
        return "multiply" if op.op == "mul" else op.op
    kind = type(op).__name__
    if kind == "CollectiveRequest":
        return str(op.kind)  # type: ignore[attr-defined]
    if kind == "HeadSplitRequest":
        return "experimental.nlp_create_qkv_heads" + ("_decode" if op.mode == "decode" else "")  # type: ignore[attr-defined]
    return NAMES[kind]


def listed(spec: ModelSpec, work: Workload) -> list[tuple[str, list[str]]]:
    """As a recorder writes operations down; without views."""
    precision = dict.fromkeys(precision_of(spec, "balanced"), "bfloat8_b")
    return [
        (ttnn_name(op), [f"{list(type_.shape)} {type_.dtype}" for type_ in op.operands])
        for op in every_operation(model_request(spec, work, precision))  # type: ignore[arg-type]
        if ttnn_name(op) != "reshape"
    ]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    import issued_operations

    return issued_operations


def same_as_issued(program: Any, found: dict[str, Any], chips: int) -> int:
    """How many operations were compared."""
    compared = 0
    for name, works in found.items():
        for title, operations in works.items():
            work = replace(program.WORKS[title], chips=chips)
            issued = [(operation, inputs) for operation, inputs in operations]
            assert listed(program.one_layer(name), work) == issued, (name, title)
            compared += len(issued)
    return compared


def test_lists_are_what_the_forwards_issue(mesh: Any, program: Any) -> None:
    assert same_as_issued(program, {name: program.issued(name, mesh) for name in program.MODELS}, 1) > 500


def test_lists_are_what_the_forwards_issue_on_eight_chips(program: Any) -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "t3k"], capture_output=True, text=True, check=False, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert same_as_issued(program, found, 8) > 500
    assert sum(operation == "all_reduce" for operation, _ in found["llama-3.2-1b"]["decode 1"]) == 2


def splits(spec: ModelSpec, chips: int) -> bool:
    try:
        split_heads(spec.layers[0].attention, chips)
    except PlacementError:
        return False
    return True


@pytest.mark.parametrize("name", ALL)
def test_every_split_and_workload_has_a_list(name: str) -> None:
    spec = spec_of(name)
    for chips in CHIPS:
        for work in WORKS:
            whole = replace(work, chips=chips)
            if not splits(spec, chips):
                with pytest.raises(PlacementError, match="do not split over"):
                    model_request(spec, whole, precision_of(spec, "performance"))
                continue
            for mode in ("performance", "balanced", "accuracy"):
                request = model_request(spec, whole, precision_of(spec, mode))  # a block checks its edges itself
                assert sum(part.count for part in request.parts) == len(spec.layers) + 2
                (logits,) = request.part("head").outputs
                rows = work.users if work.mode == "decode" else 1
                assert request.part("head").types[logits].shape == (1, 1, rows, spec.vocab_size)


def stored_elements(block: BlockRequest, *, matrices: bool) -> int:
    """Of weights; `matrices`: only those that chips share."""
    return sum(
        prod(stored.type.shape)
        for stored in block.stored
        if stored.kind == "weight"
        and not stored.name.endswith("group_table")  # of 0 and 1
        and (not matrices or (stored.type.shape[-2] > 1 and stored.type.tiled and "router" not in stored.name))
    )


def padded(spec: ModelSpec, chips: int) -> ModelSpec:
    """With the heads, columns and rows that exist on chips only, and a head that has its own weight."""
    unit = 32 * chips

    def wider(ffn: FFNSpec) -> FFNSpec:
        return replace(ffn, intermediate_dim=-(-ffn.intermediate_dim // unit) * unit)

    def layer(old: DecoderLayerSpec) -> DecoderLayerSpec:
        attention = old.attention
        if isinstance(attention, AttentionSpec):
            width, kv_heads = padded_head_dim(attention.head_dim), max(chips, attention.num_kv_heads)
            attention = replace(attention, head_dim=width, num_kv_heads=kv_heads)
        ffn = replace(old.ffn, ffn=wider(old.ffn.ffn)) if isinstance(old.ffn, MoESpec) else wider(old.ffn)
        return replace(old, attention=attention, ffn=ffn)

    head = replace(spec.head, tied=False, vocab_size=-(-spec.vocab_size // unit) * unit)
    return replace(spec, layers=tuple(layer(old) for old in spec.layers), head=head)


def bare(spec: ModelSpec) -> int:
    """Elements of the matrices that chips share."""
    total = spec.head.vocab_size * spec.hidden_dim
    for layer in spec.layers:
        ffn = layer.ffn.ffn if isinstance(layer.ffn, MoESpec) else layer.ffn
        experts = layer.ffn.experts if isinstance(layer.ffn, MoESpec) else 1
        assert isinstance(layer.attention, AttentionSpec)
        attention = replace(layer.attention, qkv_bias=False, output_bias=False, head_norm=None)
        total += attention.num_parameters + experts * replace(ffn, bias=False).num_parameters
    return total


@pytest.mark.parametrize("name", ALL)
def test_weights_add_up_to_the_parameters_of_the_spec(name: str) -> None:
    spec = spec_of(name)
    for work in (WORKS[0], WORKS[-1]):
        request = model_request(spec, work, precision_of(spec, "performance"))
        elements = sum(part.count * stored_elements(part.block, matrices=False) for part in request.parts)
        assert elements == padded(spec, 1).num_parameters
    if isinstance(spec.layers[0].attention, LatentAttentionSpec):
        return  # each chip has what makes latents
    for chips in filter(lambda chips: splits(spec, chips), CHIPS):
        request = model_request(spec, replace(WORKS[0], chips=chips), precision_of(spec, "performance"))
        elements = sum(part.count * stored_elements(part.block, matrices=True) for part in request.parts)
        assert elements * chips == bare(padded(spec, chips))


def operations(name: str, work: Workload) -> dict[str, OpRequest]:
    """Of the first layer."""
    spec = spec_of(name)
    request = model_request(spec, work, precision_of(spec, "performance"))
    return {op.name: op for op in request.parts[1].block.ops}


def test_precision_follows_the_hardware_mode() -> None:
    spec = spec_of("llama-3.1-8b")
    modes = {mode: precision_of(spec, mode) for mode in ("performance", "balanced", "accuracy")}
    assert modes["performance"] == {
        "qkv_weights": "bfloat8_b",
        "output_weights": "bfloat8_b",
        "kv_cache": "bfloat8_b",
        "gate_weights": "bfloat4_b",
        "up_weights": "bfloat4_b",
        "down_weights": "bfloat8_b",
        "head_weights": "bfloat8_b",
    }
    assert set(modes["balanced"].values()) == {"bfloat8_b"}
    assert modes["accuracy"]["qkv_weights"] == "bfloat16"
    assert modes["accuracy"]["gate_weights"] == "bfloat8_b"
    layer = model_request(spec, WORKS[0], modes["performance"]).part("layer")
    gate = next(op for op in layer.ops if op.name == "ffn.gate_matmul")
    assert isinstance(gate, MatmulRequest)
    assert gate.weight_dtype == "bfloat4_b"
    attention = next(op for op in layer.ops if isinstance(op, DecodeAttentionRequest))
    assert (attention.kv_dtype, attention.kernel) == ("bfloat8_b", ComputeKernel(fidelity="hifi2"))
    layer = model_request(spec, WORKS[-1], modes["performance"]).part("layer")
    assert next(op for op in layer.ops if isinstance(op, PrefillAttentionRequest)).kernel.fidelity == "hifi4"
    assert "gate_weights" not in precision_of(spec_of("gpt-j-6b"), "accuracy")


def test_refusals() -> None:
    spec = spec_of("llama-3.2-1b")
    precision = precision_of(spec, "performance")
    with pytest.raises(
        SpecError, match=r"^hardware mode 'fast' is not known; known are: performance, balanced, accuracy\.$"
    ):
        precision_of(spec, "fast")
    del precision["kv_cache"], precision["up_weights"]
    with pytest.raises(SpecError, match=r"^no dtype is given for kv_cache, up_weights; see precision_of for all roles"):
        model_request(spec, WORKS[0], precision)
    with pytest.raises(
        ShapeError, match=r"^a prompt of 1100 tokens with a cache for 1024: it must fit\. Give a context of"
    ):
        model_request(spec, Workload(mode="prefill", tokens=1100, context=1024), precision_of(spec, "accuracy"))
    with pytest.raises(SpecError, match=r"^the model has no part 'layer_0'; it has embedding, layer, head\.$"):
        model_request(spec, WORKS[0], precision_of(spec, "accuracy")).part("layer_0")


def test_layers_that_differ_are_listed_once_each() -> None:
    spec = spec_of("gemma-2-9b")
    request = model_request(spec, WORKS[0], precision_of(spec, "performance"))
    assert [(part.name, part.count) for part in request.parts] == [
        ("embedding", 1),
        ("layer_0", 21),
        ("layer_1", 21),
        ("head", 1),
    ]
    tables = [
        {stored.name for stored in request.part(name).stored if stored.kind == "table"}
        for name in ("layer_0", "layer_1")
    ]
    assert tables == [
        {"cos_table", "sin_table", "mask_table_4096", "head_groups"},
        {"cos_table", "sin_table", "mask_table", "head_groups"},
    ]


def test_soft_capped_scores_stay_small() -> None:
    for tokens, pieces in ((128, 1), (2048, 1), (8192, 8)):
        ops = operations("gemma-2-9b", Workload(mode="prefill", tokens=tokens, context=8192))
        scores = [op for op in ops.values() if isinstance(op, BatchedMatmulRequest) and op.transpose_b]
        assert len(scores) == pieces
        assert all(2 * op.heads * op.m * op.n <= 256 * 2**20 for op in scores)
        assert sum(op.m for op in scores) == 2 * tokens
    assert {"attention.q_piece.7", "attention.scores.7", "attention.attention"} <= ops.keys()


def test_rows_go_through_the_experts_in_pieces() -> None:
    ops = operations("mixtral-8x7b", Workload(mode="prefill", tokens=2080, context=8192))
    rows = [ops[f"ffn.down_matmul.{index}"].operands[0].shape for index in range(3)]
    assert rows == [(1, 8, 1024, 14336), (1, 8, 1024, 14336), (1, 8, 32, 14336)]
    assert ops["ffn.join_rows"].results["ffn.join_rows"].shape == (1, 1, 2080, 4096)


@pytest.mark.parametrize(
    ("name", "order"),
    [
        (
            "gpt-j-6b",
            ["attention_norm.norm", "attention.qkv_matmul", "attention_residual", "ffn.up_matmul", "ffn_residual"],
        ),
        (
            "gpt-neox-20b",
            ["attention_norm.norm", "attention.qkv_matmul", "ffn_norm.norm", "attention_residual", "ffn.up_matmul"],
        ),
        (
            "gemma-2-9b",
            [
                "attention_output_norm.norm",
                "attention_residual",
                "ffn_norm.norm",
                "ffn_output_norm.norm",
                "ffn_residual",
            ],
        ),
        ("phi-4", ["attention_norm.norm", "attention_residual", "ffn_norm.norm", "ffn.gate_matmul", "ffn_residual"]),
    ],
)
def test_residuals(name: str, order: list[str]) -> None:
    ops = operations(name, WORKS[0])
    assert [op for op in ops if op in order] == order
    parallel = name.startswith("gpt")
    assert ops["attention_residual"].inputs[0] == "x"
    assert ops["ffn_residual"].inputs[0] == "attention_residual"
    reads = {
        "gpt-j-6b": "attention_norm.norm",
        "gpt-neox-20b": "ffn_norm.norm",
    }
    wide = ops["ffn.up_matmul"]
    assert wide.inputs[0] == reads.get(name, "ffn_norm.norm")
    assert isinstance(wide, MatmulRequest)
    assert (wide.activation, wide.bias_dtype) == (("gelu_tanh", "bfloat16") if parallel else (None, None))
    if "ffn_norm.norm" in ops:
        assert ops["ffn_norm.norm"].inputs[0] == ("x" if parallel else "attention_residual")
