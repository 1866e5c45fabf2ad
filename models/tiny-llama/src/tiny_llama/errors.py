"""What a user can get wrong on the command line, told in one paragraph."""

import argparse
import sys
from typing import NoReturn


class InputError(ValueError):
    """A path or a value that the user gave cannot be used; the message says what to do instead."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Report a wrong command line and leave with exit code 2."""
        fail(f"{self.prog}: {message}. Run it with --help to see the arguments.")


def fail(message: str) -> NoReturn:
    """Print the message as one paragraph on stderr and leave with exit code 2."""
    print(" ".join(message.split()), file=sys.stderr)
    raise SystemExit(2)
