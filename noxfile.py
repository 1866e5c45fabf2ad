"""The checks of this repository: `uv run nox` runs them all, `uv run nox -s NAME` one, `uv run nox --list` names them.

They run in the project's own environment, the one that `uv run` makes.
"""

import os
import subprocess
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.stop_on_first_error = True
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the tests start many processes, and each would compile again


@nox.session
def lint(session: nox.Session) -> None:
    """Likely mistakes and format (ruff)."""
    session.run("ruff", "check", "--output-format", "concise", ".")
    session.run("ruff", "format", "--check", "--output-format", "concise", ".")


@nox.session
def imports(session: nox.Session) -> None:
    """Who may import whom (import-linter)."""
    session.run("lint-imports")


@nox.session
def deps(session: nox.Session) -> None:
    """Every package declares what it imports and imports what it declares (deptry)."""
    failed = []
    for folder in sorted(path.parent for path in Path("packages").glob("*/pyproject.toml")):
        session.log(f"deptry {folder}")
        done = subprocess.run(["deptry", "--config", folder / "pyproject.toml", folder / "src"])
        failed += [folder.name] if done.returncode else []
    if failed:
        session.error(f"deptry: {', '.join(failed)}")


@nox.session
def pip_check(session: nox.Session) -> None:
    """The version ranges of all packages hold; a uv workspace ignores those between siblings."""
    session.run(os.environ.get("UV", "uv"), "pip", "check")


@nox.session
def semver(session: nox.Session) -> None:
    """No package breaks more of its last release than its fragments declare; `-- --all` lists what changed."""
    session.run("python", "-m", "tools.semver", *session.posargs)


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict over packages, models and tools, with the signatures of the installed ttnn."""
    session.run("python", "-m", "tools.stubs")
    session.run("mypy")


@nox.session
def drift(session: nox.Session) -> None:
    """Every use of ttnn is valid in every release in range; `nox -s drift -- 0.82.0` adds one and says what it breaks."""
    session.run("python", "-m", "tools.drift", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests; `nox -s tests -- packages/ttt-norm -k rms` some."""
    # One OpenMP thread a process: two processes with two each took 120 s on two busy cores, and 36 s with one each.
    arguments = session.posargs or ["-n", "auto", "--maxprocesses", "4", "--dist", "loadgroup"]
    session.run("pytest", *arguments, env={"OMP_NUM_THREADS": "1"})


@nox.session
def wheels(session: nox.Session) -> None:
    """Wheels of packages that changed, and of their users, each in an empty environment; see `compat`."""
    session.run("python", "-m", "tools.compat", "--tier", "changed", *session.posargs)


@nox.session
def outside(session: nox.Session) -> None:
    """A package from outside checks an attention of its own where wheels alone are installed."""
    session.run("python", "-m", "tools.outside", *session.posargs)


@nox.session(default=False)
def compat(session: nox.Session) -> None:
    """Which versions go together; writes docs/compat. `-- --tier pairwise --ttnn all` is more, `-- ttt-norm` less."""
    session.run("python", "-m", "tools.compat", *session.posargs)


@nox.session(default=False)
def algebra(session: nox.Session) -> None:
    """More than 200,000 random cases of the layout algebra against enumeration; prints the counts."""
    cases = {"ALGEBRA_CASES": "12000"}  # of each of 18 operations
    session.run("pytest", "-s", "-q", "packages/ttt-shard-dsl/tests/test_shard_dsl_layout_random.py", env=cases)


@nox.session(default=False)
def slow(session: nox.Session) -> None:
    """6,000 random tensors against ttnn's own map of pages, meshes there and back, and 1,600 plans; not just a sample."""
    files = ("test_shard_dsl_pages.py", "test_shard_dsl_mesh.py", "test_shard_dsl_reshard.py")
    session.run("pytest", "-q", *(f"packages/ttt-shard-dsl/tests/{name}" for name in files), env={"TTT_SLOW": "1"})


@nox.session(default=False)
def sweep(session: nox.Session) -> None:
    """Every operation of fourteen models on every board, planned and issued; `nox -s sweep -- --boards n150` some."""
    session.run("python", "-m", "tools.sweep", *session.posargs)


@nox.session(default=False)
def conformance(session: nox.Session) -> None:
    """Every variant of every block on six boards, each feature switched off too; `-- --variants moe --boards n150` some."""
    session.run("python", "-m", "tools.conformance", *session.posargs)


@nox.session(default=False)
def layers(session: nox.Session) -> None:
    """One layer of real models on t3k, p150x8 and tg, every operation accepted; `-- --boards t3k --models qwen3-32b` some."""
    session.run("python", "-m", "tools.real_layers", *session.posargs)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """The configurations of models/ whose blocks are tested; `-- --html FILE` writes a page, `-- --record` their contracts."""
    session.run("python", "-m", "tools.coverage", *session.posargs)


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Speeds: algebra beside pycute, conversion of weights, forwards beside calls by hand; `-- algebra`, `weights` or `host`."""
    which, *arguments = session.posargs or ("",)
    if which in ("", "algebra"):
        session.run("python", "packages/ttt-shard-dsl/benchmarks/algebra.py", *arguments)
    if which in ("", "weights"):
        session.run("python", "packages/ttt-weights/benchmarks/conversion.py", *arguments)
        killed = "packages/ttt-weights/tests/test_weights_cache.py::test_killed_while_it_converts"
        session.run("pytest", "-q", "-s", "-n0", "--import-mode=importlib", f"{killed}[50]", env={"TTT_KILLS": "50"})
    if which in ("", "host"):
        session.run("python", "packages/ttt-factory/benchmarks/host_cost.py", *arguments, success_codes=[0, 1])


@nox.session(default=False)
def speeds(session: nox.Session) -> None:
    """Writes docs/speeds.md of ttt-factory: published speeds and what is predicted; then what a prediction costs."""
    session.run("ttt", "calibrate", "--page", "packages/ttt-factory/docs/speeds.md")
    session.run("python", "packages/ttt-factory/benchmarks/predictions.py")


@nox.session(default=False)
def api(session: nox.Session) -> None:
    """Writes packages/*/api.txt, the public API of each package; a test says when it must."""
    session.run("python", "-m", "tools.api", *session.posargs)


@nox.session(default=False)
def release(session: nox.Session) -> None:
    """Releases packages: `nox -s release -- ttt-norm`; `-- --all`, `--dry-run`, `--again`: see CONTRIBUTING.md."""
    session.run("python", "-m", "tools.release", *session.posargs)


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """New versions for constraints.txt; `nox -s lock -- --upgrade` the newest of all."""
    session.run("python", "-m", "tools.lock", *session.posargs)
