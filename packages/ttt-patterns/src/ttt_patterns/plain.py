"""Residual sums of a layer for which nothing was planned: each result interleaved, which is always legal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ttnn

from ttt_core import Mode
from ttt_hw import DType, Operations, Workload

SUMS = ("attention_residual", "ffn_residual")


class PlainSums:
    """Plans of the sums alone; they store nothing."""

    def __init__(self) -> None:
        self.stored: Mapping[str, str] = {}
        self.dtypes: Mapping[str, DType] = {}
        self._ops: dict[Mode, Operations] = {
            "decode": _sums(ttnn.L1_MEMORY_CONFIG),
            "prefill": _sums(ttnn.DRAM_MEMORY_CONFIG),
        }

    def __call__(self, work: Workload, /) -> Operations:
        return self._ops[work.mode]


def _sums(memory_config: Any) -> Operations:
    def add(moved: dict[str, Any], a: Any, b: Any) -> Any:
        return ttnn.add(a, b, memory_config=memory_config)

    ops: dict[str, Callable[..., Any]] = dict.fromkeys(SUMS, add)
    return Operations(ops)
