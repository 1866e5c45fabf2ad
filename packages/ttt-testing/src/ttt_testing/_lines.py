"""Of which release line the modules under test are: 0.2 for ttt-norm 0.2.5."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ttt_core import SpecError


def require_line(modules: Iterable[Any], line: str) -> None:
    """Modules of ttt's packages are of this release line; those of anybody else's are not looked at.

    Errors: SpecError for what is no line, and for a package of another one, with what to install.
    """
    if not re.fullmatch(r"0\.\d+|[1-9]\d*", line):
        raise SpecError(f"{line!r} is no release line. Give one as '0.2', or from 1.0 on as '1'.")
    found = {}
    for module in modules:
        package = type(module).__module__.split(".")[0].replace("_", "-")
        if package.startswith("ttt-"):
            try:
                found[package] = version(package)
            except PackageNotFoundError:  # a module of the user that is called so
                continue
    wrong = {package: installed for package, installed in sorted(found.items()) if line_of(installed) != line}
    if wrong:
        wanted = " ".join(f"'{package}=={line}.*'" for package in wrong)
        have = ", ".join(f"{package} {installed}" for package, installed in wrong.items())
        raise SpecError(
            f"These expectations are for the release line {line}, and {have} is installed. Run them where that line is: "
            f"pip install {wanted}."
        )


def line_of(installed: str) -> str:
    """
    >>> [line_of(version) for version in ("0.2.5", "0.10.0+gabc", "1.4.0")]
    ['0.2', '0.10', '1']
    """
    major, minor = installed.split(".")[:2]
    return f"0.{minor}" if major == "0" else major
