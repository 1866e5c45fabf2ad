"""Arrays between host and device, and who else wants to know about them.

Every package moves data through `upload` and `download`, so that a value shadow (ttt-testing) sees what enters and answers
for what leaves a device that computes nothing. NumPy suffices: torch is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

from ttt_shard_dsl import SHORT_NAMES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ttt_shard_dsl import Placement

__all__ = [
    "Array",
    "DType",
    "HostSource",
    "TensorLayout",
    "TransferObserver",
    "allocate",
    "download",
    "dtype_of",
    "forget_source",
    "observe",
    "observed",
    "parts_of",
    "remember_source",
    "send",
    "short_name",
    "source_of",
    "to_host_tensor",
    "upload",
]

Array: TypeAlias = "NDArray[np.generic]"  # in quotes, so that importing ttt_hw does not import NumPy
HostSource: TypeAlias = "Callable[[], Sequence[Array]]"  # each chip's part

DType = Literal["float32", "bfloat16", "bfloat8_b", "bfloat4_b", "uint32", "int32", "uint16"]
"""A dtype by the name that ttnn gives it."""

TensorLayout = Literal["tile", "row_major"]
"""The order of elements in memory: tiles of 32x32, or rows."""


def dtype_of(short: str) -> DType:
    """The dtype that people write as bf16, bfp8 or bfp4."""
    return cast("DType", SHORT_NAMES[short])


def short_name(dtype: DType) -> str:
    """What `dtype_of` takes."""
    return next(short for short, name in SHORT_NAMES.items() if name == dtype)


class TransferObserver(Protocol):
    """Told of each upload: the tensor, every chip's part of the array, and the converted host tensor that was sent.

    Asked for the value of each download; None means that the device is read.
    """

    def uploaded(self, tensor: Any, parts: Sequence[Array], host: Any, /) -> None: ...
    def value(self, tensor: Any, /) -> Array | None: ...


_observers: list[TransferObserver] = []
_sources: dict[int, HostSource] = {}


@contextmanager
def observe(observer: TransferObserver) -> Iterator[None]:
    """Tell `observer` of transfers while the context is open."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.remove(observer)


def observed() -> bool:
    """Whether somebody follows the values: a shadow of a device that computes none."""
    return bool(_observers)


def upload(
    array: Array,
    mesh: Any,
    *,
    dtype: DType,
    layout: TensorLayout = "tile",
    placement: Placement | None = None,
) -> Any:
    """Copy a host array to the devices of `mesh`, converted to `dtype` by ttnn's own packing.

    `placement` says where it lies: which part goes to which chip, in which memory. Without one every chip gets the whole
    array, interleaved in DRAM.
    """
    mesh_shape = (mesh.shape[0], mesh.shape[1])
    split = placement is not None and any(dim is not None for dim in placement.mesh_dims)
    mapper = placement.to_mesh_mapper(mesh_shape) if placement is not None and split else None
    host = to_host_tensor(array, dtype=dtype, layout=layout, mapper=mapper)
    return send(host, mesh, placement=placement, parts=lambda: parts_of(array, placement, mesh_shape))


def send(host: Any, mesh: Any, *, placement: Placement | None, parts: HostSource) -> Any:
    """Copy a host tensor to the devices of `mesh`. `parts` are asked for each chip's exact values where somebody wants them."""
    import ttnn

    tensor = host.to(mesh, ttnn.DRAM_MEMORY_CONFIG if placement is None else placement.to_memory_config())
    if _observers:
        values = parts()
        for observer in _observers:
            observer.uploaded(tensor, values, host)
    return tensor


def allocate(mesh: Any, *, dtype: DType, layout: TensorLayout = "tile", placement: Placement) -> Any:
    """A tensor whose memory holds whatever it held before, on every chip of `mesh`."""
    import ttnn

    return ttnn.empty(
        list(placement.chip_shape),
        getattr(ttnn, dtype),
        ttnn.TILE_LAYOUT if layout == "tile" else ttnn.ROW_MAJOR_LAYOUT,
        mesh,
        placement.to_memory_config(),
    )


def parts_of(array: Array, placement: Placement | None, mesh: tuple[int, int]) -> list[Array]:
    """Each chip's part of an array, as views of it; chips in row-major order."""
    if placement is None:
        return [array] * (mesh[0] * mesh[1])
    parts: dict[tuple[tuple[int, int], ...], Array] = {}  # chips with the same part share its view
    return [
        parts.setdefault(tuple((part.start, part.stop) for part in index), array[index])
        for index in placement.chip_slices(mesh)
    ]


def download(tensor: Any) -> Array:
    """A device tensor's value as a NumPy array: float32 for floating dtypes, else the integer type."""
    import ttnn

    for observer in _observers:
        if (value := observer.value(tensor)) is not None:
            return value
    host = ttnn.from_device(tensor)
    array: Array = (ttnn.to_dtype(host, ttnn.float32) if host.dtype == ttnn.bfloat16 else host).to_numpy()
    return array


def to_host_tensor(array: Array, *, dtype: DType, layout: TensorLayout, mapper: Any = None) -> Any:
    """A ttnn tensor in host memory; the one place where an array becomes a ttnn tensor."""
    import numpy as np
    import ttnn

    if dtype in ("float32", "bfloat16", "bfloat8_b", "bfloat4_b"):
        array = np.asarray(array, dtype=np.float32)
    return ttnn.Tensor(
        tensor=np.require(array, requirements="W"),  # ttnn takes no read-only array, as mapped files are
        data_type=getattr(ttnn, dtype),
        layout=ttnn.TILE_LAYOUT if layout == "tile" else ttnn.ROW_MAJOR_LAYOUT,
        mesh_mapper=mapper,
    )


def remember_source(tensor: Any, source: HostSource) -> int:
    """Note where a device tensor came from, so that its exact parts can be had later; returns the key to forget it by."""
    import ttnn

    key: int = ttnn._ttnn.fetch_and_increment_tensor_id()
    tensor.tensor_id = key
    _sources[key] = source
    return key


def forget_source(key: int) -> None:
    """Drop what `remember_source` noted under this key."""
    _sources.pop(key, None)


def source_of(tensor: Any) -> HostSource | None:
    """The source noted for this tensor, or None."""
    return _sources.get(tensor.tensor_id)
