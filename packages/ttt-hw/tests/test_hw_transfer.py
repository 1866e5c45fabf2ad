"""Arrays to and from a device: shapes, dtypes, observers, sources; the mock answers every read with zeros."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import ttnn
from numpy.typing import NDArray

from ttt_hw import board_of, download, forget_source, observe, remember_source, source_of, to_host_tensor, upload
from ttt_shard_dsl import parse

pytestmark = pytest.mark.usefixtures("mesh")  # ttnn lays out tiles as the chip wants them, host tensors too

FLOATS = ["float32", "bfloat16", "bfloat8_b", "bfloat4_b"]
INTEGERS = ["uint32", "int32", "uint16"]


class Watcher:
    def __init__(self, answer: NDArray[np.generic] | None = None) -> None:
        self.seen: list[tuple[Any, list[NDArray[np.generic]]]] = []
        self.answer = answer

    def uploaded(self, tensor: Any, parts: Sequence[NDArray[np.generic]], host: Any, /) -> None:
        self.seen.append((tensor, list(parts)))
        self.sent = host

    def value(self, tensor: Any, /) -> NDArray[np.generic] | None:
        return self.answer


@pytest.mark.parametrize("dtype", FLOATS + INTEGERS)
@pytest.mark.parametrize("shape", [(32, 32), (1, 1, 3, 40), (5, 33)])
def test_a_device_tensor_is_as_asked(dtype: Any, shape: tuple[int, ...], mesh: Any) -> None:
    tensor = upload(np.ones(shape), mesh, dtype=dtype)
    assert tuple(tensor.shape) == shape
    assert tensor.dtype == getattr(ttnn, dtype)
    assert tensor.layout == ttnn.TILE_LAYOUT
    assert tensor.memory_config() == ttnn.DRAM_MEMORY_CONFIG
    assert tensor.device() is mesh
    back = download(tensor)
    assert back.shape == shape
    assert back.dtype == (np.float32 if dtype in FLOATS else np.dtype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", *INTEGERS])
def test_row_major_tensors_have_no_tiles(dtype: Any, mesh: Any) -> None:
    tensor = upload(np.ones((3, 40)), mesh, dtype=dtype, layout="row_major")
    assert tensor.layout == ttnn.ROW_MAJOR_LAYOUT
    assert download(tensor).shape == (3, 40)


def test_a_placement_says_where(mesh: Any) -> None:
    array = np.ones((1, 1, 32, 2048), np.float32)
    placement = parse("1 1 s d@core in l1").place(array.shape, device=board_of(mesh), dtype="bfloat16")
    tensor = upload(array, mesh, dtype="bfloat16", placement=placement)
    assert tensor.memory_config() == placement.to_memory_config()
    assert tensor.memory_config().memory_layout == ttnn.TensorMemoryLayout.WIDTH_SHARDED


@pytest.mark.parametrize("source", [np.int64, np.int32, np.uint8, np.float64, np.float32, np.float16, np.bool_])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", *INTEGERS])
@pytest.mark.parametrize("layout", ["tile", "row_major"])
def test_the_host_tensor_has_the_arrays_values(source: Any, dtype: Any, layout: Any) -> None:
    """Whatever the array's own dtype is; these whole numbers are in all of them."""
    array = (np.arange(120).reshape(3, 40) % 2 if source is np.bool_ else np.arange(120).reshape(3, 40)).astype(source)
    tensor = to_host_tensor(array, dtype=dtype, layout=layout)
    assert tuple(tensor.shape) == (3, 40)
    assert tensor.dtype == getattr(ttnn, dtype)
    np.testing.assert_array_equal(download(tensor), array.astype(np.float32))


def test_arrays_of_any_memory_layout(mesh: Any) -> None:
    array = np.arange(24.0, dtype=np.float32).reshape(4, 6)
    read_only = array.copy()
    read_only.flags.writeable = False
    for view in (array.T, array[::2], array[:, ::-1], read_only, np.broadcast_to(array[0], (4, 6))):
        np.testing.assert_array_equal(download(to_host_tensor(view, dtype="float32", layout="tile")), view)
        assert tuple(upload(view, mesh, dtype="bfloat16").shape) == view.shape


def test_the_host_tensor_is_a_copy() -> None:
    for dtype, kind in (("float32", np.float32), ("uint32", np.uint32), ("int32", np.int32)):
        array = np.ones((32, 32), kind)
        tensor = to_host_tensor(array, dtype=dtype, layout="row_major")  # type: ignore[arg-type]
        array[:] = 7
        assert np.unique(download(tensor)).tolist() == [1]


def test_block_floats_are_packed_by_ttnn(mesh: Any) -> None:
    """One large value takes the others' low bits; 1 + 2⁻⁸ is not a bfloat16."""
    array = np.full((1, 32), 1 + 2**-8, np.float32)
    assert np.unique(download(to_host_tensor(array, dtype="bfloat16", layout="tile"))).tolist() == [1.0]
    array[0, 0] = 64.0
    packed = download(to_host_tensor(array, dtype="bfloat8_b", layout="tile"))
    assert packed[0, 0] == 64.0
    assert np.unique(packed[0, 1:16]).tolist() == [1.0]  # steps of 1 beside 64
    assert np.unique(packed[0, 16:]).tolist() == [1.0]
    array[0, 0] = 512.0
    packed = download(to_host_tensor(array, dtype="bfloat8_b", layout="tile"))
    assert np.unique(packed[0, 1:16]).tolist() == [0.0]  # steps of 8 beside 512
    assert np.unique(packed[0, 16:]).tolist() == [1.0]  # the next sixteen have an exponent of their own


def test_observers_see_what_enters_and_answer_for_what_leaves(mesh: Any) -> None:
    array, answer = np.ones((1, 32), np.float32), np.full((1, 32), 5.0, np.float32)
    silent, speaking, late = Watcher(), Watcher(answer), Watcher(answer + 1)
    with observe(silent):
        first = upload(array, mesh, dtype="bfloat16")
        with observe(speaking), observe(late):
            second = upload(array, mesh, dtype="bfloat16")
            np.testing.assert_array_equal(download(second), answer)  # the first that knows
        assert not download(second).any()
    upload(array, mesh, dtype="bfloat16")
    assert [tensor for tensor, _ in silent.seen] == [first, second]
    assert [tensor for tensor, _ in speaking.seen] == [second]
    for _, parts in silent.seen:
        assert len(parts) == 1
        np.testing.assert_array_equal(parts[0], array)
    assert silent.sent.dtype == ttnn.bfloat16
    np.testing.assert_array_equal(download(silent.sent), array)


def test_an_observer_leaves_also_after_an_error(mesh: Any) -> None:
    watcher = Watcher()

    def fail() -> None:
        with observe(watcher):
            raise KeyError("body")

    with pytest.raises(KeyError):
        fail()
    upload(np.ones((1, 32)), mesh, dtype="bfloat16")
    assert not watcher.seen


def test_sources_are_remembered_by_tensor(mesh: Any) -> None:
    array = np.ones((32, 32), np.float32)
    one, two = (upload(array, mesh, dtype="bfloat8_b") for _ in range(2))
    assert source_of(one) is None
    keys = [remember_source(tensor, lambda value=value: [array * value]) for tensor, value in ((one, 2), (two, 3))]  # type: ignore[misc]
    assert keys[0] != keys[1]
    for tensor, value in ((one, 2), (two, 3)):
        source = source_of(tensor)
        assert source is not None
        np.testing.assert_array_equal(source()[0], array * value)
    made = ttnn.add(one, one)
    assert source_of(made) is None  # what is computed from it is another tensor
    assert source_of(ttnn.reshape(one, (1, 1, 32, 32))) is None
    forget_source(keys[0])
    forget_source(keys[0])
    assert source_of(one) is None
    assert source_of(two) is not None
    forget_source(keys[1])
