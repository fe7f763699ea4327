"""How long a proposal should be: as long as the next token is likely enough to be right to be worth a row."""

from __future__ import annotations

from collections.abc import Sequence

_ROW = 1 / 32  # of a plain step's time: what one more row is taken to cost until it was measured
_NEWEST = 1 / 8  # the weight of the newest measurement
_LONGEST_STEP = 4.0  # as many times as long as a plain one: what is longer, others on the machine took
_TRUST = 3.0  # how many observations a prior counts as
_FADE = 0.98  # what is left of earlier observations at each new one, and at each chance that was not taken


class Pace:
    """Learns, while text is written, how often proposals of each confidence are right, and what a row of a step costs.

    One more row pays if the probability that its token is right is above the seconds that it takes times the tokens a
    second that come without it (Dinkelbach 1967: maximising a ratio, here tokens by time). So a text without
    repetition, or a machine where rows are dear, ends up with hardly any proposals, and nothing about either has to be
    known beforehand. The times decide how much is proposed, never which tokens come.
    """

    def __init__(self, priors: Sequence[float]) -> None:
        """`priors`: by confidence, the probability that a token is right, where nothing was observed yet."""
        self._priors = priors
        self._right = [0.0] * len(priors)
        self._all = [0.0] * len(priors)
        self._step = 0.0  # seconds of a step without proposals; 0: not measured yet
        self._row = _ROW  # of it
        self._rate = 0.0  # tokens a second
        self._n_sequences = self._n_drawn = 0
        self._seconds = 0.0  # of the newest step

    def length(self, confidence: int, most: int, seconds: float = 0.0) -> int:
        """How many tokens to propose, at most `most`, if the first has this confidence and each the next higher one.
        `seconds` is what it takes to find one of them."""
        least = (self._row * self._step + seconds) * self._rate if self._rate else _ROW
        chance, n = 1.0, 0
        while n < most:
            chance *= self.probability(confidence + n)
            if chance < least:
                break
            n += 1
        if n == 0:
            self._fade(confidence)
        return n

    def probability(self, confidence: int) -> float:
        """That a token of this confidence is right, if all before it are."""
        i = min(confidence, len(self._priors) - 1)
        return (self._right[i] + _TRUST * self._priors[i]) / (self._all[i] + _TRUST)

    def judge(self, confidence: int, is_right: bool) -> None:
        """A proposed token of this confidence, all before it being right, was right or not."""
        i = self._fade(confidence)
        self._right[i] += is_right
        self._all[i] += 1

    def drew(self) -> None:
        """A token was drawn."""
        self._n_drawn += 1

    def measure(self, n_sequences: int, n_proposed: int, seconds: float, seconds_before: float) -> None:
        """A step that computed a row for each sequence, and the proposals' rows, took so long, and finding them."""
        if self._n_drawn and self._seconds:
            self._rate = _newer(self._rate, self._n_drawn / self._seconds)
        self._n_drawn = 0
        if n_sequences != self._n_sequences:
            self._n_sequences, self._step = n_sequences, 0.0
        if self._step:
            seconds = min(seconds, _LONGEST_STEP * self._step)
        self._seconds = seconds + seconds_before
        if n_proposed == 0:
            self._step = _newer(self._step, seconds)
        elif self._step:
            self._row = _newer(self._row, min(max(seconds / self._step - 1, 0.0) / n_proposed, 1.0))
        else:
            self._step = seconds / (1 + self._row * n_proposed)

    def _fade(self, confidence: int) -> int:
        """What is long ago counts less and less: what was given up is tried again some time."""
        i = min(confidence, len(self._priors) - 1)
        self._right[i] *= _FADE
        self._all[i] *= _FADE
        return i


def _newer(known: float, measured: float) -> float:
    return known + (measured - known) * _NEWEST if known else measured
