"""Options of a command that are the fields of a dataclass: names, types, defaults and help texts stand there alone."""

from __future__ import annotations

import collections.abc
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer

from pygpt.fields import field_help, field_none


def with_fields(
    cls: type[Any],
    *,
    unset: str | None = None,
    more: Mapping[str, tuple[str, ...]] | None = None,
    defaults: object = None,
    without: Sequence[str] = (),
    environment: str | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command an option for each field of a class, in the place of its argument `given`, which gets a table of
    them. `unset`: the fields have no default on the command line, which shows this instead, and `given` has those alone
    that were used. `more`: other names of some options. `defaults`: an object of the class that has them instead of the
    class. `without`: fields that get no option, as those that hold functions get none. `environment`: the beginning of
    the variables that may set them."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "given"]
        added = [p for p in _parameters(cls, unset, more or {}, defaults, environment) if p.name not in without]
        tables = [p.name for p in added if get_origin(get_type_hints(cls)[p.name]) is Mapping]

        @functools.wraps(function)
        def command(**options: Any) -> None:
            given = {p.name: options.pop(p.name) for p in added}
            for name in tables:
                given[name] = _table(name, given[name]) if given.get(name) else None if unset is not None else {}
            function(**options, given={k: v for k, v in given.items() if unset is None or v is not None})

        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + added
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def _parameters(
    cls: type[Any],
    unset: str | None,
    more: Mapping[str, tuple[str, ...]],
    defaults: object,
    environment: str | None,
) -> list[inspect.Parameter]:
    hints, helps, nones = get_type_hints(cls), field_help(cls), field_none(cls)
    parameters = []
    for f in fields(cls):
        kind, default = hints[f.name], None if f.default is MISSING else getattr(defaults, f.name, f.default)
        kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        origins: set[object] = {*map(get_origin, kinds)}
        if collections.abc.Callable in origins:
            continue
        if str in kinds:
            kind = str | None if type(None) in kinds else str
        elif origins & {Sequence, Mapping}:  # may be given several times
            is_optional = type(None) in kinds
            kind, default = list[str], None if is_optional else list(default or ())
            kind = kind | None if is_optional else kind
        if unset is not None:
            kind, default = kind | None, None
        shown: bool | str = unset or (nones.get(f.name, "") if default is None else True)
        names = (f"--{f.name.replace('_', '-')}", *more.get(f.name, ()))
        variable = None if environment is None else f"{environment}{f.name.upper()}"
        option = typer.Option(*names, help=helps[f.name], show_default=shown, envvar=variable, show_envvar=False)
        parameters.append(
            inspect.Parameter(
                f.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
            )
        )
    return parameters


def _table(name: str, items: Sequence[str]) -> dict[int, float]:
    """What ID=NUMBER, several times, says."""
    out = {}
    for item in items:
        key, _, value = item.partition("=")
        try:
            out[int(key)] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{item!r} is not ID=NUMBER", param_hint=f"--{name.replace('_', '-')}") from None
    return out
