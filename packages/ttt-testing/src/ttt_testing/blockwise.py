"""Two models on the same tokens, block by block: where the first departs from its reference.

A block's place in the reference is found by the names of the tensors that its weights were read from: weights from
`model.layers.0.mlp.up_proj.weight` and `model.layers.0.mlp.down_proj.weight` make it `model.layers.0.mlp`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from math import prod
from typing import Any

import torch

from ttt_core import DeviceError, ShapeError, SpecError, TttError, WeightError
from ttt_hw import current_backend, download
from ttt_shard_dsl import TILE
from ttt_testing._driver import Driver, Read
from ttt_testing._finding import ancestors_of, block_name, parts, path_of, role_of, sizes_of, weights_of
from ttt_testing._problem import Place, Problem
from ttt_testing._tracked import tracked_reference
from ttt_testing.metrics import max_difference, pcc
from ttt_testing.values import Rounding, shadow

__all__ = ["BlockDifference", "BlockwiseComparison", "compare_blocks", "compare_with_reference"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockDifference:
    """One block's result beside its reference's. `largest` is the largest value of the reference's, which sets the scale.

    `close`: in float32 the difference is within the tolerance, a share of `largest`; where values are rounded, pcc is enough.
    """

    path: str
    block: str
    reference: str
    max_difference: float
    largest: float
    pcc: float
    close: bool

    def __str__(self) -> str:
        verdict = "close" if self.close else "departs"
        where = f"{f'{self.path} ({self.block})' if self.path else self.block}, beside {self.reference}"
        return f"{where}: max difference {self.max_difference:.3g} of {self.largest:.3g}, pcc {self.pcc:.6f}, {verdict}"


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockwiseComparison:
    """Every block that has a place in the reference, in the order in which the model has run them."""

    backend: str
    values: str
    rounding: str | None
    tokens: int
    blocks: tuple[BlockDifference, ...]

    @property
    def first_departure(self) -> BlockDifference | None:
        return next((block for block in self.blocks if not block.close), None)

    def to_json(self) -> dict[str, Any]:
        first = self.first_departure
        return {**asdict(self), "first_departure": None if first is None else first.path}


def reference_path(module: Any, reference: torch.nn.Module) -> str | None:
    """The place in a torch model that a module's weights come from; None if they name none. "" is the whole."""
    return _path(module, dict(reference.named_modules()))


def compare_with_reference(
    module: Any,
    x: torch.Tensor,
    reference: Callable[..., Any] | None = None,
    *,
    model: Any = None,
    device: Any = None,
    rounding: Rounding = "none",
    tolerance: float = 1e-3,
    least_pcc: float = 0.99,
) -> BlockDifference:
    """A module's prefill of x [1, tokens, width], or of ids [1, tokens], beside what a torch module or a function makes of it.

    Without a reference: the module that the spec's reference_path tells, or the names of the weights, in the model of the
    checkpoint that the weights come from; without such, the module's own float32 values, beside those that are rounded as on
    the device (`rounding` is then "device").
    `model` is what the module is part of, if it is: its input then lies where that leaves it. `device` is the mesh, found by
    the module's weights unless given. Errors: SpecError for a module that is no part of the model, or that has no reference on a
    device that computes; WeightError for weights that were left out.
    """
    mesh = _mesh(module) if device is None else device
    short = -x.shape[1] % TILE  # of whole tiles, which is what a model gives its layers; nothing sees rows behind it
    tokens = x.shape[1] + short
    path = "" if model is None else path_of(model, module)
    if path is None:
        raise SpecError(
            f"{type(module).__name__} is no part of this {type(model).__name__}: its attributes do not lead to it."
        )
    above = () if model is None else ancestors_of(model, path)
    driver = Driver(
        module,
        mesh,
        role=role_of(module),
        sizes=sizes_of(module),
        rows=tokens,
        context=tokens,
        ancestors=above,
    )
    driver.learn_entries("prefill")
    sequence = torch.nn.functional.pad(x[0], (0, 0) * (x.ndim - 2) + (0, short))
    problem = Problem((sequence,), tuple(Place(0, row, f"row {row}") for row in range(tokens)))
    name = str(getattr(reference, "__name__", type(reference).__name__))
    if reference is None and (tracked := tracked_reference(module, reference_path)) is not None:
        name, reference = tracked
    if reference is not None:
        with torch.no_grad():
            expected = _first(reference(x))[0].float()
    else:
        expected, rounding, name = (
            _own_values(module, driver, problem, mesh)[: x.shape[1]],
            "device",
            "its float32 values",
        )
    with _reading(mesh, rounding) as read:
        actual = _run(driver, problem, read, module, alone=model is None)
    rounded = rounding == "device" or current_backend(mesh) != "mock"
    return _difference(path, module, name, actual, expected, None if rounded else tolerance, least_pcc)


def _own_values(module: Any, driver: Driver, problem: Problem, mesh: Any) -> torch.Tensor:
    if current_backend(mesh) != "mock":
        raise SpecError(
            f"{type(module).__name__} has no reference: its spec has no reference_path, and its weights are from no checkpoint. "
            "Give one: a torch module, or a function."
        )
    with _reading(mesh, "none") as read:
        return _run(driver, problem, read, module, alone=True)


def _run(driver: Driver, problem: Problem, read: Read, module: Any, *, alone: bool) -> torch.Tensor:
    try:
        return driver.run("prefill", problem, read)
    except WeightError:
        raise
    except TttError as error:
        if not alone:
            raise
        raise type(error)(
            f"{error} Given was x interleaved in DRAM; if this {type(module).__name__} is part of a model, whose plan may put "
            "its input elsewhere, say of which: compare_with_reference(x, model=model)."
        ) from error


def compare_blocks(
    model: Any,
    reference: torch.nn.Module,
    ids: torch.Tensor,
    *,
    rounding: Rounding = "none",
    tolerance: float = 1e-3,
    least_pcc: float = 0.99,
) -> BlockwiseComparison:
    """Both models on ids [1, tokens], each block's result beside that of its place in the reference.

    The model is a CausalLM whose weights are named as the reference's. On a mock, golden functions compute its values.
    Errors: SpecError where no weight's name leads to a module of the reference.
    """
    mesh = _mesh(model)
    backend = current_backend(mesh)
    places = _places(model, dict(reference.named_modules()), reference)
    expected = _reference_results(reference, ids, {theirs for _, _, theirs in places})
    heads = [module for _, module, _ in places if role_of(module) == "head"]
    rounded = rounding == "device" or backend != "mock"
    blocks: list[BlockDifference] = []
    with ExitStack() as stack:
        read = stack.enter_context(_reading(mesh, rounding))

        def compare(path: str, module: Any, theirs: str, result: Any) -> None:
            limit = None if rounded else tolerance
            wanted = expected["" if module in heads else theirs]  # a cap of logits is no part of their head
            blocks.append(_difference(path, module, theirs, read(result), wanted, limit, least_pcc))

        for path, module, theirs in places:
            stack.enter_context(_heard(module, partial(compare, path, module, theirs)))
        model.prefill_forward(ids.numpy(), logits="all")
    return BlockwiseComparison(
        backend=backend,
        values="golden" if backend == "mock" else "device",
        rounding=rounding if backend == "mock" else None,
        tokens=ids.shape[1],
        blocks=tuple(blocks),
    )


def _places(model: Any, known: Mapping[str, Any], reference: torch.nn.Module) -> list[tuple[str, Any, str]]:
    """Path, module and place in the reference of all that have one; of those that share one the outermost has it."""
    found: list[tuple[str, Any, str]] = [("", model, "")]
    for path, module in parts(model):
        if not path or not hasattr(module, "__dict__") or not weights_of(module):
            continue
        theirs = _head_path(known, reference) if role_of(module) == "head" else _path(module, known)
        if theirs and not any(theirs == taken and (not at or path.startswith(f"{at}.")) for at, _, taken in found):
            found.append((path, module, theirs))
    if all(module is model or role_of(module) == "head" for _, module, _ in found):
        raise SpecError(
            f"no weight of this {type(model).__name__} has a name that leads to a module of {type(reference).__name__}: build it "
            "from the reference's own checkpoint."
        )
    return found


def _head_path(known: Mapping[str, Any], reference: Any) -> str | None:
    """A head's weight may be the embedding's: the reference says what makes its logits."""
    get = getattr(reference, "get_output_embeddings", None)
    head = None if get is None else get()
    return next((name for name, module in known.items() if module is head), None)


def _path(module: Any, known: Mapping[str, Any]) -> str | None:
    tracked = getattr(getattr(module, "spec", None), "reference_path", None)
    if tracked in known:
        return str(tracked)
    names = [word for weight in weights_of(module) for word in str(getattr(weight, "name", "")).split(" + ")]
    owners = {owner for name in names if (owner := name.split(" ")[0].rpartition(".")[0]) in known and owner}
    if not owners:
        return None
    split = [owner.split(".") for owner in owners]
    shared = next(
        (at for at, level in enumerate(zip(*split, strict=False)) if len(set(level)) > 1), min(map(len, split))
    )
    return ".".join(split[0][:shared])


def _reference_results(reference: torch.nn.Module, ids: torch.Tensor, paths: set[str]) -> dict[str, torch.Tensor]:
    """[tokens, width] of each of those modules in one forward."""
    found: dict[str, torch.Tensor] = {}

    def keep(path: str, _module: Any, _inputs: Any, result: Any) -> None:
        rows = _first(result).float()
        found[path] = rows.reshape(-1, rows.shape[-1])

    handles = [
        module.register_forward_hook(partial(keep, path)) for path, module in reference.named_modules() if path in paths
    ]
    try:
        with torch.no_grad():
            reference(ids)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _first(result: Any) -> torch.Tensor:
    result = getattr(result, "logits", result)
    return torch.as_tensor(result[0] if isinstance(result, (tuple, list)) else result)


@contextmanager
def _heard(module: Any, listener: Callable[[Any], None]) -> Iterator[None]:
    """Give each result of the module's prefill to the listener before anything else sees it."""
    own = vars(module).get("prefill_forward")
    forward = module.prefill_forward

    def call(*args: Any, **kwargs: Any) -> Any:
        result = forward(*args, **kwargs)
        listener(result)
        return result

    module.prefill_forward = call
    try:
        yield
    finally:
        if own is None:
            del module.prefill_forward
        else:
            module.prefill_forward = own


@contextmanager
def _reading(mesh: Any, rounding: Rounding) -> Iterator[Read]:
    if current_backend(mesh) != "mock":
        yield lambda tensor: torch.from_numpy(download(tensor)).float()
        return
    with shadow(rounding) as values:
        yield values.to_torch


def _difference(
    path: str,
    module: Any,
    theirs: str,
    result: torch.Tensor,
    expected: torch.Tensor,
    tolerance: float | None,
    least_pcc: float,
) -> BlockDifference:
    """`tolerance` None: values are rounded. A prompt that was padded to whole tiles has more rows than the reference's."""
    actual = result.reshape(-1, result.shape[-1])[: len(expected)].float()
    if actual.shape != expected.shape:
        raise ShapeError(
            f"{path or type(module).__name__} made rows {list(actual.shape)}, {theirs or 'the reference'} "
            f"{list(expected.shape)}: they do not compute the same thing."
        )
    off, largest, like = max_difference(actual, expected), float(expected.abs().max()), pcc(actual, expected)
    return BlockDifference(
        path=path,
        block=block_name(module),
        reference=theirs or "the whole",
        max_difference=off,
        largest=largest,
        pcc=like,
        close=like >= least_pcc if tolerance is None else off <= tolerance * largest,
    )


def _mesh(module: Any) -> Any:
    if not (weights := weights_of(module)):
        raise DeviceError(f"{type(module).__name__} has no weights that say on which device it is: give device=mesh.")
    return min(weights, key=lambda weight: prod(getattr(weight, "shape", (1,)))).tensor.device()
