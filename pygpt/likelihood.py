"""How likely a model finds continuations: many (context, continuation) pairs at a time, each beginning read once.

Pairs are put in the order of their tokens, so that those that begin alike stand together: the answers to one question,
and questions behind the same examples. What they begin with is read once, and its cache is forked for each; the results
are those of each pair alone, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import TokenizerError
from pygpt.fields import doc, documented
from pygpt.generation.prefix import n_common, truncated
from pygpt.generation.prompt import as_ids, overflow

if TYPE_CHECKING:
    from pygpt.config import ModelConfig
    from pygpt.generation import Progress
    from pygpt.tokenizer import Tokenizer

Ids = NDArray[np.int32]

_BATCH_TOKENS = 2048  # that are read together
_MOST_LOGITS = 2**25  # that are in memory at once
_WORTH_SHARING = 4  # tokens: for fewer, one more pass over the weights costs more than reading them twice


@documented
@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a continuation is."""

    logprob: float = field(metadata=doc("The natural log-probability of all its tokens, given the context."))
    n_tokens: int = field(metadata=doc("How many tokens it has."))
    is_greedy: bool = field(metadata=doc("Whether each of them is the likeliest at its place."))


class Pair(NamedTuple):
    """The tokens (T,) of a context and its continuation, which begins at `first`; 1 <= first < T."""

    tokens: Ids
    first: int

    @property
    def read(self) -> Ids:
        """What has to be read: the last token is only foretold."""
        return self.tokens[:-1]


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str, prefix_id: int | None) -> Pair:
    """Tokens as lm-evaluation-harness makes them: of both texts together, where the context's own end the context,
    after the spaces at its end were moved to the continuation; a context of which nothing is left is the token
    `prefix_id`.

    ValueError: a continuation without tokens of its own, or such a context and no such token.
    """
    kept = context.rstrip()
    if not kept:
        if prefix_id is None:
            raise ValueError("a context must not be empty: this model has no token that begins or ends a text")
        more = tokenizer.encode(context + continuation, add_special=False)
        return _pair([prefix_id] if more[:1] != [prefix_id] else [], more, continuation)
    whole = tokenizer.encode(context + continuation)
    n_context = len(tokenizer.encode(kept))
    return _pair(whole[:n_context], whole[n_context:], continuation)


def _pair(context: list[int], continuation: list[int], text: str) -> Pair:
    first = max(1, len(context))
    tokens = np.array([*context, *continuation], np.int32)
    if len(tokens) <= first:
        raise ValueError(f"a continuation must have at least one token after its context: {text!r:.80}")
    return Pair(tokens, first)


def read_pair(pair: object, tokenizer: Tokenizer | None, config: ModelConfig, where: str) -> Pair:
    """A (context, continuation) from outside, two texts or two lists of token ids, and no longer than n_ctx + 1 tokens:
    a context that is too long loses its beginning. `where` stands in messages.

    ContextOverflowError: a continuation of more than n_ctx tokens. TypeError, ValueError: what is no such pair.
    """
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(f"{where} must be a tuple of a context and a continuation, not {pair!r:.80}")
    context, continuation = pair
    if isinstance(context, str) and isinstance(continuation, str):
        if tokenizer is None:
            raise TokenizerError(f"{where} is text, and this model has no tokenizer")
        try:
            found = encode_pair(tokenizer, context, continuation, prefix_id(tokenizer, config))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    elif isinstance(context, str) or isinstance(continuation, str):
        raise TypeError(f"{where} must be two texts or two lists of token ids, not one of each")
    else:
        begin = as_ids(context, config.n_vocab, f"the context of {where}")
        end = as_ids(continuation, config.n_vocab, f"the continuation of {where}")
        found = Pair(np.concatenate([begin, end]), len(begin))
    n_lost = max(0, len(found.tokens) - config.n_ctx - 1)
    if n_lost >= found.first:
        n = len(found.tokens) - found.first
        raise overflow(f"the {n} tokens of the continuation of {where} do not fit a context of {config.n_ctx}", config)
    return Pair(found.tokens[n_lost:], found.first - n_lost)


def prefix_id(tokenizer: Tokenizer | None, config: ModelConfig) -> int | None:
    """The token that stands before a text without context: that which begins texts, else one that ends them."""
    own = None if tokenizer is None else (tokenizer.bos_id if tokenizer.bos_id is not None else tokenizer.eos_id)
    return own if own is not None else config.bos_id if config.bos_id is not None else next(iter(config.eos_ids), None)


def likelihoods(
    engine: _core.Engine, n_vocab: int, pairs: Sequence[Pair], progress: Progress | None = None
) -> list[Likelihood]:
    """Of each pair. `progress` is called with (pairs that are done, of how many)."""
    reader = _Reader(engine, pairs, max(16, _MOST_LOGITS // n_vocab))
    n_done = 0
    for batch in reader.batches():
        reader.read(batch)
        n_done += len(batch)
        if progress is not None:
            progress(n_done, len(pairs))
    return reader.found()


class _Branch:
    """Pairs, by their numbers in the order of their tokens, that share the first `depth`, which the session holds."""

    __slots__ = ("depth", "members", "session")

    def __init__(self, session: _core.Session, depth: int, members: Sequence[int]) -> None:
        self.session, self.depth, self.members = session, depth, members


class _Reader:
    """Reads pairs a batch at a time, and from what they share to what is their own."""

    def __init__(self, engine: _core.Engine, pairs: Sequence[Pair], most_rows: int) -> None:
        self._engine, self._pairs, self._most_rows = engine, pairs, most_rows
        self._logprobs: list[list[float]] = [[] for _ in pairs]
        self._is_greedy = [True] * len(pairs)
        self._last: tuple[Ids, _core.Session] | None = None  # the context that was read last

    def batches(self) -> Iterator[list[int]]:
        """The numbers of the pairs, in the order of their tokens, in parts that are read together."""
        order = sorted(range(len(self._pairs)), key=lambda i: self._pairs[i].tokens.tolist())
        batch: list[int] = []
        n_tokens = n_rows = 0
        for i in order:
            pair = self._pairs[i]
            n_rows += len(pair.tokens) - pair.first
            n_tokens += len(pair.tokens) - (n_common(self._pairs[batch[-1]].tokens, pair.tokens) if batch else 0)
            if batch and (n_tokens > _BATCH_TOKENS or n_rows > self._most_rows):
                yield batch
                batch, n_tokens, n_rows = [], len(pair.tokens), len(pair.tokens) - pair.first
            batch.append(i)
        if batch:
            yield batch

    def read(self, batch: Sequence[int]) -> None:
        """All of a batch, some tokens of each branch at a time."""
        branches = [_Branch(self._begin(run), 0, run) for run in self._runs(batch, 0)]
        for branch in branches:
            branch.depth = branch.session.length
        is_first = True
        while branches:
            ends = [self._end(branch) for branch in branches]
            parts = [self._pairs[b.members[0]].tokens[b.depth : end] for b, end in zip(branches, ends, strict=True)]
            scores = [b.depth + 1 >= self._first(b.members) for b in branches]
            outputs = self._engine.forward(
                [(branch.session, part) for branch, part in zip(branches, parts, strict=True)],
                output=["all" if wanted else "none" for wanted in scores],
            )
            for branch, wanted, rows in zip(branches, scores, outputs, strict=True):
                if wanted:
                    self._take(branch, rows)
            if is_first and not scores[-1]:
                self._last = self._pairs[branches[-1].members[0]].tokens[: ends[-1]], branches[-1].session.fork()
            is_first = False
            branches = [c for b, end in zip(branches, ends, strict=True) for c in self._children(b, end)]

    def found(self) -> list[Likelihood]:
        """Of each pair, once all are read."""
        return [
            Likelihood(math.fsum(logprobs), len(logprobs), is_greedy)
            for logprobs, is_greedy in zip(self._logprobs, self._is_greedy, strict=True)
        ]

    def _begin(self, members: Sequence[int]) -> _core.Session:
        """A session that holds what these share with what was read last, if it is a part of their contexts."""
        if self._last is not None:
            tokens, session = self._last
            n = min(n_common(tokens, self._pairs[members[0]].tokens), self._first(members) - 1)
            n = min(n, self._n_shared(members) - 1)
            if n >= _WORTH_SHARING and (fork := truncated(session, n)) is not None:
                return fork
        return self._engine.session()

    def _runs(self, members: Sequence[int], depth: int) -> Iterator[Sequence[int]]:
        """Parts of those that share `depth` tokens, whose members share so many more that it is worth it."""
        begin = 0
        for at in range(1, len(members) + 1):
            if at < len(members):
                a, b = self._pairs[members[at - 1]].read, self._pairs[members[at]].read
                n = n_common(a, b)
                if n >= depth + _WORTH_SHARING or n == len(a) == len(b):
                    continue
            yield members[begin:at]
            begin = at

    def _end(self, branch: _Branch) -> int:
        """Up to where a branch is read now: what its members share, the context first."""
        end, context = self._n_shared(branch.members), self._first(branch.members) - 1
        return min(end, context if branch.depth < context else branch.depth + self._most_rows)

    def _children(self, branch: _Branch, end: int) -> Iterator[_Branch]:
        """Those of a branch that have more than `end` tokens, apart where they part."""
        left = [i for i in branch.members if len(self._pairs[i].read) > end]
        runs = [*self._runs(left, end)]
        for i, run in enumerate(runs):
            yield _Branch(branch.session if i + 1 == len(runs) else branch.session.fork(), end, run)

    def _n_shared(self, members: Sequence[int]) -> int:
        """Tokens to be read that all of them begin with: those in between are in order."""
        return n_common(self._pairs[members[0]].read, self._pairs[members[-1]].read)

    def _first(self, members: Sequence[int]) -> int:
        return min(self._pairs[i].first for i in members)

    def _take(self, branch: _Branch, rows: NDArray[np.float32]) -> None:
        """The logits (R, n_vocab) of the tokens after each of those of a branch that were just read."""
        logprobs, likeliest = self._engine.log_softmax(rows), rows.argmax(axis=1)
        for i in branch.members:
            pair = self._pairs[i]
            skipped = max(0, pair.first - 1 - branch.depth)
            at = np.arange(skipped, len(rows))
            targets = pair.tokens[branch.depth + 1 + skipped : branch.depth + 1 + len(rows)]
            self._logprobs[i] += logprobs[at, targets].tolist()
            self._is_greedy[i] &= bool((likeliest[skipped:] == targets).all())
