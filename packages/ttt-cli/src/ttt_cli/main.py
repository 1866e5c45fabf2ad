"""The command `ttt`. Every subcommand comes from a package's entry point in the group `ttt.commands`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version

from cyclopts import App, CycloptsError, UnknownCommandError

from ttt_core import TttError

__all__ = ["main"]

GROUP = "ttt.commands"
INTERRUPTED = 130  # 128 + SIGINT, as shells have it
PIPE_CLOSED = 1  # as rich has it, which ends the process itself where it does the printing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return its exit code: 2, with one paragraph on stderr, for anything the user can mend.

    Where the reader of stdout has gone, as `head` does, the command ends in silence.
    """
    try:
        code = _run(arguments)
        sys.stdout.flush()  # here, where it can still be answered for
        return code
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # else the interpreter flushes it again, and complains
        return PIPE_CLOSED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"ttt: {place}{error.strerror or error}. Free or grant what is lacking there, and call again.")


def _run(arguments: Sequence[str] | None) -> int:
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    commands = {entry.name: entry for entry in entry_points(group=GROUP)}
    try:
        result = _app(commands, tokens)(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _fail(_usage(error, commands, tokens))
    except TttError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("Interrupted.", INTERRUPTED)
    except Exception as error:
        code = getattr(error, "exit_code", None)  # packages without ttt-core mark the errors that a user can mend so
        if code is None:
            raise
        return _fail(str(error), code)
    return result if isinstance(result, int) else 0


def _app(commands: dict[str, EntryPoint], tokens: list[str]) -> App:
    """The program; it loads only the subcommand that is asked for, or all of them to list them."""
    app = App(
        name="ttt",
        help="Transformer models for Tenstorrent devices, checked without one.",
        version=version("ttt-cli"),
        suppress_keyboard_interrupt=False,
    )
    wanted = [commands[tokens[0]]] if tokens and tokens[0] in commands else list(commands.values())
    for entry in sorted(wanted, key=lambda entry: entry.name):
        app.command(entry.load(), name=entry.name)
    return app


def _usage(error: CycloptsError, commands: dict[str, EntryPoint], tokens: list[str]) -> str:
    known = ", ".join(sorted(commands)) or "none, no package with commands is installed"
    if isinstance(error, UnknownCommandError):
        return f"ttt: unknown command {tokens[0]!r}. The commands are: {known}. `ttt --help` describes them."
    command = next((name for name in commands if name in (error.command_chain or ())), "")
    return f"ttt {command}: {_one_line(error)} `ttt {command} --help` lists what it takes.".replace("  ", " ")


def _one_line(error: CycloptsError) -> str:
    text = " ".join(str(error).split())
    return text if text.endswith((".", "?")) else f"{text}."


def _fail(paragraph: str, code: int = 2) -> int:
    print(paragraph, file=sys.stderr)
    return code
