"""The planner: the fastest legal way to run a block's operations on a board.

It knows operations and the edges between them, nothing of what they are for. Operations are taken in order; of the partial
plans the best few are kept (beam search), where plans differ in where their tensors lie. A step picks a pattern, brings
inputs that lie elsewhere to where the pattern wants them, and must leave room in L1 for every tensor that is still to be
read.

A tensor that is moved lies in its new place for everything that the same block does later. Parts of a larger block (the
`attention` of `attention.qkv_matmul`) move a tensor that another part made for themselves only: the others still have it
where it was.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ttt_core import PlacementError
from ttt_hw._l1_space import Space, hand_over, hold, lowest, release
from ttt_hw._partial_plan import Copies, State, Step, part_of, visible
from ttt_hw.errors import OutOfMemory
from ttt_hw.layouts import DRAM, L1, interleaved, placed
from ttt_hw.options import Option, best_move, candidates_of, legal_options, why_no_option
from ttt_hw.patterns.base import Pattern
from ttt_hw.plan import BlockPlan, PlannedMove
from ttt_hw.records import Board
from ttt_hw.requests import BlockRequest, CollectiveRequest, OpRequest, TensorType
from ttt_shard_dsl import TILE

__all__ = ["plan_block"]

CALLER = "<caller>"  # the part of the block that its inputs belong to
PATIENCE = (1 << 30, 4, 1, 0)  # operations that a result may wait in L1 for its last reader; less where L1 runs out
SEMAPHORES = 512  # bytes of L1 on a core that a collective leaves behind, at most
SCATTERED = (
    32 * 1024
)  # bytes kept free beside collectives: semaphores of other workloads lie where the first tensors do
TEMPORARY = ("<temporary>", "")
BEAM = 12  # partial plans that are kept, at least
EFFORT = 96  # partial plans of all operations together: short blocks can afford a wider beam


def plan_block(
    block: BlockRequest,
    board: Board,
    *,
    inputs: Mapping[str, str] | None = None,
    outputs: Mapping[str, str] | None = None,
    stored: Mapping[str, str] | None = None,
    allowed: Mapping[str, tuple[Pattern[Any], ...]] | None = None,
    reserve: int = 0,
    kept: int = 0,
    may_keep: bool = True,
    keep_inputs: bool = True,
) -> BlockPlan:
    """The fastest legal plan of a block on each chip of `board`, by the time estimates.

    `inputs` and `outputs` say where the caller has its tensors and wants the results (interleaved: in L1 in decode, in DRAM
    in prefill), `stored` where weights lie that are placed already; what is not named the planner places. `allowed` are the
    configs to choose from, for operations that are not free. `reserve` bytes of L1 a core stay free, `kept` are taken by
    what other blocks keep there; without `may_keep` no free operation keeps any. With `keep_inputs` the caller's tensors live
    on beyond the block.
    Errors: PlacementError with the operation for which no pattern is legal or fits, and why.
    """
    home = L1 if block.mode == "decode" else DRAM
    entry = {name: (inputs or {}).get(name, _home(type_, home)) for name, type_ in block.inputs}
    ends = {name: (outputs or {}).get(name, home) for name in block.outputs}
    for patience in PATIENCE:
        search = _Search(block, board, allowed or {}, reserve, kept, may_keep, keep_inputs, patience)
        try:
            final, exits = search.run(entry, ends, stored or {})
            break
        except OutOfMemory:
            if patience == PATIENCE[-1]:
                raise
    return BlockPlan(
        block=block,
        board=board,
        inputs=entry,
        stored=final.stored,
        ops=final.ops(),
        exits=exits,
        outputs=ends,
    )


def _home(type_: TensorType, text: str) -> str:
    """Where an activation enters; what has other than four dims, as ids and positions, lies in DRAM."""
    return text if len(type_.shape) == 4 and type_.tiled else interleaved(type_)


class _Search:
    def __init__(
        self,
        block: BlockRequest,
        board: Board,
        allowed: Mapping[str, tuple[Pattern[Any], ...]],
        reserve: int,
        kept: int,
        may_keep: bool,
        keep_inputs: bool,
        patience: int,
    ) -> None:
        self.block = block
        self.board = board
        self.allowed = allowed
        self.room = board.l1_bytes_per_core - reserve
        if any(isinstance(op, CollectiveRequest) for op in block.ops):
            self.room -= SCATTERED
        self.kept = kept
        self.may_keep = may_keep
        self.patience = patience
        self.types = block.types
        self.beam = max(BEAM, EFFORT // max(1, len(block.ops)))
        self.stored = {stored.name for stored in block.stored}
        self.sizes: dict[tuple[str, str], tuple[int, int]] = {}
        self.touched = [tuple(dict.fromkeys((*op.inputs, *op.results))) for op in block.ops]
        self.last_use: dict[str, int] = {}
        self.last_use_in: dict[tuple[str, str], int] = {}
        for index, op in enumerate(block.ops):
            for name in op.inputs:
                self.last_use[name] = index
                self.last_use_in[name, part_of(op)] = index
        end = len(block.ops)
        self.read_again = [
            [name for name in self.stored if self.last_use.get(name, -1) > index] for index in range(len(block.ops))
        ]
        for name in (*block.outputs, *((name for name, _ in block.inputs) if keep_inputs else ())):
            self.last_use[name] = end

    def run(
        self, entry: Mapping[str, str], ends: Mapping[str, str], stored: Mapping[str, str]
    ) -> tuple[State, tuple[PlannedMove, ...]]:
        states = [self.start(entry, dict(stored))]
        for index, op in enumerate(self.block.ops):
            states = self.step(states, index, op)
        return self.finish(states, ends)

    def start(self, entry: Mapping[str, str], stored: dict[str, str]) -> State:
        held = [*entry.items(), *((name, text) for name, text in stored.items() if name in self.stored)]
        sizes = [self._size(name, text) for name, text in held]
        where: dict[str, Copies] = {name: ((CALLER, text),) for name, text in entry.items()}
        space: Space | None = ()
        for key, (l1, _) in zip(held, sizes, strict=True):
            space = None if space is None else hold(space, key, l1, self.room)
        collectives = sum(isinstance(op, CollectiveRequest) for op in self.block.ops)
        if space is not None:  # made before the first operation: ttt_hw._semaphores
            space = hold(space, ("<semaphores>", ""), SEMAPHORES * collectives, self.room)
        remains = self.kept + self.remaining()
        if space is not None:
            space = hold(space, ("<kept>", ""), remains, self.room)
        alive = sum(l1 for l1, _ in sizes) + remains
        if space is None:
            raise self._full(
                f"the block's inputs and what stays in L1 take {alive:,} bytes a core; {self.room:,} are there.", alive
            )
        dram = sum(dram for _, dram in sizes[: len(entry)])
        return State(0.0, where, stored, alive, dram, space)

    def remaining(self) -> int:
        """Bytes of L1 on a core that sums over chips keep for good. The first decode step makes it, and it is there in every
        forward after that, so the plans of prompts leave room for it too."""
        found: dict[Hashable, int] = {}
        for op in self.block.ops:
            if isinstance(op, CollectiveRequest):
                token = replace(op, shape=(1, 1, TILE, op.shape[-1]))
                patterns = self.allowed.get(op.name)
                if patterns is None:
                    patterns = tuple(candidates_of(token, self.board)) if self.may_keep else ()
                for pattern in patterns:
                    found.update(pattern.keeps(token, self.board))
        return sum(found.values())

    def step(self, states: Sequence[State], index: int, op: OpRequest) -> list[State]:
        """Every state with the operation added in every legal way; the best of them."""
        every = legal_options(op, self.board, self.allowed.get(op.name))
        if not self.may_keep and op.name not in self.allowed:
            every = tuple(option for option in every if not option.pattern.keeps(op, self.board))
        waits = any(self.last_use.get(name, index) - index > self.patience for name in op.results)
        options = [option for option in every if not (waits and option.result_bytes)] or every
        found: dict[object, State] = {}
        costs: list[float] = []  # of the distinct states that were found, in order
        for state in states:
            for option in options:
                if len(costs) >= self.beam and state.cost + option.time_us >= costs[self.beam - 1]:
                    break  # the options that follow are slower still
                following = self._follow(state, index, op, option)
                if following is None:
                    continue
                # Partial plans compete if all that is read again lies in the same places.
                again = tuple(following.stored.get(name) for name in self.read_again[index])
                key = tuple(following.where.items()), again
                if key not in found:
                    insort(costs, following.cost)
                    found[key] = following
                elif following.cost < found[key].cost:
                    found[key] = following
        if not found:
            raise self._why_not(states, op, options)
        return sorted(found.values(), key=lambda state: state.cost)[: self.beam]

    def _follow(self, state: State, index: int, op: OpRequest, option: Option) -> State | None:
        stored, where = state.stored, state.where
        alive, dram, cost = state.alive, state.dram, state.cost + option.time_us
        space = state.space
        part = part_of(op)
        moves: list[PlannedMove] = []
        for position, (name, text) in enumerate(zip(op.inputs, option.reads, strict=True)):
            if name in self.stored:
                at = stored.get(name)
                if at is None and " in dram" not in text:  # what stays would take L1 from everything else
                    return None
                if at is None:
                    stored = {**stored, name: text}
                elif at != text:
                    return None
                continue
            copies = where[name]
            source = visible(copies, part)
            if source == text:
                continue
            move = best_move(self.types[name], source, text, self.board)
            if move is None:
                return None
            reshard, buffers, bytes_, time = move
            l1_bytes = alive + bytes_ + buffers
            if l1_bytes > self.room:
                return None
            replaces = any(owner == part for owner, _ in copies)
            target_l1, target_dram = self._size(name, text)
            source_l1, source_dram = self._size(name, source) if replaces else (0, 0)
            beside = hold(space, (name, text), target_l1, self.room)
            if beside is None or buffers > lowest(beside, self.room):
                return None
            space = release(beside, (name, source)) if replaces else beside
            alive += target_l1 - source_l1
            dram += target_dram - source_dram
            cost += time.time_us
            moves.append(
                PlannedMove(
                    tensor=name,
                    position=position,
                    reshard=reshard,
                    replaces=replaces,
                    buffers=buffers,
                    l1_bytes=l1_bytes,
                    estimate=time,
                )
            )
            if where is state.where:
                where = dict(where)
            if replaces:
                where[name] = tuple((owner, text if owner == part else at) for owner, at in copies)
            else:
                where[name] = (*copies, (part, text))
        working = self._with_results(space, index, op, option)
        if working is None or option.buffers > lowest(working, self.room):
            return None
        if (
            option.pattern.adapts
        ):  # as it was compiled first, so it runs later: it must come out the same beside anything
            own = sum(self._size(name, text)[0] for name, text in zip(op.inputs, option.reads, strict=True))
            neighbours = self.room - lowest(working, self.room) - own - option.result_bytes
            if option.pattern.buffers_beside(op, self.board, option.reads, neighbours) != option.buffers:
                return None
        space = release(working, TEMPORARY)
        l1_bytes = alive + option.buffers + option.result_bytes
        if l1_bytes > self.room:
            return None
        if where is state.where:
            where = dict(where)
        for name, text in zip(op.results, option.results, strict=True):
            where[name] = ((part, text),)
            made_l1, made_dram = self._size(name, text)
            alive += made_l1
            dram += made_dram
        dram_bytes = dram
        frees: list[tuple[str, str]] = []
        for name in self.touched[index]:
            if name not in where:
                continue
            if self.last_use.get(name, index) <= index:
                frees.extend((name, at) for _, at in where.pop(name))
            elif self.last_use_in.get((name, part), index) <= index and len(where[name]) > 1:  # the part's own copy
                first, *others = where[name]
                frees.extend((name, at) for owner, at in others if owner == part)
                where[name] = (first, *(copy for copy in others if copy[0] != part))
        for name, at in frees:
            space = release(space, (name, at))
            freed_l1, freed_dram = self._size(name, at)
            alive -= freed_l1
            dram -= freed_dram
        step = Step(op, option, moves, l1_bytes, dram_bytes, frees)
        return State(cost, where, stored, alive, dram, space, step, state)

    def _with_results(self, space: Space, index: int, op: OpRequest, option: Option) -> Space | None:
        """L1 while an operation runs: with its results, and what it needs beside them."""
        if not option.time_us and self.last_use[op.inputs[0]] == index:  # a view of what nothing else reads
            ((name, text),) = zip(op.results, option.results, strict=True)
            return hand_over(space, (op.inputs[0], option.reads[0]), (name, text))
        found = hold(space, TEMPORARY, option.pattern.scratch(op, self.board), self.room)
        for name, text in zip(op.results, option.results, strict=True):
            found = None if found is None else hold(found, (name, text), self._size(name, text)[0], self.room)
        return found

    def _size(self, name: str, text: str) -> tuple[int, int]:
        """What a tensor takes in a layout: bytes of L1 on a core, where the allocator gives it the same address on every
        core, and bytes of DRAM on the chip."""
        key = name, text
        size = self.sizes.get(key)
        if size is None:
            place = placed(text, self.types[name], self.board)
            size = self.sizes[key] = place.bytes_per_core, place.bytes_per_bank * self.board.dram_banks
        return size

    def finish(self, states: Sequence[State], outputs: Mapping[str, str]) -> tuple[State, tuple[PlannedMove, ...]]:
        """The best state with its results brought to where they are wanted."""
        best: tuple[float, State, tuple[PlannedMove, ...]] | None = None
        for state in states:
            moves, cost, alive, space = [], state.cost, state.alive, state.space
            for name, text in outputs.items():
                source = state.where[name][0][1]
                if source == text:
                    continue
                move = best_move(self.types[name], source, text, self.board)
                if move is None:
                    break
                reshard, buffers, bytes_, time = move
                following = hold(space, (name, text), bytes_, self.room) if " in l1" in text else space
                if following is None or buffers > lowest(following, self.room):
                    break
                space = following
                moves.append(
                    PlannedMove(
                        tensor=name,
                        position=0,
                        reshard=reshard,
                        replaces=False,
                        buffers=buffers,
                        l1_bytes=alive + buffers + bytes_,
                        estimate=time,
                    )
                )
                cost += time.time_us
            else:
                if best is None or cost < best[0]:
                    best = cost, state, tuple(moves)
        if best is None:
            raise self._full(
                f"no plan brings {', '.join(outputs)} to {', '.join(outputs.values())}: L1 of {self.room:,} bytes a core does "
                "not suffice for the move. Let the results stay in DRAM.",
                self.room,
            )
        return best[1], best[2]

    def _why_not(self, states: Sequence[State], op: OpRequest, options: Sequence[Option]) -> PlacementError:
        if not options:
            return PlacementError(why_no_option(op, self.board, self.allowed.get(op.name)))
        wanted = {
            name: text
            for name, text in states[0].stored.items()
            if name in op.inputs and all(text not in option.reads for option in options)
        }
        if wanted:
            name, text = next(iter(wanted.items()))
            return PlacementError(
                f"{op.name}: no pattern reads {name!r} where it lies ({text}). Place it otherwise, or let the planner do it."
            )
        for at, name in enumerate(op.inputs):
            if name in self.stored - states[0].stored.keys() and all(
                " in dram" not in option.reads[at] for option in options
            ):
                return PlacementError(
                    f"{op.name}: every config that may run it reads {name!r} from L1, where what stays would take room from "
                    "everything else. Place it there by `stored`, or take a config that reads it from DRAM."
                )
        alive = min(state.alive for state in states)
        least = min(option.buffers + option.result_bytes for option in options)
        pieces = "" if alive + least > self.room else ", but not in one piece"
        return self._full(
            f"{op.name} on {self.board.name}: its buffers and results take at least {least:,} bytes of L1 a core beside the "
            f"{alive:,} of tensors that are alive; {self.room:,} are there{pieces}. Split the block, or keep its inputs in DRAM.",
            alive + least,
        )

    def _full(self, message: str, wanted: int) -> OutOfMemory:
        return OutOfMemory(message, memory="L1", wanted=wanted, available=self.room)
