"""`pygpt serve`: models over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pygpt.cli._common import MODEL, fetch_model
from pygpt.cli._options import with_fields
from pygpt.server.settings import Settings, named_sources


@with_fields(Settings, without=("models",))
def serve(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=f"{MODEL} NAME=MODEL gives it a name.")],
    *,
    given: dict[str, Any],
) -> None:
    """Serve models over HTTP to clients of OpenAI's API."""
    paths = [f"{name}={fetch_model(source)}" for name, source in named_sources(models).items()]
    settings = Settings(models=paths, **given)
    try:
        from pygpt.server.run import run
    except ModuleNotFoundError as error:
        raise ValueError(f"pygpt serve needs {error.name}: pip install 'pygpt-cpu[server]'") from None
    raise typer.Exit(run(settings))
