"""Texts that must have a form: which tokens may come next, by llguidance (https://github.com/guidance-ai/llguidance).

A form restricts each draw to the tokens that a text of that form can go on with. The tokens drawn so far say which, so
the mask of the next draw is computed while the model computes its logits.
"""

from __future__ import annotations

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import TokenizerError
from pygpt.generation.forks import begin_in_children
from pygpt.generation.opening import Opening
from pygpt.generation.params import CONSTRAINTS, SamplingParams
from pygpt.generation.schema import check_cost, closed_schema

if TYPE_CHECKING:
    from pygpt.config import ModelConfig
    from pygpt.generation.turn import Turn
    from pygpt.tokenizer import Tokenizer

_MOST_KEPT = 32  # grammars
_MOST_STATES = 50_000  # of a grammar's lexer, which grow as it is used, at 1 to 2 kB each; schemas take some hundreds
_MOST_SYMBOLS = 30_000  # of a grammar: it takes a second to read, and four times as long for twice as many
_BITS = 32  # of a word of a mask
# Between the parts of a JSON value: else a model may write spaces until it has no tokens left.
_WHITESPACE = {"whitespace_pattern": r"( |\n {0,16})?"}


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the texts of a request must be."""

    start: Any  # llguidance's matcher before the first token
    n_vocab: int
    opening: Callable[[], Opening] | None  # what may come before

    def begin(self, eos_ids: Iterable[int]) -> Allowed:
        """For one sequence; the tokens that may end it."""
        opening = None if self.opening is None else self.opening()
        return Allowed(self.start.deep_copy(), self.n_vocab, frozenset(eos_ids), opening)


class Allowed:
    """What a sequence may go on with. One caller at a time."""

    def __init__(self, matcher: Any, n_vocab: int, eos_ids: frozenset[int], opening: Opening | None) -> None:
        self._matcher = matcher
        self._n_words = _n_words(n_vocab)
        self._eos = _bits(eos_ids, self._n_words)
        self._end = n_vocab // _BITS, np.uint32(1 << n_vocab % _BITS)  # where llguidance says that the text may end
        self._opening = opening
        self._masks = np.empty((1, _n_words(n_vocab + 1)), np.uint32)
        self._at = 0  # the mask of the next token
        self._n_made = 0  # so many masks there are; why no more
        self._error = ValueError("no mask is prepared")

    def prepare(self, proposed: NDArray[np.int32]) -> None:
        """Compute the masks of the next token and of the one after each of those that are proposed."""
        n = 1 + len(proposed)
        if len(self._masks) < n:
            self._masks = np.empty((n, self._masks.shape[1]), np.uint32)
        self._at = self._n_made = n_read = 0
        try:
            for i in range(n):
                self._fill(self._masks[i])
                self._n_made += 1
                if i < len(proposed):
                    self._matcher.consume_token(int(proposed[i]))
                    n_read += 1
        except ValueError as error:  # it may be that after what is proposed nothing can come
            self._error = error
        except Exception as error:  # whoever is beside it goes on
            self._error = ValueError(f"llguidance failed: {error}")
        finally:
            self._matcher.rollback(n_read)

    def after(self, proposed: NDArray[np.int32]) -> NDArray[np.uint32]:
        """The mask of the token after those that are proposed, which may all come."""
        mask = np.empty(self._masks.shape[1], np.uint32)
        for token in proposed:
            self._matcher.consume_token(int(token))
        try:
            self._fill(mask)
        finally:
            self._matcher.rollback(len(proposed))
        return mask[: self._n_words]

    def mask(self) -> NDArray[np.uint32]:
        """((n_vocab + 31) // 32,) The tokens that may come next, a bit each. ValueError: there is none."""
        if self._at >= self._n_made:
            raise self._error
        return self._masks[self._at, : self._n_words]

    def accept(self, token: int) -> bool:
        """The next token, which does not end the text; whether the text is at its end, because nothing may follow."""
        self._at += 1
        if self._opening is not None:
            if self._opening.accept(token):
                return False
            self._opening = None
        if not self._matcher.consume_token(token):
            raise ValueError(f"the text does not fit what it must be: {_reason(self._matcher)}")
        return bool(self._matcher.is_stopped())

    def n_fitting(self, tokens: Sequence[int]) -> int:
        """How many of these tokens may come next, one after the other."""
        if self._opening is not None:
            return 0
        n: int = self._matcher.validate_tokens(list(map(int, tokens)))
        return n

    def _fill(self, mask: NDArray[np.uint32]) -> None:
        opening = self._opening
        if opening is not None and opening.is_free:  # but for the end, before there is any answer
            mask[:] = ~np.uint32(0)
            mask[: self._n_words] &= ~self._eos
            return
        more = () if opening is None else opening.next_tokens()
        if opening is not None and opening.is_in_mark:
            mask[:] = 0
        else:
            self._matcher.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
            if self._matcher.is_stopped() and not self._matcher.is_accepting():
                raise ValueError(f"the text cannot go on: {_reason(self._matcher)}")
            word, bit = self._end
            if mask[word] & bit:
                mask[word] &= ~bit
                mask[: self._n_words] |= self._eos
        for token in more:
            mask[token // _BITS] |= np.uint32(1 << token % _BITS)
        if not mask.any():
            raise ValueError("the vocabulary has no token that the text could go on with")


class Beside:
    """Prepares masks on a thread of its own, while another computes."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    def start(self, sequences: Sequence[tuple[Allowed, NDArray[np.int32]]]) -> Future[None] | None:
        """What is proposed for each; the masks are there once the future is done. None: there is nothing to do."""
        if not sequences:
            return None
        if self._pool is None or self._pid != os.getpid():  # threads do not survive a fork
            self._pool, self._pid = ThreadPoolExecutor(1, "pygpt masks"), os.getpid()
        try:
            return self._pool.submit(_prepare, sequences)
        except RuntimeError:  # the main thread has ended, and with it all pools; other threads may go on
            _prepare(sequences)
            return None


class _Start:
    """A grammar's matcher before the first token."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # of whoever reads the grammar
        self.matcher: Any = None


class Grammars:
    """What texts of one vocabulary must be. llguidance reads the vocabulary when it is first needed. Usable from any
    number of threads."""

    def __init__(self, tokenizer: Tokenizer | None, config: ModelConfig) -> None:
        self._tokenizer, self._config = tokenizer, config
        self._vocabulary: Any = None
        self.begin()
        begin_in_children(self)

    def begin(self) -> None:
        """Without any grammar: all matchers of one share a lock of llguidance's."""
        self._lock = threading.Lock()  # of the table, never held while a grammar is read
        self._reading = threading.Lock()  # of the vocabulary
        self._starts: OrderedDict[tuple[str, str], _Start] = OrderedDict()  # the last used last

    def constraint(self, params: SamplingParams, turn: Turn | None = None) -> Constraint | None:
        """What `params` say that a text must be; None: anything. Of a conversation's turn it is the answer.

        ValueError: llguidance is missing, or refuses it. TokenizerError: the model has no tokenizer.
        """
        given = ((name, getattr(params, name)) for name in CONSTRAINTS)
        name, form = next(((name, form) for name, form in given if form is not None), (None, None))
        if name is None:
            return None
        tokenizer = self._tokenizer
        if tokenizer is None:
            raise TokenizerError(f"{name} needs a tokenizer, and this model has none")
        text = form if isinstance(form, str) else json.dumps(form)
        start = self._start(name, text, tokenizer)
        opening: Callable[[], Opening] | None = None
        if turn is not None and turn.marks is not None:
            opening = lambda: Opening(tokenizer, turn)  # noqa: E731
        return Constraint(start, self._config.n_vocab, opening)

    def _start(self, name: str, form: str, tokenizer: Tokenizer) -> Any:
        """The matcher of a grammar. While one is read, only those wait who want the same."""
        with self._lock:
            start = self._starts.pop((name, form), None) or _Start()
            self._starts[name, form] = start
            if len(self._starts) > _MOST_KEPT:
                self._starts.popitem(last=False)
        try:
            with start.lock:
                if start.matcher is None:
                    start.matcher = self._made(name, form, tokenizer)
                return start.matcher
        except BaseException:
            with self._lock:
                if self._starts.get((name, form)) is start:
                    del self._starts[name, form]
            raise

    def _made(self, name: str, form: str, tokenizer: Tokenizer) -> Any:
        llguidance = _llguidance(name)
        with self._reading:
            if self._vocabulary is None:
                tokens = _Tokens(tokenizer, self._config)
                wrapper = llguidance.TokenizerWrapper(tokens)
                self._vocabulary = llguidance.LLTokenizer(wrapper, n_vocab=len(tokens.tokens))
        try:
            grammar = _grammar(llguidance, name, form)
            limits = llguidance.LLParserLimits(max_lexer_states=_MOST_STATES, max_grammar_size=_MOST_SYMBOLS)
            matcher = llguidance.LLMatcher(self._vocabulary, grammar, log_level=0, limits=limits)
        except (ValueError, RecursionError) as error:  # a lone surrogate, GBNF that is none, a schema of many levels
            raise ValueError(f"{name} is refused: {error!s:.500}") from None
        if not matcher.is_error():
            matcher.compute_bitmask()  # where it may find that nothing can come
        if matcher.is_stopped() and not matcher.is_accepting():
            raise ValueError(f"{name} is refused: {_reason(matcher)}")
        return matcher


class _Tokens:
    """A vocabulary as llguidance wants it, with one more token, which stands for all that end a text."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig) -> None:
        n = config.n_vocab
        self.tokens = [*map(tokenizer.token_bytes, range(n)), b"<end>"]
        self.eos_token_id = n
        special = {*tokenizer.special_tokens.values(), *config.eos_ids, n}
        self.special_token_ids = sorted(i for i in special if i <= n)
        self._encode = tokenizer.encode
        self._by_bytes = {t: i for i, t in enumerate(self.tokens) if t and i not in special}
        self._longest = max(map(len, self._by_bytes), default=0)

    def __call__(self, data: bytes | str) -> list[int]:
        """The tokens of a text that has to come."""
        data = data.encode() if isinstance(data, str) else data
        try:
            ids = self._encode(data.decode(), add_special=False, continues=True)
            if b"".join(self.tokens[i] for i in ids) == data:
                return ids
        except (ValueError, IndexError, TokenizerError):
            pass
        ids = []  # the vocabulary changes texts: what it would write as it stands
        while data:
            n = next((n for n in range(self._longest, 0, -1) if data[:n] in self._by_bytes), 0)
            if not n:
                break
            ids.append(self._by_bytes[data[:n]])
            data = data[n:]
        return ids


def _prepare(sequences: Sequence[tuple[Allowed, NDArray[np.int32]]]) -> None:
    for allowed, proposed in sequences:
        allowed.prepare(proposed)


def _llguidance(name: str) -> Any:
    try:
        import llguidance
    except ImportError:
        raise ValueError(f'{name} needs llguidance: pip install "pygpt-cpu[structured]"') from None
    return llguidance


def _grammar(llguidance: Any, name: str, form: str) -> str:
    """In llguidance's own form."""
    if name == "json_schema":
        check_cost(form)
        made: str = llguidance.LLMatcher.grammar_from_json_schema(closed_schema(form), defaults=_WHITESPACE)
        return made
    formats = {"regex": "regex", "grammar": "grammar", "choices": "choice"}
    other: str = llguidance.grammar_from(formats[name], form)
    return other


def _reason(matcher: Any) -> str:
    """Why there is nothing more to come. Of what llguidance writes, its state is left out."""
    text: str = matcher.get_error()
    if text.startswith("NoExtension") or not text:
        return "there is no such text"
    return text.split("\n<state>")[0].strip()[:500]


def _n_words(n: int) -> int:
    return (n + _BITS - 1) // _BITS


def _bits(ids: Iterable[int], n_words: int) -> NDArray[np.uint32]:
    mask = np.zeros(n_words, np.uint32)
    for i in ids:
        if i < n_words * _BITS:
            mask[i // _BITS] |= np.uint32(1 << i % _BITS)
    return mask
