"""Bugs planted in real blocks: each makes the expectation fail that is there for it, no other, with its block and its cause.

Every case asks for everything: values in float32, their precision, memory. `fails` names the items that must fail; the message
of the first must contain each of `says`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import ttnn

from ttt_attention import GroupedQueryAttention, rotary
from ttt_core import KVCache, Tensor
from ttt_ffn import SwiGLU
from ttt_hw import upload
from ttt_testing import TestCase, TestSuite


def failures(case: TestCase, suite: TestSuite) -> dict[str, str]:
    """The failed items of the only case by mode and kind, each with its whole message."""
    report = suite.run()
    assert {item.case for item in report.items} == {case.name}
    follows = ("the math departs, see tolerance", "the forward was refused, see its own item")
    assert all(item.got.endswith(follows) for item in report.of("not available"))
    return {f"{item.mode}/{item.kind}": str(item) for item in report.failures}


def everything(suite: TestSuite, reference: Any, *, memory_mb: float = 1.0, l1_kb: float = 150.0) -> TestCase:
    """What the blocks of the fixture keep when nothing is wrong with them."""
    case = suite.test(suite.model).rows(prefill=64, decode=8)
    return case.against(reference).tolerance(2e-5).expect(pcc=0.999, memory_mb=memory_mb, l1_kb=l1_kb)


def check(block: Any, reference: Any, *, fails: set[str], says: tuple[str, ...], **limits: float) -> None:
    suite = TestSuite(block)
    found = failures(everything(suite, reference, **limits), suite)
    assert found.keys() == fails, "\n".join(found.values()) or "nothing failed"
    message = found[min(fails)]
    for text in (type(block).__mro__[0].__name__, *says):
        assert text in message, message


BOTH = {"prefill/tolerance", "decode/tolerance"}


def test_nothing_is_wrong(blocks: Any) -> None:
    for block in (blocks.attention(), blocks.ffn(), blocks.norm()):
        suite = TestSuite(block)
        assert failures(everything(suite, blocks.of(block)), suite) == {}


def test_scores_are_scaled_wrongly(blocks: Any) -> None:
    block = blocks.attention(replace(blocks.attention().spec, score_scale=0.1))
    check(block, blocks.of(block), fails=BOTH, says=("rows depart", "the others agree", "first beyond it: ["))


def test_the_output_is_scaled_wrongly(blocks: Any) -> None:
    class Halved(SwiGLU):
        def decode_forward(self, x: Tensor, /) -> Tensor:
            y: Tensor = ttnn.mul(super().decode_forward(x), 0.5)
            return y

    block = blocks.ffn(kind=Halved)
    check(
        block, blocks.of(block), fails={"decode/tolerance"}, says=("All of it is 0.5 times what is expected: a scale.",)
    )


def test_rotary_pairs_neighbours_instead_of_halves(blocks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = rotary._angles

    def interleaved(*args: Any) -> Any:
        angles = right(*args)
        return np.repeat(angles[:, : angles.shape[1] // 2], 2, axis=1)

    monkeypatch.setattr(rotary, "_angles", interleaved)
    block = blocks.attention()
    check(block, blocks.of(block), fails=BOTH, says=("tolerance", "position"))


def test_decode_is_one_position_off(blocks: Any, mesh: Any) -> None:
    class OneOff(GroupedQueryAttention):
        def decode_forward(
            self, x: Tensor, /, *, cache: KVCache, positions: Tensor, page_table: Tensor | None = None
        ) -> Tensor:
            return super().decode_forward(
                x, cache=cache, positions=_next(positions, self._device), page_table=page_table
            )

    block = blocks.attention(kind=OneOff)
    check(block, blocks.of(block), fails={"decode/tolerance"}, says=("first beyond it: [0, 0] (user 0 at position 33",))
    suite = TestSuite(block)  # and without a reference, by what its own prefill says
    found = failures(suite.test(block).mode("decode").rows(decode=8).tolerance(2e-5), suite)
    assert found.keys() == {"decode/tolerance"}
    assert "against its own prefill" in found["decode/tolerance"]


def _next(positions: Tensor, mesh: Any) -> Any:
    from ttt_hw import download

    return upload(download(positions).astype(np.int32) + 1, mesh, dtype="int32", layout="row_major")


def test_the_epsilon_of_a_norm_is_wrong(blocks: Any) -> None:
    block = blocks.norm(replace(blocks.norm().spec, eps=1e-2))
    says = ("Each row is what is expected times a factor of its own, 0.99", "a normalisation, its epsilon say")
    check(block, blocks.of(block), fails=BOTH, says=says)


def test_weights_are_in_bfp4_where_bfp8_is_said(blocks: Any) -> None:
    block = blocks.ffn(dtype="bfloat4_b")
    says = ("in float32 it is right", "ttnn.linear (operation ", "gate bfloat4_b, up bfloat4_b, down bfloat4_b")
    check(block, blocks.of(block), fails={"prefill/pcc", "decode/pcc"}, says=says)


def test_gate_and_up_are_swapped(blocks: Any) -> None:
    block = blocks.ffn(swapped=True)
    check(block, blocks.of(block), fails=BOTH, says=("All rows depart, by no common factor.",))


def test_heads_read_the_wrong_keys(blocks: Any) -> None:
    """Key-value heads in the reverse order."""
    right = blocks.attention()
    reference = blocks.of(right)
    wrong = GroupedQueryAttention.__new__(GroupedQueryAttention)
    wrong.__dict__ |= right.__dict__
    source = right.qkv._build

    def reversed_heads(q: Any, k: Any, v: Any) -> Any:
        half = k.shape[0] // 2
        return source(q, np.roll(k, half, axis=0), np.roll(v, half, axis=0))

    wrong.qkv._build = reversed_heads
    check(wrong, reference, fails=BOTH, says=("All rows depart, by no common factor.",))


def test_the_cache_is_wider_than_said(blocks: Any) -> None:
    block = blocks.attention(cache_dtype="bfloat16")
    says = ("memory_mb 0.", "bytes: cache 262,144")
    check(block, blocks.of(block), fails={"decode/memory_mb"}, says=says, memory_mb=0.35)


def test_a_tensor_is_left_in_l1(blocks: Any) -> None:
    class Keeping(SwiGLU):
        def decode_forward(self, x: Tensor, /) -> Tensor:
            device: Any = x
            kept = ttnn.zeros(  # 16 MB over 64 cores
                (1, 1, 2048, 4096),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                device.device(),
                memory_config=ttnn.L1_MEMORY_CONFIG,
            )
            y = super().decode_forward(x)
            del kept
            return y

    block = blocks.ffn(kind=Keeping)
    says = ("fullest at linear of [1, 1, 8, ", " bytes held before it")
    check(block, blocks.of(block), fails={"decode/l1_kb"}, says=says)


def test_a_config_spills(blocks: Any, mesh: Any) -> None:
    config = ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(
        compute_with_storage_grid_size=(1, 1), in0_block_w=3, out_subblock_h=1, out_subblock_w=1,
        out_block_h=2, out_block_w=600, per_core_M=2, per_core_N=600, mcast_in0=True, fuse_batch=True,
    )  # fmt: skip
    weight = upload(np.zeros((1, 1, 96, 96), np.float32), mesh, dtype="bfloat8_b")

    class Spilling(SwiGLU):
        def prefill_forward(self, x: Tensor, /) -> Tensor:
            y: Tensor = ttnn.linear(super().prefill_forward(x), weight, program_config=config)
            return y

    block = blocks.ffn(kind=Spilling)
    check(block, blocks.of(block), fails={"prefill/runs"}, says=("refused", "ttnn.linear", "beyond max L1 size"))


def test_a_head_is_one_token_off(blocks: Any) -> None:
    weight = blocks.weights(256, 96)
    block = blocks.head(np.roll(weight, 1, axis=0))
    suite = TestSuite(block)
    case = suite.test(block).rows(prefill=64, decode=8).against(lambda x: x @ weight.T).expect(top1=0.9, top5=0.99)
    found = failures(case, suite)
    assert found.keys() == {"prefill/top1", "prefill/top5", "decode/top1", "decode/top5"}
    assert "the math, not the precision" in found["decode/top1"]
