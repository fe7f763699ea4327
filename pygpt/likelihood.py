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


def scores(engine: _core.Engine, pairs: Sequence[Pair]) -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Of each pair by itself, the log-probability of each token of the continuation, (T - first,), and whether it is
    the likeliest at its place. All are read at once."""
    return engine.score([(engine.session(), p.read, p.first - 1, p.tokens[-1:]) for p in pairs])


def likelihoods(engine: _core.Engine, pairs: Sequence[Pair], progress: Progress | None = None) -> list[Likelihood]:
    """Of each pair. `progress` is called with (pairs that are done, of how many)."""
    reader = _Reader(engine, pairs)
    n_done = 0
    for batch in reader.batches():
        reader.read(batch)
        n_done += len(batch)
        if progress is not None:
            progress(n_done, len(pairs))
    return reader.found()


class _Branch:
    """Pairs, by their numbers in the order of their tokens, whose tokens the session holds up to `begin`; what they
    share of the others is to be read, up to `end`."""

    __slots__ = ("begin", "end", "members", "session")

    def __init__(self, session: _core.Session, members: Sequence[int], end: int) -> None:
        self.session, self.members = session, members
        self.begin, self.end = session.length, end


class _Reader:
    """Reads pairs a batch at a time, and from what they share to what is their own."""

    def __init__(self, engine: _core.Engine, pairs: Sequence[Pair]) -> None:
        self._engine, self._pairs = engine, pairs
        self._logprobs: list[list[float]] = [[] for _ in pairs]
        self._is_greedy = [True] * len(pairs)
        self._last: tuple[Ids, _core.Session] | None = None  # what a batch began with last

    def batches(self) -> Iterator[list[int]]:
        """The numbers of the pairs, in the order of their tokens, in parts that are read together."""
        order = sorted(range(len(self._pairs)), key=lambda i: self._pairs[i].tokens.tolist())
        batch: list[int] = []
        n_tokens = 0
        for i in order:
            pair = self._pairs[i]
            n_tokens += len(pair.tokens) - (n_common(self._pairs[batch[-1]].tokens, pair.tokens) if batch else 0)
            if batch and n_tokens > _BATCH_TOKENS:
                yield batch
                batch, n_tokens = [], len(pair.tokens)
            batch.append(i)
        if batch:
            yield batch

    def read(self, batch: Sequence[int]) -> None:
        """All of a batch, some tokens of each branch at a time."""
        branches = [_Branch(self._begin(run), run, self._n_shared(run)) for run in self._runs(batch, 0)]
        is_first = True
        while branches:
            asked = [self._asked(branch) for branch in branches]
            for branch, (_, _, first, following), found in zip(branches, asked, self._engine.score(asked), strict=True):
                self._take(branch, branch.begin + first + 1, following.tolist(), *found)
            if is_first:
                last = branches[-1]
                self._last = self._pairs[last.members[0]].tokens[: last.end], last.session.fork()
            is_first = False
            branches = [child for branch in branches for child in self._children(branch)]

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

    def _asked(self, branch: _Branch) -> tuple[_core.Session, Ids, int, Ids]:
        """What a branch reads now, and which scores its members need of it: see `_core.Engine.score`."""
        tokens = self._pairs[branch.members[0]].tokens[branch.begin : branch.end]
        first = min(max(self._first(branch.members) - 1 - branch.begin, 0), len(tokens) - 1)
        pairs = [self._pairs[i] for i in branch.members]
        following = sorted({int(pair.tokens[branch.end]) for pair in pairs if pair.first <= branch.end})
        return branch.session, tokens, first, np.array(following, np.int32)

    def _children(self, branch: _Branch) -> Iterator[_Branch]:
        """Those of a branch that have more tokens than it read, apart where they part."""
        left = [i for i in branch.members if len(self._pairs[i].read) > branch.end]
        runs = [*self._runs(left, branch.end)]
        for i, run in enumerate(runs):
            yield _Branch(branch.session if i + 1 == len(runs) else branch.session.fork(), run, self._n_shared(run))

    def _n_shared(self, members: Sequence[int]) -> int:
        """Tokens to be read that all of them begin with: those in between are in order."""
        return n_common(self._pairs[members[0]].read, self._pairs[members[-1]].read)

    def _first(self, members: Sequence[int]) -> int:
        return min(self._pairs[i].first for i in members)

    def _take(
        self,
        branch: _Branch,
        first: int,
        following: Sequence[int],
        logprobs: NDArray[np.float32],
        is_likeliest: NDArray[np.bool_],
    ) -> None:
        """What was found of the tokens [first, end) of a branch that was just read, and of those that follow it."""
        n_shared = branch.end - first
        for i in branch.members:
            pair = self._pairs[i]
            at = [*range(max(pair.first - first, 0), n_shared)]
            if pair.first <= branch.end:
                at.append(n_shared + following.index(int(pair.tokens[branch.end])))
            self._logprobs[i] += logprobs[at].tolist()
            self._is_greedy[i] &= bool(is_likeliest[at].all())
