"""Which tokens merging gives, and in which order: from lists of pairs to the ranks that tiktoken merges by.

Hugging Face's library merges the pairs that a file lists, the first one first; tiktoken merges any two neighbours that
together are a token, the one of lowest rank first. Both give the same ids for every text if the ranks hold those
tokens only that the listed merges make of the token's own bytes, in the order of the merges that do so: for as long as
nothing was merged across a token's ends, the bytes inside it are merged as if they stood alone. So each token is
merged alone, all of them at once.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import TokenizerError
from pygpt.tokenizer.splits import has_all_splits
from pygpt.tokenizer.vocabulary import BYTE_LETTERS, Vocabulary, merge_pairs

Ids = NDArray[np.int64]
_NONE = np.iinfo(np.int64).max


def merged_tokens(v: Vocabulary, texts: Mapping[str, bytes]) -> list[str]:
    """The tokens of more than one byte that merging gives, in the order of the merges that complete them. `texts` are
    their bytes. Where whole pieces are looked up first, tokens may be among them that merging never gives."""
    left, right = merge_pairs(v)
    joined = list(map(operator.add, left, right))
    longer = [t for t in v.tokens if len(t) > 1]
    if v.whole_words and _is_of_ranks(v, left, right, joined, texts):
        return list(dict.fromkeys(joined))
    names = [*BYTE_LETTERS, *longer]  # a letter's index is its byte
    index = dict(zip(names, range(len(names)), strict=True))
    for letter in BYTE_LETTERS:
        if letter not in v.tokens:
            del index[letter]
    try:
        lefts, rights = (np.fromiter(map(index.__getitem__, part), np.int64, len(part)) for part in (left, right))
        if joined == longer[: len(joined)]:  # as in most files: no need to look them up
            results = np.arange(len(joined)) + len(BYTE_LETTERS)
        else:
            results = np.fromiter(map(index.__getitem__, joined), np.int64, len(joined))
    except KeyError as error:
        raise TokenizerError(f"{v.source}: a merge has or gives the token {error}, not in the vocabulary") from None
    table = _Merges(lefts * len(names) + rights, results, len(names))
    if _is_regular(lefts, rights, table):
        return joined
    completed = _merge_alone([texts[t] for t in longer], table)
    order = np.argsort(completed, kind="stable")
    return [longer[i] for i in order[: np.count_nonzero(completed != _NONE)].tolist()]


def _is_of_ranks(
    v: Vocabulary, left: list[str], right: list[str], joined: list[str], texts: Mapping[str, bytes]
) -> bool:
    """Whether the merges that give one token stand together in the list and are all ways to split it into two.

    Then two neighbours that are a token together are in the list, always; and those that give one token are always
    the same two, which are left just before it is whole when it is merged alone. So the tokens have one order.
    """
    given = dict.fromkeys(joined)
    letters = {*left, *right} - given.keys()  # longer parts that no merge gives are whole pieces only
    if not (letters <= {*BYTE_LETTERS} and letters <= v.tokens.keys() and given.keys() <= v.tokens.keys()):
        return False
    tokens = list(given)
    changes = np.fromiter(map(operator.ne, joined[1:], joined), bool, max(len(joined) - 1, 0))
    if np.count_nonzero(changes) != max(len(tokens) - 1, 0):
        return False
    owners = np.cumsum(np.append(False, changes))[: len(joined)]
    n_left = np.fromiter(map(len, left), np.int64, len(left))
    parts = {*texts.values(), *map(bytes, zip(range(256)))}
    return has_all_splits([texts[t] for t in tokens], parts, owners, n_left)


class _Merges:
    """The listed pairs. A pair that is listed twice counts as listed last."""

    def __init__(self, keys: Ids, results: Ids, n: int) -> None:
        order = np.argsort(keys, kind="stable")
        last = np.ones(len(keys), bool)
        last[:-1] = keys[order][1:] != keys[order][:-1]
        self._priorities = order[last]
        self._keys = keys[self._priorities]
        self.results = results
        self.n_tokens = n

    def priorities(self, left: Ids, right: Ids) -> Ids:
        """The place of each pair in the list, or `_NONE`."""
        if not len(self._keys):
            return np.full(len(left), _NONE)
        keys = left * self.n_tokens + right
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._priorities[at], _NONE)


def _is_regular(lefts: Ids, rights: Ids, merges: _Merges) -> bool:
    """Whether each merge gives a token of its own, of tokens that earlier merges gave, and merging that token alone
    ends with it: as in a vocabulary that was learnt by merging. A quick look, which may say no where it is so.

    Backwards in time from the two parts, (x, y) are the neighbours at the border between them; no pair across the
    border may be listed before the merge that ended its time.
    """
    results, n = merges.results, len(merges.results)
    times = np.full(merges.n_tokens, -1)  # the merge that gives each token
    times[results] = np.arange(n)
    first, last = np.zeros((2, merges.n_tokens), np.int64)  # the parts of each token
    first[results], last[results] = lefts, rights
    for parts in (lefts, rights):
        if np.any(times[parts] >= np.arange(n)) or np.any((times[parts] < 0) & (parts >= len(BYTE_LETTERS))):
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


def _merge_alone(tokens: list[bytes], merges: _Merges) -> Ids:
    """Merge each token's bytes alone: the merge that makes it whole, or `_NONE` where it stays in pieces."""
    done = np.full(len(tokens), _NONE)
    symbols = np.frombuffer(b"".join(tokens), np.uint8).astype(np.int64)
    owners = np.repeat(np.arange(len(tokens)), list(map(len, tokens)))
    byte = np.arange(256)
    of_bytes = merges.priorities(np.repeat(byte, 256), np.tile(byte, 256))
    priorities = np.append(of_bytes[symbols[:-1] * 256 + symbols[1:]], _NONE)  # of each symbol with the next
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
