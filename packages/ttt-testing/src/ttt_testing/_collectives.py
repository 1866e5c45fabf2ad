"""Collectives on the values of all chips of a mesh: what a golden function of one chip cannot say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import ttnn

Parts = list[torch.Tensor]  # the values of the chips that exchange, in the order of the mesh axis


def all_reduce(parts: Parts, *_: Any, **__: Any) -> Parts:
    """Σ parts, on every chip. Stands for ttnn.all_reduce, and for all_reduce_async whatever its buffer."""
    total = torch.stack(parts).sum(0)
    return [total] * len(parts)


def all_gather(parts: Parts, dim: int, **_: Any) -> Parts:
    """The parts joined along `dim`, on every chip. Stands for ttnn.all_gather."""
    joined = torch.cat(parts, dim)
    return [joined] * len(parts)


def reduce_scatter(parts: Parts, dim: int, **_: Any) -> Parts:
    """Chip i gets slice i along `dim` of Σ parts. Stands for ttnn.reduce_scatter."""
    return list(torch.stack(parts).sum(0).chunk(len(parts), dim))


COLLECTIVES: dict[Any, Callable[..., Parts]] = {
    ttnn.all_reduce: all_reduce,
    ttnn.experimental.all_reduce_async: all_reduce,
    ttnn.all_gather: all_gather,
    ttnn.reduce_scatter: reduce_scatter,
}


def groups(mesh: tuple[int, int], cluster_axis: int | None) -> list[list[int]]:
    """The chips that exchange with one another, numbered in row-major order: along one axis, or all of them."""
    rows, columns = mesh
    if cluster_axis is None:
        return [list(range(rows * columns))]
    if cluster_axis == 0:
        return [[row * columns + column for row in range(rows)] for column in range(columns)]
    return [[row * columns + column for column in range(columns)] for row in range(rows)]


def run_collective(
    operation: Any, shards: Parts, mesh: tuple[int, int], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Parts:
    """The values after a collective; `args` are those after the tensor, which is `shards`."""
    results: dict[int, torch.Tensor] = {}
    for group in groups(mesh, kwargs.get("cluster_axis")):
        parts = [shards[chip] for chip in group]
        results.update(zip(group, COLLECTIVES[operation](parts, *args, **kwargs), strict=True))
    return [results[chip] for chip in range(len(shards))]
