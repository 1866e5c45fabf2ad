"""How ttnn's releases differ, for all packages: bound once, to the installed release, when this is imported.

`since` is also what tells the checks of this repository which releases a line is for: write `if since("0.81"): … else: …`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

__all__ = ["L1_BYTES_MORE", "num_links", "since"]


def _numbers(release: str) -> tuple[int, ...]:
    """
    >>> _numbers("0.81.1rc2")
    (0, 81)
    """
    return tuple(map(int, release.split(".")[:2]))


_installed = _numbers(version("ttnn"))


def since(release: str) -> bool:
    """Whether the installed ttnn is of this release ("0.81") or a later one."""
    return _installed >= _numbers(release)


L1_BYTES_MORE = 0 if since("0.81") else 128
"""Of each core, that releases before 0.81 leave to tensors and later ones reserve for themselves."""

if since("0.81"):

    def num_links(mesh_device: Any, axis: int) -> int | None:
        """Links that ttnn can use along an axis, None where it cannot tell."""
        import ttnn

        return int(ttnn.get_num_links(mesh_device, axis))

else:

    def num_links(mesh_device: Any, axis: int) -> int | None:
        """Links that ttnn can use along an axis, None where it cannot tell."""
        return None
