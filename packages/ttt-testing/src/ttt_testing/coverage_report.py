"""What coverage says: the values that each block was tested with, and what of the wanted configurations is missing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from itertools import combinations
from typing import Any

from ttt_testing.coverage import Configuration, Coverage, Exercised, Scalar

__all__ = ["CoverageReport", "coverage_report"]

Pair = tuple[tuple[str, Scalar], tuple[str, Scalar]]
_ALSO = ("device", "mode")  # parameters too: a value may be tested on one device and used on another


_OFF = frozenset({"False", "None", "0", "0.0", "1.0"})
"""Values of a parameter that switches something on or multiplies: with these it does not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One field of a block's spec, or its device or mode: values tested, and those wanted that are not."""

    name: str
    tested: tuple[Scalar, ...]
    missing: tuple[Scalar, ...]

    @property
    def varies(self) -> bool:
        """Whether it is worth a place in the terminal: not what no test and no model switches on."""
        return bool(self.missing) or len(self.tested) > 1 or str(self.tested[0]) not in _OFF

    def __str__(self) -> str:
        said = f"{self.name} [{', '.join(map(str, self.tested))}]"
        return said + (f" (missing: {', '.join(map(str, self.missing))})" if self.missing else "")


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockCoverage:
    """`pairs` are two parameters' values that some wanted configuration has together and no tested one has, each tested alone."""

    block: str
    parameters: tuple[Parameter, ...]
    pairs: tuple[Pair, ...]
    models: tuple[str, ...]

    def __str__(self) -> str:
        if not self.models:
            return f"{self.block} not tested (missing: {', '.join(map(_named, self.parameters))})"
        interesting = [parameter for parameter in self.parameters if parameter.varies]
        lines = [f"{self.block} tested with {', '.join(map(str, interesting))}"]
        lines += [f"    never together: {a[0]}={a[1]} and {b[0]}={b[1]}" for a, b in self.pairs]
        return "\n".join([*lines, f"    by the tests of {', '.join(self.models)}"])


@dataclass(frozen=True, kw_only=True, slots=True)
class CoverageReport:
    """`uncovered`: wanted configurations that no passing test has run; a gate asks that there be none.

    `str` is the terminal's form.
    """

    blocks: tuple[BlockCoverage, ...]
    wanted: int
    uncovered: tuple[Configuration, ...]

    def __str__(self) -> str:
        lines = [str(block) for block in self.blocks] or ["Nothing has been tested."]
        if self.wanted:
            lines.append(f"{self.wanted - len(self.uncovered)} of {self.wanted} wanted configurations are covered.")
        return "\n".join([*lines, *(f"    uncovered: {configuration}" for configuration in self.uncovered)])

    def to_json(self) -> dict[str, Any]:
        return {
            "blocks": [
                {
                    "block": block.block,
                    "parameters": {
                        parameter.name: {"tested": list(parameter.tested), "missing": list(parameter.missing)}
                        for parameter in block.parameters
                    },
                    "untested_pairs": [{a[0]: a[1], b[0]: b[1]} for a, b in block.pairs],
                    "models": list(block.models),
                }
                for block in self.blocks
            ],
            "wanted": self.wanted,
            "uncovered": [str(configuration) for configuration in self.uncovered],
        }

    def to_html(self) -> str:
        """One page that needs nothing else."""
        return _PAGE.format(
            summary=f"{self.wanted - len(self.uncovered)} of {self.wanted} wanted configurations are covered.",
            blocks="".join(_table(block) for block in self.blocks),
            uncovered="".join(f"<li>{escape(str(configuration))}</li>" for configuration in self.uncovered),
        )


def coverage_report(coverage: Coverage, wanted: Iterable[Configuration] = ()) -> CoverageReport:
    """Only what passed counts as tested. `wanted` are the configurations that models use."""
    asked = tuple(dict.fromkeys(wanted))
    passed = [tested for tested in coverage.tested if tested.passed]
    names = sorted({tested.configuration.block for tested in passed} | {configuration.block for configuration in asked})
    known = {tested.configuration for tested in passed}
    return CoverageReport(
        blocks=tuple(_of_block(name, passed, asked) for name in names),
        wanted=len(asked),
        uncovered=tuple(configuration for configuration in asked if configuration not in known),
    )


def _of_block(name: str, passed: list[Exercised], asked: tuple[Configuration, ...]) -> BlockCoverage:
    mine = [tested for tested in passed if tested.configuration.block == name]
    ran = [_values(tested.configuration) for tested in mine]
    wanted = [_values(configuration) for configuration in asked if configuration.block == name]
    parameters = []
    for parameter in dict.fromkeys(key for values in (*ran, *wanted) for key in values):
        tested = {values[parameter] for values in ran if parameter in values}
        missing = {values[parameter] for values in wanted if parameter in values} - tested
        parameters.append(Parameter(name=parameter, tested=_sorted(tested), missing=_sorted(missing)))
    single = {(parameter.name, value) for parameter in parameters for value in parameter.tested}
    seen = {pair for values in ran for pair in combinations(values.items(), 2)}
    pairs = dict.fromkeys(pair for values in wanted for pair in combinations(values.items(), 2))
    return BlockCoverage(
        block=name,
        parameters=tuple(parameters),
        pairs=tuple(pair for pair in pairs if pair not in seen and single.issuperset(pair)),
        models=tuple(sorted({tested.model for tested in mine})),
    )


def _values(configuration: Configuration) -> dict[str, Scalar]:
    return dict(configuration.spec) | {name: getattr(configuration, name) for name in _ALSO}


def _sorted(values: Iterable[Scalar]) -> tuple[Scalar, ...]:
    """Numbers by size, then text, then None."""

    def key(value: Scalar) -> tuple[int, float, str]:
        return (
            (0, float(value), "") if isinstance(value, (int, float)) else (2 if value is None else 1, 0.0, str(value))
        )

    return tuple(sorted(values, key=key))


def _named(parameter: Parameter) -> str:
    return f"{parameter.name} {', '.join(map(str, parameter.missing))}"


def _table(block: BlockCoverage) -> str:
    rows = "".join(
        f"<tr><th>{escape(parameter.name)}</th><td>{escape(', '.join(map(str, parameter.tested)))}</td>"
        f"<td class=missing>{escape(', '.join(map(str, parameter.missing)))}</td></tr>"
        for parameter in block.parameters
        if parameter.varies
    )
    rest = ", ".join(f"{each.name} {each.tested[0]}" for each in block.parameters if not each.varies)
    off = f"<p class=off>Everywhere: {escape(rest)}.</p>" if rest else ""
    pairs = "".join(f"<li>{escape(f'{a[0]}={a[1]}, {b[0]}={b[1]}')}</li>" for a, b in block.pairs)
    never = f"<p>Never together:</p><ul class=missing>{pairs}</ul>" if pairs else ""
    by = (
        f"<p>By the tests of {escape(', '.join(block.models))}.</p>"
        if block.models
        else "<p class=missing>Not tested.</p>"
    )
    head = "<tr><th>parameter</th><th>tested</th><th>missing</th></tr>"
    return f"<h2>{escape(block.block)}</h2><table>{head}{rows}</table>{off}{never}{by}"


_PAGE = """<!doctype html>
<html lang=en><meta charset=utf-8><title>Coverage of configurations</title>
<style>
body {{ font: 15px/1.5 sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse }} th, td {{ text-align: left; padding: .2em 1em .2em 0; border-bottom: 1px solid #ddd }}
.missing {{ color: #b00020 }} .off {{ color: #666; font-size: 13px }}
</style>
<h1>Coverage of configurations</h1><p>{summary}</p>{blocks}<ul class=missing>{uncovered}</ul></html>
"""
