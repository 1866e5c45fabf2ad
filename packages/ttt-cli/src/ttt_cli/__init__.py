"""The command `ttt`."""

from ttt_cli.main import main as main

__all__ = ["main"]
