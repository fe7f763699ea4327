"""`pygpt score`: how likely a model finds a text."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import typer

from pygpt.cli._common import Isa, Kv, Source, Threads, Weights, load_model, read_text
from pygpt.errors import TokenizerError


def score(
    text: Annotated[str, typer.Argument(help='The text; "-" reads it from standard input, to the last byte.')],
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
) -> None:
    """Print a text's log-probability and perplexity, of all its tokens after the first."""
    content = read_text(text)
    loaded = load_model(model, weights, kv, threads, isa)
    if not content:
        raise ValueError("the text must not be empty")
    tokenizer = loaded.tokenizer
    if tokenizer is None:
        raise TokenizerError(f"{model} has no tokenizer files, so it cannot score text")
    ids = tokenizer.encode(content)
    if len(ids) < 2:
        raise ValueError("the text must be at least 2 tokens long")
    if tokens:
        logprobs = loaded.score(ids)
        for token, logprob in zip(ids[1:], logprobs, strict=True):
            typer.echo(f"{logprob:10.4f}  {tokenizer.decode([token])!r}")
        mean = float(np.mean(logprobs, dtype=np.float64))
    else:
        mean = -math.log(loaded.perplexity(ids, stride=stride))
    n_scored = len(ids) - 1
    typer.echo(f"tokens           {n_scored}")
    typer.echo(f"log-probability  {mean * n_scored:.4f} nats")
    typer.echo(f"perplexity       {math.exp(-mean):.4f}")
