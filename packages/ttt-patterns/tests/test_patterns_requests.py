"""A layer's list, joined from those of its parts."""

from __future__ import annotations

from typing import Any

import pytest

from ttt_core import SpecError
from ttt_hw.requests import BlockRequest, CacheUpdateRequest, Stored, TensorType, UnaryRequest
from ttt_patterns import DecoderLayer, LayerSpec, layer_request

X = TensorType(shape=(1, 1, 8, 64))


def part(name: str) -> BlockRequest:
    """One operation, and one of each that is stored."""
    weight = Stored(name="weight", type=X)
    index = Stored(name="positions", type=TensorType(shape=(8,), dtype="int32", tiled=False), kind="index")
    return BlockRequest(
        mode="decode",
        inputs=(("x", X),),
        stored=(weight, index) if name == "attention" else (weight,),
        ops=(UnaryRequest(name=name, inputs=("x",), shape=X.shape),),
        outputs=(name,),
    )


def edges(block: BlockRequest) -> list[tuple[str, tuple[str, ...]]]:
    return [(op.name, op.inputs) for op in block.ops]


def layer(**more: Any) -> BlockRequest:
    return layer_request(attention=part("attention"), ffn=part("ffn"), attention_norm=part("norm"), **more)


def test_sequential() -> None:
    block = layer(ffn_norm=part("norm"))
    assert edges(block) == [
        ("attention_norm.norm", ("x",)),
        ("attention.attention", ("attention_norm.norm",)),
        ("attention_residual", ("x", "attention.attention")),
        ("ffn_norm.norm", ("attention_residual",)),
        ("ffn.ffn", ("ffn_norm.norm",)),
        ("ffn_residual", ("attention_residual", "ffn.ffn")),
    ]
    assert [stored.name for stored in block.stored] == [
        "attention_norm.weight",
        "attention.weight",
        "positions",
        "ffn_norm.weight",
        "ffn.weight",
    ]
    assert (block.inputs, block.outputs, block.mode) == ((("x", X),), ("ffn_residual",), "decode")


@pytest.mark.parametrize("shared", [False, True])
def test_parallel(shared: bool) -> None:
    block = dict(edges(layer(residual="parallel", ffn_norm=None if shared else part("norm"))))
    assert block["ffn.ffn"] == (("attention_norm.norm",) if shared else ("ffn_norm.norm",))
    assert shared or block["ffn_norm.norm"] == ("x",)
    assert block["attention_residual"] == ("x", "attention.attention")
    assert block["ffn_residual"] == ("attention_residual", "ffn.ffn")


def test_sandwich() -> None:
    norm = part("norm")
    block = dict(edges(layer(residual="sandwich", ffn_norm=norm, attention_output_norm=norm, ffn_output_norm=norm)))
    assert block["attention_output_norm.norm"] == ("attention.attention",)
    assert block["attention_residual"] == ("x", "attention_output_norm.norm")
    assert block["ffn_norm.norm"] == ("attention_residual",)
    assert block["ffn_residual"] == ("attention_residual", "ffn_output_norm.norm")


def test_an_operation_without_a_result() -> None:
    """A cache that attention writes is the layer's own; where users are is not."""
    cache = Stored(name="keys", type=TensorType(shape=(8, 1, 32, 64), dtype="bfloat8_b"), kind="cache")
    update = CacheUpdateRequest(
        name="key_update", inputs=("keys", "x", "positions"), users=8, num_kv_heads=1, context=32, head_dim=64
    )
    attention = part("attention")
    x = TensorType(shape=(1, 8, 1, 64))
    block = BlockRequest(
        mode="decode", inputs=(("x", x),), stored=(cache, attention.stored[1]), ops=(update,), outputs=("x",)
    )
    (renamed,) = block.within("attention", x="norm", positions="positions").ops
    assert renamed.inputs == ("attention.keys", "norm", "positions")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"residual": "serial"},
            "(residual='serial'): it must be one of pre_norm, post_norm, branch_output, sandwich, parallel.",
        ),
        ({"multiplier": 0.0}, "a branch that is multiplied by 0 is none; leave the layer out."),
        ({"residual": "sandwich"}, "with 0 output norms: sandwich has two, the others none."),
        ({"residual": "sandwich", "ffn_output_norm": 1}, "with 1 output norms: sandwich has two, the others none."),
        ({"attention_output_norm": 1, "ffn_output_norm": 1}, "with 2 output norms: sandwich has two, the others none."),
        ({"shared_norm": True}, "only the branches of a parallel layer share a norm, and both name its spec."),
        (
            {"residual": "parallel", "shared_norm": True, "ffn_norm": 2},
            "only the branches of a parallel layer share a norm, and both name its spec.",
        ),
    ],
)
def test_a_spec_out_of_range_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        LayerSpec(**{"attention": 1, "ffn": 1, "attention_norm": 1, "ffn_norm": 1, **change})
    assert str(caught.value).endswith(message)


@pytest.mark.parametrize(
    ("residual", "norms"),
    [("pre_norm", {"attention_output_norm"}), ("sandwich", {"ffn_norm", "ffn_output_norm"}), ("pre_norm", set())],
)
def test_norms_and_residual_agree(residual: Any, norms: set[str]) -> None:
    parts: dict[str, Any] = dict.fromkeys(("attention", "ffn", "attention_norm", "ffn_norm"))
    with pytest.raises(SpecError) as caught:
        DecoderLayer(**parts | dict.fromkeys({"attention_norm", *norms}, "a norm"), residual_pattern=residual)
    outputs, article = sum("output" in name for name in norms), "an" if "ffn_norm" in norms else "no"
    assert str(caught.value) == (
        f"DecoderLayer(residual_pattern={residual!r}) with {outputs} output norms and {article} ffn_norm: sandwich has two "
        "output norms, the others none, and only a parallel layer may do without ffn_norm."
    )
