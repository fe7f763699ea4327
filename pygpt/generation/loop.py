"""The loop that turns logits into tokens and text, shared by `Model.generate` and `Model.stream`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import Cancelled
from pygpt.generation import FinishReason, Piece, SamplingParams, TokenLogprob

if TYPE_CHECKING:
    from pygpt.config import ModelConfig
    from pygpt.tokenizer import Tokenizer


class CancelToken:
    """Stops a computation from outside: give it to `Model.generate` and call `cancel()` from any thread."""

    def __init__(self) -> None:
        self._flag = _core.CancelFlag()

    def cancel(self) -> None:
        """Stop within one layer of the model; whatever is given this token afterwards stops at once."""
        self._flag.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._flag.is_set()


class Stream:
    """An iterator over the `Piece`s of one generation, as they come. It belongs to one thread, `cancel()` to all.

    Ctrl-C raises KeyboardInterrupt from the iteration within one layer; the pieces before it stand.
    """

    def __init__(self, pieces: Iterator[Piece], cancel: CancelToken, seed: int) -> None:
        self._pieces = pieces
        self._cancel = cancel
        self.seed = seed
        """The seed that is used, also where none was given."""

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece:
        return next(self._pieces)

    def cancel(self) -> None:
        """End the stream from any thread: unfinished sequences get a last piece with finish_reason "cancelled"."""
        self._cancel.cancel()


class StopFilter:
    """Passes text on until the first stop string, and holds back what could still become one.

    The first stop string to be complete wins, so the result does not depend on how the text was cut into tokens.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """The text that is certain by now, and whether a stop string was found; nothing may be fed after that."""
        text = self._held + text
        ends = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self._held = ""
            return text[: min(ends)[1]], True
        n_held = max((_overlap(text, stop) for stop in self._stops), default=0)
        cut = len(text) - n_held
        self._held = text[cut:]
        return text[:cut], False

    def finish(self) -> str:
        """What was held back, once no more text comes."""
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that is a beginning of `stop`, less than all of it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class _Text:
    """The text of one sequence, as its tokens come."""

    def __init__(self, tokenizer: Tokenizer | None, n_texts: int, stops: tuple[str, ...]) -> None:
        self._decoder = None if tokenizer is None else tokenizer.stream()
        self._n_texts = n_texts
        self._stop_filter = StopFilter(stops)

    def push(self, token: int) -> tuple[str, bool]:
        """The text that is certain by now, and whether a stop string was found."""
        if self._decoder is None or token >= self._n_texts:  # a row that pads the model's vocabulary has no text
            return "", False
        return self._stop_filter.feed(self._decoder.push(token))

    def end(self) -> str:
        """The rest, after the end-of-text token: bytes that are no whole character become U+FFFD."""
        if self._decoder is None:
            return ""
        text, stopped = self._stop_filter.feed(self._decoder.finish())
        return text if stopped else text + self.cut()

    def cut(self) -> str:
        """The rest, where the sequence is cut short: without a character that it cut in two."""
        return self._stop_filter.finish()


class _Sequence:
    """One of the n sequences of a generation while it grows."""

    def __init__(
        self,
        index: int,
        session: _core.Session,
        prompt: NDArray[np.int32],
        limit: int,
        n_logprobs: int | None,
        text: _Text,
    ) -> None:
        self.index = index
        self.session = session
        self.finish_reason: FinishReason | None = None
        self._history = np.empty(len(prompt) + limit, np.int32)  # the prompt and every token after it
        self._history[: len(prompt)] = prompt
        self._length = len(prompt)
        self._n_logprobs = n_logprobs
        self._text = text

    @property
    def last(self) -> NDArray[np.int32]:
        """The newest token, (1,), which the session does not hold yet."""
        return self._history[self._length - 1 : self._length]

    def step(
        self, engine: _core.Engine, sampler: _core.Sampler, logits: NDArray[np.float32], eos_ids: frozenset[int]
    ) -> Piece:
        """Draw the next token from the (n_vocab,) logits."""
        token = sampler.draw(engine, logits, self._history[: self._length], self.index, self._length)
        self._history[self._length] = token
        self._length += 1
        if token in eos_ids:
            text, self.finish_reason = self._text.end(), "stop"
        else:
            text, stopped = self._text.push(token)
            if stopped:
                self.finish_reason = "stop"
            elif self._length == len(self._history):
                text, self.finish_reason = text + self._text.cut(), "length"
        logprob = None
        if self._n_logprobs is not None:
            logprob = _token_logprob(engine.log_softmax(logits), token, self._n_logprobs)
        return Piece(text, token, self.index, self.finish_reason, logprob)

    def cancel(self) -> Piece:
        """The last piece of a sequence that is cut short."""
        return Piece(self._text.cut(), None, self.index, "cancelled", None)


def _token_logprob(logprobs: NDArray[np.float32], token: int, n_top: int) -> TokenLogprob:
    """The token's log-probability out of all (n_vocab,), and the n_top largest: equal ones by id."""
    n_top = min(n_top, len(logprobs))
    top: tuple[tuple[int, float], ...] = ()
    if n_top:
        least = np.partition(logprobs, len(logprobs) - n_top)[len(logprobs) - n_top]
        ids = np.flatnonzero(logprobs >= least)
        ids = ids[np.argsort(-logprobs[ids], kind="stable")][:n_top]
        top = tuple((int(i), float(logprobs[i])) for i in ids)
    return TokenLogprob(token, float(logprobs[token]), top)


def fresh_seed() -> int:
    """A seed that nobody can guess, 0 <= seed < 2**64."""
    return int.from_bytes(os.urandom(8), "little")


def decode(
    engine: _core.Engine,
    config: ModelConfig,
    tokenizer: Tokenizer | None,
    prompt: NDArray[np.int32],
    params: SamplingParams,
    seed: int,
    cancel: CancelToken,
) -> Iterator[Piece]:
    """Compute the prompt once, fork it for the n sequences, and step them together as one batch.

    One piece a token, in the order of the sequences. The prompt must be shorter than the context.
    """
    room = config.n_ctx - len(prompt)
    limit = room if params.max_tokens is None else min(params.max_tokens, room)
    sampler = _core.Sampler(
        temperature=params.temperature,
        top_k=None if params.top_k is None else min(params.top_k, config.n_vocab),
        top_p=params.top_p,
        min_p=params.min_p,
        repetition_penalty=params.repetition_penalty,
        seed=seed,
    )
    eos_ids = frozenset(config.eos_ids)
    session = engine.session()
    n_texts = 0 if tokenizer is None else tokenizer.n_vocab
    stops = tuple(params.stop)
    sequences = [
        _Sequence(i, session, prompt, limit, params.logprobs, _Text(tokenizer, n_texts, stops)) for i in range(params.n)
    ]
    try:
        logits = engine.forward([(session, prompt)], cancel=cancel._flag)[0]
        for sequence in sequences[1:]:
            sequence.session = session.fork()
        rows = [logits] * params.n
        while sequences:
            for sequence, row in zip(sequences, rows, strict=True):
                yield sequence.step(engine, sampler, row, eos_ids)
            sequences = [s for s in sequences if s.finish_reason is None]
            if sequences:
                rows = engine.forward([(s.session, s.last) for s in sequences], cancel=cancel._flag)
    except Cancelled:
        for sequence in sequences:
            yield sequence.cancel()
