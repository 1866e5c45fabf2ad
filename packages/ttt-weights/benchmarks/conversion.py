"""Weights of the size of an 8B model, to bfp8: time and memory of a conversion, and how fast a warm cache is.

Beside it the plain loop over `ttnn.from_torch`. One decoder layer's file serves for all layers, and the head's for the embedding,
so that the file takes 1.5 GB; each is converted as often as the model has it. On a mock device, which copies nothing.

A warm cache is compared with two ways to read the same files, which the page cache has: through a buffer of 16 MB, which stays
in the processor's cache and is the fastest that there is, and each file in one go into memory.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from ttt_hw import open_mesh
from ttt_weights import Checkpoint, LazyWeight

HIDDEN, INNER, QUERIES, KEYS, VOCABULARY = 4096, 14336, 4096, 1024, 128256
LAYER: dict[str, tuple[tuple[str, int], ...]] = {  # of each weight its parts, which are stacked, and their rows
    "qkv": (("q", QUERIES), ("k", KEYS), ("v", KEYS)),
    "o": (("o", HIDDEN),),
    "gate": (("gate", INNER),),
    "up": (("up", INNER),),
    "down": (("down", HIDDEN),),
}
COLUMNS = {"down": INNER}
MB = 1 << 20
READS = 5  # at least, of what takes less than a second


def write(path: Path) -> None:
    values = np.random.default_rng(0).normal(size=1 << 22).astype(ml_dtypes.bfloat16)
    shapes = {part: (rows, COLUMNS.get(part, HIDDEN)) for parts in LAYER.values() for part, rows in parts}
    shapes["head"] = (VOCABULARY, HIDDEN)
    tensors = {name: np.resize(values[index:], shape) for index, (name, shape) in enumerate(shapes.items())}
    save_file(tensors, path / "model.safetensors")


def transposed(*parts: Any) -> Any:
    return (parts[0] if len(parts) == 1 else np.concatenate(parts)).T[None, None]


def as_it_is(table: Any) -> Any:
    return table


def weights(source: Path, layers: int, mesh: Any) -> Iterator[LazyWeight]:
    """Each weight of the model."""
    held = Checkpoint(source)
    for name in [*(list(LAYER) * layers), "head"]:
        parts = [held[part] for part, _ in LAYER.get(name, ((name, 0),))]
        shape = (1, 1, parts[0].shape[1], sum(part.shape[0] for part in parts))
        yield LazyWeight(parts, transposed, shape=shape, dtype="bfloat8_b", device=mesh, placement="b h k n in dram")
    table = held["head"]
    yield LazyWeight(
        [table], as_it_is, shape=table.shape, dtype="bfloat16", device=mesh, placement="v d in dram", layout="row_major"
    )


def own(source: Path, layers: int, mesh: Any) -> None:
    for weight in weights(source, layers, mesh):
        _ = weight.tensor


def plain(source: Path, layers: int, mesh: Any) -> None:
    import torch
    import ttnn
    from safetensors.torch import load_file

    held = load_file(source / "model.safetensors")
    for name in [*(list(LAYER) * layers), "head"]:
        parts = [held[part] for part, _ in LAYER.get(name, ((name, 0),))]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        ttnn.from_torch(whole.T[None, None], dtype=ttnn.bfloat8_b, layout=ttnn.TILE_LAYOUT, device=mesh)
    ttnn.from_torch(held["head"], dtype=ttnn.bfloat16, layout=ttnn.ROW_MAJOR_LAYOUT, device=mesh)


def warm(source: Path, layers: int, mesh: Any) -> None:
    """Each entry loaded, and all of its bytes read as a card would."""
    import ttnn

    for weight in weights(source, layers, mesh):
        host = weight._converted()
        for shard in ttnn.get_device_tensors(host):
            view = np.from_dlpack(shard.host_buffer().get_shard(ttnn.MeshCoordinate(0, 0)))
            touch(view)


def read(source: Path, layers: int, mesh: Any) -> None:
    """The same files read, without asking whether they are right."""
    buffer = bytearray(16 * MB)
    for path in entries(layers):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def whole(source: Path, layers: int, mesh: Any) -> None:
    """The same, each file in one go, into memory that was written before."""
    files = entries(layers)
    memory = memoryview(bytearray(max(path.stat().st_size for path in files)))
    for path in files:
        with path.open("rb", buffering=0) as file:
            filled = 0
            while some := file.readinto(memory[filled:]):
                filled += some


def entries(layers: int) -> list[Path]:
    """The cache's files, as often as the model has them."""
    folder = Path(os.environ["TTT_WEIGHTS_CACHE"])
    *others, table = sorted(folder.glob("*.tensorbin"), key=lambda path: path.stat().st_size)
    return [*(others[:-1] * layers), others[-1], table]


def touch(view: Any) -> None:
    np.bitwise_xor.reduce(view[: view.size // 8 * 8].view(np.uint64))


@contextmanager
def peak() -> Iterator[list[int]]:
    """The most memory of its own that the process held beyond what it held before, in bytes, every 5 ms."""

    def held() -> int:
        return next(
            int(line.split()[1]) * 1024 for line in Path("/proc/self/status").open() if line.startswith("RssAnon")
        )

    before, most, done = held(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            most[0] = max(most[0], held() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    yield most
    done.set()
    thread.join()


RUNS = {"own": own, "plain": plain, "cold": own, "warm": warm, "read": read, "whole": whole}


def measure(what: str, source: Path, layers: int) -> None:
    with open_mesh("n150", backend="mock") as mesh, peak() as most:
        start = time.perf_counter()
        RUNS[what](source, layers, mesh)
        seconds = time.perf_counter() - start
    print(seconds, most[0])


def run(what: str, source: Path, layers: int, cache: str) -> tuple[float, int]:
    command = [sys.executable, __file__, "--what", what, "--source", str(source), "--layers", str(layers)]
    done = subprocess.run(
        command, env=os.environ | {"TTT_WEIGHTS_CACHE": cache}, stdout=subprocess.PIPE, text=True, check=True
    )
    seconds, most = done.stdout.split()
    return float(seconds), int(most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--what", default="")
    parser.add_argument("--source", type=Path)
    arguments = parser.parse_args()
    if arguments.what:
        measure(arguments.what, arguments.source, arguments.layers)
        return
    with tempfile.TemporaryDirectory() as folder:
        source, cache = Path(folder), f"{folder}/cache"
        write(source)
        layers, repeats = arguments.layers, range(arguments.repeats)
        found: dict[str, list[tuple[float, int]]] = {"plain": [], "own": []}
        for _ in repeats:
            for what in found:
                found[what].append(run(what, source, layers, "off"))
        cold = run("cold", source, 1, cache)
        found |= {what: [] for what in ("read", "whole", "warm")}
        for _ in range(max(READS, arguments.repeats)):
            for what in ("read", "whole", "warm"):
                found[what].append(run(what, source, layers, cache))
        best = {what: min(each) for what, each in found.items()}
        largest = 2 * VOCABULARY * HIDDEN
        print(
            f"{layers} layers, head and table; the largest bf16 tensor has {largest // MB:,} MB; {len(repeats)} repeats"
        )
        for what, (seconds, most) in best.items():
            print(f"{what:6} {seconds:7.2f} s  {most // MB:6,} MB of own memory at most")
        print(f"cold   {cold[0]:7.2f} s for one layer, head and table, digests and files written")
        print(f"own is {best['plain'][0] / best['own'][0]:.2f} × as fast as the from_torch loop (at least 1.5)")
        print(f"own takes {best['own'][1] / largest:.2f} × the largest bf16 tensor (at most 1.3)")
        print(f"a warm cache loads at {best['read'][0] / best['warm'][0]:.2f} × the speed of reading (at least 0.8),")
        print(f"and at {best['whole'][0] / best['warm'][0]:.2f} × that of reading each file in one go")


if __name__ == "__main__":
    main()
