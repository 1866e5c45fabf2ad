"""Residual sums of a layer for which nothing was planned: each result interleaved, which is always legal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ttnn

from ttt_core import Mode
from ttt_hw import DType, Operations, OpTime, Workload
from ttt_patterns._parts import times_of

SUMS = ("attention_residual", "ffn_residual")


class PlainSums:
    """Plans of the sums alone, which store nothing; `parts` are those of the layer by name, each with plans of its own, and
    `multiplier` is that of what is added."""

    def __init__(self, parts: Mapping[str, object], *, multiplier: float = 1.0, sums: tuple[str, ...] = SUMS) -> None:
        self._parts = parts
        self._sums = sums
        self.stored: Mapping[str, str] = {}
        self.dtypes: Mapping[str, DType] = {}
        self._ops: dict[Mode, Operations] = {
            "decode": _operations(sums, multiplier, ttnn.L1_MEMORY_CONFIG),
            "prefill": _operations(sums, multiplier, ttnn.DRAM_MEMORY_CONFIG),
        }

    def __call__(self, work: Workload, /) -> Operations:
        return self._ops[work.mode]

    def times(self, work: Workload, /) -> tuple[OpTime, ...]:
        rows = work.users if work.mode == "decode" else work.tokens
        context = work.context if work.mode == "decode" else 0  # of a prompt each part knows what it reads
        inner = (times_of(part, name, work.mode, rows, context) for name, part in self._parts.items())
        return (*(op for ops in inner for op in ops), *(OpTime(name=name) for name in self._sums))


def _operations(sums: tuple[str, ...], multiplier: float, memory_config: Any) -> Operations:
    arguments: dict[str, Any] = {"memory_config": memory_config}
    if multiplier != 1.0:
        factor = ttnn.UnaryWithParam(ttnn.UnaryOpType.MUL_UNARY_SFPU, multiplier)
        arguments["input_tensor_b_activations"] = [factor]

    def add(a: Any, b: Any) -> Any:
        return ttnn.add(a, b, **arguments)

    ops: dict[str, Callable[..., Any]] = dict.fromkeys(sums, add)
    return Operations(ops)
