"""The loop that turns logits into tokens and text, shared by `Model.generate` and `Model.stream`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import Cancelled
from pygpt.generation.params import SamplingParams
from pygpt.generation.results import FinishReason, Piece, TokenLogprob
from pygpt.generation.stream import CancelToken
from pygpt.generation.text import Text

if TYPE_CHECKING:
    from pygpt.config import ModelConfig
    from pygpt.tokenizer import Tokenizer


class _Sequence:
    """One of the n sequences of a generation while it grows."""

    def __init__(
        self,
        index: int,
        session: _core.Session,
        prompt: NDArray[np.int32],
        limit: int,
        n_logprobs: int | None,
        text: Text,
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
        _Sequence(i, session, prompt, limit, params.logprobs, Text(tokenizer, n_texts, stops)) for i in range(params.n)
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
