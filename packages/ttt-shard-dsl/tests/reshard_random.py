"""A program: random plans on a mock t3k of 2×4 chips, each step against what it says. `reshard_random.py SEED COUNT`."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from typing import Any

import ttnn

from ttt_hw import board, open_mesh
from ttt_shard_dsl import LayoutError, plan

LARGE = ((1, 8, 256, 2048), (1, 1, 32, 4096), (8, 8, 64, 512), (2, 4, 128, 256), (1, 1, 256, 8192))
SMALL = ((1, 8, 64, 40), (8, 8, 16, 24), (2, 4, 8, 64), (16, 64), (64,), (40,))
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


def layout(rng: random.Random, names: str, pending: list[str], dtypes: list[str], tiled: bool) -> str:
    words = dict.fromkeys(names, "")
    for axis in ("rows", "cols"):
        if axis not in pending and rng.random() < 0.5:
            words[rng.choice(names)] += f"@{axis}"
    allowed = SPLITS if tiled else SPLITS[:6]  # an nd reshard of rows has too many arguments for ttnn's kernel
    splits, memories = rng.choice([each for each in allowed if all(set(dims) <= set(names) for dims, _ in each[0])])
    for dims, place in splits:
        words[rng.choice(dims)] += place
    sums = "".join(f" +{axis}" for axis in pending)
    return " ".join(name + places for name, places in words.items()) + sums + rng.choice(memories) + rng.choice(dtypes)


def run(rule: str, shape: tuple[int, ...], tiled: bool, rng: random.Random, device: Any, mesh: Any) -> bool:
    """Whether the plan has steps; each leaves the tensor where it says."""
    try:
        made = plan(rule, shape, device=device, tiled=tiled, topology=rng.choice(["ring", "line"]))
    except LayoutError:
        return False
    source = made.source
    form = ttnn.TILE_LAYOUT if tiled else ttnn.ROW_MAJOR_LAYOUT
    config = source.to_memory_config()
    x = ttnn.allocate_tensor_on_device(ttnn.Shape(source.chip_shape), getattr(ttnn, source.dtype), form, mesh, config)
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
            shape = rng.choice((*LARGE, *SMALL))
            tiled = shape in LARGE or rng.random() < 0.5
            names = "bhsd"[-len(shape) :]
            casts = ["", "", " as bf16", " as bfp8", " as fp32", " as bfp4"] if tiled else [""]
            before = layout(rng, names, pending, casts if tiled else [" as bf16", " as fp32", " as uint32"], tiled)
            rule = f"{before} -> {layout(rng, names, left, casts, tiled)}"
            try:
                count -= run(rule, shape, tiled, rng, device, mesh)
            except Exception as error:
                raise RuntimeError(f"{rule} of {shape}, {'tiles' if tiled else 'rows'}") from error


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
