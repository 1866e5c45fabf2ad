"""A decoder-only language model on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import ttnn

from ttt_core import Embedding, Head, KVCache, LogitRows, Mode, Norm, ShapeError, Tensor, Weight
from ttt_hw import DType, OpTime, Timed, upload
from ttt_patterns._parts import times_of, weights_of
from ttt_patterns.decoder import DecoderLayer

__all__ = ["DecoderModel"]


class DecoderModel(Timed):
    """A decoder-only language model: embedding → layers → final norm → head; keeps ttt_core.CausalLM.

    Prefill takes the prompts one at a time, each padded on the right to whole tiles: attention is causal, so padding changes
    no earlier token, and its cache rows are overwritten before decode attends to them.
    """

    def __init__(
        self,
        *,
        embedding: Embedding,
        layers: Sequence[DecoderLayer],
        final_norm: Norm,
        head: Head,
        vocab_size: int,
        max_context: int,
        device: Any,
    ) -> None:
        self.embedding = embedding
        self.layers = tuple(layers)
        self.final_norm = final_norm
        self.head = head
        self.vocab_size = vocab_size
        self.max_context = max_context
        self._device = device

    @property
    def weights(self) -> tuple[Weight, ...]:
        return weights_of(self.embedding, *self.layers, self.final_norm, self.head)

    def allocate_cache(self, *, users: int, context: int) -> tuple[KVCache, ...]:
        """One zeroed cache a layer, for `context` tokens rounded up to whole tiles."""
        return tuple(layer.allocate_cache(users=users, context=context) for layer in self.layers)

    def prefill_forward(
        self,
        ids: Any,
        /,
        *,
        cache: Sequence[KVCache] | None = None,
        lengths: Sequence[int] | None = None,
        logits: LogitRows = "last",
    ) -> Tensor:
        """ids [B, S] (a torch, NumPy or ttnn tensor) → [1, 1, B, V] of each prompt's last token, or [B, 1, S, V] of all.

        `lengths` are the prompts' own lengths, S by default; rows of "all" beyond a prompt's length mean nothing.
        Errors: ShapeError for ids that are not [B, S], more tokens than the model has positions, or lengths outside 1 … S.
        """
        prompts, tokens = self._prompts(ids)
        lengths = [tokens] * len(prompts) if lengths is None else list(lengths)
        if len(lengths) != len(prompts) or not all(1 <= length <= tokens for length in lengths):
            raise ShapeError(
                f"lengths {lengths} for ids [{len(prompts)}, {tokens}]; one length from 1 to {tokens} a prompt."
            )
        caches = [None if cache is None else [layer.for_user(user) for layer in cache] for user in range(len(prompts))]
        hidden = (self._hidden(prompt, mine) for prompt, mine in zip(prompts, caches, strict=True))
        if logits == "all":
            return _concat([_slice_rows(self._logits(h), 0, tokens) for h in hidden], dim=0)
        last = [_slice_rows(h, length - 1, length) for h, length in zip(hidden, lengths, strict=True)]
        return self._logits(_concat(last, dim=2))

    def decode_forward(self, ids: Any, /, *, cache: Sequence[KVCache], positions: Any) -> Tensor:
        """ids [B] at positions [B] → logits [1, 1, B, V]; each may be on the host or on the device ([1, B] uint32, [B] int32).

        Errors: ShapeError for positions on the host that the cache does not have; those on the device are not read.
        """
        if not isinstance(positions, ttnn.Tensor):
            _check_positions(positions, cache)
        ids = self._to_device(ids, "uint32", (1, -1))
        positions = self._to_device(positions, "int32", (-1,))
        x = self.embedding.decode_forward(ids)
        for layer, layer_cache in zip(self.layers, cache, strict=True):
            x = layer.decode_forward(x, cache=layer_cache, positions=positions)
        return self.head.decode_forward(self.final_norm.decode_forward(x))

    def op_times(self, mode: Mode, rows: int, /, *, context: int = 0) -> tuple[OpTime, ...]:
        """Those of its blocks, for a prompt with logits of its last token; cutting rows between them is not planned."""
        padded, last = (rows, rows) if mode == "decode" else (rows + -rows % ttnn.TILE_SIZE, 1)
        layers = {f"layers.{number}": layer for number, layer in enumerate(self.layers)}
        parts: dict[str, object] = {"embedding": self.embedding, **layers}
        ends: dict[str, object] = {"final_norm": self.final_norm, "head": self.head}
        found = [times_of(part, name, mode, padded, context) for name, part in parts.items()]
        found += [times_of(part, name, mode, last, context) for name, part in ends.items()]
        return tuple(op for ops in found for op in ops)

    def _hidden(self, ids: Tensor, cache: Sequence[KVCache] | None) -> Tensor:
        """ids [1, S] on the device, S whole tiles → the last layer's output [1, 1, S, D]."""
        positions = upload(
            np.arange(ids.shape[-1], dtype=np.int32)[None], self._device, dtype="int32", layout="row_major"
        )
        x = self.embedding.prefill_forward(ids)
        caches: Sequence[KVCache | None] = cache or [None] * len(self.layers)
        for layer, layer_cache in zip(self.layers, caches, strict=True):
            x = layer.prefill_forward(x, cache=layer_cache, positions=positions)
        return x

    def _logits(self, hidden: Tensor) -> Tensor:
        """[1, 1, rows, D] of prompts → [1, 1, rows, V]."""
        return self.head.prefill_forward(self.final_norm.prefill_forward(hidden))

    def _prompts(self, ids: Any) -> tuple[list[Tensor], int]:
        """Each prompt's ids [1, S padded] on the device, and S."""
        if len(ids.shape) != 2:
            raise ShapeError(f"prefill takes ids [batch, tokens], got a tensor {list(ids.shape)}.")
        batch, tokens = ids.shape
        if not 1 <= tokens <= self.max_context:
            raise ShapeError(
                f"prefill of {tokens} tokens; the model has positions for 1 to {self.max_context}. Shorten the prompts."
            )
        padding = -tokens % ttnn.TILE_SIZE
        if isinstance(ids, ttnn.Tensor):
            padded = ttnn.pad(ids, [(0, 0), (0, padding)], 0)
            return [ttnn.slice(padded, [user, 0], [user + 1, tokens + padding]) for user in range(batch)], tokens
        host = np.pad(np.asarray(ids), [(0, 0), (0, padding)])
        return [self._to_device(row, "uint32", (1, -1)) for row in host], tokens

    def _to_device(self, values: Any, dtype: DType, shape: tuple[int, ...]) -> Any:
        if isinstance(values, ttnn.Tensor):
            return values
        array = np.asarray(values).reshape(shape).astype(dtype)
        return upload(array, self._device, dtype=dtype, layout="row_major")


def _check_positions(positions: Any, cache: Sequence[KVCache]) -> None:
    context = min(layer.keys.shape[-2] for layer in cache)
    if outside := [position for position in np.asarray(positions).flatten().tolist() if not 0 <= position < context]:
        raise ShapeError(
            f"decode at position {outside[0]} with a cache for {context} tokens. Allocate it for as many as will be decoded."
        )


def _slice_rows(x: Tensor, start: int, stop: int) -> Tensor:
    rows: Tensor = ttnn.slice(x, [0, 0, start, 0], [1, 1, stop, x.shape[-1]])
    return rows


def _concat(tensors: Sequence[Tensor], *, dim: int) -> Tensor:
    joined: Tensor = tensors[0] if len(tensors) == 1 else ttnn.concat(list(tensors), dim=dim)
    return joined
