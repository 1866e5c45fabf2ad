"""The plans of feed-forward blocks."""

from __future__ import annotations

from typing import Any

from ttt_ffn.requests import PROFILES, ffn_request
from ttt_ffn.spec import FFNSpec, MoESpec
from ttt_hw import DType, HardwareMode, Overrides, Plans, board_of, chosen_precision, given_or_own, typical


def ffn_plans(
    spec: FFNSpec | MoESpec,
    device: Any,
    *,
    dtype: DType | None,
    hw_mode: HardwareMode,
    plans: Plans | None,
    overrides: Overrides | None,
) -> Plans:
    """Those that a block was given, or its own, with weights in `dtype` or in those of `hw_mode`.

    Errors: PlacementError if no config fits, for overrides that are not legal, or beside plans.
    """
    chosen = dict.fromkeys(("gate_weights", "up_weights", "down_weights"), dtype)
    precision = chosen_precision(PROFILES, hw_mode, chosen)
    return given_or_own(
        plans,
        lambda work: ffn_request(spec, work, precision),
        board_of(device),
        typical=typical(),
        overrides=overrides,
    )
