"""What the keywords of an attention leave unsaid, and which weights its spec has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ttt_attention.latent_spec import LatentAttentionSpec
from ttt_attention.spec import AttentionSpec, CrossAttentionSpec, RopeSpec
from ttt_core import SpecError, SpecKeywords

CONTEXT = 4096  # positions, unless told


def _head_dim(fields: Mapping[str, Any]) -> int:
    hidden_dim, num_heads = fields["hidden_dim"], fields["num_heads"]
    if num_heads < 1 or hidden_dim % num_heads:
        raise SpecError(f"hidden_dim={hidden_dim} does not split into num_heads={num_heads} heads. Give head_dim too.")
    return int(hidden_dim // num_heads)


GROUPED = SpecKeywords(AttentionSpec, {"head_dim": _head_dim, "max_context": CONTEXT, "rope": RopeSpec()})
"""A head dim so that the heads make up the hidden dim, 4096 positions, and a rotation with theta 10,000."""

WINDOWED = SpecKeywords(AttentionSpec, {"window": CONTEXT, **GROUPED.defaults})
"""The same, with a window of 4096 tokens."""

MULTI_HEAD = SpecKeywords(AttentionSpec, {"num_kv_heads": lambda fields: fields["num_heads"], **GROUPED.defaults})
"""The same, with as many key-value heads as query heads."""


CROSS = SpecKeywords(
    CrossAttentionSpec,
    {"head_dim": _head_dim, "num_kv_heads": lambda fields: fields["num_heads"], "max_memory": CONTEXT},
)
"""Keys and values of its own for each query head, which make up the hidden dim; memories of up to 4096 tokens."""


LATENT = SpecKeywords(LatentAttentionSpec, {"max_context": CONTEXT, "rope": RopeSpec()})
"""4096 positions, and a rotation with theta 10,000."""


def parts_of_latent_spec(spec: LatentAttentionSpec) -> dict[str, bool]:
    """The weights that not every latent attention has, and whether this one does."""
    low_rank = spec.q_rank is not None
    return {
        "q": not low_rank,
        **dict.fromkeys(("q_down", "q_norm", "q_up"), low_rank),
        "q_bias": low_rank and spec.latent_bias,
        "kv_bias": spec.latent_bias,
        "o_bias": spec.output_bias,
    }


def parts_of_spec(spec: AttentionSpec) -> dict[str, bool]:
    """The weights that not every attention has, and whether this one does."""
    norm = spec.head_norm
    weighted, biased = norm is not None and norm.weight != "none", norm is not None and norm.bias
    return {
        **{f"{name}_bias": name in spec.biased for name in "qkv"},
        "o_bias": spec.output_bias,
        **dict.fromkeys(("q_norm", "k_norm"), weighted),
        **dict.fromkeys(("q_norm_bias", "k_norm_bias"), biased),
        "gate": spec.output_gate is not None,
        "sinks": spec.sinks,
    }


def parts_of_cross_spec(spec: CrossAttentionSpec) -> dict[str, bool]:
    """The biases, and whether the attention has them."""
    return {
        name: has for name, has in parts_of_spec(spec.heads).items() if name.endswith("_bias") and "norm" not in name
    }
