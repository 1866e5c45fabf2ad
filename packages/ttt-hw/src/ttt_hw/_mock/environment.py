"""The environment variables that make ttnn open a mock device, for as long as it takes to open one.

ttnn reads them when a process makes its first cluster and keeps what it read, so they are put back right after: child
processes never inherit the null toolchain.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ttt_hw._mock.descriptor import cluster_descriptor
from ttt_hw._mock.toolchain import runtime_root
from ttt_hw.records import Board

LOGGER_SETTINGS = (
    "TT_LOGGER_FILE",
    "TT_LOGGER_LEVEL",
    "TT_LOGGER_TYPES",
    "TT_METAL_LOGGER_FILE",
    "TT_METAL_LOGGER_LEVEL",
    "TT_METAL_LOGGER_TYPES",
)


@contextmanager
def mock_environment(board: Board) -> Iterator[None]:
    """Set the variables inside the block and put back what was there."""
    with _environment(_variables(board)):
        yield


@contextmanager
def without_backtraces() -> Iterator[None]:
    """Keep C++ backtraces out of ttnn's error messages inside the block: ttnn asks each time that it raises."""
    with _environment({"TT_METAL_DISABLE_BACKTRACE": "1"}):
        yield


@functools.cache
def _variables(board: Board) -> dict[str, str | None]:
    """What to set (None: unset), with the files that it names, made once per process."""
    root = runtime_root()
    scratch = _scratch_folder()
    descriptor = scratch / f"{board.name}.yaml"
    descriptor.write_text(cluster_descriptor(board))
    variables: dict[str, str | None] = {
        "TT_METAL_MOCK_CLUSTER_DESC_PATH": str(descriptor),
        "TT_METAL_RUNTIME_ROOT": str(root),
        "TT_METAL_CACHE": str(root.parent / "kernels"),
        "TT_METAL_LOGS_PATH": str(scratch),  # else a folder generated/ appears where the user works
        "TT_METAL_SIMULATOR": None,
        "TT_METAL_VISIBLE_DEVICES": None,  # these three choose among the chips of a card that is not used
        "TT_VISIBLE_DEVICES": None,
        "TT_MESH_GRAPH_DESC_PATH": None,
        # Open MPI, which ttnn starts and never ends, leaves folders in the temp folder and segments of shared memory.
        "TMPDIR": str(scratch),
        "OMPI_MCA_btl": "self",
    }
    if not any(name in os.environ for name in LOGGER_SETTINGS):
        # ttnn prints each failed check to stdout before it raises it; a program that tries configs or prints JSON wants
        # the exception only. Whoever sets one of these variables has the log as they ask for it.
        variables |= {"TT_LOGGER_FILE": str(scratch / "ttnn.log"), "TT_LOGGER_LEVEL": "warning"}
    if "LOGURU_LEVEL" not in os.environ:
        variables["LOGURU_LEVEL"] = "WARNING"  # importing ttnn logs its whole configuration at DEBUG
    return variables


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    try:
        _set(variables)
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _scratch_folder() -> Path:
    """A folder for this process's descriptor and logs, removed when the process ends."""
    folder = tempfile.mkdtemp(prefix="ttt-mock-")
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # a forked child leaves it alone
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder)
