"""`pygpt explain`: what a model makes of a text, as a page for a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pygpt.checkpoint.folder import replacing
from pygpt.cli._common import Isa, Kv, NCtx, Source, Threads, Weights, check_file, load_model, read_text


def explain(
    text: Annotated[
        str | None, typer.Argument(help='The text; "-", or none, reads it from standard input, less one final newline.')
    ] = None,
    model: Source = "tiny",
    out: Annotated[Path, typer.Option("--html", help="The page to write; a file that is there is replaced.")] = Path(
        "explain.html"
    ),
    layers: Annotated[
        str | None,
        typer.Option(help="Layers, counted from 0, or from the end with -1: 0,5,-1 for three.", show_default="all"),
    ] = None,
    attention: Annotated[bool, typer.Option(help="Show where each head looks; most of the page's size.")] = True,
    top: Annotated[int, typer.Option(min=1, max=100, help="Alternatives that are listed.")] = 5,
    special: Annotated[
        bool, typer.Option("--special", help="Read special tokens in the text, such as <|im_start|>, as tokens.")
    ] = False,
    weights: Weights = None,
    kv: Kv = None,
    threads: Threads = None,
    isa: Isa = None,
    n_ctx: NCtx = None,
) -> None:
    """Write a page, one file for any browser, that shows a text as a model reads it: how surprising each token was and
    what could have stood there, where each head of attention looks, and what each layer would say next."""
    wanted = None if layers is None else _layers(layers)
    check_file(out, "--html")
    content = read_text(text)
    if text in (None, "-"):
        content = content.removesuffix("\n")
    if not content:
        raise ValueError("the text must not be empty")
    loaded = load_model(model, weights, kv, threads, isa, n_ctx)
    ids = loaded.tokenizer.encode(content, allow_special=special)
    trace = loaded.trace(ids, layers=wanted, attention=attention, top=min(top, loaded.config.n_vocab))
    page = trace.html(Path(model).name if Path(model).exists() else model, top=min(top, loaded.config.n_vocab)).encode()
    with replacing(out) as partial:
        partial.write_bytes(page)
    typer.echo(f"{out}: {len(trace.ids)} tokens, {len(trace.layers)} layers, {-(-len(page) // 1024)} KiB")


def _layers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not numbers with commas between them", param_hint="--layers") from None
