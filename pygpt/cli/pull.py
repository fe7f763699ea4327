"""`pygpt pull`: fetch a model by its name."""

from __future__ import annotations

from typing import Annotated

import typer

from pygpt.cli._common import NAME, downloading
from pygpt.registry import pull as pull_model


def pull(name: Annotated[str, typer.Argument(help=NAME)]) -> None:
    """Fetch a model, or what is newer of it, and print where it is. What was interrupted goes on."""
    with downloading(name) as progress:
        path = pull_model(name, progress)
    typer.echo(path)
