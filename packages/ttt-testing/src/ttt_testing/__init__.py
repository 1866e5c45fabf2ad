"""Values and comparisons for ttnn programs, with or without a card, and tests of modules by what they can do.

A name's module is loaded when the name is first used: torch and ttnn take seconds, and the command line and the pytest
plugin start without them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ttt_testing.blockwise import (
        BlockDifference as BlockDifference,
        BlockwiseComparison as BlockwiseComparison,
        compare_blocks as compare_blocks,
        compare_with_reference as compare_with_reference,
    )
    from ttt_testing.case import TestCase as TestCase
    from ttt_testing.compare import Departure as Departure
    from ttt_testing.coverage import Configuration as Configuration, Coverage as Coverage, Exercised as Exercised
    from ttt_testing.coverage_report import CoverageReport as CoverageReport
    from ttt_testing.expectations import Estimated as Estimated, Item as Item
    from ttt_testing.metrics import max_difference as max_difference, pcc as pcc, top_agreement as top_agreement
    from ttt_testing.rounding import round_to as round_to
    from ttt_testing.suite import TestSuite as TestSuite
    from ttt_testing.suite_report import SuiteFailed as SuiteFailed, SuiteReport as SuiteReport
    from ttt_testing.values import Rounding as Rounding, Values as Values, remembered as remembered, shadow as shadow

_HOMES = {
    "BlockDifference": "blockwise",
    "BlockwiseComparison": "blockwise",
    "Configuration": "coverage",
    "Coverage": "coverage",
    "CoverageReport": "coverage_report",
    "Departure": "compare",
    "Estimated": "expectations",
    "Exercised": "coverage",
    "Item": "expectations",
    "Rounding": "values",
    "SuiteFailed": "suite_report",
    "SuiteReport": "suite_report",
    "TestCase": "case",
    "TestSuite": "suite",
    "Values": "values",
    "compare_blocks": "blockwise",
    "compare_with_reference": "blockwise",
    "max_difference": "metrics",
    "pcc": "metrics",
    "remembered": "values",
    "round_to": "rounding",
    "shadow": "values",
    "top_agreement": "metrics",
}

__all__ = [
    "BlockDifference",
    "BlockwiseComparison",
    "Configuration",
    "Coverage",
    "CoverageReport",
    "Departure",
    "Estimated",
    "Exercised",
    "Item",
    "Rounding",
    "SuiteFailed",
    "SuiteReport",
    "TestCase",
    "TestSuite",
    "Values",
    "compare_blocks",
    "compare_with_reference",
    "max_difference",
    "pcc",
    "remembered",
    "round_to",
    "shadow",
    "top_agreement",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
