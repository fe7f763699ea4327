"""`Stream`: a generation that is read piece by piece and can be cancelled from outside."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import check_type
from pygpt.generation.cache_account import CacheAccount, half_of_free
from pygpt.generation.cancel import CancelToken, cancel_token
from pygpt.generation.constrain import Constraint
from pygpt.generation.draft import Parts
from pygpt.generation.loop import Batch
from pygpt.generation.params import SamplingParams
from pygpt.generation.prompt import overflow
from pygpt.generation.results import Completion, Piece, Progress, collect
from pygpt.generation.scheduling import run
from pygpt.generation.sequence import Request
from pygpt.generation.session import Session
from pygpt.generation.speculate import Speculation, Speculator

if TYPE_CHECKING:
    from pygpt.config import ModelConfig
    from pygpt.generation.turn import Turn


class Stream:
    """An iterator over the `Piece`s of one generation, as they come. It belongs to one thread, `cancel()` to all.

    Ctrl-C raises KeyboardInterrupt from the iteration within one layer; the pieces before it stand.
    """

    def __init__(
        self,
        pieces: Iterator[Piece],
        params: SamplingParams,
        seeds: Sequence[int],
        cancel: CancelToken,
        speculation: Speculation,
    ) -> None:
        """Private: use `Model.stream`."""
        self._pieces = pieces
        self._params = params
        self._seeds = tuple(seeds)
        self._cancel = cancel
        self._speculation = speculation
        self._n_unfinished = params.n * len(self._seeds)

    @property
    def seed(self) -> int:
        """The seed that is used for the prompt, or for the first of several; also where none was given."""
        return self._seeds[0]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each prompt: the one that was given, or fresh ones."""
        return self._seeds

    @property
    def speculation(self) -> Speculation:
        """How many tokens were proposed and accepted so far."""
        return self._speculation

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Piece:
        piece = next(self._pieces)
        self._n_unfinished -= piece.finish_reason is not None
        return piece

    def cancel(self) -> None:
        """End the stream from any thread: unfinished sequences get a last piece with finish_reason "cancelled"."""
        self._cancel.cancel()

    def collect(self, progress: Progress | None = None) -> list[Completion]:
        """Read what is left of the stream: the completions of its sequences, as `Piece.index` numbers them. `progress`
        is as of `Model.generate`."""
        return collect(self, self._params, self._seeds, progress)

    def __repr__(self) -> str:
        n = self._params.n * len(self._seeds)
        return f"<pygpt.Stream: {self._n_unfinished} of {n} sequences unfinished>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Stream computes in the process that made it and cannot be pickled or copied: send its pieces, which can"
        )


def start(parts: Parts, requests: Sequence[Request], speculator: Speculator | None) -> Stream:
    """The stream of requests with one `params` and `cancel`. Several are computed together, as far as half of the free
    memory holds their keys and values."""
    first, engine, n_ctx = requests[0], parts.engine, parts.config.n_ctx
    limit = engine.cache_bytes(n_ctx)
    if len(requests) * first.params.n > 1:
        limit = max(limit, half_of_free())
    batch = Batch(*parts, speculator)
    pieces = run(batch, requests, CacheAccount(engine, n_ctx, limit))
    return Stream(pieces, first.params, [request.seed for request in requests], first.cancel, batch.speculation)


def make_requests(
    config: ModelConfig,
    prompts: Mapping[str, NDArray[np.int32]],
    params: SamplingParams,
    cancel: CancelToken | None,
    *,
    session: _core.Session | None = None,
    prefix: Session | None = None,
    turn: Turn | None = None,
    client: str = "",
    constraint: Constraint | None = None,
) -> list[Request]:
    """Requests to continue prompts, which have the names that errors give them. `session` and `turn`, of a
    conversation, are for one prompt; the others are as a `Request`'s. `prefix` is as of
    `Model.generate`.

    ContextOverflowError: a prompt that leaves no room for a token. ValueError: a bias for a token that there is not.
    """
    cancel = cancel_token(cancel)
    eos_ids = frozenset[int]() if turn is None else turn.eos_ids
    check_type("prefix", prefix, Session, type(None))
    if (unknown := max(params.logit_bias, default=0)) >= config.n_vocab:
        raise ValueError(f"logit_bias of {unknown} is for no token of the vocabulary of {config.n_vocab}")
    requests: list[Request] = []
    for name, tokens in prompts.items():
        if len(tokens) >= config.n_ctx:
            n_ctx = config.n_ctx
            raise overflow(
                f"{name}'s {len(tokens)} tokens leave no room for a new one in the context of {n_ctx}", config
            )
        index = len(requests) * params.n
        if prefix is not None:
            session = prefix._beginning_of(tokens)
        requests.append(Request(tokens, params, _seed(params), index, cancel, session, eos_ids, client, constraint))
    return requests


def _seed(params: SamplingParams) -> int:
    """The seed that is asked for, or one that nobody can guess; 0 where nothing is drawn, so that greedy completions
    are equal values."""
    if params.seed is not None:
        return params.seed
    return 0 if params.temperature == 0 else int.from_bytes(os.urandom(8), "little")
