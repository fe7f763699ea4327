"""What a generation is asked for: `SamplingParams`, from whose fields the keyword arguments and help texts follow."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, TypedDict, TypeVar

from pygpt.fields import doc, documented, field_list

_Function = TypeVar("_Function", bound=Callable[..., object])
_INT32_MAX = 2**31 - 1  # the core counts tokens in 32 bits
_MAX_N = 1024


class SamplingOptions(TypedDict, total=False):
    """The fields of `SamplingParams` as keyword arguments, for type checkers; `n` stands in the overloads."""

    max_tokens: int | None
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float
    stop: Sequence[str]
    seed: int | None
    logprobs: int | None


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen and when to stop. ValueError or TypeError names the argument and what is allowed.

    Filters apply in this order: repetition penalty (Keskar et al. 2019, arXiv:1909.05858), temperature, top_k, top_p
    (Holtzman et al. 2020, arXiv:1904.09751), min_p (Nguyen et al. 2024, arXiv:2407.01082).
    """

    max_tokens: int | None = field(
        default=128, metadata=doc("At most this many new tokens.", none="until the model stops or its context is full")
    )
    temperature: float = field(
        default=0.8, metadata=doc("Logits are divided by this; 0 always takes the likeliest token.")
    )
    top_k: int | None = field(default=None, metadata=doc("Only this many of the likeliest tokens.", none="all"))
    top_p: float | None = field(
        default=0.95, metadata=doc("Only the likeliest tokens whose probabilities first reach this sum.", none="all")
    )
    min_p: float | None = field(
        default=None, metadata=doc("Only tokens at least this fraction as likely as the likeliest.", none="all")
    )
    repetition_penalty: float = field(
        default=1.0, metadata=doc("Above 1, makes tokens of the prompt and of the text so far less likely.")
    )
    stop: Sequence[str] = field(
        default=(), metadata=doc("Texts that end a completion and are no part of it; a string is one such text.")
    )
    seed: int | None = field(
        default=None,
        metadata=doc(
            "From 0 to 2**64 - 1: the same seed draws the same tokens on every machine.", none="a fresh one each time"
        ),
    )
    n: int = field(
        default=1,
        metadata=doc(f"How many completions of a prompt, at most {_MAX_N}, computed together from one reading of it."),
    )
    logprobs: int | None = field(
        default=None,
        metadata=doc(
            "Report each token's log-probability, and those of this many likeliest tokens at its place.", none="neither"
        ),
    )

    def __post_init__(self) -> None:
        set_ = object.__setattr__  # the dataclass is frozen; NumPy's numbers become Python's
        for name, low, high in (
            ("max_tokens", 1, _INT32_MAX),
            ("top_k", 1, _INT32_MAX),
            ("logprobs", 0, _INT32_MAX),
            ("seed", 0, 2**64 - 1),
        ):
            value = getattr(self, name)
            set_(self, name, None if value is None else integer(name, value, low, high))
        set_(self, "n", integer("n", self.n, 1, _MAX_N))
        set_(self, "temperature", _number("temperature", self.temperature, ">= 0", lambda x: x >= 0))
        set_(self, "repetition_penalty", _number("repetition_penalty", self.repetition_penalty, "> 0", lambda x: x > 0))
        if self.top_p is not None:
            set_(self, "top_p", _number("top_p", self.top_p, "> 0 and <= 1", lambda x: 0 < x <= 1))
        if self.min_p is not None:
            set_(self, "min_p", _number("min_p", self.min_p, ">= 0 and <= 1", lambda x: 0 <= x <= 1))
        set_(self, "stop", _stop_strings(self.stop))


def resolve(
    params: SamplingParams | None, options: dict[str, Any], defaults: SamplingParams | None = None
) -> SamplingParams:
    """`params`, or the defaults, with the options put in the place of its fields. TypeError for an unknown option."""
    if params is None:
        params = defaults or SamplingParams()
    elif not isinstance(params, SamplingParams):
        raise TypeError(f"params must be a SamplingParams, not {type(params).__name__}")
    names = [f.name for f in fields(SamplingParams)]
    if unknown := options.keys() - set(names):
        raise TypeError(f"unknown option {min(unknown)!r}; there are {', '.join(names)}")
    return replace(params, **options)


def takes_options(function: _Function, defaults: SamplingParams | None = None) -> _Function:
    """Let help() show the options of a function's ``**options`` one by one: with defaults, and what they mean."""
    values = defaults or SamplingParams()
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    options = [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=getattr(values, f.name), annotation=f.type)
        for f in fields(SamplingParams)
    ]
    setattr(function, "__signature__", signature.replace(parameters=[*own, *options]))  # noqa: B010 - mypy's wish
    function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{field_list(SamplingParams)}\n"
    return function


def takes_chat_options(function: _Function) -> _Function:
    """`takes_options` with the defaults of an answer."""
    return takes_options(function, CHAT)


def integer(name: str, value: object, low: int, high: int = _INT32_MAX) -> int:
    """The value, from low to high. TypeError, ValueError: it is something else."""
    allowed = f"an integer from {low} to {high}"
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be {allowed}, not {value!r:.80}")
    number = int(value)
    if not low <= number <= high:
        raise ValueError(f"{name} must be {allowed}, not {_shown(number)}")
    return number


def _number(name: str, value: object, allowed: str, is_allowed: Callable[[float], bool]) -> float:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a finite number {allowed}, not {value!r:.80}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and is_allowed(number)):
        raise ValueError(f"{name} must be a finite number {allowed}, not {_shown(value)}")
    return number


def _shown(number: object) -> str:
    """A number for a message; Python refuses to write integers of more than some thousand digits."""
    try:
        return f"{number!s:.80}"
    except ValueError:
        return "a number of thousands of digits"


def _stop_strings(stop: object) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else stop
    if not isinstance(strings, Sequence) or not all(isinstance(s, str) for s in strings):
        raise TypeError(f"stop must be a string or a sequence of strings, not {stop!r:.80}")
    if not all(strings):
        raise ValueError("stop must not contain an empty string")
    return tuple(strings)


CHAT = SamplingParams(max_tokens=None)
"""The defaults of an answer, which ends by itself."""
