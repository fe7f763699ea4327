"""Reading a pickle as data: an interpreter of its opcodes that can build tables, lists and numbers, and call nothing.

A pickle is a program for a small stack machine, and Python's own `pickle` lets it import and call anything. Here a name
that the pickle wants to import stays a name, and a call of it stays a record of name and arguments, for whoever reads
the result; a name that the caller does not list is an error. Opcodes: Python's Lib/pickletools.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection
from typing import NamedTuple

from pygpt._json import shown
from pygpt.errors import CheckpointError

_MAX_BYTES = 1 << 26  # of one pickle; a model's table of tensors takes some 200 bytes a tensor
_MAX_OPS = 1 << 22


class Name(NamedTuple):
    """Something that the pickle would import."""

    text: str  # MODULE.NAME


class Call(NamedTuple):
    """Something that the pickle would call."""

    name: str
    arguments: tuple[object, ...]


class Persistent(NamedTuple):
    """Something that lies outside of the pickle."""

    key: object


_MARK = object()


def unpickle(data: bytes | memoryview, where: str, allowed: Collection[str], start: int = 0) -> tuple[object, int]:
    """The value of the pickle that begins at byte `start`, and where it ends.

    `where` stands in messages. Raises CheckpointError for a pickle that is damaged, uses an opcode that data does not
    need, or imports a name that is not `allowed`.
    """
    machine = _Machine(data[start : start + _MAX_BYTES], where, allowed)
    try:
        value = machine.run()
    except (IndexError, KeyError, struct.error, TypeError, ValueError, OverflowError) as error:
        raise machine.error(f"is damaged: {type(error).__name__}: {error}") from error
    return value, start + machine.pos


class _Machine:
    def __init__(self, data: bytes | memoryview, where: str, allowed: Collection[str]) -> None:
        self.data, self.where, self.allowed = data, where, allowed
        self.pos = 0
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}

    def error(self, message: str) -> CheckpointError:
        return CheckpointError(f"{self.where}: the pickle {message} (at byte {self.pos})")

    def run(self) -> object:
        for _ in range(_MAX_OPS):
            op = self.take(1)[0]
            if op == _STOP:
                if len(self.stack) != 1:
                    raise self.error(f"ends with {len(self.stack)} values on its stack")
                return self.stack.pop()
            act = _ACTIONS.get(op)
            if act is None:
                raise self.error(f"has the opcode {bytes([op])!r}, which data does not need")
            act(self)
        raise self.error("is longer than any model's")

    # What the opcodes are made of.

    def take(self, n: int) -> bytes:
        if n > len(self.data) - self.pos:
            raise self.error("is cut short")
        self.pos += n
        return bytes(self.data[self.pos - n : self.pos])

    def number(self, code: str) -> int:
        return int(struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0])

    def line(self) -> str:
        end = self.pos
        while end < len(self.data) and self.data[end] != 10:
            end += 1
        text = self.take(end - self.pos).decode("utf-8")
        self.take(1)
        return text

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        value = self.stack.pop()
        if value is _MARK:
            raise self.error("takes more values than there are")
        return value

    def since_mark(self) -> list[object]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:  # IndexError: none
            if at < 0:
                raise self.error("lacks a mark")
            at -= 1
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def put(self, index: int) -> None:
        if self.stack[-1] is _MARK:
            raise self.error("remembers a mark")
        self.memo[index] = self.stack[-1]

    def name(self, module: object, name: object) -> None:
        text = f"{module}.{name}"
        if text not in self.allowed:
            raise self.error(
                f"imports {shown(text)}. Only tensors, tables, lists and numbers are read, and nothing is run: save "
                "the model's state_dict, or as safetensors"
            )
        self.push(Name(text))

    def call(self) -> None:
        arguments, name = self.pop(), self.pop()
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            raise self.error("calls something that is no name")
        self.push({} if name.text == _ORDERED and not arguments else Call(name.text, arguments))

    def set_items(self, pairs: list[object]) -> None:
        table = self.stack[-1]
        if type(table) is not dict or len(pairs) % 2:
            raise self.error("sets items of something that is no table")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if type(key) not in (str, int, float, bool, type(None)):
                raise self.error(f"has a table with a key of type {type(key).__name__}")
            table[key] = value

    def append(self, values: list[object]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise self.error("appends to something that is no list")
        target.extend(values)

    def build(self) -> None:
        """A table's attributes, such as a state_dict's versions of modules, are dropped."""
        self.pop()
        if type(self.stack[-1]) is not dict:
            raise self.error("sets attributes of something that is no table")

    def tuple_of(self, n: int) -> None:
        values = tuple(self.pop() for _ in range(n))
        self.push(values[::-1])


_STOP = ord(".")
_ORDERED = "collections.OrderedDict"


def _text(m: _Machine, n: int) -> None:
    m.push(m.take(n).decode("utf-8", "surrogatepass"))


def _integer(m: _Machine, n: int) -> None:
    m.push(int.from_bytes(m.take(n), "little", signed=True))


_ACTIONS: dict[int, Callable[[_Machine], object]] = {
    0x80: lambda m: m.take(1),  # PROTO
    0x95: lambda m: m.take(8),  # FRAME
    ord("("): lambda m: m.push(_MARK),
    ord("0"): lambda m: m.pop(),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("K"): lambda m: m.push(m.number("B")),
    ord("M"): lambda m: m.push(m.number("H")),
    ord("J"): lambda m: m.push(m.number("i")),
    0x8A: lambda m: _integer(m, m.number("B")),  # LONG1
    ord("G"): lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    ord("X"): lambda m: _text(m, m.number("I")),
    0x8C: lambda m: _text(m, m.number("B")),
    0x8D: lambda m: _text(m, m.number("Q")),
    ord("C"): lambda m: m.push(m.take(m.number("B"))),
    ord("B"): lambda m: m.push(m.take(m.number("I"))),
    ord("U"): lambda m: m.push(m.take(m.number("B")).decode("latin-1")),  # Python 2's str
    ord("T"): lambda m: m.push(m.take(m.number("I")).decode("latin-1")),
    ord("}"): lambda m: m.push({}),
    ord("]"): lambda m: m.push([]),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.since_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("s"): lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    ord("u"): lambda m: m.set_items(m.since_mark()),
    ord("a"): lambda m: m.append([m.pop()]),
    ord("e"): lambda m: m.append(m.since_mark()),
    ord("q"): lambda m: m.put(m.number("B")),
    ord("r"): lambda m: m.put(m.number("I")),
    0x94: lambda m: m.put(len(m.memo)),  # MEMOIZE
    ord("h"): lambda m: m.push(m.memo[m.number("B")]),
    ord("j"): lambda m: m.push(m.memo[m.number("I")]),
    ord("c"): lambda m: m.name(m.line(), m.line()),
    0x93: lambda m: m.name(*[m.pop(), m.pop()][::-1]),  # STACK_GLOBAL
    ord("R"): lambda m: m.call(),
    ord("b"): lambda m: m.build(),
    ord("Q"): lambda m: m.push(Persistent(m.pop())),
}
