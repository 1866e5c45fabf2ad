"""Converted weights on disk, shared by all processes of a user.

An entry is what `ttnn.dump_tensor` writes, under a name that is a digest of all that it depends on; it appears whole, by a
rename, or not at all. Deleting the folder is always safe.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ttt_weights._recipe import sources_beside

__all__ = ["WeightCache", "cache_folder"]

VARIABLE = "TTT_WEIGHTS_CACHE"
OFF = ("off", "0", "no", "")
LEAST_BYTES = 1 << 18  # of a converted weight; smaller ones are converted again in less time than a file takes

_SUFFIX = ".tensorbin"  # as ttnn wants it
_PARTIAL = ".partial"


def cache_folder() -> Path | None:
    """Where converted weights are kept: $TTT_WEIGHTS_CACHE, else ttt/weights in the user's cache folder; None if `off`."""
    given = os.environ.get(VARIABLE)
    if given is not None:
        return None if given.lower() in OFF else Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "ttt" / "weights"


def entry_name(*parts: str) -> str:
    """The digest of what a converted weight depends on, ttnn and this package among it."""
    everything = (_ttnn_version(), sources_beside(str(Path(__file__).parent)), *parts)
    return hashlib.sha256("\0".join(everything).encode()).hexdigest()[:40]


@lru_cache(maxsize=1)
def _ttnn_version() -> str:
    return version("ttnn")


class WeightCache:
    """The entries of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="ttt-weights-cache")
        self._pending: dict[str, Future[None]] = {}
        _remove_abandoned(folder)

    def load(self, name: str, *, least_bytes: int) -> Any | None:
        """The host tensor of that name, memory-mapped, or None. One that has fewer bytes than it must is not used."""
        import ttnn

        if (pending := self._pending.pop(name, None)) is not None:
            pending.result()
        path = self.folder / f"{name}{_SUFFIX}"
        try:
            if path.stat().st_size < least_bytes:
                return None
            return ttnn.load_tensor(path)
        except (OSError, RuntimeError):  # not there, or no file of ttnn's
            return None

    def store(self, name: str, host: Any) -> None:
        """Keep a host tensor. It is on disk for good a while later: the process goes on, and ends when it is.

        A folder that cannot be written is said once, and nothing is kept.
        """
        import ttnn

        with self._saying():
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, path = tempfile.mkstemp(dir=self.folder, prefix=f"{name}.", suffix=f"{_PARTIAL}{_SUFFIX}")
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # as long as it is open: so other processes know that this one lives
            try:
                ttnn.dump_tensor(path, host)
            except BaseException:
                os.close(descriptor)
                os.unlink(path)
                raise
            self._pending[name] = self._writer.submit(self._settle, name, descriptor, path)

    def wait(self) -> None:
        """Until everything that was stored is on disk."""
        for pending in list(self._pending.values()):
            pending.result()

    def _settle(self, name: str, descriptor: int, path: str) -> None:
        with self._saying():
            try:
                os.fsync(descriptor)  # before the rename, so that a machine that loses power has no entry of zeros
                os.replace(path, self.folder / f"{name}{_SUFFIX}")
            finally:
                os.close(descriptor)

    @contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            _say_once(self.folder, str(error).splitlines()[0])

    def digest(self, identity: Sequence[object], compute: Callable[[], str]) -> str:
        """The digest of a source's content, computed once for each identity: one of a file that has not changed since."""
        note = self.folder / "sources" / hashlib.sha256(repr(tuple(identity)).encode()).hexdigest()[:40]
        with suppress(OSError):
            if len(known := note.read_text()) == 64:
                return known
        found: str = compute()
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=note.parent, prefix="new.", delete=False) as file:
                file.write(found)
            os.replace(file.name, note)
        return found


@lru_cache(maxsize=8)
def open_cache(folder: Path) -> WeightCache:
    return WeightCache(folder)


def _remove_abandoned(folder: Path) -> None:
    """What processes that were killed left unfinished."""
    for path in folder.glob(f"*{_PARTIAL}{_SUFFIX}"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


@lru_cache(maxsize=8)
def _say_once(folder: Path, reason: str) -> None:
    warnings.warn(
        f"converted weights are not kept in {folder}: {reason}. Free or grant what is lacking there, or set {VARIABLE} to "
        "another folder, or to off.",
        stacklevel=2,
    )
