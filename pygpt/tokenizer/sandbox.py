"""The Jinja environment of chat templates: transformers' own, with a limit on the work that a template may do.

A template is a program by a stranger. Jinja's sandbox keeps it from Python's internals; it does not keep it from loops
without end, nor from texts that fill the memory. Here each round of a loop, each call and each text that is made costs
something, and a rendering has so much to spend (`pygpt.tokenizer.work`).
"""

from __future__ import annotations

import contextlib
import functools
import json
import operator
import string
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from pygpt.tokenizer import work
from pygpt.tokenizer.work import REPEATING, Work, size

_COUNTING = {"batch", "center", "indent", "round", "slice", "tojson", "truncate", "wordwrap"}  # filters with a width
_PASSING = {  # filters that neither compare or hash what they are given nor write it as text
    *("attr", "count", "d", "default", "first", "items", "last", "length", "list", "map", "random", "reject"),
    *("rejectattr", "reverse", "select", "selectattr", "sum"),
}
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    **{"eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "lteq": operator.le},
    **{"gt": operator.gt, "gteq": operator.ge},
    **{"in": lambda a, b: a in b, "notin": lambda a, b: a not in b},
}
_COMPARE, _HASH = " compare", " hash"  # filters of our own, whose names no template can write
_MAX_TIME_FORMAT = 256  # characters of strftime's


class Complaint(Exception):  # noqa: N818 - no fault of the template
    """What a template says with raise_exception: the messages are not what it can lay out."""


class Environment(ImmutableSandboxedEnvironment):
    """What transformers' `_compile_jinja_template` sets up (utils/chat_template_utils.py), and the limit."""

    intercepted_binops = frozenset(("+", "-", "*", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols], finalize=self._put_out
        )
        self._work = Work()
        self.filters["tojson"] = _tojson
        self.filters = {name: self._limited(name, f) for name, f in self.filters.items()}
        self.filters |= {_COMPARE: self._compare, _HASH: self._hashed}
        self.tests = {name: self._limited_test(f) for name, f in self.tests.items()}
        self.globals.pop("lipsum")  # makes texts of any length
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        self.globals |= {"dict": _Dict(), "namespace": _Namespace}

    def begin(self) -> None:
        """This thread compiles or renders a template anew."""
        self._work.left = work.WORK

    def step(self) -> bool:
        """Called in each round of a loop; `call`, which calls it, counts it."""
        return True

    def handle_exception(self, source: str | None = None) -> NoReturn:
        """Leaves the traceback as it is: whoever catches the error looks for the template's line in it."""
        raise

    def concat(self, texts: Iterable[str]) -> str:
        """Joins what a template, a macro or a block puts out."""
        parts = list(texts)
        self._work.memory(sum(map(len, parts)))
        return "".join(parts)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as Jinja's
        """Every call in a template."""
        __self._work.spend(1)
        if not isinstance(__obj, (Macro, type)):  # Python's own methods, among them those that fill up to a width
            __self._work.numbers((*args, *kwargs.values()))
            for value in (*args, *kwargs.values()):
                __self._work.weigh(value)
            method = getattr(__obj, "__wrapped__", __obj)  # of what wrap_str_format gave
            __self._work.method(getattr(method, "__self__", None), getattr(method, "__name__", ""), args, kwargs)
        return __self._work.charged(super().call(__context, __obj, *args, **kwargs))

    def getitem(self, obj: Any, argument: Any) -> Any:
        """obj[argument], and the same of filters by an attribute."""
        if isinstance(argument, tuple):
            self._work.weigh(argument)
        return super().getitem(obj, argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Every +, -, *, ** and % in a template."""
        if operator == "*" and isinstance(left, int) and not isinstance(right, float):
            left, right = right, left
        if operator == "*" and isinstance(right, int):
            self._work.memory(size(left) * max(right, 1))
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            self._work.bits(left.bit_length() * right)
        if operator == "-":  # also of sets
            self._work.weigh(left)
            self._work.weigh(right)
        if operator == "%" and isinstance(left, bytes):
            raise SecurityError("it formats bytes")
        if operator == "%" and isinstance(left, str):
            self._work.weigh(right)
            self._work.format(left)
            self._work.product("format", left, right)
        return self._work.charged(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """str.format, where a template takes hold of it."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            text = value.__self__
            self._work.format(text)
            with contextlib.suppress(ValueError):  # Python raises it again
                if any("{" in (spec or "") for _, _, spec, _ in string.Formatter().parse(text)):
                    raise SecurityError("it formats with a computed width, which may be too great")
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
        for compare in list(source.find_all(nodes.Compare)):
            operands = nodes.List([compare.expr, *(operand.expr for operand in compare.ops)])
            names = [nodes.Const(operand.op) for operand in compare.ops]
            _become(compare, nodes.Filter(operands, _COMPARE, names, [], None, None, lineno=compare.lineno))
        for pair in list(source.find_all(nodes.Pair)):
            if not isinstance(pair.key, nodes.Const):
                pair.key = nodes.Filter(pair.key, _HASH, [], [], None, None, lineno=pair.lineno)
        source.set_environment(self)
        return super()._generate(source, name, filename, defer_init)

    def _limited(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)  # keeps what tells Jinja to pass its context
        def limited(*args: Any, **kwargs: Any) -> Any:
            if name not in _PASSING:
                args = tuple(_listed(value) for value in args)
                for value in (*args, *kwargs.values()):
                    self._work.weigh(value)
            given = (*args, *kwargs.values())
            if name in ("list", "reverse"):
                self._work.memory(64 * sum(len(value) for value in given if isinstance(value, (str, bytes))))
            if name == "sum":
                args = tuple(_listed(value) for value in args)
                self._work.sum((*args, *kwargs.values()))
            if name in _COUNTING:
                self._work.numbers((*args[1:], *kwargs.values()))
            if name in REPEATING:
                self._work.product(name, *given)
            if name == "format":
                self._work.format(str(args[0]))
            return self._work.charged(function(*args, **kwargs))

        return limited

    def _limited_test(self, function: Any) -> Callable[..., Any]:
        @functools.wraps(function)
        def limited(*args: Any, **kwargs: Any) -> Any:
            if len(args) > 1:
                self._work.compare(*args[-2:])
            return function(*args, **kwargs)

        return limited

    def _compare(self, values: list[Any], *operators: str) -> Any:
        """values[0] OPERATOR values[1] OPERATOR values[2] ..., as Python chains them."""
        result: Any = True
        for name, left, right in zip(operators, values, values[1:], strict=False):
            self._work.compare(left, right)
            result = _OPERATORS[name](left, right)
            if not result:
                break
        return result

    def _hashed(self, value: Any) -> Any:
        self._work.weigh(value)
        return value

    def _put_out(self, value: Any) -> Any:
        """Everything that stands in {{ }}, before it becomes text."""
        self._work.weigh(value)
        return value


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
    if len(format) > _MAX_TIME_FORMAT:
        raise SecurityError(f"it formats the time with more than {_MAX_TIME_FORMAT} characters")
    return datetime.now().strftime(format)


def _tojson(
    x: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _listed(value: Any) -> Any:
    """What can be gone through only once, such as what `map` gives, as a list."""
    return list(value) if isinstance(value, Iterator) and not isinstance(value, LoopContext) else value


def _become(node: nodes.Node, other: nodes.Node) -> None:
    """Put another node in the place of one, wherever that is referred to."""
    node.__class__ = other.__class__
    node.__dict__.clear()
    node.__dict__.update(other.__dict__)
