"""How long an operation takes, from what it moves and computes and the rates of the chip.

time = max(engines, DRAM, NoC, links) + launch: the parts overlap but for the start of each program. Of the engines,
the vectors' time adds to the matrix engine's, and that is as long as its products or as what they are unpacked from.
Rates are in the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ttt_hw.records import Board

__all__ = ["Estimate", "Work", "estimate"]

Bound = Literal["compute", "dram", "noc", "link", "overhead"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What one operation does on a chip.

    Units: bytes; cycles of the busiest core. `dram_streamed` is read by cores beside their banks, `dram_bytes` by any core
    page by page in `dram_pages` requests; `noc_bytes` enter or leave the busiest core one to one, `multicast_bytes` are
    received from one sender by many. `link_us` is what a collective spends on its links. `programs` start one after another.
    """

    matrix_cycles: float = 0
    matrix_bytes: float = 0
    """Of both operands of all tile products of the busiest core: what is unpacked for the matrix engine."""
    vector_bytes: float = 0
    """Through the unpackers of the busiest core."""
    dram_streamed: float = 0
    dram_bytes: float = 0
    dram_pages: int = 0
    sender_bytes: float = 0
    """Of `dram_bytes`, what the busiest core reads step by step in order to hand it on, each step after the last."""
    noc_bytes: float = 0
    multicast_bytes: float = 0
    link_us: float = 0
    programs: int = 1
    multicasts: int = 0
    """Programs that cannot start to compute before cores have told each other that they are ready."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """The time of an operation by its parts. Units: µs."""

    compute_us: float
    dram_us: float
    noc_us: float
    link_us: float
    overhead_us: float

    @property
    def time_us(self) -> float:
        return max(self.compute_us, self.dram_us, self.noc_us, self.link_us) + self.overhead_us

    @property
    def bound(self) -> Bound:
        """The part that would have to shrink for the operation to be faster."""
        parts: dict[Bound, float] = {
            "compute": self.compute_us,
            "dram": self.dram_us,
            "noc": self.noc_us,
            "link": self.link_us,
            "overhead": self.overhead_us,
        }
        return max(parts, key=lambda part: parts[part])


def estimate(work: Work, board: Board) -> Estimate:
    """How long one chip of the board takes for the work, in µs by what is busy."""
    chip, rates = board.chip, board.chip.rates
    per_us = chip.clock_hz / 1e6
    peak = chip.dram_gb_per_s * 1e3  # bytes per µs
    requests = work.dram_pages * rates.dram_request_cycles / chip.dram_banks / per_us
    interleaved = max(work.dram_bytes / (peak * rates.dram_interleaved), requests)
    sent = work.sender_bytes / rates.sender_bytes_per_cycle / per_us
    efficiency = rates.matrix_streamed if work.dram_streamed else rates.matrix_efficiency
    matrix = max(work.matrix_cycles / efficiency, work.matrix_bytes / rates.matrix_bytes_per_cycle)
    return Estimate(
        compute_us=(matrix + work.vector_bytes / rates.unpack_bytes_per_cycle) / per_us,
        dram_us=max(interleaved, sent) + work.dram_streamed / (peak * rates.dram_streamed),
        noc_us=(work.noc_bytes / rates.noc_bytes_per_cycle + work.multicast_bytes / rates.multicast_bytes_per_cycle)
        / per_us,
        link_us=work.link_us,
        overhead_us=work.programs * rates.program_us + work.multicasts * rates.multicast_us,
    )
