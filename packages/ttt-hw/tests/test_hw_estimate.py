"""The estimate: faster chips and less work are never slower, and nothing is faster than the chip can be."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from ttt_hw.catalogue import BOARDS, board
from ttt_hw.compute import ComputeKernel
from ttt_hw.estimate import Work, estimate
from ttt_hw.options import legal_options
from ttt_hw.patterns.collective import AllGather, AllReduce, ReduceScatter
from ttt_hw.records import Board, Rates
from ttt_hw.requests import CollectiveRequest, DecodeAttentionRequest, MatmulRequest, OpRequest, PrefillAttentionRequest

AMOUNTS = [field.name for field in fields(Work)]
FASTER_IF_MORE = [field.name for field in fields(Rates) if not field.name.endswith(("_us", "request_cycles"))]
FASTER_IF_LESS = [field.name for field in fields(Rates) if field.name not in FASTER_IF_MORE]

amounts = st.floats(0, 1e9) | st.just(0.0)
works = st.builds(
    Work,
    **{
        name: st.integers(0, 10**6) if name in ("dram_pages", "programs", "multicasts") else amounts for name in AMOUNTS
    },
)
boards = st.sampled_from(list(BOARDS.values()))
grows = st.floats(1, 100)


def faster(record: Board, name: str, factor: float) -> Board:
    """With one rate, or a property of the chip, better by a factor."""
    if name in ("dram_gb_per_s", "clock_hz"):
        return replace(record, chip=replace(record.chip, **{name: getattr(record.chip, name) * factor}))
    rates = record.chip.rates
    better = getattr(rates, name) * (factor if name in FASTER_IF_MORE else 1 / factor)
    return replace(record, chip=replace(record.chip, rates=replace(rates, **{name: better})))


@given(
    work=works,
    record=boards,
    name=st.sampled_from([*FASTER_IF_MORE, *FASTER_IF_LESS, "dram_gb_per_s", "clock_hz"]),
    factor=grows,
)
def test_a_faster_chip_is_never_slower(work: Work, record: Board, name: str, factor: float) -> None:
    assert estimate(work, faster(record, name, factor)).time_us <= estimate(work, record).time_us * (1 + 1e-9)


@given(work=works, record=boards, name=st.sampled_from(AMOUNTS), share=st.floats(0, 1))
def test_less_work_is_never_slower(work: Work, record: Board, name: str, share: float) -> None:
    amount = getattr(work, name)
    less = replace(work, **{name: int(amount * share) if isinstance(amount, int) else amount * share})
    assert estimate(less, record).time_us <= estimate(work, record).time_us


@given(work=works, record=boards)
def test_nothing_is_below_the_roofline(work: Work, record: Board) -> None:
    """The engine at its clock, DRAM at its data sheet's rate, the links' time; the bound is the longest part."""
    time = estimate(work, record)
    assert time.time_us >= work.matrix_cycles / record.chip.clock_hz * 1e6
    assert time.time_us >= max(work.dram_streamed, work.dram_bytes) / record.chip.dram_gb_per_s / 1e3
    assert time.time_us >= work.link_us
    assert getattr(time, f"{time.bound}_us") == max(
        time.compute_us, time.dram_us, time.noc_us, time.link_us, time.overhead_us
    )


def best_us(op: OpRequest, record: Board) -> float:
    return legal_options(op, record)[0].time_us


def matmul(rows: int, columns: int) -> MatmulRequest:
    return MatmulRequest(name="m", m=rows, k=4096, n=columns, weight_dtype="bfloat8_b")


@pytest.mark.parametrize("name", ["n150", "p150"])
@pytest.mark.parametrize("rows", [32, 128, 1024])
def test_matmuls_split_over_more_chips_are_never_slower(name: str, rows: int) -> None:
    times = [best_us(matmul(rows, 16384 // chips), board(name)) for chips in (1, 2, 4, 8)]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("name", ["n150", "p150"])
def test_attention_split_over_more_chips_is_never_slower(name: str) -> None:
    def decode(chips: int) -> DecodeAttentionRequest:
        return DecodeAttentionRequest(
            name="a",
            inputs=("q", "k", "v", "p"),
            users=8,
            num_heads=32 // chips,
            num_kv_heads=8 // chips,
            head_dim=128,
            context=4096,
        )

    def prefill(chips: int) -> PrefillAttentionRequest:
        return PrefillAttentionRequest(
            name="a",
            inputs=("q", "k", "v"),
            tokens=2048,
            num_heads=32 // chips,
            num_kv_heads=8 // chips,
            head_dim=128,
        )

    for made in (decode, prefill):
        times = [best_us(made(chips), board(name)) for chips in (1, 2, 4, 8)]
        assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(("dtypes", "mode"), [(("bfloat16", "bfloat8_b", "bfloat4_b"), rows) for rows in (32, 512)])
def test_fewer_bytes_of_weights_are_never_slower(dtypes: tuple[Any, ...], mode: int) -> None:
    kernel = ComputeKernel(fidelity="hifi2")
    times = [
        best_us(MatmulRequest(name="m", m=mode, k=4096, n=4096, weight_dtype=dtype, kernel=kernel), board("n150"))
        for dtype in dtypes
    ]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter", "all_reduce"])
def test_collectives_with_more_links_or_fewer_bytes_are_never_slower(kind: Any) -> None:
    pattern: Any = {"all_gather": AllGather, "reduce_scatter": ReduceScatter, "all_reduce": AllReduce}[kind]
    record = replace(board("tg"), mesh=(4, 8))

    def time(rows: int, links: int) -> float:
        request = CollectiveRequest(name="c", inputs=("x",), kind=kind, shape=(1, 1, rows, 4096), chips=8)
        config = pattern(num_links=links)
        return estimate(config.work(request, record, config.accepts(request, record)[0]), record).time_us

    by_links = [time(1024, links) for links in (1, 2, 4)]
    assert by_links == sorted(by_links, reverse=True)
    by_rows = [time(rows, 1) for rows in (32, 128, 1024)]
    assert by_rows == sorted(by_rows)
