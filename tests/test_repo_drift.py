"""What ttnn's releases lack is found where the packages use it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from tools.drift import Names, changes, check, problem, snapshots, sources, write_snapshots
from tools.signatures import entry, parameters
from tools.ttnn_calls import Use, uses

OLD, NEW = Version("0.80.0"), Version("0.81.1")
NAMES: dict[Version, Names] = {
    OLD: {"ttnn.add": ["a,b,*,dtype="], "ttnn.Topology": [".Linear,Ring"], "ttnn.graph.begin": [""]},
    NEW: {
        "ttnn.add": ["a,b,*,dtype=,sub_device_id=", "a,scalar,/"],
        "ttnn.Topology": [".Linear,Ring,Torus"],
        "ttnn.links": ["mesh,axis="],
        "ttnn.bfloat16": [],
    },
}


def read(folder: Path, body: str) -> list[Use]:
    path = folder / "block.py"
    path.write_text("import ttnn\nfrom ttt_hw.ttnn_release import since\n\n" + textwrap.dedent(body))
    return uses(path)


def found(folder: Path, body: str, range_: str = ">=0.80") -> list[str]:
    read(folder, body)
    return list(check({"block": (SpecifierSet(range_), [folder / "block.py"])}, NAMES))


def test_an_argument_that_one_release_lacks(tmp_path: Path) -> None:
    """Planted: a range that holds a release whose operation does not have the argument."""
    body = "def forward(x):\n    return ttnn.add(x, x, sub_device_id=1)\n"
    assert found(tmp_path, body) == ["block.py:5: ttnn 0.80.0: ttnn.add has no argument sub_device_id"]
    assert found(tmp_path, body, ">=0.81") == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ttnn.links(x)", ["0.80.0: has no ttnn.links"]),
        ("ttnn.graph.begin()", ["0.81.1: has no ttnn.graph.begin"]),
        ("ttnn.Topology.Torus", ["0.80.0: has no ttnn.Topology.Torus"]),
        ("ttnn.add(x)", ["0.80.0, 0.81.1: ttnn.add needs b"]),
        ("ttnn.add(x, 2, a=x)", ["0.80.0, 0.81.1: ttnn.add takes no a beside these arguments: it is given twice"]),
        ("ttnn.add(x, x, x)", ["0.80.0, 0.81.1: ttnn.add takes 2 arguments by position, 3 are given"]),
        ("ttnn.add(x, b=x, dtypes=1)", ["0.80.0, 0.81.1: ttnn.add has no argument dtypes"]),
        ("ttnn.add(*x, dtype=ttnn.bfloat16)", ["0.80.0: has no ttnn.bfloat16"]),
    ],
)
def test_what_is_wrong_with_a_use(tmp_path: Path, line: str, says: list[str]) -> None:
    assert found(tmp_path, f"def forward(x):\n    return {line}\n") == [f"block.py:5: ttnn {text}" for text in says]


def test_a_dict_of_arguments_is_followed_to_its_names(tmp_path: Path) -> None:
    body = """
        class Add:
            def arguments(self, more):
                given = {"dtype": 1}
                if more:
                    given["sub_device_id"] = 2
                return {**given, **{name: value for name, value in {"queue": 1}.items() if value}}

        class Sum(Add):
            def issue(self, x, other):
                more = dict(self.arguments(True))

                def inner():
                    return ttnn.add(x, x, **more)

                return ttnn.add(inner(), x, **other)
    """
    lines = found(tmp_path, body, ">=0.81")
    assert lines == [
        "block.py:17: ttnn 0.81.1: ttnn.add has no argument queue",
        "block.py:19: ttnn.add is given a ** that cannot be followed to its names: make the dict in this file",
    ]


def test_a_line_for_some_releases_is_checked_against_those(tmp_path: Path) -> None:
    body = """
        if since("0.81"):
            def links(mesh):
                return ttnn.links(mesh)
        else:
            def links(mesh):
                return ttnn.graph.begin()

        def more(mesh):
            return ttnn.links(mesh) if since("0.81") else ttnn.graph.begin()
    """
    assert found(tmp_path, body) == []
    assert len(found(tmp_path, body.replace('"0.81"', '"0.80"'))) == 2


def test_names_imported_from_ttnn_are_seen(tmp_path: Path) -> None:
    seen = read(tmp_path, "import ttnn as t\nfrom ttnn import links as of\n\nof(1)\nt.add(1, 2)\n")
    assert {use.name for use in seen} == {"ttnn.links", "ttnn.add"}


def test_signatures_of_the_binding() -> None:
    text = r"def __call__(self, x: tt.Tensor, /, sizes: tuple[int, int] = \0, \*, f: Callable[[int], None], **rest) -> None"
    assert parameters(text) == "x,/,sizes=,*,f,**rest"
    assert parameters("def f() -> ttnn.X") == ""
    assert parameters("by hand") == "..."


def test_python_functions_and_values() -> None:
    def function(x: int, *, dtype: int = 1, **rest: int) -> None: ...

    assert entry(function) == ["x,*,dtype=,**rest"]
    assert entry(1) == []


def test_a_release_s_file_holds_what_it_changed(tmp_path: Path) -> None:
    write_snapshots(NAMES, tmp_path)
    assert snapshots(tmp_path) == NAMES
    assert '"ttnn.graph.begin"' in (tmp_path / "0.81.1.json").read_text().splitlines()[0]
    assert list(changes(NAMES[OLD], NAMES[NEW], ["ttnn.add", "ttnn.links", "ttnn.graph.begin", "ttnn.other"])) == [
        "ttnn.add: +/ +scalar +sub_device_id=",
        "ttnn.graph.begin: gone",
        "ttnn.links: new",
    ]


def test_every_declared_release_is_known() -> None:
    """A range without a snapshot in it would be checked against nothing."""
    for name, (range_, files) in sources().items():
        if range_ is not None and files:
            assert sum(range_.contains(release) for release in snapshots()) >= 2, name


def test_the_installed_ttnn_has_what_its_snapshot_says() -> None:
    names = snapshots()[NEW]
    assert len(names) > 1500
    good = Use(path=Path("x.py"), line=1, name="ttnn.transformer.scaled_dot_product_attention")
    assert problem(good, names) is None
    assert "dtype=" in names["ttnn.linear"][0].split(",")
