"""Checkpoints on disk: one safetensors file or several with an index, memory-mapped."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - gives NumPy the names of bfloat16 and float8, which safetensors asks it for
from safetensors import SafetensorError, safe_open

from ttt_core import WeightError
from ttt_hw import Array

__all__ = ["Checkpoint", "StoredTensor"]

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"


class StoredTensor:
    """A tensor of a checkpoint that is read when asked for."""

    def __init__(self, checkpoint: Checkpoint, name: str, shape: tuple[int, ...]) -> None:
        self.name = name
        self.shape = shape
        self._checkpoint = checkpoint

    def read(self) -> Array:
        """A copy of the values in the file's own dtype, as ml_dtypes' bfloat16 where NumPy has none."""
        return self._checkpoint.read(self.name)

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
        for file, names in _files(self.directory).items():
            handle = self._open(file)
            present = handle.keys()
            if missing := sorted(set(names or ()) - set(present)):
                raise WeightError(
                    f"{self.directory / INDEX_FILE} says that {missing[0]} is in {file}, but the file holds {len(present)} "
                    "other tensors. The download is mixed up: fetch the checkpoint again."
                )
            for name in present:
                self._handles[name] = handle
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
        array: Array = self._handles[name].get_tensor(name)
        return array

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
