"""Proposals from a draft: a smaller model of the same vocabulary."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, get_args
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from pygpt import _core
from pygpt.errors import Cancelled
from pygpt.generation.lookup import PromptSpeculator
from pygpt.generation.pace import Pace
from pygpt.generation.reuse import PrefixCache
from pygpt.generation.speculate import Growing, Speculate, Speculator

if TYPE_CHECKING:
    from pygpt.config import ModelConfig
    from pygpt.tokenizer import Tokenizer

_CATCH_UP = 32  # tokens: where the draft reads more of a text at once, it is the text's beginning


class DraftSpeculator(Speculator):
    """Proposes what a draft model writes. It draws with the random numbers that the tokens will be drawn with, so that
    equal probabilities give equal tokens."""

    def __init__(self, engine: _core.Engine, config: ModelConfig, n_vocab: int, *, keeps: bool) -> None:
        """`n_vocab`: of the model that the proposals are for. `keeps`: sequences come one after the other, and what one
        has in common with the one before is not read again."""
        super().__init__(Pace([0.7]))
        self._engine, self._config = engine, config
        self._n_vocab = min(n_vocab, config.n_vocab)
        self._sessions: WeakKeyDictionary[Growing, _core.Session] = WeakKeyDictionary()  # hold tokens that came
        self._cache = PrefixCache(engine.session) if keeps else None
        self._seconds = 0.0  # for each token

    def propose(self, sequences: Sequence[Growing]) -> float:
        """See `Speculator`."""
        begun = time.perf_counter()
        writers = [w for s in sequences if (w := self._begin(s, self.most(s, len(sequences)))) is not None]
        is_beginning = any(len(w.unread) > _CATCH_UP for w in writers)
        n_proposed = self._write(writers)
        seconds = time.perf_counter() - begun
        if not n_proposed or is_beginning:
            return 0.0
        self._seconds = seconds / n_proposed
        return seconds

    def _begin(self, sequence: Growing, most: int) -> _Writer | None:
        """None: nothing is to be proposed."""
        tokens, session = sequence.tokens, self._sessions.get(sequence)
        if session is None:
            session = self._engine.session() if self._cache is None else self._cache.take(tokens)
            self._sessions[sequence] = session
        elif self._cache is not None:
            for token in tokens[self._cache.n_tokens :]:
                self._cache.extend(int(token))
        session.truncate(min(session.length, len(tokens) - 1))  # the newest is read twice after Ctrl-C
        unread = tokens[session.length :]
        most = min(most, self._config.n_ctx + 1 - len(tokens))
        if most < 1 or unread.max(initial=0) >= self._config.n_vocab:  # drawn from rows that only pad the other's
            return None
        n = self.pace.length(0, most, self._seconds)
        return _Writer(sequence, session, unread, n) if n else None

    def _write(self, writers: Sequence[_Writer]) -> int:
        """How many tokens they propose together."""
        n_proposed = 0
        while writers:
            inputs = [(w.session, w.unread) for w in writers]
            try:
                outputs = self._engine.forward(inputs, cancel=[w.sequence.cancel for w in writers])
            except Cancelled:
                break
            going_on = []
            for writer, logits in zip(writers, outputs, strict=True):
                if logits is not None:
                    n_proposed += 1
                    if writer.write(self._engine, logits[: self._n_vocab]):
                        going_on.append(writer)
            writers = going_on
        return n_proposed


class _Writer:
    """Writes on after a sequence, n tokens at most."""

    def __init__(self, sequence: Growing, session: _core.Session, unread: NDArray[np.int32], n: int) -> None:
        self.sequence, self.session, self.unread = sequence, session, unread
        self._n_left = n
        self._is_fork = False

    def write(self, engine: _core.Engine, logits: NDArray[np.float32]) -> bool:
        """The next token, from the draft's logits; whether there are more to come."""
        try:
            token = self.sequence.guess(engine, logits)
        except ValueError:  # not a number: a draft that computes nonsense proposes nothing
            return False
        self._n_left -= 1
        if not self.sequence.propose([token], 0) or not self._n_left:
            return False
        if not self._is_fork:  # the sequence's own session holds what came, not what was proposed
            self.session, self._is_fork = self.session.fork(), True
        self.unread = np.array([token], np.int32)
        return True


class Parts(NamedTuple):
    """What writes."""

    engine: _core.Engine
    config: ModelConfig
    tokenizer: Tokenizer | None


def speculator(model: Parts, speculate: Speculate | None, draft: Parts | None, *, keeps: bool) -> Speculator | None:
    """What proposes tokens to a model; None: nothing does. `keeps` as of a `DraftSpeculator`. ValueError: another name,
    both ways at once, or a draft of another vocabulary."""
    if speculate is not None and not (isinstance(speculate, str) and speculate in get_args(Speculate)):
        raise ValueError(f"speculate must be one of {', '.join(get_args(Speculate))}, or None, not {speculate!r:.80}")
    if draft is None:
        return None if speculate is None else PromptSpeculator()
    if speculate is not None:
        raise ValueError("speculate and draft exclude each other")
    _check_vocabulary(model, draft)
    return DraftSpeculator(draft.engine, draft.config, model.config.n_vocab, keeps=keeps)


def _check_vocabulary(model: Parts, draft: Parts) -> None:
    """ValueError unless ids mean the same in both. With tokenizers, the sizes n_vocab may differ: rows of padding."""
    a, b = model.tokenizer, draft.tokenizer
    if a is None or b is None:
        sizes = model.config.n_vocab, draft.config.n_vocab
        if sizes[0] != sizes[1]:
            raise ValueError(f"draft must have the vocabulary of the model: n_vocab {sizes[0]}, not {sizes[1]}")
    elif a.fingerprint != b.fingerprint:
        different = next(i for i in range(max(a.n_vocab, b.n_vocab)) if a.decode([i]) != b.decode([i]))
        raise ValueError(
            f"draft must have the vocabulary of the model, where the id {different} is {a.decode([different])!r}, "
            f"not {b.decode([different])!r}"
        )
