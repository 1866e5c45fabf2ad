"""What `shadow()` promises: values, roundings, refusals, lifetimes, and a process that is as before."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import ttnn
from numpy.typing import NDArray

from ttt_core import GoldenError, PlacementError, ShapeError
from ttt_hw import download, run_in_process, source_of, upload
from ttt_testing import max_difference, pcc, remembered, round_to, shadow
from ttt_weights import ArraySource, LazyWeight


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def on(mesh: Any, x: torch.Tensor, dtype: str = "bfloat16", **options: Any) -> Any:
    return upload(x.numpy(), mesh, dtype=dtype, **options)  # type: ignore[arg-type]


def lazy_weight(values: NDArray[np.float32], mesh: Any, dtype: str = "bfloat8_b") -> LazyWeight:
    return LazyWeight(
        [ArraySource(values, "w")],
        lambda w: w,
        shape=values.shape,
        dtype=dtype,  # type: ignore[arg-type]
        device=mesh,
        placement="k n in dram",
    )


def l1_bytes(mesh: Any) -> int:
    return int(ttnn.get_memory_view(mesh, ttnn.BufferType.L1).total_bytes_allocated_per_bank)


# Roundings


def block_float(x: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Sixteen values of a row share the largest exponent; the mantissas, hidden bit included, keep `bits` bits.

    The bits below are first cut at 24 with the alignment, then round to nearest even; a carry out of the top stays below it.
    """
    *leading, width = x.shape
    padded = np.zeros((*leading, -(-width // 16) * 16), np.float32)
    padded[..., :width] = x
    blocks = padded.reshape(*leading, -1, 16)
    raw = blocks.view(np.uint32).astype(np.int64)
    exponent = raw >> 23 & 0xFF
    mantissa = np.where(blocks == 0, 0, raw & 0x7F_FFFF | 0x80_0000)
    shared = exponent.max(-1, keepdims=True)
    mantissa >>= np.minimum(shared - exponent, 31)
    dropped = 24 - bits
    kept, rest, half = mantissa >> dropped, mantissa & (1 << dropped) - 1, 1 << dropped - 1
    kept = np.minimum(kept + ((rest > half) | ((rest == half) & (kept % 2 == 1))), (1 << bits) - 1)
    values = np.copysign(kept * np.exp2(shared - 127.0 - (bits - 1)), blocks)
    return values.reshape(padded.shape)[..., :width].astype(np.float32)


def nearest_even_bfloat16(x: NDArray[np.float32]) -> NDArray[np.float32]:
    raw = x.view(np.uint32).astype(np.uint64)
    return (raw + 0x7FFF + (raw >> np.uint64(16) & np.uint64(1)) & 0xFFFF_0000).astype(np.uint32).view(np.float32)


def samples(seed: int, *shape: int) -> Iterator[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    yield x.astype(np.float32)
    yield (x * np.exp2(rng.integers(-40, 40, size=shape))).astype(np.float32)  # small values beside large ones
    yield (np.round(x * 256) / 128).astype(np.float32)  # many ties
    yield np.full(shape, 1.9999999, np.float32)  # rounds beyond the shared exponent
    yield np.where(x > 0, x, 0.0).astype(np.float32)


@pytest.mark.parametrize("shape", [(32, 32), (5, 7), (1, 3, 40, 72), (2, 64, 96)])
def test_device_rounding_is_bit_for_bit(mesh: Any, shape: tuple[int, ...]) -> None:
    rules = {
        "bfloat16": nearest_even_bfloat16,
        "bfloat8_b": lambda x: block_float(x, 7),
        "bfloat4_b": lambda x: block_float(x, 3),
        "float32": lambda x: x,
    }
    with shadow("device") as values:
        for sample in samples(sum(shape), *shape):
            for dtype, rule in rules.items():
                held = values.to_torch(upload(sample, mesh, dtype=dtype)).numpy()  # type: ignore[arg-type]
                np.testing.assert_array_equal(held, rule(sample), err_msg=dtype)
                again = round_to(torch.from_numpy(held), getattr(ttnn, dtype)).numpy()
                np.testing.assert_array_equal(again, held, err_msg=f"{dtype} twice")


def test_every_result_is_rounded_to_its_own_dtype(mesh: Any) -> None:
    a, b = random(1, 1, 32, 64), random(1, 1, 64, 32)
    with shadow("device") as values:
        x, w = on(mesh, a), on(mesh, b, "bfloat8_b")
        y = ttnn.linear(x, w)
        z = ttnn.linear(x, w, dtype=ttnn.bfloat8_b)
        product = nearest_even_bfloat16(a.numpy()) @ block_float(b.numpy(), 7)
        np.testing.assert_array_equal(values.to_torch(y).numpy(), nearest_even_bfloat16(product))
        np.testing.assert_array_equal(values.to_torch(z).numpy(), block_float(product, 7))


def test_without_rounding_float32_stays(mesh: Any) -> None:
    a = random(1, 1, 32, 32)
    with shadow("none") as values:
        for dtype in ("bfloat16", "bfloat8_b", "bfloat4_b", "float32"):
            x = on(mesh, a, dtype)
            assert torch.equal(values.to_torch(x), a)
            y = ttnn.add(x, x, dtype=getattr(ttnn, dtype)) if dtype != "bfloat4_b" else ttnn.add(x, x)
            assert torch.equal(values.to_torch(y), a + a)
        assert torch.equal(values.to_torch(ttnn.typecast(on(mesh, a), ttnn.bfloat8_b)), a)


def test_a_tensor_holds_numbers_of_its_own_kind(mesh: Any) -> None:
    """Whole numbers in a floating tensor are floats; what an integer tensor takes is cut to whole numbers."""
    with shadow() as values:
        halves = ttnn.mul(upload(np.arange(32)[None], mesh, dtype="bfloat16"), 0.5)
        assert values.to_torch(halves)[0, :3].tolist() == [0.0, 0.5, 1.0]
        ids = upload(np.full((1, 32), 2.75), mesh, dtype="uint32", layout="row_major")
        assert values.to_torch(ids)[0, :2].tolist() == [2, 2]
        assert values.to_torch(ids).dtype == torch.int64
        same = ttnn.from_torch(
            torch.ones(1, 32, dtype=torch.int32), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh
        )
        assert values.to_torch(same).dtype == torch.float32


# Ways in and out


def test_ways_in_and_out_agree(mesh: Any) -> None:
    a = random(1, 1, 3, 40)
    with shadow() as values:
        entered = [
            on(mesh, a),
            ttnn.from_torch(a, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh),
            ttnn.from_torch(tensor=a, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh),
            ttnn.to_device(ttnn.from_torch(a, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT), mesh),
        ]
        for x in entered:
            assert torch.equal(ttnn.to_torch(x), a)
            assert torch.equal(ttnn.to_torch(tensor=x), a)
            assert torch.equal(ttnn.to_torch(ttnn.from_device(x)), a)
            np.testing.assert_array_equal(download(x), a.numpy())
            assert torch.equal(values.to_torch(x), a)
            assert torch.equal(values.shards(x)[0], a)
    with shadow("device") as values:
        assert torch.equal(ttnn.to_torch(on(mesh, a)), a.to(torch.bfloat16).float())
    x = on(mesh, a)
    assert not download(x).any()  # outside, the mock answers with zeros again


@pytest.mark.parametrize("rounding", ["none", "device"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_goes_in_and_comes_out_is_a_copy(mesh: Any, rounding: Any, dtype: Any) -> None:
    """A later write, on the host or into the device tensor, changes neither side's copy."""
    host, array = torch.zeros(1, 1, 32, 32), np.zeros((1, 1, 32, 32), np.float32)
    ones = torch.ones(1, 1, 32, 32)
    with shadow(rounding) as values:
        a = ttnn.from_torch(host, dtype=getattr(ttnn, dtype), layout=ttnn.TILE_LAYOUT, device=mesh)
        b = upload(array, mesh, dtype=dtype)
        for tensor in (a, b):
            read = [
                values.to_torch(tensor),
                values.shards(tensor)[0],
                ttnn.to_torch(tensor),
                torch.from_numpy(download(tensor)),
            ]
            ttnn.add_(tensor, on(mesh, ones, dtype))
            assert not any(value.any() for value in read)
            values.to_torch(tensor).zero_()
            values.shards(tensor)[0].zero_()
            assert torch.equal(values.to_torch(tensor), ones)
        assert not host.any()
        assert not array.any()
        host.fill_(7)
        array.fill(7)
        assert torch.equal(values.to_torch(a), ones)
        assert torch.equal(values.to_torch(b), ones)
        row = np.zeros((1, 32), np.float32)
        c = upload(row, mesh, dtype=dtype, layout="row_major")
        row.fill(7)
        assert not values.to_torch(c).any()
        ids = np.zeros((1, 32), np.uint32)
        d = upload(ids, mesh, dtype="uint32", layout="row_major")
        ids.fill(7)
        assert not values.to_torch(d).any()


def test_operators_are_operations(mesh: Any) -> None:
    a = random(1, 1, 32, 64)
    with shadow() as values:
        x = on(mesh, a)
        for made, expected in ((x + x, a + a), (x * 2.0, a * 2), (x - 1.0, a - 1), (x[:, :, :3, 5:], a[:, :, :3, 5:])):
            assert torch.equal(values.to_torch(made), expected)
        assert torch.equal(values.to_torch(x), a)  # none of them writes it
        assert values.num_operations == 4
        with pytest.raises(GoldenError, match=r"a method such as tensor\.cpu\(\)"):
            values.to_torch(x.cpu())


# Writes in place


@pytest.mark.parametrize("rounding", ["none", "device"])
def test_cache_writes_are_seen_through_every_name_of_the_cache(mesh: Any, rounding: Any) -> None:
    row = random(1, 2, 32, 32)
    with shadow(rounding) as values:
        expected = round_to(round_to(row, ttnn.bfloat16), ttnn.bfloat8_b) if rounding == "device" else row
        cache = ttnn.zeros([3, 2, 64, 32], ttnn.bfloat8_b, ttnn.TILE_LAYOUT, mesh)
        x = ttnn.typecast(on(mesh, row), ttnn.bfloat8_b)
        names = [cache, *(ttnn.fill_cache(cache, x, user) for user in range(3))]
        for name in names:  # each output is the cache itself
            assert torch.equal(values.to_torch(name)[:, :, :32], expected.expand(3, -1, -1, -1))
        ttnn.fill_cache(cache, x, 1, update_idx=32)
        for name in names:
            assert torch.equal(values.to_torch(name)[1, :, 32:], expected[0])
            assert not values.to_torch(name)[[0, 2], :, 32:].any()


@pytest.mark.parametrize("rounding", ["none", "device"])
def test_cache_writes_leave_copies_alone(mesh: Any, rounding: Any) -> None:
    with shadow(rounding) as values:
        cache, x = on(mesh, torch.zeros(2, 1, 32, 32)), on(mesh, torch.ones(1, 1, 32, 32))
        copies = [
            ttnn.to_memory_config(cache, ttnn.L1_MEMORY_CONFIG),
            ttnn.slice(cache, [0, 0, 0, 0], [2, 1, 32, 32]),
            ttnn.typecast(cache, ttnn.float32),
            ttnn.transpose(cache, 0, 1),
            ttnn.clone(cache),
            ttnn.concat([cache, cache], dim=0),
        ]
        ttnn.fill_cache(cache, x, 0)
        ttnn.fill_cache(cache, x, 1)
        assert values.to_torch(cache).eq(1).all()
        assert not any(values.to_torch(copy).any() for copy in copies)


@pytest.mark.parametrize("rounding", ["none", "device"])
def test_outputs_that_the_caller_gave_are_written(mesh: Any, rounding: Any) -> None:
    with shadow(rounding) as values:
        a = on(mesh, torch.ones(1, 1, 32, 32))
        given = on(mesh, torch.zeros(1, 1, 32, 32))
        made = ttnn.empty([1, 1, 32, 32], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, ttnn.DRAM_MEMORY_CONFIG)
        for target in (given, made):
            out = ttnn.add(a, a, output_tensor=target)
            assert values.to_torch(target).eq(2).all()
            assert values.to_torch(out).eq(2).all()
        ttnn.add_(given, a)
        assert values.to_torch(given).eq(3).all()
        assert values.to_torch(made).eq(2).all()
        assert values.to_torch(a).eq(1).all()


def test_update_cache_of_ttnn_writes_in_place(mesh: Any) -> None:
    row = random(1, 2, 32, 32)
    with shadow("device") as values:
        cache = ttnn.zeros([4, 2, 64, 32], ttnn.bfloat8_b, ttnn.TILE_LAYOUT, mesh)
        ttnn.update_cache(cache, on(mesh, row), 5)
        held = round_to(row, ttnn.bfloat16)[0, :, :4].transpose(0, 1)  # the first rows are the users
        assert torch.equal(values.to_torch(cache)[:, :, 5], round_to(held[:, :, None], ttnn.bfloat8_b)[:, :, 0])


def test_an_in_place_write_whose_target_is_not_known_is_refused(mesh: Any) -> None:
    with shadow() as values:
        cache, x = on(mesh, torch.zeros(2, 1, 32, 32)), on(mesh, torch.ones(1, 1, 32, 32))
        with pytest.raises(
            GoldenError, match=r"ttnn.fill_cache writes its first argument in place: give that one by position"
        ):
            ttnn.fill_cache(cache_tensor=cache, input_tensor=x, batch_idx=0)
        assert not values.to_torch(cache).any()


# Refusals


@contextmanager
def golden(operation: Any, function: Any) -> Iterator[None]:
    """Another golden for a while; FastOperations are frozen."""
    before = operation.golden_function
    object.__setattr__(operation, "golden_function", function)
    try:
        yield
    finally:
        object.__setattr__(operation, "golden_function", before)


def test_an_operation_without_a_golden_is_named(mesh: Any) -> None:
    with golden(ttnn.add, None), shadow(), pytest.raises(GoldenError) as caught:
        ttnn.add(on(mesh, random(1, 1, 32, 32)), 1.0)
    assert str(caught.value) == (
        "ttnn.add has no golden function, so its value is not known without hardware. Attach one with "
        "ttnn.attach_golden_function(op, fn), or add it to ttt_testing._goldens with a test."
    )


@pytest.mark.parametrize(
    ("wrong", "made"),
    [
        (lambda a, b, **_: (a + b)[..., :16], "[1, 1, 32, 16]"),
        (lambda a, b, **_: (a + b)[0], "[1, 32, 32]"),
        (lambda a, b, **_: [a, b], "[1, 1, 32, 32] and [1, 1, 32, 32]"),
        (lambda a, b, **_: [], ""),
    ],
    ids=["narrower", "lower rank", "two outputs", "no output"],
)
def test_a_golden_of_another_shape_is_refused(mesh: Any, wrong: Any, made: str) -> None:
    wrong.__module__, wrong.__qualname__ = "mine", "wrong"
    with golden(ttnn.add, wrong), shadow():
        x = on(mesh, random(1, 1, 32, 32))
        with pytest.raises(GoldenError) as caught:
            ttnn.add(x, x)
    assert str(caught.value) == (
        f"ttnn.add: the device made [1, 1, 32, 32] but its golden function made {made}. "
        "One of the two misreads the arguments; see mine.wrong."
    )


def test_a_golden_that_does_not_take_the_arguments_is_named(mesh: Any) -> None:
    def narrow(a: torch.Tensor) -> torch.Tensor:
        return a

    with (
        golden(ttnn.add, narrow),
        shadow(),
        pytest.raises(GoldenError, match=r"^ttnn.add: its golden function .*narrow does"),
    ):
        ttnn.add(on(mesh, random(1, 1, 32, 32)), 1.0)


def test_a_tensor_from_outside_is_refused(mesh: Any) -> None:
    outside = on(mesh, random(1, 1, 32, 32))
    with shadow() as values:
        inside = on(mesh, random(1, 1, 32, 32))
        for read, reader in (
            (lambda: ttnn.add(inside, outside), "ttnn.add"),
            (lambda: ttnn.concat([inside, outside], dim=0), "ttnn.concat"),
            (lambda: values.to_torch(outside), "values.shards"),
            (lambda: ttnn.to_torch(outside), "values.shards"),
            (lambda: download(outside), "values.shards"),
        ):
            with pytest.raises(GoldenError) as caught:
                read()
            assert str(caught.value).startswith(
                f"{reader} reads a tensor [1, 1, 32, 32] DataType.BFLOAT16 that has no value: "
            )
            assert "Make it inside the context" in str(caught.value)


def test_one_shadow_at_a_time(mesh: Any) -> None:
    with shadow() as values:
        with pytest.raises(GoldenError, match=r"^shadow\(\) is open already; one shadow at a time\."), shadow():
            pass
        x = on(mesh, random(1, 1, 32, 32))  # the outer one works on
        assert values.to_torch(ttnn.add(x, x)).any()
    with shadow():
        pass


def test_an_unknown_rounding_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^shadow\(rounding='bf16'\): give 'none' .* or 'device'"), shadow("bf16"):  # type: ignore[arg-type]
        pass


def test_what_the_device_refuses_is_an_error_of_ttt(mesh: Any) -> None:
    with shadow() as values:
        x = on(mesh, random(1, 1, 32, 64))
        with pytest.raises(ShapeError, match=r"^ttnn.linear: The width of the first tensor") as caught:
            ttnn.linear(x, x)
        assert type(caught.value.__cause__) is RuntimeError
        with pytest.raises(PlacementError, match=r"^ttnn.empty: Out of Memory"):
            ttnn.empty([1, 1, 8192, 8192], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, ttnn.L1_MEMORY_CONFIG)
        assert values.num_operations == 0
        assert values.to_torch(ttnn.add(x, x)).any()


# Lifetimes


def test_memory_of_tensors_that_died_is_free(mesh: Any) -> None:
    tile = 2048  # [32, 2048] of bf16 is 64 tiles, one a core
    before = l1_bytes(mesh)
    with shadow() as values:
        x = ttnn.to_memory_config(on(mesh, random(1, 1, 32, 2048)), ttnn.L1_MEMORY_CONFIG)
        for _ in range(4):
            y = ttnn.add(x, x, memory_config=ttnn.L1_MEMORY_CONFIG)
            assert l1_bytes(mesh) - before <= 3 * tile  # x, y and the y that this one replaces
        del y
        z = ttnn.add(x, x, memory_config=ttnn.DRAM_MEMORY_CONFIG)
        assert l1_bytes(mesh) - before == tile
        assert len(values._entries) == 2  # x and z
        del x
    assert l1_bytes(mesh) == before
    assert values.to_torch(z).any()  # what lives can be read after the context


def test_a_chain_of_many_ops_fits_l1(mesh: Any) -> None:
    """Each output takes 64 KB a core, of which L1 holds 21."""
    with shadow() as values:
        x = ttnn.to_memory_config(on(mesh, torch.zeros(1, 1, 1024, 2048)), ttnn.L1_MEMORY_CONFIG)
        for _ in range(30):
            x = ttnn.add(ttnn.add(x, 1.0), -1.0)
        assert x.memory_config().buffer_type == ttnn.BufferType.L1
        assert not values.to_torch(x).any()


def test_a_value_is_never_taken_for_that_of_a_dead_tensor(mesh: Any) -> None:
    """Python gives the ids of dead objects to new ones."""
    with shadow() as values:
        for number in range(200):
            x = on(mesh, torch.full((1, 1, 32, 32), float(number)))
            assert values.to_torch(x)[0, 0, 0, 0] == number
            del x


# Weights


def test_a_lazy_weight_made_before_the_shadow_has_its_value(mesh: Any) -> None:
    values_ = random(64, 48).numpy()
    weight = lazy_weight(values_, mesh)
    x = torch.eye(64)
    device = weight.tensor  # on the device before, not seen by the shadow
    for _ in range(2):
        with shadow("none") as values:
            assert torch.equal(values.to_torch(device), torch.from_numpy(values_))
            assert torch.equal(values.to_torch(ttnn.linear(on(mesh, x), device)), torch.from_numpy(values_))
    with shadow("device") as values:
        np.testing.assert_array_equal(values.to_torch(device).numpy(), block_float(values_, 7))


def test_a_lazy_weight_first_used_inside_has_its_value(mesh: Any) -> None:
    values_ = random(64, 48).numpy()
    weight = lazy_weight(values_, mesh)
    with shadow("none") as values:
        assert torch.equal(values.to_torch(weight.tensor), torch.from_numpy(values_))
    with shadow("device") as values:
        np.testing.assert_array_equal(values.to_torch(weight.tensor).numpy(), block_float(values_, 7))


def test_a_weight_that_died_has_no_value(mesh: Any) -> None:
    weight = lazy_weight(random(32, 32).numpy(), mesh)
    device = weight.tensor
    assert source_of(device) is not None
    del weight
    gc.collect()
    assert source_of(device) is None
    with shadow() as values, pytest.raises(GoldenError, match="has no value"):
        values.to_torch(device)


# After the context


def test_everything_is_as_before(mesh: Any) -> None:
    kinds = (ttnn.decorators.FastOperation, ttnn.decorators.Operation)
    before = [kind.__call__ for kind in kinds]
    with shadow():
        assert all(kind.__call__ is not call for kind, call in zip(kinds, before, strict=True))
    assert [kind.__call__ for kind in kinds] == before
    mistake = KeyError("body")
    with pytest.raises(KeyError) as caught, shadow():
        raise mistake
    assert caught.value is mistake
    assert [kind.__call__ for kind in kinds] == before
    x = on(mesh, random(1, 1, 32, 32))
    with pytest.raises(GoldenError), shadow() as values:
        ttnn.add(x, x)
    assert [kind.__call__ for kind in kinds] == before
    assert not ttnn.to_torch(ttnn.add(x, x)).any()  # the mock's zeros again
    assert not values.operations  # a closed shadow no longer watches


def test_operations_are_counted(mesh: Any) -> None:
    with shadow() as values:
        x = on(mesh, random(1, 1, 32, 32))
        y = ttnn.from_torch(random(1, 1, 32, 32), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh)
        assert values.num_operations == 0  # copies between host and device are none
        for _ in range(3):
            y = ttnn.add(x, y)
        ttnn.unsqueeze_to_4D(ttnn.transpose(y, 2, 3))  # ttnn's own calls inside are not counted
        ttnn.to_torch(y)
        ttnn.synchronize_device(mesh)
        ttnn.deallocate(y)
        assert values.operations == {"ttnn.add": 3, "ttnn.transpose": 1, "ttnn.unsqueeze_to_4D": 1}
        assert values.num_operations == 5


# Metrics


def test_metrics() -> None:
    x = random(4, 50)
    assert pcc(x, x) == pcc(torch.ones(3), torch.ones(3)) == 1.0
    assert pcc(x, 3 * x + 2) == pytest.approx(1.0)
    assert pcc(x, -x) == pytest.approx(-1.0)
    y = x + random(4, 50, seed=1)
    assert pcc(x, y) == pytest.approx(np.corrcoef(x.flatten().numpy(), y.flatten().numpy())[0, 1])
    assert pcc(torch.ones(3), torch.zeros(3)) == 0.0
    assert max_difference(torch.tensor([1.0, -2.0]), torch.tensor([1.5, 1.0])) == 3.0


@pytest.mark.parametrize("dtype", ["bfloat16", "bfloat8_b"])
def test_a_written_cache_is_what_rounding_all_of_it_gives(mesh: Any, dtype: str) -> None:
    stored = getattr(ttnn, dtype)
    torch.manual_seed(0)
    before, rows = torch.randn(2, 2, 64, 32), torch.randn(1, 2, 32, 32)
    exact = before.clone()
    with shadow("device") as values:
        cache = ttnn.from_torch(before, dtype=stored, layout=ttnn.TILE_LAYOUT, device=mesh)
        prompt = ttnn.from_torch(rows, dtype=stored, layout=ttnn.TILE_LAYOUT, device=mesh)
        ttnn.fill_cache(cache, prompt, 1)
        exact[1, :, :32] = rows[0]
        assert torch.equal(values.to_torch(cache), round_to(exact, stored))


def test_what_is_remembered_has_its_value_in_later_shadows(mesh: Any) -> None:
    """Copied to the device, made by an operation, written in place: as it was at the end."""
    a = torch.arange(32 * 32, dtype=torch.float32).reshape(1, 1, 32, 32) / 7
    with remembered():
        copied = ttnn.from_torch(a, dtype=ttnn.bfloat8_b, layout=ttnn.TILE_LAYOUT, device=mesh)
        made = ttnn.neg(copied)
        written = ttnn.from_torch(a, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh)
        ttnn.exp(ttnn.mul(written, 0.0), output_tensor=written)
    for _ in range(2):
        with shadow() as values:
            assert torch.equal(values.to_torch(copied), a)
            assert torch.equal(values.to_torch(made), -a)
            assert torch.equal(values.to_torch(written), torch.ones_like(a))
    with shadow("device") as values:
        assert torch.equal(values.to_torch(copied), round_to(a, ttnn.bfloat8_b))


def shared_and_written() -> list[list[float]]:
    """Chips that read the same share a result; one that is written is each chip's own."""
    from ttt_hw import board_of, open_mesh
    from ttt_shard_dsl import parse

    with open_mesh("n300", backend="mock") as mesh, shadow() as values:
        place = parse("b h s d@cols in dram").place((1, 1, 32, 64), device=board_of(mesh), dtype="bfloat16", tiled=True)
        halves = np.concatenate([np.ones((1, 1, 32, 32)), np.full((1, 1, 32, 32), 2)], -1).astype(np.float32)
        own = upload(halves, mesh, dtype="bfloat16", placement=place)
        x = upload(np.ones((1, 1, 32, 32), np.float32), mesh, dtype="bfloat16")
        first, second = ttnn.mul(x, 2.0), ttnn.mul(x, 3.0)
        ttnn.add_(first, own)
        kept = ttnn.add(second, own)
        found = [[float(shard.mean()) for shard in values.shards(tensor)] for tensor in (x, first, second, kept)]
        return found


def test_chips_that_read_the_same_share_a_result_until_it_is_written() -> None:
    assert run_in_process(shared_and_written, device="n300") == [[1.0, 1.0], [3.0, 4.0], [3.0, 3.0], [4.0, 5.0]]
