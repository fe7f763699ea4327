"""What a generation is asked for and what it gives back: the options, the pieces of a stream, the completion.

Plain values; `pygpt.Model.generate` and `pygpt.Model.stream` do the work.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Literal, TypedDict, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., object])
FinishReason = Literal["stop", "length", "cancelled"]


class SamplingOptions(TypedDict, total=False):
    """The keyword arguments of `Model.generate` and `Model.stream`; `SamplingParams` says what each means."""

    max_tokens: int | None
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float
    stop: Sequence[str]
    seed: int | None
    logprobs: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen and when to stop. ValueError or TypeError names the argument and what is allowed.

    Filters apply in this order: repetition penalty, temperature, top_k, top_p, min_p.
    """

    max_tokens: int | None = 128
    """At most this many new tokens; None: until the model stops or its context is full."""
    temperature: float = 0.8
    """Logits are divided by this; 0 always takes the likeliest token (greedy)."""
    top_k: int | None = None
    """Only the k likeliest tokens; None: all."""
    top_p: float | None = 0.95
    """The likeliest tokens whose probabilities first reach this sum (Holtzman et al. 2020, arXiv:1904.09751)."""
    min_p: float | None = None
    """Only tokens at least this fraction as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082)."""
    repetition_penalty: float = 1.0
    """Makes tokens of the prompt and the text so far less likely, if above 1 (Keskar et al. 2019, arXiv:1909.05858)."""
    stop: Sequence[str] = ()
    """Texts that end a completion and are not part of it. A single string is one such text."""
    seed: int | None = None
    """0 <= seed < 2**64: the same seed draws the same tokens on every machine; None: a fresh one each time."""
    n: int = 1
    """How many completions of the one prompt; they share its work and are computed as one batch."""
    logprobs: int | None = None
    """Report each token's log-probability, and those of this many likeliest tokens at its place."""

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # the dataclass is frozen; NumPy's numbers become Python's
        for name, low, high in (
            ("max_tokens", 1, None),
            ("top_k", 1, None),
            ("logprobs", 0, None),
            ("seed", 0, 2**64 - 1),
        ):
            value = getattr(self, name)
            set_(self, name, None if value is None else _integer(name, value, low, high))
        set_(self, "n", _integer("n", self.n, 1, None))
        set_(self, "temperature", _number("temperature", self.temperature, ">= 0", lambda x: x >= 0))
        set_(self, "repetition_penalty", _number("repetition_penalty", self.repetition_penalty, "> 0", lambda x: x > 0))
        if self.top_p is not None:
            set_(self, "top_p", _number("top_p", self.top_p, "> 0 and <= 1", lambda x: 0 < x <= 1))
        if self.min_p is not None:
            set_(self, "min_p", _number("min_p", self.min_p, ">= 0 and <= 1", lambda x: 0 <= x <= 1))
        set_(self, "stop", _stop_strings(self.stop))


def lists_options(function: _Function) -> _Function:
    """Let help() show the options of a function's ``**options: Unpack[SamplingOptions]`` one by one, with defaults."""
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
        for f in fields(SamplingParams)
        if f.name not in signature.parameters
    ]
    setattr(function, "__signature__", signature.replace(parameters=[*own, *options]))  # noqa: B010 - mypy's wish
    return function


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The natural log-probability of one generated token under the model itself: before the repetition penalty,
    temperature and filters."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """The likeliest tokens at this place and their log-probabilities, likeliest first (equal ones: lowest id first)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step adds to one sequence of a stream."""

    text: str
    """Whole characters only. Empty while a character is incomplete or the text could still become a stop string."""
    token: int | None
    """The token of this step; None only where the stream was cancelled before there was one."""
    index: int
    """Which of the n sequences this belongs to."""
    finish_reason: FinishReason | None
    """None, except in the last piece of a sequence."""
    logprob: TokenLogprob | None


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished generation."""

    text: str
    """The new text, without the prompt, the stop string and the end-of-text token."""
    tokens: tuple[int, ...]
    """Every new token in order, with those of a stop string and the end-of-text token."""
    finish_reason: FinishReason
    """"stop": a stop string or an end-of-text token; "length": max_tokens, or the context is full; "cancelled"."""
    logprobs: tuple[TokenLogprob, ...] | None
    """One for each of `tokens`, if asked for."""
    seed: int
    """The seed that was used, also where none was given."""


def collect(pieces: Iterable[Piece], params: SamplingParams, seed: int) -> list[Completion]:
    """Run a stream to its end; one completion for each of its n sequences."""
    texts: list[list[str]] = [[] for _ in range(params.n)]
    tokens: list[list[int]] = [[] for _ in range(params.n)]
    logprobs: list[list[TokenLogprob]] = [[] for _ in range(params.n)]
    reasons: list[FinishReason] = ["cancelled"] * params.n
    for piece in pieces:
        texts[piece.index].append(piece.text)
        if piece.token is not None:
            tokens[piece.index].append(piece.token)
        if piece.logprob is not None:
            logprobs[piece.index].append(piece.logprob)
        if piece.finish_reason is not None:
            reasons[piece.index] = piece.finish_reason
    return [
        Completion("".join(text), tuple(ids), reason, None if params.logprobs is None else tuple(values), seed)
        for text, ids, reason, values in zip(texts, tokens, reasons, logprobs, strict=True)
    ]


def _integer(name: str, value: object, low: int, high: int | None) -> int:
    allowed = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be {allowed}, not {value!r}")
    number = int(value)
    if number < low or (high is not None and number > high):
        raise ValueError(f"{name} must be {allowed}, not {number}")
    return number


def _number(name: str, value: object, allowed: str, is_allowed: Callable[[float], bool]) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a finite number {allowed}, not {value!r}")
    if not (math.isfinite(value) and is_allowed(float(value))):
        raise ValueError(f"{name} must be a finite number {allowed}, not {value}")
    return float(value)


def _stop_strings(stop: object) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else stop
    if not isinstance(strings, Sequence) or not all(isinstance(s, str) for s in strings):
        raise TypeError(f"stop must be a string or a sequence of strings, not {stop!r}")
    if not all(strings):
        raise ValueError("stop must not contain an empty string")
    return tuple(strings)
