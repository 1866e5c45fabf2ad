"""Variants of a block: what its spec can say, each held to a reference, and to failing where the spec does not say it.

A `Variant` is data: a spec that has a feature, the same spec without it, what builds the block from a spec and what its
math is in torch. `check_variant` runs it on an open mesh, case by case, and says what it found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from ttt_core import Mode, TttError
from ttt_testing._conformance_checks import PROTOCOLS, ProtocolName
from ttt_testing._driver import Driver
from ttt_testing._finding import role_of, sizes_of
from ttt_testing._problem import Problem
from ttt_testing._trial import Reference
from ttt_testing.case import as_rows
from ttt_testing.compare import first_departure, largest_departure, likeness
from ttt_testing.metrics import max_difference, pcc
from ttt_testing.values import Rounding, remembered, shadow

Precision = Literal["bfloat16", "performance"]
"""How a block's weights are stored: all in bfloat16, or as its performance profile says."""
Status = Literal["passed", "failed", "refused", "error"]
__all__ = ["CaseResult", "Precision", "Variant", "check_variant", "seeded"]

LEAST_PCC: dict[Precision, float] = {"bfloat16": 0.999, "performance": 0.99}
CONTEXT = 128  # tokens that a cache holds in decode


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One configuration of a block. `feature` is what it is there for, and `without` the spec that does not have it.

    `build(spec, mesh, precision)` gives the block: every weight in bfloat16, or as the performance profile stores them.
    `reference(spec)` gives what it computes: a torch module or a function of x [1, tokens, width] or ids [1, tokens]. Both take
    the same weights for the same spec. `without` None: the feature is what others are told from, and is not switched off.
    `one_axis`: not on meshes of several rows. `paged`: the cache is in pages, those of a user scattered over it; `pieces`:
    prompts are read piece by piece, through the cache. Errors: those of a case are in its result.
    """

    name: str
    feature: str
    protocol: ProtocolName
    spec: Any
    without: Any = None
    build: Callable[[Any, Any, Precision], Any]
    reference: Callable[[Any], Callable[..., Any]]
    tolerance: float = 1e-4
    prefill: tuple[int, ...] = (33, 128, 1024)
    decode: tuple[int, ...] = (8, 1, 32)
    one_axis: bool = False
    paged: bool = False
    pieces: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseResult:
    """`difference`: the largest, in float32; `pcc`: of values rounded as the device's, by precision; `detail`: why it failed."""

    variant: str
    feature: str
    case: str
    status: Status
    difference: float | None = None
    pcc: dict[Precision, float] | None = None
    operations: int = 0
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_variant(variant: Variant, mesh: Any, *, most: int | None = None) -> Iterator[CaseResult]:
    """Each case of a variant on an open mesh of a mock, then whether the feature counts. `most`: cases of a mode.

    A case passes if on every chip the values in float32 are the reference's within the tolerance, those rounded as the device's
    tensors as alike as the precision asks, and ttnn accepts every operation.
    """
    cases: list[tuple[Mode, int]] = [
        *(("prefill", rows) for rows in variant.prefill[:most]),
        *(("decode", rows) for rows in variant.decode[:most]),
    ]
    try:
        blocks: dict[Precision, Any] = {
            precision: _built(variant, variant.spec, mesh, precision) for precision in LEAST_PCC
        }
        plain = None if variant.without is None else _built(variant, variant.without, mesh, "bfloat16")
    except Exception as error:  # whatever it is, the other variants go on
        yield _failed(variant, "built", error)
        return
    reference = as_rows(variant.reference(variant.spec))
    for mode, rows in cases:
        try:
            yield _case(variant, blocks, reference, mesh, mode, rows)
        except Exception as error:
            yield _failed(variant, f"{mode} {rows}", error)
    if plain is not None:
        yield _switched_off(variant, plain, reference, mesh, [cases[0], cases[-1]])


def _built(variant: Variant, spec: Any, mesh: Any, precision: Precision) -> Any:
    with remembered():
        block = variant.build(spec, mesh, precision)
    kind = PROTOCOLS[variant.protocol]
    if not isinstance(block, kind):
        raise TypeError(f"{type(block).__name__} is no {kind.__name__} of ttt_core: a method is missing")
    return block


def _driver(variant: Variant, block: Any, mesh: Any, mode: Mode, rows: int) -> Driver:
    context = max(CONTEXT, rows) if mode == "prefill" else CONTEXT
    return Driver(
        block,
        mesh,
        role=role_of(block),
        sizes=sizes_of(block),
        rows=rows,
        context=context,
        paged=variant.paged,
        pieces=variant.pieces,
    )


def _computed(driver: Driver, mode: Mode, problem: Problem, rounding: Rounding) -> tuple[torch.Tensor, int]:
    """Rows [places, D or V], the same on every chip, and how many operations ttnn accepted.

    Errors: GoldenError where chips differ.
    """
    with shadow(rounding) as values:
        return driver.run(mode, problem, values.to_torch), values.num_operations


def _case(
    variant: Variant, blocks: dict[Precision, Any], reference: Reference, mesh: Any, mode: Mode, rows: int
) -> CaseResult:
    driver = _driver(variant, blocks["bfloat16"], mesh, mode, rows)
    problem = driver.problem(mode)
    expected = problem.rows_of([reference(sequence) for sequence in problem.sequences])
    exact, operations = _computed(driver, mode, problem, "none")
    rounded = {}
    for precision, block in blocks.items():
        rounded[precision], more = _computed(_driver(variant, block, mesh, mode, rows), mode, problem, "device")
        operations += more
    if exact.shape != expected.shape:
        shapes = f"rows {list(exact.shape)}, the reference made {list(expected.shape)}"
        return CaseResult(
            variant=variant.name, feature=variant.feature, case=f"{mode} {rows}", status="failed", detail=shapes
        )
    alike = {precision: pcc(actual, expected) for precision, actual in rounded.items()}
    wrong = []
    if departure := first_departure(exact, expected, problem.names, atol=variant.tolerance):
        wrong.append(
            f"in float32 not within {variant.tolerance:g}: {departure}. "
            + likeness(exact, expected, problem.names, variant.tolerance)
        )
    for precision, least in LEAST_PCC.items():
        if not alike[precision] >= least:
            where = largest_departure(rounded[precision], expected, problem.names)
            wrong.append(f"pcc {alike[precision]:.6f} in {precision}, {least} is asked; largest departure: {where}")
    return CaseResult(
        variant=variant.name,
        feature=variant.feature,
        case=f"{mode} {rows}",
        status="failed" if wrong else "passed",
        difference=max_difference(exact, expected),
        pcc=alike,
        operations=operations,
        detail="; ".join(wrong),
    )


def _switched_off(
    variant: Variant, plain: Any, reference: Reference, mesh: Any, cases: list[tuple[Mode, int]]
) -> CaseResult:
    """Passed where the block without the feature departs from the reference with it in each mode, beyond the tolerance."""
    alike = []
    for mode, rows in cases:
        driver = _driver(variant, plain, mesh, mode, rows)
        problem = driver.problem(mode)
        expected = problem.rows_of([reference(sequence) for sequence in problem.sequences])
        try:
            actual, _ = _computed(driver, mode, problem, "none")
        except Exception as error:
            return _failed(variant, "switched off", error)
        if actual.shape == expected.shape and max_difference(actual, expected) <= variant.tolerance:
            alike.append(f"{mode} {rows}")
    return CaseResult(
        variant=variant.name,
        feature=variant.feature,
        case="switched off",
        status="failed" if alike else "passed",
        detail=f"{variant.feature} makes no difference in {', '.join(alike)}" if alike else "",
    )


def _failed(variant: Variant, case: str, error: Exception) -> CaseResult:
    """`refused` for what ttnn or a plan does not accept, `error` for anything else."""
    return CaseResult(
        variant=variant.name,
        feature=variant.feature,
        case=case,
        status="refused" if isinstance(error, TttError) else "error",
        detail=f"{type(error).__name__}: {error}",
    )


def seeded(role: str, *shape: int, scale: float | None = None) -> torch.Tensor:
    """A weight that is the same whenever it is asked for.

    A matrix is as torch.nn.Linear begins, uniform within 1/√columns, a vector normal around 1, as norms have it, or with `scale`
    around 0. Of a gated product 4 bits a weight then keep 0.992 to 0.996; of normal weights it is 0.987.
    """
    seed = sum(ord(letter) * (place + 1) for place, letter in enumerate(role)) + sum(shape)
    generator = torch.Generator().manual_seed(seed)
    if len(shape) > 1:
        size = shape[-1] ** -0.5 * (1.0 if scale is None else scale)
        matrix: torch.Tensor = (2 * torch.rand(*shape, generator=generator) - 1) * size
        return matrix
    values = torch.randn(*shape, generator=generator)
    return 1 + 0.2 * values if scale is None else scale * values
