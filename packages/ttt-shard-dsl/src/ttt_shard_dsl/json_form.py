"""The tree of a layout as JSON that later versions can read: keys in one order, defaults left out, a schema number.

`{"schema": 1, "spec": {"dims": [{"names": ["d"], "places": [{"axis": "core", "block": 64}]}], "memory": "l1"}}` is
`d@core:64 in l1`; a rule is `{"schema": 1, "rule": {"source": {…}, "target": {…}}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from ttt_shard_dsl.errors import LayoutError, nearest
from ttt_shard_dsl.parser import parse, parse_rule
from ttt_shard_dsl.tree import Axis, CoreRange, Cores, Dim, Place, Rule, Spec

__all__ = ["from_json", "to_json"]

SCHEMA = 1
"""Counted up when a document of today would be read differently, or not at all."""

T = TypeVar("T")


def to_json(tree: Spec | Rule, *, indent: int | None = None) -> str:
    """The JSON text of a layout or rule; equal trees have equal texts."""
    import json  # not when the package is imported: it takes long

    return json.dumps(to_data(tree), indent=indent, ensure_ascii=False)


def from_json(text: str) -> Spec | Rule:
    """The layout or rule of a JSON text.

    Errors: `LayoutError` for what is no JSON, another schema, an unknown key, a wrong type, or a tree without a text.
    """
    import json

    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise LayoutError(f"not JSON: {error}", choices="allowed: what to_json writes") from error
    return from_data(data)


def to_data(tree: Spec | Rule) -> dict[str, Any]:
    """The document of `to_json` as dicts and lists, for a place in a larger document."""
    if isinstance(tree, Rule):
        return {"schema": SCHEMA, "rule": {"source": _spec(tree.source), "target": _spec(tree.target)}}
    return {"schema": SCHEMA, "spec": _spec(tree)}


def from_data(data: object) -> Spec | Rule:
    """The layout or rule of a document of `to_data`.

    Errors: as `from_json`.
    """
    if isinstance(data, Mapping) and data.get("schema") != SCHEMA:
        found = f"schema {data['schema']!r} is unknown" if "schema" in data else "the document has no schema"
        raise LayoutError(found, choices=f"allowed: schema {SCHEMA}; a newer ttt-shard-dsl may read others")
    reader = _Object(data, "the document", ("schema", "spec", "rule"))
    if ("spec" in reader.data) == ("rule" in reader.data):
        raise LayoutError("the document has a spec or a rule, one of the two", choices="allowed: spec, rule")
    tree: Spec | Rule
    if "rule" in reader.data:
        rule = _Object(reader.data["rule"], "the rule", ("source", "target"))
        tree = Rule(rule.get("source", _read_spec), rule.get("target", _read_spec))
        same: Spec | Rule = parse_rule(str(tree))
    else:
        tree = reader.get("spec", _read_spec)
        same = parse(str(tree))
    if same != tree:
        raise LayoutError("the tree is not that of any text", str(tree), choices=f"nearest valid: {to_json(same)}")
    return tree


def _spec(spec: Spec) -> dict[str, Any]:
    data: dict[str, Any] = {"dims": [_dim(dim) for dim in spec.dims]}
    if spec.pending:
        data["pending"] = [str(axis) for axis in spec.pending]
    if spec.memory is not None:
        data["memory"] = spec.memory
    if spec.cores is not None:
        cores = {"ranges": [list(r) for r in spec.cores.ranges]}
        flags = {"col": spec.cores.col, "contiguous": spec.cores.contiguous}
        data["cores"] = cores | {flag: True for flag, value in flags.items() if value}
    if spec.dtype is not None:
        data["dtype"] = spec.dtype
    return data


def _dim(dim: Dim) -> dict[str, Any]:
    data: dict[str, Any] = {"names": list(dim.names)} if dim.size is None else {"size": dim.size}
    if dim.pad is not None:
        data["pad"] = dim.pad
    if dim.places:
        data["places"] = [_place(place) for place in dim.places]
    return data


def _place(place: Place) -> dict[str, Any]:
    data: dict[str, Any] = {"axis": str(place.axis)}
    if place.cyclic:
        data["cyclic"] = True
    if place.block is not None:
        data["block"] = place.block
    return data


def _read_spec(data: object, where: str) -> Spec:
    reader = _Object(data, where, Spec._fields)
    return Spec(
        tuple(reader.get("dims", _list(_read_dim))),
        tuple(reader.get("pending", _list(_read_axis), [])),
        reader.get("memory", _text, None),
        reader.get("cores", _read_cores, None),
        reader.get("dtype", _text, None),
    )


def _read_dim(data: object, where: str) -> Dim:
    reader = _Object(data, where, Dim._fields)
    return Dim(
        tuple(reader.get("names", _list(_text), [])),
        reader.get("size", _integer, None),
        reader.get("pad", _integer, None),
        tuple(reader.get("places", _list(_read_place), [])),
    )


def _read_place(data: object, where: str) -> Place:
    reader = _Object(data, where, Place._fields)
    return Place(
        reader.get("axis", _read_axis), reader.get("cyclic", _boolean, False), reader.get("block", _integer, None)
    )


def _read_axis(data: object, where: str) -> Axis:
    name, dot, sub = _text(data, where).partition(".")
    return Axis(name, sub if dot else None)


def _read_cores(data: object, where: str) -> Cores:
    reader = _Object(data, where, Cores._fields)
    return Cores(
        tuple(reader.get("ranges", _list(_read_range))),
        reader.get("col", _boolean, False),
        reader.get("contiguous", _boolean, False),
    )


def _read_range(data: object, where: str) -> CoreRange:
    corners = _list(_integer)(data, where)
    if len(corners) != 4:
        _fail(where, data, "[x0, y0, x1, y1]")
    return CoreRange(*corners)


class _Object:
    """A JSON object of which every key is known."""

    def __init__(self, data: object, where: str, keys: tuple[str, ...]) -> None:
        if not isinstance(data, Mapping):
            _fail(where, data, "an object")
        self.data = data
        self.where = where
        for key in data:
            if key not in keys:
                raise LayoutError(f"'{key}' is not a key of {where}", choices=nearest(str(key), keys))

    def get(self, key: str, read: Callable[[object, str], T], *default: Any) -> T:
        """What `read` makes of a value, or the default; without one the key has to be there."""
        where = key if self.where.startswith("the ") else f"{self.where}.{key}"
        if key in self.data:
            return read(self.data[key], where)
        if not default:
            raise LayoutError(f"{self.where} has no {key}", choices=f"allowed: {where} is always there")
        found: T = default[0]
        return found


def _list(read: Callable[[object, str], T]) -> Callable[[object, str], list[T]]:
    def read_list(data: object, where: str) -> list[T]:
        if not isinstance(data, list):
            _fail(where, data, "a list")
        return [read(item, f"{where}[{index}]") for index, item in enumerate(data)]

    return read_list


def _text(data: object, where: str) -> str:
    if not isinstance(data, str):
        _fail(where, data, "a text")
    return data


def _integer(data: object, where: str) -> int:
    if not isinstance(data, int) or isinstance(data, bool):
        _fail(where, data, "an integer")
    return data


def _boolean(data: object, where: str) -> bool:
    if not isinstance(data, bool):
        _fail(where, data, "true or false")
    return data


def _fail(where: str, data: object, wanted: str) -> NoReturn:
    import json

    raise LayoutError(f"{where} is {json.dumps(data, default=str)}", choices=f"allowed: {wanted}")
