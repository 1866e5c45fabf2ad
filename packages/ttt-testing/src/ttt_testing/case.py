"""What is expected of one module, said call by call."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Literal

import torch

from ttt_core import Mode, ShapeError, SpecError
from ttt_testing._finding import Role, sizes_of
from ttt_testing._trial import Reference
from ttt_testing.expectations import Expectation, Kind

__all__ = ["TestCase"]

DECODE_ROWS, PREFILL_ROWS, CONTEXT = 32, 128, 128
_MODES: dict[str, tuple[Mode, ...]] = {"prefill": ("prefill",), "decode": ("decode",), "both": ("prefill", "decode")}


class TestCase:
    """What is expected of one module; every method returns the case, so that calls chain."""

    __test__ = False  # not pytest's

    def __init__(self, module: Any, *, name: str, path: str, role: Role) -> None:
        self.module, self.name, self.path, self.role = module, name, path, role
        self.modes: tuple[Mode, ...] = _MODES["both"]
        self.expectations: dict[Kind, Expectation] = {"runs": Expectation(kind="runs")}
        self.sizes = sizes_of(module)
        self.num_rows: dict[Mode, int] = {"prefill": PREFILL_ROWS, "decode": DECODE_ROWS}
        self.cache_context = CONTEXT
        self.reference: Reference | None = None
        self.reference_key: Hashable = None
        self.reference_name = ""

    def mode(self, mode: Literal["prefill", "decode", "both"]) -> TestCase:
        """Which forwards to test; both unless told."""
        if mode not in _MODES:
            raise SpecError(f".mode({mode!r}) of {self.name}: give 'prefill', 'decode' or 'both'.")
        self.modes = _MODES[mode]
        return self

    def rows(self, *, prefill: int | None = None, decode: int | None = None, context: int | None = None) -> TestCase:
        """Tokens of the prompt, users that decode, tokens that a cache holds of each."""
        for given in (prefill, decode, context):
            if given is not None and given < 1:
                raise ShapeError(f".rows of {self.name}: {given} rows cannot be computed; give at least 1.")
        self.num_rows = {"prefill": prefill or self.num_rows["prefill"], "decode": decode or self.num_rows["decode"]}
        self.cache_context = context or self.cache_context
        return self

    def against(self, reference: Callable[..., Any], name: str | None = None) -> TestCase:
        """Hold values to a torch module, or to a function, of x [1, tokens, width] or ids [1, tokens].

        Of a result with several parts the first counts, of one with `logits` those.
        """
        if not callable(reference):
            raise SpecError(
                f".against of {self.name} was given a {type(reference).__name__}; give a torch module or a function."
            )
        self.reference, self.reference_key = as_rows(reference), id(reference)
        self.reference_name = name or str(getattr(reference, "__name__", type(reference).__name__))
        return self

    def tolerance(self, absolute: float | None = None, *, rtol: float = 0.0, pcc: float | None = None) -> TestCase:
        """The math: in float32, every element within absolute + rtol·|expected| of the reference, or of the module's own other
        mode where there is none. `pcc` as in `expect`."""
        if absolute is None and not rtol and pcc is None:
            raise SpecError(f".tolerance() of {self.name}: give an absolute tolerance, rtol or pcc.")
        if absolute is not None or rtol:
            self.expectations["tolerance"] = Expectation(kind="tolerance", limit=absolute or 0.0, rtol=rtol)
        return self if pcc is None else self.expect(pcc=pcc)

    def expect(
        self,
        *,
        pcc: float | None = None,
        top1: float | None = None,
        top5: float | None = None,
        latency_ms: float | None = None,
        tokens_per_second: float | None = None,
        memory_mb: float | None = None,
        l1_kb: float | None = None,
    ) -> TestCase:
        """At least this PCC or agreement of best tokens, values being rounded as the device does; at most this time, and DRAM
        of a chip (10⁶ bytes), and L1 of a core (10³ bytes); at least this throughput."""
        given: dict[Kind, float | None] = {
            "pcc": pcc,
            "top1": top1,
            "top5": top5,
            "latency_ms": latency_ms,
            "tokens_per_second": tokens_per_second,
            "memory_mb": memory_mb,
            "l1_kb": l1_kb,
        }
        self.expectations |= {
            kind: Expectation(kind=kind, limit=limit) for kind, limit in given.items() if limit is not None
        }
        if self.sizes.vocabulary is None or self.role == "embedding":
            for kind in ("top1", "top5"):
                if given[kind] is not None:
                    raise SpecError(
                        f".expect({kind}=…) of {self.name}: it makes rows, not logits. Ask it of a head or a model."
                    )
        return self


def as_rows(reference: Callable[..., Any]) -> Reference:
    """From one sequence to its rows, through the batch that torch modules take."""

    @torch.no_grad()
    def rows(sequence: torch.Tensor) -> torch.Tensor:
        result = reference(sequence[None])
        result = getattr(result, "logits", result)
        first = result[0] if isinstance(result, (tuple, list)) else result
        return torch.as_tensor(first).float().squeeze(0)

    return rows
