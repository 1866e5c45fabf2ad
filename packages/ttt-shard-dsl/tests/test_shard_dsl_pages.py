"""Random MemoryConfigs and texts against ttnn, page by page, and through the language and back.

`TTT_SLOW=1` runs 6,000 tensors, 4,000 of them round trips, instead of a sample of them.
"""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ttt_shard_dsl import Device, LayoutError, Placement, parse, spec_of

if importlib.util.find_spec("ttnn") is None or importlib.util.find_spec("ttt_hw") is None:
    pytest.skip("needs ttnn and ttt-hw", allow_module_level=True)

SLOW = os.environ.get("TTT_SLOW") == "1"
CONFIGS, TEXTS = (2000, 1000) if SLOW else (120, 60)
"""On each board."""
TILED = ("float32", "bfloat16", "bfloat8_b", "bfloat4_b", "uint32", "uint16")
ROWS = ("float32", "bfloat16", "uint32", "uint16")
KINDS = ("interleaved", "height", "width", "block", "nd", "nd", "contiguous", "grid")


class Tensor(NamedTuple):
    shape: tuple[int, ...]
    dtype: str
    tiled: bool


def random_tensor(rng: random.Random) -> Tensor:
    tiled = rng.random() < 0.6
    leading = [rng.choice([1, 1, 2, 3, 5]) for _ in range(rng.choice([0, 1, 2, 2, 2, 3]))]
    rows, width = rng.choice([1, 7, 32, 64, 96, 130]), rng.choice([1, 8, 20, 64, 100, 256, 480])
    return Tensor((*leading, rows, width)[-rng.choice([5, 5, 5, 1]) :], rng.choice(TILED if tiled else ROWS), tiled)


def stored(tensor: Tensor) -> tuple[int, ...]:
    shape = (1, *tensor.shape) if tensor.tiled and len(tensor.shape) == 1 else tensor.shape
    return (*shape[:-2], *(-(-size // 32) * 32 for size in shape[-2:])) if tensor.tiled else shape


def random_ranges(rng: random.Random, grid: tuple[int, int], least: int, several: bool) -> list[tuple[int, ...]]:
    """Rectangles of cores that do not overlap, in any order, that are at least so many."""
    columns, rows = grid
    if rows == 1 or not several or rng.random() < 0.4:
        for _ in range(20):
            x, y = rng.randrange(columns), rng.randrange(rows)
            one = (x, y, rng.randrange(x, columns), rng.randrange(y, rows))
            if (one[2] - x + 1) * (one[3] - y + 1) >= least:
                return [one]
        return [(0, 0, columns - 1, rows - 1)]
    lines = [(x, y, rng.randrange(x, columns), y) for y in range(rows) for x in [rng.randrange(columns)]]
    rng.shuffle(lines)
    taken = lines[: rng.randrange(1, rows + 1)]
    if sum(r[2] - r[0] + 1 for r in taken) >= least:
        return taken
    return [(0, 1, columns - 1, rows - 1), (0, 0, columns - 1, 0)]


def random_config(rng: random.Random, tensor: Tensor, device: Device) -> Any:
    """A MemoryConfig for the tensor; ttnn may refuse it."""
    import ttnn

    kind = rng.choice(KINDS)
    in_dram = rng.random() < 0.15
    buffer = ttnn.BufferType.DRAM if in_dram else ttnn.BufferType.L1
    if kind == "interleaved":
        return ttnn.MemoryConfig(ttnn.TensorMemoryLayout.INTERLEAVED, buffer)
    grid = (device.dram_banks, 1) if in_dram else device.grid
    cores = grid[0] * grid[1]
    orientation = rng.choice([ttnn.ShardOrientation.ROW_MAJOR, ttnn.ShardOrientation.COL_MAJOR])
    unit = 32 if tensor.tiled else 1
    sizes = stored(tensor)
    height, width = prod(sizes[:-1]), sizes[-1]

    def part(size: int, most: int) -> int:
        """A shard's size, such that there are not more than `most`; sometimes more than all."""
        least = -(-size // (most * unit)) * unit
        return rng.choice([least, unit * rng.randrange(least // unit, max(least, size) // unit + 2)])

    def core_set(ranges: list[tuple[int, ...]]) -> Any:
        corners = ((ttnn.CoreCoord(x0, y0), ttnn.CoreCoord(x1, y1)) for x0, y0, x1, y1 in ranges)
        return ttnn.CoreRangeSet([ttnn.CoreRange(*pair) for pair in corners])

    if kind in ("height", "width"):
        shard = [part(height, cores), width] if kind == "height" else [height, part(width, cores)]
        if kind == "height" and not tensor.tiled and rng.random() < 0.2:
            shard[1] += rng.randrange(1, 40)
        count = -(-height // shard[0]) * -(-width // shard[1])
        ranges = random_ranges(rng, grid, count, several=True)
        layout = getattr(ttnn.TensorMemoryLayout, f"{kind.upper()}_SHARDED")
        return ttnn.MemoryConfig(layout, buffer, ttnn.ShardSpec(core_set(ranges), shard, orientation))
    if kind in ("block", "grid"):
        (rectangle,) = random_ranges(rng, grid, 1, several=False)
        sides = (rectangle[3] - rectangle[1] + 1, rectangle[2] - rectangle[0] + 1)
        down, across = sides if orientation == ttnn.ShardOrientation.ROW_MAJOR else sides[::-1]
        shard = [part(height, down), part(width, across)]
        if kind == "block":
            spec = ttnn.ShardSpec(core_set([rectangle]), shard, orientation)
            return ttnn.MemoryConfig(ttnn.TensorMemoryLayout.BLOCK_SHARDED, buffer, spec)
        deal = ttnn.ShardDistributionStrategy.GRID_2D
        nd = ttnn.NdShardSpec(ttnn.Shape(shard), core_set([rectangle]), orientation, deal)
        return ttnn.MemoryConfig(buffer, nd)
    dims = rng.randrange(2 if tensor.tiled else 1, len(sizes) + 1) if len(sizes) > 1 else 1
    sizes = (prod(sizes[: len(sizes) - dims + 1]), *sizes[len(sizes) - dims + 1 :])
    shard = [
        rng.choice([size, part(size, 4), step * rng.randrange(1, 5)])
        for size, step in zip(sizes, [1] * (dims - 2) + [unit] * min(dims, 2), strict=True)
    ]
    count = prod(-(-size // s) for size, s in zip(sizes, shard, strict=True))
    deal = ttnn.ShardDistributionStrategy.ROUND_ROBIN_1D
    ranges = random_ranges(rng, grid, 1, several=True)
    if kind == "contiguous":
        deal = ttnn.ShardDistributionStrategy.CONTIGUOUS_1D
        fits = [r for r in range(1, grid[0] + 1) if count % r == 0]
        ranges = [(0, 0, rng.choice(fits) - 1, 0)]
    return ttnn.MemoryConfig(buffer, ttnn.NdShardSpec(ttnn.Shape(shard), core_set(ranges), orientation, deal))


def random_text(rng: random.Random, tensor: Tensor, device: Device) -> str:
    """A layout for the tensor; not always legal."""
    names = ["a", "b", "c", "e", "d"][-len(tensor.shape) :]
    axes = rng.choice([["core"], ["core"], ["core.y", "core.x"], ["core.x", "core.y"], ["core.x"], ["core.y"]])
    mark = rng.choice(["@", "~"]) if len(axes) == 1 else "@"
    words = []
    for index, (name, size) in enumerate(zip(names, tensor.shape, strict=True)):
        unit = 32 if tensor.tiled and index >= len(names) - 2 else 1
        block = rng.choice(["", f":{unit * rng.randrange(1, 2 + size // unit)}"])
        place = ""
        if axes and (rng.random() < 0.5 or index >= len(names) - len(axes)):
            place = f"{mark}{axes[0]}{block}"
            if len(axes) > 1 or rng.random() < 0.5:
                axes.pop(0)
        words.append(name + place)
    columns, rows = device.grid
    x, y = rng.randrange(columns), rng.randrange(rows)
    one = f"{x}-{y}..{rng.randrange(x, columns)}-{rng.randrange(y, rows)}"
    on = rng.choice(["", "", f" on {one}", f" on {one}:col", f" on {one}:contiguous"])
    return f"{' '.join(words)} in l1{on}"


def allocated(mesh: Any, tensor: Tensor, config: Any) -> Any:
    """The tensor in ttnn, or None where ttnn refuses it."""
    import ttnn

    layout = ttnn.TILE_LAYOUT if tensor.tiled else ttnn.ROW_MAJOR_LAYOUT
    try:
        return ttnn.empty(list(tensor.shape), getattr(ttnn, tensor.dtype), layout, mesh, config)
    except RuntimeError:
        return None


def pages_of(mesh: Any) -> list[tuple[int, tuple[int, int], int, int]]:
    """(page, core, bank, address) of the only buffer in L1."""
    import ttnn

    found = ttnn._ttnn.reports.get_buffer_pages(mesh)
    return sorted((p.page_index, (p.core_x, p.core_y), p.bank_id, p.page_address) for p in found)


def wrong_pages(mesh: Any, placement: Placement, banks: dict[int, int]) -> str:
    """What differs between the pages of the tensor that is allocated and those of its placement; "" for nothing.

    `banks` is the device's number of each bank, filled as pages are seen.
    """
    theirs, ours = pages_of(mesh), placement.pages()
    if [page for page, *_ in theirs] != list(range(len(ours))):
        return f"ttnn has {len(theirs)} pages, not {len(ours)}"
    start = min(address - offset for (_, _, _, address), (_, offset) in zip(theirs, ours, strict=True))
    for (page, core, bank, address), (where, offset) in zip(theirs, ours, strict=True):
        if placement.shard_shape is None:
            core = (where[0], 0) if banks.setdefault(where[0], bank) == bank else core
        if (core, address - start) != (where, offset):
            return f"page {page} is at {core} + {address - start}, not {where} + {offset}"
    return "" if len(set(banks.values())) == len(banks) else "two banks have one number"


def agree(board: str, configs: int, texts: int) -> dict[str, Any]:
    """Counts of what was compared on a mock board, and what differs; in a process of its own for a second board."""
    import ttnn

    from ttt_hw import open_mesh

    counts: dict[str, int] = {}
    wrong: list[str] = []
    banks: dict[int, int] = {}

    def count(kind: str) -> None:
        counts[kind] = counts.get(kind, 0) + 1

    # ttnn makes these of an NdShardSpec where it can; its BLOCK_SHARDED of one may lie on other cores than it says
    lines = (ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.TensorMemoryLayout.HEIGHT_SHARDED)
    with open_mesh(board, backend="mock") as mesh:
        grid = mesh.compute_with_storage_grid_size()
        kinds = (ttnn.BufferType.L1, ttnn.BufferType.DRAM)
        sizes = [ttnn.get_memory_view(mesh, kind).total_bytes_per_bank for kind in kinds]
        alignment = {"l1_alignment": 16, "dram_alignment": 64 if board == "p150" else 32}
        device = Device((grid.x, grid.y), mesh.dram_grid_size().x, *sizes, **alignment)

        def compare(tensor: Tensor, placement: Placement, theirs: Any, name: str) -> list[Any]:
            """The pages of a tensor in ttnn; for DRAM, of which there is no report, only the bytes."""
            buffer = ttnn.BufferType.L1 if placement.memory == "l1" else ttnn.BufferType.DRAM
            size = placement.bytes_per_core + placement.bytes_per_bank
            taken = ttnn.get_memory_view(mesh, buffer).total_bytes_allocated_per_bank
            if taken != -(-size // device.dram_alignment) * device.dram_alignment:
                wrong.append(f"{name}: {taken} bytes, not {size}")
            pages = []
            if placement.memory == "l1":
                if difference := wrong_pages(mesh, placement, banks):
                    wrong.append(f"{name}: {difference}")
                pages = pages_of(mesh)
                count("compared by pages")
            count(f"{placement.memory} {placement.sharding}{' contiguous' if placement.contiguous else ''}")
            ttnn.deallocate(theirs)
            return pages

        for seed in range(10 * configs):
            rng = random.Random(f"{board} config {seed}")
            tensor = random_tensor(rng)
            config = random_config(rng, tensor, device)
            theirs = allocated(mesh, tensor, config)
            if theirs is None:
                count("refused by ttnn")
                continue
            name = f"{tensor} {config}"
            try:
                given = rng.choice([config, theirs.memory_config()])
                kind = {"dtype": tensor.dtype, "tiled": tensor.tiled}
                spec = spec_of(given, shape=tensor.shape, device=device, **kind)
                placement = parse(str(spec)).place(tensor.shape, device=device, tiled=tensor.tiled)
            except LayoutError as error:
                ttnn.deallocate(theirs)
                if "have no text" in error.reason and len(tensor.shape) == 1:
                    count("no text: a vector in shards of several tiles' rows")
                else:
                    wrong.append(f"{name}: {error}")
                continue
            if placement.sharding == "nd" and theirs.memory_config().memory_layout in lines:
                wrong.append(f"{name}, {spec}: ttnn has a legacy ShardSpec for it")
            first = compare(tensor, placement, theirs, f"{name}, {spec}")
            again = allocated(mesh, tensor, placement.to_memory_config())
            if again is None:
                wrong.append(f"{name}, {spec}: refused on the way back")
                continue
            if compare(tensor, placement, again, f"{name}, {spec} again") != first:
                wrong.append(f"{name}, {spec}: other pages on the way back")
            count("round trips")
            if counts["round trips"] >= configs:
                break
        for seed in range(20 * texts):
            rng = random.Random(f"{board} text {seed}")
            tensor = random_tensor(rng)
            text = random_text(rng, tensor, device)
            try:
                placement = parse(text).place(tensor.shape, device=device, dtype=tensor.dtype, tiled=tensor.tiled)
            except LayoutError:
                continue
            theirs = allocated(mesh, tensor, placement.to_memory_config())
            if theirs is None:
                wrong.append(f"{tensor} {text}: ttnn refuses {placement}")
                continue
            if placement.sharding == "nd" and theirs.memory_config().memory_layout in lines:
                wrong.append(f"{tensor} {text}: ttnn has a legacy ShardSpec for {placement}")
            compare(tensor, placement, theirs, f"{tensor} {text}")
            count("texts")
            if counts["texts"] >= texts:
                break
    return {"counts": counts, "wrong": wrong}


def check(result: dict[str, Any]) -> None:
    print(result["counts"])
    assert result["wrong"] == []
    assert (result["counts"]["round trips"], result["counts"]["texts"]) == (CONFIGS, TEXTS)


def test_n150() -> None:
    check(agree("n150", CONFIGS, TEXTS))


def test_p150() -> None:
    import json

    done = subprocess.run(
        [sys.executable, Path(__file__), "p150", str(CONFIGS), str(TEXTS)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    check(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    import json

    print(json.dumps(agree(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
