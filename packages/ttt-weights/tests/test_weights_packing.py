"""Own packing against ttnn's, bit for bit, for values of every kind, order and shape, on one chip and on meshes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from ttt_hw import BOARDS, to_host_tensor
from ttt_shard_dsl import parse
from ttt_weights._host import host_tensor
from ttt_weights._stored import StoredValues, stored_values

RNG = np.random.default_rng(0)
WHOLE = (160, 224)


def normal() -> NDArray[np.float32]:
    values = RNG.normal(size=WHOLE).astype(np.float32)
    values[5, 3], values[64:96], values[:, 7] = -0.0, 0, -values[:, 8] / 300
    return values


def any_bits() -> NDArray[np.float32]:
    """Infinities and numbers without an exponent of their own among them."""
    values = RNG.integers(0, 2**32, size=WHOLE, dtype=np.uint32).view(np.float32)
    return np.where(np.isnan(values), np.float32(np.inf), values)


def tiny() -> NDArray[np.float32]:
    return normal() * np.exp2(RNG.integers(-140, -100, size=WHOLE)).astype(np.float32)


def ties() -> NDArray[np.float32]:
    """Halves between two mantissas, which go to the even one, and the largest, which does not overflow."""
    return (RNG.integers(-512, 512, size=WHOLE) / 4 + RNG.integers(0, 2, size=WHOLE) * 127.75).astype(np.float32)


def as_bytes(host: Any) -> list[bytes]:
    import ttnn

    return [
        np.from_dlpack(part.host_buffer().get_shard(ttnn.MeshCoordinate(0, 0))).tobytes()
        for part in ttnn.get_device_tensors(host)
    ]


@pytest.mark.parametrize("dtype", ["bfloat16", "bfloat8_b", "bfloat4_b"])
@pytest.mark.parametrize("stored", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("kind", [normal, any_bits, tiny, ties])
@pytest.mark.parametrize("shape", [WHOLE, (33, 97), (1, 2, 70, 40), (1, 1, 1, 50)])
def test_bytes_are_ttnns(kind: Any, stored: Any, dtype: Any, shape: tuple[int, ...], mesh: Any) -> None:
    values = kind().ravel()[: np.prod(shape)].reshape(shape).astype(stored)
    placement = parse("b h s d in dram" if len(shape) == 4 else "s d in dram").place(
        shape, device=BOARDS["n150"], dtype=dtype
    )
    expected = as_bytes(to_host_tensor(values, dtype=dtype, layout="tile"))
    for ordered in (values, np.ascontiguousarray(values.swapaxes(-1, -2)).swapaxes(-1, -2)):
        made = host_tensor(ordered, mesh, dtype=dtype, layout="tile", placement=placement, mesh=(1, 1))
        assert as_bytes(made) == expected
        assert tuple(made.shape) == shape


def test_more_than_a_piece(mesh: Any) -> None:
    values = RNG.normal(size=(300, 2500)).astype(ml_dtypes.bfloat16)
    placement = parse("s d in dram").place(values.T.shape, device=BOARDS["n150"], dtype="bfloat8_b")
    made = host_tensor(values.T, mesh, dtype="bfloat8_b", layout="tile", placement=placement, mesh=(1, 1))
    assert as_bytes(made) == as_bytes(to_host_tensor(values.T, dtype="bfloat8_b", layout="tile"))


def test_rows_are_ttnns(mesh: Any) -> None:
    values = RNG.normal(size=(300, 40)).astype(np.float32)
    placement = parse("s d in dram").place(values.shape, device=BOARDS["n150"], dtype="bfloat16", tiled=False)
    made = host_tensor(values, mesh, dtype="bfloat16", layout="row_major", placement=placement, mesh=(1, 1))
    assert as_bytes(made) == as_bytes(to_host_tensor(values, dtype="bfloat16", layout="row_major"))


def test_what_is_computed_is_float32() -> None:
    """Whatever numpy function does it, and moves in between do not change that."""
    exact = (1 + RNG.random((8, 64))).astype(ml_dtypes.bfloat16)
    stored, wide = stored_values(exact, "w"), exact.astype(np.float32)
    assert isinstance(stored, StoredValues)
    moved = np.stack([np.moveaxis(stored, 0, 1), np.pad(stored[:, :64], [(0, 0), (0, 0)]).T])[..., ::2]
    assert isinstance(moved, StoredValues)
    wide_moved = np.stack([wide.T, wide.T])[..., ::2]
    for computed, expected in (
        (moved + 1, wide_moved + 1),
        (np.float32(0.1) * moved, np.float32(0.1) * wide_moved),
        (np.zeros_like(moved) + moved / 3, wide_moved / 3),
        (np.mean(moved, axis=0), np.mean(wide_moved, axis=0)),
        (np.where(moved > 1.5, moved * 1.01, 0), np.where(wide_moved > 1.5, wide_moved * 1.01, 0)),
        (np.einsum("abc->ca", moved), np.einsum("abc->ca", wide_moved)),
        (moved @ np.swapaxes(moved, 1, 2), wide_moved @ np.swapaxes(wide_moved, 1, 2)),
    ):
        assert computed.dtype == np.float32
        np.testing.assert_allclose(computed, expected, rtol=1e-6)


def test_values_of_a_checkpoint_are_not_written() -> None:
    stored = stored_values(np.ones((2, 2), ml_dtypes.bfloat16), "w")
    with pytest.raises(TypeError, match=r"^add would write float32 values into bfloat16 ones of a checkpoint"):
        stored += 1


MESHES = """
import json, sys
import numpy as np, ttnn
from ttt_hw import board_of, open_mesh, to_host_tensor
from ttt_shard_dsl import parse
from ttt_weights._host import host_tensor, padded
from test_weights_packing import as_bytes
found = {}
with open_mesh(sys.argv[1], backend="mock") as device:
    mesh = tuple(device.shape)
    for text, shape, dtype, layout in (
        ("b h k n@cols in dram", (1, 1, 96, 1024), "bfloat8_b", "tile"),
        ("b h k|256@cols n in dram", (1, 1, 200, 64), "bfloat4_b", "tile"),
        ("b h k n in dram", (1, 1, 64, 96), "bfloat8_b", "tile"),
        ("b h k n in dram", (1, 1, 64, 96), "bfloat16", "tile"),
        ("k n in dram", (50, 96), "bfloat16", "row_major"),
        ("b h k n@rows@cols in dram", (1, 1, 64, 2048), "bfloat8_b", "tile"),
        ("b h k@rows n@cols in dram", (1, 1, 512, 512), "bfloat16", "tile"),
    ):
        values = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        tiled = layout == "tile"
        placement = parse(text).place(shape, device=board_of(device), dtype=dtype, tiled=tiled)
        split = any(dim is not None for dim in placement.mesh_dims)
        mapper = placement.to_mesh_mapper(mesh) if split else None
        wanted = to_host_tensor(padded(values, placement.whole_shape(mesh)), dtype=dtype, layout=layout, mapper=mapper)
        made = host_tensor(values, device, dtype=dtype, layout=layout, placement=placement, mesh=mesh)
        found[f"{text} {dtype}"] = [
            as_bytes(made) == as_bytes(wanted), str(made.tensor_topology()) == str(wanted.tensor_topology()),
            tuple(made.shape) == tuple(wanted.shape),
        ]
print(json.dumps(found))
"""


@pytest.mark.parametrize("board", ["t3k", "tg"])
def test_parts_of_a_mesh_are_ttnns(board: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MESHES, board], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 7
    assert {text: all(same) for text, same in found.items()} == dict.fromkeys(found, True), found
