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
from collections.abc import Sequence
from contextlib import suppress
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
    everything = (version("ttnn"), sources_beside(str(Path(__file__).parent)), *parts)
    return hashlib.sha256("\0".join(everything).encode()).hexdigest()[:40]


class WeightCache:
    """The entries of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _remove_abandoned(folder)

    def load(self, name: str, *, least_bytes: int) -> Any | None:
        """The host tensor of that name, memory-mapped, or None. One that has fewer bytes than it must is not used."""
        import ttnn

        path = self.folder / f"{name}{_SUFFIX}"
        try:
            if path.stat().st_size < least_bytes:
                return None
            return ttnn.load_tensor(path)
        except (OSError, RuntimeError):  # not there, or no file of ttnn's
            return None

    def store(self, name: str, host: Any) -> None:
        """Keep a host tensor. A folder that cannot be written is said once, and nothing is kept."""
        import ttnn

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=self.folder, prefix=f"{name}.", suffix=f"{_PARTIAL}{_SUFFIX}", delete=False
            ) as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # as long as this process lives: so others know that it does
                try:
                    ttnn.dump_tensor(file.name, host)
                    os.fsync(file.fileno())
                    os.replace(file.name, self.folder / f"{name}{_SUFFIX}")
                except BaseException:
                    with suppress(OSError):
                        os.unlink(file.name)
                    raise
        except (OSError, RuntimeError) as error:
            _say_once(self.folder, str(error).splitlines()[0])

    def digest(self, identity: Sequence[object], compute: Any) -> str:
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
