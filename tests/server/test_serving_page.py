"""docs/serving.md: its tables are those of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

from pygpt.fields import field_help, field_none
from pygpt.server.metrics import Metrics
from pygpt.server.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serving.md"


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def settings() -> Iterator[Sequence[str]]:
    texts, nones = field_help(Settings), field_none(Settings)
    for f in fields(Settings):
        if f.name != "models":
            value = "" if f.default in ((), False) else nones[f.name] if f.default is None else f"`{f.default}`"
            yield f"`--{f.name.replace('_', '-')}`", value, texts[f.name]


def metrics() -> Iterator[Sequence[str]]:
    text = Metrics(list).text("")[0].decode()
    kinds = dict(re.findall(r"^# TYPE (pygpt_\w+) (\w+)$", text, re.M))
    for name, meaning in re.findall(r"^# HELP (pygpt_\w+) (.+)$", text, re.M):
        if not name.endswith("_created"):
            yield f"`{name}`", kinds[name], meaning


def check(expected: str) -> None:
    assert expected in PAGE.read_text(encoding="utf-8"), f"docs/serving.md should have:\n\n{expected}\n"


def test_the_settings() -> None:
    check(table(("option", "default", "what it is"), settings()))


def test_the_metrics() -> None:
    check(table(("metric", "kind", "what it is"), metrics()))
