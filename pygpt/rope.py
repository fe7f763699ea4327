"""Rotary positions: their frequencies, and how these are stretched to longer contexts."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

from pygpt._checks import check_at_least, check_positive
from pygpt._json import shown
from pygpt.errors import ConfigError

RopeScalingKind = Literal["linear", "dynamic", "llama3", "yarn", "longrope"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """How rotary frequencies are stretched to a longer context than the `original_n_ctx` that a model was trained with.

        linear     all are divided by `factor` (Chen et al. 2023, arXiv:2306.15595)
        llama3     the low ones are divided by `factor`, the high ones kept, those between blended: by the turns that
                   they make in the original context, from `low_freq_factor` to `high_freq_factor` (Llama 3.1's release)
        yarn       the same blend over the pairs' numbers, from the pair that makes `beta_fast` turns to the one that
                   makes `beta_slow`, which are rounded outward if `truncate`; cosines and sines are multiplied by
                   `attention_factor`, 0.1 ln(factor) + 1 where it is None (Peng et al. 2023, arXiv:2309.00071)
        longrope   each is divided by its own of `short_factor`, or of `long_factor` where the context is longer than
                   the original; cosines and sines are multiplied by `attention_factor`, where it is None
                   sqrt(1 + ln(factor) / ln(original_n_ctx)) (Ding et al. 2024, arXiv:2402.13753)
        dynamic    theta grows so that the longest wave becomes factor n_ctx / original_n_ctx - (factor - 1) times as
                   long ("Dynamic NTK" in arXiv:2309.00071)

    The formulas are those of modeling_rope_utils.py in Hugging Face transformers 5, where the papers leave them open.

    The last two depend on the context, `n_ctx`, which may be up to factor * original_n_ctx tokens; None: one that is no
    longer than the original. Every position has the frequencies for the whole context, however short its sequence is.
    """

    kind: RopeScalingKind
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_n_ctx: int = 8192
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    attention_factor: float | None = None
    short_factor: tuple[float, ...] = ()
    long_factor: tuple[float, ...] = ()
    n_ctx: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(RopeScalingKind):
            raise ConfigError(f"rope scaling {self.kind!r} is not one of {', '.join(get_args(RopeScalingKind))}")
        check_at_least("rope scaling's factor", self.factor, 1)
        if self.factor > 2**31:
            raise ConfigError(f"rope scaling's factor must be at most 2**31, not {self.factor!r}")
        for name in ("low_freq_factor", "high_freq_factor", "original_n_ctx", "beta_fast", "beta_slow"):
            check_positive(f"rope scaling's {name}", getattr(self, name))
        for low, high in (("low_freq_factor", "high_freq_factor"), ("beta_slow", "beta_fast")):
            if getattr(self, low) >= getattr(self, high):
                raise ConfigError(
                    f"rope scaling's {low} ({getattr(self, low)}) must be below {high} ({getattr(self, high)})"
                )
        if not isinstance(self.truncate, bool):
            raise ConfigError(f"rope scaling's truncate must be True or False, not {shown(self.truncate)}")
        if self.attention_factor is not None:
            check_positive("rope scaling's attention_factor", self.attention_factor)
        if self.kind == "longrope":
            check_at_least("rope scaling's original_n_ctx", self.original_n_ctx, 2)
        for name in ("short_factor", "long_factor"):
            if not isinstance(getattr(self, name), tuple):
                raise ConfigError(f"rope scaling's {name} must be a tuple of numbers, not {shown(getattr(self, name))}")
            for value in getattr(self, name):
                check_at_least(f"each of rope scaling's {name}", value, 1)
        if self.n_ctx is not None and not (
            self.by_context and isinstance(self.n_ctx, int) and self.n_ctx > self.original_n_ctx
        ):
            raise ConfigError(
                f"rope scaling's n_ctx must be above original_n_ctx ({self.original_n_ctx}) in dynamic and longrope, "
                f"and None in others, not {shown(self.n_ctx)}"
            )

    @property
    def by_context(self) -> bool:
        """Whether the frequencies depend on the context."""
        return self.kind in ("dynamic", "longrope")

    def for_context(self, n_ctx: int) -> RopeScaling:
        """The stretch for a context of n_ctx tokens."""
        return replace(self, n_ctx=n_ctx if self.by_context and n_ctx > self.original_n_ctx else None)

    def stretched(self, theta: float, dim: int) -> tuple[float, ...]:
        """The frequencies that those of `Rope`, theta^(-2i / dim), become: dim/2 of them, each at most 1."""
        if self.kind == "dynamic" and self.n_ctx is not None and dim > 2:  # the one frequency of dim 2 is theta^0
            growth = self.factor * self.n_ctx / self.original_n_ctx - (self.factor - 1.0)
            theta *= growth ** (dim / (dim - 2.0))
        freqs = [theta ** (-2.0 * i / dim) for i in range(dim // 2)]
        if self.kind == "dynamic":
            return tuple(freqs)
        if self.kind == "linear":
            return tuple(f / self.factor for f in freqs)
        if self.kind == "longrope":
            divisors = self.short_factor if self.n_ctx is None else self.long_factor
            return tuple(f / d for f, d in zip(freqs, divisors, strict=True))
        kept = self._kept_by_llama3(freqs) if self.kind == "llama3" else self._kept_by_yarn(theta, dim)
        return tuple(f * keep + f / self.factor * (1.0 - keep) for f, keep in zip(freqs, kept, strict=True))

    def _kept_by_llama3(self, freqs: list[float]) -> list[float]:
        """How much of each frequency is kept: 1 all of it, 0 it is divided."""
        turns = (self.original_n_ctx * f / (2.0 * math.pi) for f in freqs)
        width = self.high_freq_factor - self.low_freq_factor
        return [min(1.0, max(0.0, (t - self.low_freq_factor) / width)) for t in turns]

    def _kept_by_yarn(self, theta: float, dim: int) -> list[float]:
        def pair(turns: float) -> float:
            """The number of the pair that makes so many turns in the original context, if numbers were no integers."""
            return dim * math.log(self.original_n_ctx / (turns * 2.0 * math.pi)) / (2.0 * math.log(theta))

        first, last = pair(self.beta_fast), pair(self.beta_slow)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, dim - 1)
        if first == last:
            last += 0.001
        return [1.0 - min(1.0, max(0.0, (i - first) / (last - first))) for i in range(dim // 2)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Rotary position embedding (Su et al. 2021, arXiv:2104.09864) of the first `dim` values of each head.

    `interleaved` rotates the pairs (0, 1), (2, 3), ...; otherwise (0, dim/2), (1, dim/2 + 1), ...
    """

    theta: float
    dim: int
    interleaved: bool = False
    scaling: RopeScaling | None = None

    def inv_freq(self) -> tuple[float, ...]:
        """The angle in radians that each of the dim/2 pairs turns by from one position to the next."""
        if self.scaling is not None:
            return self.scaling.stretched(self.theta, self.dim)
        return tuple(self.theta ** (-2.0 * i / self.dim) for i in range(self.dim // 2))

    def attention_factor(self) -> float:
        """What cosines and sines are multiplied by, so that a product of a query and a key grows by its square."""
        s = self.scaling
        if s is None or s.kind not in ("yarn", "longrope"):
            return 1.0
        if s.attention_factor is not None:
            return s.attention_factor
        if s.kind == "yarn":
            return 0.1 * math.log(s.factor) + 1.0
        return math.sqrt(1.0 + math.log(s.factor) / math.log(s.original_n_ctx))
