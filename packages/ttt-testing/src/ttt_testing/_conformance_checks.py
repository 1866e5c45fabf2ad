"""The checks of the conformance kit.

Each raises NotKept or an error of ttt for what is wrong, NotImplementedHere for what the module does not offer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import ttnn

from ttt_core import (
    Attention,
    Cached,
    CausalLM,
    Embedding,
    FeedForward,
    Head,
    Layer,
    Norm,
    SpecError,
    UnsupportedOnDevice,
    Weighted,
)
from ttt_hw import current_backend, upload
from ttt_testing._driver import Driver
from ttt_testing._finding import role_of, sizes_of
from ttt_testing.compare import first_departure
from ttt_testing.suite import TestSuite
from ttt_testing.values import shadow

ProtocolName = Literal["norm", "feed_forward", "attention", "layer", "embedding", "head", "causal_lm"]
Ability = Literal["base", "cached", "weighted", "windowed", "paged"]
PROTOCOLS: dict[ProtocolName, type] = {
    "norm": Norm,
    "feed_forward": FeedForward,
    "attention": Attention,
    "layer": Layer,
    "embedding": Embedding,
    "head": Head,
    "causal_lm": CausalLM,
}
_ALL: frozenset[ProtocolName] = frozenset(PROTOCOLS)
_CACHING: frozenset[ProtocolName] = frozenset({"attention", "layer"})
_USERS = 3


class NotImplementedHere(Exception):
    """An ability that the module does not offer; the message says how that shows."""


class NotKept(Exception):
    """The Protocol is not kept; the message says where."""


def require(kept: bool, otherwise: str) -> None:
    if not kept:
        raise NotKept(otherwise)


class Subject:
    """What is checked, on an open mesh."""

    def __init__(
        self, module: Any, reference: Callable[..., Any] | None, mesh: Any, *, tolerance: float, pcc: float
    ) -> None:
        self.module, self.reference, self.mesh, self.tolerance, self.pcc = module, reference, mesh, tolerance, pcc
        self.role = role_of(module)

    def hold(self, mode: Literal["prefill", "decode"], *, rows: tuple[int, ...], pcc: float | None = None) -> None:
        """Values of that mode for each number of rows; with `pcc` their precision."""
        suite = TestSuite(self.module, device=self.mesh)
        for number in rows:
            case = suite.test(self.module, name=f"{number} rows").mode(mode).rows(prefill=number, decode=number)
            if self.reference is not None:
                case.against(self.reference)
            if pcc is None:
                case.tolerance(self.tolerance)
            else:
                case.expect(pcc=pcc)
        report = suite.run()
        wrong = [str(item) for item in report.items if item.status != "passed"]
        require(not wrong, "\n".join(wrong))

    def driver(self, rows: int) -> Driver:
        return Driver(
            self.module, self.mesh, role=self.role, sizes=sizes_of(self.module), rows=rows, context=ttnn.TILE_SIZE
        )

    def need_cache(self) -> None:
        if self.role in ("attention", "model") and not isinstance(self.module, (Cached, CausalLM)):
            raise NotImplementedHere(f"{type(self.module).__name__} has no allocate_cache (ttt_core.Cached)")


def prefill(subject: Subject) -> None:
    subject.hold("prefill", rows=(1, 31, 32, 33, 128))


def decode(subject: Subject) -> None:
    subject.need_cache()
    subject.hold("decode", rows=(1, _USERS, 32))


def precision(subject: Subject) -> None:
    subject.hold("prefill", rows=(64,), pcc=subject.pcc)


def memory(subject: Subject) -> None:
    """Two forwards of each mode: the second starts from what the first left."""

    def held() -> list[int]:
        kinds = (ttnn.BufferType.DRAM, ttnn.BufferType.L1)
        return [int(ttnn.get_memory_view(subject.mesh, kind).total_bytes_allocated_per_bank) for kind in kinds]

    for mode in ("prefill", "decode"):
        if mode == "decode" and subject.role == "attention" and not isinstance(subject.module, Cached):
            continue
        prepare, _cache = subject.driver(_USERS).prepare("prefill" if mode == "prefill" else "decode")
        prepare()()
        before = held()
        prepare()()
        kept = [after - first for after, first in zip(held(), before, strict=True)]
        require(not any(kept), f"a {mode} keeps {kept[0]:,} bytes of DRAM and {kept[1]:,} of L1 in a bank, each time")


def slots(subject: Subject) -> None:
    """A prefill into one user's slot writes that slot, and a decode one row of each."""
    subject.need_cache()
    if current_backend(subject.mesh) != "mock":
        raise NotImplementedHere("this check reads caches from golden values, on a mock")
    driver = subject.driver(_USERS)
    with shadow() as values:
        cache = driver.allocate_cache(_USERS)
        tokens = ttnn.TILE_SIZE
        x = torch.randn(tokens, driver.sizes.width or 1)
        positions = upload(np.arange(tokens, dtype=np.int32)[None], subject.mesh, dtype="int32", layout="row_major")
        subject.module.prefill_forward(
            upload(x[None, None].numpy(), subject.mesh, dtype="bfloat16"), cache=cache.for_user(1), positions=positions
        )
        for name, tensor in (("keys", cache.keys), ("values", cache.values)):
            for chip, held in enumerate(values.shards(tensor)):
                require(
                    bool(held[1, :, :tokens].any()), f"prefill left the {name} of its user's slot empty (chip {chip})"
                )
                others = torch.cat([held[:1], held[2:]])
                require(not others.any(), f"prefill for user 1 wrote {name} of other users (chip {chip})")


def weights(subject: Subject) -> None:
    if not isinstance(subject.module, Weighted):
        raise NotImplementedHere(f"{type(subject.module).__name__} has no `weights` (ttt_core.Weighted)")
    found = [id(weight) for weight in subject.module.weights]
    require(len(found) == len(set(found)), "a weight is listed twice")


def window(subject: Subject) -> None:
    size = getattr(getattr(subject.module, "spec", None), "window", None)
    if size is None:
        raise NotImplementedHere("its spec has no window")
    subject.hold("prefill", rows=(size, size + 1, 2 * size + 1))


def paged(subject: Subject) -> None:
    """A cache with one page for each user, in another order than the users': decode finds them by the table."""
    subject.need_cache()
    driver = subject.driver(_USERS)
    order = [2, 0, 1]
    sequences = [
        torch.randn(2, driver.sizes.width or 1, generator=torch.Generator().manual_seed(user)) for user in range(_USERS)
    ]
    sequences = [sequence.bfloat16().float() for sequence in sequences]
    if current_backend(subject.mesh) != "mock":
        raise NotImplementedHere("this check compares golden values, on a mock")
    with shadow() as values:
        found, keys = [], []
        for table in (None, order):
            cache, steps = driver.allocate_cache(_USERS), []
            for step in range(2):
                x = torch.stack([sequence[step] for sequence in sequences])
                pages = None if table is None else _integers([[slot] for slot in table], subject.mesh)
                try:
                    y = subject.module.decode_forward(
                        upload(x[None, None].numpy(), subject.mesh, dtype="bfloat16"),
                        cache=cache,
                        positions=_integers([step] * _USERS, subject.mesh),
                        page_table=pages,
                    )
                except (SpecError, UnsupportedOnDevice) as refusal:
                    if table is None:
                        raise
                    raise NotImplementedHere(str(refusal)) from refusal
                steps.append(values.to_torch(y)[0, 0])
            found.append(torch.cat(steps))
            keys.append(values.shards(cache.keys)[0])
    names = [f"user {user}, step {step}" for step in range(2) for user in range(_USERS)]
    departure = first_departure(found[1], found[0], names, atol=subject.tolerance)
    require(departure is None, f"with pages in the order {order} it departs from a cache without pages at {departure}")
    for user, page in enumerate(order):
        same = torch.allclose(keys[1][page], keys[0][user], atol=subject.tolerance)
        require(same, f"user {user} was given page {page}, and its keys are not there: the table was not read")


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    ability: Ability
    run: Callable[[Subject], None]
    protocols: frozenset[ProtocolName] = _ALL


CHECKS = (
    Check("prefill computes what its reference does: 1, 31, 32, 33, 128 rows", "base", prefill),
    Check("decode computes what its reference does: 1, 3, 32 users", "base", decode),
    Check("its precisions keep the result", "base", precision),
    Check("a forward gives back the memory that it takes", "base", memory),
    Check("prefill writes its own user's slot of the cache alone", "cached", slots, _CACHING),
    Check("weights are listed, each once", "weighted", weights),
    Check("a query sees its window alone", "windowed", window, _CACHING),
    Check("decode finds its users' pages by the table", "paged", paged, _CACHING),
)


def _integers(values: Any, mesh: Any) -> Any:
    return upload(np.array(values, np.int32), mesh, dtype="int32", layout="row_major")
