"""The server's page, a trace's page, its figures and the documentation's site look alike: each has its own style, and
what they share is the same."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE, TRACE, SITE = "pygpt/server/page/style.css", "pygpt/trace_page/page.css", "docs/site/site.css"
OWN = {"shadow", "round"}  # each page has its own depth and corners


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def properties(name: str) -> dict[str, str]:
    """The custom properties that a style sheet defines."""
    return dict(re.findall(r"^ *--([\w-]+): (.+);$", read(name), re.M))


def pair(value: str) -> list[str]:
    """A colour on light ground and on dark."""
    return re.findall(r"#[0-9a-f]{6}", value)


def test_the_two_pages_share_their_colours_and_fonts() -> None:
    page, trace = properties(PAGE), properties(TRACE)
    shared = (page.keys() & trace.keys()) - OWN
    assert {"ground", "text", "line", "accent", "tint", "sans", "mono"} <= shared
    assert {name: page[name] for name in shared} == {name: trace[name] for name in shared}


def test_links_of_the_site_have_the_pages_accent() -> None:
    accent = pair(properties(PAGE)["accent"])
    assert re.findall(r"--md-typeset-a-color: (.+);", read(SITE)) == accent
    assert re.findall(r"--md-primary-fg-color: (.+);", read(SITE))[0] == accent[0]
    assert accent[0] in read("pygpt/trace_plots.py")


def test_a_notebook_marks_tokens_as_the_page_of_a_trace_does() -> None:
    hot = pair(properties(TRACE)["hot"])[0]
    assert ", ".join(str(byte) for byte in bytes.fromhex(hot[1:])) in read("pygpt/trace_html.py")
