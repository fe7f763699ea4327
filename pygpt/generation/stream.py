"""`Stream`: a generation that is read piece by piece and can be cancelled from outside."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from pygpt import _core
from pygpt.generation.params import SamplingParams
from pygpt.generation.results import Completion, FinishReason, Piece, TokenLogprob


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


def collect(pieces: Iterable[Piece], params: SamplingParams, seed: int) -> list[Completion]:
    """Run a stream to its end; one completion for each of its n sequences."""
    texts: list[list[str]] = [[] for _ in range(params.n)]
    tokens: list[list[int]] = [[] for _ in range(params.n)]
    logprobs: list[list[TokenLogprob]] = [[] for _ in range(params.n)]
    reasons: list[FinishReason] = ["cancelled"] * params.n
    for piece in pieces:
        texts[piece.index].append(piece.text)
        if piece.token is not None:
            tokens[piece.index].append(piece.token)
        if piece.logprob is not None:
            logprobs[piece.index].append(piece.logprob)
        if piece.finish_reason is not None:
            reasons[piece.index] = piece.finish_reason
    return [
        Completion("".join(text), tuple(ids), reason, None if params.logprobs is None else tuple(values), seed)
        for text, ids, reason, values in zip(texts, tokens, reasons, logprobs, strict=True)
    ]


def fresh_seed() -> int:
    """A seed that nobody can guess, 0 <= seed < 2**64."""
    return int.from_bytes(os.urandom(8), "little")
