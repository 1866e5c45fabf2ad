"""What a user changes of a plan, operation by operation.

`{"qkv_matmul": {"in0_block_w": 4}}` holds in both modes, `{"decode.qkv_matmul": {...}}` in one. An operation is called by
its own name or by its name in the whole layer (`attention.qkv_matmul`). A field is one of the pattern (`pattern` chooses it
by name), or what the operation computes with: `weight_dtype`, `output_dtype`, `fidelity`, `fp32_accumulate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from difflib import get_close_matches
from typing import Any, get_args

from ttt_core import PlacementError
from ttt_hw.compute import ComputeKernel, Fidelity, matmul_kernel
from ttt_hw.patterns import PATTERNS
from ttt_hw.patterns.base import Pattern
from ttt_hw.planner import candidates_of, first_problem, legal_options
from ttt_hw.records import Board
from ttt_hw.requests import BlockRequest, OpRequest, Stored
from ttt_hw.transfer import DType

Overrides = Mapping[str, Mapping[str, Any]]

MODES = ("prefill", "decode")
PRECISION = ("weight_dtype", "output_dtype", "fidelity", "fp32_accumulate")
_NEAREST = 64  # how far a legal number is looked for


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
        matches = [op.name for op in block.ops if op.name == name or op.name.endswith(f".{name}")]
        if not matches:
            known = [op.name for op in block.ops]
            short = {each.rpartition(".")[2]: each for each in known}
            close = get_close_matches(name, [*known, *short], n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise PlacementError(
                f"hw_config_overrides names {key!r}, which is no operation of this block in {block.mode}: it has "
                f"{', '.join(known)}.{hint}"
            )
        for match in matches:
            found.setdefault(match, {}).update(values)
    return found


def with_precision(block: BlockRequest, overrides: Mapping[str, Mapping[str, Any]]) -> BlockRequest:
    """The block with the overrides of what its operations compute with; a weight's own type follows."""
    if not any(set(PRECISION) & set(values) for values in overrides.values()):
        return block
    ops, stored = [], {each.name: each for each in block.stored}
    for op in block.ops:
        values = {name: value for name, value in overrides.get(op.name, {}).items() if name in PRECISION}
        changed = _precise(op, values)
        for name, type_ in zip(changed.inputs, changed.operands, strict=True):
            if name in stored:
                stored[name] = Stored(name=name, type=type_, kind=stored[name].kind)
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
        changed = replace(op, **changes)
        kernel: ComputeKernel = changed.kernel or matmul_kernel(changed.weight_dtype)
        if values.get("fidelity", "lofi") not in get_args(Fidelity):
            raise PlacementError(
                f"{op.name}: fidelity={values['fidelity']!r} is unknown; there are {', '.join(get_args(Fidelity))}."
            )
        changes["kernel"] = replace(
            kernel,
            fidelity=values.get("fidelity", kernel.fidelity),
            fp32_accumulate=bool(values.get("fp32_accumulate", kernel.fp32_accumulate)),
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
    legal = [c for c in candidates if first_problem(c, op, board) is None]
    wanted = {name: plain(value) for name, value in values.items() if name != "pattern"}
    if not wanted:
        return tuple(legal)
    chosen = next((o.pattern for o in legal_options(op, board) if o.pattern in legal), None)
    base = chosen or (legal or candidates)[0]
    having = [c for c in candidates if all(hasattr(c, name) for name in wanted)]
    if not having:
        for name in wanted:
            if not any(hasattr(c, name) for c in candidates):
                known = sorted({field.name for c in {type(c): c for c in candidates}.values() for field in fields(c)})
                raise PlacementError(
                    f"{where}: there is no field {name!r}; there are pattern, {', '.join((*known, *PRECISION))}."
                )
    exact = tuple(c for c in legal if all(getattr(c, name, None) == value for name, value in wanted.items()))
    if exact:
        return exact
    return (_changed(base if base in having else having[0], op, wanted, board, where),)


def _changed(base: Pattern[Any], op: OpRequest, wanted: Mapping[str, Any], board: Board, where: str) -> Pattern[Any]:
    """The planner's own config with the wanted values, if that is legal."""
    for name, value in wanted.items():
        current = getattr(base, name)
        if type(value) is not type(current) and current is not None:
            raise PlacementError(f"{where}: {name}={value!r} must be of the kind of {current!r}.")
    changed = replace(base, **wanted)
    problem = first_problem(changed, op, board)
    if problem is None:
        return changed
    name, value = next(iter(wanted.items()))
    nearest = _nearest(base, op, wanted, name, value, board)
    hint = f" Nearest legal {name}: {nearest}." if nearest is not None else " Leave it to the planner."
    raise PlacementError(f"{where}: {name}={value}: {problem}.{hint}")


def _nearest(base: Pattern[Any], op: OpRequest, wanted: Mapping[str, Any], name: str, value: Any, board: Board) -> Any:
    if not isinstance(value, int):
        legal = {getattr(o.pattern, name, None) for o in legal_options(op, board) if type(o.pattern) is type(base)}
        close = sorted((each for each in legal if each is not None), key=str)
        return ", ".join(map(str, close[:4])) or None
    for distance in range(1, _NEAREST):
        for nearby in (value - distance, value + distance):
            if nearby > 0 and first_problem(replace(base, **{**wanted, name: nearby}), op, board) is None:
                return nearby
    return getattr(base, name)


def plain(value: Any) -> Any:
    """A value as patterns hold it: pairs are tuples, and people write a pair as 8x4."""
    if isinstance(value, list):
        return tuple(plain(each) for each in value)
    if isinstance(value, str) and value.count("x") == 1 and all(part.isdigit() for part in value.split("x")):
        return tuple(int(part) for part in value.split("x"))
    return value
