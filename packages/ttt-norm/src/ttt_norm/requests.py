"""The operation of a normalisation, as data for a planner."""

from __future__ import annotations

from ttt_hw.requests import BlockRequest, NormRequest, Stored, TensorType, Workload
from ttt_norm.spec import NormSpec

__all__ = ["norm_request"]


def norm_request(spec: NormSpec, work: Workload, *, rows: int | None = None) -> BlockRequest:
    """x [1, 1, rows, a chip's part of dim] → the same; rows are those of the workload unless given. An offset is added to the
    weight as stored.
    """
    rows = work.rows if rows is None else rows
    dim = work.hidden(spec.dim)
    shape = (1, 1, rows, dim)
    vector = TensorType(shape=(1, 1, 1, dim))
    names = [name for name, wanted in (("weight", spec.weight), ("bias", spec.bias)) if wanted]
    request = NormRequest(
        name="norm",
        inputs=("x", *names),
        kind=spec.kind.value,
        shape=shape,
        epsilon=spec.eps,
        weight=spec.weight,
        bias=spec.bias,
        chips=work.hidden_chips,
        axis=0,
    )
    return BlockRequest(
        mode=work.mode,
        inputs=(("x", TensorType(shape=shape)),),
        stored=tuple(Stored(name=name, type=vector) for name in names),
        ops=(request,),
        outputs=("norm",),
    )
