"""Splits over a mesh against ttnn's mesh mappers and composers: every chip's shape and values."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ttt_shard_dsl import Device, LayoutError, Placement, memory_config, parse, placement_of

if importlib.util.find_spec("ttnn") is None or importlib.util.find_spec("ttt_hw") is None:
    pytest.skip("needs ttnn and ttt-hw", allow_module_level=True)

MESHES = ((1, 8), (2, 4), (8, 4))
CASES = 400 if os.environ.get("TTT_SLOW") == "1" else 40
TEXTS = (
    "a b c d",
    "a b c d@cols",
    "a b c d@rows",
    "a b@cols c d",
    "a@rows b c@cols d",
    "a b@cols c d@rows",
    "a b c d|8@cols",
    "a b|3@rows c d@cols",
    "a b c|96@rows d|64@cols",
    "a b c d@rows@cols",
    "a b|32@rows@cols c d",
    "1 1 s d@rows +cols",
    "s@cols d",
    "d@cols",
    "d@rows@cols",
    "a b@cols c d@core in l1",
)


def random_split(rng: random.Random, mesh: tuple[int, int]) -> Placement:
    device = Device((8, 8), 12, 1_393_312, 1_072_693_184, mesh=mesh)
    while True:
        spec = parse(rng.choice(TEXTS))
        shape = [rng.choice([1, 2, 5, 8, 32]), rng.choice([1, 4, 8, 16, 30]), 1, 1]
        shape[2:] = [rng.choice([1, 8, 24, 32, 96]), rng.choice([8, 32, 100, 128])]
        if spec.dims[0].size == 1:
            shape[:2] = [1, 1]
        try:
            return spec.place(shape[-len(spec.dims) :], device=device, dtype="float32", tiled=rng.random() < 0.5)
        except LayoutError:
            continue


def whole(placement: Placement, mesh: tuple[int, int]) -> Any:
    """Different values, padded as the placement says."""
    import torch

    shape = placement.whole_shape(mesh)
    return torch.arange(1.0, 1.0 + torch.Size(shape).numel()).reshape(shape)


@pytest.mark.parametrize("mesh", MESHES, ids=str)
def test_each_chip_has_what_the_mapper_gives_it(mesh: tuple[int, int]) -> None:
    import torch
    import ttnn

    rng = random.Random(str(mesh))
    for _ in range(CASES):
        placement = random_split(rng, mesh)
        values = whole(placement, mesh)
        mapper = placement.to_mesh_mapper(mesh)
        layout = ttnn.TILE_LAYOUT if placement.tiled else ttnn.ROW_MAJOR_LAYOUT
        tensor = ttnn.from_torch(values, dtype=ttnn.float32, layout=layout, mesh_mapper=mapper)
        parts = [ttnn.to_torch(part) for part in ttnn.get_device_tensors(tensor)]
        if all(dim is None for dim in placement.mesh_dims):
            parts *= mesh[0] * mesh[1] // len(parts)  # the host has one copy for all chips
        assert [tuple(part.shape) for part in parts] == [placement.chip_shape] * (mesh[0] * mesh[1]), placement
        for part, index in zip(parts, placement.chip_slices(mesh), strict=True):
            assert torch.equal(part, values[index]), placement


def composed(board: str, mesh: tuple[int, int], cases: int) -> list[str]:
    """What a composer does not give back, on a mock mesh, in a process of its own."""
    import torch
    import ttnn

    from ttt_hw import open_mesh

    wrong = []
    rng = random.Random(f"composer {mesh}")
    device = Device((8, 8), 12, 1_393_312, 1_072_693_184, mesh=mesh)
    with open_mesh(board, shape=mesh, backend="mock") as opened:
        done = 0
        while done < cases:
            placement = random_split(rng, mesh)
            if len(placement.shape) == 1 and placement.mesh_dims != (0, 0):
                continue
            done += 1
            values = whole(placement, mesh)
            mapper = placement.to_mesh_mapper(mesh)
            layout = ttnn.TILE_LAYOUT if placement.tiled else ttnn.ROW_MAJOR_LAYOUT
            tensor = ttnn.from_torch(values, dtype=ttnn.float32, layout=layout, mesh_mapper=mapper)
            if not torch.equal(ttnn.to_torch(tensor, mesh_composer=placement.to_mesh_composer(opened)), values):
                wrong.append(f"{mesh} {placement} {placement.mesh_dims}: not composed")
            config = placement.to_memory_config()
            on_device = tensor.to(opened, config)
            _, back = placement_of(on_device, device=device)
            found = (back.chip_slices(mesh), back.chip_shape, back.shard_shape, back.cores, back.memory, back.shape)
            ours = (
                placement.chip_slices(mesh),
                placement.chip_shape,
                placement.shard_shape,
                placement.cores,
                placement.memory,
            )
            if found != (*ours, placement.whole_shape(mesh)):
                wrong.append(f"{mesh} {placement} {placement.mesh_dims}: {back} {back.mesh_dims}")
            ttnn.deallocate(on_device)
    return wrong


@pytest.mark.parametrize(("board", "mesh"), [("t3k", (1, 8)), ("t3k", (2, 4)), ("tg", (8, 4))], ids=str)
def test_composers_put_it_together_again_and_the_tensor_says_how_it_is_split(board: str, mesh: tuple[int, int]) -> None:
    command = [sys.executable, str(Path(__file__)), board, *map(str, mesh), str(CASES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_a_vector_has_no_composer() -> None:
    device = Device((8, 8), 12, 1_393_312, 1_072_693_184, mesh=(1, 8))

    class Mesh:
        shape = (1, 8)

    with pytest.raises(LayoutError, match="ttnn cannot compose a vector on a mesh"):
        parse("d@cols").place((64,), device=device).to_mesh_composer(Mesh())


def test_a_config_is_that_of_each_chip() -> None:
    device = Device((8, 8), 12, 1_393_312, 1_072_693_184, mesh=(1, 8))
    config = memory_config("1 1 s d@cols@core in l1", shape=(1, 1, 32, 8 * 2048), device=device)
    assert list(config.shard_spec.shape) == [32, 32]


if __name__ == "__main__":
    print(json.dumps(composed(sys.argv[1], (int(sys.argv[2]), int(sys.argv[3])), int(sys.argv[4]))))
