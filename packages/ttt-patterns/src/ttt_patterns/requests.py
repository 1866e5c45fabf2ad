"""The operations of a layer, joined from the lists of its parts."""

from __future__ import annotations

from ttt_hw.requests import BinaryRequest, BlockRequest, OpRequest, Stored, TensorType
from ttt_patterns._residual import ONE_NORM, PLACES
from ttt_patterns.spec import Residual

__all__ = ["layer_request"]


def layer_request(
    *,
    residual: Residual = "pre_norm",
    attention: BlockRequest,
    ffn: BlockRequest,
    attention_norm: BlockRequest,
    ffn_norm: BlockRequest | None,
    attention_output_norm: BlockRequest | None = None,
    ffn_output_norm: BlockRequest | None = None,
    multiplier: float = 1.0,
) -> BlockRequest:
    """x → the layer's output, as LayerSpec says; each part reads `x` and has one output. `ffn_norm` None: it shares the
    attention's.

    Names begin with the part's, as in `attention.qkv_matmul`; tables and indices keep theirs, for all layers share them.
    """
    (x_type,) = (type_ for name, type_ in attention_norm.inputs if name == "x")
    layer = _Layer(x_type, multiplier)
    norms = {
        "attention_norm": attention_norm,
        "ffn_norm": ffn_norm,
        "attention_output_norm": attention_output_norm,
        "ffn_output_norm": ffn_output_norm,
    }
    places = PLACES[residual] if ffn_norm is not None else ONE_NORM

    def norm(name: str | None, x: str) -> str:
        return x if name is None else layer.part(name, norms[name], x)

    normalised = norm(places.before_attention, "x")
    attended = norm(places.after_attention, layer.part("attention", attention, normalised))
    if residual == "parallel":
        read = normalised if places.between is None else norm(places.between, "x")
        h = layer.sum("attention_residual", "x", attended)
    elif residual == "post_norm":
        h = read = norm(places.between, layer.sum("attention_residual", "x", attended))
    else:
        h = layer.sum("attention_residual", "x", attended)
        read = norm(places.between, h)
    narrowed = norm(places.after_ffn, layer.part("ffn", ffn, read))
    y = norm(places.last, layer.sum("ffn_residual", h, narrowed))
    return BlockRequest(
        mode=attention.mode,
        inputs=(("x", x_type),),
        stored=tuple(layer.stored),
        ops=tuple(layer.ops),
        outputs=(y,),
    )


class _Layer:
    def __init__(self, x: TensorType, multiplier: float) -> None:
        self.x = x
        self.multiplier = multiplier
        self.ops: list[OpRequest] = []
        self.stored: list[Stored] = []

    def part(self, name: str, block: BlockRequest | None, x: str) -> str:
        """Adds a part that reads `x`; the name of its output. None adds nothing."""
        if block is None:
            return x
        shared = {stored.name: stored.name for stored in block.stored if stored.kind in ("table", "index")}
        part = block.within(name, x=x, **shared)
        self.ops += part.ops
        self.stored += part.stored
        (output,) = part.outputs
        return output

    def sum(self, name: str, a: str, b: str) -> str:
        rows, dim = self.x.shape[-2:]
        self.ops.append(
            BinaryRequest(name=name, inputs=(a, b), op="add", shape=(1, 1, rows, dim), b_scale=self.multiplier)
        )
        return name
