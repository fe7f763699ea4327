"""`pygpt generate`: continue a prompt."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from pygpt import Model, Piece, SamplingParams
from pygpt.cli._common import Isa, Kv, Source, Threads, Weights, load_model, read_text
from pygpt.generation import SamplingOptions, collect

_DEFAULT = SamplingParams()


def generate(
    prompt: Annotated[
        str, typer.Argument(help='The text to continue; "-" reads it from standard input, less one final newline.')
    ],
    model: Source = "tiny",
    max_tokens: Annotated[int | None, typer.Option(help="At most this many new tokens.")] = _DEFAULT.max_tokens,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest token.")] = _DEFAULT.temperature,
    top_k: Annotated[int | None, typer.Option(help="Only the k likeliest tokens.", show_default="all")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Only the likeliest tokens that reach this probability together.")
    ] = _DEFAULT.top_p,
    min_p: Annotated[
        float | None, typer.Option(help="Only tokens this fraction as likely as the likeliest.", show_default="all")
    ] = None,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1, makes tokens that occurred less likely.")
    ] = _DEFAULT.repetition_penalty,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be given several times.")] = None,
    seed: Annotated[int | None, typer.Option(help="Repeat a run exactly.", show_default="a fresh one")] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="How many completions.")] = _DEFAULT.n,
    logprobs: Annotated[
        int | None, typer.Option(help="With --json: each token's log-probability and this many of the likeliest.")
    ] = None,
    special: Annotated[
        bool, typer.Option("--special", help="Read special tokens in the prompt, such as <|im_start|>, as tokens.")
    ] = False,
    echo: Annotated[
        bool | None, typer.Option(help="Print the prompt first.", show_default="only to a terminal")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a completion, when done.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Print times and speed to standard error.")] = False,
    weights: Weights = None,
    kv: Kv = None,
    threads: Threads = None,
    isa: Isa = None,
) -> None:
    """Continue a prompt with a model, printing the text as it comes."""
    if logprobs is not None and not as_json:
        raise typer.BadParameter("needs --json", param_hint="--logprobs")
    options = SamplingOptions(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        stop=stop or (),
        seed=seed,
        logprobs=logprobs,
    )
    try:
        params = SamplingParams(n=n, **options)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    text = read_text(prompt)
    if prompt == "-":
        text = text.removesuffix("\n")
    started = time.perf_counter()
    loaded = load_model(model, weights, kv, threads, isa)
    timer = _Timer(time.perf_counter() - started)
    stream = loaded.stream(_tokens(loaded, text, special), n=n, **options)
    prefix = text if (sys.stdout.isatty() if echo is None else echo) else ""
    if as_json:
        for completion in collect(timer.watch(stream), params, stream.seeds):
            typer.echo(json.dumps(dataclasses.asdict(completion)))
    elif n > 1:
        for i, completion in enumerate(collect(timer.watch(stream), params, stream.seeds), 1):
            typer.echo(f"--- {i} of {n} ---\n{prefix}{completion.text}")
    else:
        typer.echo(prefix, nl=False)
        for piece in timer.watch(stream):
            typer.echo(piece.text, nl=False)
            sys.stdout.flush()
        typer.echo()
    if stats:
        typer.echo(f"{timer.summary()}; {loaded.weights}, {loaded.isa}, {loaded.threads} threads", err=True)


def _tokens(model: Model, text: str, special: bool) -> str | list[int]:
    """The prompt with its special tokens, where they are wanted and the model has any."""
    if special and text and model.has_tokenizer:
        return model.tokenizer.encode(text, allow_special=True)
    return text


class _Timer:
    """Measures a stream as it passes by."""

    def __init__(self, load_seconds: float) -> None:
        self._load_seconds = load_seconds
        self._start = time.perf_counter()
        self._first = self._last = self._start
        self._n_tokens = 0

    def watch(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """The same pieces."""
        for piece in pieces:
            self._last = time.perf_counter()
            if piece.token is not None:
                self._first = self._last if self._n_tokens == 0 else self._first
                self._n_tokens += 1
            yield piece

    def summary(self) -> str:
        """Load time, time to the first token, and the speed of those after it."""
        decode_seconds = self._last - self._first
        speed = f"{(self._n_tokens - 1) / decode_seconds:.1f} tokens/s" if decode_seconds > 0 else "no more"
        return (
            f"load {self._load_seconds:.3f} s, first token {self._first - self._start:.3f} s, "
            f"{self._n_tokens} tokens, then {speed}"
        )
