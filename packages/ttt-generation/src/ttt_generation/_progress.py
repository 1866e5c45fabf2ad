"""How far a run is, on stderr, and how long its stages took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress


def progress_display() -> Progress:
    """A progress display on stderr that leaves nothing behind, and is silent where stderr is no terminal."""
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


@contextmanager
def hidden(progress: Progress) -> Iterator[None]:
    """Take the display away while something else writes to the terminal."""
    progress.stop()
    try:
        yield
    finally:
        progress.start()


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


class Stage:
    """One line of the display; a call is a step."""

    def __init__(self, progress: Progress, description: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total)

    def __call__(self) -> None:
        self._progress.advance(self._task)

    def close(self) -> None:
        self._progress.remove_task(self._task)


@contextmanager
def staged(progress: Progress, description: str, total: int | None = None) -> Iterator[Stage]:
    stage = Stage(progress, description, total)
    try:
        yield stage
    finally:
        stage.close()
