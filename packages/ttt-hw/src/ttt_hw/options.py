"""The ways to run one operation: every config of its patterns in every layout that it accepts, checked and timed.

What is planned before and after it does not matter here; the planner puts these together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from math import prod
from typing import Any

from ttt_hw.estimate import Estimate, estimate
from ttt_hw.layouts import placed
from ttt_hw.patterns import PATTERNS
from ttt_hw.patterns._reshard import Reshard
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import OpRequest, TensorType
from ttt_shard_dsl import LayoutError

__all__ = ["candidates_of", "first_problem", "legal_options"]

COMBINATIONS = 64  # of layouts of an operation's inputs that are tried
PER_LAYOUT = 3  # configs of one operation that are kept where they read and write the same layouts


@dataclass(frozen=True, kw_only=True, slots=True)
class Option:
    """One legal way to run an operation: a config and the layouts that it reads and makes."""

    pattern: Pattern[Any]
    reads: tuple[str, ...]
    results: tuple[str, ...]
    buffers: int
    result_bytes: int
    """L1 of its results on a core."""
    estimate: Estimate
    time_us: float


def legal_options(op: OpRequest, board: Board, allowed: tuple[Pattern[Any], ...] | None = None) -> tuple[Option, ...]:
    """Every way to run an operation on an otherwise empty chip that is worth keeping, fastest first.

    Of those that read and make the same layouts, the fastest is kept, and after it those that take less L1.
    """
    nameless = replace(op, name="op", inputs=tuple(str(op.inputs.index(name)) for name in op.inputs))
    return _options(nameless, board, allowed)


@lru_cache(maxsize=1 << 14)
def _options(op: OpRequest, board: Board, allowed: tuple[Pattern[Any], ...] | None) -> tuple[Option, ...]:
    patterns = candidates_of(op, board) if allowed is None else allowed
    found: dict[object, list[Option]] = {}
    for pattern in patterns:
        for option in _ways(pattern, op, board):
            found.setdefault((option.reads, option.results), []).append(option)
    kept: list[Option] = []
    for same in found.values():
        same.sort(key=lambda option: (option.time_us, option.buffers))
        frontier: list[Option] = []
        for option in same:
            if not frontier or option.buffers < frontier[-1].buffers:
                frontier.append(option)
        kept += frontier[: PER_LAYOUT - 1] + frontier[PER_LAYOUT - 1 :][-1:]  # the last takes the least
    return tuple(sorted(kept, key=lambda option: option.time_us))


def candidates_of(op: OpRequest, board: Board, kind: type[Pattern[Any]] | None = None) -> Iterable[Pattern[Any]]:
    """What the patterns that serve an operation offer for it, or one of them."""
    for each in PATTERNS.values():
        if isinstance(op, each.serves) and kind in (None, each):
            yield from each.candidates(op, board)


def first_problem(pattern: Pattern[Any], op: OpRequest, board: Board) -> str | None:
    """Why a config cannot run an operation, wherever its inputs lie; None if it can. The reason is that of where it likes
    them best.
    """
    try:
        accepted = pattern.accepts(op, board)
    except LayoutError as error:
        return str(error).splitlines()[0]
    problems = (_problem(pattern, op, board, reads) for reads in _combinations(op.inputs, accepted))
    first = next(problems)
    return None if first is None or any(problem is None for problem in problems) else first


def _combinations(inputs: tuple[str, ...], accepted: tuple[tuple[str, ...], ...]) -> Iterable[tuple[str, ...]]:
    """The layouts in which inputs may lie together: the same input lies in one place. Of very many combinations only those
    where all inputs lie alike.
    """
    first = [inputs.index(name) for name in inputs]
    free = [layouts for index, layouts in enumerate(accepted) if first[index] == index]
    if prod(map(len, free)) > COMBINATIONS:
        longest = max(map(len, accepted))
        yield from (tuple(layouts[min(n, len(layouts) - 1)] for layouts in accepted) for n in range(longest))
        return
    order = {index: n for n, index in enumerate(sorted(set(first)))}
    for chosen in product(*free):
        yield tuple(chosen[order[index]] for index in first)


def _problem(pattern: Pattern[Any], op: OpRequest, board: Board, reads: tuple[str, ...]) -> str | None:
    try:
        for text, type_ in zip(reads, op.operands, strict=True):
            placed(text, type_, board)
        problem = next(iter(pattern.problems(op, board, reads)), None)
        if problem is not None:
            return problem
        taken = pattern.circular_buffers(op, board, reads)
        for text, type_ in zip(pattern.results(op, board), op.results.values(), strict=True):
            taken += placed(text, type_, board).bytes_per_core
    except LayoutError as error:
        return str(error).splitlines()[0]
    if taken > board.l1_bytes_per_core:
        return f"its buffers and results take {taken:,} of {board.l1_bytes_per_core:,} bytes of L1 a core"
    return None


def _ways(pattern: Pattern[Any], op: OpRequest, board: Board) -> Iterable[Option]:
    """A config with each combination of layouts that it accepts."""
    try:
        results = pattern.results(op, board)
        result_bytes = sum(
            placed(text, type_, board).bytes_per_core for text, type_ in zip(results, op.results.values(), strict=True)
        )
        accepted = pattern.accepts(op, board)
    except LayoutError:
        return
    for reads in _combinations(op.inputs, accepted):
        try:
            for text, type_ in zip(reads, op.operands, strict=True):
                placed(text, type_, board)
        except LayoutError:
            continue
        if next(iter(pattern.problems(op, board, reads)), None) is not None:
            continue
        buffers = pattern.circular_buffers(op, board, reads)
        if buffers + result_bytes > board.l1_bytes_per_core:
            continue
        time = estimate(pattern.work(op, board, reads), board)
        yield Option(
            pattern=pattern,
            reads=reads,
            results=results,
            buffers=buffers,
            result_bytes=result_bytes,
            estimate=time,
            time_us=time.time_us,
        )


@lru_cache(maxsize=1 << 14)
def best_move(type_: TensorType, source: str, target: str, board: Board) -> tuple[Reshard, int, int, Estimate] | None:
    """The move of a tensor between two layouts, with its buffers, the target's bytes on a core and its time; None: there is
    none.
    """
    reshard = Reshard(source=source, target=target)
    if next(iter(reshard.problems(type_, board)), None) is not None:
        return None
    time = estimate(reshard.work(type_, board), board)
    return reshard, reshard.circular_buffers(type_, board), placed(target, type_, board).bytes_per_core, time


def why_no_option(op: OpRequest, board: Board, allowed: tuple[Pattern[Any], ...] | None) -> str:
    """Why no pattern serves an operation: the first rule that each breaks."""
    reasons = []
    for pattern in list(candidates_of(op, board) if allowed is None else allowed)[:4]:
        reasons.append(f"{pattern}: {first_problem(pattern, op, board)}")
    if not reasons:
        served = ", ".join(name for name, kind in PATTERNS.items() if isinstance(op, kind.serves))
        reasons.append(f"{served or 'no pattern'} offers a config for {type(op).__name__}")
    return f"{op.name} on {board.name}: nothing is legal. " + "; ".join(reasons) + "."
