"""What a plan is made of: the steps between two layouts, the bytes of each on a link, and the ttnn calls."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from ttt_shard_dsl.placement import Placement
    from ttt_shard_dsl.tree import Rule, Spec

__all__ = ["Call", "Plan", "Step"]

Topology = Literal["ring", "line"]
Kind = Literal[
    "all_gather",
    "reduce_scatter",
    "all_reduce",
    "all_to_all",
    "mesh_partition",
    "interleaved_to_sharded",
    "sharded_to_interleaved",
    "reshard",
    "to_memory_config",
    "typecast",
]


class Target(NamedTuple):
    """The memory of one layout, as an argument of a call."""

    spec: Spec
    placement: Placement

    def __str__(self) -> str:
        p = self.placement
        form = ("" if p.dtype == "bfloat16" else f", dtype={p.dtype!r}") + ("" if p.tiled else ", tiled=False")
        return f'memory_config("{self.spec._replace(dtype=None)}", shape={p.shape}, device=device{form})'


class Call(NamedTuple):
    """One ttnn call on a tensor `x`: a function's name, and its keyword arguments.

    A `str` among the arguments is a name in ttnn, as `Topology.Ring`; a `Target` becomes a MemoryConfig.
    """

    function: str
    arguments: tuple[tuple[str, int | str | Target], ...] = ()

    def to_ttnn(self) -> str:
        """The call as Python."""
        shown = (f"{name}={f'ttnn.{value}' if isinstance(value, str) else value}" for name, value in self.arguments)
        return f"ttnn.{self.function}({', '.join(('x', *shown))})"

    def bind(self, ttnn: Any) -> Callable[[Any], Any]:
        """The call as a function of `x`, with its arguments made once; `ttnn` is the module."""
        given = {
            name: value.placement.to_memory_config()
            if isinstance(value, Target)
            else _attribute(ttnn, value)
            if isinstance(value, str)
            else value
            for name, value in self.arguments
        }
        return partial(_attribute(ttnn, self.function), **given)

    def run(self, x: Any, ttnn: Any) -> Any:
        """Make the call; `ttnn` is the module."""
        return self.bind(ttnn)(x)


class Step(NamedTuple):
    """One move.

    Units: bytes on the busiest directed link between neighbours along `axis`, if they form a ring or a line; 0 on a chip.
    """

    kind: Kind
    axis: str | None
    ring_bytes: int
    line_bytes: int
    call: Call
    after: Placement


class Plan(NamedTuple):
    """The steps of a rule for one tensor on one device; none where both layouts are the same."""

    rule: Rule
    source: Placement
    target: Placement
    steps: tuple[Step, ...]
    topology: Topology

    @property
    def link_bytes(self) -> int:
        """Bytes on the busiest directed link of each collective, summed over the steps."""
        return sum(step.ring_bytes if self.topology == "ring" else step.line_bytes for step in self.steps)

    def to_ttnn(self) -> str:
        """The calls as lines of Python that rebind `x`."""
        return "\n".join(f"x = {step.call.to_ttnn()}" for step in self.steps)

    def run(self, x: Any, ttnn: Any) -> Any:
        """Make the calls, each on what the one before it returned; without steps `x` itself is returned."""
        for step in self.steps:
            x = step.call.run(x, ttnn)
        return x


def _attribute(ttnn: Any, path: str) -> Any:
    found = ttnn
    for name in path.split("."):
        found = getattr(found, name)
    return found
