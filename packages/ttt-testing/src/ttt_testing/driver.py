"""Runs a module on inputs of its own: prompts, users, positions and caches, as its Protocol asks.

A run is a set of sequences and the places in them that are computed, so that a prefill, a decode through the cache and a
reference that sees a whole sequence at once answer for the same rows.
Letters: B users, S tokens, D elements of a row, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ttt_core import Cached, CausalLM, Mode, SpecError
from ttt_hw import upload
from ttt_shard_dsl import TILE
from ttt_testing.finding import Role, Sizes

Read = Callable[[Any], torch.Tensor]  # a device tensor's value
_PROMPTS = (TILE + 1, 1, TILE)  # of the first users; the others start without one
_STEPS = 2
_STEPWISE = 8


@dataclass(frozen=True, slots=True)
class Place:
    """A row of a result: of which sequence, at which position of it, and what to call it."""

    sequence: int
    position: int
    name: str


@dataclass(frozen=True, slots=True)
class Problem:
    """`sequences`: [S, D] rows or [S] ids each."""

    sequences: tuple[torch.Tensor, ...]
    places: tuple[Place, ...]

    @property
    def names(self) -> list[str]:
        return [place.name for place in self.places]

    def rows_of(self, results: Sequence[torch.Tensor]) -> torch.Tensor:
        """The rows of the places, out of a result [S, D or V] for each sequence."""
        return torch.stack([results[place.sequence][place.position] for place in self.places])


class Driver:
    """`rows`: tokens of a prompt in prefill, users in decode; `context`: what a cache holds."""

    def __init__(self, module: Any, mesh: Any, *, role: Role, sizes: Sizes, rows: int, context: int) -> None:
        self.module, self.mesh, self.role, self.sizes, self.rows = module, mesh, role, sizes, rows
        longest = context if sizes.max_context is None else min(context, sizes.max_context)
        self.context = max(TILE, longest // TILE * TILE)
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
            return read(self.module.decode_forward(self._to_device(problem.sequences[0])))[0, 0]
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
            parts = [read(self.module.decode_forward(self._to_device(part)))[0, 0] for part in sequence.split(TILE)]
            return torch.cat(parts), len(sequence)
        few = min(_STEPWISE, len(sequence))
        cache = self.allocate_cache(1)
        steps = [read(self._step(sequence[at : at + 1], cache, [at]))[0, 0] for at in range(few)]
        return torch.cat(steps), few

    def once(self, mode: Mode) -> tuple[Callable[[], Any], list[Any]]:
        """One forward, for what time and memory it takes, and the tensors of the cache that it finds."""
        tokens = min(self.rows, self.context) if self.has_positions else self.rows
        x = self._random(tokens if mode == "prefill" else self.rows, seed=0)
        forward = getattr(self.module, f"{mode}_forward")
        if not self.has_positions:
            held = self._to_device(x)
            return lambda: forward(held), []
        if mode == "prefill" and self.role == "model":
            return lambda: forward(x[None].numpy()), []
        if mode == "prefill":
            held, positions = self._to_device(_padded(x)), self._prompt_positions(len(_padded(x)))
            return lambda: forward(held, cache=None, positions=positions), []
        cache = self.allocate_cache(self.rows)
        layers = cache if self.role == "model" else [cache]
        held = [tensor for layer in layers for tensor in (layer.keys, layer.values)]
        return lambda: self._step(x, cache, [0] * self.rows), held

    def allocate_cache(self, users: int) -> Any:
        """Errors: SpecError for a module that keeps no cache, so that it cannot decode."""
        if not isinstance(self.module, (Cached, CausalLM)):
            raise SpecError(
                f"{type(self.module).__name__} takes a cache and has no allocate_cache (ttt_core.Cached), so its decode "
                'cannot be tested. Add it, or ask for .mode("prefill").'
            )
        return self.module.allocate_cache(users=users, context=self.context)

    def _prefill(self, sequence: torch.Tensor, read: Read) -> torch.Tensor:
        """[S, D] or [S] → [S, D or V], the prompt padded to whole tiles where there are positions."""
        if self.role == "model":
            return read(self.module.prefill_forward(sequence[None].numpy(), logits="all"))[0, 0]
        if self.role != "attention":
            return read(self.module.prefill_forward(self._to_device(sequence)))[0, 0]
        x = _padded(sequence)
        y = self.module.prefill_forward(self._to_device(x), cache=None, positions=self._prompt_positions(len(x)))
        return read(y)[0, 0, : len(sequence)]

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
            x = _padded(prompt)
            positions = self._prompt_positions(len(x))
            self.module.prefill_forward(self._to_device(x), cache=cache.for_user(user), positions=positions)
        return cache

    def _step(self, x: torch.Tensor, cache: Any, positions: list[int]) -> Any:
        now = np.array(positions, np.int32)
        if self.role == "model":
            return self.module.decode_forward(x.numpy(), cache=cache, positions=now)
        held = upload(now, self.mesh, dtype="int32", layout="row_major")
        return self.module.decode_forward(self._to_device(x), cache=cache, positions=held)

    def _prompt_lengths(self) -> list[int]:
        longest = self.context - max(_STEPS, TILE)  # a padded prompt fits too
        return [min(_PROMPTS[user], max(longest, 0)) if user < len(_PROMPTS) else 0 for user in range(self.rows)]

    def _random(self, rows: int, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        if self.role in ("embedding", "model"):
            return torch.randint(self.sizes.vocabulary or 1, (rows,), generator=generator)
        return torch.randn(rows, self.sizes.width or 1, generator=generator).bfloat16().float()  # exact on the device

    def _to_device(self, x: torch.Tensor) -> Any:
        if self.role == "embedding":
            return upload(x[None].numpy().astype(np.uint32), self.mesh, dtype="uint32", layout="row_major")
        return upload(x[None, None].numpy(), self.mesh, dtype="bfloat16")

    def _prompt_positions(self, tokens: int) -> Any:
        return upload(np.arange(tokens, dtype=np.int32)[None], self.mesh, dtype="int32", layout="row_major")


def _padded(x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(x, (0, 0, 0, -len(x) % TILE))
