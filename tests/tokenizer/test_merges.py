"""Which tokens merging gives: the quick look against merging each token alone, and both against a plain loop."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pygpt.tokenizer import merges
from pygpt.tokenizer.byte_level import BYTE_LETTERS


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


def merged_tokens(tokens: dict[str, int], pairs: list[tuple[str, str]], *, whole: bool) -> list[str]:
    left, right = [left for left, _ in pairs], [right for _, right in pairs]
    return merges.Merges("x", BYTE_LETTERS, tokens, left, right).merged_tokens(whole=whole)


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
    got = merged_tokens(tokens, pairs, whole=False)
    assert got == expected(list(tokens), pairs)


def test_the_quick_look_knows_learnt_merges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merges, "_merge_alone", None)
    for pairs in ([], [("a", "b"), ("ab", "c"), ("a", "a"), ("aa", "a"), ("aa", "aa")]):
        tokens = {t: i for i, t in enumerate([*BYTE_LETTERS, *map("".join, pairs)])}
        assert merged_tokens(tokens, pairs, whole=False) == ["".join(pair) for pair in pairs]


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**64), n_letters=st.integers(1, 3))
def test_merges_made_of_ranks(seed: int, n_letters: int) -> None:
    """All splits of each token, in any order: tokens that merging gives come in its order. With one split missing, the
    list says what is merged."""
    r = random.Random(seed)
    words = dict.fromkeys("".join(r.choices("abc"[:n_letters], k=r.randint(2, 5))) for _ in range(r.randint(0, 14)))
    tokens = {t: i for i, t in enumerate([*BYTE_LETTERS, *words])}
    pairs = []
    for t in words:
        splits = [(t[:n], t[n:]) for n in range(1, len(t)) if t[:n] in tokens and t[n:] in tokens]
        pairs += r.sample(splits, len(splits))
    for gone in (None, *range(len(pairs))):
        some = [pair for i, pair in enumerate(pairs) if i != gone]
        got = merged_tokens(tokens, some, whole=True)
        merged = expected(list(tokens), some)
        assert [t for t in got if t in merged] == merged
        if gone is not None:
            assert got == merged or (len(some) < len(pairs) and "".join(pairs[gone]) not in got)


def test_the_quick_look_knows_merges_made_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merges, "_merge_alone", None)
    words = ("ab", "abc", "bc", "abcd", "dd", "ddd")
    tokens = {t: i for i, t in enumerate([*BYTE_LETTERS, *words])}
    pairs = [(t[:n], t[n:]) for t in words for n in range(1, len(t)) if t[:n] in tokens and t[n:] in tokens]
    assert merged_tokens(tokens, pairs, whole=True) == [*words]


def test_a_part_that_no_merge_gives_is_not_merged() -> None:
    tokens = {t: i for i, t in enumerate([*BYTE_LETTERS, "ab", "abc"])}
    assert merged_tokens(tokens, [("ab", "c")], whole=True) == []
