"""A function in a process of its own: ttnn keeps one cluster per process, so each further board needs another."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from ttt_core import DeviceError, TttError
from ttt_hw.catalogue import board

__all__ = ["run_in_process"]

Result = TypeVar("Result")
_UNPICKLABLE = (pickle.PicklingError, AttributeError, TypeError)  # which of them depends on what it is


class ChildTraceback(Exception):
    """Where an error was raised in the other process; the `__cause__` of errors that are not ttt's own."""


def run_in_process(function: Callable[..., Result], /, *args: Any, device: str) -> Result:
    """Call `function(*args)` in a fresh process and return its result, or raise what it raised.

    `device` is the board that the function opens; errors name the process by it. Function, arguments and result are
    pickled: the function stands at the top level of a module, and a script that calls this has
    `if __name__ == "__main__"`.
    Raises DeviceError where the process ends without an answer, as by a crash in ttnn.
    """
    name = board(device).name
    called = _name(function)
    try:
        call = pickle.dumps((function, args))
    except _UNPICKLABLE as error:
        raise TypeError(
            f"{called} cannot be called in another process: {error}. "
            "Give a function at the top level of a module, and arguments that can be pickled."
        ) from error
    context = multiprocessing.get_context("spawn")  # a forked process would have the parent's cluster
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, call), name=f"ttt {name}")
    try:
        process.start()
        theirs.close()
        answer = _answer(ours)
        process.join()
    finally:
        ours.close()
        if process.is_alive():  # an interrupt, or no start
            process.kill()
            process.join()
    if answer is None:
        ending = _ending(process.exitcode)
        raise DeviceError(f"The process that ran {called} for {name} {ending} before it had a result.")
    result, raised, trace = answer
    if raised is None:
        return result  # type: ignore[no-any-return]
    if isinstance(raised, TttError):
        raise raised
    raise raised from ChildTraceback(trace)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))


def _child(connection: Connection, call: bytes) -> None:
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")  # importing ttnn logs its whole configuration at DEBUG
    try:
        function, args = pickle.loads(call)
        result = function(*args)
        try:
            answer = pickle.dumps((result, None, ""))
        except _UNPICKLABLE as refusal:
            called = _name(function)
            raise TypeError(f"The result of {called} cannot be sent back from its process: {refusal}.") from refusal
    except Exception as error:
        answer = pickle.dumps((None, _portable(error), "\n" + traceback.format_exc()))
    connection.send_bytes(answer)
    connection.close()


def _portable(error: Exception) -> BaseException:
    """The error, or if it cannot be pickled its nearest base class that can, with the same message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        for base in type(error).__mro__:
            try:
                copy: BaseException = base(str(error))
                pickle.loads(pickle.dumps(copy))
            except Exception:
                continue
            return copy
    return error


def _answer(connection: Connection) -> Any:
    try:
        return pickle.loads(connection.recv_bytes())
    except (EOFError, OSError):  # the other end closed with the process, maybe within the answer
        return None


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"crashed with signal {-code} ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"
