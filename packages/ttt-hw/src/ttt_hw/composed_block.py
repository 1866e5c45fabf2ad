"""What a block of other blocks can say of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from ttt_core import Mode, PlacementError, ShapeError
from ttt_hw.catalogue import BOARDS
from ttt_hw.planned_block import DescribedBlock, MemoryEstimate, SizedPlans
from ttt_hw.requests import Workload
from ttt_shard_dsl import TILE

__all__ = ["ComposedBlock"]

_TILE_BYTES = 2 * TILE * TILE  # of bfloat16, as hidden states are
_FEWEST_CORES = min(board.grid[0] * board.grid[1] for board in BOARDS.values())


@runtime_checkable
class _Configured(Protocol):
    def get_config(self) -> dict[str, Any]: ...


@runtime_checkable
class _Sized(Protocol):
    def estimate_memory(
        self, shape: Sequence[int], /, *, mode: Mode = "prefill", context: int = 0
    ) -> MemoryEstimate: ...


class ComposedBlock(DescribedBlock):
    """A block of parts, which are `_parts` by name and have dtypes of their own; `_settings` is what it was told besides.

    `_held`: how many hidden states there are at most beside those that a part works with.
    """

    _parts: Mapping[str, object]
    _settings: Mapping[str, Any]
    _held: int

    def get_config(self) -> dict[str, Any]:
        """The block as JSON has it: its class, what it was told, and the configs of its parts, of some only the class."""
        return {
            "block": type(self).__name__,
            **self._settings,
            "parts": {
                name: part.get_config() if isinstance(part, _Configured) else {"block": type(part).__name__}
                for name, part in self._parts.items()
            },
        }

    def _sizes(self, work: Workload, shape: Sequence[int]) -> tuple[int, int]:
        """Of plans of the whole; without, the most that a part takes, and the hidden states beside it: in DRAM in prefill, over
        the cores in decode, of which a board may have more than is counted with."""
        if isinstance(self._plans, SizedPlans):
            return self._plans.sizes(work)
        if len(shape) != 4:
            raise ShapeError(f"estimate_memory of {list(shape)} of a {type(self).__name__}: give [1, 1, rows, dim].")
        found = [self._size(name, work, shape) for name in self._parts]
        dram, l1 = max(each.activation_bytes for each in found), max(each.l1_bytes_per_core for each in found)
        rows, columns = (-(-size // TILE) for size in shape[-2:])
        if work.mode == "prefill":
            return dram + self._held * rows * columns * _TILE_BYTES, l1
        return dram, l1 + self._held * -(-rows * columns // _FEWEST_CORES) * _TILE_BYTES

    def _size(self, name: str, work: Workload, shape: Sequence[int]) -> MemoryEstimate:
        part = self._parts[name]
        if not isinstance(part, _Sized):
            raise PlacementError(
                f"{name} of this {type(self).__name__} is a {type(part).__name__}, which has no estimate_memory. Add it, as "
                "ttt_hw.PlannedBlock has it, or ask the other parts."
            )
        return part.estimate_memory(shape, mode=work.mode, context=0 if work.mode == "prefill" else work.context)
