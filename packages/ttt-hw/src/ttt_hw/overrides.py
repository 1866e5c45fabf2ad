"""What a user changes of a plan, operation by operation.

`{"qkv_matmul": {"inner": 4}}` holds in both modes, `{"decode.qkv_matmul": {...}}` in one. An operation is called by its own
name or by its name in the whole layer (`attention.qkv_matmul`); one that is done in pieces (`scores.0`, `scores.1`) by the
name of the whole for all of them, or by that of a piece. A field is one of the pattern (`pattern` chooses it by name), or
what the operation computes with: `weight_dtype`, `output_dtype` (also `dtype`, as ttnn calls it), `fidelity`,
`fp32_accumulate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ttt_core import PlacementError
from ttt_hw.compute import ComputeKernel, Fidelity, matmul_kernel
from ttt_hw.options import candidates_of, first_problem, legal_options, why_no_option
from ttt_hw.patterns import PATTERNS
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import BlockRequest, OpRequest, Stored, TensorType
from ttt_hw.transfer import DType

__all__ = ["Overrides", "check_names", "concerning"]

Overrides = Mapping[str, Mapping[str, Any]]
"""Values of fields by operation, of one mode or both: `{"decode.qkv_matmul": {"output_dtype": "bfloat16"}}`."""

MODES = ("prefill", "decode")
_READ_AS = {0: ("input_dtype", "a_dtype"), 1: ("b_dtype",)}
"""The fields that say as what an operation reads its inputs, by position."""
PRECISION = ("weight_dtype", "output_dtype", "fidelity", "fp32_accumulate")
_AS_PRECISION = {"dtype": "output_dtype"}
"""What ttnn calls the dtype of a result."""
_NEAREST = 64  # how far a legal number is looked for
_SHOWN = 4  # legal values of a field that is no number
_TTNN_NAMES = {
    "in0_block_w": "inner",
    "per_core_M": "per_core",
    "per_core_N": "per_core",
    "out_block_h": "block",
    "out_block_w": "block",
    "out_subblock_h": "subblock",
    "out_subblock_w": "subblock",
    "subblock_w": "subblock",
    "q_chunk_size": "q_chunk",
    "k_chunk_size": "k_chunk",
    "compute_with_storage_grid_size": "grid",
}
"""What a reader of ttnn's program configs may write, and the field that says it here."""


def names_of(operation: str) -> tuple[str, ...]:
    """What an operation may be called, the longest first: `attention.scores.0` is also `scores.0`, and as a piece of them
    `attention.scores` and `scores`, but never `0`."""
    words = operation.split(".")
    whole = words[:-1] if words[-1].isdigit() and len(words) > 1 else words
    names = [".".join(each[start:]) for each in (words, whole) for start in range(len(whole))]
    return tuple(dict.fromkeys(names))


def concerning(overrides: Overrides, operations: Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """The overrides that name one of these operations, in whatever mode."""
    known = {name for operation in operations for name in names_of(operation)}
    return {key: values for key, values in overrides.items() if _without_mode(key) in known}


def check_names(overrides: Overrides, operations: Iterable[str]) -> None:
    """Raise PlacementError for an override that names no operation of a model, with the nearest that is one."""
    known = {name for operation in operations for name in names_of(operation)}
    for key in overrides:
        if _without_mode(key) not in known:
            close = get_close_matches(_without_mode(key), sorted(known), n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            short = sorted(name for name in known if "." not in name)
            raise PlacementError(
                f"hw_config_overrides names {key!r}, which is no operation of the model; there are {', '.join(short)}.{hint}"
            )


def _without_mode(key: str) -> str:
    mode, _, rest = key.partition(".")
    return rest if mode in MODES else key


def for_mode(overrides: Overrides, block: BlockRequest) -> dict[str, dict[str, Any]]:
    """The overrides that concern a block's mode, by the full names of its operations.

    Errors: PlacementError for a name that is no operation of the block, with the nearest that is.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, values in overrides.items():
        mode, _, rest = key.partition(".")
        if mode in MODES and mode != block.mode:
            continue
        name = rest if mode in MODES else key
        matches = [op.name for op in block.ops if name in names_of(op.name)]
        if not matches:
            known = [op.name for op in block.ops]
            close = get_close_matches(name, [each for op in known for each in names_of(op)], n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise PlacementError(
                f"hw_config_overrides names {key!r}, which is no operation of this block in {block.mode}: it has "
                f"{', '.join(known)}.{hint}"
            )
        for match in matches:
            found.setdefault(match, {}).update(
                {_AS_PRECISION.get(field, field): each for field, each in values.items()}
            )
    return found


def with_precision(block: BlockRequest, overrides: Mapping[str, Mapping[str, Any]]) -> BlockRequest:
    """The block with the overrides of what its operations compute with. A weight's own type follows, and what the readers of a
    result take.

    Errors: PlacementError for a dtype or fidelity that there is not, or a result that its readers do not take.
    """
    if not any(set(PRECISION) & set(values) for values in overrides.values()):
        return block
    ops, stored = [], {each.name: each for each in block.stored}
    made: dict[str, TensorType] = {}
    for op in block.ops:
        values = {name: value for name, value in overrides.get(op.name, {}).items() if name in PRECISION}
        changed = _precise(_reading(op, made), values)
        for name, type_ in zip(changed.inputs, changed.operands, strict=True):
            if name in stored:
                stored[name] = Stored(name=name, type=type_, kind=stored[name].kind)
        made.update({name: type_ for name, type_ in changed.results.items() if type_ != op.results[name]})
        if left := [name for name in changed.results if name in made and name in block.outputs]:
            raise PlacementError(
                f"{op.name}: output_dtype={made[left[0]].dtype} would change what leaves the block, which is read as "
                f"{op.results[left[0]].dtype}. Leave it."
            )
        ops.append(changed)
    return replace(block, ops=tuple(ops), stored=tuple(stored.values()))


def allowed_patterns(
    block: BlockRequest, overrides: Mapping[str, Mapping[str, Any]], board: Board
) -> dict[str, tuple[Pattern[Any], ...]]:
    """For each overridden operation the configs that have the values asked for.

    Errors: PlacementError for a field that the pattern does not have, or a value that is not legal: it names the operation,
    the field, the rule, and the nearest legal value.
    """
    found = {}
    for op in block.ops:
        values = {name: value for name, value in overrides.get(op.name, {}).items() if name not in PRECISION}
        if values:
            found[op.name] = _matching(op, block, values, board)
    return found


def _reading(op: OpRequest, made: Mapping[str, TensorType]) -> OpRequest:
    """An operation that reads results of other dtypes than it was listed with."""
    known = {field.name for field in fields(op)}
    for position, (name, wanted) in enumerate(zip(op.inputs, op.operands, strict=True)):
        if name not in made or made[name] == wanted:
            continue
        field = next((field for field in _READ_AS.get(position, ()) if field in known), None)
        if field is None:
            raise PlacementError(
                f"{name}: output_dtype={made[name].dtype} is not what {op.name} reads, {wanted.dtype}. Leave it."
            )
        change: dict[str, Any] = {field: made[name].dtype}
        op = replace(op, **change)
    return op


def _precise(op: OpRequest, values: Mapping[str, Any]) -> OpRequest:
    if not values:
        return op
    known = {field.name for field in fields(op)}
    changes: dict[str, Any] = {}
    for name in ("weight_dtype", "output_dtype"):
        if name in values:
            if name not in known:
                raise PlacementError(f"{op.name}: it has no {name} to override.")
            if values[name] not in get_args(DType):
                raise PlacementError(
                    f"{op.name}: {name}={values[name]!r} is no dtype; there are {', '.join(get_args(DType))}."
                )
            changes[name] = values[name]
    if "fidelity" in values or "fp32_accumulate" in values:
        if "kernel" not in known:
            raise PlacementError(f"{op.name}: its kernel has no fidelity to override.")
        if values.get("fidelity", "lofi") not in get_args(Fidelity):
            raise PlacementError(
                f"{op.name}: fidelity={values['fidelity']!r} is unknown; there are {', '.join(get_args(Fidelity))}."
            )
        if not isinstance(values.get("fp32_accumulate", True), bool):
            raise PlacementError(f"{op.name}: fp32_accumulate={values['fp32_accumulate']!r} must be true or false.")
        now = {name: changes.get(name, getattr(op, name)) for name in known}
        kernel: ComputeKernel = now["kernel"] or matmul_kernel(now["weight_dtype"])
        changes["kernel"] = replace(
            kernel,
            fidelity=values.get("fidelity", kernel.fidelity),
            fp32_accumulate=values.get("fp32_accumulate", kernel.fp32_accumulate),
        )
    return replace(op, **changes)


def _matching(op: OpRequest, block: BlockRequest, values: Mapping[str, Any], board: Board) -> tuple[Pattern[Any], ...]:
    where = f"override of {block.mode}.{op.name} on {board.name}"
    candidates = list(candidates_of(op, board))
    kinds = {name: kind for name, kind in PATTERNS.items() if isinstance(op, kind.serves)}
    if "pattern" in values:
        name = values["pattern"]
        if name not in kinds:
            raise PlacementError(f"{where}: pattern={name!r} does not serve it; {', '.join(kinds)} do.")
        candidates = [candidate for candidate in candidates if type(candidate) is kinds[name]]
        if not candidates:
            raise PlacementError(f"{where}: {name} has no legal config for {op}. Leave the pattern to the planner.")
    if not candidates:
        raise PlacementError(why_no_option(op, board, None))
    legal = [c for c in candidates if first_problem(c, op, board) is None]
    wanted = {name: plain(value) for name, value in values.items() if name != "pattern"}
    if not wanted:
        if not legal:
            problem = first_problem(candidates[0], op, board)
            raise PlacementError(
                f"{where}: {values['pattern']} cannot run it: {problem}. Leave the pattern to the planner."
            )
        return tuple(legal)
    having = [c for c in candidates if wanted.keys() <= _fields(c)]
    if not having:
        raise PlacementError(f"{where}: {_no_field(wanted, candidates)}")
    _check_kinds(having, wanted, where)
    having = [c for c in having if not _unlike(c, wanted)]
    chosen = [o.pattern for o in legal_options(op, board) if o.pattern in having]
    base = next(iter(chosen or [c for c in legal if c in having] or having))
    exact = [c for c in legal if c in having and _has(c, wanted)]
    changed = [replace(c, **wanted) for c in chosen]  # as the planner would have it but for these values
    found = dict.fromkeys([*exact, *(c for c in changed if first_problem(c, op, board) is None)])
    if not found:
        raise PlacementError(f"{where}: {_illegal(base, op, wanted, board)}")
    return tuple(found)


def _fields(pattern: Pattern[Any]) -> set[str]:
    return {field.name for field in fields(pattern)}


def _has(pattern: Pattern[Any], wanted: Mapping[str, Any]) -> bool:
    return all(getattr(pattern, name) == value for name, value in wanted.items())


def _no_field(wanted: Mapping[str, Any], candidates: Iterable[Pattern[Any]]) -> str:
    """Why no pattern can be told what is wanted: a field that none has, or fields of different patterns."""
    by_pattern = {type(c).__name__: sorted(_fields(c)) for c in candidates}
    known = sorted({name for names in by_pattern.values() for name in names})
    for name in wanted:
        if name not in known:
            close = [_TTNN_NAMES[name]] if _TTNN_NAMES.get(name) in known else get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            return f"there is no field {name!r}; there are pattern, {', '.join((*known, *PRECISION))}.{hint}"
    having = "; ".join(f"{pattern} has {', '.join(names)}" for pattern, names in by_pattern.items())
    return f"no pattern has {' and '.join(wanted)} together: {having}."


def _check_kinds(having: Sequence[Pattern[Any]], wanted: Mapping[str, Any], where: str) -> None:
    """Errors: PlacementError for values of another kind than every pattern has, or words that are not among those it knows."""
    problems = [_unlike(c, wanted) for c in having]
    if all(problems):
        raise PlacementError(f"{where}: {problems[0]}.")


def _unlike(pattern: Pattern[Any], wanted: Mapping[str, Any]) -> str:
    """The value that cannot be one of a field; empty where each can."""
    for name, value in wanted.items():
        current, hint = getattr(pattern, name), _hints(type(pattern))[name]
        if _fits(value, hint):
            continue
        if get_origin(hint) is Literal:
            return f"{name}={_written(value)} is none of {', '.join(map(_written, get_args(hint)))}"
        return f"{name}={_written(value)} must be of the kind of {hint if current is None else _written(current)}"
    return ""


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type: a number, a word, a pair, or one of several of these."""
    kind = get_origin(hint)
    if kind is Literal:
        return value in get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if kind is tuple:
        kinds = get_args(hint)
        return type(value) is tuple and len(value) == len(kinds) and all(map(_fits, value, kinds))
    return type(value) is hint


@cache
def _hints(pattern: type[Pattern[Any]]) -> dict[str, Any]:
    return get_type_hints(pattern)


def _illegal(base: Pattern[Any], op: OpRequest, wanted: Mapping[str, Any], board: Board) -> str:
    """The rule that the planner's own config breaks with the wanted values, and what to take instead."""
    problem = first_problem(replace(base, **wanted), op, board)
    name = _culprit(base, op, wanted, board)
    nearest = _nearest(base, op, wanted, name, board)
    hint = f" Nearest legal {name}: {nearest}." if nearest else " Leave it to the planner."
    return f"{name}={_written(wanted[name])}: {problem}.{hint}"


def _written(value: Any) -> str:
    """As people write it: a pair is 8x4."""
    if isinstance(value, tuple) and len(value) == 2:
        return "x".join(map(str, value))
    return repr(value)


def _culprit(base: Pattern[Any], op: OpRequest, wanted: Mapping[str, Any], board: Board) -> str:
    """The field without which the others would be legal, or that is illegal alone; else the first."""
    for name in wanted:
        others = {other: value for other, value in wanted.items() if other != name}
        if first_problem(replace(base, **others), op, board) is None:
            return name
    alone = (name for name in wanted if first_problem(replace(base, **{name: wanted[name]}), op, board))
    return next(alone, next(iter(wanted)))


def _nearest(base: Pattern[Any], op: OpRequest, wanted: Mapping[str, Any], name: str, board: Board) -> str:
    """Legal values of one field beside the others that are wanted: the nearest number, the nearest few pairs or texts."""
    value, others = wanted[name], {other: each for other, each in wanted.items() if other != name}
    offered = [c for c in candidates_of(op, board, type(base)) if _has(c, others)]
    legal = {getattr(c, name) for c in offered if first_problem(c, op, board) is None} - {None}
    if isinstance(value, int):
        for distance in range(1, _NEAREST):
            for nearby in (value - distance, value + distance):
                if nearby in legal or (
                    nearby > 0 and first_problem(replace(base, **{**wanted, name: nearby}), op, board) is None
                ):
                    return str(nearby)
        return str(
            min((each for each in legal if isinstance(each, int)), key=lambda each: abs(each - value), default="")
        )
    if isinstance(value, tuple):
        ordered = sorted(legal, key=lambda pair: (sum(abs(a - b) for a, b in zip(pair, value, strict=True)), pair))
        return _written(ordered[0]) if ordered else ""
    return ", ".join(sorted(map(_written, legal))[:_SHOWN])


def plain(value: Any) -> Any:
    """A value as patterns hold it: pairs are tuples, and people write a pair as 8x4."""
    if isinstance(value, list):
        return tuple(plain(each) for each in value)
    if isinstance(value, str) and value.count("x") == 1 and all(part.isdigit() for part in value.split("x")):
        return tuple(int(part) for part in value.split("x"))
    return value
