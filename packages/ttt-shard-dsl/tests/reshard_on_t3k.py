"""A program: every call of several plans runs through ttnn on a mock t3k. One process has one cluster."""

from __future__ import annotations

from itertools import product
from typing import Any

import ttnn

from ttt_hw import board, open_mesh
from ttt_shard_dsl import LayoutError, Placement, memory_config, plan

DTYPES = ("bfloat16", "bfloat4_b", "uint16")
SHAPES = ((1, 8, 256, 2048), (8, 8, 128, 256), (8, 16, 64, 40), (8, 64, 128), (256, 64), (256,))


def allocate(placement: Placement, mesh: Any) -> Any:
    return ttnn.allocate_tensor_on_device(
        ttnn.Shape(placement.chip_shape),
        getattr(ttnn, placement.dtype),
        ttnn.TILE_LAYOUT if placement.tiled else ttnn.ROW_MAJOR_LAYOUT,
        mesh,
        placement.to_memory_config(),
    )


def check_what_ttnn_takes(device: Any, mesh: Any) -> None:
    """A plan of one collective is one that ttnn takes; where it takes none the plan has another way, or is refused."""
    refused = 0
    for shape, dtype, tiled in product(SHAPES, DTYPES, (True, False)):
        if dtype == "bfloat4_b" and not tiled:
            continue
        names = [f"n{entry}" for entry in range(len(shape))]
        whole = " ".join(names)
        layouts = [
            whole,
            *(whole.replace(name, f"{name}@cols") for name, size in zip(names, shape, strict=True) if size % 8 == 0),
        ]
        for before, after in product((*layouts, f"{whole} +cols"), layouts):
            try:
                made = plan(f"{before} -> {after}", shape, device=device, dtype=dtype, tiled=tiled)
            except LayoutError as error:
                if error.reason != "ttnn has no collectives from the source to the target":
                    raise
                refused += 1
                continue
            out = made.run(allocate(made.source, mesh), ttnn)
            assert tuple(out.shape) == made.target.chip_shape, (before, after, shape)
    assert refused


def main() -> None:
    device: Any = board("t3k")
    shape = (1, 8, 256, 2048)
    with open_mesh("t3k", backend="mock") as mesh:
        for rule in (
            "1 h s d@cols -> 1 h s d",
            "1 h s d -> 1 h s d@cols",
            "1 h s d +cols in l1 -> 1 h s d",
            "1 h s d +cols -> 1 h s d@cols in l1",
            "1 h s@cols d -> 1 h@cols s d",
            "1 h s d@cols -> 1 h s@cols d in l1",
            "1 h s d@cols@core in l1 -> 1 h@cols s d",
            "1 h@cols s@core d -> 1 h@cols s@core.y d@core.x as bfp8",
            "1 h@cols s d -> 1 h@cols s d@core in l1",
            "1 h s d@core +cols in l1 -> 1 h s d@core in l1",
            "(a h s)@core d +cols in l1 -> a h s d as bfp8",
            "1 h s d@bank +cols -> 1 h s d@bank",
            "1 h s d~core:32 in l1 -> 1 h s@core.y d@core.x in l1",
            "1 h s d@bank -> 1 h s d~core:32 in l1",
            "1 h s@cols d as bfp4 -> 1 h s d@core in l1 as fp32",
        ):
            made = plan(rule, shape, device=device)
            x = allocate(made.source, mesh)
            out = made.run(x, ttnn)
            assert tuple(out.shape) == made.target.chip_shape, rule
            assert out.memory_config() == made.target.to_memory_config(), rule
            y = x
            for line in made.to_ttnn().splitlines():  # the text is the same calls
                scope = {"ttnn": ttnn, "memory_config": memory_config, "device": device, "x": y}
                exec(line, scope)
                y = scope["x"]
            assert tuple(y.shape) == tuple(out.shape)
            assert y.memory_config() == out.memory_config()
        check_what_ttnn_takes(device, mesh)


if __name__ == "__main__":
    main()
