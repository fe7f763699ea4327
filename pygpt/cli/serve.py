"""`pygpt serve`: models over HTTP."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from pygpt.cli._common import MODEL, fetch_model
from pygpt.cli._options import with_fields
from pygpt.server.settings import ENVIRONMENT, Settings, named_sources


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """The file's values stand below those of flags and of the environment, and above the defaults."""
    if path is not None:
        values = _parse(path)
        several = {p.name: p.multiple or p.nargs == -1 for p in context.command.params if hasattr(p, "multiple")}
        several["models"] = True
        for name in values:
            if name not in several or name == "config":
                near = difflib.get_close_matches(name, several, n=1)
                raise ValueError(f"{path}: unknown setting {name!r}" + (f": did you mean {near[0]!r}?" if near else ""))
        context.default_map = {
            name: [value] if several[name] and isinstance(value, str) else value for name, value in values.items()
        }
    return path


def _parse(path: Path) -> dict[str, Any]:
    try:
        if sys.version_info >= (3, 11):
            import tomllib
        else:
            import tomli as tomllib
    except ModuleNotFoundError:
        raise ValueError("--config needs tomli: pip install 'pygpt-cpu[server]'") from None
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no TOML, or no UTF-8
        raise ValueError(f"{path}: {error}") from None
    return values


@with_fields(Settings, without=("models",), environment=ENVIRONMENT)
def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help=f"{MODEL} NAME=MODEL gives it a name.",
            envvar=f"{ENVIRONMENT}MODELS",
            show_envvar=False,
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file with settings, by the names of these options with _ for -, and `models`.",
            envvar=f"{ENVIRONMENT}CONFIG",
            show_envvar=False,
            show_default="none",
            is_eager=True,
            callback=_read_config,
        ),
    ] = None,
    *,
    given: dict[str, Any],
) -> None:
    """Serve models over HTTP to clients of OpenAI's API. Each option may also be set by an environment variable,
    PYGPT_SERVE_ and its name in capitals with _ for -, or in a file; flags count before variables, and those before the
    file."""
    paths = [f"{name}={fetch_model(source)}" for name, source in named_sources(models).items()]
    settings = Settings(models=paths, **given)
    try:
        from pygpt.server.run import run
    except ModuleNotFoundError as error:
        raise ValueError(f"pygpt serve needs {error.name}: pip install 'pygpt-cpu[server]'") from None
    status = run(settings)
    if status:
        raise typer.Exit(status)
