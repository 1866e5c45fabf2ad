"""One table from what ttnn raises, RuntimeError for everything, to the errors of ttt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from ttt_core import PlacementError, ShapeError, TttError, UnsupportedOnDevice

__all__ = ["OutOfMemory", "translate"]

Memory = Literal["L1", "DRAM"]


class OutOfMemory(PlacementError):
    """Tensors or circular buffers that do not fit: legal, but too large. Bytes are per core (L1) or per bank (DRAM)."""

    def __init__(self, message: str, *, memory: Memory, wanted: int, available: int) -> None:
        super().__init__(message)
        self.memory: Memory = memory
        self.wanted = wanted
        self.available = available

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: the default would leave out the keyword arguments."""
        return partial(type(self), memory=self.memory, wanted=self.wanted, available=self.available), self.args


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """Messages that match `pattern` become `error`; the advice is its last sentence.

    A pattern of an OutOfMemory rule has the groups wanted and available, and memory unless it can only be L1.
    """

    pattern: str
    error: type[TttError]
    advice: str


RULES = (
    Rule(
        pattern=r"Out of Memory: Not enough space to allocate \d+ B (?P<memory>L1|DRAM).* buffer across \d+ banks, "
        r"where each bank needs to store (?P<wanted>\d+) B, .*largest free block: (?P<available>\d+) B",
        error=OutOfMemory,
        advice="Free tensors, choose a smaller dtype, or spread the tensor over more cores or chips.",
    ),
    Rule(
        pattern=r"Statically allocated .* grow to (?P<wanted>\d+) B "
        r"which is beyond max L1 size of (?P<available>\d+) B",
        error=OutOfMemory,
        advice="Choose smaller blocks (in0_block_w, per_core_M, per_core_N) or more cores.",
    ),
    Rule(
        pattern=r"Statically allocated .* clash with L1 buffers .*"
        r"L1 buffer allocated at (?P<available>\d+) and static .* region ends at (?P<wanted>\d+)",
        error=OutOfMemory,
        advice="Move tensors from L1 to DRAM before this op, or choose smaller blocks.",
    ),
    Rule(
        pattern=r"width of the first tensor must be equal to the height of the second|"
        r"[Ss]hapes? .*([Mm]ismatch|must match)",
        error=ShapeError,
        advice="Check the shapes that go in.",
    ),
    Rule(
        pattern=r"is implemented for \w+ only|[Uu]nsupported|not (yet )?(supported|implemented)|"
        r"must be (FLOAT32|BFLOAT16|BFLOAT8_B|BFLOAT4_B|UINT32|INT32)",
        error=UnsupportedOnDevice,
        advice="Use another op, or convert the tensor's dtype or layout first.",
    ),
)

_WHOLE = re.compile(r"TT_(?:FATAL|THROW) @ [^\n]*\ninfo:\n(?P<sentence>.*?)\s*(?:\nbacktrace:.*)?", re.DOTALL)


def sentence(error: RuntimeError) -> str:
    """What ttnn says in its own words, on one line, without source lines and backtrace."""
    whole = _WHOLE.fullmatch(str(error))
    return " ".join((whole["sentence"] if whole else str(error)).split()).rstrip(".")


def translate(error: RuntimeError, *, where: str) -> TttError:
    """The error of ttt for a RuntimeError of ttnn, which becomes its `__cause__`; `where` names the op and the block.

    Write `raise translate(error, where=...) from error`. What no rule knows is a PlacementError if a check of ttnn
    failed, else a plain TttError. Errors of ttt, some of which are RuntimeErrors, are returned as they are.
    """
    if isinstance(error, TttError):
        return error
    translated = _translated(error, where)
    translated.__cause__ = error
    return translated


def _translated(error: RuntimeError, where: str) -> TttError:
    said = sentence(error)
    for rule in RULES:
        found = re.search(rule.pattern, said)
        if found is None:
            continue
        message = f"{where}: {said}. {rule.advice}"
        if not issubclass(rule.error, OutOfMemory):
            return rule.error(message)
        numbers = found.groupdict()
        memory: Memory = "DRAM" if numbers.get("memory") == "DRAM" else "L1"
        return rule.error(message, memory=memory, wanted=int(numbers["wanted"]), available=int(numbers["available"]))
    if _WHOLE.fullmatch(str(error)):
        return PlacementError(f"{where}: {said}. Change the config, the layout or the arguments that it names.")
    return TttError(f"{where}: {said}.")
