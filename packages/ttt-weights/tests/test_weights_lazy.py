"""LazyWeight: when it reads, what it keeps, what it refuses; and that none of it needs torch."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from ttt_core import WeightError
from ttt_hw import transfer
from ttt_weights import ArraySource, Checkpoint, LazyWeight, as_source


class CountedSource:
    name = "w"

    def __init__(self, values: NDArray[Any]) -> None:
        self.values = values
        self.shape = tuple(values.shape)
        self.reads = 0

    def read(self) -> NDArray[Any]:
        self.reads += 1
        return self.values


def values_of(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def lazy(sources: Any, mesh: Any, shape: tuple[int, ...], build: Any = lambda w: w, **options: Any) -> LazyWeight:
    options = {"dtype": "bfloat8_b", "placement": "k n in dram"} | options
    return LazyWeight(sources, build, shape=shape, device=mesh, **options)


def test_it_reads_at_first_use_and_once(mesh: Any) -> None:
    source = CountedSource(values_of(64, 48))
    weight = lazy([source], mesh, (64, 48))
    assert source.reads == 0
    assert repr(weight) == "LazyWeight(w, [64, 48], bfloat8_b, not yet read)"
    first = weight.tensor
    assert source.reads == 1
    assert weight.tensor is first
    assert source.reads == 1
    assert repr(weight) == "LazyWeight(w, [64, 48], bfloat8_b, on device)"


@pytest.mark.parametrize("dtype", ["bfloat16", "bfloat8_b", "bfloat4_b", "float32"])
def test_the_device_tensor_is_as_planned(dtype: str, mesh: Any) -> None:
    import ttnn

    weight = lazy([CountedSource(values_of(64, 48))], mesh, (64, 48), dtype=dtype)
    assert tuple(weight.tensor.shape) == (64, 48)
    assert weight.tensor.dtype == getattr(ttnn, dtype)
    assert weight.tensor.layout == ttnn.TILE_LAYOUT
    assert weight.tensor.memory_config() == ttnn.DRAM_MEMORY_CONFIG
    rows = lazy(
        [CountedSource(values_of(5, 40))], mesh, (5, 40), dtype="bfloat16", layout="row_major", placement="v d in dram"
    )
    assert rows.tensor.layout == ttnn.ROW_MAJOR_LAYOUT
    in_l1 = lazy([CountedSource(values_of(32, 64))], mesh, (32, 64), placement="k n in l1")
    assert in_l1.tensor.memory_config() == ttnn.L1_MEMORY_CONFIG


def test_values_are_built_from_all_sources_in_float32(mesh: Any) -> None:
    a, b = values_of(32, 40), values_of(32, 8).astype(ml_dtypes.bfloat16)

    def build(*weights: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate(weights, axis=1).T

    weight = lazy([ArraySource(a, "first"), ArraySource(b, "second")], mesh, (48, 32), build)
    assert weight.name == "first + second"
    np.testing.assert_array_equal(weight.host(), np.concatenate([a, b.astype(np.float32)], 1).T)
    assert weight.host().flags.c_contiguous
    assert weight.host().dtype == np.float32


def test_a_table_has_no_source(mesh: Any) -> None:
    def table() -> NDArray[np.float32]:
        return values_of(32, 32)

    weight = lazy([], mesh, (32, 32), table)
    assert weight.name == "table"
    np.testing.assert_array_equal(weight.host(), values_of(32, 32))


@pytest.mark.parametrize("shape", [(300, 700), (1, 1, 257, 513), (64,), (2, 3, 40, 50)])
def test_transposed_values_are_copied_whole(shape: tuple[int, ...], mesh: Any) -> None:
    """Larger than a block of the copy, and of any rank."""
    values = values_of(*reversed(shape))
    words = " ".join("abcd"[: len(shape)]) + " in dram"
    weight = lazy([CountedSource(values)], mesh, shape, lambda w: w.T, placement=words, dtype="bfloat16")
    np.testing.assert_array_equal(weight.host(), values.T)
    twice = CountedSource(np.repeat(values, 2, axis=0))
    strided = lazy([twice], mesh, values.shape, lambda w: w[::2], placement=words, dtype="bfloat16")
    np.testing.assert_array_equal(strided.host(), values)


def test_a_build_of_another_shape_is_refused(mesh: Any) -> None:
    weight = lazy([CountedSource(values_of(64, 48))], mesh, (64, 48), lambda w: w.T)
    with pytest.raises(WeightError) as caught:
        _ = weight.tensor
    assert str(caught.value) == "w was built with shape [48, 64], but [64, 48] was declared."


def test_a_source_of_another_shape_is_refused() -> None:
    with pytest.raises(WeightError) as caught:
        as_source(CountedSource(values_of(3, 4)), shape=(4, 3), name="the gate weight")
    assert str(caught.value) == (
        "w has shape [3, 4], but [4, 3] is wanted for the gate weight. The config and the weights do not belong together."
    )
    array = values_of(4, 3)
    source = as_source(array, shape=(4, 3), name="the gate weight")
    assert (source.name, source.shape) == ("the gate weight", (4, 3))
    assert source.read() is array


def test_a_weight_that_dies_leaves_nothing_behind(mesh: Any) -> None:
    import ttnn

    def dram() -> int:
        return int(ttnn.get_memory_view(mesh, ttnn.BufferType.DRAM).total_bytes_allocated_per_bank)

    gc.collect()
    sources, before = len(transfer._sources), dram()
    source = CountedSource(values_of(1024, 1024))
    weight = lazy([source], mesh, (1024, 1024))
    unused = lazy([source], mesh, (1024, 1024))
    assert len(transfer._sources) == sources
    assert weight.tensor is not None
    assert len(transfer._sources) == sources + 1
    assert dram() > before
    alive = weakref.ref(source)
    del weight, unused, source
    gc.collect()
    assert alive() is None
    assert len(transfer._sources) == sources
    assert dram() == before


def test_the_host_keeps_no_copy(mesh: Any) -> None:
    built: list[weakref.ref[NDArray[np.float32]]] = []

    def build(w: NDArray[np.float32]) -> NDArray[np.float32]:
        made = w * 1
        built.append(weakref.ref(made))
        return made

    weight = lazy([CountedSource(values_of(64, 64))], mesh, (64, 64), build)
    _ = weight.tensor
    gc.collect()
    assert [reference() for reference in built] == [None]


def test_a_read_only_source_is_taken(mesh: Any) -> None:
    """As a mapped file is; nothing may write to it either."""
    values = values_of(64, 32)
    values.flags.writeable = False
    weight = lazy([CountedSource(values)], mesh, (64, 32))
    assert weight.tensor is not None
    np.testing.assert_array_equal(weight.host(), values)


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_checkpoints_tensor_is_a_source(kind: Any, mesh: Any, tmp_path: Path) -> None:
    values = values_of(48, 64).astype(kind)
    save_file({"w": values}, tmp_path / "model.safetensors")
    weight = lazy([Checkpoint(tmp_path)["w"]], mesh, (64, 48), lambda w: w.T)
    assert weight.name == "w"
    np.testing.assert_array_equal(weight.host(), values.astype(np.float32).T)
    assert weight.tensor is not None


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint8, np.bool_])
def test_whole_numbers_are_no_weights(kind: Any, mesh: Any, tmp_path: Path) -> None:
    """They are quantised: without their scales they mean nothing."""
    save_file({"w": np.ones((32, 32), kind)}, tmp_path / "model.safetensors")
    weight = lazy([Checkpoint(tmp_path)["w"]], mesh, (32, 32))
    with pytest.raises(WeightError) as caught:
        _ = weight.tensor
    assert str(caught.value) == (
        f"w is stored as {np.dtype(kind)}; floating-point weights are wanted (float32, float16, bfloat16, float64). "
        "The checkpoint is quantised in a way that ttt does not read: use one that is not."
    )


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None   # importing it fails
import ml_dtypes, numpy as np
from safetensors.numpy import save_file
from ttt_hw import download, open_mesh
from ttt_weights import Checkpoint, LazyWeight
save_file({"w": np.ones((64, 32), ml_dtypes.bfloat16)}, sys.argv[1] + "/model.safetensors")
with open_mesh("n150", backend="mock") as mesh:
    weight = LazyWeight(
        [Checkpoint(sys.argv[1])["w"]], lambda w: w.T, shape=(32, 64), dtype="bfloat8_b", device=mesh, placement="k n in dram"
    )
    print(tuple(weight.tensor.shape), weight.host().sum(), download(weight.tensor).shape)
"""


def test_no_torch_is_needed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TORCH, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "(32, 64) 2048.0 (32, 64)\n", "")


def test_importing_is_light() -> None:
    program = "import ttt_weights, sys; print(sorted({'ttnn', 'torch', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
