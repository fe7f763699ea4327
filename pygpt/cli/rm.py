"""`pygpt rm`: delete fetched models."""

from __future__ import annotations

from typing import Annotated

import typer

from pygpt.cli.listing import size
from pygpt.registry import remove


def rm(names: Annotated[list[str], typer.Argument(metavar="NAME...", help="As `pygpt list` prints them.")]) -> None:
    """Delete fetched models from the disk. The cache of the Hugging Face hub is shared with other programs, which then
    do not have the model either."""
    for name in names:
        typer.echo(f"{name}: {size(remove(name))} freed")
