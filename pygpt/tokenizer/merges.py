"""Which tokens merging gives, and in which order: from lists of pairs to the ranks that tiktoken merges by.

Hugging Face's library merges the pairs that a file lists, the first one first; tiktoken merges any two neighbours that
together are a token, the one of lowest rank first. Both give the same ids for every text if the ranks hold those
tokens only that the listed merges make of the token's own bytes, in the order of the merges that do so: for as long as
nothing was merged across a token's ends, the bytes inside it are merged as if they stood alone. So each token is
merged alone, all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import TokenizerError
from pygpt.tokenizer.vocabulary import BYTE_LETTERS, Vocabulary, merge_pairs

Ids = NDArray[np.int64]
_NONE = np.iinfo(np.int64).max


def merged_tokens(v: Vocabulary, texts: Mapping[str, bytes]) -> list[str]:
    """The tokens of more than one byte that merging gives, in the order of the merges that complete them. `texts` are
    their bytes."""
    left, right = merge_pairs(v)
    longer = [t for t in v.tokens if len(t) > 1]
    names = [*BYTE_LETTERS, *longer]  # a letter's index is its byte
    index = {t: i for i, t in enumerate(names) if t in v.tokens}
    try:
        results = [index[a + b] for a, b in zip(left, right, strict=True)]
        keys = np.fromiter(map(index.__getitem__, left), np.int64, len(left)) * len(names)
        keys += np.fromiter(map(index.__getitem__, right), np.int64, len(right))
    except KeyError as error:
        raise TokenizerError(f"{v.source}: a merge has or gives the token {error}, not in the vocabulary") from None
    table = _Merges(keys, np.array(results, np.int64), len(names))
    completed = _merge_alone([texts[t] for t in longer], table)
    order = np.argsort(completed, kind="stable")
    return [longer[i] for i in order[: np.count_nonzero(completed != _NONE)].tolist()]


class _Merges:
    """The listed pairs. A pair that is listed twice counts as listed last."""

    def __init__(self, keys: Ids, results: Ids, n: int) -> None:
        order = np.argsort(keys, kind="stable")
        last = np.ones(len(keys), bool)
        last[:-1] = keys[order][1:] != keys[order][:-1]
        self._priorities = order[last]
        self._keys = keys[self._priorities]
        self.results = results
        self._n = n

    def priorities(self, left: Ids, right: Ids) -> Ids:
        """The place of each pair in the list, or `_NONE`."""
        if not len(self._keys):
            return np.full(len(left), _NONE)
        keys = left * self._n + right
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._priorities[at], _NONE)


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
