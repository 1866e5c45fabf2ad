"""Where the weights of a model's blocks are in a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ttt_attention import AttentionSpec
from ttt_core import WeightError
from ttt_factory._families import Fused, WeightNames
from ttt_factory.spec import DecoderLayerSpec
from ttt_ffn import MoESpec
from ttt_hw import Array
from ttt_weights import NoValues, Source


class WithoutValues(Mapping[str, Source]):
    """Every name, and no values."""

    def __getitem__(self, name: str) -> Source:
        return NoValues(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


class UsedWeights:
    """Hands out weights and remembers which, so that none is passed over in silence."""

    def __init__(self, weights: Mapping[str, Source]) -> None:
        self._weights = weights
        self._used: set[str] = set()

    def __getitem__(self, name: str) -> Source:
        self._used.add(name)
        return self._weights[name]

    def finish(self, names: WeightNames, *, tied: bool) -> None:
        ignored = [*names.ignored, *([re.escape(names.head)] if tied else [])]
        left = [
            name
            for name in self._weights
            if name not in self._used and not any(re.fullmatch(pattern, name) for pattern in ignored)
        ]
        if left:
            raise WeightError(
                f"the checkpoint has {len(left)} tensors that the model does not read, among them {sorted(left)[0]}; "
                "leaving them out would change its answers. The config and the weights do not belong together, or the "
                "architecture has a part that is not supported."
            )


class Rows:
    """Some rows of a tensor that holds those of several parts: in each of `groups` equal groups those from start to stop."""

    def __init__(self, whole: Source, *, groups: int, sizes: tuple[int, ...], index: int) -> None:
        rows = groups * sum(sizes)
        if not whole.shape or whole.shape[0] != rows:
            raise WeightError(
                f"{whole.name} has shape {list(whole.shape)}, but {rows} rows are wanted for its {len(sizes)} parts. "
                "The config and the weights do not belong together."
            )
        self.name = f"{whole.name}, part {index + 1} of {len(sizes)}"
        self.shape = (groups * sizes[index], *whole.shape[1:])
        self._whole, self._groups = whole, groups
        self._start, self._stop = sum(sizes[:index]), sum(sizes[: index + 1])

    @property
    def directory(self) -> Path | None:
        """The checkpoint that it is from, if it is from one."""
        return getattr(self._whole, "directory", None)

    def read(self) -> Array:
        array = self._whole.read()
        grouped = array.reshape(self._groups, -1, *array.shape[1:])[:, self._start : self._stop]
        return grouped.reshape(self.shape)


class LayerWeights:
    """The weights of one layer by their roles."""

    def __init__(self, used: UsedWeights, names: WeightNames, spec: DecoderLayerSpec, number: int) -> None:
        self._used = used
        self._names = names
        self._number = number
        attention = spec.attention
        heads: tuple[int, ...] = ()  # latent attention has no tensor of several
        if isinstance(attention, AttentionSpec):
            kv = attention.num_kv_heads * attention.head_dim
            heads = (attention.num_heads * attention.head_dim, kv, kv)
        inner = spec.ffn.ffn.intermediate_dim if isinstance(spec.ffn, MoESpec) else spec.ffn.intermediate_dim
        self._num_heads = attention.num_heads
        self._sizes = {**dict.fromkeys("qkv", heads), "gate": (inner, inner), "up": (inner, inner)}

    def weight(self, role: str) -> Source:
        return self._source(role, "weight")

    def bias(self, role: str, wanted: bool = True) -> Source | None:
        """None where none is wanted."""
        return self._source(role, "bias") if wanted else None

    def experts(self, role: str, count: int) -> list[Source]:
        role = role if getattr(self._names, f"expert_{role}") is None else f"expert_{role}"
        return [self._source(role, "weight", expert) for expert in range(count)]

    def _source(self, role: str, kind: str, expert: int | None = None) -> Source:
        name = getattr(self._names, role)
        if isinstance(name, Fused):
            whole = self._used[self._full(name.name, kind, expert)]
            if isinstance(whole, NoValues):
                return whole
            sizes, groups = self._sizes[role], self._num_heads if name.by_head else 1
            return Rows(whole, groups=groups, sizes=tuple(size // groups for size in sizes), index=name.index)
        return self._used[self._full(name, kind, expert)]

    def _full(self, name: str, kind: str, expert: int | None) -> str:
        full = name.format(layer=self._number, expert=expert)
        return full if kind == "weight" else bias_name(full)


def bias_name(weight: str) -> str:
    """A bias is called as its weight is, except for the end."""
    return f"{weight.removesuffix('weight')}bias"
