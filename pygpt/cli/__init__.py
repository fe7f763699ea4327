"""The command line: `pygpt generate`, `info`, `score`, `convert`, `train`, `finetune`, `merge` and `classify`,
over the public API."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any

import typer
import typer.core

import pygpt
from pygpt.cli.classify import classify
from pygpt.cli.convert import convert
from pygpt.cli.finetune import finetune, merge
from pygpt.cli.generate import generate
from pygpt.cli.info import info
from pygpt.cli.score import score
from pygpt.cli.train import train
from pygpt.errors import PygptError

_EXIT_INTERRUPTED = 130  # as a shell reports a program ended by SIGINT ...
_EXIT_BROKEN_PIPE = 141  # ... or by SIGPIPE


class _Group(typer.core.TyperGroup):
    """Ends every command the same way: one line on stderr for bad input, silence for Ctrl-C and a closed pipe."""

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
app.command()(generate)
app.command()(info)
app.command()(score)
app.command()(convert)
app.command()(train)
app.command()(finetune)
app.command()(merge)
app.command()(classify)


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
