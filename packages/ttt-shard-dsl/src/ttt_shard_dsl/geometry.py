"""What a placement needs to know of a device."""

from __future__ import annotations

from typing import NamedTuple, Protocol

__all__ = ["Device", "Geometry"]


class Geometry(Protocol):
    """The sizes of one chip, and of the mesh it is part of.

    Units: cores, banks, chips; bytes for capacities and alignments.
    """

    @property
    def grid(self) -> tuple[int, int]:
        """Worker cores: x columns, y rows."""

    @property
    def dram_banks(self) -> int: ...

    @property
    def l1_bytes_per_core(self) -> int:
        """L1 of one core that tensors may fill."""

    @property
    def dram_bytes_per_bank(self) -> int: ...

    @property
    def l1_alignment(self) -> int: ...

    @property
    def dram_alignment(self) -> int: ...

    @property
    def mesh(self) -> tuple[int, int]:
        """Chips: rows, columns."""


class Device(NamedTuple):
    """A `Geometry` written down by hand."""

    grid: tuple[int, int]
    dram_banks: int
    l1_bytes_per_core: int
    dram_bytes_per_bank: int
    l1_alignment: int = 16
    dram_alignment: int = 32  # 64 on Blackhole
    mesh: tuple[int, int] = (1, 1)
