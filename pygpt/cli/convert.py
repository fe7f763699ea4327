"""`pygpt convert`: save a model's packed weights, so that it loads at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pygpt import checkpoint
from pygpt.cli._common import MODEL, Threads, Weights, load_model


def convert(
    model: Annotated[str, typer.Argument(help=MODEL)],
    out: Annotated[Path, typer.Argument(help="The folder to write: a new or an empty one.")],
    weights: Weights = None,
    threads: Threads = None,
) -> None:
    """Save a model in pygpt's own packed form, which is mapped into memory instead of packed at each load."""
    checkpoint.check_free(out)
    load_model(model, weights, None, threads, None).save(out)
