"""Hidden states to logits."""

from __future__ import annotations

from itertools import accumulate
from typing import Any, ClassVar

import numpy as np

from ttt_core import FeedForward, SpecKeywords, Tensor, WeightError
from ttt_embedding._parts import Unchanged, times
from ttt_embedding.requests import PROFILES, head_request, local_vocabulary, pieces_of
from ttt_embedding.spec import HeadSpec
from ttt_hw import (
    DRAM,
    L1,
    Array,
    DType,
    HardwareMode,
    Operations,
    Overrides,
    PlannedBlock,
    Plans,
    Workload,
    board_of,
    chosen_precision,
    given_or_own,
    ops_by_rows,
    straight_line,
    typical,
    weight_on_mesh,
)
from ttt_weights import Float32, LazyWeight, Loadable, NoWeight, Source, as_source, flags_apart, or_left_out

__all__ = ["LMHead"]


class LMHead(PlannedBlock, Loadable):
    """Hidden states to logits over the vocabulary.

    logits = multiplier · (t(x) · weightᵀ + bias), with a soft-cap c then c · tanh(logits / c); t is `transform`, if any.

    The vocabulary is split over the columns of a mesh and joined again. The multiplier is in weight and bias.

    Shapes: x [1, 1, rows, hidden_dim] → [1, 1, rows, vocab_size]; weight [vocab_size, hidden_dim], stored transposed,
    bias [vocab_size], None where the spec has none.
    Made from a spec or its fields as keywords; without weights, for `load` to give them. `dtype` instead of that of `hw_mode`.
    `plans` of the model; without, its own, with x interleaved in DRAM in prefill and in L1 in decode, and logits in DRAM.
    Errors: WeightError for a wrong shape or a bias that the spec asks for and that is not given (or the reverse); PlacementError
    if no config fits the device, or for overrides that are not legal.
    """

    profiles: ClassVar = PROFILES
    keywords: ClassVar = SpecKeywords(HeadSpec)

    def __init__(
        self,
        spec: HeadSpec | None = None,
        weight: Source | Array | None = None,
        *,
        bias: Source | Array | bool | None = None,
        transform: FeedForward | None = None,
        device: Any,
        dtype: DType | None = None,
        hw_mode: HardwareMode = "balanced",
        plans: Plans | None = None,
        hw_config_overrides: Overrides | None = None,
        **fields: Any,
    ) -> None:
        apart = flags_apart({"weight": weight, "bias": bias}, fields, implied=["bias"] if spec is None else [])
        spec = self.keywords(spec, fields, block=type(self).__name__)
        given = or_left_out(type(self).__name__, apart, optional={"bias": spec.bias})
        if (given["bias"] is not None) != spec.bias:
            found = "none was" if given["bias"] is None else "one was"
            raise WeightError(f"the spec says bias={spec.bias}, and {found} given. Give it, or change the spec.")
        self.spec = spec
        self.transform: FeedForward = transform or Unchanged()
        board = board_of(device)
        chips = board.mesh[1]
        precision = chosen_precision(PROFILES, hw_mode, {"head_weights": dtype})
        (decode, often), _ = typical()
        last = Workload(mode="prefill", tokens=1, context=1)  # of a prompt one token's logits are wanted
        self._plans = given_or_own(
            plans,
            lambda work: head_request(spec, work, precision, rows=work.users if work.mode == "decode" else work.tokens),
            board,
            typical=((decode, often), (last, float(decode.users))),
            overrides=hw_config_overrides,
            hidden={"decode": (L1, DRAM), "prefill": (DRAM, DRAM)},
        )
        self._prompts, self._steps = ops_by_rows(self._plans)
        pieces = pieces_of(local_vocabulary(spec, chips))
        suffixes = [f".{index}" for index in range(len(pieces))] if len(pieces) > 1 else [""]
        ends = list(accumulate(pieces))

        def part(
            given: Source | Array, name: str, index: int, *, rows: int, shape: tuple[int, ...], parts: int = 1
        ) -> LazyWeight:
            """Each chip's columns of one piece, of what is stored transposed."""
            start, stop = ends[index] - pieces[index], ends[index]

            def columns(values: Float32) -> Float32:
                flat = times(values, spec.multiplier / parts).reshape(spec.vocab_size, rows)
                if chips == 1 and stop <= spec.vocab_size:
                    return flat[start:stop].T[None, None]
                columns = np.zeros_like(flat, shape=(chips, stop - start, rows))
                for chip, own in enumerate(columns):
                    found = flat[chip * ends[-1] + start : chip * ends[-1] + stop]
                    own[: len(found)] = found
                return columns.reshape(-1, rows).T[None, None]

            stored = name + suffixes[index]
            return LazyWeight(
                [as_source(given, shape=shape, name=f"the head's {name}")],
                columns,
                shape=(1, 1, rows, chips * pieces[index]),
                dtype=self._plans.dtypes[stored],
                device=device,
                placement=weight_on_mesh(
                    self._plans.stored[stored], board, hidden=2 if name == "weight" else None, inner=3
                ),
            )

        every, hidden = range(len(pieces)), spec.hidden_dim
        self._weights = [
            part(given["weight"], "weight", index, rows=hidden, shape=(spec.vocab_size, hidden)) for index in every
        ]
        self._biases: list[LazyWeight | NoWeight] = [NoWeight() for _ in every]
        if given["bias"] is not None:
            self._biases = [
                part(given["bias"], "bias", index, rows=1, shape=(spec.vocab_size,), parts=board.hidden_chips)
                for index in every
            ]
        self._names = [f"lm_head{suffix}" for suffix in suffixes]
        self._project = self._whole if len(pieces) == 1 else self._in_pieces

    @property
    def weights(self) -> tuple[LazyWeight, ...]:
        """Its own; those of a transform are the transform's."""
        return (*self._weights, *(bias for bias in self._biases if isinstance(bias, LazyWeight)))

    def prefill_forward(self, x: Tensor, /) -> Tensor:
        x = self.transform.prefill_forward(x)
        return self._forward(self._prompts[x.shape[-2]], x)

    def decode_forward(self, x: Tensor, /) -> Tensor:
        x = self.transform.decode_forward(x)
        return self._forward(self._steps[x.shape[-2]], x)

    @straight_line
    def _forward(self, ops: Operations, x: Tensor) -> Tensor:
        logits = self._project(ops, x)  # [1, 1, rows, V padded / chips]
        logits = ops.optional("logits_sum")(logits)
        logits = ops.optional("tanh")(logits)
        logits = ops.optional("capped_logits")(logits)
        logits = ops.optional("all_gather")(logits)
        cropped: Tensor = ops.optional("crop")(logits)  # without what pads the vocabulary to whole tiles on every chip
        return cropped

    def _whole(self, ops: Operations, x: Tensor) -> Tensor:
        logits: Tensor = ops["lm_head"](x, self._weights[0].tensor, self._biases[0].tensor)
        return logits

    def _in_pieces(self, ops: Operations, x: Tensor) -> Tensor:
        pieces = [
            ops[name](x, weight.tensor, bias.tensor)
            for name, weight, bias in zip(self._names, self._weights, self._biases, strict=True)
        ]
        logits: Tensor = ops["joined_logits"](*pieces)
        return logits
