"""`pygpt generate`: continue a prompt."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from pygpt import Completion, Model, Piece, SamplingParams, Session, Stream
from pygpt.cli._common import (
    Draft,
    Isa,
    Kv,
    NCtx,
    ProgressBar,
    Source,
    Speculate,
    Threads,
    Weights,
    check_file,
    check_proposals,
    describe_speculation,
    load_draft,
    load_model,
    read_text,
)
from pygpt.cli._options import with_fields
from pygpt.cli._sampling import NAMES, read_params
from pygpt.errors import TokenizerError
from pygpt.generation import collect
from pygpt.generation.prefix import n_common


@with_fields(SamplingParams, more=NAMES)
def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(
            help='The text to continue; "-", or none, reads it from standard input, less one final newline.'
        ),
    ] = None,
    model: Source = "tiny",
    special: Annotated[
        bool, typer.Option("--special", help="Read special tokens in the prompt, such as <|im_start|>, as tokens.")
    ] = False,
    echo: Annotated[
        bool | None, typer.Option(help="Print the prompt first.", show_default="only to a terminal")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a completion, when done.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Print the seed, times and speed to standard error.")] = False,
    weights: Weights = None,
    kv: Kv = None,
    threads: Threads = None,
    isa: Isa = None,
    n_ctx: NCtx = None,
    speculate: Speculate = None,
    draft: Draft = None,
    prompt_cache: Annotated[
        Path | None,
        typer.Option(
            help="A file that keeps what was read of the prompt: a next one that begins alike begins sooner, the same "
            "text. It is made where there is none.",
            show_default="none",
        ),
    ] = None,
    *,
    given: dict[str, Any],
) -> None:
    """Continue a prompt with a model, printing the text as it comes."""
    if given["logprobs"] is not None and not as_json:
        raise typer.BadParameter("needs --json", param_hint="--logprobs")
    params = read_params(given)
    check_proposals(speculate, draft)
    text = read_text(prompt, "PROMPT")
    if prompt in (None, "-"):
        text = text.removesuffix("\n")
    started = time.perf_counter()
    loaded = load_model(model, weights, kv, threads, isa, n_ctx)
    draft_model = load_draft(draft, weights, kv, threads, isa)
    if not special:
        _advise(loaded, model)
    timer = _Timer(time.perf_counter() - started)
    tokens = _tokens(loaded, text, special)
    with _cached(loaded, tokens, prompt_cache) as prefix:
        stream = loaded.stream(tokens, params=params, speculate=speculate, draft=draft_model, prefix=prefix)
        terminal = sys.stdout is not None and sys.stdout.isatty()
        _print(loaded, stream, timer, params, text if (terminal if echo is None else echo) else "", as_json)
    if stats:
        how = f"seed {stream.seeds[0]}; {loaded.weights}, {loaded.isa}, {loaded.threads} threads"
        typer.echo(f"{timer.summary()}; {how}{describe_speculation(stream.speculation)}", err=True)


def _print(model: Model, stream: Stream, timer: _Timer, params: SamplingParams, before: str, as_json: bool) -> None:
    """The text as it comes, behind another; or when it is done, where it is one of several, or JSON."""
    if as_json:
        for completion in _collect(timer.watch(stream), params, stream.seeds):
            typer.echo(json.dumps(_as_json(model, completion), ensure_ascii=False))
    elif params.n > 1:
        for i, completion in enumerate(_collect(timer.watch(stream), params, stream.seeds), 1):
            typer.echo(f"--- {i} of {params.n} ---\n{before}{completion.text}")
    else:
        typer.echo(before, nl=False)
        for piece in timer.watch(stream):
            typer.echo(piece.text, nl=False)
        typer.echo()


@contextlib.contextmanager
def _cached(model: Model, prompt: str | list[int], path: Path | None) -> Iterator[Session | None]:
    """A session that has read the prompt, as much of it as there is in the file; at the end it takes the file's place.
    None where there is no file to be, or no room for an answer, which whoever continues the prompt says."""
    ids = model.tokenizer.encode(prompt) if isinstance(prompt, str) and path is not None else prompt
    if path is None or not ids or len(ids) >= model.config.n_ctx:
        yield None
        return
    check_file(path, "--prompt-cache")
    session = model.load_session(path) if path.exists() else model.session()
    tokens = np.array(ids, np.int32)
    try:
        session.truncate(n_common(session.tokens, tokens))
    except ValueError:  # layers with a window cannot go back so far
        session.truncate(0)
    if session.length < len(tokens):
        session.append(tokens[session.length :])
    try:
        yield session
    finally:
        session.save(path)


def _collect(pieces: Iterable[Piece], params: SamplingParams, seeds: Sequence[int]) -> list[Completion]:
    """The completions, with a bar that counts those that are finished."""
    bar = ProgressBar("generating")
    try:
        return collect(pieces, params, seeds, bar)
    finally:
        bar.clear()


def _advise(loaded: Model, name: str) -> None:
    """Say that there is something better to do with a model that answers."""
    with contextlib.suppress(TokenizerError):  # a damaged template, which nobody asked for
        if loaded.has_chat_template:
            typer.echo(f"pygpt: {name} was trained to answer: `pygpt chat {name}` is a conversation with it", err=True)


def _as_json(model: Model, completion: Completion) -> dict[str, Any]:
    """A completion, with the text of each token beside its id, as in the midst of a text; U+FFFD stands for a part of a
    character."""

    def text(token: int) -> str | None:
        return model.tokenizer.decode([token], after=[token]) if model.has_tokenizer else None

    table = dataclasses.asdict(completion)
    table["token_texts"] = [text(token) for token in completion.tokens]
    for entry in table["logprobs"] or ():
        entry["text"] = text(entry["token"])
        entry["top_texts"] = [text(token) for token, _ in entry["top"]]
    return table


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
