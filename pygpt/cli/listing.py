"""`pygpt list`: the models on this machine, and the names of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from pygpt.registry import TABLE, on_disk


def listing(
    every: Annotated[
        bool, typer.Option("--all", "-a", help="Print all short names, also of models elsewhere.")
    ] = False,
) -> None:
    """Print the models on this machine: name, size and place. With --all, all short names: name, size, licence and
    source."""
    here = on_disk()
    rows: Sequence[tuple[str, ...]]
    if not every:
        rows = [(model.name, size(model.n_bytes), str(model.path)) for model in here]
    else:
        local = {model.name for model in here}
        rows = [
            (
                e.name,
                size(e.megabytes * 10**6),
                "here" if e.name in local else "",
                e.licence + (", login" if e.gated else ""),
                e.source if isinstance(e.source, str) else f"pip: {e.source.requirement}",
            )
            for e in TABLE
        ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def size(n_bytes: int) -> str:
    """Bytes as disks and networks count them, in two or three digits."""
    if n_bytes < 10**9:
        return f"{max(1, round(n_bytes / 10**6))} MB"
    return f"{n_bytes / 10**9:.3g} GB"
