"""Options of sampling as a command line has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from pygpt import SamplingParams

NAMES = {"n": ("-n",), "choices": ("--choice",)}
"""Other names of some options."""


def read_params(given: dict[str, Any]) -> SamplingParams:
    """What the options of `SamplingParams` say. A grammar is a file, and a schema as well unless it is one in braces.
    BadParameter: they cannot be. OSError: a file that cannot be read."""
    schema = given.get("json_schema")
    if schema is not None and not schema.lstrip().startswith("{"):
        given = {**given, "json_schema": _text(schema)}
    if given.get("grammar") is not None:
        given = {**given, "grammar": _text(given["grammar"])}
    try:
        return SamplingParams(**given)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _text(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8: {error}") from None
