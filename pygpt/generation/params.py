"""What a generation is asked for: `SamplingParams`, from whose fields the keyword arguments follow."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import TypedDict, TypeVar

_Function = TypeVar("_Function", bound=Callable[..., object])


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
