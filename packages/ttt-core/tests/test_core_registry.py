"""The registry: what packages list is found without importing them, and by words."""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ttt_core import ModuleRecord, ModuleTier, SpecError, modules, registry
from ttt_core.module_search import search

BLOCKS = '''
"""Blocks."""
class Roundabout:
    """Attention in circles. Then more.

    Errors: none.
    Source: arXiv 1234.56789 eq 1;
    RoundaboutAttention of nobody.
    """
'''


def installed(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    entries = [EntryPoint(name=f"entry{n}", value=value, group="ttt.modules") for n, value in enumerate(values)]
    monkeypatch.setattr(registry, "entry_points", lambda group: entries)


def package(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, listed: str, init: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(init)
    (folder / name / "_blocks.py").write_text(BLOCKS)
    (folder / name / "modules.py").write_text(f"{listed}\n")
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.parametrize("home", ["._blocks", "unimported._blocks"])
def test_nothing_is_imported_to_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    listed = 'MODULES = [{"path": "unimported.Around", "category": "odd", "tier": "core", "features": ["circles"]}]'
    init = f"raise RuntimeError('imported')\nfrom {home} import Roundabout as Around\n"
    package(tmp_path, monkeypatch, "unimported", listed, init)
    installed(monkeypatch, "unimported.modules:MODULES")
    from ttt_core import _unimported

    _unimported._tree.cache_clear()
    (record,) = modules()
    assert (record.name, record.category, record.tier) == ("Around", "odd", ModuleTier.CORE)
    assert record.import_line == "from unimported import Around"
    assert record.summary == "Attention in circles"
    assert record.source == "arXiv 1234.56789 eq 1; RoundaboutAttention of nobody"
    assert "unimported" not in sys.modules
    assert modules("odd", "core") == (record,) == modules(tier=ModuleTier.CORE)
    assert modules("odd", "experimental") == ()
    with pytest.raises(RuntimeError, match="imported"):
        record.load()


def test_what_is_no_literal_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = 'MODULES = [{"path": f"computed.{name}", "category": "odd"} for name in ("Roundabout", "made")]'
    init = (
        "from computed._blocks import *\ndef _make():\n    def made(): 'Made. Here.'\n    return made\nmade = _make()"
    )
    package(tmp_path, monkeypatch, "computed", listed, init)
    installed(monkeypatch, "computed.modules:MODULES")
    first, second = modules()
    assert (first.summary, first.tier) == ("Attention in circles", ModuleTier.EXTENDED)
    assert second.summary == "Made"
    assert first.load().__name__ == "Roundabout"


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("MODULES = 3", "is a int; it must be a list of dicts with path, category, tier."),
        ('MODULES = [{"category": "a"}]', "in which path is missing. A module has path, category, and maybe tier and"),
        ('MODULES = [{"path": "a.B", "category": "a", "name": "B"}]', "in which name is unknown."),
        (
            'MODULES = [{"path": "sys.path", "category": "a", "tier": "best"}]',
            "sys.path has the tier 'best'; tiers are core, extended, experimental.",
        ),
        (
            "OTHER = 3",
            "cannot be loaded: module 'faulty.modules' has no attribute 'MODULES'. Mend that package, or uninst",
        ),
    ],
)
def test_an_entry_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, message: str) -> None:
    from ttt_core import _unimported

    for name in ("faulty", "faulty.modules"):
        sys.modules.pop(name, None)
    _unimported._tree.cache_clear()
    package(tmp_path, monkeypatch, "faulty", listed, "")
    installed(monkeypatch, "faulty.modules:MODULES")
    with pytest.raises(SpecError) as caught:
        modules()
    assert str(caught.value).startswith("The modules entry0 (faulty.modules:MODULES)")
    assert message in str(caught.value)


def test_an_unknown_category_or_tier(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(
        SpecError, match=r"^There are no modules of the category 'a'; no installed package lists modules\.$"
    ):
        modules("a")
    with pytest.raises(
        SpecError, match=r"^There are no modules of the tier 'a'; tiers are core, extended, experimental\.$"
    ):
        modules(tier="a")


def record(
    name: str, category: str, *features: str, summary: str = "", source: str = "", tier: ModuleTier = ModuleTier.CORE
) -> ModuleRecord:
    return ModuleRecord(
        path=f"p.{name}",
        category=category,
        tier=tier,
        features=features,
        summary=summary,
        source=source,
    )


KNOWN = (
    record("FlashAttention", "attention", "fused", "gqa", "sliding window"),
    record("GroupedQueryAttention", "attention", "gqa", "rope", "q/k norm"),
    record("RMSNorm", "norm", summary="Normalisation of rows"),
    record("SwiGLU", "ffn", "silu", source="arXiv 1; LlamaMLP"),
    record("Layer", "layer", "pre-norm", "window seat", "sliding door", "transformer"),
    record("AnyLayer", "layer", "transformer", tier=ModuleTier.EXTENDED),
)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("flash attention", "FlashAttention"),
        ("FLASHATTENTION", "FlashAttention"),
        ("attention", "FlashAttention GroupedQueryAttention"),
        ("gqa", "GroupedQueryAttention FlashAttention"),  # whose first feature it is
        ("sliding window", "FlashAttention Layer"),  # a whole feature
        ("a layer with the prenorm", "Layer"),
        ("pre norm", "Layer"),
        ("qk norms", "GroupedQueryAttention"),
        ("normalis", "RMSNorm"),  # a beginning
        ("norm", "RMSNorm Layer GroupedQueryAttention"),  # name before feature
        ("llamamlp", "SwiGLU"),
        ("flahs atention", "FlashAttention"),
        ("slide windowed", "FlashAttention Layer"),  # other forms of the words
        ("transformer", "Layer AnyLayer"),  # core before extended
        ("zzz", ""),
        ("the", ""),
    ],
)
def test_search(query: str, names: str) -> None:
    assert [match.record.name for match in search(query, KNOWN)] == names.split()
    assert [match.record.name for match in search(query, KNOWN[::-1])] == names.split()


def test_a_match_says_why() -> None:
    first = search("flahs gqa", KNOWN)[0]
    assert first.words == {"flahs": "name", "gqa": "features"}
    assert first.meant == {"flahs": "flash"}
    assert first.score == 8 + 5
    assert search("sliding window", KNOWN)[0].score == 5 + 5 + 4


if importlib.util.find_spec("cyclopts") is not None:
    from ttt_core import commands

    def run(app: str, *arguments: str) -> int:
        given = {"exit_on_error": False, "print_error": False, "result_action": "return_value"}
        code = getattr(commands, app)(list(arguments), **given)
        assert isinstance(code, int)
        return code

    @pytest.fixture
    def listed(monkeypatch: pytest.MonkeyPatch) -> None:
        def known(category: str | None = None, tier: str | None = None) -> tuple[ModuleRecord, ...]:
            return tuple(
                each for each in KNOWN if category in (None, each.category) and tier in (None, each.tier.value)
            )

        monkeypatch.setattr(commands, "modules", known)

    @pytest.mark.usefixtures("listed")
    def test_list_modules(capsys: pytest.CaptureFixture[str]) -> None:
        assert run("list_modules") == 0
        lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
        assert lines[0] == "attention from p import …"
        assert "RMSNorm Normalisation of rows" in lines
        assert "AnyLayer extended" in lines
        assert lines[-1].startswith("6 modules of")
        assert run("list_modules", "--category", "norm", "--json") == 0
        (only,) = json.loads(capsys.readouterr().out)["modules"]
        assert (only["name"], only["import"], only["tier"]) == ("RMSNorm", "from p import RMSNorm", "core")
        assert run("list_modules", "--tier", "experimental") == 0
        assert capsys.readouterr().out == "None. Packages name modules by entry points of the group ttt.modules.\n"

    @pytest.mark.usefixtures("listed")
    def test_search_command(capsys: pytest.CaptureFixture[str]) -> None:
        assert run("search", "flash", "attention") == 0
        assert capsys.readouterr().out.splitlines()[0] == "FlashAttention  attention, core"
        assert run("search", "atention in circles") == 0
        assert capsys.readouterr().out.startswith("Nothing has 'atention'; this is what there is for 'attention'.\n")
        assert run("search", "gqa", "--json") == 0
        document = json.loads(capsys.readouterr().out)
        assert document["results"][0]["import"] == "from p import GroupedQueryAttention"
        assert run("search", "zzz") == 1
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1)
        assert "categories are attention, norm, ffn, layer" in err
        with pytest.raises(SpecError, match="was given no words"):
            run("search")
