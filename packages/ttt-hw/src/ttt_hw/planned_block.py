"""What every block can say of itself: its config, its dtypes on a board, the memory that it takes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, ClassVar, Protocol, runtime_checkable

from ttt_core import Mode, PlacementError, ShapeError
from ttt_hw.config import HardwareMode, ModuleHardwareConfig, default_config
from ttt_hw.requests import Workload
from ttt_hw.timed import TimedByPlans
from ttt_hw.transfer import DType

__all__ = ["DescribedBlock", "MemoryEstimate", "PlannedBlock", "SizedPlans"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEstimate:
    """What a block takes of each chip: bytes of DRAM that stay, the most that a forward's activations take there, and the most
    of L1 on a core while it runs."""

    weight_bytes: int
    activation_bytes: int
    l1_bytes_per_core: int

    @property
    def dram_bytes(self) -> int:
        return self.weight_bytes + self.activation_bytes


@runtime_checkable
class SizedPlans(Protocol):
    """Plans that know what a forward takes: the most bytes of a chip's DRAM, and of L1 on a core."""

    def sizes(self, work: Workload, /) -> tuple[int, int]: ...


class DescribedBlock(TimedByPlans):
    """What a block that runs from plans says of itself.

    `profiles` are its dtypes by hardware mode, none where it has no choice.
    """

    profiles: ClassVar[Mapping[str, Mapping[str, DType]]] = {}

    @property
    @abstractmethod
    def weights(self) -> Sequence[Any]: ...

    @abstractmethod
    def get_config(self) -> dict[str, Any]: ...

    @classmethod
    def get_default_hw_config(cls, device_type: str, mode: HardwareMode = "performance") -> ModuleHardwareConfig:
        """Its dtypes on a board. Errors: DeviceError for an unknown board, PlacementError for an unknown mode."""
        return default_config(cls.profiles, device_type, mode)

    def estimate_memory(self, shape: Sequence[int], /, *, mode: Mode = "prefill", context: int = 0) -> MemoryEstimate:
        """For an input of that shape, [1, 1, rows, D] of activations or [1, rows] of ids, as planned; `context` is what a cache
        holds of each user, as much as in a typical run unless given. The cache itself is not counted.

        Errors: ShapeError for another shape, PlacementError where nothing is planned that fits, for plans of another kind, or
        for a weight or a part that does not say what it takes.
        """
        if len(shape) not in (2, 4) or any(size != 1 for size in shape[:-2]):
            raise ShapeError(
                f"estimate_memory of {list(shape)}: give [1, 1, rows, dim] of activations, or [1, rows] of ids."
            )
        rows = shape[-2] if len(shape) == 4 else shape[-1]
        dram, l1 = self._sizes(self._workload(mode, rows, context), shape)
        if unsized := [each for each in self.weights if not hasattr(each, "num_bytes")]:
            raise PlacementError(
                f"a weight of this {type(self).__name__} is a {type(unsized[0]).__name__}, which has no num_bytes. Add it, or "
                "store the weight as a LazyWeight."
            )
        stored = sum(each.num_bytes for each in self.weights)
        return MemoryEstimate(weight_bytes=stored, activation_bytes=dram, l1_bytes_per_core=l1)

    def _sizes(self, work: Workload, shape: Sequence[int]) -> tuple[int, int]:
        """Bytes of a chip's DRAM and of L1 on a core, as planned."""
        if not isinstance(self._plans, SizedPlans):
            raise PlacementError(
                f"the plans of this {type(self).__name__} do not say what they take. Ask a block with plans of its own."
            )
        return self._plans.sizes(work)


class PlannedBlock(DescribedBlock):
    """A block with a spec that runs from plans."""

    spec: Any

    def get_config(self) -> dict[str, Any]:
        """The block as JSON has it: its class, its spec, and where its stored tensors lie in which dtypes."""
        return {
            "block": type(self).__name__,
            "spec": _plain(asdict(self.spec)),
            "dtypes": dict(self._plans.dtypes),
            "stored": dict(self._plans.stored),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
