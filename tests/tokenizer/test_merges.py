"""Which tokens merging gives: the quick look against merging each token alone, and both against a plain loop."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pygpt.tokenizer import merges
from pygpt.tokenizer.vocabulary import BYTE_LETTERS, Vocabulary


def merge(token: str, priorities: dict[tuple[str, str], int]) -> tuple[list[str], int]:
    """The pieces in the end, and the last merge: the first listed pair, the leftmost of equal ones, until none is."""
    pieces, last = list(token), -1
    while True:
        neighbours = enumerate(itertools.pairwise(pieces))
        found = [(priorities[pair], at) for at, pair in neighbours if pair in priorities]
        if not found:
            return pieces, last
        last, at = min(found)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]


def expected(tokens: Sequence[str], pairs: list[tuple[str, str]]) -> list[str]:
    priorities = {pair: i for i, pair in enumerate(pairs)}
    ends = {token: merge(token, priorities) for token in tokens if len(token) > 1}
    return sorted((t for t, (pieces, _) in ends.items() if pieces == [t]), key=lambda t: ends[t][1])


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**64), n_letters=st.integers(1, 4), learnt=st.booleans())
def test_merged_tokens(seed: int, n_letters: int, learnt: bool) -> None:
    r = random.Random(seed)
    pool, pairs = list("abcd"[:n_letters]), []
    for _ in range(r.randint(0, 14)):
        left, right = r.choice(pool), r.choice(pool)
        if not learnt or left + right not in pool:  # as learning does: each merge gives a new token
            pairs.append((left, right))
            pool.append(left + right)
    if not learnt:
        r.shuffle(pairs)
    tokens = {t: i for i, t in enumerate(dict.fromkeys([*BYTE_LETTERS, *pool, "dcba"]))}
    v = Vocabulary(source="x", tokens=tokens, merges="\n".join(map(" ".join, pairs)), splits=())
    got = merges.merged_tokens(v, {t: t.encode() for t in tokens})
    assert got == expected(list(tokens), pairs)


def test_the_quick_look_knows_learnt_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merges, "_merge_alone", None)
    for pairs in ([], [("a", "b"), ("ab", "c"), ("a", "a"), ("aa", "a"), ("aa", "aa")]):
        tokens = {t: i for i, t in enumerate([*BYTE_LETTERS, *map("".join, pairs)])}
        v = Vocabulary(source="x", tokens=tokens, merges="\n".join(map(" ".join, pairs)), splits=())
        assert merges.merged_tokens(v, {}) == ["".join(pair) for pair in pairs]
