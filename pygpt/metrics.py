"""How good answers are: accuracy, exact match, F1, perplexity, and how far chance may have moved each of them."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import check_type

_RESAMPLES = 2000  # the ends of an interval move by a few hundredths of its width from one seed to another
_MOST_DRAWS = 2**20  # that are in memory at once
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric over n examples, and an interval that holds the true value of the examples' source with the confidence
    that was asked for."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


def accuracy(hits: Iterable[bool], *, confidence: float = 0.95) -> Estimate:
    """The share of answers that are right, with Wilson's interval for a binomial proportion (Wilson 1927), which stays
    between 0 and 1 and is not empty where all are right.

    ValueError: no answers, or a confidence outside 0 to 1.
    """
    from statistics import NormalDist  # which few need, and all would wait for

    right = [bool(hit) for hit in hits]
    n = _count(right, "accuracy", "answer")
    z = NormalDist().inv_cdf(0.5 + _checked(confidence) / 2)
    share = sum(right) / n
    center = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(share, max(0.0, min(share, center - half)), min(1.0, max(share, center + half)), n)


def mean(
    values: Iterable[float],
    weights: Iterable[float] | None = None,
    *,
    then: Callable[[float], float] = lambda x: x,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """sum(values) / sum(weights) over n examples, the plain mean without weights, and what `then` makes of it: with
    log-probabilities of documents, their lengths in words, and `perplexity`, it is the perplexity of a word.

    The interval is that of the percentile bootstrap (Efron 1979): examples are drawn anew with replacement 2000 times;
    `then` must be monotonic. The same seed gives the same interval.

    ValueError: no values, not as many weights, weights that are not positive, values that are not finite, or whose sum
    is not.
    """
    numbers = np.array([*values], np.float64)
    n = _count(numbers, "a mean", "value")
    shares = np.ones(n) if weights is None else np.array([*weights], np.float64)
    if numbers.shape != shares.shape or numbers.ndim != 1:
        raise ValueError(f"values and weights must be equally many numbers, not {numbers.shape} and {shares.shape}")
    # No sum of n that are drawn is more than n times the largest.
    largest = [n * float(np.abs(array).max()) for array in (numbers, shares)]
    if not np.isfinite(largest).all() or not (shares > 0).all():
        raise ValueError("values must be finite, their sum too, and weights positive, to have a mean")
    tail = (1 - _checked(confidence)) / 2
    resampled = np.sort(_resampled(numbers, shares, seed))
    value = then(math.fsum(numbers.tolist()) / math.fsum(shares.tolist()))
    ends = sorted(then(float(end)) for end in np.quantile(resampled, [tail, 1 - tail]))
    return Estimate(value, min(value, ends[0]), max(value, ends[1]), n)


def normalized(text: str) -> str:
    """An answer as SQuAD's evaluation compares it: lower case, no ASCII punctuation, no articles, single spaces."""
    check_type("text", text, str)
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1 if the answer is one of the references, once all are `normalized`; else 0 (Rajpurkar et al. 2016).
    ValueError: no references."""
    return float(normalized(prediction) in {normalized(r) for r in _references(references)})


def f1(prediction: str, references: Sequence[str]) -> float:
    """The harmonic mean of precision and recall over the words of `normalized` texts, each counted as often as it
    stands there; the best of the references (Rajpurkar et al. 2016). Texts without words agree with each other alone.
    ValueError: no references."""
    return max(_f1(normalized(prediction).split(), normalized(r).split()) for r in _references(references))


def perplexity(mean: float) -> float:
    """exp(-mean) of a mean log-probability in nats; infinity where that is more than a float can hold."""
    try:
        return math.exp(-mean)
    except OverflowError:
        return math.inf


def bits(mean: float) -> float:
    """Of a mean log-probability in nats: with bytes as weights, the bits per byte."""
    return -mean / math.log(2)


def _f1(words: list[str], wanted: list[str]) -> float:
    if not words or not wanted:
        return float(words == wanted)
    n_common = (Counter(words) & Counter(wanted)).total()
    return 2 * n_common / (len(words) + len(wanted))


def _resampled(values: NDArray[np.float64], weights: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """(_RESAMPLES,): the weighted means of as many examples, drawn with replacement."""
    random = np.random.default_rng(seed)
    n = len(values)
    means: list[NDArray[np.float64]] = []
    step = max(1, _MOST_DRAWS // n)
    for begin in range(0, _RESAMPLES, step):
        drawn = random.integers(n, size=(min(step, _RESAMPLES - begin), n))
        means.append(values[drawn].sum(axis=1) / weights[drawn].sum(axis=1))
    return np.concatenate(means)


def _references(references: Sequence[str]) -> Sequence[str]:
    if isinstance(references, str) or not isinstance(references, Sequence):
        raise TypeError(f"references must be a list or tuple of texts, not {type(references).__name__}")
    if not references:
        raise ValueError("references must hold at least one answer to compare with")
    return references


def _count(values: Sequence[object] | NDArray[np.float64], metric: str, unit: str) -> int:
    if not len(values):
        raise ValueError(f"{metric} needs at least one {unit}, and there are none")
    return len(values)


def _checked(confidence: float) -> float:
    if not isinstance(confidence, (int, float)) or not 0 < confidence < 1:
        raise ValueError(f"confidence must be a number between 0 and 1, not {confidence!r:.80}")
    return confidence
