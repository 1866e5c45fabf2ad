"""A program: random plans on a mock t3k of 2×4 chips, each step against what it says. `reshard_random.py SEED COUNT`."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from typing import Any

import ttnn

from ttt_hw import board, open_mesh
from ttt_shard_dsl import LayoutError, plan

SHAPES = ((1, 8, 256, 2048), (1, 1, 32, 4096), (8, 8, 64, 512), (2, 4, 128, 256), (1, 1, 256, 8192))
SPLITS = (  # of one of the dims before each axis, and the memory
    ((), (" in l1", " in dram", "")),
    ((("d", "@core"),), (" in l1",)),
    ((("bhs", "@core"),), (" in l1",)),
    ((("s", "@core.y"), ("d", "@core.x")), (" in l1",)),
    ((("s", "@core.x"), ("d", "@core.y")), (" in l1",)),
    ((("sd", "@bank"),), (" in dram",)),
    ((("d", "~core:64"),), (" in l1",)),
    ((("d", "@core:32"),), (" in l1 on 0-0..3-1:contiguous",)),
)


def layout(rng: random.Random, pending: list[str]) -> str:
    words = dict.fromkeys("bhsd", "")
    for axis in ("rows", "cols"):
        if axis not in pending and rng.random() < 0.5:
            words[rng.choice("bhsd")] += f"@{axis}"
    splits, memories = rng.choice(SPLITS)
    for dims, place in splits:
        words[rng.choice(dims)] += place
    dtype = rng.choice(["", "", " as bf16", " as bfp8", " as fp32", " as bfp4"])
    sums = "".join(f" +{axis}" for axis in pending)
    return " ".join(name + places for name, places in words.items()) + sums + rng.choice(memories) + dtype


def run(rule: str, shape: tuple[int, ...], rng: random.Random, device: Any, mesh: Any) -> bool:
    """Whether the plan has steps; each leaves the tensor where it says."""
    try:
        made = plan(rule, shape, device=device, topology=rng.choice(["ring", "line"]))
    except LayoutError:
        return False
    source = made.source
    config = source.to_memory_config()
    x = ttnn.allocate_tensor_on_device(
        ttnn.Shape(source.chip_shape), getattr(ttnn, source.dtype), ttnn.TILE_LAYOUT, mesh, config
    )
    for step in made.steps:
        x = step.call.run(x, ttnn)
        after = step.after
        assert (tuple(x.shape), x.dtype) == (after.chip_shape, getattr(ttnn, after.dtype)), (rule, step)
        if after.sharding != "nd":  # of which ttnn makes another config
            assert x.memory_config() == after.to_memory_config(), (rule, step)
    return bool(made.steps)


def main(seed: int, count: int) -> None:
    rng = random.Random(seed)
    device = replace(board("t3k"), mesh=(2, 4))
    with open_mesh("t3k", shape=(2, 4), backend="mock") as mesh:
        while count:
            pending = rng.choice([[], [], ["rows"], ["cols"], ["rows", "cols"]])
            left = [axis for axis in pending if rng.random() < 0.2]
            rule = f"{layout(rng, pending)} -> {layout(rng, left)}"
            shape = rng.choice(SHAPES)
            try:
                count -= run(rule, shape, rng, device, mesh)
            except Exception as error:
                raise RuntimeError(f"{rule} of {shape}") from error


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
