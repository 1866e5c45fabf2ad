"""From what a trial found to what became of each expectation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ttt_core import TttError
from ttt_testing._contract import Recorded, regressions, take
from ttt_testing._plan_entries import entries
from ttt_testing._trial import NotAvailable, Result, Trial
from ttt_testing.compare import first_departure, largest_departure, likeness
from ttt_testing.expectations import PRECISION, Expectation, Status
from ttt_testing.metrics import max_difference, pcc, top_agreement, top_rows

_SLOWEST = 3
_RIGHT = 1e-3  # of the largest value: by how much float32 results may differ when the math is the same


@dataclass(frozen=True, slots=True)
class Verdict:
    status: Status
    got: str
    basis: str
    detail: tuple[str, ...] = field(default=())


def judge_all(trial: Trial, expectations: Iterable[Expectation]) -> list[tuple[Expectation, Verdict]]:
    """Each with its verdict. Where the math departs, precision has nothing to be held to: one fault is one failure."""
    found = {expectation.kind: (expectation, judge(trial, expectation)) for expectation in expectations}
    if "tolerance" in found and found["tolerance"][1].status == "failed":
        for kind in PRECISION & found.keys():
            expectation, verdict = found[kind]
            if verdict.status == "failed":
                reason = f"not available: {verdict.got}, the math departs, see tolerance"
                found[kind] = expectation, Verdict("not available", reason, verdict.basis)
    return list(found.values())


def judge(trial: Trial, expectation: Expectation) -> Verdict:
    """Whether a trial meets an expectation, and if not, what there is to know about it."""
    try:
        return _JUDGES[expectation.kind](trial, expectation)
    except NotAvailable as reason:
        return Verdict("not available", f"not available: {reason}", trial.backend)
    except TttError as refusal:
        if expectation.kind == "runs":
            return Verdict("failed", "refused", f"{trial.backend}, every operation checked by ttnn", (str(refusal),))
        return Verdict("not available", "not available: the forward was refused, see its own item", trial.backend)


def _runs(trial: Trial, expectation: Expectation) -> Verdict:
    count = len(trial.footprint.operations)
    return Verdict("passed", f"{count} operations accepted", f"{trial.backend}, every operation checked by ttnn")


def _tolerance(trial: Trial, expectation: Expectation) -> Verdict:
    result = trial.math
    if wrong := _wrong_shape(result):
        return wrong
    limits = {"atol": expectation.limit, "rtol": expectation.rtol}
    departure = first_departure(result.actual, result.expected, result.rows, **limits)
    got = f"max difference {max_difference(result.actual, result.expected):.3g}"
    if departure is None:
        return Verdict("passed", got, result.basis)
    like = likeness(result.actual, result.expected, result.rows, expectation.limit)
    return Verdict("failed", got, result.basis, (f"first beyond it: {departure}", like))


def _pcc(trial: Trial, expectation: Expectation) -> Verdict:
    result = trial.precision
    if wrong := _wrong_shape(result):
        return wrong
    found = pcc(result.actual, result.expected)
    if expectation.met_by(found):
        return Verdict("passed", f"{found:.6f}", result.basis)
    departure = largest_departure(result.actual, result.expected, result.rows)
    return Verdict("failed", f"{found:.6f}", result.basis, (f"largest departure: {departure}", *_why(trial)))


def _top(k: int) -> Callable[[Trial, Expectation], Verdict]:
    def judge_top(trial: Trial, expectation: Expectation) -> Verdict:
        result = trial.precision
        if wrong := _wrong_shape(result):
            return wrong
        found = top_agreement(result.actual, result.expected, k)
        if expectation.met_by(found):
            return Verdict("passed", f"{found:.4f}", result.basis)
        row = int((~top_rows(result.actual, result.expected, k)).byte().argmax())
        tokens = f"got {result.actual[row].topk(k).indices.tolist()}, expected {int(result.expected[row].argmax())}"
        return Verdict("failed", f"{found:.4f}", result.basis, (f"first: {result.rows[row]}: {tokens}", *_why(trial)))

    return judge_top


def _why(trial: Trial) -> tuple[str, ...]:
    """Math or precision: in float32 the one is left, and on a mock both are known."""
    if trial.backend != "mock":
        return ()
    precision = (f"costliest is {trial.costliest_operation()}", f"weights: {trial.dtypes()}")
    if trial.reference is None:
        return precision
    exact = trial.math
    off = max_difference(exact.actual, exact.expected)
    if off <= _RIGHT * float(exact.expected.abs().max()):
        return (f"in float32 it is right (max difference {off:.3g}): precision costs this", *precision)
    return (
        f"in float32 it departs too (max difference {off:.3g}): the math, not the precision",
        likeness(exact.actual, exact.expected, exact.rows, _RIGHT),
    )


def _memory(trial: Trial, expectation: Expectation) -> Verdict:
    use = trial.footprint
    said = ", ".join(f"{name} {size:,}" for name, size in _shares(trial))
    found = use.dram_bytes / 1e6
    status: Status = "passed" if expectation.met_by(found) else "failed"
    return Verdict(
        status, f"{found:.6g}", "DRAM of a chip at its fullest", () if status == "passed" else (f"bytes: {said}",)
    )


def _shares(trial: Trial) -> list[tuple[str, int]]:
    use = trial.footprint
    shares = [("weights", use.weights), ("cache", use.cache), ("activations", use.activations)]
    return sorted(shares, key=lambda pair: -pair[1])


def _l1(trial: Trial, expectation: Expectation) -> Verdict:
    found = trial.footprint.l1_bytes / 1e3
    if expectation.met_by(found):
        return Verdict("passed", f"{found:.6g}", "L1 of the fullest core")
    where = f"fullest at {trial.footprint.l1_operation}"
    return Verdict("failed", f"{found:.6g}", "L1 of the fullest core", (where,))


def _latency(trial: Trial, expectation: Expectation) -> Verdict:
    time_us, how = trial.time
    return _timed(trial, expectation, time_us / 1e3, f"{time_us / 1e3:.4g}", how)


def _throughput(trial: Trial, expectation: Expectation) -> Verdict:
    time_us, how = trial.time
    found = trial.rows / (time_us / 1e6)
    return _timed(trial, expectation, found, f"{found:.5g}", how)


def _timed(trial: Trial, expectation: Expectation, found: float, got: str, how: str) -> Verdict:
    """Where it is not met, the operations of the plan that take longest."""
    if expectation.met_by(found):
        return Verdict("passed", got, how)
    slowest = ", ".join(map(str, entries(trial.op_times)[:_SLOWEST]))
    return Verdict("failed", got, how, (f"the plan's slowest: {slowest}",) if slowest else ())


def judge_contract(trial: Trial, then: Recorded | None, tolerance: float) -> Verdict:
    """Whether a forward takes as little as was recorded."""
    if then is None:
        return Verdict("failed", "nothing recorded", "the contract", ("record it: suite.record_contract(file)",))
    try:
        now = take(trial)
    except TttError:
        return Verdict("not available", "not available: the forward was refused, see its own item", trial.backend)
    wrong = tuple(regressions(then, now, tolerance))
    time = "time not known" if now.time_us is None else f"{now.time_us:g} µs"
    got = f"{time}, DRAM {now.dram_bytes:,}, L1 {now.l1_bytes:,} bytes"
    if wrong and then.versions != now.versions:
        wrong = (*wrong, f"recorded with {then.versions}; here {now.versions}")
    return Verdict("failed" if wrong else "passed", got, f"recorded, {trial.backend}", wrong)


def _wrong_shape(result: Result) -> Verdict | None:
    if result.actual.shape == result.expected.shape:
        return None
    shapes = f"rows {list(result.actual.shape)}, the reference made {list(result.expected.shape)}"
    return Verdict("failed", shapes, result.basis, ("A reference takes [1, tokens, width] and returns the same rows.",))


_JUDGES: dict[str, Callable[[Trial, Expectation], Verdict]] = {
    "runs": _runs,
    "tolerance": _tolerance,
    "pcc": _pcc,
    "top1": _top(1),
    "top5": _top(5),
    "latency_ms": _latency,
    "tokens_per_second": _throughput,
    "memory_mb": _memory,
    "l1_kb": _l1,
}
