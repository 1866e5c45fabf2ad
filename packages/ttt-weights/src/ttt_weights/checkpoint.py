"""Checkpoints on disk: one safetensors file or several with an index, memory-mapped."""

from __future__ import annotations

import difflib
import hashlib
import json
import mmap
import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ml_dtypes  # gives NumPy the names of bfloat16 and float8, which safetensors asks it for
import numpy as np
from safetensors import SafetensorError, safe_open

from ttt_core import WeightError
from ttt_hw import Array
from ttt_weights._tiles import in_parallel
from ttt_weights.cache import WeightCache

__all__ = ["Checkpoint", "StoredTensor"]

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_MAPPED = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}


class StoredTensor:
    """A tensor of a checkpoint that is read when asked for."""

    def __init__(self, checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> None:
        self.name = name
        self.shape = shape
        self._checkpoint = checkpoint

    @property
    def directory(self) -> Path:
        """The checkpoint's."""
        return self._checkpoint.directory

    def read(self) -> Array:
        """The values in the file's own dtype, as ml_dtypes' bfloat16 where NumPy has none; floating-point ones are the file's
        own memory, which cannot be written."""
        return self._checkpoint.read(self.name)

    def fingerprint(self, cache: WeightCache) -> str:
        """A digest of dtype, shape and content. While the file is unchanged, `cache` knows it."""
        return self._checkpoint.fingerprint(self.name, cache)

    def __repr__(self) -> str:
        return f"StoredTensor({self.name}, {list(self.shape)})"


class Checkpoint(Mapping[str, StoredTensor]):
    """The tensors of a checkpoint directory by name.

    Errors: WeightError for a directory without safetensors, a file that is missing or damaged, an unknown name.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._stack = ExitStack()
        self._tensors: dict[str, StoredTensor] = {}
        self._handles: dict[str, Any] = {}
        self._mapped: dict[str, _MappedFile] = {}
        for file, names in _files(self.directory).items():
            handle = self._open(file)
            mapped = _MappedFile(self.directory / file)
            present = handle.keys()
            if missing := sorted(set(names or ()) - set(present)):
                raise WeightError(
                    f"{self.directory / INDEX_FILE} says that {missing[0]} is in {file}, but the file holds {len(present)} "
                    "other tensors. The download is mixed up: fetch the checkpoint again."
                )
            for name in present:
                self._handles[name] = handle
                self._mapped[name] = mapped
                self._tensors[name] = StoredTensor(self, name, tuple(handle.get_slice(name).get_shape()))

    def _open(self, file: str) -> Any:
        path = self.directory / file
        if not path.is_file():
            raise WeightError(
                f"{path} is missing; {INDEX_FILE} lists it as a part of the checkpoint. Fetch the checkpoint again."
            )
        try:
            return self._stack.enter_context(safe_open(path, framework="numpy"))
        except (SafetensorError, OSError) as error:
            raise WeightError(
                f"{path} ({path.stat().st_size:,} bytes) is not a whole safetensors file: {error}. "
                "It was cut short or damaged: fetch it again."
            ) from error

    def read(self, name: str) -> Array:
        array: Array | None = self._mapped[name].read(name)
        return self._handles[name].get_tensor(name) if array is None else array

    def fingerprint(self, name: str, cache: WeightCache) -> str:
        mapped = self._mapped[name]
        return cache.digest((*mapped.identity(), name), lambda: _digest(self.read(name)))

    def __getitem__(self, name: str) -> StoredTensor:
        try:
            return self._tensors[name]
        except KeyError:
            close = difflib.get_close_matches(name, self._tensors, n=1)
            hint = f" The closest name in it is {close[0]}." if close else ""
            raise WeightError(
                f"the checkpoint {self.directory} has no tensor {name} (it has {len(self._tensors)} tensors).{hint} "
                "Its config.json and its weights do not belong together, or the weights are incomplete."
            ) from None

    def get(self, name: object, default: Any = None, /) -> Any:
        return self._tensors.get(name, default) if isinstance(name, str) else default

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def num_bytes(self) -> int:
        """Size of the files."""
        return sum((self.directory / file).stat().st_size for file in _files(self.directory))


class _MappedFile:
    """A whole safetensors file in memory, of which only what is used is read."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._descriptor = os.dup(file.fileno())
            self._memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        weakref.finalize(self, os.close, self._descriptor)
        size = int.from_bytes(self._memory[:8], "little")
        self._first = 8 + size
        self._header: dict[str, Any] = json.loads(self._memory[8 : self._first])

    def read(self, name: str) -> Array | None:
        """The values where they are, or None for a dtype that NumPy cannot map."""
        entry = self._header[name]
        dtype = _MAPPED.get(entry["dtype"])
        if dtype is None:
            return None
        start, end = entry["data_offsets"]
        count = (end - start) // np.dtype(dtype).itemsize
        return np.frombuffer(self._memory, dtype, count, self._first + start).reshape(entry["shape"])

    def identity(self) -> tuple[object, ...]:
        """What changes when somebody writes to the file, or puts another in its place before it is opened."""
        found = os.fstat(self._descriptor)
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _digest(array: Array) -> str:
    """Of dtype, shape and content; pieces are digested on all cores."""
    raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    step = 1 << 24
    pieces = [raw[start : start + step] for start in range(0, len(raw), step)]
    digests = in_parallel(lambda piece: hashlib.sha256(piece).digest(), pieces)
    return hashlib.sha256(f"{array.dtype.name} {array.shape} ".encode() + b"".join(digests)).hexdigest()


def _files(directory: Path) -> dict[str, list[str] | None]:
    """File name → the tensors that the index expects in it (None without an index)."""
    if (directory / SINGLE_FILE).is_file():
        return {SINGLE_FILE: None}
    index = directory / INDEX_FILE
    if not index.is_file():
        raise WeightError(
            f"{directory} has neither {SINGLE_FILE} nor {INDEX_FILE}. Give the directory of a checkpoint in safetensors "
            "format, as transformers' save_pretrained writes it."
        )
    try:
        weight_map = json.loads(index.read_text())["weight_map"]
        files: dict[str, list[str] | None] = {}
        for name, file in weight_map.items():
            if Path(file).name != file:
                raise ValueError(f"{file} is no file name")
            names = files.setdefault(file, [])
            assert names is not None
            names.append(name)
        if not files:
            raise ValueError("it lists no file")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightError(
            f"{index} is not an index of safetensors files (a JSON object with a 'weight_map'): {error!r}. "
            "Fetch the checkpoint again."
        ) from error
    return files
