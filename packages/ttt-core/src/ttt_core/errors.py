"""The one tree of exceptions.

A message says what was given, what is allowed, where, and what to do next, in one paragraph. Command lines print it and
exit with `exit_code`; a traceback is for bugs only.
"""

from __future__ import annotations

__all__ = [
    "DeviceError",
    "GenerationError",
    "GoldenError",
    "PlacementError",
    "ShapeError",
    "SpecError",
    "TttError",
    "UnsupportedOnDevice",
    "WeightError",
]


class TttError(Exception):
    """Anything a user of ttt can mend; never raised for a bug in ttt."""

    exit_code = 2


class ShapeError(TttError, ValueError):
    """Sizes that do not go together: heads and dims, rows and caches, golden and device."""


class SpecError(TttError, ValueError):
    """A model description with an unknown key or a value outside what ttt can express."""


class PlacementError(TttError, ValueError):
    """A layout or op config that is not legal on the device."""


class DeviceError(TttError, RuntimeError):
    """A device that is unknown, absent, or cannot be opened as asked."""


class UnsupportedOnDevice(TttError, RuntimeError):
    """An operation that this device or this build of ttnn does not offer."""


class WeightError(TttError, ValueError):
    """A checkpoint file or tensor that is missing, damaged or of the wrong shape."""


class GenerationError(TttError, ValueError):
    """A prompt or a length that the model cannot take."""


class GoldenError(TttError, RuntimeError):
    """A value that cannot be computed without hardware: no golden function, or one that disagrees with the device."""
