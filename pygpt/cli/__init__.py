"""The command line: each subcommand is a module of this package, over the public API."""

from __future__ import annotations

import io
import os
import sys

INTERRUPTED = 130
"""The exit status after Ctrl-C, as a shell reports a program ended by SIGINT."""


def main() -> None:
    """The entry point of the `pygpt` command. It imports what the command needs, so that Ctrl-C is silent meanwhile."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass  # a standard stream is closed: no file that is opened later may take its place
    os.close(number)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a character that the terminal's encoding lacks is no reason to stop
    try:
        from pygpt.cli._app import app

        app()
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
