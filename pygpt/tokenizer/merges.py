"""Which tokens merging gives, and in which order: from lists of pairs to the ranks that tiktoken merges by.

Hugging Face's library merges the pairs that a file lists, the first one first; tiktoken merges any two neighbours that
together are a token, the one of lowest rank first. Both give the same ids for every text if the ranks hold those
tokens only that the listed merges make of the token's own bytes, in the order of the merges that do so: for as long as
nothing was merged across a token's ends, the bytes inside it are merged as if they stood alone. So each token is
merged alone, all of them at once.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import TokenizerError
from pygpt.tokenizer.splits import code_points, has_all_splits

Ids = NDArray[np.int64]
_NONE = np.iinfo(np.int64).max
_FEW = 1_000_000  # letters of parts of tokens


@dataclass(frozen=True)
class Merges:
    """The tokens of a vocabulary and the pairs of them that a file lists, the first merged first."""

    source: str  # the file, for messages
    letters: Sequence[str]  # what a text is made of: byte letters, or the vocabulary's characters
    tokens: Mapping[str, int]  # those letters, some perhaps missing, and longer ones
    left: Sequence[str]
    right: Sequence[str]

    def merged_tokens(self, *, whole: bool) -> list[str]:
        """The tokens of more than one letter that merging gives, in the order of the merges that complete them. With
        `whole` tokens may be among them that merging never gives."""
        joined = list(map(operator.add, self.left, self.right))
        if whole and (by_rank := self._by_rank(joined)) is not None:
            return by_rank
        longer = [t for t in self.tokens if len(t) > 1]
        table = self._table(joined, longer)
        if _is_regular(table, len(self.letters)):
            return joined
        completed = _merge_alone(longer, self.letters, table)
        order = np.argsort(completed, kind="stable")
        return [longer[i] for i in order[: np.count_nonzero(completed != _NONE)].tolist()]

    def _table(self, joined: list[str], longer: list[str]) -> _Table:
        names = [*self.letters, *longer]  # in byte letters, a letter's index is its byte
        index = {name: i for i, name in enumerate(names) if name in self.tokens}
        try:
            left, right = (
                np.fromiter(map(index.__getitem__, part), np.int64, len(part)) for part in (self.left, self.right)
            )
            if joined == longer[: len(joined)]:  # as in most files: no need to look them up
                results = np.arange(len(joined)) + len(self.letters)
            else:
                results = np.fromiter(map(index.__getitem__, joined), np.int64, len(joined))
        except KeyError as error:
            raise TokenizerError(
                f"{self.source}: a merge has or gives the token {error}, not in the vocabulary"
            ) from None
        return _Table(left, right, results, len(names))

    def _by_rank(self, joined: list[str]) -> list[str] | None:
        """The merged tokens, if the merges that give one are all ways to split it into two; else None.

        Then two neighbours that are a token together are in the list, always; and those that give one token are always
        the same two, which are left just before it is whole when it is merged alone. So where the merges of one token
        stand together in the list, its place is known; a few whose merges do not are merged alone.
        """
        given = dict.fromkeys(joined)
        letters = {*self.left, *self.right} - given.keys()  # longer parts that no merge gives are whole pieces only
        known = self.tokens.keys()
        if not (letters <= {*self.letters} and letters <= known and given.keys() <= known):
            return None
        tokens = list(given)
        changes = np.fromiter(map(operator.ne, joined[1:], joined), bool, max(len(joined) - 1, 0))
        starts = np.flatnonzero(np.append(True, changes)[: len(joined)])
        owners = np.cumsum(np.append(False, changes))[: len(joined)]
        if len(starts) > len(tokens):  # some stand in several places
            index = dict(zip(tokens, range(len(tokens)), strict=True))
            owners = np.fromiter(map(index.__getitem__, joined), np.int64, len(joined))
        n_groups = np.bincount(owners[starts], minlength=len(tokens))
        scattered = [tokens[i] for i in np.flatnonzero(n_groups > 1).tolist()]
        if sum(len(t) ** 2 for t in scattered) > _FEW:
            return None
        n_left = np.fromiter(map(len, self.left), np.int64, len(self.left))
        if not has_all_splits(tokens, {*known, *self.letters}, owners, n_left):
            return None
        if not scattered:
            return tokens
        places = np.full(len(tokens), _NONE)
        places[owners[starts]] = starts
        places[n_groups > 1] = self._merged_alone(scattered, joined)
        order = np.argsort(places, kind="stable")
        return [tokens[i] for i in order[: np.count_nonzero(places != _NONE)].tolist()]

    def _merged_alone(self, tokens: list[str], joined: list[str]) -> Ids:
        """What `_merge_alone` gives for a few tokens."""
        inside = {t[a:b] for t in tokens for a in range(len(t)) for b in range(a + 1, len(t) + 1)}
        at = [i for i, token in enumerate(joined) if token in inside]
        left, right, some = ([part[i] for i in at] for part in (self.left, self.right, joined))
        few = Merges(self.source, self.letters, self.tokens, left, right)
        completed = _merge_alone(tokens, self.letters, few._table(some, [t for t in inside if len(t) > 1]))
        return np.where(completed == _NONE, _NONE, np.append(at, 0)[np.where(completed == _NONE, -1, completed)])


class _Table:
    """The listed pairs. A pair that is listed twice counts as listed last."""

    def __init__(self, left: Ids, right: Ids, results: Ids, n: int) -> None:
        keys = left * (n + 1) + right  # n: what is no token
        order = np.argsort(keys, kind="stable")
        last = np.ones(len(keys), bool)
        last[:-1] = keys[order][1:] != keys[order][:-1]
        self._priorities = order[last]
        self._keys = keys[self._priorities]
        self.left, self.right, self.results = left, right, results
        self.n_tokens = n

    def priorities(self, left: Ids, right: Ids) -> Ids:
        """The place of each pair in the list, or `_NONE`."""
        if not len(self._keys):
            return np.full(len(left), _NONE)
        keys = left * (self.n_tokens + 1) + right
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._priorities[at], _NONE)


def _is_regular(merges: _Table, n_letters: int) -> bool:
    """Whether each merge gives a token of its own, of tokens that earlier merges gave, and merging that token alone
    ends with it: as in a vocabulary that was learnt by merging. A quick look, which may say no where it is so.

    Backwards in time from the two parts, (x, y) are the neighbours at the border between them; no pair across the
    border may be listed before the merge that ended its time.
    """
    lefts, rights, results, n = merges.left, merges.right, merges.results, len(merges.results)
    times = np.full(merges.n_tokens, -1)  # the merge that gives each token
    times[results] = np.arange(n)
    first, last = np.zeros((2, merges.n_tokens), np.int64)  # the parts of each token
    first[results], last[results] = lefts, rights
    for parts in (lefts, rights):
        if np.any(times[parts] >= np.arange(n)) or np.any((times[parts] < 0) & (parts >= n_letters)):
            return False
    if np.any(times[results] != np.arange(n)):
        return False
    x, y = lefts, rights
    while len(x):
        x_is_later = times[x] > times[y]  # of two that are equal the left one is merged first
        until = np.maximum(times[x], times[y])
        x, y = np.where(x_is_later, last[x], x), np.where(x_is_later, y, first[y])
        merged = until >= 0
        x, y, until, x_is_later = x[merged], y[merged], until[merged], x_is_later[merged]
        if np.any(merges.priorities(x, y) < until + ~x_is_later):  # and so is a pair across the border before y's
            return False
    return True


def _merge_alone(tokens: list[str], letters: Sequence[str], merges: _Table) -> Ids:
    """Merge each token's letters alone: the merge that makes it whole, or `_NONE` where it stays in pieces."""
    done = np.full(len(tokens), _NONE)
    symbol_of = np.full(0x110000, merges.n_tokens)
    symbol_of[list(map(ord, letters))] = np.arange(len(letters))
    symbols = symbol_of[code_points(tokens)]
    owners = np.repeat(np.arange(len(tokens)), list(map(len, tokens)))
    priorities = np.append(merges.priorities(symbols[:-1], symbols[1:]), _NONE)  # of each symbol with the next
    priorities[:-1][owners[1:] != owners[:-1]] = _NONE
    while len(symbols):
        starts = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
        counts = np.diff(np.r_[starts, len(symbols)])
        least = np.minimum.reduceat(priorities, starts)
        chosen = np.flatnonzero(priorities == np.repeat(np.where(least == _NONE, -1, least), counts))
        chosen = chosen[np.r_[True, owners[chosen][1:] != owners[chosen][:-1]][: len(chosen)]]  # each token's leftmost
        whole = (counts == 2) & (least != _NONE)
        done[owners[starts[whole]]] = least[whole]
        symbols[chosen] = merges.results[priorities[chosen]]
        keep = np.repeat((least != _NONE) & ~whole, counts)
        keep[chosen + 1] = False
        at = np.cumsum(keep)[chosen[keep[chosen]]] - 1
        symbols, owners, priorities = symbols[keep], owners[keep], priorities[keep]
        for first in (at[at > 0] - 1, at):  # the pairs that a new symbol is in
            same = first + 1 < len(symbols)
            pairs = first[same][owners[first[same]] == owners[first[same] + 1]]
            priorities[first] = _NONE
            priorities[pairs] = merges.priorities(symbols[pairs], symbols[pairs + 1])
    return done
