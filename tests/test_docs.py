"""README.md and docs/: the Python runs, the terminal sessions come out as shown, commands have the options that are
named, and links lead somewhere.

A fenced block with a line <!-- not run: why --> before it is left alone. In Python, `print(x)  # -> text` must print
that text; what is written `...` may be anything. A `console` block is a session on a terminal: lines after "$ " are
typed, the others must come out, the rest of the output after a line "..." may be anything.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import runpy
import shlex
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

from pygpt.cli._app import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SKIPPED = re.compile(r"<!-- not run: \S.* -->")
TERMINAL = runpy.run_path(str(ROOT / "docs" / "site" / "terminal.py"))
RUN = [page for page in PAGES if page.is_file()]


class Block(NamedTuple):
    """A fenced block: its language, its first line's number, its text."""

    language: str
    line: int
    text: str
    skipped: bool


def blocks(page: Path) -> list[Block]:
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    start = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if start is None:
            start = number
            continue
        above = lines[start - 1] if start else ""
        text = "\n".join(lines[start + 1 : number])
        found.append(Block(lines[start][3:].strip(), start + 2, text, bool(SKIPPED.fullmatch(above))))
        start = None
    assert start is None, f"{page.name}:{start}: a block that does not end"
    return found


def written(page: Path, language: str) -> list[Block]:
    return [block for block in blocks(page) if block.language == language]


def runnable(language: str) -> list[Any]:
    return [pytest.param(p, id=p.name) for p in RUN if any(not b.skipped for b in written(p, language))]


def matches(shown: str, printed: str) -> bool:
    """Whether it was printed as it is shown, where ... stands for anything."""
    return re.fullmatch(".*".join(map(re.escape, shown.split("..."))), printed, re.DOTALL) is not None


@pytest.mark.parametrize("page", runnable("python"))
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page in order, in one namespace and an empty folder."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "example"}
    for block in written(page, "python"):
        if block.skipped:
            continue
        lines = block.text.splitlines()
        for node in ast.parse(block.text).body:
            printed = io.StringIO()
            module = ast.increment_lineno(ast.Module([node], []), block.line - 1)
            with contextlib.redirect_stdout(printed), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # fork() in a process that has threads
                exec(compile(module, page.name, "exec"), namespace)
            last = lines[(node.end_lineno or 0) - block.line]
            if "# -> " in last:
                shown = last.split("# -> ", 1)[1].strip()
                assert matches(shown, printed.getvalue().strip()), f"{page.name}: {last}: {printed.getvalue()}"


def test_python_is_fenced() -> None:
    """So that it is run: an indented block holds commands."""
    python = re.compile(r"^ {4,}(?:import \w|from \w+ import|>>> |model = )")
    found = []
    for page in RUN:
        text = page.read_text(encoding="utf-8")
        outside = re.sub(r"^```.*?^```", lambda m: "\n" * m[0].count("\n"), text, flags=re.M | re.S)
        found += [f"{page.name}:{i}" for i, line in enumerate(outside.splitlines(), 1) if python.match(line)]
    assert found == []


def test_every_block_says_what_it_is() -> None:
    """So that what could be run is."""
    known = {"python", "console", "json", "text", "toml", "yaml"}
    assert [f"{page.name}:{b.line}" for page in RUN for b in blocks(page) if b.language not in known] == []


@pytest.mark.parametrize("page", runnable("console"))
def test_sessions_come_out_as_shown(page: Path, tmp_path: Path) -> None:
    for block in written(page, "console"):
        if block.skipped:
            continue
        assert block.text.startswith("$ "), f"{page.name}:{block.line}"
        for session in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
            command, _, shown = session.partition("\n")
            printed, _ = TERMINAL["printed"](command, tmp_path, TERM="dumb", COLUMNS="100", NO_COLOR="1")
            message = f"{page.name}:{block.line}: {command}\nshown:\n{shown}\nprinted:\n{printed}"
            assert matches(unwrapped(shown), unwrapped(printed)), message


def unwrapped(text: str) -> str:
    """Text may be broken into lines for the page: every run of spaces is one."""
    return " ".join(text.split())


def commands() -> list[tuple[str, str]]:
    """Every `pygpt ...` of a command line in the documents: where, and the arguments."""
    found = []
    for page in [*RUN, ROOT / "CONTRIBUTING.md"]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for number, line in enumerate(text.splitlines(), 1):
            quoted = re.findall(r"`(pygpt [^`]+)`", line)
            plain = [line.strip().removeprefix("$ ")] if re.match(r" {4}|\$ ", line) else []
            parts = [part.strip() for whole in quoted + plain for part in re.split(r"&&|\||;|  #", whole)]
            found += [(f"{page.name}:{number}", part) for part in parts if part.startswith("pygpt ")]
    return found


def test_commands_have_the_options_that_are_named() -> None:
    group: Any = typer.main.get_command(app)
    wrong = []
    for where, line in commands():
        words = shlex.split(line.split("<")[0].split(">")[0])[1:]
        options = {name for p in group.params for name in p.opts + p.secondary_opts} | {"--help", "-h"}
        if words and not words[0].startswith("-"):
            command = group.get_command(None, words[0])
            if command is None:
                wrong.append(f"{where}: {line}: no command {words[0]}")
                continue
            options |= {name for p in command.params for name in p.opts + p.secondary_opts}
        wrong += [
            f"{where}: {line}: no option {word}"
            for word in (word.split("=")[0] for word in words)
            if re.match(r"--?[a-z]", word) and word not in options
        ]
    assert wrong == []
    assert len(commands()) > 10


def anchors(page: Path) -> set[str]:
    """The headings' anchors, as GitHub makes them."""
    outside = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", outside, re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"`|\*", "", h).lower()).replace(" ", "-") for h in headings}


def test_links_lead_somewhere() -> None:
    broken = []
    for page in [*RUN, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md"))]:
        text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            name, _, anchor = target.partition("#")
            if re.match(r"https?:|mailto:", target):
                continue
            path = page if not name else (page.parent / name).resolve()
            if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
                broken.append(f"{page.name}: {target}")
    assert broken == []


def test_every_page_is_in_the_index() -> None:
    names = {page.name for page in PAGES[1:]}
    for where, prefix in (("README.md", "docs/"), ("docs/index.md", "")):
        linked = set(re.findall(rf"\]\({prefix}([\w-]+\.md)\)", (ROOT / where).read_text(encoding="utf-8")))
        assert names <= {*linked, Path(where).name}, where


def test_the_families_are_those_of_the_code() -> None:
    made = runpy.run_path(str(ROOT / "tests" / "make_families_table.py"))
    text = made["PAGE"].read_text(encoding="utf-8")
    assert made["page"](text) == text, "out of date: run python tests/make_families_table.py"
