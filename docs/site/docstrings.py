"""What the site shows of the package: what `help()` does.

Griffe reads the source. Where a decorator of ours writes signature or docstring (`documented`, `takes_options`), those
of the object itself are taken.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from griffe import Class, Docstring, Extension, Function, Object, Parameter, ParameterKind, Parameters

_NAMES = re.compile(r"[a-z]\w*(?:, [a-z]\w*)*")
_DECORATED = re.compile(r"(^|\.)(documented|takes_options|takes_chat_options)$")


class AsHelpShowsIt(Extension):
    """Signatures and docstrings as they are once the package is imported."""

    def on_class(self, *, cls: Class, **_: Any) -> None:
        made = cls.members.get("__init__")
        if made is not None and made.docstring is not None and made.docstring.value.startswith("Private: "):
            how = made.docstring.value.removeprefix("Private: u")  # "Private: use `Model.load`."
            cls.docstring = Docstring(f"{cls.docstring.value if cls.docstring else ''}\n\nU{how}", parent=cls)
            cls.del_member("__init__")
        self._finish(cls)

    def on_function(self, *, func: Function, **_: Any) -> None:
        self._finish(func)
        func.overloads = None  # the signature says all; they are for type checkers
        if isinstance(func.parent, Class):
            func.parent.overloads.pop(func.name, None)

    def on_attribute(self, *, attr: Object, **_: Any) -> None:
        self._finish(attr)

    def _finish(self, shown: Object) -> None:
        if any(_DECORATED.search(str(decorator.value)) for decorator in getattr(shown, "decorators", ())):
            real = _imported(shown)
            shown.docstring = Docstring(inspect.getdoc(real) or "", parent=shown)
            if isinstance(shown, Function):
                shown.parameters = _parameters(shown, inspect.signature(real))
        if shown.docstring is not None:
            shown.docstring.value = listed(shown.docstring.value)


def _imported(shown: Object) -> Any:
    found: Any = importlib.import_module(shown.module.path)
    for name in shown.path.removeprefix(f"{shown.module.path}.").split("."):
        found = getattr(found, name)
    return found


def _parameters(function: Function, signature: inspect.Signature) -> Parameters:
    """Those of the source, and in the place of **options what they may be."""
    own = [p for p in function.parameters if p.kind is not ParameterKind.var_keyword]
    known = {p.name for p in own}
    options = [
        Parameter(p.name, annotation=str(p.annotation), kind=ParameterKind.keyword_only, default=repr(p.default))
        for p in signature.parameters.values()
        if p.name not in known
    ]
    return Parameters(*own, *options)


def listed(text: str) -> str:
    """As Markdown: a line `name: what it means`, or a name alone above what it means, is an item, which further lines
    that are indented go on with."""
    lines: list[str] = []
    is_item = False
    after = text.splitlines()[1:]
    for number, line in enumerate(text.splitlines()):
        following = after[number] if number < len(after) else ""
        names, colon, meaning = line.partition(": ")
        if re.fullmatch("-{4,}", following):
            line = f"**{line}**"
        elif re.fullmatch("-{4,}", line):
            continue
        elif number and _NAMES.fullmatch(names) and (colon or following.startswith("    ")):
            lines += [] if is_item else [""]
            line = f"- {', '.join(f'`{name}`' for name in names.split(', '))}: {meaning}".rstrip()
            is_item = True
        else:
            is_item = is_item and line.startswith("    ")
        lines.append(line)
    return "\n".join(lines)
