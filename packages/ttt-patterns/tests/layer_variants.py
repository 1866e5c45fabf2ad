"""Variants of layers, for the conformance session: where their norms are, and what they add."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from ttt_attention import AttentionSpec, CrossAttentionSpec, GroupedQueryAttention, MultiHeadCrossAttention, RopeSpec
from ttt_core import KVCache, Norm, Tensor
from ttt_ffn import FFNSpec, SwiGLU
from ttt_hw import upload
from ttt_norm import NormSpec, RMSNorm
from ttt_patterns import CrossAttentionLayer, DecoderLayer, EncoderLayer
from ttt_patterns.spec import Residual
from ttt_testing.variants import Precision, Variant, seeded

WIDTH, INNER, HEADS, KV_HEADS, HEAD_DIM = 128, 256, 16, 8, 32
ATTENTION = AttentionSpec(
    hidden_dim=WIDTH, num_heads=HEADS, num_kv_heads=KV_HEADS, head_dim=HEAD_DIM, max_context=1024, rope=RopeSpec()
)
FFN = FFNSpec(hidden_dim=WIDTH, intermediate_dim=INNER)
NORM = NormSpec(dim=WIDTH, eps=1e-5)
CROSS = CrossAttentionSpec(hidden_dim=WIDTH, num_heads=HEADS, num_kv_heads=KV_HEADS, head_dim=HEAD_DIM, max_memory=64)


@dataclass(frozen=True)
class Whole:
    residual: Residual = "pre_norm"
    multiplier: float = 1.0
    one_norm: bool = False

    @property
    def norms(self) -> tuple[str, ...]:
        outputs = ("attention_output_norm", "ffn_output_norm") if self.residual == "sandwich" else ()
        return ("attention_norm", *(() if self.one_norm else ("ffn_norm",)), *outputs)


def attention_weights() -> dict[str, torch.Tensor]:
    rows = {"q": HEADS * HEAD_DIM, "k": KV_HEADS * HEAD_DIM, "v": KV_HEADS * HEAD_DIM}
    found = {role: 3 * seeded(role, count, WIDTH) for role, count in rows.items()}
    return found | {"o": seeded("o", WIDTH, HEADS * HEAD_DIM)}


def ffn_weights() -> dict[str, torch.Tensor]:
    shapes = {"gate": (INNER, WIDTH), "up": (INNER, WIDTH), "down": (WIDTH, INNER)}
    return {role: 2 * seeded(role, *shape) for role, shape in shapes.items()}


def exactly(precision: Precision) -> dict[str, Any]:
    return {"dtype": "bfloat16"} if precision == "bfloat16" else {"hw_mode": "performance"}


def attention_of(spec: AttentionSpec, mesh: Any, **exact: Any) -> GroupedQueryAttention:
    arrays: dict[str, Any] = {role: weight.numpy() for role, weight in attention_weights().items()}
    return GroupedQueryAttention(spec, **arrays, device=mesh, **exact)


def ffn_of(mesh: Any, **exact: Any) -> SwiGLU:
    arrays: dict[str, Any] = {role: weight.numpy() for role, weight in ffn_weights().items()}
    return SwiGLU(FFN, **arrays, device=mesh, **exact)


def norms_of(whole: Whole, mesh: Any) -> dict[str, Any]:
    return {role: RMSNorm(NORM, seeded(role, WIDTH).numpy(), device=mesh) for role in whole.norms}


def build(whole: Whole, mesh: Any, precision: Precision) -> DecoderLayer:
    exact = exactly(precision)
    return DecoderLayer(
        attention=attention_of(ATTENTION, mesh, **exact),
        ffn=ffn_of(mesh, **exact),
        **norms_of(whole, mesh),
        residual_pattern=whole.residual,
        multiplier=whole.multiplier,
    )


def attended(x: torch.Tensor, causal: bool = True) -> torch.Tensor:
    """x [1, S, D] → the same: LlamaAttention without its cache."""
    w, tokens = attention_weights(), x.shape[1]
    angles = torch.arange(tokens)[:, None] * 10_000.0 ** (-torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    cos, sin = (torch.cat([table, table], -1) for table in (angles.cos(), angles.sin()))

    def heads(role: str) -> torch.Tensor:
        return (x[0] @ w[role].T).reshape(tokens, -1, HEAD_DIM).transpose(0, 1)

    def turned(y: torch.Tensor) -> torch.Tensor:
        first, second = y.chunk(2, -1)
        return y * cos + torch.cat([-second, first], -1) * sin

    keys, values = (y.repeat_interleave(HEADS // KV_HEADS, 0) for y in (turned(heads("k")), heads("v")))
    joined = torch.nn.functional.scaled_dot_product_attention(turned(heads("q")), keys, values, is_causal=causal)
    return joined.transpose(0, 1).reshape(1, tokens, -1) @ w["o"].T


def fed(x: torch.Tensor) -> torch.Tensor:
    w = ffn_weights()
    return (torch.nn.functional.silu(x @ w["gate"].T) * (x @ w["up"].T)) @ w["down"].T


def normed(role: str, x: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.rms_norm(x, (WIDTH,), seeded(role, WIDTH), NORM.eps)


def reference(whole: Whole, *, causal: bool = True) -> Callable[[torch.Tensor], torch.Tensor]:
    """Source: arXiv 2002.04745 figure 1; Olmo2DecoderLayer, Gemma2DecoderLayer, GPTNeoXLayer, GraniteDecoderLayer."""
    m, attend = whole.multiplier, partial(attended, causal=causal)

    def forward(x: torch.Tensor) -> torch.Tensor:
        if whole.residual == "post_norm":
            h = normed("attention_norm", x + m * attend(x))
            return normed("ffn_norm", h + m * fed(h))
        if whole.residual == "branch_output":
            h = x + m * normed("attention_norm", attend(x))
            return h + m * normed("ffn_norm", fed(h))
        read = normed("attention_norm", x)
        if whole.residual == "parallel":
            return x + m * attend(read) + m * fed(read if whole.one_norm else normed("ffn_norm", x))
        if whole.residual == "sandwich":
            h = x + m * normed("attention_output_norm", attend(read))
            return h + m * normed("ffn_output_norm", fed(normed("ffn_norm", h)))
        h = x + m * attend(read)
        return h + m * fed(normed("ffn_norm", h))

    return forward


def layer(name: str, feature: str, spec: Whole, without: Whole | None, **more: Any) -> Variant:
    functions: dict[str, Any] = {"build": build, "reference": reference, **more}
    return Variant(name=name, feature=feature, protocol="layer", spec=spec, without=without, **functions)


@dataclass(frozen=True)
class Encoding:
    """An encoder layer as a ttt_core.Layer that is given no cache, and does not decode."""

    layer: EncoderLayer
    spec: AttentionSpec = ATTENTION

    @property
    def weights(self) -> Any:
        return self.layer.weights

    def prefill_forward(self, x: Tensor, /, *, cache: None, positions: Tensor, page_table: None = None) -> Tensor:
        return self.layer.prefill_forward(x, positions=positions)

    def decode_forward(self, x: Tensor, /, **_: Any) -> Tensor:
        raise NotImplementedError


def build_encoder(whole: Whole, mesh: Any, precision: Precision) -> Encoding:
    norms, exact = norms_of(whole, mesh), exactly(precision)
    return Encoding(
        EncoderLayer(
            attention=attention_of(replace(ATTENTION, causal=False), mesh, **exact),
            ffn=ffn_of(mesh, **exact),
            **norms,
            residual_pattern=whole.residual,
            multiplier=whole.multiplier,
        )
    )


MEMORY = 45


def memory() -> torch.Tensor:
    """[M, D], exact on the device."""
    return seeded("memory", MEMORY * WIDTH, scale=1.0).reshape(MEMORY, WIDTH).bfloat16().float()


@dataclass(frozen=True)
class Both:
    """The caches of a layer with two attentions."""

    own: KVCache
    memory: KVCache

    @property
    def keys(self) -> Tensor:
        return self.own.keys

    @property
    def values(self) -> Tensor:
        return self.own.values

    @property
    def user(self) -> int:
        return self.own.user

    def for_user(self, user: int, /) -> Both:
        return Both(self.own.for_user(user), self.memory.for_user(user))


@dataclass(frozen=True)
class Remembering:
    """A layer with attention to a memory, the same for all users, as a ttt_core.Layer."""

    layer: CrossAttentionLayer
    cross_attention: MultiHeadCrossAttention
    mesh: Any
    spec: AttentionSpec = ATTENTION

    @property
    def weights(self) -> Any:
        return self.layer.weights

    def allocate_cache(self, *, users: int, context: int) -> Both:
        own: Any = self.layer.attention
        held = self.cross_attention.allocate_cache(users=users, context=MEMORY)
        x = upload(torch.zeros(1, 1, 32, WIDTH).numpy(), self.mesh, dtype="bfloat16")
        for user in range(users):
            self.cross_attention.prefill_forward(x, memory=self._held(), cache=held.for_user(user))
        return Both(own.allocate_cache(users=users, context=context), held)

    def prefill_forward(self, x: Tensor, /, *, cache: Any, positions: Tensor, page_table: Any = None) -> Tensor:
        own, held = (None, None) if cache is None else (cache.own, cache.memory)
        return self.layer.prefill_forward(
            x, memory=self._held(), cache=own, memory_cache=held, positions=positions, page_table=page_table
        )

    def decode_forward(self, x: Tensor, /, *, cache: Both, positions: Tensor, page_table: Any = None) -> Tensor:
        return self.layer.decode_forward(
            x, cache=cache.own, memory_cache=cache.memory, positions=positions, page_table=page_table
        )

    def _held(self) -> Any:
        return upload(memory()[None, None].numpy(), self.mesh, dtype="bfloat16")


def cross_weights() -> dict[str, torch.Tensor]:
    rows = {"q": HEADS * HEAD_DIM, "k": KV_HEADS * HEAD_DIM, "v": KV_HEADS * HEAD_DIM}
    found = {role: 2 * seeded(f"cross {role}", count, WIDTH) for role, count in rows.items()}
    return found | {"o": seeded("cross o", WIDTH, HEADS * HEAD_DIM)}


def build_cross(whole: Whole, mesh: Any, precision: Precision) -> Remembering:
    exact = exactly(precision)
    arrays: dict[str, Any] = {role: weight.numpy() for role, weight in cross_weights().items()}
    cross = MultiHeadCrossAttention(CROSS, **arrays, device=mesh, **exact)
    names = ("attention_norm", "cross_norm", "ffn_norm")
    norms: dict[str, Norm] = {role: RMSNorm(NORM, seeded(role, WIDTH).numpy(), device=mesh) for role in names}
    made = CrossAttentionLayer(
        attention=attention_of(ATTENTION, mesh, **exact),
        cross_attention=cross,
        ffn=ffn_of(mesh, **exact),
        **norms,
        residual_pattern="pre_norm" if whole.residual == "pre_norm" else "post_norm",
    )
    return Remembering(made, cross, mesh)


def seen(x: torch.Tensor) -> torch.Tensor:
    """x [1, S, D] → the same: attention to the memory."""
    w = cross_weights()
    read = {"q": x[0], "k": memory(), "v": memory()}
    q, k, v = ((read[name] @ w[name].T).unflatten(-1, (-1, HEAD_DIM)).transpose(0, 1) for name in "qkv")
    k, v = (each.repeat_interleave(HEADS // KV_HEADS, 0) for each in (k, v))
    heads = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return (heads.transpose(0, 1).flatten(1) @ w["o"].T)[None]


def reference_of_cross(whole: Whole) -> Callable[[torch.Tensor], torch.Tensor]:
    """Source: WhisperDecoderLayer (pre_norm), BartDecoderLayer (post_norm) of transformers."""

    def forward(x: torch.Tensor) -> torch.Tensor:
        for role, branch in (("attention_norm", attended), ("cross_norm", seen), ("ffn_norm", fed)):
            before = whole.residual == "pre_norm"
            x = x + branch(normed(role, x)) if before else normed(role, x + branch(x))
        return x

    return forward


PRE = Whole()
ENCODER: dict[str, Any] = {
    "build": build_encoder,
    "reference": partial(reference, causal=False),
    "prefill": (32, 128, 1024),  # what pads a sequence would be seen
    "decode": (),
}
WITH_MEMORY: dict[str, Any] = {"build": build_cross, "reference": reference_of_cross}
VARIANTS = [
    layer("layer, pre-norm", "pre-norm", PRE, Whole("post_norm")),
    layer("layer, post-norm", "post-norm", Whole("post_norm"), PRE),
    layer("layer, norms of branches alone", "branch-output norm", Whole("branch_output"), PRE),
    layer("layer, sandwich", "sandwich norms", Whole("sandwich"), PRE),
    layer("layer, parallel", "parallel residuals", Whole("parallel"), PRE),
    layer("layer, parallel with one norm", "parallel residuals", Whole("parallel", one_norm=True), Whole("parallel")),
    *(
        layer(
            f"layer, {residual}, branches times 0.3",
            "residual multiplier",
            replace(Whole(residual), multiplier=0.3),
            Whole(residual),
        )
        for residual in ("pre_norm", "post_norm", "parallel")
    ),
    layer("layer, prompt in pieces, in pages", "chunked prefill", PRE, Whole("post_norm"), paged=True, pieces=True),
    *(
        layer(f"encoder layer, {spec.residual}", "encoder layer", spec, without, **ENCODER)
        for spec, without in ((Whole("post_norm"), PRE), (PRE, Whole("post_norm")))
    ),
    *(
        layer(f"layer with cross-attention, {spec.residual}", "cross-attention layer", spec, without, **WITH_MEMORY)
        for spec, without in ((PRE, Whole("post_norm")), (Whole("post_norm"), PRE))
    ),
]
