"""Runs a module on inputs of its own: prompts, users, positions and caches, as its Protocol asks.

A run is a set of sequences and the places in them that are computed, so that a prefill, a decode through the cache and a
reference that sees a whole sequence at once answer for the same rows.
Letters: B users, S tokens, D elements of a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import ttnn

from ttt_core import Cached, CausalLM, Mode, Paged, SpecError, TttError
from ttt_hw import upload
from ttt_shard_dsl import TILE
from ttt_testing._finding import Role, Sizes, role_of, sizes_of
from ttt_testing._problem import Place, Problem

Read = Callable[[Any], torch.Tensor]  # a device tensor's value
_PROMPTS = (TILE + 1, 1, TILE)  # of the first users; the others start without one
_STEPS = 2
_STEPWISE = 8


class Driver:
    """`rows`: tokens of a prompt in prefill, users in decode; `context`: what a cache holds.

    `ancestors`: the modules that the module is a part of, the nearest first. Its input is put where they would leave it, which
    a plan of a whole layer decides. `paged`: the cache has pages of a tile's rows, those of a user scattered over it; `pieces`:
    prompts are read piece by piece, the first of a tile's rows.
    """

    def __init__(
        self,
        module: Any,
        mesh: Any,
        *,
        role: Role,
        sizes: Sizes,
        rows: int,
        context: int,
        ancestors: tuple[Any, ...] = (),
        paged: bool = False,
        pieces: bool = False,
    ) -> None:
        self.module, self.mesh, self.role, self.sizes, self.rows = module, mesh, role, sizes, rows
        longest = context if sizes.max_context is None else min(context, sizes.max_context)
        self.context = max(TILE, longest // TILE * TILE)
        self.ancestors = ancestors
        self.paged, self.pieces = paged, pieces
        self._entries: dict[tuple[Mode, int], Any] = {}
        self.has_positions = role in ("attention", "model")

    def problem(self, mode: Mode) -> Problem:
        if mode == "prefill" or not self.has_positions:
            tokens = min(self.rows, self.context) if self.has_positions else self.rows
            what = "position" if self.has_positions else "row"
            places = tuple(Place(0, position, f"{what} {position}") for position in range(tokens))
            return Problem((self._random(tokens, seed=0),), places)
        lengths = self._prompt_lengths()
        places = tuple(
            Place(
                user,
                length + step,
                f"user {user} at position {length + step}, step {step} after its prompt of {length}",
            )
            for step in range(_STEPS)
            for user, length in enumerate(lengths)
        )
        return Problem(tuple(self._random(length + _STEPS, seed=user) for user, length in enumerate(lengths)), places)

    def run(self, mode: Mode, problem: Problem, read: Read) -> torch.Tensor:
        """[places, D or V] by the module's forward of that mode."""
        if mode == "prefill":
            return problem.rows_of([self._prefill(sequence, read) for sequence in problem.sequences])
        if not self.has_positions:
            return read(self.module.decode_forward(self._to_device(problem.sequences[0], "decode")))[0, 0]
        lengths = self._prompt_lengths()
        cache = self._filled_cache(
            [sequence[:length] for sequence, length in zip(problem.sequences, lengths, strict=True)]
        )
        steps = []
        for step in range(_STEPS):
            now = [length + step for length in lengths]
            x = torch.stack([sequence[at] for sequence, at in zip(problem.sequences, now, strict=True)])
            steps.append(read(self._step(x, cache, now))[0, 0])
        return torch.cat(steps)

    def run_otherwise(self, mode: Mode, problem: Problem, read: Read) -> tuple[torch.Tensor, int]:
        """The first of the places' rows by the other mode, and how many: what a module can be held to without a reference."""
        if mode == "decode":
            found = problem.rows_of([self._prefill(sequence, read) for sequence in problem.sequences])
            return found, len(found)
        sequence = problem.sequences[0]
        if not self.has_positions:
            parts = [
                read(self.module.decode_forward(self._to_device(part, "decode")))[0, 0] for part in sequence.split(TILE)
            ]
            return torch.cat(parts), len(sequence)
        few = min(_STEPWISE, len(sequence))
        cache = self.allocate_cache(1)
        steps = [read(self._step(sequence[at : at + 1], cache, [at]))[0, 0] for at in range(few)]
        return torch.cat(steps), few

    def prepare(self, mode: Mode) -> tuple[Callable[[], Callable[..., Any]], list[Any]]:
        """What makes ready one forward each time that it is called, and the tensors of the cache that those find.

        A forward may free its input, so each has its own.
        """
        tokens = min(self.rows, self.context) if self.has_positions else self.rows
        x = self._random(tokens if mode == "prefill" else self.rows, seed=0)
        forward = getattr(self.module, f"{mode}_forward")
        if not self.has_positions:
            return lambda: partial(forward, self._to_device(x, mode)), []
        if mode == "prefill" and self.role == "model":
            return lambda: partial(forward, x[None].numpy()), []
        if mode == "prefill":
            prompt = _padded(x)
            positions = self._prompt_positions(0, len(prompt))
            return lambda: partial(forward, self._to_device(prompt, mode), cache=None, positions=positions), []
        cache = self.allocate_cache(self.rows)
        layers = cache if self.role == "model" else [cache]
        held = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
        if self.role == "model":
            return lambda: partial(self._step, x, cache, [0] * self.rows), held
        now = _integers([0] * self.rows, self.mesh)
        return lambda: partial(forward, self._to_device(x, mode), cache=cache, positions=now), held

    def learn_entries(self, mode: Mode) -> None:
        """Find out where inputs of that mode's runs are to lie, while nobody watches values."""
        if not self.ancestors or self.role == "embedding":
            return
        sizes = {len(sequence) for sequence in self.problem(mode).sequences}
        if self.has_positions:
            longer = {size + -size % TILE for size in (*sizes, *self._prompt_lengths()) if size}
            works: set[tuple[Mode, int]] = {("prefill", size) for size in longer} | {
                ("decode", self.rows),
                ("decode", 1),
            }
        else:
            parts = {min(TILE, size - start) for size in sizes for start in range(0, size, TILE)}
            works = {("prefill", size) for size in sizes} | {("decode", size) for size in sizes | parts}
        for each, rows in sorted(works):
            self._entry(each, rows)

    def allocate_cache(self, users: int) -> Any:
        """Errors: SpecError for a module that keeps no cache, so that it cannot decode."""
        if not isinstance(self.module, (Cached, CausalLM)):
            raise SpecError(
                f"{type(self.module).__name__} takes a cache and has no allocate_cache (ttt_core.Cached), so its decode "
                'cannot be tested. Add it, or ask for .mode("prefill").'
            )
        if not self.paged:
            return self.module.allocate_cache(users=users, context=self.context)
        owner = next(part for part in (self.module, getattr(self.module, "attention", None)) if isinstance(part, Paged))
        return owner.allocate_paged_cache(blocks=users * self.context // TILE, block=TILE)

    def _pages(self, users: Sequence[int], of: int) -> Any:
        """The page table of some of so many users, or None."""
        if not self.paged:
            return None
        scattered = torch.randperm(of * self.context // TILE, generator=torch.Generator().manual_seed(0))
        return _integers(scattered.reshape(of, -1)[list(users)].tolist(), self.mesh)

    def _prefill(self, sequence: torch.Tensor, read: Read) -> torch.Tensor:
        """[S, D] or [S] → [S, D or V], the prompt padded to whole tiles where there are positions."""
        if self.role == "model":
            return read(self.module.prefill_forward(sequence[None].numpy(), logits="all"))[0, 0]
        if self.role != "attention":
            return read(self.module.prefill_forward(self._to_device(sequence, "prefill")))[0, 0]
        cache = self.allocate_cache(1) if self.paged or self.pieces else None
        return torch.cat([read(y)[0, 0] for y in self._read_prompt(sequence, cache)])[: len(sequence)]

    def _read_prompt(self, prompt: torch.Tensor, cache: Any, user: int = 0, of: int = 1) -> Iterator[Any]:
        """What an attention makes of each piece of a user's prompt, padded to whole tiles; of users there are `of`."""
        x, mine = _padded(prompt), cache and cache.for_user(user)
        middle = len(x) // 2 // TILE * TILE
        cuts = sorted({0, TILE, middle, len(x)}) if self.pieces else [0, len(x)]
        pages = self._pages([user], of)
        for start, end in pairwise(cuts):
            yield self.module.prefill_forward(
                self._to_device(x[start:end], "prefill"),
                cache=mine.after(start) if start else mine,
                positions=self._prompt_positions(start, end),
                page_table=pages,
            )

    def _filled_cache(self, prompts: Sequence[torch.Tensor]) -> Any:
        cache = self.allocate_cache(len(prompts))
        given = [(user, prompt) for user, prompt in enumerate(prompts) if len(prompt)]
        if not given:
            return cache
        if self.role == "model":
            longest = max(len(prompt) for _, prompt in given)
            ids = torch.stack([torch.nn.functional.pad(prompt, (0, longest - len(prompt))) for _, prompt in given])
            self.module.prefill_forward(ids.numpy(), cache=cache, lengths=[len(prompt) for _, prompt in given])
            return cache
        for user, prompt in given:
            for _ in self._read_prompt(prompt, cache, user, len(prompts)):
                pass
        return cache

    def _step(self, x: torch.Tensor, cache: Any, positions: list[int]) -> Any:
        now = np.array(positions, np.int32)
        if self.role == "model":
            return self.module.decode_forward(x.numpy(), cache=cache, positions=now)
        return self.module.decode_forward(
            self._to_device(x, "decode"),
            cache=cache,
            positions=_integers(positions, self.mesh),
            page_table=self._pages(range(len(positions)), len(positions)),
        )

    def _prompt_lengths(self) -> list[int]:
        longest = self.context - max(_STEPS, TILE)  # a padded prompt fits too
        return [min(_PROMPTS[user], max(longest, 0)) if user < len(_PROMPTS) else 0 for user in range(self.rows)]

    def _random(self, rows: int, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        if self.role in ("embedding", "model"):
            return torch.randint(self.sizes.vocabulary or 1, (rows,), generator=generator)
        return torch.randn(rows, self.sizes.width or 1, generator=generator).bfloat16().float()  # exact on the device

    def _to_device(self, x: torch.Tensor, mode: Mode) -> Any:
        if self.role == "embedding":
            return upload(x[None].numpy().astype(np.uint32), self.mesh, dtype="uint32", layout="row_major")
        held = upload(x[None, None].numpy(), self.mesh, dtype="bfloat16")
        entry = self._entry(mode, len(x))
        return held if entry is None or entry == held.memory_config() else ttnn.to_memory_config(held, entry)

    def _entry(self, mode: Mode, rows: int) -> Any:
        """The memory config of the input that the nearest ancestor gives the module; None where none does."""
        if self.ancestors and (mode, rows) not in self._entries:
            parent, *others = self.ancestors
            driver = Driver(
                parent,
                self.mesh,
                role=role_of(parent),
                sizes=sizes_of(parent),
                rows=rows,
                context=max(self.context, rows),
                ancestors=tuple(others),
            )
            self._entries[mode, rows] = _seen_input(self.module, mode, rows, driver)
        return self._entries.get((mode, rows))

    def _prompt_positions(self, start: int, end: int) -> Any:
        return upload(np.arange(start, end, dtype=np.int32)[None], self.mesh, dtype="int32", layout="row_major")


class _Seen(Exception):
    """Ends a forward that has shown what it was run for."""


def _seen_input(module: Any, mode: Mode, rows: int, parent: Driver) -> Any:
    """Run the parent until it calls the module with so many rows, and look at where they lie."""
    name, seen = f"{mode}_forward", []
    if not hasattr(module, "__dict__"):
        return None
    own = vars(module).get(name)

    def look(x: Any, *_: Any, **__: Any) -> Any:
        seen.extend([x.memory_config()] if x.shape[-2] == rows else [])
        raise _Seen

    setattr(module, name, look)
    try:
        ready, _ = parent.prepare(mode)
        run = ready()
        run(logits="all") if parent.role == "model" and mode == "prefill" else run()
    except (_Seen, TttError, RuntimeError):
        pass
    finally:
        if own is None:
            delattr(module, name)
        else:
            setattr(module, name, own)
    return seen[0] if seen else None


def _integers(values: list[Any], mesh: Any) -> Any:
    return upload(np.array(values, np.int32), mesh, dtype="int32", layout="row_major")


def _padded(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(x, (0, 0, 0, -len(x) % TILE))
