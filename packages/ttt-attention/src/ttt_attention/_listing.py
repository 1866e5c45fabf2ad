"""A list of operations in the making."""

from __future__ import annotations

from typing import Any

from ttt_attention.heads import padded_head_dim, split_heads
from ttt_attention.spec import AttentionSpec
from ttt_core import ShapeError
from ttt_hw import DType
from ttt_hw.requests import (
    BlockRequest,
    CollectiveRequest,
    EmbeddingRequest,
    HeadConcatRequest,
    MatmulRequest,
    MoveRequest,
    OpRequest,
    Stored,
    StoredKind,
    TensorType,
    Workload,
)
from ttt_shard_dsl import TILE


class HeadsListing:
    """What a list has so far, and the sizes that its operations share: heads of a chip, and what a cache has of each."""

    def __init__(
        self, work: Workload, *, num_heads: int, num_kv_heads: int, head_dim: int, positions: int, cache_dtype: DType
    ) -> None:
        self.work = work
        self.num_heads, self.num_kv_heads, self.head_dim = num_heads, num_kv_heads, head_dim
        self.num_positions = positions
        self.context = -(-work.context // TILE) * TILE
        blocks = (work.users, self.context) if not work.block else (work.users * self.context // work.block, work.block)
        self.cache = TensorType(shape=(blocks[0], num_kv_heads, blocks[1], head_dim), dtype=cache_dtype)
        self.ops: list[OpRequest] = []
        self.stored: dict[str, Stored] = {}

    def check_prompt(self) -> None:
        """Errors: ShapeError for a prompt that the cache cannot hold."""
        work = self.work
        if work.mode == "prefill" and work.start + work.rows > self.context:
            raise ShapeError(
                f"a prompt of {work.start + work.tokens} tokens with a cache for {self.context}: it must fit. Give a context of "
                f"at least {work.start + work.rows}."
            )

    def add(self, op: OpRequest) -> tuple[str, ...]:
        """The names of what it makes."""
        self.ops.append(op)
        return tuple(op.results)

    def store(self, name: str, type_: TensorType, kind: StoredKind = "weight") -> str:
        self.stored[name] = Stored(name=name, type=type_, kind=kind)
        return name

    def positions(self) -> str:
        """[B] in decode, [1, S] in prefill."""
        shape = (self.work.users,) if self.work.mode == "decode" else (1, self.work.rows)
        return self.store("positions", TensorType(shape=shape, dtype="int32", tiled=False), kind="index")

    def pages(self) -> str | None:
        """Of each user the blocks of its cache, in decode [B, context / block], of one user in prefill; None without blocks."""
        if not self.work.block:
            return None
        users = self.work.users if self.work.mode == "decode" else 1
        pages = TensorType(shape=(users, self.context // self.work.block), dtype="int32", tiled=False)
        return self.store("pages", pages, kind="index")

    def pages_read(self) -> str:
        """By what a prompt that goes on reads the cache: its pages, or the slot of a cache without."""
        pages = self.pages()
        if pages is not None:
            return pages
        return self.store("slot", TensorType(shape=(1, 1), dtype="int32", tiled=False), kind="index")

    def pages_ahead(self) -> str | None:
        """Of the pages those that a prompt fills; None without pages."""
        pages, work = self.pages(), self.work
        if pages is None or not work.start:
            return pages
        table = self.stored[pages].type
        return self.move("slice", "pages_ahead", pages, table, first_column=work.start // work.block)

    def tables(self, prefix: str, dim: int) -> tuple[str, str]:
        """Cosines and sines of the positions, for heads of `dim` elements; in decode turned to one row a user."""
        rows, decode = self.work.rows, self.work.mode == "decode"
        indices = self.indices()
        names = []
        for name in (f"{prefix}cos", f"{prefix}sin"):
            shape = TensorType(shape=(self.num_positions, dim), tiled=False)
            table = self.store(f"{name}_table", shape, kind="table")
            request = EmbeddingRequest(
                name=f"{name}_rows" if decode else name,
                inputs=(indices, table),
                rows=rows,
                dim=dim,
                count=self.num_positions,
            )
            (found,) = self.add(request)
            if decode:
                found = self.move("transpose", name, found, TensorType(shape=(1, 1, rows, dim)))
            names.append(found)
        return names[0], names[1]

    def indices(self) -> str:
        """Positions as an embedding reads them, [1, rows] uint32; listed once."""
        if not any(op.name == "rotary_indices" for op in self.ops):
            source = self.stored[self.positions()].type
            self.move("typecast", "rotary_indices", "positions", source, dtype="uint32")
            if self.work.mode == "decode":
                source = TensorType(shape=source.shape, dtype="uint32", tiled=False)
                self.move("reshape", "rotary_index_row", "rotary_indices", source, shape=(1, self.work.users))
        return "rotary_indices" if self.work.mode == "prefill" else "rotary_index_row"

    def move(self, op: Any, name: str, source_name: str, source: TensorType, **how: Any) -> str:
        (made,) = self.add(MoveRequest(name=name, inputs=(source_name,), op=op, source=source, **how))
        return made

    def project(self, role: str, x: str, k: int, n: int, dtype: DType, *, bias: bool, rows: int | None = None) -> str:
        """x by the weight of a role, with its bias; of as many rows as the forward has, or `rows`."""
        inputs: tuple[str, ...] = (x, self.store(f"{role}_weight", TensorType(shape=(1, 1, k, n), dtype=dtype)))
        if bias:
            inputs = (*inputs, self.store(f"{role}_bias", TensorType(shape=(1, 1, 1, n))))
        request = MatmulRequest(
            name=f"{role}_matmul",
            inputs=inputs,
            m=self.work.rows if rows is None else rows,
            k=k,
            n=n,
            weight_dtype=dtype,
            bias_dtype="bfloat16" if bias else None,
        )
        (y,) = self.add(request)
        return y

    def summed_over_rows(self, name: str, x: str, columns: int) -> str:
        """The sum over the chips that split the hidden dim; x as it is where none do."""
        if self.work.hidden_chips == 1:
            return x
        shape, chips = (1, 1, self.work.rows, columns), self.work.hidden_chips
        request = CollectiveRequest(name=name, inputs=(x,), kind="all_reduce", shape=shape, chips=chips, axis=0)
        (y,) = self.add(request)
        return y

    def summed_over_chips(self, y: str, columns: int) -> str:
        """The sum over the chips that split the heads; y as it is where none do."""
        if self.work.chips == 1:
            return y
        shape, chips = (1, 1, self.work.rows, columns), self.work.chips
        (y,) = self.add(CollectiveRequest(name="all_reduce", inputs=(y,), kind="all_reduce", shape=shape, chips=chips))
        return y

    def cut_heads(self, name: str, y: str, heads: int, head_dim: int, rows: int) -> str:
        """[1, 1, rows, heads · head_dim] → [1, heads, rows, head_dim], by transposes, between which whole tiles are a head."""
        width, by_head = heads * head_dim, (1, heads, head_dim, rows)
        columns = self.move("transpose", f"{name}_columns", y, TensorType(shape=(1, 1, rows, width)), dims=(2, 3))
        cut = self.move("reshape", f"{name}_cut", columns, TensorType(shape=(1, 1, width, rows)), shape=by_head)
        return self.move("transpose", f"{name}_heads", cut, TensorType(shape=by_head), dims=(2, 3))

    def joined_heads(self, heads: str, head_dim: int) -> str:
        """[1, H, rows, head_dim] → [1, 1, rows, H · head_dim]."""
        rows, count = self.work.rows, self.num_heads
        request = HeadConcatRequest(name="concat_heads", inputs=(heads,), rows=rows, num_heads=count, head_dim=head_dim)
        (joined,) = self.add(request)
        return joined

    def heads_shape(self, heads: int) -> tuple[int, int, int, int]:
        rows = self.work.rows
        return (1, heads, rows, self.head_dim) if self.work.mode == "prefill" else (1, rows, heads, self.head_dim)

    def block(self, inputs: tuple[tuple[str, TensorType], ...], output: str) -> BlockRequest:
        """The list, once it is whole."""
        stored, ops = tuple(self.stored.values()), tuple(self.ops)
        return BlockRequest(mode=self.work.mode, inputs=inputs, stored=stored, ops=ops, outputs=(output,))


class Listing(HeadsListing):
    """Of attention with keys and values."""

    def __init__(self, spec: AttentionSpec, work: Workload, cache_dtype: DType) -> None:
        num_heads, num_kv_heads = split_heads(spec, work.chips)
        super().__init__(
            work,
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=padded_head_dim(spec.head_dim),
            positions=spec.max_context,
            cache_dtype=cache_dtype,
        )
        self.spec = spec
