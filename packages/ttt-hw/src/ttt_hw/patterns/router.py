"""The routing weights of a mixture of experts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ttt_hw.estimate import Work
from ttt_hw.layouts import interleaved
from ttt_hw.patterns.base import Pattern
from ttt_hw.records import Board
from ttt_hw.requests import RouterRequest
from ttt_shard_dsl import TILE, tile_bytes

__all__ = ["Router"]

TOPK_WIDTH = 64  # columns to which ttnn.topk pads at least
MOST_EXPERTS = 512  # up to which topk was seen to run the same program
PROGRAMS = 11  # of topk, softmax, zeros_like and scatter, with the padding and the changes of layout within them
SCORED, GROUPED, CAPPED = 5, 24, 3  # programs more: of scores before the choice; of groups; of capped logits
MIXED = 20  # programs for each expert that is chosen in turn
# Tensors between them, at most, as tried with 8 to 256 experts.
AS_LOGITS, GROUPED_AS_LOGITS, MIXED_AS_LOGITS, AS_GROUPS, COLUMNS = 11, 3, 18, 4, 8
EXCLUDED = 1e9  # what experts of other groups have less


@dataclass(frozen=True, kw_only=True)
class Router(Pattern[RouterRequest]):
    """topk chooses, scatter puts the weights back where the experts were: exact also where scores are equal.

    Renormalised softmax is that of the chosen logits alone. Everything lies interleaved in `memory`.
    Source: ttnn.topk, softmax, sigmoid, zeros_like, scatter; arXiv 2401.04088 section 2.1, arXiv 2412.19437 eq 12 to 16,
    arXiv 2409.12136 (sparsemixer).
    """

    serves: ClassVar = (RouterRequest,)

    memory: Literal["dram", "l1"] = "dram"

    @classmethod
    def candidates(cls, request: RouterRequest, board: Board) -> Iterator[Router]:
        yield cls(memory="l1")
        yield cls()

    def accepts(self, request: RouterRequest, board: Board) -> tuple[tuple[str, ...], ...]:
        logits, *stored = request.operands
        return ((interleaved(logits, self.memory),), *((interleaved(each),) for each in stored))

    def results(self, request: RouterRequest, board: Board) -> tuple[str, ...]:
        return (interleaved(request.operands[0], self.memory),)

    def problems(self, request: RouterRequest, board: Board, reads: Sequence[str]) -> Iterator[str]:
        most = min(request.experts, TILE)
        if not 1 <= request.active <= most:
            yield f"{request.active} active experts must be at least 1 and at most {most} of {request.experts}"
        if request.experts > MOST_EXPERTS:
            yield f"{request.experts} experts must be at most {MOST_EXPERTS}: beyond, topk runs another program"
        in_group, rest = divmod(request.experts, request.groups)
        if request.score == "sparsemixer" and (request.selection_bias or request.groups > 1):
            yield "a sparsemixer chooses among all experts, by their logits alone: it has no selection bias and no groups"
        if rest or not 1 <= request.active_groups <= request.groups or (request.group_score == "top2" and in_group < 2):
            yield (
                f"{request.active_groups} of {request.groups} groups of {request.experts} experts by {request.group_score}: "
                "groups must be of one size, at least 2 for top2, and no more active than there are"
            )
        elif request.groups > 1 and request.active > request.active_groups * in_group:
            yield f"{request.active} active experts are more than the {request.active_groups * in_group} of the active groups"

    def circular_buffers(self, request: RouterRequest, board: Board, reads: Sequence[str]) -> int:
        """Of topk: two tiles of scores and two of indices, each twice as they come, transposed, and sorted; or of the softmax of
        many experts, twice their tiles, in eights, and 15 more: at most so much."""
        topk = 18 * tile_bytes("bfloat16")
        if request.score == "sigmoid" or _of_chosen_logits(request):
            return topk
        tiles = -(-request.experts // TILE)
        row = tiles if tiles <= 4 else -(-tiles // 8) * 8
        return max(topk, (2 * row + 15 if tiles > 2 else 0) * tile_bytes("bfloat16"))

    def scratch(self, request: RouterRequest, board: Board) -> int:
        """All that its operations make on the way, at most: as the logits, of groups a tile of rows for each row, and columns."""
        if self.memory == "dram":
            return 0
        rows, cores = -(-request.rows // TILE), board.grid[0] * board.grid[1]

        def of_core(tiles: int) -> int:
            return -(-tiles // cores) * tile_bytes("bfloat16")

        one, column = of_core(rows * -(-request.experts // TILE)), of_core(rows)
        turns = request.active if request.score == "sparsemixer" else 0
        plain = (AS_LOGITS + CAPPED + MIXED_AS_LOGITS * turns) * one + COLUMNS * (1 + turns) * column
        if request.groups == 1:
            return plain
        in_group = -(-request.experts // request.groups // TILE)
        grouped = of_core(request.rows * in_group * -(-request.groups // TILE))
        return plain + GROUPED_AS_LOGITS * one + AS_GROUPS * grouped

    def cores(self, request: RouterRequest, board: Board) -> int:
        return min(board.grid[0] * board.grid[1], -(-request.rows // TILE))

    def work(self, request: RouterRequest, board: Board, reads: Sequence[str]) -> Work:
        rows, tile = -(-request.rows // TILE), tile_bytes("bfloat16")
        width = max(TOPK_WIDTH, request.experts) // TILE
        programs = _programs(request)
        a_core = -(-rows // self.cores(request, board))
        moved = programs * 2 * rows * width * tile
        in_dram = self.memory == "dram"
        return Work(
            vector_bytes=programs * a_core * width * tile * 4,
            dram_bytes=moved if in_dram else 0,
            dram_pages=programs * 2 * rows * width if in_dram else 0,
            noc_bytes=programs * 2 * a_core * width * tile,
            programs=programs,
        )

    def to_ttnn(self, request: RouterRequest, board: Board) -> dict[str, Any]:
        import ttnn

        return {"memory_config": ttnn.L1_MEMORY_CONFIG if self.memory == "l1" else ttnn.DRAM_MEMORY_CONFIG}

    def issue(self, request: RouterRequest, board: Board, tensors: Sequence[Any]) -> Any:
        import ttnn

        logits, *stored = tensors
        steps = _Steps(request, self.to_ttnn(request, board)["memory_config"])
        if request.logit_cap is not None:
            logits = steps.capped(logits, request.logit_cap)
        if _of_chosen_logits(request):
            weights = steps.of_chosen_logits(logits)
        elif request.score == "sparsemixer":
            weights = steps.mixed(logits)
        else:
            weights = steps.of_scores(logits, stored)
        return weights if request.scale == 1.0 else ttnn.mul(weights, request.scale, memory_config=steps.memory)


@dataclass(frozen=True)
class _Steps:
    """What routing is made of; `memory` is where results lie."""

    request: RouterRequest
    memory: Any

    def best(self, x: Any, count: int) -> Any:
        import ttnn

        return ttnn.topk(x, count, dim=-1, largest=True, sorted=True, memory_config=self.memory)

    def put(self, like: Any, indices: Any, values: Any) -> Any:
        import ttnn

        return ttnn.scatter(
            ttnn.zeros_like(like, memory_config=self.memory), -1, indices, values, memory_config=self.memory
        )

    def marked(self, like: Any, indices: Any, values: Any) -> Any:
        """1 at the indices, 0 elsewhere."""
        import ttnn

        return self.put(like, indices, ttnn.ones_like(values, memory_config=self.memory))

    def capped(self, logits: Any, cap: float) -> Any:
        import ttnn

        flat = ttnn.tanh(ttnn.mul(logits, 1 / cap, memory_config=self.memory), memory_config=self.memory)
        return ttnn.mul(flat, cap, memory_config=self.memory)

    def of_chosen_logits(self, logits: Any) -> Any:
        import ttnn

        values, indices = self.best(logits, self.request.active)
        return self.put(logits, indices, ttnn.softmax(values, dim=-1, numeric_stable=True, memory_config=self.memory))

    def of_scores(self, logits: Any, stored: Sequence[Any]) -> Any:
        import ttnn

        request, memory = self.request, self.memory
        if request.score == "softmax":
            scores = ttnn.softmax(logits, dim=-1, numeric_stable=True, memory_config=memory)
        else:
            scores = ttnn.sigmoid(logits, memory_config=memory)
        choice = scores if request.group_score == "top2" else logits  # which are in the same order, and further apart
        if request.selection_bias:
            choice = ttnn.add(scores, stored[0], memory_config=memory)
        if request.groups > 1:
            choice = self.of_active_groups(choice, stored[-1])
        values, indices = self.best(choice, request.active)
        weights = ttnn.mul(scores, self.marked(choice, indices, values), memory_config=memory)
        if request.renormalise:
            weights = ttnn.div(
                weights, ttnn.sum(weights, dim=-1, keepdim=True, memory_config=memory), memory_config=memory
            )
        return weights

    def of_active_groups(self, choice: Any, table: Any) -> Any:
        """`choice`, far less for experts of groups that are not active."""
        import ttnn

        request, memory = self.request, self.memory
        rows, groups = choice.shape[-2], request.groups
        grouped = ttnn.reshape(choice, (1, rows, groups, request.experts // groups))
        values, _ = self.best(grouped, 2 if request.group_score == "top2" else 1)
        group_scores = ttnn.reshape(ttnn.sum(values, dim=-1, keepdim=True, memory_config=memory), (1, 1, rows, groups))
        values, indices = self.best(group_scores, request.active_groups)
        chosen = self.marked(group_scores, indices, values)
        away = ttnn.mul(ttnn.add(chosen, -1.0, memory_config=memory), EXCLUDED, memory_config=memory)
        return ttnn.add(choice, ttnn.matmul(away, table, memory_config=memory), memory_config=memory)

    def mixed(self, logits: Any) -> Any:
        """One expert after another: each has its share in the softmax of those that are left and not far below it, where far
        is value − logit > 2 · jitter · max(|logit|, value)."""
        import ttnn

        memory = self.memory
        left, weights = logits, None
        for _ in range(self.request.active):
            values, indices = self.best(left, 1)
            chosen = self.marked(logits, indices, values)
            largest = ttnn.maximum(ttnn.abs(logits, memory_config=memory), values, memory_config=memory)
            bound = ttnn.mul(largest, 2 * self.request.jitter, memory_config=memory)
            far = ttnn.gt(ttnn.subtract(values, logits, memory_config=memory), bound, memory_config=memory)
            near = ttnn.subtract(left, ttnn.mul(far, EXCLUDED, memory_config=memory), memory_config=memory)
            share = ttnn.mul(
                ttnn.softmax(near, dim=-1, numeric_stable=True, memory_config=memory), chosen, memory_config=memory
            )
            weights = share if weights is None else ttnn.add(weights, share, memory_config=memory)
            left = ttnn.subtract(left, ttnn.mul(chosen, EXCLUDED, memory_config=memory), memory_config=memory)
        return weights


def _of_chosen_logits(request: RouterRequest) -> bool:
    """Whether the largest logits are the best experts, and their softmax the weights."""
    plain = not request.selection_bias and request.groups == 1
    return plain and request.score == "softmax" and request.renormalise


def _programs(request: RouterRequest) -> int:
    """How many run, with those within topk and scatter."""
    capped = CAPPED * (request.logit_cap is not None)
    if request.score == "sparsemixer":
        return MIXED * request.active + capped
    return PROGRAMS + SCORED * (not _of_chosen_logits(request)) + GROUPED * (request.groups > 1) + capped
