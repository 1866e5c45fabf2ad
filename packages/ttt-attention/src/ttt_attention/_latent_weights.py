"""The device tensors of a latent attention, made of its weights as transformers stores them.

Letters: H heads of all chips, n and r elements of a head that do not turn and that do, c of a latent, v of a value, D hidden
dim; with P for what is padded to whole tiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ttt_attention._weights import Made, Maker
from ttt_attention.heads import pad_heads, padded_head_dim
from ttt_attention.latent_spec import LatentAttentionSpec, whole_tiles
from ttt_weights import Float32, LazyWeight, NoWeight, as_source

__all__ = ["LatentWeightMaker"]


class LatentWeightMaker(Maker):
    """NoWeight for what the spec has no use for.

    Errors: WeightError for a wrong shape, or a weight that the spec asks for and that is not given (or the reverse).
    """

    def __init__(self, spec: LatentAttentionSpec, given: Mapping[str, Any], plans: Any, *, device: Any) -> None:
        super().__init__(given, plans, device=device)
        self._spec = spec
        low_rank = spec.q_rank is not None
        self._agree(low_rank, ["q_down", "q_norm", "q_up"], "q_rank")
        self._agree(not low_rank, ["q"], "q_rank=None")
        self._agree(spec.latent_bias, ["kv_bias"], "latent_bias")
        self._agree(spec.latent_bias and low_rank, ["q_bias"], "latent_bias")
        self._agree(spec.output_bias, ["o_bias"], "output_bias")

    def q_down(self) -> Made:
        """[1, 1, D, q_rank P]."""
        rank = self._spec.q_rank
        if rank is None:
            return NoWeight()
        shape = (1, 1, self._spec.hidden_dim, whole_tiles(rank))
        source = self._source("q_down", rank, self._spec.hidden_dim)
        return self._made("q_down_weight", [source], lambda w: padded(w.T, shape), shape)

    def q_bias(self) -> Made:
        rank = self._spec.q_rank
        if rank is None or not self._spec.latent_bias:
            return NoWeight()
        shape = (1, 1, 1, whole_tiles(rank))
        return self._made("q_down_bias", [self._source("q_bias", rank)], lambda b: padded(b[None], shape), shape)

    def q_norm(self) -> Made:
        """[1, 1, 1, q_rank P]."""
        return NoWeight() if self._spec.q_rank is None else self._norm("q_latent", "q_norm", self._spec.q_rank, 1.0)

    def q_up(self) -> LazyWeight:
        """[1, 1, q_rank P or D, H · (n P + r P)]; of each head what does not turn comes first. Times the multiplier."""
        spec = self._spec
        columns = spec.hidden_dim if spec.q_rank is None else spec.q_rank
        source = self._source(
            "q" if spec.q_rank is None else "q_up", spec.num_heads * (spec.nope_dim + spec.rope_dim), columns
        )
        nope, rope = whole_tiles(spec.nope_dim), padded_head_dim(spec.rope_dim)
        k = columns if spec.q_rank is None else whole_tiles(columns)
        shape = (1, 1, k, spec.num_heads * (nope + rope))

        def build(weight: Float32) -> Float32:
            heads = np.moveaxis(weight.reshape(spec.num_heads, -1, columns), -1, 0)  # [k, H, n + r]
            still, turned = heads[..., : spec.nope_dim], heads[..., spec.nope_dim :]
            joined = np.concatenate([padded(still, (*still.shape[:2], nope)), pad_heads(turned, spec.rope)], -1)
            return padded(joined.reshape(columns, -1) * np.float32(spec.q_multiplier), shape)

        return self._made("q_up_weight", [source], build, shape, dim=3)

    def kv_down(self) -> LazyWeight:
        """[1, 1, D, c P + r P]."""
        spec = self._spec
        source = self._source("kv_down", spec.kv_rank + spec.rope_dim, spec.hidden_dim)
        shape = (1, 1, spec.hidden_dim, spec.row)
        return self._made("kv_down_weight", [source], lambda w: self._by_part(w.T).reshape(shape), shape)

    def kv_bias(self) -> Made:
        if not self._spec.latent_bias:
            return NoWeight()
        shape = (1, 1, 1, self._spec.row)
        source = self._source("kv_bias", self._spec.kv_rank + self._spec.rope_dim)
        return self._made("kv_down_bias", [source], lambda b: self._by_part(b[None]).reshape(shape), shape)

    def kv_norm(self) -> LazyWeight:
        """[1, 1, 1, c P], times the multiplier of the latent."""
        return self._norm("kv_latent", "kv_norm", self._spec.kv_rank, self._spec.kv_multiplier)

    def key_up(self) -> LazyWeight:
        """W_ukᵀ of each head: [1, H, n P, c P]."""
        spec = self._spec
        shape = (1, spec.num_heads, whole_tiles(spec.nope_dim), whole_tiles(spec.kv_rank))
        return self._made(
            "key_up_weight", [self._kv_up()], lambda w: padded(self._heads(w)[:, : spec.nope_dim], shape), shape, dim=1
        )

    def value_up(self) -> LazyWeight:
        """W_uv of each head: [1, H, c P, v P]."""
        spec = self._spec
        shape = (1, spec.num_heads, whole_tiles(spec.kv_rank), whole_tiles(spec.v_head_dim))

        def build(weight: Float32) -> Float32:
            return padded(self._heads(weight)[:, spec.nope_dim :].swapaxes(1, 2), shape)

        return self._made("value_up_weight", [self._kv_up()], build, shape, dim=1)

    def output(self) -> LazyWeight:
        """[1, 1, H · v P, D]."""
        spec, width = self._spec, whole_tiles(self._spec.v_head_dim)
        source = self._source("o", spec.hidden_dim, spec.num_heads * spec.v_head_dim)
        shape = (1, 1, spec.num_heads * width, spec.hidden_dim)

        def build(weight: Float32) -> Float32:
            heads = weight.T.reshape(spec.num_heads, spec.v_head_dim, spec.hidden_dim)
            return padded(heads, (spec.num_heads, width, spec.hidden_dim)).reshape(shape)

        return self._made("output_weight", [source], build, shape, dim=2)

    def output_bias(self) -> Made:
        """Divided by the chips, each of which has it whole, so that their sum has it once."""
        if not self._spec.output_bias:
            return NoWeight()
        shape, parts = (1, 1, 1, self._spec.hidden_dim), np.float32(self._chips)
        source = self._source("o_bias", self._spec.hidden_dim)
        return self._made("output_bias", [source], lambda b: (b / parts).reshape(shape), shape)

    def _norm(self, stored: str, given: str, rank: int, factor: float) -> LazyWeight:
        """The kernel's mean of squares is over the padding too, see WeightMaker.norm."""
        width = whole_tiles(rank)
        filled = np.float32(factor * (rank / width) ** 0.5)
        shape = (1, 1, 1, width)
        return self._made(
            f"{stored}_norm_weight", [self._source(given, rank)], lambda w: padded(w[None] * filled, shape), shape
        )

    def _by_part(self, values: Float32) -> Float32:
        """[..., c + r] → [..., c P + r P], as a cache has them."""
        latent = self._spec.kv_rank
        still = padded(values[..., :latent], (*values.shape[:-1], whole_tiles(latent)))
        return np.concatenate([still, pad_heads(values[..., latent:], self._spec.rope)], -1)

    def _kv_up(self) -> Any:
        spec = self._spec
        return self._source("kv_up", spec.num_heads * (spec.nope_dim + spec.v_head_dim), spec.kv_rank)

    def _heads(self, weight: Float32) -> Float32:
        """[H, n + v, c]."""
        return weight.reshape(self._spec.num_heads, -1, self._spec.kv_rank)

    def _source(self, given: str, *shape: int) -> Any:
        return as_source(self._given[given], shape=shape, name=f"the {given} weight")


def padded(values: Float32, shape: tuple[int, ...]) -> Float32:
    """With zeros behind, and dims of 1 before, to that shape."""
    whole = values.reshape((1,) * (len(shape) - values.ndim) + values.shape)
    return np.pad(whole, [(0, wanted - size) for wanted, size in zip(shape, whole.shape, strict=True)])
