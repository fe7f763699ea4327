"""Proposals from the text itself: what came where its end stood before."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from weakref import WeakKeyDictionary

from pygpt.generation.pace import Pace
from pygpt.generation.speculate import Growing, Speculator

SHORTEST, LONGEST = 2, 16  # tokens that have to be equal, and after which no more are compared
_CANDIDATES = 8  # places that are compared, the newest first


class Lookup:
    """The pairs of tokens of a text, and where each stood last, chained to where it stood before, as deflate finds what
    repeats (RFC 1951, section 4): one more token is a constant amount of work."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._newest: dict[int, int] = {}  # where what followed a pair stands
        self._before: list[int] = [0, 0]  # by where what followed a pair stands: the same for the one before; 0: none

    @property
    def n_read(self) -> int:
        """How many tokens the text has."""
        return len(self._tokens)

    def read(self, more: Iterable[int]) -> None:
        """The text goes on."""
        tokens, newest, before = self._tokens, self._newest, self._before
        for token in more:
            at = len(tokens)
            if at >= SHORTEST:
                pair = _pair(tokens)
                before.append(newest.get(pair, 0))
                newest[pair] = at
            tokens.append(token)

    def find(self) -> tuple[int, int]:
        """Where what followed the end of the text stands, at the newest of the places where most tokens before it are
        equal, and how many are; (0, 0): nowhere."""
        tokens, n = self._tokens, len(self._tokens)
        if n <= SHORTEST:
            return 0, 0
        at, found, longest = self._newest.get(_pair(tokens), 0), 0, SHORTEST - 1
        for _ in range(_CANDIDATES):
            if not at or longest >= LONGEST:
                break
            length = SHORTEST
            while length < min(at, LONGEST) and tokens[at - 1 - length] == tokens[n - 1 - length]:
                length += 1
            if length > longest:
                found, longest = at, length
            at = self._before[at]
        return (found, longest) if found else (0, 0)

    def after(self, at: int, n: int) -> list[int]:
        """The n tokens from `at` on; where the text ends, it goes on as it did from `at` on."""
        tokens = self._tokens[at : at + n]
        while len(tokens) < n:
            tokens += tokens[: n - len(tokens)]
        return tokens


def _pair(tokens: list[int]) -> int:
    """The last two as one number: tuples would keep the garbage collector busy."""
    return tokens[-2] << 32 | tokens[-1]


class PromptSpeculator(Speculator):
    """Proposes what came after the last tokens where they stood before, in the prompt or after it: prompt look-up
    decoding (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding)."""

    def __init__(self) -> None:
        super().__init__(Pace([n / (n + 2) for n in range(LONGEST + 1)]))  # by how many tokens before it are equal
        self._lookups: WeakKeyDictionary[Growing, Lookup] = WeakKeyDictionary()

    def propose(self, sequences: Sequence[Growing]) -> float:
        """See `Speculator`."""
        begun = time.perf_counter()
        for sequence in sequences:
            lookup = self._lookups.get(sequence)
            if lookup is None:
                lookup = self._lookups[sequence] = Lookup()
            lookup.read(sequence.tokens[lookup.n_read :].tolist())
            at, n_equal = lookup.find()
            if at and (n := self.pace.length(n_equal, self.most(sequence, len(sequences)))):
                sequence.propose(lookup.after(at, n), n_equal)
        return time.perf_counter() - begun
