"""What a feed-forward block computes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from ttt_core import SpecError, TrackedSpec

__all__ = ["ActivationType", "FFNSpec", "MoESpec"]


class ActivationType(str, Enum):
    """`gelu` is exact, by the error function; `gelu_tanh` approximates it (gelu_pytorch_tanh, gelu_new of transformers), and
    `quick_gelu` as x · sigmoid(1.702 x). `relu2` is relu(x)², of arXiv 2109.08668."""

    SILU = "silu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    QUICK_GELU = "quick_gelu"
    RELU = "relu"
    RELU2 = "relu2"


@dataclass(frozen=True, kw_only=True, slots=True)
class FFNSpec(TrackedSpec):
    """A feed-forward block: hidden_dim → intermediate_dim → hidden_dim.

    `gated`: down(activation(gate(x)) ⊙ up(x)), else down(activation(up(x))); `bias`: each of these has one. Of a gated one
    `limit` bounds gate(x) above and up(x) on both sides, `up_offset` is added to that, and with `steepness` s the activation is
    activation(s · z) / s. `gate_multiplier` multiplies gate(x), `down_multiplier` the result.
    Errors: SpecError for dims below 1, a limit or steepness that is not positive, what only a gated block has without a gate.
    Source: arXiv 2002.05202 eq 5; GptOssExperts (limit, steepness, offset), FalconH1MLP (multipliers) of transformers.
    """

    hidden_dim: int
    intermediate_dim: int
    activation: ActivationType = ActivationType.SILU
    gated: bool = True
    bias: bool = False
    limit: float | None = None
    steepness: float = 1.0
    up_offset: float = 0.0
    gate_multiplier: float = 1.0
    down_multiplier: float = 1.0

    def __post_init__(self) -> None:
        if self.hidden_dim < 1 or self.intermediate_dim < 1:
            raise SpecError(
                f"FFNSpec(hidden_dim={self.hidden_dim}, intermediate_dim={self.intermediate_dim}): both must be at least 1."
            )
        if not self.steepness > 0 or (self.limit is not None and not self.limit > 0):
            raise SpecError(f"FFNSpec(limit={self.limit}, steepness={self.steepness}): both must be above 0.")
        of_gates = (self.limit, self.steepness, self.up_offset, self.gate_multiplier)
        if not self.gated and of_gates != (None, 1.0, 0.0, 1.0):
            raise SpecError(
                "FFNSpec(gated=False) with limit, steepness, up_offset or gate_multiplier: only a gated block has them. Leave "
                "them out, or give it a gate."
            )

    @property
    def num_parameters(self) -> int:
        wide = 2 if self.gated else 1
        weights = (wide + 1) * self.hidden_dim * self.intermediate_dim
        return weights + (wide * self.intermediate_dim + self.hidden_dim) * self.bias


@dataclass(frozen=True, kw_only=True, slots=True)
class MoESpec(TrackedSpec):
    """A mixture of `experts` feed-forward blocks of which each token's `active` best are computed and weighted.

    Scores are the softmax or the sigmoid of the router's logits x · routerᵀ, with `router_bias` + bias. With `selection_bias`
    a bias is added to the scores by which experts are chosen, not to their weights; with `groups` they are chosen among those of
    the `active_groups` groups with the largest maximum, or sum of their two best. The weights are the scores, `renormalise`:
    over the active experts only, so that they sum to 1; times `scale`. A sparsemixer chooses one expert after another, each
    weighted by its softmax among those that are left and not below its logit by more than 2 · `jitter` · max(|logit|, its own).
    `logit_cap` c makes logits c · tanh(logit / c) first. The weights multiply the experts' results, or with `weigh_input` what
    they read. `shared` is a block that every token goes through, with `gate_shared` times sigmoid(x · gate).
    Errors: SpecError for more active experts than there are, or none; groups that do not divide them; an unknown score; a
    sparsemixer with a selection bias or groups; weighed inputs of experts with biases; a shared block of another width, or a
    gate for none.
    Source: arXiv 2401.04088 section 2.1; arXiv 2412.19437 eq 12 to 16; arXiv 2409.12136 (sparsemixer); GptOssTopKRouter,
    Qwen2MoeSparseMoeBlock, PhimoeTopKRouter, Llama4TextMoe of transformers.
    """

    experts: int
    active: int
    ffn: FFNSpec
    renormalise: bool = True
    score: Literal["softmax", "sigmoid", "sparsemixer"] = "softmax"
    router_bias: bool = False
    selection_bias: bool = False
    groups: int = 1
    active_groups: int = 1
    group_score: Literal["max", "top2"] = "max"
    scale: float = 1.0
    shared: FFNSpec | None = None
    gate_shared: bool = False
    logit_cap: float | None = None
    jitter: float = 0.01
    weigh_input: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.active <= self.experts:
            raise SpecError(
                f"MoESpec(experts={self.experts}, active={self.active}): 1 to {self.experts} experts can be active."
            )
        if self.score not in ("softmax", "sigmoid", "sparsemixer") or self.group_score not in ("max", "top2"):
            raise SpecError(
                f"MoESpec(score={self.score!r}, group_score={self.group_score!r}): the score is softmax, sigmoid or "
                "sparsemixer, that of a group max or top2."
            )
        if self.score == "sparsemixer" and (self.selection_bias or self.groups > 1):
            raise SpecError(
                f"MoESpec(score='sparsemixer', selection_bias={self.selection_bias}, groups={self.groups}): a sparsemixer "
                "chooses among all experts, by their logits alone. Leave bias and groups out."
            )
        if not self.jitter > 0 or (self.logit_cap is not None and not self.logit_cap > 0):
            raise SpecError(f"MoESpec(jitter={self.jitter}, logit_cap={self.logit_cap}): both must be above 0.")
        if self.weigh_input and self.ffn.bias:
            raise SpecError(
                "MoESpec(weigh_input=True) of experts with biases: experts that a row did not choose would add theirs. Leave the "
                "biases out."
            )
        if self.experts % self.groups or not 1 <= self.active_groups <= self.groups or not self.scale > 0:
            raise SpecError(
                f"MoESpec(experts={self.experts}, groups={self.groups}, active_groups={self.active_groups}, scale={self.scale}): "
                "groups divide the experts, 1 to all of them can be active, and the scale is above 0."
            )
        if (self.shared is None and self.gate_shared) or (self.shared and self.shared.hidden_dim != self.hidden_dim):
            raise SpecError(
                f"MoESpec(shared={self.shared}, gate_shared={self.gate_shared}): a shared block has the experts' hidden_dim "
                f"{self.hidden_dim}, and without one there is nothing to gate."
            )

    @property
    def hidden_dim(self) -> int:
        return self.ffn.hidden_dim

    @property
    def num_parameters(self) -> int:
        """Of all experts, the router and what all tokens share."""
        routed = self.experts * (self.ffn.num_parameters + self.hidden_dim + self.router_bias + self.selection_bias)
        shared = 0 if self.shared is None else self.shared.num_parameters + self.hidden_dim * self.gate_shared
        return routed + shared
