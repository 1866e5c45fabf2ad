"""Found layouts are legal, and none of a small space is missed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from math import prod

import pytest
from hypothesis import given, settings, strategies as st

from ttt_shard_dsl import Device, LayoutError, Placement, best_layouts, legal_layouts, parse

N150 = Device((8, 8), 12, 1_393_312, 1_072_693_184)
SMALL = Device((3, 2), 3, 40_960, 81_920, mesh=(2, 2))


@settings(deadline=None, max_examples=20)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 70), st.integers(1, 100)),
    st.booleans(),
    st.sampled_from([None, 2, 5]),
    st.sampled_from([(), ("rows",), ("rows", "cols")]),
)
def test_what_is_found_is_legal_and_found_once(
    shape: tuple[int, ...], tiled: bool, max_cores: int | None, mesh_axes: tuple[str, ...]
) -> None:
    found = legal_layouts("a b s d", shape, device=SMALL, tiled=tiled, max_cores=max_cores, mesh_axes=mesh_axes)
    seen: set[Placement] = set()
    for spec, placement in islice(found, 0, 200, 3):
        assert parse(str(spec)).place(shape, device=SMALL, tiled=tiled) == placement
        assert placement not in seen
        seen.add(placement)
        used = {str(place.axis) for dim in spec.dims for place in dim.places}
        assert used & {"rows", "cols"} <= set(mesh_axes)
        if max_cores is not None and placement.memory == "l1":
            assert 0 < placement.num_shards <= max_cores


def texts(shape: tuple[int, ...], unit: int) -> Iterator[str]:
    """Every text with a split of a dim, a group or two of them, blocks of any size, and any use of the mesh."""
    a, b, s, d = shape
    splits: dict[str, int] = {"a": a, "b": b, "s": unit * -(-s // unit), "d": unit * -(-d // unit)}
    groups = [("a", "b"), ("b", "s"), ("a", "b", "s")]
    whole = {**{(name,): size for name, size in splits.items()}}
    for group in groups:
        whole[group] = 1
        for name in group:
            whole[group] *= splits[name]

    def text(chosen: dict[tuple[str, ...], str], mesh: dict[str, str]) -> str:
        words = []
        names = ["a", "b", "s", "d"]
        while names:
            group = next((g for g in chosen if g[0] == names[0]), (names[0],))
            label = group[0] if len(group) == 1 else f"({' '.join(group)})"
            words.append(label + "".join(mesh.get(name, "") for name in group) + chosen.get(group, ""))
            names = names[len(group) :]
        return " ".join(words)

    for rows, cols in product(["", *"absd"], repeat=2):
        mesh = {
            dim: "".join(f"@{axis}" for axis, of in (("rows", rows), ("cols", cols)) if of == dim) for dim in "absd"
        }
        for memory in ("l1", "dram"):
            yield f"{text({}, mesh)} in {memory}"
        for group, size in whole.items():
            step = unit if size % unit == 0 else 1
            for block in range(step, size, step):
                yield f"{text({group: f'@core:{block}'}, mesh)} in l1"
                yield f"{text({group: f'@bank:{block}'}, mesh)} in dram"
        for group, size in whole.items():
            if "d" in group:
                continue
            step = unit if size % unit == 0 else 1
            for high, wide in product(range(step, size + 1, step), range(unit, splits["d"] + 1, unit)):
                for y, x in (("core.y", "core.x"), ("core.x", "core.y")):
                    yield f"{text({group: f'@{y}:{high}', ('d',): f'@{x}:{wide}'}, mesh)} in l1"


@pytest.mark.parametrize(
    ("shape", "tiled"),
    [
        ((1, 1, 64, 128), True),
        ((1, 2, 64, 96), True),
        ((2, 3, 20, 64), True),
        ((2, 1, 32, 128), True),
        ((1, 2, 3, 8), False),
        ((2, 2, 2, 6), False),
    ],
)
def test_none_is_missed(shape: tuple[int, ...], tiled: bool) -> None:
    expected = set()
    for text in texts(shape, 32 if tiled else 1):
        try:
            placement = parse(text).place(shape, device=SMALL, tiled=tiled)
        except LayoutError:
            continue
        shard = placement.shard_shape or (0, 0)
        width = placement.padded_shape[-1] if tiled else placement.chip_shape[-1]  # without the last shard's padding
        held = (prod(placement.padded_shape[:-1]), width)
        if placement.num_shards != 1 and placement.sharding != "nd" and shard[0] <= held[0] and shard[1] <= held[1]:
            expected.add(placement)
    found = {p for _, p in legal_layouts("a b s d", shape, device=SMALL, tiled=tiled, mesh_axes=("rows", "cols"))}
    assert found == expected
    assert len(found) > 50


def test_best_first_and_lazily() -> None:
    calls = []

    def cost(placement: Placement) -> tuple[int, int]:
        calls.append(placement)
        return placement.bytes_per_core, -placement.num_shards

    found = list(best_layouts("1 1 s d in l1", (1, 1, 32, 4096), device=N150, cost=cost))
    assert str(found[0].spec) == "1 1 s d@core:64 in l1"
    assert [cost(each.placement) for each in found] == sorted(map(cost, (each.placement for each in found)))
    assert len(calls) == 3 * len(found)
    endless = legal_layouts("1 1 s d", (1, 1, 32 * 4096, 4096), device=N150)
    assert next(endless).placement.memory == "dram"  # it has no room in L1


def test_constraints_of_the_template() -> None:
    shape = (1, 8, 64, 4096)
    galaxy = N150._replace(mesh=(8, 4))
    for spec, placement in legal_layouts(
        "1 b@cols s d +rows in l1 on 2-1..5-4 as bfp8", shape, device=galaxy, split=("s", "d"), mesh_axes=("rows",)
    ):
        assert (placement.memory, placement.dtype, placement.mesh_dims) == ("l1", "bfloat8_b", (None, 1))
        assert placement.pending == ("rows",)
        assert all(2 <= x <= 5 and 1 <= y <= 4 for x, y in placement.cores)
        assert not any(dim.places[1:] for dim in spec.dims if "b" in dim.names)


@pytest.mark.parametrize("device", [N150, SMALL])
@pytest.mark.parametrize(
    "on", ["l1 on 0-0..1-1", "l1 on 1-0..1-1:col", "l1 on 2-1..2-1,0-0..1-0", "l1 on 1-1..1-1", "dram on 1-0..2-0"]
)
def test_no_core_beside_those_of_the_template(device: Device, on: str) -> None:
    cores = parse(f"s d in {on}").cores
    assert cores is not None
    allowed = {(x, y) for r in cores.ranges for x, y in product(range(r.x0, r.x1 + 1), range(r.y0, r.y1 + 1))}
    found = list(legal_layouts(f"1 b s d in {on}", (1, 2, 64, 128), device=device))
    assert found
    for spec, placement in found:
        assert set(placement.cores) <= allowed
        assert placement.cores
        assert spec.cores == cores


def test_a_dim_over_all_chips_is_one_that_a_host_can_split() -> None:
    galaxy = N150._replace(mesh=(8, 4))
    for template, axes in (
        ("s d@cols in dram", ("rows",)),
        ("s d@rows in dram", ("cols",)),
        ("s d in dram", ("cols", "rows")),
    ):
        texts = [str(spec) for spec, _ in legal_layouts(template, (64, 4096), device=galaxy, split=(), mesh_axes=axes)]
        assert "s d@rows@cols in dram" in texts
        assert "s d@cols@rows in dram" not in texts


def test_groups_of_dims_that_have_no_name() -> None:
    found = {str(spec) for spec, _ in legal_layouts("2 4 s d in l1", (2, 4, 32, 32), device=N150)}
    assert {"(dim0 dim1)@core:1 s d in l1", "2@core:1 4 s d in l1"} <= found


@pytest.mark.parametrize(
    ("template", "options", "message"),
    [
        (
            "1 1 s d@core",
            {},
            "a template has no split over 'core': the search finds them\n  1 1 s d@core\n  nearest valid: d",
        ),
        (
            "1 1 s d",
            {"split": ["dd"]},
            "'dd' is to be split, and no dim of the template\n  1 1 s d\n  nearest valid: d",
        ),
        (
            "1 1 s d in l1 on 0-0..3-1",
            {},
            "0-0..3-1 leaves the grid of 3×2 cores\n  1 1 s d in l1 on 0-0..3-1\n                   ^^^^^^^^\n"
            "  nearest valid: 0-0..2-1",
        ),
        ("1 1 s d", {"mesh_axes": ["row"]}, "'row' is not an axis of the mesh\n  nearest valid: rows"),
        (
            "1 1 s d@cols",
            {},
            "4095 of 'd' does not split evenly over 'cols', which has 2\n  1 1 s d@cols\n          ^^^^\n"
            "  nearest valid: d|2@cols",
        ),
    ],
)
def test_what_is_refused(template: str, options: dict[str, list[str]], message: str) -> None:
    with pytest.raises(LayoutError) as error:
        next(
            legal_layouts(
                template,
                (1, 1, 32, 4095),
                device=SMALL,
                split=options.get("split"),
                mesh_axes=options.get("mesh_axes", ()),
            )
        )
    assert str(error.value) == message
