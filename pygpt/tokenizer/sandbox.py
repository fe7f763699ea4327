"""The Jinja environment of chat templates: transformers' own, with a limit on the work that a template may do.

A template is a program by a stranger. Jinja's sandbox keeps it from Python's internals; it does not keep it from loops
without end, nor from texts that fill the memory. Here each round of a loop, each call and each text that is made costs
something, and a rendering has so much to spend.
"""

from __future__ import annotations

import functools
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import BuiltinMethodType
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

WORK = 200_000
"""What one rendering may spend: rounds and calls. A long conversation with tools takes some ten thousand."""
_SHARE = 512  # characters of a new text cost as much as one round
_COUNTING = {"batch", "center", "indent", "round", "slice", "tojson", "truncate", "wordwrap"}  # filters with a width
_WHOLE = {"join", "pprint", "string", "tojson", "urlencode", "xmlattr"}  # filters that make one text of a whole value
_REPEATING = {"replace", "format", "format_map"}  # what may repeat one text as often as another is long
_MAX_BITS = 4096  # of an integer
_WIDE = re.compile(r"%(\(\w*\))?[-+ #0]*(\d*\.)?(\*|\d{6})|\{[^{}]*\d{6}")  # a width in a format string


class Complaint(Exception):  # noqa: N818 - no fault of the template
    """What a template says with raise_exception: the messages are not what it can lay out."""


class Environment(ImmutableSandboxedEnvironment):
    """What transformers' `_compile_jinja_template` sets up (utils/chat_template_utils.py), and the limit."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], finalize=self._put_out
        )
        self._budget = _Budget()
        self.filters["tojson"] = _tojson
        self.filters = {name: self._limited(name, f) for name, f in self.filters.items()}
        self.globals.pop("lipsum")  # makes texts of any length
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        self.globals |= {"dict": _Dict(), "namespace": _Namespace}

    def begin(self) -> None:
        """This thread compiles or renders a template anew."""
        self._budget.left = WORK

    def step(self) -> bool:
        """Called in each round of a loop; `call`, which calls it, counts it."""
        return True

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Leaves the traceback as it is: whoever catches the error looks for the template's line in it."""
        raise

    def concat(self, texts: Iterable[str]) -> str:
        """Joins what a template, a macro or a block puts out."""
        parts = list(texts)
        self._spend(sum(map(len, parts)) // _SHARE)
        return "".join(parts)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja's
        """Every call in a template."""
        __self._spend(1)
        if not isinstance(__obj, (Macro, type)):  # Python's own methods, among them those that fill up to a width
            __self._check_numbers((*args, *kwargs.values()))
            method = getattr(__obj, "__wrapped__", __obj)  # of what wrap_str_format gave
            if isinstance(method, BuiltinMethodType) and isinstance(method.__self__, str):
                if method.__name__ in _REPEATING:
                    __self._check_product(method.__self__, *args, *kwargs.values())
                elif method.__name__ == "join":
                    __self._check_joined(method.__self__, *args)
        return __self._charged(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Every +, *, ** and % in a template."""
        if operator == "*" and isinstance(left, int) and not isinstance(right, float):
            left, right = right, left
        if operator == "*" and isinstance(right, int):
            self._spend(_size(left) * max(right, 1) // _SHARE if not isinstance(left, int) else 0)
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            self._check_bits(left.bit_length() * right)
        if operator == "%" and isinstance(left, str):
            self._check_format(left)
            self._check_product(left, right)
        return self._charged(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """str.format, where a template takes hold of it."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            self._check_format(value.__self__)
        return wrapped

    def _generate(
        self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        """Compiles the template, with a `step` in every loop."""
        for loop in source.find_all(nodes.For):
            step = nodes.Call(nodes.EnvironmentAttribute("step"), [], [], None, None, lineno=loop.lineno)
            if loop.test is None:
                loop.body.insert(0, nodes.ExprStmt(step, lineno=loop.lineno))
            else:  # is asked for in each round, whether or not there is anything to do
                loop.test = nodes.And(step, loop.test, lineno=loop.lineno)
        for node in list(source.find_all(nodes.Concat)):  # a ~ b; a filter's result is charged
            _become(node, nodes.Filter(nodes.List(node.nodes), "join", [], [], None, None, lineno=node.lineno))
        source.set_environment(self)
        return super()._generate(source, name, filename, defer_init)

    def _limited(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)  # keeps what tells Jinja to pass its context
        def limited(*args: Any, **kwargs: Any) -> Any:
            if name in _COUNTING:
                self._check_numbers((*args[1:], *kwargs.values()))
            if name in _WHOLE:
                for value in args:
                    self._weigh(value)
            if name in _REPEATING:
                self._check_product(*args, *kwargs.values())
            if name == "format":
                self._check_format(str(args[0]))
            return self._charged(function(*args, **kwargs))

        return limited

    def _charged(self, value: Any) -> Any:
        if isinstance(value, int):
            self._check_bits(value.bit_length())
        self._spend(_size(value) // _SHARE)
        return value

    def _put_out(self, value: Any) -> Any:
        """Everything that stands in {{ }}, before it becomes text."""
        if isinstance(value, (list, tuple, Mapping)):
            self._weigh(value)
        return value

    def _weigh(self, value: object) -> None:
        """Spend for all that a value holds, as often as it holds it."""
        waiting, weight = [value], 0
        while waiting:
            one = waiting.pop()
            if isinstance(one, Mapping):
                waiting += [*one.keys(), *one.values()]
            elif isinstance(one, (list, tuple)):
                waiting += one
            weight += 16 + _size(one)
            if weight > _SHARE:
                self._spend(weight // _SHARE)
                weight %= _SHARE

    def _check_product(self, *values: object) -> None:
        """Of the two longest texts."""
        parts: list[object] = []
        for value in values:
            parts += value.values() if isinstance(value, Mapping) else value if isinstance(value, tuple) else [value]
        *_, short, long = sorted([0, 0, *map(_size, parts)])
        self._spend(short * long // _SHARE)

    def _check_joined(self, separator: str, values: object = ()) -> None:
        if isinstance(values, (list, tuple, Mapping)):
            self._weigh(values)
            self._spend(len(separator) * len(values) // _SHARE)

    def _check_numbers(self, values: Iterable[object]) -> None:
        """Of a number that asks for a width or a count; functions of Jinja and Python fill memory by it."""
        for value in values:
            if isinstance(value, int):
                self._spend(abs(value) // _SHARE)

    def _check_bits(self, bits: int) -> None:
        if bits > _MAX_BITS:
            raise SecurityError(f"it computes an integer of more than {_MAX_BITS} bits")

    def _check_format(self, text: str) -> None:
        if _WIDE.search(text):
            raise SecurityError(f"it formats with a width that is too great: {text!r:.80}")

    def _spend(self, work: int) -> None:
        self._budget.left -= work
        if self._budget.left < 0:
            raise SecurityError(f"it does too much work: more than {WORK:,} rounds of loops and calls, or as much text")


class _Budget(threading.local):
    left = WORK


class _Generation(Extension):
    """``{% generation %}``, which marks a reply for those who train on it; here it is what it holds."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja's class says it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Dict:
    """The `dict` of templates: without the methods and bases of Python's class."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


class _Namespace(Namespace):
    """The `namespace` of templates: without names that begin with an underscore, which Python gives a meaning."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # so that one of its names may be `self`
        values = dict(*args[1:], **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(args[0], values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace has no {name!r}: names must not begin with an underscore")


def _raise_exception(message: object = "") -> NoReturn:
    raise Complaint(str(message))


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


def _tojson(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _size(value: object) -> int:
    """How much memory a value takes, roughly and in characters, without what it refers to."""
    if isinstance(value, (str, bytes)):
        return len(value)
    return 8 * len(value) if isinstance(value, (list, tuple, Mapping)) else 0


def _become(node: nodes.Node, other: nodes.Node) -> None:
    """Put another node in the place of one, wherever that is referred to."""
    node.__class__ = other.__class__
    node.__dict__.clear()
    node.__dict__.update(other.__dict__)
