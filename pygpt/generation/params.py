"""What a generation is asked for: `SamplingParams`, from whose fields the keyword arguments and help texts follow."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from typing import Any, TypeAlias, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from pygpt._json import parse_table
from pygpt.errors import PygptError
from pygpt.fields import doc, documented, field_list

LogitsProcessor: TypeAlias = Callable[[NDArray[np.int32], NDArray[np.float32]], "NDArray[np.float32] | None"]
"""Changes logits before everything else: from the tokens so far (T,), the prompt's among them, and the logits of the
next one (n_vocab,), a copy that it may write to, to the logits to draw from; None: those that it was given."""

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
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    json_schema: str | Mapping[str, Any] | None
    regex: str | None
    grammar: str | None
    choices: Sequence[str] | None
    logits_processor: LogitsProcessor | None
    stop: Sequence[str]
    seed: int | None
    logprobs: int | None


CONSTRAINTS = ("json_schema", "regex", "grammar", "choices")
"""The fields of which at most one says what a text must be."""


@documented
@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen and when to stop. ValueError or TypeError names the argument and what is allowed.

    They apply in this order: logits_processor, repetition penalty (Keskar et al. 2019, arXiv:1909.05858), presence and
    frequency penalty and biases (as in OpenAI's API), what json_schema, regex, grammar or choices allow, temperature,
    top_k, top_p (Holtzman et al. 2020, arXiv:1904.09751), min_p (Nguyen et al. 2024, arXiv:2407.01082).
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
    presence_penalty: float = field(
        default=0.0, metadata=doc("Taken off the logit of each token that the new text has; below 0 it is added.")
    )
    frequency_penalty: float = field(
        default=0.0, metadata=doc("Taken off the logit of a token for each time that the new text has it.")
    )
    logit_bias: Mapping[int, float] = field(
        default_factory=dict,
        hash=False,
        metadata=doc("Added to the logits of tokens, by id: -inf forbids one, as -100 does for most models."),
    )
    json_schema: str | Mapping[str, Any] | None = field(
        default=None,
        metadata=doc(
            'The text is JSON that this schema allows, a table or its text: {"type": "object"} is any object.',
            none="any text",
        ),
    )
    regex: str | None = field(
        default=None, metadata=doc("All of the text matches this regular expression, of Rust's syntax.", none="any")
    )
    grammar: str | None = field(
        default=None, metadata=doc("The text is what this grammar derives: Lark's syntax, or GBNF.", none="any")
    )
    choices: Sequence[str] | None = field(default=None, metadata=doc("The text is one of these.", none="any"))
    logits_processor: LogitsProcessor | None = field(
        default=None,
        metadata=doc("A function of the tokens so far and the next one's logits, which it may change.", none="none"),
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
        set_(self, "temperature", number("temperature", self.temperature, ">= 0", lambda x: x >= 0))
        set_(self, "repetition_penalty", number("repetition_penalty", self.repetition_penalty, "> 0", lambda x: x > 0))
        if self.top_p is not None:
            set_(self, "top_p", number("top_p", self.top_p, "> 0 and <= 1", lambda x: 0 < x <= 1))
        if self.min_p is not None:
            set_(self, "min_p", number("min_p", self.min_p, ">= 0 and <= 1", lambda x: 0 <= x <= 1))
        for name in ("presence_penalty", "frequency_penalty"):
            set_(self, name, number(name, getattr(self, name)))
        set_(self, "logit_bias", _biases(self.logit_bias))
        set_(self, "stop", _strings("stop", (self.stop,) if isinstance(self.stop, str) else self.stop))
        if self.json_schema is not None:
            set_(self, "json_schema", _schema(self.json_schema))
        for name in ("regex", "grammar"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise TypeError(f"{name} must be a text or None, not {getattr(self, name)!r:.80}")
        if self.choices is not None:
            set_(self, "choices", _strings("choices", self.choices))
            if not self.choices:
                raise ValueError("choices must have at least one text")
        given = [name for name in CONSTRAINTS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{given[0]} must not be given beside {given[1]}: they exclude each other")
        if not (self.logits_processor is None or callable(self.logits_processor)):
            raise TypeError(f"logits_processor must be a function or None, not {self.logits_processor!r:.80}")


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


def number(name: str, value: object, allowed: str = "", is_allowed: Callable[[float], bool] = lambda _: True) -> float:
    """The value, which is finite. TypeError, ValueError: it is something else, or not what is allowed."""
    wanted = f"{name} must be a finite number {allowed}".rstrip()
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{wanted}, not {value!r:.80}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and is_allowed(number)):
        raise ValueError(f"{wanted}, not {_shown(value)}")
    return number


def _shown(number: object) -> str:
    """A number for a message; Python refuses to write integers of more than some thousand digits."""
    try:
        return f"{number!s:.80}"
    except ValueError:
        return "a number of thousands of digits"


def _biases(biases: object) -> Mapping[int, float]:
    if not isinstance(biases, Mapping):
        raise TypeError(f"logit_bias must be a table of token ids and numbers, not {biases!r:.80}")
    out: dict[int, float] = {}
    for token, bias in biases.items():
        key = integer("logit_bias must have token ids as keys: each", token, 0, _INT32_MAX)
        is_ban = isinstance(bias, float) and bias == -math.inf
        out[key] = -math.inf if is_ban else number(f"logit_bias of {key}", bias, "or -inf")
    return out


def _schema(schema: object) -> str:
    """A schema as the text of a JSON table, which can be hashed and not be changed."""
    if not isinstance(schema, (str, Mapping)):
        raise TypeError(f"json_schema must be a table, the text of one, or None, not {schema!r:.80}")
    try:
        table = parse_table(schema, "its text", PygptError) if isinstance(schema, str) else dict(schema)
        return json.dumps(table, allow_nan=False)
    except TypeError as error:
        raise TypeError(f"json_schema must hold what JSON can hold: {error}") from None
    except (PygptError, ValueError, RecursionError) as error:
        raise ValueError(f"json_schema must be the schema of a JSON value: {error}") from None


def _strings(name: str, strings: object) -> tuple[str, ...]:
    if not isinstance(strings, Sequence) or isinstance(strings, str) or not all(isinstance(s, str) for s in strings):
        raise TypeError(f"{name} must be a sequence of strings, not {strings!r:.80}")
    if not all(strings):
        raise ValueError(f"{name} must not contain an empty string")
    return tuple(strings)


CHAT = SamplingParams(max_tokens=None)
"""The defaults of an answer, which ends by itself."""
