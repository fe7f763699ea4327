"""The documentation as a site, as far as it is told without building it (`tests/site.py` does): every page has its
place, every public name is in the reference, and Markdown means the same to MkDocs as on GitHub."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import pygpt

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("api/*.md")])
HOOKS = runpy.run_path(str(DOCS / "site" / "hooks.py"))


def leaves(entries: list[Any]) -> list[str]:
    """The pages of a navigation."""
    found = []
    for entry in entries:
        below = [entry] if isinstance(entry, str) else [*entry.values()]
        for page in below:
            found += [page] if isinstance(page, str) else leaves(page)
    return found


def test_every_page_has_one_place_in_the_navigation() -> None:
    listed = leaves(HOOKS["navigation"]())
    assert len(set(listed)) == len(listed)
    assert [page for page in listed if not HOOKS["_source"](page).is_file()] == []
    assert {page.relative_to(DOCS).as_posix() for page in PAGES} <= set(listed)


def test_links_lead_to_pages_of_the_site(tmp_path: Path) -> None:
    relinked, page = HOOKS["_relinked"], DOCS / "api" / "index.md"
    assert relinked(page, "[a](../chat.md#tools) `[b](x)` <a:b>") == "[a](../chat.md#tools) `[b](x)` <a:b>"
    assert relinked(page, "[a](../../pygpt/reference.py)") == "[a](../repository/pygpt/reference.py.md)"
    assert relinked(page, "[a](../../bench/README.md#x)") == "[a](../repository/bench/README.md#x)"
    assert relinked(page, "[a](../../bench) ![b](../images/page.png)") == "a ![b](../images/page.png)"
    assert relinked(ROOT / "bench" / "README.md", "[a](../docs/chat.md)") == "[a](../../chat.md)"
    assert relinked(page, "[a](https://example.org/x.md) [b](#here)") == "[a](https://example.org/x.md) [b](#here)"


def test_no_public_name_is_missing_from_the_reference() -> None:
    shown = {name for page in PAGES for name in re.findall(r"^::: pygpt\.(\w+)$", page.read_text("utf-8"), re.M)}
    assert {name for name in pygpt.__all__ if not name.startswith("_")} - shown == set()
    used = set()  # of the modules that examples and users import
    sources = [path.read_text("utf-8") for path in (*PAGES, ROOT / "README.md")]
    blocks = [block for text in sources for block in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)]
    for code in [*blocks, (ROOT / "tests" / "user_code.py").read_text("utf-8")]:
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("pygpt"):
                names = [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]
                used |= set(names)
    internal = {"families", "config"}  # families.md shows a whole module of the package's own
    assert {"checkpoint", "reference", "registry"} <= used
    assert used - shown == internal


def test_the_index_of_the_reference_names_what_its_pages_have() -> None:
    rows = re.findall(r"^\| \[[^]]+\]\((\w+\.md)\) \| (.+) \|$", (DOCS / "api" / "index.md").read_text("utf-8"), re.M)
    for page, text in rows:
        named = {name.removeprefix("pygpt.") for name in re.findall(r"`([\w.]+)`", text)}
        assert named == set(re.findall(r"^::: pygpt\.(\w+)$", (DOCS / "api" / page).read_text("utf-8"), re.M)), page


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_lists_are_lists_everywhere(page: Path) -> None:
    """Python-Markdown wants an empty line before a list, and four spaces before what belongs to an item."""
    text = re.sub(r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), page.read_text("utf-8"), flags=re.M | re.S)
    wrong = []
    above = ""
    for number, line in enumerate(text.splitlines(), 1):
        item = re.match(r"( *)(?:[-*]|\d+\.) ", line)
        in_list = re.match(r" *(?:[-*]|\d+\.) | ", above)
        if item and ((above.strip() and not in_list) or len(item[1]) % 4):
            wrong.append(f"{page.name}:{number}: {line}")
        above = line
    assert wrong == []
