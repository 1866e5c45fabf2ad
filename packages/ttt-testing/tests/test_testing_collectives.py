"""Values after collectives on a 2×4 mesh, against sums and slices written out chip by chip."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import ttnn

from ttt_testing._collectives import run_collective

MESH = (2, 4)
CHIPS = [(row, column) for row in range(MESH[0]) for column in range(MESH[1])]


def peers(chip: tuple[int, int], axis: int | None) -> list[int]:
    """Numbers of the chips that exchange with `chip`, itself included: those with its place along the other axis."""
    return [
        number
        for number, other in enumerate(CHIPS)
        if axis is None or all(other[a] == chip[a] for a in (0, 1) if a != axis)
    ]


@pytest.fixture
def shards() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 1, 8, 16, generator=generator) for _ in CHIPS]


def run(operation: Any, shards: list[torch.Tensor], *args: Any, **kwargs: Any) -> list[torch.Tensor]:
    return run_collective(operation, shards, MESH, args, kwargs)


@pytest.mark.parametrize("axis", [0, 1, None])
def test_all_reduce(axis: int | None, shards: list[torch.Tensor]) -> None:
    found = run(ttnn.all_reduce, shards, cluster_axis=axis)
    for chip, value in zip(CHIPS, found, strict=True):
        expected = torch.zeros(1, 1, 8, 16)
        for number in peers(chip, axis):
            expected = expected + shards[number]
        torch.testing.assert_close(value, expected)


def test_the_buffer_of_a_fused_sum_has_no_part_in_it(shards: list[torch.Tensor]) -> None:
    found = run(ttnn.experimental.all_reduce_async, shards, None, cluster_axis=1, mesh_device=None)
    torch.testing.assert_close(torch.stack(found), torch.stack(run(ttnn.all_reduce, shards, cluster_axis=1)))


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("dim", [2, 3, -1])
def test_all_gather(axis: int | None, dim: int, shards: list[torch.Tensor]) -> None:
    found = run(ttnn.all_gather, shards, dim, cluster_axis=axis)
    for chip, value in zip(CHIPS, found, strict=True):
        size = shards[0].shape[dim]
        for place, number in enumerate(peers(chip, axis)):
            assert torch.equal(value.narrow(dim, place * size, size), shards[number])
        assert value.shape[dim] == size * len(peers(chip, axis))


@pytest.mark.parametrize("axis", [0, 1, None])
@pytest.mark.parametrize("dim", [2, 3])
def test_reduce_scatter(axis: int | None, dim: int, shards: list[torch.Tensor]) -> None:
    found = run(ttnn.reduce_scatter, shards, dim=dim, cluster_axis=axis)
    for number, (chip, value) in enumerate(zip(CHIPS, found, strict=True)):
        group = peers(chip, axis)
        size = shards[0].shape[dim] // len(group)
        total = torch.stack([shards[other] for other in group]).sum(0)
        torch.testing.assert_close(value, total.narrow(dim, group.index(number) * size, size))
