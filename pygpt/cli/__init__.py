"""The command line: `pygpt generate`, `info`, `score`, `convert`, `train`, `finetune`, `merge` and `classify`, over the
public API."""

from __future__ import annotations

import importlib
import io
import os
import sys
from typing import Annotated, Any

import typer
import typer.core
import typer.main

import pygpt
from pygpt.errors import PygptError

_EXIT_INTERRUPTED = 130  # as a shell reports a program ended by SIGINT ...
_EXIT_BROKEN_PIPE = 141  # ... or by SIGPIPE


_COMMANDS = {  # and the modules that have them
    "generate": "generate",
    "info": "info",
    "score": "score",
    "convert": "convert",
    "train": "train",
    "finetune": "finetune",
    "merge": "finetune",
    "classify": "classify",
}


class _Group(typer.core.TyperGroup):
    """Ends every command the same way: one line on stderr for bad input, silence for Ctrl-C and a closed pipe. Loads
    the module of the command that is used, so that generating a text does not wait for what training needs."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{_COMMANDS[cmd_name]}")
        one = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        one.command(cmd_name)(getattr(module, cmd_name))
        return typer.main.get_command(one)

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, so that a pipe that closed is noticed here
        except BrokenPipeError:
            # What Python still holds for standard output can go nowhere; do not let it complain about that at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(_EXIT_BROKEN_PIPE) from None
        except KeyboardInterrupt:
            typer.echo()
            raise typer.Exit(_EXIT_INTERRUPTED) from None
        except (PygptError, ValueError, OSError) as error:
            typer.echo(f"pygpt: error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(1) from None
        return result


app = typer.Typer(
    name="pygpt",
    cls=_Group,
    help="Run GPT models on this machine's CPU.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pygpt {pygpt.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


def main() -> None:
    """The entry point of the `pygpt` command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a character that the terminal's encoding lacks is no reason to stop
    app()
