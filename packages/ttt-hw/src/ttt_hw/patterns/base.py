"""What every op-config pattern can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, TypeVar

from ttt_core import PlacementError
from ttt_hw.compute import ComputeKernel
from ttt_hw.estimate import Work
from ttt_hw.records import Board
from ttt_hw.requests import OpRequest

__all__ = ["Pattern"]

RequestT = TypeVar("RequestT", bound=OpRequest)


@dataclass(frozen=True, kw_only=True)
class Pattern(ABC, Generic[RequestT]):
    """One way to run an operation: its layouts and the numbers of its program, independent of any device that is open.

    A pattern's fields are numbers, texts and pairs, so it can be written down. Layouts are texts of the layout language, of one
    chip; `reads` are the layouts in which the inputs lie, one of those that `accepts` names.
    """

    serves: ClassVar[tuple[type[OpRequest], ...]]
    adapts: ClassVar[bool] = False
    """Whether ttnn sizes the program's buffers by the L1 that is free when it is compiled."""

    @classmethod
    @abstractmethod
    def candidates(cls, request: RequestT, board: Board) -> Iterator[Pattern[RequestT]]:
        """Configs worth comparing, likely the best first; those that break a rule of `problems` are sorted out by the caller."""

    @abstractmethod
    def accepts(self, request: RequestT, board: Board) -> tuple[tuple[str, ...], ...]:
        """For each input the layouts in which it may lie, the cheapest first."""

    @abstractmethod
    def results(self, request: RequestT, board: Board) -> tuple[str, ...]:
        """The layout of each result."""

    @abstractmethod
    def problems(self, request: RequestT, board: Board, reads: Sequence[str]) -> Iterator[str]:
        """Each rule that the config breaks, in words: what is, what must be, the nearest legal value. None: it is legal.

        Rules are ttnn's own, and those that ttnn does not check and that kernels rely on. Memory is not among them.
        """

    @abstractmethod
    def circular_buffers(self, request: RequestT, board: Board, reads: Sequence[str]) -> int:
        """Bytes of L1 that the program's buffers take on the fullest core, as ttnn allocates them; tensors come on top."""

    def buffers_beside(self, request: RequestT, board: Board, reads: Sequence[str], others: int) -> int:
        """`circular_buffers` where tensors that are not this operation's take `others` bytes of L1 on a core."""
        return self.circular_buffers(request, board, reads)

    def scratch(self, request: RequestT, board: Board) -> int:
        """Bytes of L1 on a core of tensors that live between its programs, beside its result."""
        return 0

    def keeps(self, request: RequestT, board: Board) -> Mapping[Hashable, int]:
        """Bytes of L1 on a core of what it makes once and leaves on the mesh for good, by what may be shared."""
        return {}

    def prepare(self, request: RequestT, board: Board, mesh: Any) -> None:
        """Make what it keeps, where it is not made yet; `issue` does so too."""
        return None

    @abstractmethod
    def cores(self, request: RequestT, board: Board) -> int:
        """How many cores compute."""

    @abstractmethod
    def work(self, request: RequestT, board: Board, reads: Sequence[str]) -> Work:
        """What it moves and computes, from which the time follows."""

    @abstractmethod
    def to_ttnn(self, request: RequestT, board: Board) -> dict[str, Any]:
        """The keyword arguments that choose this config, for the ttnn operation that `issue` calls."""

    @abstractmethod
    def issue(self, request: RequestT, board: Board, tensors: Sequence[Any]) -> Any:
        """Call the ttnn operation on tensors that lie as `accepts` says; returns its result or results."""

    def check(self, request: RequestT, board: Board, reads: Sequence[str] | None = None) -> None:
        """Raise PlacementError unless the config computes all of `request` on a chip of `board`."""
        if reads is None:
            reads = [layouts[0] for layouts in self.accepts(request, board)]
        for problem in self.problems(request, board, reads):
            raise PlacementError(f"{request.name} cannot run as {self} on {board.name}: {problem}.")

    def to_json(self) -> dict[str, Any]:
        """The pattern's name and its fields, as `from_json` of ttt_hw.patterns reads them."""
        return {"pattern": type(self).__name__, **{f.name: getattr(self, f.name) for f in fields(self)}}

    def __str__(self) -> str:
        values = ", ".join(f"{f.name}={_short(getattr(self, f.name))}" for f in fields(self))
        return f"{type(self).__name__}({values})"


def _short(value: object) -> str:
    if isinstance(value, tuple) and len(value) == 2:
        return f"{value[0]}x{value[1]}"
    return str(value)


def kernel_config(kernel: ComputeKernel) -> Any:
    """ttnn's object for it, made once."""
    if kernel not in _kernels:
        _kernels[kernel] = kernel.to_ttnn()
    return _kernels[kernel]


_kernels: dict[ComputeKernel, Any] = {}
