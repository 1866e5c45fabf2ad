"""LazyModule: nothing is made before a device is there, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from ttt_core import LazyModule, SpecError


class Block:
    made = 0

    def __init__(self, spec: Any = None, *, device: str, **fields: Any) -> None:
        Block.made += 1
        self.given = (spec, device, fields)


def test_it_is_made_for_a_device() -> None:
    Block.made = 0
    of_a_spec, of_keywords = LazyModule(Block, "spec", dtype="bf16"), LazyModule(Block, {"dim": 4}, eps=1e-6)
    assert Block.made == 0
    assert of_a_spec.materialize("mesh").given == ("spec", "mesh", {"dtype": "bf16"})
    assert of_keywords.materialize("mesh").given == (None, "mesh", {"dim": 4, "eps": 1e-6})
    assert LazyModule(Block).materialize("mesh").given == (None, "mesh", {})
    assert of_a_spec.materialize("mesh") is not of_a_spec.materialize("mesh")
    assert repr(of_a_spec) == "LazyModule(Block, 'spec', dtype='bf16')"
    assert (of_a_spec.cls, of_a_spec.config) == (Block, "spec")


def test_more_may_be_said_later() -> None:
    first = LazyModule(Block, {"dim": 4})
    more = first.given(eps=1e-6)
    assert more.materialize("mesh").given == (None, "mesh", {"dim": 4, "eps": 1e-6})
    assert (first.arguments, more.arguments) == ({"dim": 4}, {"dim": 4, "eps": 1e-6})
    assert LazyModule(Block, "spec").given(eps=2).materialize("mesh").given == ("spec", "mesh", {"eps": 2})
    with pytest.raises(SpecError, match=r"^Block has dim already\. Give it once\.$"):
        first.given(dim=5)


def test_what_it_refuses() -> None:
    with pytest.raises(SpecError, match=r"^Block: dim is in the config and beside it\. Give it once\.$"):
        LazyModule(Block, {"dim": 4}, dim=5)
    for made in (lambda: LazyModule(Block, device=1), lambda: LazyModule(Block, {"device": 1})):
        with pytest.raises(
            SpecError, match=r"^LazyModule\(Block\) was given a device\. Give it to materialize\(device\)\.$"
        ):
            made()
