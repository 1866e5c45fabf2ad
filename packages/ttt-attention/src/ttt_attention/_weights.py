"""The device tensors of an attention, made of its weights as transformers stores them.

Letters: H query and KV key-value heads of all chips, hd their dim, P the padded one, D hidden dim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ttt_attention.heads import heads_by_chip, pack_output, pack_qkv, padded_head_dim, split_heads
from ttt_attention.spec import AttentionSpec
from ttt_core import WeightError
from ttt_hw import board_of, weight_on_mesh
from ttt_shard_dsl import TILE
from ttt_weights import Float32, LazyWeight, NoWeight, as_source

Made: TypeAlias = "LazyWeight | NoWeight"
CALLED = {"q": "query", "k": "key", "v": "value"}


class Maker:
    """Makes a tensor where the plans have it. `given` are sources by name, None for those that there are not."""

    def __init__(self, given: Mapping[str, Any], plans: Any, *, device: Any) -> None:
        self._given = given
        self._plans = plans
        self._device = device
        self._board = board_of(device)
        self._chips = self._board.mesh[1]

    def _made(
        self,
        stored: str,
        sources: list[Any],
        build: Callable[..., Float32],
        shape: tuple[int, ...],
        *,
        dim: int | None = None,
        hidden: int | None = None,
    ) -> LazyWeight:
        """`dim`: along which each chip of a row has a part of it; `hidden`: which is the hidden dim."""
        text = self._plans.stored[stored]
        return LazyWeight(
            sources,
            build,
            shape=shape,
            dtype=self._plans.dtypes[stored],
            device=self._device,
            placement=weight_on_mesh(text, self._board, hidden=hidden, inner=dim),
        )

    def _agree(self, wanted: bool, names: Sequence[str], field: str) -> None:
        """The spec and the weights say the same about an optional part."""
        given = sum(self._given[name] is not None for name in names)
        if names and given != len(names) * wanted:
            *first, last = names
            listed = f"{', '.join(first)} and {last}" if first else last
            raise WeightError(
                f"the spec's {field} {'asks for' if wanted else 'has no use for'} {listed}, of which "
                f"{given} were given. Give all of them, or change the spec."
            )


class WeightMaker(Maker):
    """Of attention with keys and values; NoWeight for what the spec has no use for.

    Errors: WeightError for a wrong shape, or a weight that the spec asks for and that is not given (or the reverse).
    """

    def __init__(self, spec: AttentionSpec, given: Mapping[str, Any], plans: Any, *, device: Any) -> None:
        super().__init__(given, plans, device=device)
        self._spec = spec
        self._local = split_heads(spec, self._chips)
        self._width = padded_head_dim(spec.head_dim)

    def qkv(self) -> LazyWeight:
        """[1, 1, D, chips · (H + 2·KV of a chip) · P]."""
        spec, chips = self._spec, self._chips
        sources = [self._heads_source(name, "weight", (spec.hidden_dim,)) for name in "qkv"]
        return self._made(
            "qkv_weight",
            sources,
            lambda q, k, v: pack_qkv(*self._centred(q, k), v, spec=spec, chips=chips)[None, None],
            (1, 1, spec.hidden_dim, self._qkv_columns),
            dim=3,
            hidden=2,
        )

    def qkv_bias(self) -> Made:
        """[1, 1, 1, as qkv]; zeros for one of q, k and v that has none."""
        spec, chips = self._spec, self._chips
        biased = spec.biased
        for wanted in (True, False):
            self._agree(wanted, [f"{name}_bias" for name in "qkv" if (name in biased) == wanted], "qkv_bias")
        if not biased:
            return NoWeight()
        parts = np.float32(self._board.hidden_chips)  # whose parts are summed

        def build(*biases: Float32) -> Float32:
            there = dict(zip(biased, biases, strict=True))
            q, k, v = (there.get(name, np.zeros(self._rows(name), np.float32))[:, None] / parts for name in "qkv")
            return pack_qkv(*self._centred(q, k), v, spec=spec, chips=chips)[None, None]

        sources = [self._heads_source(f"{name}_bias", "bias", ()) for name in biased]
        return self._made("qkv_bias", sources, build, (1, 1, 1, self._qkv_columns), dim=3)

    def heads(self, name: str, columns: int) -> LazyWeight:
        """Of q, k or v alone: [1, 1, columns, chips · its heads of a chip · P]."""
        return self._made(
            f"{name}_weight",
            [self._heads_source(name, "weight", (columns,))],
            lambda weight: np.concatenate(heads_by_chip(weight, self._spec, self._chips), -1)[None, None],
            (1, 1, columns, self._heads(name) * self._width),
            dim=3,
        )

    def heads_bias(self, name: str) -> Made:
        """[1, 1, 1, as heads]."""
        wanted = name in self._spec.biased
        self._agree(wanted, [f"{name}_bias"], "qkv_bias")
        if not wanted:
            return NoWeight()
        return self._made(
            f"{name}_bias",
            [self._heads_source(f"{name}_bias", "bias", ())],
            lambda bias: np.concatenate(heads_by_chip(bias[:, None], self._spec, self._chips), -1)[None, None],
            (1, 1, 1, self._heads(name) * self._width),
            dim=3,
        )

    def output(self) -> LazyWeight:
        """[1, 1, H · P, D]."""
        spec = self._spec
        rows = spec.num_heads * spec.head_dim
        return self._made(
            "output_weight",
            [as_source(self._given["o"], shape=(spec.hidden_dim, rows), name="the output weight")],
            lambda weight: pack_output(weight, spec)[None, None],
            (1, 1, spec.num_heads * self._width, spec.hidden_dim),
            dim=2,
            hidden=3,
        )

    def output_bias(self) -> Made:
        """Divided by the chips, each of which has it whole, so that their sum has it once."""
        self._agree(self._spec.output_bias, ["o_bias"], "output_bias")
        if not self._spec.output_bias:
            return NoWeight()
        hidden, parts = self._spec.hidden_dim, np.float32(self._chips)
        source = as_source(self._given["o_bias"], shape=(hidden,), name="the output bias")
        shape = (1, 1, 1, hidden)
        return self._made("output_bias", [source], lambda b: (b / parts).reshape(shape), shape, hidden=3)

    def gate(self) -> Made:
        """[1, 1, D, H · P]; a gate of each head is there for each of its elements."""
        spec, gate = self._spec, self._spec.output_gate
        self._agree(gate is not None, ["gate"], "output_gate")
        if gate is None:
            return NoWeight()
        each = 1 if gate.per == "element" else spec.head_dim
        rows = spec.num_heads * spec.head_dim // each
        source = as_source(self._given["gate"], shape=(rows, spec.hidden_dim), name="the gate weight")

        def build(weight: Float32) -> Float32:
            return np.concatenate(heads_by_chip(weight.repeat(each, 0), spec, self._chips), -1)[None, None]

        shape = (1, 1, spec.hidden_dim, spec.num_heads * self._width)
        return self._made("gate_weight", [source], build, shape, dim=3, hidden=2)

    def norm(self, name: str) -> Made:
        """The weight of the norm of q or k: [1, 1, 1, P], or over all heads [1, 1, 1, heads · P].

        The kernel's mean of squares is over P instead of hd, so the weight is multiplied by sqrt(hd/P), and eps by hd/P in the
        list of operations: x / sqrt(Σx²/P + eps·hd/P) · weight · sqrt(hd/P) is the same number.
        Source: arXiv 2302.05442 section 3 (query-key normalisation); Qwen3RMSNorm of transformers.
        """
        norm = self._spec.head_norm
        self._agree(norm is not None and norm.weight != "none", ["q_norm", "k_norm"], "head_norm")
        stored = f"{name}_norm_weight"
        if norm is None or stored not in self._plans.stored:
            return NoWeight()
        if norm.weight == "none":
            width = self._width * (1 if norm.span == "head" else self._heads(name))
            ones = np.full((1, 1, 1, width), self._filled, np.float32)
            return self._made(stored, [], lambda: ones, (1, 1, 1, width), dim=3 if norm.span == "all" else None)
        return self._vector(name, stored, f"{name}_norm", "norm's weight", self._filled)

    def norm_bias(self, name: str) -> Made:
        norm = self._spec.head_norm
        self._agree(norm is not None and norm.bias, ["q_norm_bias", "k_norm_bias"], "head_norm.bias")
        if norm is None or not norm.bias:
            return NoWeight()
        stored = f"{name}_norm_bias"
        return self._vector(name, stored, stored, "norm's bias", np.float32(1))

    def norm_by_head(self, name: str, *, rows: bool) -> Made:
        """Of heads that have each a weight of their own: [1, heads, 1, P], with `rows` as decode has them, [1, 1, heads, P]."""
        norm = self._spec.head_norm
        if norm is None or norm.weight != "own" or norm.span == "all":
            return NoWeight()
        shape = (1, 1, self._heads(name), self._width) if rows else (1, self._heads(name), 1, self._width)
        source = self._heads_source(f"{name}_norm", "norm's weight", ())

        def build(weight: Float32) -> Float32:
            parts = heads_by_chip(weight[:, None], self._spec, self._chips)
            return np.concatenate(parts, -1).reshape(shape) * self._filled

        return self._made(f"{name}_norm_{'rows' if rows else 'heads'}", [source], build, shape, dim=2 if rows else 1)

    def sinks(self, *, rows: bool) -> Made:
        """Divided by the scale, that the kernel multiplies by: [1, H, 1, 1], or as decode has them in the first of 32 columns."""
        spec = self._spec
        self._agree(spec.sinks, ["sinks"], "sinks")
        if not spec.sinks:
            return NoWeight()
        heads, scale = spec.num_heads, np.float32(spec.scale)
        source = as_source(self._given["sinks"], shape=(heads,), name="the sinks")
        if rows:
            wide = (heads, TILE)
            return self._made(
                "sink_rows", [source], lambda s: np.pad(s[:, None] / scale, [(0, 0), (0, TILE - 1)]), wide, dim=0
            )
        return self._made("sinks", [source], lambda s: (s / scale).reshape(1, heads, 1, 1), (1, heads, 1, 1), dim=1)

    @property
    def _filled(self) -> np.float32:
        return np.float32((self._spec.head_dim / self._width) ** 0.5)

    @property
    def _qkv_columns(self) -> int:
        return self._chips * (self._local.num_heads + 2 * self._local.num_kv_heads) * self._width

    def _heads(self, name: str) -> int:
        """Of all chips, with those that several have."""
        return self._chips * (self._local.num_heads if name == "q" else self._local.num_kv_heads)

    def _rows(self, name: str) -> int:
        return (self._spec.num_heads if name == "q" else self._spec.num_kv_heads) * self._spec.head_dim

    def _vector(self, name: str, stored: str, given: str, what: str, factor: np.float32) -> LazyWeight:
        """A norm's weight or bias, of one head, or of all that are normalised together."""
        norm, spec = self._spec.head_norm, self._spec
        if norm is not None and norm.span == "all":
            width = self._heads(name) * self._width
            source = self._heads_source(given, what, ())

            def build(weight: Float32) -> Float32:
                parts = heads_by_chip(weight[:, None], spec, self._chips)
                return (np.concatenate(parts, -1) * factor).reshape(1, 1, 1, width)

            return self._made(stored, [source], build, (1, 1, 1, width), dim=3)
        source = as_source(self._given[given], shape=(spec.head_dim,), name=f"the {CALLED[name]} {what}")
        return self._made(
            stored,
            [source],
            lambda weight: (heads_by_chip(weight[:, None], spec, 1)[0] * factor)[None, None],
            (1, 1, 1, self._width),
        )

    def _centred(self, q: Float32, k: Float32) -> tuple[Float32, Float32]:
        """Rows that make heads of mean 0, where a layer norm subtracts it: (I − 11ᵀ/n)·W·x is W·x less its mean."""
        norm = self._spec.head_norm
        if norm is None or norm.kind == "rms":
            return q, k
        length = self._spec.head_dim if norm.span == "head" else -1

        def centred(weight: Float32) -> Float32:
            heads = weight.reshape(-1, length if length > 0 else len(weight), weight.shape[-1])
            centre: Float32 = (heads - heads.mean(1, keepdims=True)).reshape(weight.shape)
            return centre

        return centred(q), centred(k)

    def _heads_source(self, given: str, what: str, more: tuple[int, ...]) -> Any:
        name = given[0]
        return as_source(self._given[given], shape=(self._rows(name), *more), name=f"the {CALLED[name]} {what}")
