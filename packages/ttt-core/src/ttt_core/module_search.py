"""Modules by words: what `ttt search` answers.

A word counts once, where it counts most: in a module's name, in a feature, in its category, in what it does, in its source.
Those that have the most of the words come first, and of them those where the words count more. Words that no module has are
replaced by the closest that one has.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from difflib import get_close_matches

from ttt_core.registry import ModuleRecord, ModuleTier

__all__ = ["Match", "search"]

WEIGHTS = {"name": 8, "features": 5, "category": 3, "summary": 2, "source": 1}
WHOLE_FEATURE = 4  # more, for all the words of a feature of several
BEGINNING = 0.5  # of the weight, for the beginning of a word, as norm in normalised
SHORTEST_BEGINNING = 4
SHORTEST_STEM = 3
_TIERS = list(ModuleTier)  # the first are what most people look for
LITTLE = frozenset(["a", "an", "and", "for", "in", "of", "on", "or", "the", "to", "with"])
_TOKEN = re.compile(r"[^\W_]+(?:[-./][^\W_]+)*")
_JOINT = re.compile(r"[-/]")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+(?:\.\d+)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """`words`: in which of the record's facts each word of the query is; `meant`: words that no record has, and what was looked
    for in their place."""

    record: ModuleRecord
    score: float
    words: dict[str, str]
    meant: dict[str, str]


def search(query: str, records: Iterable[ModuleRecord]) -> tuple[Match, ...]:
    """The records that have the most of the query's words, the best first; of equals by tier, then by feature."""
    facts = [(record, _facts(record)) for record in records]
    known = {word for _, fact in facts for words in fact.values() for word in words}
    asked = _asked(query, known)
    meant = {word: close for word in asked if (close := _closest(word, known))}
    wanted = {word: _stem(meant.get(word, word)) for word in asked}
    found = []
    for record, fact in facts:
        words, score = {}, 0.0
        for typed, word in wanted.items():
            best, where = max((_weight(word, where, held), where) for where, held in fact.items())
            if best:
                words[typed] = where
                score += best
        whole = [feature for feature in record.features if _contained(_words(feature), wanted.values())]
        if words:
            found.append(Match(record=record, score=score + WHOLE_FEATURE * len(whole), words=words, meant=meant))
    most = max((len(match.words) for match in found), default=0)
    found = [match for match in found if len(match.words) == most]
    return tuple(sorted(found, key=lambda match: (-match.score, _order(match, wanted), match.record.path)))


def _asked(query: str, known: Set[str]) -> list[str]:
    """The words of a query that count, each once; of a compound either the whole or, where no record has it, its parts."""
    found: list[str] = []
    for token in _TOKEN.findall(query):
        whole, *parts = _split(token) or [""]
        found += parts if parts and _stem(whole) not in known else [whole]
    telling = [word for word in dict.fromkeys(found) if word and word not in LITTLE]
    return telling or [word for word in found if word]


def _order(match: Match, wanted: Mapping[str, str]) -> tuple[int, int]:
    """The place of the record's tier, and of the first of its features that the query names."""
    words = set(wanted.values())
    places = (place for place, feature in enumerate(match.record.features) if words & set(_words(feature)))
    return _TIERS.index(match.record.tier), next(places, len(match.record.features))


def _facts(record: ModuleRecord) -> dict[str, frozenset[str]]:
    """The words of each fact of a record."""
    texts = {
        "name": record.name,
        "features": " ".join(record.features),
        "category": record.category,
        "summary": record.summary,
        "source": record.source,
    }
    return {where: frozenset(_words(text)) for where, text in texts.items()}


def _words(text: str) -> list[str]:
    """What is compared."""
    return [_stem(word) for word in _split(text)]


def _split(text: str) -> list[str]:
    """In lower case, compounds whole and in parts: FlashAttention is flashattention, flash, attention; pre-norm likewise."""
    found = []
    for token in _TOKEN.findall(text):
        parts = _PART.findall(token)
        found += [_JOINT.sub("", token), *(parts if len(parts) > 1 else ())]
    return [word.lower() for word in found if len(word) > 1 or word.isdigit()]


def _stem(word: str) -> str:
    """Without the s of several, then without -ing or -ed: paging is paged; bias and axis keep their s, tied is too short."""
    word = word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] not in "saiu" else word
    shorter = word.removesuffix("ing") if word.endswith("ing") else word.removesuffix("ed")
    return shorter if len(shorter) >= SHORTEST_STEM else word


def _weight(word: str, where: str, held: frozenset[str]) -> float:
    if word in held:
        return WEIGHTS[where]
    long = len(word) >= SHORTEST_BEGINNING
    return WEIGHTS[where] * BEGINNING * any(long and each.startswith(word) for each in held)


def _contained(part: Collection[str], whole: Collection[str]) -> bool:
    return len(part) > 1 and set(part) <= set(whole)


def _closest(word: str, known: Set[str]) -> str | None:
    """The word that was meant, for one that no record has, not even as a beginning."""
    if _stem(word) in known or any(each.startswith(word) for each in known):
        return None
    return next(iter(get_close_matches(word, sorted(known), n=1, cutoff=0.75)), None)
