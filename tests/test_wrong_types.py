"""Every public call with wrong values: nothing but pygpt's own errors, ValueError, TypeError and OSError comes out.

What is public stands in `pygpt.__all__`, with the classes' methods and properties, and in `FUNCTIONS`. A test fails for
a name that `CALLS` does not know how to call.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib.util
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pygpt
from pygpt import Model, checkpoint, reference, registry
from pygpt.errors import PygptError
from pygpt.training import Recipe

ALLOWED = (PygptError, ValueError, TypeError, OSError)
FUNCTIONS: dict[str, Callable[..., object]] = {
    "checkpoint.read": checkpoint.read,
    "checkpoint.write": checkpoint.write,
    "reference.forward": reference.forward,
    "reference.hidden": reference.hidden,
    "reference.trace": reference.trace,
    "registry.on_disk": registry.on_disk,
    "registry.pull": registry.pull,
    "registry.remove": registry.remove,
}
WRONG: list[object] = [
    None, object(), b"", b"ab", True, -1, 0, 1, 2**31, 2**200, float("nan"), float("inf"), -1.5, 1j,
    "", "x", "\ud800", "no\0where", Path("no\0where"), [], (), {}, set(), [None], [[]], [""], ["a", 5], ("a", "b", "c"),
    [1, "a"], [-1], [2**80], [10**5000], [1.5], [[1], "a", None], {"a": 1}, {1: "a"}, {"a": None}, range(3), int, len,
    np.zeros((2, 2)), np.zeros((0, 3), np.int32), np.array(3), np.array("x"), np.array([1j]), np.zeros(2, bool),
    np.array([2**63], np.uint64), np.array([None, "a"], object), np.zeros(3, "datetime64[s]"), np.array([b"a"]),
    np.zeros(2, [("a", "i4")]),
]  # fmt: skip

TRAINING = ("pretrain", "finetune")
# Of the settings of a training: none that could be right, or it would begin to train.
WRONG_SETTINGS: list[object] = [
    object(), b"", b"ab", -1, -1.5, float("nan"), "", "neither", "\ud800", "no\0where", [], ["a", 5], {}, [None],
    np.zeros((2, 2)), np.array("x"), 1j, int,
]  # fmt: skip


def load(name: str) -> Any:
    """A module beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


calls = load("public_calls")
Good, CALLS = calls.Good, calls.CALLS
PRIVATE = {
    "AsyncStream",
    "Model",
    "ReplyStream",
    "Session",
    "Stream",
    "Ticket",
    "Tokenizer",
}  # classes whose constructors say so


def owners() -> dict[str, type]:
    """The exported classes, by name."""
    return {name: value for name in pygpt.__all__ if isinstance(value := getattr(pygpt, name), type)}


def public() -> Iterator[tuple[str, object]]:
    """Every public call and property: its name and what it is."""
    yield from FUNCTIONS.items()
    for name in pygpt.__all__:
        value = getattr(pygpt, name)
        if isinstance(value, type):
            if name not in PRIVATE:
                yield name, value
            fields = {f.name for f in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
            for attribute in dir(value):
                if not attribute.startswith("_") and attribute not in fields:
                    yield f"{name}.{attribute}", inspect.getattr_static(value, attribute)
        elif callable(value):
            yield name, value


def is_simple(name: str, value: object) -> bool:
    """Properties and methods without arguments of an object that anyone may have: calling them once is all."""
    owner = name.split(".")[0]
    simple = isinstance(value, property) or (
        isinstance(value, types.FunctionType) and len(inspect.signature(value).parameters) == 1
    )
    return simple and owner in ("Model", "ModelConfig", "Tokenizer")


def subject(name: str, good: Any) -> Any:
    return {"Model": good.model, "ModelConfig": good.model.config, "Tokenizer": good.model.tokenizer}[name]


@pytest.fixture
def good(gpt2_folder: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PYGPT_CACHE", str(tmp_path / "cache"))
    return Good(model, gpt2_folder, tmp_path)


def test_every_public_call_is_known_here() -> None:
    names = {name for name, value in public() if not is_simple(name, value)}
    assert names == CALLS.keys()


@pytest.mark.parametrize("name", [name for name, value in public() if is_simple(name, value)])
def test_what_takes_nothing_works(name: str, good: Any) -> None:
    owner, attribute = name.split(".")
    value = getattr(subject(owner, good), attribute)
    if callable(value):
        value()


def call(name: str, good: Any, argument: str | None = None, wrong: object = None) -> None:
    """The call with its right arguments, or with one of them wrong; streams are read to their end."""
    arguments = CALLS[name](good)
    owner, _, attribute = name.partition(".")
    if name in FUNCTIONS:
        function = FUNCTIONS[name]
    elif not attribute:
        function = getattr(pygpt, name)
    else:
        holder = arguments.pop("self", None) or (good.model if owner == "Model" else getattr(pygpt, owner))
        function = getattr(holder, attribute)
        if not callable(function):
            return
    if argument is not None:
        arguments[argument] = wrong
    result = function(**arguments)
    if isinstance(result, pygpt.AsyncStream):
        result = result.collect()
    if inspect.iscoroutine(result):
        asyncio.run(result)
    if isinstance(result, pygpt.Stream):
        result.collect()
    if isinstance(result, pygpt.ReplyStream):
        result.finish()
    if isinstance(result, pygpt.Tokenizer):
        result.decode(result.encode("in the"))


@pytest.mark.parametrize("name", CALLS)
def test_right_values_are_right(name: str, good: Any) -> None:
    if name == "Model.classify":
        with pytest.raises(ValueError, match="no classifier"):
            call(name, good)
    elif name == "Tokenizer.from_gguf":
        with pytest.raises(PygptError, match="a file"):
            call(name, good)
    else:
        call(name, good)


def shown(wrong: object) -> str:
    try:
        return f"{wrong!r:.60}"
    except ValueError:  # Python refuses to write such integers
        return "a huge integer"


def arguments_of(name: str) -> list[str]:
    if name in FUNCTIONS:
        function: Any = FUNCTIONS[name]
    else:
        function = pygpt
        for part in name.split("."):
            function = getattr(function, part)
    try:
        parameters = inspect.signature(function).parameters.values() if callable(function) else ()
    except ValueError:  # the core's own
        return []
    if name == "ModelConfig.with_layers":  # as keywords of one mapping
        return ["attn_scale", "rope"]
    if name == "pretrain":  # the recipe's fields too
        parameters = [*parameters, *inspect.signature(Recipe).parameters.values()]
    return [p.name for p in parameters if p.name != "self" and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]


@pytest.mark.parametrize(("name", "argument"), [(name, a) for name in CALLS for a in arguments_of(name)])
def test_wrong_values_raise_what_they_may(name: str, argument: str, good: Any) -> None:
    found = []
    for wrong in WRONG_SETTINGS if name in TRAINING else WRONG:
        with warnings.catch_warnings(), contextlib.suppress(*ALLOWED):
            warnings.simplefilter("error")
            try:
                call(name, good, argument, wrong)
            except ALLOWED:
                raise
            except Exception as error:
                found.append(f"{argument}={type(wrong).__name__} {shown(wrong)}: {type(error).__name__}: {error}")
    assert found == []
