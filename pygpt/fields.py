"""What a field of a dataclass means, said once: for `help()`, and for whoever makes options of the fields."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

_Class = TypeVar("_Class", bound=type[Any])


def doc(text: str, *, none: str | None = None) -> Mapping[str, str]:
    """The metadata of a field: a sentence, and what the value None stands for."""
    return {"help": text} if none is None else {"help": text, "none": none}


def field_help(cls: type[Any]) -> dict[str, str]:
    """The sentence of each field, by name."""
    return {f.name: f.metadata["help"] for f in fields(cls)}


def field_none(cls: type[Any]) -> dict[str, str]:
    """What None stands for, by the name of each field that may be None."""
    return {f.name: f.metadata["none"] for f in fields(cls) if "none" in f.metadata}


def field_list(cls: type[Any]) -> str:
    """A line a field for a docstring: its name and what it means."""
    meanings = field_none(cls)
    lines = (
        f"{name}: {text}" + (f" None: {meanings[name]}." if name in meanings else "")
        for name, text in field_help(cls).items()
    )
    return "\n".join(lines)


def documented(cls: _Class) -> _Class:
    """Above a dataclass: lets `help()` show what its fields mean."""
    cls.__doc__ = f"{inspect.cleandoc(cls.__doc__ or '')}\n\n{field_list(cls)}\n"
    return cls
