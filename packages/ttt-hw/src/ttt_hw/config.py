"""How precisely a block computes on a board, and what its user changes of the planner's choices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from ttt_core import PlacementError
from ttt_hw.catalogue import board
from ttt_hw.overrides import Overrides
from ttt_hw.transfer import DType

__all__ = ["HardwareMode", "ModuleHardwareConfig", "chosen_precision", "default_config"]

HardwareMode = Literal["performance", "accuracy", "balanced"]
"""What the precision of a block's weights and arithmetic is chosen for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ModuleHardwareConfig:
    """A block's dtypes by role, as in `precision["qkv_weights"]`, and its overrides by operation, as in
    `overrides["decode.qkv_matmul"]`; everything else the planner chooses for the board."""

    device: str
    mode: HardwareMode
    precision: Mapping[str, DType]
    overrides: Overrides = field(default_factory=dict)


def default_config(
    profiles: Mapping[str, Mapping[str, DType]], device_type: str, mode: HardwareMode = "performance"
) -> ModuleHardwareConfig:
    """The config of a block whose dtypes by mode are `profiles`, none where it has no choice.

    Errors: DeviceError for an unknown board, PlacementError for an unknown mode.
    """
    return ModuleHardwareConfig(device=board(device_type).name, mode=mode, precision=dict(_profile(profiles, mode)))


def chosen_precision(
    profiles: Mapping[str, Mapping[str, DType]], mode: HardwareMode, chosen: Mapping[str, DType | None]
) -> dict[str, DType]:
    """A hardware mode's dtypes by role, with those that were chosen in their place.

    Errors: PlacementError for an unknown mode.
    """
    return {**_profile(profiles, mode), **{role: dtype for role, dtype in chosen.items() if dtype is not None}}


def _profile(profiles: Mapping[str, Mapping[str, DType]], mode: HardwareMode) -> Mapping[str, DType]:
    if mode not in (profiles or get_args(HardwareMode)):
        raise PlacementError(f"hardware mode {mode!r} is not known; known are {', '.join(get_args(HardwareMode))}.")
    return profiles.get(mode, {})
