"""What a block is held to: where its reference is, and how the two are compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from ttt_core.errors import TttError

__all__ = ["Closeness", "Referenced", "TrackedSpec"]

GROUP = "ttt.compare"


class Closeness(Protocol):
    """How close a block's result is to its reference's."""

    @property
    def max_difference(self) -> float: ...
    @property
    def pcc(self) -> float: ...
    @property
    def close(self) -> bool: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class TrackedSpec:
    """A spec that says where the same is computed elsewhere: `reference_path` is the place of the module in the other model,
    `reference_type` what kind of model that is (an entry point of `ttt.references` that loads it, such as huggingface).

    Neither counts when specs are compared: they do not change what is computed.
    """

    reference_path: str | None = field(default=None, compare=False, repr=False)
    reference_type: str | None = field(default=None, compare=False, repr=False)


class Referenced:
    """A block that can be set beside its reference. The comparison is ttt-testing's, found by entry point."""

    def compare_with_reference(self, x: Any, reference: Any = None, /, **options: Any) -> Closeness:
        """The block's prefill of x [1, tokens, width], or of ids [1, tokens], beside what a torch module or function makes of it.

        Without a reference it is the one that the block's spec tracks, in the checkpoint that its weights come from; without
        that the block's own float32 values, beside those rounded as on the device. `options` are those of
        ttt_testing.compare_with_reference: `model=` of which it is a part, `rounding=`, `tolerance=`, `least_pcc=`.
        Errors: TttError if ttt-testing is not installed; those of ttt_testing.compare_with_reference.
        """
        from importlib.metadata import entry_points  # takes longer to import than this package

        found = next(iter(entry_points(group=GROUP, name="with_reference")), None)
        if found is None:
            raise TttError(
                f"{type(self).__name__}.compare_with_reference needs ttt-testing, which computes the values of both, and it is "
                "not installed: pip install ttt-testing."
            )
        return cast("Closeness", found.load()(self, x, reference, **options))
