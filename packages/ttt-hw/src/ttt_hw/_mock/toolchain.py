"""A runtime root for ttnn whose compiler writes the same do-nothing program for every kernel.

ttnn compiles the kernels of each op before it would run them. On a mock device nothing is run, so any program that the
loader accepts will do, and no RISC-V toolchain has to be installed. It never builds kernels for a simulator or a card:
only `mock_environment` offers it, and the compiler's own version text keeps its output out of every other kernel cache.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

from ttt_core import DeviceError
from ttt_hw._mock.elf import null_executable

COMPILER = "runtime/sfpi/compiler/bin/riscv-tt-elf-g++"  # where ttnn looks for it below the runtime root
PROGRAM = "runtime/sfpi/null.elf"
PACKAGE_FOLDERS = ("tt_metal", "ttnn")  # what else ttnn reads below the runtime root

COMPILER_SCRIPT = """\
#!/bin/sh
# Stands in for the RISC-V compiler on a mock device: `-o FILE` gets a program that does nothing.
if [ "$1" = --version ]; then echo "ttt null toolchain 1"; exit 0; fi
output= depends=
while [ $# -gt 0 ]; do
  case $1 in
    -o) output=$2; shift ;;
    -MF) depends=$2; shift ;;
  esac
  shift
done
[ -n "$output" ] || exit 0
cp "${0%/*}/../../null.elf" "$output" && echo "$output:" > "${depends:-${output%.*}.d}"
"""


def ttnn_folder() -> Path:
    """Where the installed ttnn is, without importing it."""
    found = importlib.util.find_spec("ttnn")
    if found is None or not found.submodule_search_locations:
        raise DeviceError(
            "No ttnn is installed in this Python: a mock device runs ttnn's own code. Install ttt-hw with pip."
        )
    return Path(next(iter(found.submodule_search_locations))).resolve()


def cache_folder() -> Path:
    """The user's own cache folder for mock devices; safe to delete when no ttt process runs."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "ttt" / "mock"


def runtime_root() -> Path:
    """The runtime root in the user's cache, made or mended first.

    Each process compares every entry before use, and puts what is missing in place by a rename: nothing half-made is
    ever used, and processes that start together are safe.
    """
    entries = _entries(ttnn_folder())
    root = cache_folder() / _key(entries) / "root"
    try:
        for name, content in entries.items():
            if not _is_there(root / name, content):
                _put(root / name, content)
    except OSError as error:
        raise DeviceError(
            f"Cannot prepare the mock device's runtime folder {root}: {error}. "
            "Set XDG_CACHE_HOME to a folder that can be written."
        ) from error
    return root


def _entries(ttnn: Path) -> dict[str, Path | bytes]:
    """What the runtime root holds: links into the installed ttnn, and the two files that make the null toolchain."""
    shared = [ttnn / name for name in PACKAGE_FOLDERS]
    runtime = [path for path in sorted((ttnn / "runtime").iterdir()) if path.name != "sfpi"]
    links: dict[str, Path | bytes] = {str(path.relative_to(ttnn)): path for path in shared + runtime}
    return links | {COMPILER: COMPILER_SCRIPT.encode(), PROGRAM: null_executable()}


def _key(entries: dict[str, Path | bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in entries.items():
        for part in (name.encode(), content if isinstance(content, bytes) else bytes(content)):
            digest.update(len(part).to_bytes(4, "little") + part)
    version = importlib.metadata.version("ttnn")
    return f"ttnn-{version}-{sys.implementation.cache_tag}-{digest.hexdigest()[:16]}"


def _is_there(place: Path, content: Path | bytes) -> bool:
    try:
        if isinstance(content, Path):
            return Path(os.readlink(place)) == content
        return place.read_bytes() == content and os.access(place, os.X_OK)
    except OSError:
        return False


def _put(place: Path, content: Path | bytes) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=place.parent) as folder:
        new = Path(folder) / place.name
        if isinstance(content, Path):
            new.symlink_to(content)
        else:
            new.write_bytes(content)
            new.chmod(0o755)
        new.replace(place)
