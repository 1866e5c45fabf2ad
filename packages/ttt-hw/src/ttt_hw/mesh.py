"""Opening a device by name: a card, a simulator, or a mock that checks ops without either."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast, get_args

from ttt_core import DeviceError
from ttt_hw._kept import drop
from ttt_hw._process import PROCESS, Backend
from ttt_hw.catalogue import Board, board, board_of
from ttt_hw.errors import sentence
from ttt_hw.records import Rows

__all__ = ["current_backend", "open_mesh"]

CARDS = "/dev/tenstorrent"  # the kernel driver makes one entry per card
MOCK_VARIABLE = "TT_METAL_MOCK_CLUSTER_DESC_PATH"
SIMULATOR_VARIABLE = "TT_METAL_SIMULATOR"


@contextmanager
def open_mesh(
    name: str, *, shape: tuple[int, int] | None = None, backend: str | None = None, rows: Rows = "replicas"
) -> Iterator[Any]:
    """Open a board's chips as one ttnn MeshDevice, closed when the block ends, also by an error.

    `shape` (rows, columns) is the board's own unless given. `rows` says what the rows are to models: "replicas" for other
    users, or with "hidden" parts of the hidden dim, so that each weight is split along both axes. `backend` is "mock",
    "simulator", "silicon", or None: a card that is present is used, and with none a mock, which is said once on stderr.

    With several chips, ttnn's fabric is set up for the time that the mesh is open, unless the caller has set it: FABRIC_1D,
    with which collectives run along either axis of the mesh.
    One process has one cluster: the same board opens again and again, one at a time; another one needs its own process,
    see `run_in_process`. Raises DeviceError for whatever cannot be opened as asked.
    """
    record = board(name)
    shape = _legal_shape(record, shape)
    if rows not in get_args(Rows):
        raise DeviceError(f"rows={rows!r} is not known: allowed are {', '.join(map(repr, get_args(Rows)))}.")
    chosen = _checked(backend) if backend is not None else _present(record)
    _refuse_contradictions(chosen)
    _claim(record, chosen)
    opening, opened = _surroundings(record, chosen)
    with opened:
        with opening:
            mesh = _open(record, shape, chosen)
        try:
            PROCESS.rows = rows
            board_of(mesh)
            yield mesh
        finally:
            _close()


def current_backend(mesh_device: Any) -> Backend:
    """Where the ops of an open mesh device run: "mock" (nowhere), "simulator" or "silicon"."""
    if mesh_device is PROCESS.mesh and PROCESS.backend is not None:
        return PROCESS.backend
    if MOCK_VARIABLE in os.environ:
        return "mock"
    return "simulator" if SIMULATOR_VARIABLE in os.environ else "silicon"


def _legal_shape(record: Board, shape: tuple[int, int] | None) -> tuple[int, int]:
    if shape is None:
        return record.mesh
    if tuple(shape) not in record.shapes:
        allowed = ", ".join(str(legal) for legal in record.shapes)
        raise DeviceError(f"{record.name} does not open as a {shape} mesh: it opens as {allowed} (rows, columns).")
    return cast("tuple[int, int]", tuple(shape))


def _checked(backend: str) -> Backend:
    if backend not in get_args(Backend):
        allowed = ", ".join(repr(name) for name in get_args(Backend))
        raise DeviceError(f"Unknown backend {backend!r}: allowed are {allowed}, or None for a card if there is one.")
    return cast("Backend", backend)


def _present(record: Board) -> Backend:
    if cards():
        return "silicon"
    if not PROCESS.announced:
        print(f"ttt: no Tenstorrent card here; {record.name} is a mock (ops are checked, not run)", file=sys.stderr)
        PROCESS.announced = True
    return "mock"


def cards() -> list[str]:
    """The cards that the kernel driver has found, by their paths."""
    entries = sorted(os.listdir(CARDS)) if os.path.isdir(CARDS) else []
    return [os.path.join(CARDS, entry) for entry in entries]


def _refuse_contradictions(backend: Backend) -> None:
    """A card or simulator is never replaced by something else behind the user's back."""
    simulator = os.environ.get(SIMULATOR_VARIABLE)
    if backend != "mock" and MOCK_VARIABLE in os.environ:
        raise DeviceError(f"{MOCK_VARIABLE} is set, so ttnn would open a mock instead of {backend}: unset it.")
    if backend == "simulator" and not simulator:
        raise DeviceError(
            f"The simulator backend needs {SIMULATOR_VARIABLE}: "
            "set it to the folder of a Tenstorrent simulator build, the one with soc_descriptor.yaml."
        )
    if backend == "silicon" and simulator:
        raise DeviceError(f"{SIMULATOR_VARIABLE} is set, so ttnn would open a simulator instead of silicon: unset it.")
    if backend == "silicon" and not cards():
        raise DeviceError(f"No Tenstorrent card here ({CARDS} has no entries): load its driver, or use backend='mock'.")


def _claim(record: Board, backend: Backend) -> None:
    """Refuse a second cluster: ttnn would silently give the first one again."""
    if PROCESS.mesh is not None:
        raise DeviceError("A mesh is open in this process already: leave its `with` block before opening the next.")
    if PROCESS.board is not None and (PROCESS.board, PROCESS.backend) != (record, backend):
        raise DeviceError(
            f"This process opened {PROCESS.board.name} ({PROCESS.backend}) before, and ttnn keeps one cluster per "
            f"process: open {record.name} ({backend}) in a fresh process. ttt_hw.run_in_process starts one and "
            f"returns what a function does there."
        )


def _surroundings(record: Board, backend: Backend) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the call that opens, and what surrounds the time that the mesh is open."""
    if backend != "mock":
        return nullcontext(), nullcontext()
    from ttt_hw._mock import mock_environment, without_backtraces  # here, so that `import ttt_hw` stays quick

    return mock_environment(record), without_backtraces()


def _open(record: Board, shape: tuple[int, int], backend: Backend) -> Any:
    try:
        import ttnn
    except ImportError as error:
        raise DeviceError(f"ttnn cannot be imported: {error}. Install ttt-hw with pip, on Linux x86-64.") from error
    if PROCESS.board is None:
        atexit.register(_close)  # the interpreter aborts when it ends with an open mesh
    PROCESS.board, PROCESS.backend = record, backend
    try:
        if record.num_chips > 1 and ttnn.get_fabric_config() == ttnn.FabricConfig.DISABLED:
            ttnn.set_fabric_config(ttnn.FabricConfig.FABRIC_1D)
            PROCESS.fabric = True
        PROCESS.mesh = ttnn.open_mesh_device(ttnn.MeshShape(*shape))
    except RuntimeError as error:
        _close()
        opened = f"{record.name} as a {shape} mesh on {backend}"
        raise DeviceError(f"ttnn cannot open {opened}: {sentence(error)}.") from error
    return PROCESS.mesh


def _close() -> None:
    """Close what is open and put the fabric back, which ttnn wants in this order."""
    mesh, PROCESS.mesh = PROCESS.mesh, None
    fabric, PROCESS.fabric = PROCESS.fabric, False
    if mesh is None and not fabric:
        return
    import ttnn

    try:
        if mesh is not None:
            drop(mesh)
            ttnn.close_mesh_device(mesh)
    finally:
        if fabric:
            ttnn.set_fabric_config(ttnn.FabricConfig.DISABLED)
