"""A plan of a whole model on a board: every operation of every distinct layer, its time, and what each chip's memory holds."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import cast

from ttt_core import SpecError, TttError
from ttt_factory.requests import ModelRequest, model_request
from ttt_factory.spec import ModelSpec
from ttt_hw import (
    BOARDS,
    DRAM,
    BlockPlan,
    Board,
    Case,
    DType,
    HardwareMode,
    Overrides,
    Stored,
    Workload,
    interfaces,
    interleaved,
    placed,
    plan_together,
)
from ttt_hw.joint import keeping_or_not
from ttt_hw.overrides import check_names, concerning
from ttt_shard_dsl import TILE

__all__ = ["ModelPlan", "PlanDemand", "plan_model"]

MAX_USERS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanDemand:
    """What a plan is for: `users` that decode together with a cache for `context` tokens each, and prompts of `prompt`
    tokens.

    A run is taken to read each user's prompt once and to decode as many tokens as the prompt has: where decode and prefill
    want a weight in different places, its total time decides.
    """

    spec: ModelSpec
    users: int
    context: int
    prompt: int
    precision: Mapping[str, DType]
    mode: HardwareMode = "performance"
    overrides: Overrides = field(default_factory=dict)

    def __post_init__(self) -> None:
        longest = -(-self.spec.max_context // TILE) * TILE
        if not 1 <= self.users <= MAX_USERS:
            raise SpecError(f"a plan for {self.users} users; 1 to {MAX_USERS} can decode together.")
        if not 1 <= self.context <= longest:
            raise SpecError(f"a plan for a context of {self.context}; the model has positions for 1 to {longest}.")
        if not 1 <= self.prompt <= self.context:
            raise SpecError(
                f"a plan for prompts of {self.prompt} tokens with a context of {self.context}; a prompt must fit the cache. "
                f"Nearest: {max(1, min(self.prompt, self.context))}."
            )

    def work(self, board: Board) -> dict[str, Workload]:
        """By mode, split over the chips of a board."""
        context = -(-self.context // TILE) * TILE
        works: dict[str, Workload] = {
            "decode": Workload(mode="decode", users=self.users, context=context),
            "prefill": Workload(mode="prefill", users=self.users, tokens=self.prompt, context=context),
        }
        return {
            mode: replace(work, chips=board.mesh[1], hidden_chips=board.hidden_chips) for mode, work in works.items()
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A part of the model that occurs `count` times: the embedding, a kind of layer, the head; its plan by mode."""

    name: str
    count: int
    plans: Mapping[str, BlockPlan]


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryUse:
    """Bytes of DRAM on each chip; a tensor counts with what it takes in the fullest bank, times the banks."""

    weights: int
    cache: int
    tables: int
    activations: int
    capacity: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.tables + self.activations

    @property
    def fits(self) -> bool:
        return self.total <= self.capacity

    @property
    def missing(self) -> int:
        return max(0, self.total - self.capacity)


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """Sections in the order in which a forward goes through them, distinct layers once. Times are estimates; `time_us` is the
    chips' alone."""

    board: Board
    demand: PlanDemand
    sections: tuple[Section, ...]

    def time_us(self, mode: str) -> float:
        return sum(section.count * section.plans[mode].time_us for section in self.sections)

    def calls(self, mode: str) -> int:
        """Operations that the host issues for a forward, moves between them included."""
        return sum(
            section.count * (sum(1 + len(op.moves) for op in plan.ops) + len(plan.exits))
            for section in self.sections
            for plan in (section.plans[mode],)
        )

    @property
    def host_us(self) -> float:
        """What the host does between two decode steps, for one replica after the other."""
        return self.board.replicas * self.board.chip.rates.token_us

    @property
    def step_us(self) -> float:
        """A decode step, replayed from a trace, and what the host does between two of them."""
        return self.time_us("decode") + self.host_us

    @property
    def tokens_per_second_per_user(self) -> float:
        return 1e6 / self.step_us

    @property
    def ttft_ms(self) -> float:
        """Time to the first token of one user's prompt; the host issues operations, untraced, while chips run those before."""
        rates = self.board.chip.rates
        return (max(self.time_us("prefill"), self.calls("prefill") * rates.call_us) + rates.token_us) / 1e3

    @cached_property
    def memory(self) -> MemoryUse:
        return memory_use(self, self.demand.users, self.demand.context)

    @property
    def fits(self) -> bool:
        return self.memory.fits

    def blocks(self) -> Iterator[tuple[Section, str, BlockPlan]]:
        for section in self.sections:
            for mode, plan in section.plans.items():
                yield section, mode, plan

    @cached_property
    def changes(self) -> list[str]:
        """Single changes that make a plan fit that does not, in words, the mildest of each kind."""
        return remedies(self)

    @cached_property
    def largest(self) -> dict[int, int]:
        """The longest context that fits each number of users, in whole tiles; 0 where not even one tile does."""
        return {users: _longest(self, users) for users in _halvings(MAX_USERS)}


@dataclass(frozen=True, kw_only=True, slots=True)
class SectionChoices:
    """What is settled of a section: where stored tensors lie, how the hidden state enters by mode, its configs."""

    stored: Mapping[str, str]
    hidden: Mapping[str, str]
    overrides: Overrides


def plan_model(demand: PlanDemand, board: Board, *, choices: Mapping[str, SectionChoices] | None = None) -> ModelPlan:
    """Plan every distinct section for `board`, whose mesh splits the layers; `choices` are not up to the planner.

    Errors: PlacementError for heads that do not split over the chips, for an operation without a legal config, for an
    override that is not legal; SpecError for what the model does not have.
    """
    return keeping_or_not(lambda may_keep: _plan_model(demand, board, choices, may_keep))


def _plan_model(
    demand: PlanDemand, board: Board, choices: Mapping[str, SectionChoices] | None, may_keep: bool
) -> ModelPlan:
    requests = {mode: model_request(demand.spec, work, demand.precision) for mode, work in demand.work(board).items()}
    check_names(
        demand.overrides, {op.name for request in requests.values() for part in request.parts for op in part.block.ops}
    )
    weights = {"decode": float(demand.prompt), "prefill": float(demand.users)}
    hidden: dict[str, str] = {}
    keeps: dict[Hashable, int] = {}  # of L1, by layers: the other sections do without
    sections: list[Section] = []
    parts = _parts(requests["decode"])
    _check_names(choices, [name for name, _ in parts])
    for name, count in parts:
        settled = (choices or {}).get(name)
        if settled is not None:
            hidden.update(settled.hidden)
        cases = []
        for mode, request in requests.items():
            block = request.part(name)
            at = hidden.get(mode)
            leave = DRAM if name == "head" else at
            ways = interfaces(block, board) if at is None or leave is None else ((at, leave),)
            cases.append(Case(block=block, weight=weights[mode] * count, interfaces=ways))
        plans = plan_together(
            cases,
            _endless(board),
            overrides={
                **(settled.overrides if settled is not None else {}),
                **concerning(demand.overrides, {op.name for case in cases for op in case.block.ops}),
            },
            stored=settled.stored if settled is not None else None,
            kept=0 if name.startswith("layer") else sum(keeps.values()),
            may_keep=may_keep,
        )
        for mode, plan in zip(requests, plans, strict=True):
            keeps.update(plan.keeps)
            if name.startswith("layer"):
                hidden.setdefault(mode, next(iter(plan.outputs.values())))
        sections.append(Section(name=name, count=count, plans=dict(zip(requests, plans, strict=True))))
    order = [part.name for part in requests["decode"].parts]
    return ModelPlan(
        board=board, demand=demand, sections=tuple(sorted(sections, key=lambda section: order.index(section.name)))
    )


def _check_names(choices: Mapping[str, SectionChoices] | None, names: list[str]) -> None:
    if choices is not None and (wrong := set(choices) ^ set(names)):
        raise SpecError(
            f"the plan was made for another model: it has the sections {', '.join(choices)}, this model {', '.join(names)} "
            f"({', '.join(sorted(wrong))} differ). Plan this model anew."
        )


def _parts(request: ModelRequest) -> list[tuple[str, int]]:
    """Layers first, the most frequent of them before the others: they choose how the hidden state lies between sections."""
    layers = sorted(
        (part for part in request.parts if part.name.startswith("layer")), key=lambda part: part.count, reverse=True
    )
    others = [part for part in request.parts if not part.name.startswith("layer")]
    return [(part.name, part.count) for part in (*layers, *others)]


def memory_use(plan: ModelPlan, users: int, context: int) -> MemoryUse:
    """The DRAM of a plan with another number of users, or another context; activations as planned."""
    banks = plan.board.dram_banks
    sizes = {"weight": 0, "cache": 0, "table": 0, "index": 0}
    tables: set[Stored] = set()
    for section in plan.sections:
        seen: dict[str, tuple[Stored, str]] = {}
        for block in section.plans.values():
            for stored in block.block.stored:
                seen[stored.name] = stored, block.stored.get(stored.name, "")
        for stored, text in seen.values():
            if stored.kind in ("table", "index"):
                if stored in tables:
                    continue  # layers share their tables
                tables.add(stored)
            if stored.kind == "cache":
                stored = _cache_for(stored, users, context, plan)
            count = section.count if stored.kind in ("weight", "cache") else 1
            sizes[stored.kind] += count * banks * placed(text, stored.type, _endless(plan.board)).bytes_per_bank
    return MemoryUse(
        weights=sizes["weight"],
        cache=sizes["cache"],
        tables=sizes["table"] + sizes["index"],
        activations=max(block.dram_bytes for _, _, block in plan.blocks()),
        capacity=banks * plan.board.dram_bytes_per_bank,
    )


def _cache_for(stored: Stored, users: int, context: int, plan: ModelPlan) -> Stored:
    _, heads, planned, head_dim = stored.type.shape
    rows = -(-context // TILE) * TILE
    if planned < -(-plan.demand.context // TILE) * TILE:  # a cache that keeps a window only
        rows = min(rows, planned)
    return replace(stored, type=replace(stored.type, shape=(users, heads, rows, head_dim)))


def _endless(board: Board) -> Board:
    """Banks without an end: a tensor that alone is too large has its bytes too."""
    return replace(board, chip=replace(board.chip, dram_bytes_per_bank=1 << 62))


def _longest(plan: ModelPlan, users: int) -> int:
    low, high = 0, -(-plan.demand.spec.max_context // TILE)
    while low < high:
        middle = (low + high + 1) // 2
        if memory_use(plan, users, middle * TILE).fits:
            low = middle
        else:
            high = middle - 1
    return low * TILE


def _halvings(value: int) -> list[int]:
    found = []
    while value >= 1:
        found.append(value)
        value //= 2
    return found


def remedies(plan: ModelPlan) -> list[str]:
    """What would make a plan fit: coarser weights, fewer users, less context, the smallest board that holds it.

    Counted with weights interleaved and the activations of this plan; another board's may differ by what its collectives
    take.
    """
    demand, found = plan.demand, []
    coarser = {"bfloat16": "bfloat8_b", "bfloat8_b": "bfloat4_b"}
    precision = {role: cast("DType", coarser.get(dtype, dtype)) for role, dtype in demand.precision.items()}
    precision["kv_cache"] = "bfloat8_b"
    if _fits(plan, replace(demand, precision=precision), plan.board):
        found.append("one step coarser weights fit")
    for users in _halvings(demand.users)[1:]:
        if _fits(plan, replace(demand, users=users), plan.board):
            found.append(f"batch {users} fits")
            break
    for context in _halvings(demand.context)[1:]:
        if context >= demand.prompt and _fits(plan, replace(demand, context=context), plan.board):
            found.append(f"context {context} fits")
            break
    for board in sorted(BOARDS.values(), key=lambda board: board.num_chips * board.chip.dram_bytes):
        if board.name != plan.board.name and _fits(plan, demand, board):
            found.append(f"{board.name} fits")
            break
    return found


def _fits(plan: ModelPlan, demand: PlanDemand, board: Board) -> bool:
    try:
        request = model_request(demand.spec, demand.work(board)["decode"], demand.precision)
    except TttError:  # does not split over that board's chips
        return False
    total = plan.memory.activations
    tables: set[Stored] = set()
    for part in request.parts:
        for stored in part.block.stored:
            if stored.kind in ("table", "index"):
                if stored in tables:
                    continue
                tables.add(stored)
            count = part.count if stored.kind in ("weight", "cache") else 1
            place = placed(interleaved(stored.type), stored.type, _endless(board))
            total += count * place.bytes_per_bank * board.dram_banks
    return total <= board.chip.dram_bytes
