"""Specs from keywords: what is grouped, filled in and refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

import pytest

from ttt_core import SpecError, SpecKeywords


class Colour(str, Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True, slots=True)
class Near:
    radius: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Far:
    distance: float
    near: Near | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    size: int
    half: int
    colour: Colour = Colour.RED
    place: Near | Far | None = None


KEYWORDS = SpecKeywords(Spec, {"half": lambda fields: fields["size"] // 2})


@pytest.mark.parametrize(
    ("given", "spec"),
    [
        ({"size": 4}, Spec(size=4, half=2)),
        ({"size": 4, "half": 1, "colour": "blue"}, Spec(size=4, half=1, colour=Colour.BLUE)),
        ({"size": 4, "place": Near(radius=1.0)}, Spec(size=4, half=2, place=Near(radius=1.0))),
        ({"size": 4, "place_radius": 1.0}, Spec(size=4, half=2, place=Near(radius=1.0))),
        (
            {"size": 4, "place_distance": 2.0, "place_near_radius": 1.0},
            Spec(size=4, half=2, place=Far(distance=2.0, near=Near(radius=1.0))),
        ),
    ],
)
def test_keywords_become_a_spec(given: dict[str, Any], spec: Spec) -> None:
    assert KEYWORDS(None, given, block="Block") == spec


def test_a_spec_is_taken_as_it_is() -> None:
    spec = Spec(size=1, half=1)
    assert KEYWORDS(spec, {}, block="Block") is spec


def test_the_fields_of_an_inline_spec_need_no_name_before_them() -> None:
    keywords = SpecKeywords(Far, inline="near")
    assert keywords(None, {"distance": 2.0, "radius": 1.0}, block="Block") == Far(distance=2.0, near=Near(radius=1.0))


NAMES = "colour, half, place, place_distance, place_near, place_radius, size"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "Block was not given size, half. Give Spec(…), or its fields as keywords: size, half, colour, place."),
        ({"half": 1}, "Block was not given size. Give Spec(…), or its fields as keywords: size, half, colour, place."),
        ({"size": 1, "sise": 1}, f"Block has no keyword sise; its Spec has {NAMES}. Did you mean size?"),
        ({"size": 1, "colour": "green"}, "Block was given colour='green'; it must be one of red, blue."),
        (
            {"size": 1, "place": None, "place_radius": 1.0},
            "Block was given place= and place_radius of it beside it. Give one of the two.",
        ),
        (
            {"size": 1, "place_near_radius": 1.0},
            "Block's place was not given distance. Give Far(…), or its fields as keywords: distance, near.",
        ),
    ],
)
def test_what_keywords_lack_or_have_too_much_is_said(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        KEYWORDS(None, given, block="Block")
    assert str(caught.value) == message


def test_a_spec_and_keywords_are_refused() -> None:
    with pytest.raises(SpecError) as caught:
        KEYWORDS(Spec(size=1, half=1), {"size": 2, "half": 3}, block="Block")
    assert str(caught.value) == (
        "Block was given a spec and size=, half= beside it. Give the spec alone (dataclasses.replace makes one with other "
        "values), or keywords alone."
    )
