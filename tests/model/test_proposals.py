"""What is proposed and how much of it: where a text stood before, and what pays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pygpt.generation.lookup import LONGEST, SHORTEST, Lookup
from pygpt.generation.pace import Pace


@pytest.mark.parametrize("n_vocab", [2, 3, 10])
def test_the_longest_match_is_found(n_vocab: int) -> None:
    rng = np.random.default_rng(n_vocab)
    lookup, text = Lookup(), rng.integers(0, n_vocab, 60).tolist()
    for n, token in enumerate(text):
        lookup.read([token])
        assert lookup.n_read == n + 1
        read = text[: n + 1]
        lengths = {at: common_end(read[:at], read) for at in range(1, n + 1)}
        longest = max((length for length in lengths.values() if length >= SHORTEST), default=0)
        at, n_equal = lookup.find()
        assert (at == 0) == (longest == 0)
        if at:
            assert n_equal == lengths[at]
            assert n_vocab < 10 or n_equal == longest  # of few different tokens there are more places than are compared
            ahead = lookup.after(at, 7)
            assert [*read[at:], *ahead][:7] == ahead  # it repeats itself where the text ends


def common_end(a: Sequence[int], b: Sequence[int]) -> int:
    equal = (x == y for x, y in zip(reversed(a), reversed(b), strict=False))
    return min(next((i for i, same in enumerate(equal) if not same), min(len(a), len(b))), LONGEST)


def test_proposals_get_as_long_as_they_pay() -> None:
    pace = Pace([0.5])
    assert pace.length(0, 15) == 5  # 2**-5 is what a row is taken to cost
    for _ in range(60):
        pace.measure(1, 0, 0.010, 0)
        pace.drew()
        pace.measure(1, 5, 0.011, 0)  # a row costs 2%
        for _ in range(5):
            pace.judge(0, True)
            pace.drew()
        pace.drew()
    assert pace.length(0, 15) == 15
    for _ in range(100):
        pace.judge(0, False)
    assert pace.length(0, 15) <= 1


def test_dear_rows_are_not_proposed_until_tokens_are_likely() -> None:
    pace = Pace([0.5])
    for _ in range(60):
        pace.measure(1, 0, 0.010, 0)
        pace.drew()
        pace.measure(1, 1, 0.017, 0)  # a row costs 70%
        pace.drew()
    assert [pace.length(0, 15) for _ in range(5)] == [0] * 5
    for _ in range(60):
        pace.judge(0, True)
    assert pace.length(0, 15) > 0
    assert pace.length(0, 15, seconds=0.010) == 0  # where finding one takes a step of its own


def test_what_was_given_up_is_tried_again() -> None:
    pace = Pace([0.4])
    for _ in range(200):
        pace.judge(0, False)
    assert pace.length(0, 15) == 0
    assert any(pace.length(0, 15) for _ in range(400))
