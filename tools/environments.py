"""Empty environments, made and filled by uv without the project's settings.

uv itself runs in the repository, where `.python-version` makes sure that there is one.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from tools.workspace import ROOT

UV = os.environ.get("UV", "uv")
TIMEOUT = 600  # seconds for one command


class CommandError(Exception):
    """A command that failed; the message says which, and what it said."""


@cache
def python_of(version: str) -> str:
    """The interpreter of a version, as `.python-version` of the repository finds it."""
    command = [UV, "python", "find", "--no-project", "--system", version]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise CommandError(
            f"There is no Python {version}: {done.stderr.strip()}. Install it: uv python install {version}"
        )
    return done.stdout.strip()


def interpreter_of(environment: Path) -> Path:
    return environment / "bin" / "python"


def make(folder: Path, *, python: str) -> Path:
    """An environment in a folder, with no package at all."""
    run([UV, "venv", "--quiet", "--no-project", "--no-config", "--python", python_of(python), folder / ".venv"], ROOT)
    return folder / ".venv"


def install(environment: Path, what: Sequence[str | Path], *arguments: str | Path) -> None:
    """Installs requirements and wheels; files are linked from uv's cache, not copied."""
    command = [UV, "pip", "install", "--quiet", "--no-config", "--python", interpreter_of(environment), *arguments]
    run([*command, *what], ROOT)


def run(command: Sequence[str | Path], folder: Path, *, timeout: float = TIMEOUT) -> str:
    """What a command printed. It sees no environment around it. Errors: CommandError if it fails."""
    hidden = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "MYPYPATH")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    shown = " ".join(part.name if isinstance(part, Path) else part for part in command)
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{shown} took more than {timeout:g} s") from error
    if done.returncode:
        raise CommandError(f"{shown} failed:\n{(done.stdout + done.stderr).strip()[-3000:]}")
    return done.stdout
