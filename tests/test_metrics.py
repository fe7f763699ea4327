"""`pygpt.metrics`: values known from elsewhere, intervals that hold what they should, and empty input by its name."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pygpt import metrics


def test_wilsons_interval() -> None:
    """The worked values of Newcombe 1998, table I, method 3."""
    found = metrics.accuracy([True] * 81 + [False] * 182)
    assert (round(found.low, 4), round(found.high, 4), found.n) == (0.2553, 0.3662, 263)
    none = metrics.accuracy([False] * 20)
    assert (none.value, none.low, round(none.high, 4)) == (0.0, 0.0, 0.1611)
    assert metrics.accuracy([True] * 29).high == 1.0


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Of 200 draws of 60 examples, 95% would be 190; fewer than 176 have a probability below 1e-4."""
    random = np.random.default_rng(5)
    held = {"accuracy": 0, "mean": 0}
    for seed in range(200):
        hit = metrics.accuracy((random.random(60) < 0.3).tolist())
        held["accuracy"] += hit.low <= 0.3 <= hit.high
        plain = metrics.mean(random.normal(2, 3, 60).tolist(), seed=seed)
        held["mean"] += plain.low <= 2 <= plain.high
    assert min(held.values()) >= 176


def test_a_mean_with_weights_is_a_ratio_of_sums() -> None:
    """Log-probabilities of two documents of 10 and 30 words."""
    found = metrics.mean([-40.0, -60.0], [10, 30], then=metrics.perplexity)
    assert found.value == math.exp(2.5)
    assert (found.low, found.high) == (math.exp(2.0), math.exp(4.0))
    assert found == metrics.mean([-40.0, -60.0], [10, 30], then=metrics.perplexity)
    assert metrics.mean([-math.log(2) * 8], [4], then=metrics.bits).value == pytest.approx(2.0)
    assert metrics.mean([3, 3, 3]) == metrics.Estimate(3.0, 3.0, 3.0, 3)
    assert metrics.perplexity(-1e4) == math.inf


def test_answers_are_compared_as_squad_does() -> None:
    assert metrics.normalized("  The  cat's (an) End. ") == "cats end"
    assert metrics.exact_match("The 308!", ["300", "308"]) == 1.0
    assert metrics.exact_match("308 points", ["308"]) == 0.0
    assert metrics.f1("308 points", ["308", "x"]) == pytest.approx(2 / 3)
    assert metrics.f1("b b a", ["b a a"]) == pytest.approx(2 / 3)  # the article is no word
    assert metrics.f1("", ["the"]) == 1.0  # neither has a word
    assert metrics.f1("", ["x"]) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.accuracy([]), "accuracy needs at least one answer"),
        (lambda: metrics.mean([]), "a mean needs at least one value"),
        (lambda: metrics.mean([1.0], [1.0, 2.0]), "equally many"),
        (lambda: metrics.mean([1.0], [0.0]), "positive"),
        (lambda: metrics.mean([math.nan]), "finite"),
        (lambda: metrics.mean([1e308, 1e308]), "finite"),
        (lambda: metrics.mean([1.0, 1.0], [1e308, 1e308]), "finite"),
        (lambda: metrics.exact_match("x", []), "references must hold at least one"),
        (lambda: metrics.f1("x", []), "references must hold at least one"),
        (lambda: metrics.accuracy([True], confidence=95), "between 0 and 1"),
    ],
)
def test_what_has_no_value_is_named(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=message):
        call()


def test_one_text_is_no_list_of_references() -> None:
    with pytest.raises(TypeError, match="references must be a list"):
        metrics.f1("x", "x")  # each of its letters would be one
