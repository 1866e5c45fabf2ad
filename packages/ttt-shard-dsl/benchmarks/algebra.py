"""The algebra beside torch's pycute, µs per operation: `nox -s bench -- algebra`, or `python benchmarks/algebra.py --inputs 500`.

Each operation gets its own distinct inputs, nested and permuted, that both accept and answer alike; neither remembers
results. pycute is the lexicographic variant that torch has, so it gets the same layouts mirrored. The rounds of the two
alternate, and the best of each counts.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from torch.distributed import _pycute as pycute

import ttt_shard_dsl as ours
from ttt_shard_dsl import Layout, LayoutError

Case = tuple[Any, ...]


def mirror(value: Any) -> Any:
    """The same for the other one: tuples reversed, so that the rightmost part is the fastest."""
    if isinstance(value, Layout):
        return pycute.Layout(mirror(value.shape), mirror(value.stride))
    return tuple(mirror(part) for part in reversed(value)) if isinstance(value, tuple) else value


def nested(parts: list[Any], rng: random.Random) -> tuple[Any, ...]:
    """At random some neighbours as one mode."""
    cut = sorted(rng.sample(range(1, len(parts)), rng.randint(1, len(parts) - 1)))
    groups = [parts[i:j] for i, j in zip([0, *cut], [*cut, len(parts)], strict=True)]
    return tuple(tuple(group) if len(group) > 1 else group[0] for group in groups)


def permuted(rng: random.Random, gaps: Sequence[int] = (1, 1, 2, 3)) -> Layout:
    """A nested layout whose modes lie apart in any order."""
    extents = [rng.choice([2, 2, 3, 4, 6, 8, 16, 32]) for _ in range(rng.randint(2, 6))]
    strides = [0] * len(extents)
    step = 1
    for k in rng.sample(range(len(extents)), len(extents)):
        step *= rng.choice(gaps)
        strides[k] = step
        step *= extents[k]
    seed = rng.random()
    return Layout(nested(extents, random.Random(seed)), nested(strides, random.Random(seed)))


def tile(rng: random.Random) -> Layout:
    if rng.random() < 0.5:
        return Layout(rng.choice([2, 4, 6, 8, 12, 16, 32]), rng.choice([1, 1, 2, 4, 8]))
    return permuted(rng, gaps=(1,))


def index(rng: random.Random) -> Case:
    layout = permuted(rng)
    return layout, rng.randrange(layout.size)


def coordinate(rng: random.Random) -> Case:
    layout = permuted(rng)
    return layout, tuple(rng.randrange(layout[k].size) for k in range(len(layout)))


OPERATIONS: dict[str, tuple[Callable[[random.Random], Case], Callable[..., Any], Callable[..., Any]]] = {
    "Layout(shape), compact": (lambda rng: (permuted(rng).shape,), Layout, pycute.Layout),
    "size": (lambda rng: (permuted(rng),), lambda x: x.size, lambda x: x.size()),
    "cosize": (lambda rng: (permuted(rng),), lambda x: x.cosize, lambda x: x.cosize()),
    "L(index)": (index, lambda x, i: x(i), lambda x, i: x(i)),
    "L(coordinate)": (coordinate, lambda x, c: x(c), lambda x, c: x(c)),
    "coalesce": (lambda rng: (permuted(rng),), ours.coalesce, pycute.coalesce),
    "composition": (lambda rng: (permuted(rng), tile(rng)), ours.composition, pycute.composition),
    "complement": (lambda rng: (permuted(rng), rng.randint(1, 10**6)), ours.complement, pycute.complement),
    "right_inverse": (lambda rng: (permuted(rng, (1,)),), ours.right_inverse, pycute.right_inverse),
    "left_inverse": (lambda rng: (permuted(rng),), ours.left_inverse, pycute.left_inverse),
    "logical_divide": (lambda rng: (permuted(rng), tile(rng)), ours.logical_divide, pycute.logical_divide),
    "zipped_divide": (lambda rng: (permuted(rng), tile(rng)), ours.zipped_divide, pycute.zipped_divide),
    "tiled_divide": (lambda rng: (permuted(rng), tile(rng)), ours.tiled_divide, pycute.tiled_divide),
    "logical_product": (lambda rng: (permuted(rng), tile(rng)), ours.logical_product, pycute.logical_product),
}

OBJECTS: dict[str, tuple[Callable[[random.Random], Case], Callable[..., Any], Callable[..., Any]]] = {
    "Layout(shape, stride)": (lambda rng: (lambda x: (x.shape, x.stride))(permuted(rng)), Layout, pycute.Layout),
    "L[mode]": (lambda rng: (permuted(rng),), lambda x: x[0], lambda x: x[len(x) - 1]),
    "len": (lambda rng: (permuted(rng),), len, len),
}
"""No operations of the algebra: ours are checked when made and cannot change, pycute's are neither."""


def alike(name: str, case: Case, a: Any, b: Any) -> bool:
    """Whether the two gave the same function, and ours has as many indices."""
    if not isinstance(a, Layout):
        return bool(a == b)
    if name.endswith(("divide", "product")):
        # pycute keeps the order of (tile, rest), and mirrors only within each
        return [values(part) for part in a][:2] == [values_of_pycute(part) for part in b][:2]
    if name == "left_inverse":  # free where the layout has no value
        return all(b(case[0](i)) == i for i in range(min(case[0].size, 64)))
    return values(a) == values_of_pycute(b)


def values(layout: Layout) -> list[Any]:
    return [layout.size, *(layout(i) for i in range(min(layout.size, 64)))]


def values_of_pycute(layout: Any) -> list[Any]:
    return [layout.size(), *(layout(i) for i in range(min(layout.size(), 64)))]


def cases(name: str, count: int, rng: random.Random) -> tuple[list[Case], list[Case]]:
    """Inputs that both accept and answer alike, for us and mirrored."""
    make, mine, theirs = (OPERATIONS | OBJECTS)[name]
    found: dict[str, tuple[Case, Case]] = {}
    while len(found) < count:
        case = make(rng)
        try:
            if alike(name, case, mine(*case), theirs(*map(mirror, case))):
                found.setdefault(str(case), (case, tuple(map(mirror, case))))
        except (LayoutError, AssertionError, IndexError, TypeError):
            continue
    return [mine for mine, _ in found.values()], [theirs for _, theirs in found.values()]


def seconds(function: Callable[..., Any], inputs: list[Case]) -> float:
    start = time.perf_counter()
    for case in inputs:
        function(*case)
    return time.perf_counter() - start


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=1000, help="distinct inputs of each operation")
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    rng = random.Random(given.seed)
    print(f"{'operation':<24}{'ours':>9}{'pycute':>9}{'ratio':>8}   µs, best of {given.rounds} rounds")

    def measure(name: str, mine: Callable[..., Any], theirs: Callable[..., Any]) -> float:
        our_inputs, their_inputs = cases(name, given.inputs, rng)
        rounds = [(seconds(mine, our_inputs), seconds(theirs, their_inputs)) for _ in range(given.rounds)]
        us, them = (min(column) / given.inputs * 1e6 for column in zip(*rounds, strict=True))
        print(f"{name:<24}{us:>9.2f}{them:>9.2f}{them / us:>7.1f}×")
        return them / us

    ratios = [measure(name, mine, theirs) for name, (_, mine, theirs) in OPERATIONS.items()]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"geometric mean {mean:.2f}×, least {min(ratios):.2f}×\n\nnot in the mean: checked and immutable here only")
    for name, (_, mine, theirs) in OBJECTS.items():
        measure(name, mine, theirs)


if __name__ == "__main__":
    main()
