"""Products and sums that ttnn has no golden function for, through the device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import ttnn

from ttt_hw import upload
from ttt_testing import shadow


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rows", [32, 40])
@pytest.mark.parametrize("activation", [None, "SILU"])
@pytest.mark.parametrize("bias", [False, True])
def test_minimal_matmul(rows: int, activation: str | None, bias: bool, mesh: Any) -> None:
    x, w, b = random(1, 1, rows, 64), random(1, 1, 64, 96, seed=1), random(1, 1, 1, 96, seed=2)
    config = ttnn.MinimalMatmulConfig(
        M_block_size=1, K_block_size=1, N_block_size=1, subblock_h=1, subblock_w=1,
        compute_with_storage_grid_size=ttnn.CoreCoord(4, 4),
    )  # fmt: skip
    with shadow() as values:
        dx, dw, db = (upload(tensor.numpy(), mesh, dtype="bfloat16") for tensor in (x, w, b))
        fused = None if activation is None else ttnn.UnaryWithParam(getattr(ttnn.UnaryOpType, activation))
        y = ttnn.experimental.minimal_matmul(
            dx, dw, bias_tensor=db if bias else None, fused_activation=fused, config=config, dtype=ttnn.bfloat16
        )
        actual = values.to_torch(y)
    expected = torch.einsum("abmk,abkn->abmn", x, w) + (b if bias else 0)
    expected = expected * torch.sigmoid(expected) if activation else expected
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dim", "rows", "width"), [(1, 32, 64), (1, 8, 96), (0, 40, 40)])
def test_fast_reduce_nc(dim: int, rows: int, width: int, mesh: Any) -> None:
    """As the planner's pattern calls it: rows that are no whole tiles are cut afterwards."""
    x = random(3, 4, rows, width)
    with shadow() as values:
        y = ttnn.experimental.fast_reduce_nc(upload(x.numpy(), mesh, dtype="bfloat16"), dims=[dim])
        actual = values.to_torch(y)
    expected = torch.stack(x.unbind(dim)).sum(0).unsqueeze(dim)
    torch.testing.assert_close(actual[..., :rows, :width], expected, atol=1e-5, rtol=1e-5)
    assert not actual[..., rows:, :].any()
