"""What the operations of a chat template cost, before they are done.

A list may hold another one many times, and that one a third: it costs as much as a tree of its size where it is written
as text, compared or hashed, and nothing where it is only passed on.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping, MappingView
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.utils import Namespace

WORK = 200_000
"""What one rendering may spend: rounds and calls. A long conversation with tools takes some ten thousand."""
_SHARE = 512  # characters of a new text cost as much as one round
_TEXT = 8192  # characters that are only read cost as much as one round
_NODE = 128  # characters that each value in a list or table counts for
REPEATING = {  # what may repeat one text as often as another one, a list or a width is long
    *("expandtabs", "format", "format_map", "indent", "join", "replace", "translate", "urlize", "wordwrap"),
}
_WIDENING = {"expandtabs", "indent", "wordwrap"}  # those of them whose numbers are widths
_COMPARING = {"count", "index", "isdisjoint"}  # methods of lists, tuples and views
_MAX_BITS = 4096  # of an integer
_WIDE = re.compile(r"%(\(\w*\))?[-+ #0]*(\d*\.)?(\*|\d{6})|\{[^{}]*\d{6}")  # a width in a format string
_NUMBER = re.compile(r"\d{2,5}")


class Work(threading.local):
    """What is left of it for the template that this thread renders."""

    left = WORK

    def spend(self, work: int) -> None:
        self.left -= work
        if self.left < 0:
            raise SecurityError(f"it does too much work: more than {WORK:,} rounds of loops and calls, or as much text")

    def memory(self, n_characters: int) -> None:
        """Spend for a new text, or for what takes as much memory."""
        self.spend(n_characters // _SHARE)

    def compare(self, *values: object) -> None:
        """Before values are compared: where one is a number or a text, whatever the other holds is not looked at."""
        if all(_is_nested(value) for value in values):
            for value in values:
                self.weigh(value)
        elif any(isinstance(value, (str, bytes)) for value in values):
            self.spend(max(map(size, values)) // _TEXT)

    def charged(self, value: Any) -> Any:
        """What an operation gave."""
        if isinstance(value, int):
            self.bits(value.bit_length())
        self.memory(size(value))
        return value

    def weigh(self, value: object) -> None:
        """Spend for all that a value holds, as often as it holds it; nothing for a text alone."""
        if not _is_nested(value):
            return
        waiting, weight = [value], 0
        while waiting:
            one = waiting.pop()
            waiting += _parts(one)
            weight += _NODE + size(one)
            if weight > _SHARE:
                self.spend(weight // _SHARE)
                weight %= _SHARE

    def product(self, name: str, *values: object) -> None:
        """Of the two greatest: texts, lists, and where they are widths, numbers."""
        sizes = [0, 0]
        for value in values:
            sizes += map(size, (value, *(_parts(value) if name != "join" else ())))
            if name in _WIDENING and isinstance(value, int):
                sizes.append(abs(value))
        *_, short, long = sorted(sizes)
        self.memory(short * long)

    def sum(self, values: tuple[object, ...]) -> None:
        """Adding up lists copies the first of them again and again."""
        lists = [value for value in values if isinstance(value, (list, tuple))]
        for value in lists:
            if len(lists) > 1:
                self.memory(len(value) * sum(map(size, value)))

    def method(self, owner: object, name: str, args: tuple[object, ...], kwargs: Mapping[str, object]) -> None:
        """A method of Python's that is called with these arguments."""
        if isinstance(owner, (str, bytes)):
            self.spend(len(owner) // _TEXT)
            if name in REPEATING:
                self.product(name, owner, *args, *kwargs.values())
            elif name in ("split", "rsplit", "splitlines"):
                by = (*args, *kwargs.values())[:1]
                pieces = _count(owner, by[0]) if by and by[0] else len(owner) // 2
                self.memory(64 * pieces)
        elif name in _COMPARING:
            self.weigh(owner)

    def numbers(self, values: Iterable[object]) -> None:
        """Of a number that asks for a width or a count; functions of Jinja and Python fill memory by it."""
        for value in values:
            if isinstance(value, int):
                self.memory(abs(value))

    def bits(self, bits: int) -> None:
        """Of an integer."""
        if bits > _MAX_BITS:
            raise SecurityError(f"it computes an integer of more than {_MAX_BITS} bits")

    def format(self, text: str) -> None:
        """A format string, whose numbers may be widths."""
        if _WIDE.search(text):
            raise SecurityError(f"it formats with a width that is too great: {text!r:.80}")
        self.memory(sum(map(int, _NUMBER.findall(text))))


def _is_nested(value: object) -> bool:
    return isinstance(value, (list, tuple, Mapping, MappingView, Namespace))


def _parts(value: object) -> Iterable[object]:
    """What a value holds."""
    if isinstance(value, Mapping):
        return [*value.keys(), *value.values()]
    if isinstance(value, Namespace):
        held: dict[str, object] = object.__getattribute__(value, "_Namespace__attrs")
        return held.values()
    return value if isinstance(value, (list, tuple, MappingView)) and isinstance(value, Iterable) else ()


def _count(text: Any, part: Any) -> int:
    return int(text.count(part)) if type(part) is type(text) else 0


def size(value: object) -> int:
    """How much memory a value takes, roughly and in characters, without what it refers to."""
    if isinstance(value, (str, bytes)):
        return len(value)
    return 8 * len(value) if isinstance(value, (list, tuple, Mapping)) else 0
