"""Objects of ttnn made from our own have every field."""

from __future__ import annotations

import pytest
import ttnn

from ttt_hw import DRAM, BcastMatmul, DecodeAttention, FlashAttention, MatmulRequest, board
from ttt_hw.compute import matmul_kernel
from ttt_hw.options import legal_options


def test_matmuls() -> None:
    request = MatmulRequest(name="gate_matmul", m=256, k=2048, n=8192, weight_dtype="bfloat8_b", activation="silu")
    record = board("n150")
    config = next(
        option.pattern
        for option in legal_options(request, record)
        if isinstance(option.pattern, BcastMatmul) and option.pattern.kind == "2d" and option.reads == (DRAM, DRAM)
    )
    lowered = config.to_ttnn(request, record)["program_config"]
    assert (lowered.compute_with_storage_grid_size.x, lowered.compute_with_storage_grid_size.y) == config.grid
    assert lowered.in0_block_w == config.inner
    assert (lowered.per_core_M, lowered.per_core_N) == config.per_core
    assert (lowered.out_block_h, lowered.out_block_w) == config.block
    assert (lowered.out_subblock_h, lowered.out_subblock_w) == config.subblock
    assert lowered.fused_activation.op_type == ttnn.UnaryOpType.SILU


@pytest.mark.parametrize(
    ("dtype", "fidelity"), [("bfloat4_b", "LoFi"), ("bfloat8_b", "HiFi2"), ("bfloat16", "HiFi4"), ("float32", "HiFi4")]
)
def test_the_kernel_keeps_the_weights_bits(dtype: str, fidelity: str) -> None:
    lowered = matmul_kernel(dtype).to_ttnn()
    assert lowered.math_fidelity == getattr(ttnn.MathFidelity, fidelity)
    assert lowered.fp32_dest_acc_en
    assert lowered.packer_l1_acc
    assert not lowered.math_approx_mode


def test_attention() -> None:
    lowered = FlashAttention(grid=(7, 5), q_chunk=64, k_chunk=128).program()
    assert (lowered.compute_with_storage_grid_size.x, lowered.compute_with_storage_grid_size.y) == (7, 5)
    assert (lowered.q_chunk_size, lowered.k_chunk_size, lowered.exp_approx_mode) == (64, 128, False)
    lowered = DecodeAttention(grid=(7, 5), k_chunk=32).program()
    assert (lowered.compute_with_storage_grid_size.x, lowered.compute_with_storage_grid_size.y) == (7, 5)
    assert (lowered.q_chunk_size, lowered.k_chunk_size, lowered.exp_approx_mode) == (0, 32, False)
