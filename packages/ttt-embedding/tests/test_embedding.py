"""TokenEmbedding against a look-up by hand, LMHead against torch's linear.

Tolerance of logits: weights of size 1/√k make logits of size 1; k products in float32 err by 1e-6 in practice, 1e-4 is asked.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
import torch

from ttt_core import Embedding, Head, ShapeError, SpecError, WeightError
from ttt_embedding import (
    EmbeddingSpec,
    HeadSpec,
    HeadTransform,
    HeadTransformSpec,
    LMHead,
    PositionEmbedding,
    PositionSpec,
    TokenEmbedding,
    embedding_request,
    head_request,
)
from ttt_hw import Workload, board, open_mesh, run_in_process, upload
from ttt_testing import max_difference, pcc, shadow

SIZES = [(200, 72), (130, 96), (1000, 576), (300, 2048)]  # vocabulary, hidden


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.mark.parametrize(("vocab", "hidden"), SIZES)
@pytest.mark.parametrize(
    ("forward", "rows"), [("prefill", n) for n in (1, 31, 33, 128)] + [("decode", n) for n in (1, 3, 32)]
)
def test_embedding_is_a_look_up(vocab: int, hidden: int, forward: str, rows: int, mesh: Any) -> None:
    table = random(vocab, hidden)
    ids = torch.randint(0, vocab, (rows,), generator=torch.Generator().manual_seed(rows))
    ids[0], ids[-1] = 0, vocab - 1
    expected = torch.stack([table[i] for i in ids.tolist()])[None, None]
    embedding = TokenEmbedding(EmbeddingSpec(vocab_size=vocab, hidden_dim=hidden), table.numpy(), device=mesh)
    for rounding in ("none", "device"):
        with shadow(rounding) as values:  # type: ignore[arg-type]
            y = getattr(embedding, f"{forward}_forward")(
                upload(ids[None].numpy(), mesh, dtype="uint32", layout="row_major")
            )
            actual = values.to_torch(y)
        assert torch.equal(actual, expected if rounding == "none" else expected.to(torch.bfloat16).float())


@pytest.mark.parametrize(("vocab", "hidden"), SIZES)
@pytest.mark.parametrize(
    ("forward", "rows"), [("prefill", n) for n in (1, 31, 33, 128)] + [("decode", n) for n in (1, 3, 32)]
)
def test_head_equals_linear(vocab: int, hidden: int, forward: str, rows: int, mesh: Any) -> None:
    weight, x = random(vocab, hidden) * hidden**-0.5, random(1, 1, rows, hidden)
    expected = (x.double() @ weight.double().T).float()
    roundings: list[tuple[Literal["none", "device"], Any]] = [
        ("none", "bfloat8_b"), ("device", "bfloat16"), ("device", "bfloat8_b"),
    ]  # fmt: skip
    for rounding, dtype in roundings:
        head = LMHead(HeadSpec(vocab_size=vocab, hidden_dim=hidden), weight.numpy(), device=mesh, dtype=dtype)
        with shadow(rounding) as values:
            actual = values.to_torch(getattr(head, f"{forward}_forward")(upload(x.numpy(), mesh, dtype="bfloat16")))
        assert actual.shape == (1, 1, rows, vocab)
        if rounding == "none":
            assert max_difference(actual, expected) < 1e-4
        else:
            assert pcc(actual, expected) > (0.999 if dtype == "bfloat16" else 0.99)


def test_protocols_are_kept(mesh: Any) -> None:
    table = random(40, 32).numpy()
    embedding: Embedding = TokenEmbedding(EmbeddingSpec(vocab_size=40, hidden_dim=32), table, device=mesh)
    head: Head = LMHead(HeadSpec(vocab_size=40, hidden_dim=32, tied=True), table, device=mesh)
    assert isinstance(embedding, Embedding)
    assert isinstance(head, Head)


def test_weights_of_another_shape_are_refused(mesh: Any) -> None:
    transposed = random(72, 40).numpy()
    with pytest.raises(WeightError) as caught:
        TokenEmbedding(EmbeddingSpec(vocab_size=40, hidden_dim=72), transposed, device=mesh)
    assert str(caught.value) == (
        "the embedding table has shape [72, 40], but [40, 72] is wanted for the embedding table. "
        "The config and the weights do not belong together."
    )
    with pytest.raises(WeightError) as caught:
        LMHead(HeadSpec(vocab_size=40, hidden_dim=72), transposed, device=mesh)
    assert str(caught.value) == (
        "the head's weight has shape [72, 40], but [40, 72] is wanted for the head's weight. "
        "The config and the weights do not belong together."
    )


@pytest.mark.parametrize("spec", [EmbeddingSpec, HeadSpec])
@pytest.mark.parametrize(("vocab", "hidden"), [(0, 32), (40, 0), (-1, 32)])
def test_a_spec_out_of_range_is_refused(spec: Any, vocab: int, hidden: int) -> None:
    with pytest.raises(SpecError) as caught:
        spec(vocab_size=vocab, hidden_dim=hidden)
    assert str(caught.value) == f"{spec.__name__}(vocab_size={vocab}, hidden_dim={hidden}): both must be at least 1."


def in_pieces(name: str, vocab: int) -> tuple[list[str], float]:
    """A head whose columns on a chip are too many for one weight: the names of its operations, and its largest error."""
    weight, bias, x = random(vocab, 64), random(vocab, seed=1), random(1, 1, 2, 64, seed=2)
    weight = weight / 8  # logits of size 1
    spec = HeadSpec(vocab_size=vocab, hidden_dim=64, bias=True)
    with open_mesh(name, backend="mock") as mesh, shadow(rounding="none") as values:
        head = LMHead(spec, weight.numpy(), bias=bias.numpy(), device=mesh, dtype="bfloat16")
        shards = values.shards(head.decode_forward(upload(x.numpy(), mesh, dtype="bfloat16")))
        error = max(
            float(np.abs(torch.as_tensor(part).numpy() - (x @ weight.T + bias).numpy()).max()) for part in shards
        )
    work = Workload(mode="decode", users=2, context=32, chips=board(name).mesh[1])
    return [op.name for op in head_request(spec, work, {"head_weights": "bfloat16"}).ops], error


@pytest.mark.parametrize(
    ("name", "vocab", "wanted"),
    [
        ("n150", 70_001, ["lm_head.0", "lm_head.1", "lm_head.2", "joined_logits", "crop"]),
        ("n300", 70_001, ["lm_head.0", "lm_head.1", "joined_logits", "all_gather", "crop"]),
    ],
)
def test_a_wide_vocabulary_is_computed_in_pieces(name: str, vocab: int, wanted: list[str]) -> None:
    names, error = run_in_process(in_pieces, name, vocab, device=name)
    assert names == wanted
    assert error < 1e-4


def ids_of(mesh: Any, rows: int = 32) -> Any:
    return upload(np.arange(rows, dtype=np.uint32)[None], mesh, dtype="uint32", layout="row_major")


@pytest.mark.parametrize("interleaved", [False, True])
def test_sines_and_cosines_of_positions(interleaved: bool, mesh: Any) -> None:
    """Of 8 elements, position 3 of those from 1: sin and cos of 4, 4/10000^(1/4 or 1/3) and so on."""
    spec = PositionSpec(num_positions=40, hidden_dim=8, kind="sinusoidal", offset=1, interleaved=interleaved)
    block = PositionEmbedding(spec, device=mesh)
    assert isinstance(block, Embedding)
    with shadow() as values:
        rows = values.to_torch(block.decode_forward(ids_of(mesh)))[0, 0]
    angles = [4 * 10000 ** -(each / (4 if interleaved else 3)) for each in range(4)]
    sines, cosines = [math.sin(angle) for angle in angles], [math.cos(angle) for angle in angles]
    wanted = [each for pair in zip(sines, cosines, strict=True) for each in pair] if interleaved else [*sines, *cosines]
    assert max_difference(rows[3], torch.tensor(wanted)) < 1e-6


def test_learned_positions_begin_at_their_offset(mesh: Any) -> None:
    table = np.arange(34 * 32, dtype=np.float32).reshape(34, 32)
    block = PositionEmbedding(PositionSpec(num_positions=32, hidden_dim=32, offset=2), table, device=mesh)
    assert (block.weights[0].shape, block.spec.num_parameters) == ((32, 32), 34 * 32)
    with shadow() as values:
        assert np.array_equal(values.to_torch(block.prefill_forward(ids_of(mesh)))[0, 0].numpy(), table[2:])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: PositionSpec(num_positions=8, hidden_dim=7, kind="sinusoidal"),
            SpecError,
            "it must be even, and at least 4",
        ),
        (lambda: PositionSpec(num_positions=8, hidden_dim=8, offset=-1), SpecError, "with an offset of at least 0"),
        (
            lambda: HeadSpec(vocab_size=8, hidden_dim=8, multiplier=0.0),
            SpecError,
            "logits that are all 0 choose nothing",
        ),
        (
            lambda: HeadTransformSpec(hidden_dim=8, activation="mish"),
            SpecError,
            "it must be one of silu, gelu, gelu_tanh",
        ),  # type: ignore[arg-type]
        (
            lambda: EmbeddingSpec(vocab_size=8, hidden_dim=8, embedding_dim=0),
            SpecError,
            "a row must have at least 1 element",
        ),
    ],
)
def test_specs_out_of_range(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_what_is_given_and_the_spec_agree(mesh: Any) -> None:
    table: Any = np.ones((64, 32), np.float32)
    with pytest.raises(WeightError, match=r"^sinusoidal embeddings have no weight, and one was given\."):
        PositionEmbedding(PositionSpec(num_positions=64, hidden_dim=32, kind="sinusoidal"), table, device=mesh)
    with pytest.raises(WeightError, match=r"^the spec says embedding_dim=None, and a projection: one was given\."):
        TokenEmbedding(vocab_size=64, hidden_dim=32, weight=table, projection=table, device=mesh)
    with pytest.raises(WeightError, match=r"^the spec says embedding_dim=32, and a projection: none was given\."):
        TokenEmbedding(vocab_size=64, hidden_dim=96, embedding_dim=32, weight=table, device=mesh)
    with pytest.raises(WeightError, match=r"^the spec says bias=True, and none was given\."):
        HeadTransform(HeadTransformSpec(hidden_dim=32), table[:32], device=mesh)
    assert EmbeddingSpec(vocab_size=64, hidden_dim=96, embedding_dim=32).num_parameters == 64 * 32 + 32 * 96
    assert HeadTransformSpec(hidden_dim=32).num_parameters == 32 * 33


def test_a_table_that_does_not_split_is_refused() -> None:
    work = Workload(mode="decode", users=32, context=0, chips=4)
    with pytest.raises(ShapeError, match=r"^96 columns of a table in 4 parts are no whole tiles of 32\. Keep it whole"):
        embedding_request(EmbeddingSpec(vocab_size=64, hidden_dim=96), work, split=True)
