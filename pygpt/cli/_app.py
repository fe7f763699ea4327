"""The `pygpt` command: its subcommands, what it prints at its end, and its exit statuses."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import Annotated, Any

import typer
import typer.core
import typer.main

import pygpt
from pygpt.cli import INTERRUPTED
from pygpt.errors import PygptError

_BROKEN_PIPE = 141  # as a shell reports a program ended by SIGPIPE
_COMMANDS = (  # and their modules
    *("chat", "generate", "info", "score", "eval", "explain", "convert", "pull", "list", "rm"),
    *("serve", "batch", "train", "finetune", "merge", "classify"),
)
_MODULES = {"list": "listing", "eval": "evaluate"}  # where a module of the command's name would hide a built-in
_SETTINGS = {"help_option_names": ["-h", "--help"]}
_STATUSES = (
    "Exit status: 0; 1 for input that cannot be used; 2 for wrong usage; 130 after Ctrl-C; "
    "141 where nobody reads the output any more."
)


class _Group(typer.core.TyperGroup):
    """Ends every command the same way: one line on stderr for bad input, silence for Ctrl-C and a closed pipe. Loads
    the module of the command that is used, so that generating a text does not wait for what training needs."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _COMMANDS:
            return None
        name = _MODULES.get(cmd_name, cmd_name)
        module = importlib.import_module(f"pygpt.cli.{name}")
        one = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
        one.command(cmd_name, context_settings=_SETTINGS)(getattr(module, name))
        return typer.main.get_command(one)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        near = [] if args[0] in _COMMANDS else difflib.get_close_matches(args[0], _COMMANDS)
        if near:
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()  # here, so that a pipe that closed, or a full disk, is noticed here
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")  # pydantic's, in which typer reads values
            raise
        except BrokenPipeError:
            _forget_output()
            raise typer.Exit(_BROKEN_PIPE) from None
        except KeyboardInterrupt:
            typer.echo()
            raise typer.Exit(INTERRUPTED) from None
        except (PygptError, ValueError, TypeError, OSError, MemoryError) as error:
            typer.echo(f"pygpt: error: {_one_line(error)}", err=True)
            if isinstance(error, OSError):
                _forget_output()
            raise typer.Exit(1) from None
        return result


def _one_line(error: Exception) -> str:
    """What an error says; of a file that the system refused, its name and why, without a number."""
    text = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    return " ".join(text.split()) or type(error).__name__


def _forget_output() -> None:
    """What Python still holds for standard output may have nowhere to go; do not let it complain about that at exit."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    name="pygpt",
    cls=_Group,
    help="Run GPT models on this machine's CPU.",
    epilog=_STATUSES,
    context_settings=_SETTINGS,
    no_args_is_help=True,
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
