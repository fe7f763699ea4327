"""`pygpt score`: how likely a model finds a text."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from pygpt.cli._common import Isa, Kv, NCtx, Source, Threads, Weights, load_model, read_text
from pygpt.metrics import perplexity


def score(
    text: Annotated[
        str | None, typer.Argument(help='The text; "-", or none, reads it from standard input, to the last byte.')
    ] = None,
    model: Source = "tiny",
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="For a text longer than the context: tokens from one window to the next.",
            show_default="half the context",
        ),
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="List each token with its log-probability.")] = False,
    weights: Weights = None,
    kv: Kv = None,
    threads: Threads = None,
    isa: Isa = None,
    n_ctx: NCtx = None,
) -> None:
    """Print a text's log-probability and perplexity, of all its tokens after the first."""
    content = read_text(text)
    loaded = load_model(model, weights, kv, threads, isa, n_ctx)
    if not content:
        raise ValueError("the text must not be empty")
    tokenizer = loaded.tokenizer
    ids = tokenizer.encode(content)
    if len(ids) < 2:
        raise ValueError("the text must be at least 2 tokens long")
    if tokens or len(ids) <= loaded.config.n_ctx:
        logprobs = loaded.score(ids)
        if tokens:
            for token, logprob in zip(ids[1:], logprobs, strict=True):
                text = tokenizer.decode([token], after=[token])  # as in the midst of a text
                typer.echo(f"{logprob:10.4f}  {text!r}")
        mean = math.fsum(logprobs.tolist()) / len(logprobs)
    else:
        mean = -math.log(loaded.perplexity(ids, stride=stride))
    n_scored = len(ids) - 1
    typer.echo(f"tokens           {n_scored}")
    typer.echo(f"log-probability  {mean * n_scored:.4f} nats")
    typer.echo(f"perplexity       {perplexity(mean):.4f}")
