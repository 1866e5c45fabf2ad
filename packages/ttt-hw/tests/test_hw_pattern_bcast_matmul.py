"""BcastMatmul: legal candidates for every shape, exact buffers, and each rule that ttnn has or lacks."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ttt_core import PlacementError
from ttt_hw.catalogue import BOARDS, board
from ttt_hw.compute import ComputeKernel
from ttt_hw.isolation import run_in_process
from ttt_hw.layouts import DRAM, block_sharded, over_banks, width_sharded
from ttt_hw.patterns.bcast_matmul import BcastMatmul
from ttt_hw.requests import LMHeadRequest, MatmulRequest
from ttt_hw.verify import verify

N150, P150, P100 = board("n150"), board("p150"), board("p100")


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import matmul_probe

    return matmul_probe


@pytest.mark.parametrize("rows", [1, 32, 128, 1024, 8192])
def test_real_shapes_are_accepted_and_predicted(rows: int, probe: Any, mesh: Any) -> None:
    rng = random.Random(rows)
    requests = [probe.varied(rng, (rows,)) for _ in range(8)] + [probe.varied(rng, (min(rows, 32),), head=True)]
    for what, verdict in probe.issue_some(BcastMatmul, requests, mesh, rng, 3):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("fp32", [True, False])
@pytest.mark.parametrize("packer", [True, False])
def test_any_legal_blocks_are_predicted(steps: int, fp32: bool, packer: bool, mesh: Any) -> None:
    """Not only those that the search prefers."""
    rng = random.Random(steps)
    for _ in range(2):
        inner, (h, w), (turns_h, turns_w) = (
            rng.randint(1, 6),
            (rng.randint(1, 3), rng.randint(1, 4)),
            (rng.randint(1, 2), rng.randint(1, 3)),
        )
        request = MatmulRequest(
            name="mm",
            m=32 * 8 * h * turns_h,
            k=32 * inner * steps,
            n=32 * 8 * w * turns_w,
            output_dtype=rng.choice(["bfloat16", "bfloat8_b", "float32"]),
            kernel=ComputeKernel(fp32_accumulate=fp32, packer_l1_accumulate=packer),
        )
        config = BcastMatmul(
            kind="2d", grid=(8, 8), per_core=(h * turns_h, w * turns_w), inner=inner, block=(h, w), subblock=(1, 1)
        )
        config.check(request, N150)
        verdict = verify(request, config, mesh)
        assert verdict.error is None
        assert verdict.exact, (request, config, verdict)


@pytest.mark.parametrize("name", ["p150", "p100", "p150x8"])
def test_other_boards(name: str, probe: Any) -> None:
    for what, verdict in run_in_process(
        probe.sweep, name, "bcast_matmul", "BcastMatmul", (1, 32, 1024), 6, 1, device=name
    ):
        assert verdict.error is None, what
        assert verdict.exact, (what, verdict)


@pytest.mark.parametrize("name", BOARDS)
def test_every_shape_has_a_legal_candidate_that_fits(name: str, probe: Any) -> None:
    record = board(name)
    for rows in probe.ROWS:
        for k, n in [*probe.WEIGHTS.values(), *(probe.HEADS.values() if rows <= 32 else ())]:
            request = probe.matmul(rows, k, n, bias_dtype="bfloat16")
            assert any(probe.fits(request, config, record) for config in probe.legal(BcastMatmul, request, record))


@pytest.mark.parametrize("name", BOARDS)
def test_large_matmuls_can_use_nine_cores_of_ten(name: str, probe: Any) -> None:
    record = board(name)
    cores = record.grid[0] * record.grid[1]
    for k, n in ((4096, 14336), (4096, 4096), (4096, 6144), (14336, 4096)):
        for m in (1024, 2048, 8192):
            request = probe.matmul(m, k, n)
            used = max(config.cores(request, record) for config in probe.legal(BcastMatmul, request, record))
            assert used >= 0.9 * cores


def test_a_vocabulary_is_a_matmul_too(probe: Any) -> None:
    request = LMHeadRequest(name="head", m=32, k=4096, n=128256, weight_dtype="bfloat8_b")
    assert type(request) in BcastMatmul.serves
    assert any(probe.fits(request, config, N150) for config in probe.legal(BcastMatmul, request, N150))


# Rules

REQUEST = MatmulRequest(name="up", m=256, k=2048, n=8192, weight_dtype="bfloat8_b")
TWO_D = BcastMatmul(kind="2d", grid=(8, 8), per_core=(1, 32), inner=4, block=(1, 32), subblock=(1, 4))
DECODE = MatmulRequest(name="up", m=32, k=2048, n=4096, weight_dtype="bfloat8_b")
ONE_D = BcastMatmul(kind="1d", grid=(8, 8), per_core=(1, 2), inner=2, block=(1, 2), subblock=(1, 2))

BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"grid": (9, 8)}, "grid 9x8 is beyond the chip's 8x8"),
    ({"grid": (0, 8)}, "grid must be at least 1, not 0"),
    ({"inner": 0}, "inner must be at least 1, not 0"),
    ({"grid": (8, 4)}, "4 x 1 rows of tiles cover less than the 8 there are; 2 a core would do"),
    ({"grid": (7, 8)}, "7 x 32 columns of tiles cover less than the 256 there are; 37 a core would do"),
    ({"kind": "1d"}, "1 x 1 rows of tiles cover less than the 8 there are; 8 a core would do"),
    ({"inner": 3}, "inner=3 does not divide the 64 inner tiles; the nearest that does is 2"),
    (
        {"per_core": (2, 32), "block": (3, 32)},
        "block height=3 does not divide the 2 rows a core; the nearest that does is 2",
    ),
    ({"block": (1, 20)}, "block width=20 does not divide the 32 columns a core; the nearest that does is 16"),
    ({"subblock": (2, 2)}, "subblock height=2 does not divide the block's 1; the nearest that does is 1"),
    ({"subblock": (1, 3)}, "subblock width=3 does not divide the block's 32; the nearest that does is 2"),
    ({"subblock": (1, 8)}, "a subblock of 8 tiles is beyond the 4 that the destination registers hold"),
]


def first_problem(config: BcastMatmul, request: MatmulRequest, record: Any = N150, reads: Any = None) -> str:
    with pytest.raises(PlacementError) as caught:
        config.check(request, record, reads)
    said = str(caught.value)
    start = f"{request.name} cannot run as {config} on {record.name}: "
    assert said.startswith(start)
    return said[len(start) : -1]


@pytest.mark.parametrize(("change", "reason"), BROKEN)
def test_a_broken_rule_is_named_and_ttnn_has_it_too(change: dict[str, Any], reason: str, mesh: Any) -> None:
    TWO_D.check(REQUEST, N150)
    broken = replace(TWO_D, **change)
    assert first_problem(broken, REQUEST) == reason
    if "at least 1" not in reason:
        assert verify(REQUEST, broken, mesh).error is not None


def test_more_registers_without_float32_sums() -> None:
    request = replace(REQUEST, kernel=ComputeKernel(fp32_accumulate=False))
    replace(TWO_D, subblock=(1, 8)).check(request, N150)
    assert first_problem(replace(TWO_D, subblock=(1, 16)), request).startswith("a subblock of 16 tiles is beyond the 8")


def test_rows_a_core_that_are_not_those_of_the_matmul() -> None:
    """Seven row tiles a core for a prompt of 128 tokens made garbage on P100."""
    request = replace(REQUEST, m=128)
    config = BcastMatmul(kind="2d", grid=(8, 10), per_core=(7, 37), inner=4, block=(7, 37), subblock=(1, 1))
    assert (
        first_problem(config, request, P100)
        == "7 rows of tiles a core are more than the 4 there are need; 4 do on as many cores"
    )
    replace(config, per_core=(4, 37), block=(4, 37)).check(request, P100)
    replace(config, per_core=(7, 37)).check(replace(request, m=2048), P100)  # where seven is right


def test_an_activation_that_no_matmul_ends_with() -> None:
    said = first_problem(TWO_D, replace(REQUEST, activation="tanh"))
    assert (
        said
        == "a matmul does not end with tanh, only with silu, relu, gelu, gelu_tanh; apply it in an operation of its own"
    )


def test_inputs_that_lie_elsewhere() -> None:
    said = first_problem(TWO_D, REQUEST, reads=(DRAM, over_banks()))
    assert said == "the weight lies as 'b h s d@bank in dram', but must lie as 'b h s d in dram'"


# Weights over DRAM banks

BANKED = BcastMatmul(kind="2d", grid=(8, 8), per_core=(1, 16), inner=4, block=(1, 16), subblock=(1, 4), weight="banks")
SQUARE = MatmulRequest(name="o", m=256, k=4096, n=4096, weight_dtype="bfloat8_b")


def in_order(columns: int, per_core: int, per_bank: int, banks: int) -> bool:
    """Whether cores get their own columns, by ttnn's way through the banks: an independent reading of its host code.

    A core takes all that is left of the bank where the last core stopped, then whole banks until it has its columns.
    """
    bank = taken = position = 0
    for core in range(-(-columns // per_core)):
        if (bank, taken) != divmod(position, per_bank):
            return False
        got = per_bank - taken
        bank, taken = bank + 1, 0
        while got < per_core and bank < banks:
            part = min(per_bank, per_core - got)
            bank, taken = bank + part // per_bank, part % per_bank
            got += part
        if got > per_core:
            return False
        position = (core + 1) * per_core
    return True


@pytest.mark.parametrize("columns", [64, 96, 128, 144, 192, 256, 448, 592])
@pytest.mark.parametrize("record", [N150, P150, P100], ids=lambda record: record.name)
def test_columns_over_banks_are_legal_just_where_ttnn_reads_the_right_ones(columns: int, record: Any) -> None:
    request = MatmulRequest(name="mm", m=256, k=2048, n=32 * columns, weight_dtype="bfloat8_b")
    x, y = record.grid
    for per_core in range(-(-columns // x), columns + 1):
        config = BcastMatmul(
            kind="2d",
            grid=(x, y),
            per_core=(1, per_core),
            inner=4,
            block=(1, per_core),
            subblock=(1, 1),
            weight="banks",
        )
        right = in_order(columns, per_core, -(-columns // record.dram_banks), record.dram_banks)
        assert right == (not list(config.problems(request, record, (DRAM, over_banks()))))


def test_twelve_banks_and_eight_columns_of_cores_are_right(mesh: Any) -> None:
    """What tt-transformers does in prefill on Wormhole."""
    verdict = verify(SQUARE, BANKED, mesh)
    assert verdict.error is None
    assert verdict.exact


def test_seven_banks_and_eight_columns_of_cores_are_wrong() -> None:
    """ttnn accepts it, and the result is wrong (tt-metal pull request 21993)."""
    assert first_problem(BANKED, SQUARE, P100) == (
        "16 columns of tiles a core are fewer than the 19 that a bank holds: ttnn would read wrong columns; take 19 or more"
    )
    replace(BANKED, per_core=(1, 19), block=(1, 19), subblock=(1, 1)).check(SQUARE, P100)


def test_a_weight_over_banks_is_read_in_one_block() -> None:
    said = first_problem(replace(BANKED, block=(1, 8)), SQUARE)
    assert said == "a weight over banks is read in one block of columns, 16 wide, not in blocks of 8"
    said = first_problem(replace(ONE_D, weight="banks"), DECODE)
    assert said == "a 1d matmul reads an interleaved weight"


def test_the_bias_of_a_weight_over_banks_lies_like_it() -> None:
    """Its tiles are read from the weight's banks; ttnn accepts an interleaved one and would read wrong tiles."""
    request = replace(SQUARE, inputs=("x", "weight", "bias"), bias_dtype="bfloat16")
    BANKED.check(request, N150)
    assert first_problem(BANKED, request, reads=(DRAM, over_banks(), DRAM)).startswith("the bias lies as")


# Shards

ON_32, ON_64 = width_sharded((8, 4)), width_sharded((8, 8))


def test_a_sharded_activation_and_result_lend_their_memory(mesh: Any) -> None:
    plain = ONE_D.circular_buffers(DECODE, N150, (DRAM, DRAM))
    sharded = replace(ONE_D, activation=ON_32, output=ON_64)
    assert plain - sharded.circular_buffers(DECODE, N150, (ON_32, DRAM)) == 2 * 2048
    verdict = verify(DECODE, sharded, mesh)
    assert verdict.error is None
    assert verdict.exact


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"activation": width_sharded((4, 8))}, "32 shards must lie on the first cores of the grid 8x8, row by row"),
        (
            {"activation": ON_64, "grid": (8, 4), "per_core": (1, 4), "inner": 1},
            "64 shards must lie on the first cores of",
        ),
        (
            {"activation": ON_32, "inner": 4},
            "inner=4 does not divide the 2 tiles of a shard; the nearest that does is 2",
        ),
        ({"activation": width_sharded((8, 3))}, "shards of 3 tiles do not divide the 64 inner tiles evenly"),
        ({"activation": block_sharded((8, 1))}, "a 1d matmul reads an activation that is interleaved or width-sharded"),
        ({"activation": width_sharded((9, 4))}, "the activation cannot lie so: "),
        ({"output": ON_32}, f"the result lies as '{ON_64}', not '{ON_32}'"),
        ({"per_core": (1, 3), "block": (1, 3), "subblock": (1, 1), "output": ON_64}, "the result lies as "),
        ({"transpose": True}, "only a 2d matmul of interleaved tensors may be transposed"),
    ],
)
def test_shards_that_do_not_fit(change: dict[str, Any], reason: str) -> None:
    assert first_problem(replace(ONE_D, **change), DECODE).startswith(reason)


BLOCKS = block_sharded((8, 8))
TALL = BcastMatmul(
    kind="2d", grid=(8, 8), per_core=(4, 32), inner=4, block=(4, 32), subblock=(1, 4), activation=BLOCKS, output=BLOCKS
)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"block": (2, 16)}, "blocks of a sharded result must be as wide as a core's 32 columns, or one row high"),
        ({"subblock": (2, 2)}, "subblocks of a sharded result must be as wide as a core's 32 columns, or one row high"),
        (
            {"activation": block_sharded((8, 4)), "output": "dram"},
            "shards are 8 rows of tiles, but a core computes 4 of 32",
        ),
        (
            {"kind": "1d_in1", "activation": None, "per_core": (1, 256), "block": (1, 256)},
            "the result of a 1d_in1 matmul",
        ),
    ],
)
def test_blocks_that_do_not_fit(change: dict[str, Any], reason: str, mesh: Any) -> None:
    request = replace(REQUEST, m=1024)
    TALL.check(request, N150)
    assert verify(request, TALL, mesh).exact
    assert first_problem(replace(TALL, **change), request).startswith(reason)


# Work


def test_work_counts_what_enters_a_core_and_what_leaves_dram() -> None:
    work = TWO_D.work(REQUEST, N150, (DRAM, DRAM))
    assert work.matrix_cycles == 32 * 64 * 32  # tiles of a core, at 32 cycles each
    assert work.multicast_bytes == 64 * (1 * 2048 + 32 * 1088)
    assert work.dram_pages == 8 * 64 + 64 * 256 + 8 * 256
    narrow = replace(TWO_D, block=(1, 16))  # reads the rows twice
    assert narrow.work(REQUEST, N150, (DRAM, DRAM)).dram_pages - work.dram_pages == 8 * 64
    decode = ONE_D.work(DECODE, N150, (DRAM, DRAM))
    assert (decode.noc_bytes, decode.multicast_bytes) == (2 * 64 * 1088, 64 * 2048)
    in_l1 = replace(ONE_D, activation=ON_32, output=ON_64).work(DECODE, N150, (ON_32, DRAM))
    assert in_l1.dram_bytes == 64 * 128 * 1088


# What is published


@pytest.mark.parametrize(("name", "grid"), [("n150", (8, 8)), ("p150", (8, 10))])
@pytest.mark.parametrize("m", [1024, 2048])
def test_the_published_prefill_configs_are_among_the_candidates(
    name: str, grid: tuple[int, int], m: int, probe: Any
) -> None:
    """2d over 8 columns of cores: ceil(mt / rows) by ceil(nt / 8) tiles a core."""
    request, record = probe.matmul(m, 4096, 6144), board(name)
    share = (-(-m // 32 // grid[1]), 6144 // 32 // 8)
    found = [config for config in probe.legal(BcastMatmul, request, record) if config.per_core == share]
    assert found
    assert all(config.cores(request, record) == -(-m // 32 // share[0]) * 8 for config in found)


def test_a_prompt_reads_a_weight_over_banks_on_every_board(probe: Any) -> None:
    for record in BOARDS.values():
        for k, n in probe.WEIGHTS.values():
            request = probe.matmul(1024, k, n)
            found = [config for config in probe.legal(BcastMatmul, request, record) if config.weight == "banks"]
            assert any(probe.fits(request, config, record) for config in found), (record.name, k, n)
