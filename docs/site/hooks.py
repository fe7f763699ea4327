"""What MkDocs is told about the pages: their order, which docs/index.md has, and what links to the checkout's other
files lead to.

A page links to files as one does in a checkout: `../pygpt/reference.py`, `../CONTRIBUTING.md`. On the site such a file
is a page below repository/, Markdown as it is and code as a listing, so that no link leads out of the site.
"""

from __future__ import annotations

import os
import re
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
as_markdown = runpy.run_path(str(Path(__file__).with_name("notebooks.py")))["as_markdown"]
ROOT = DOCS.parent
OUTSIDE = "repository"  # the folder of the site for files from outside of docs/

_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.M | re.S)
_LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)(#[^)\s]*)?\)")
_ROW = re.compile(r"^\| \[([^]]+)\]\(([^)#]+)\) \|", re.M)
_FILES: dict[str, Path] = {}  # those from outside of docs/, by where they lie
_PAGES = (".md", ".ipynb")  # what links are followed in
_LANGUAGES = {".py": "python", ".h": "cpp", ".cpp": "cpp", ".json": "json", ".yml": "yaml"}


def navigation(page: Path = DOCS / "index.md") -> list[Any]:
    """The pages that the tables of an index list, under its headings where it has some."""
    text = page.read_text(encoding="utf-8")
    first, *sections = re.split(r"^## (.+)$", text, flags=re.M)
    here: list[Any] = [_uri(page), *_rows(page, first)]
    return here + [{title: _rows(page, rows)} for title, rows in zip(sections[::2], sections[1::2], strict=True)]


def _rows(page: Path, text: str) -> list[Any]:
    """A page a row; where it is an index itself, what it lists."""
    found: list[Any] = []
    for title, target in _ROW.findall(text):
        path = (page.parent / target).resolve()
        found.append({title: navigation(path) if path.name == "index.md" else _uri(path)})
    return found


def _uri(path: Path) -> str:
    """Where a file of the checkout lies on the site, before MkDocs makes HTML of it."""
    if path.is_relative_to(DOCS) and path.suffix == ".ipynb":
        uri = path.relative_to(DOCS).with_suffix(".md").as_posix()
        _FILES[uri] = path
        return uri
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    parts = [part.lstrip(".") for part in path.relative_to(ROOT).parts]  # what begins with a dot is not served
    uri = "/".join([OUTSIDE, *parts]) + ("" if path.suffix == ".md" else ".md")
    _FILES[uri] = path
    return uri


def _source(uri: str) -> Path:
    """The file of the checkout that lies there."""
    return _FILES.get(uri, DOCS / uri)


def _linked(source: Path, text: str) -> Iterator[Path]:
    """The files that a page links to."""
    for target, _ in _LINK.findall(_CODE.sub("", text)):
        path = (source.parent / target).resolve()
        if path.is_file():
            yield path


def _page(path: Path) -> str:
    """A notebook, or a file from outside of docs/, as Markdown."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        return as_markdown(text)
    if path.suffix == ".md":
        return text
    name = path.relative_to(ROOT).as_posix()
    return f"---\nsearch:\n  exclude: true\n---\n# {name}\n\n````{_LANGUAGES.get(path.suffix, 'text')}\n{text}````\n"


def _relinked(source: Path, text: str) -> str:
    """With links to where the files lie on the site; a folder of the checkout is no page, and keeps its name alone."""

    def link(match: re.Match[str]) -> str:
        path = (source.parent / match[1]).resolve()
        target = os.path.relpath(_uri(path), Path(_uri(source)).parent)
        return f"]({target}{match[2] or ''})"

    def outside(part: str) -> str:
        part = re.sub(r"\[([^]]*)\]\(((?!\w+:|#)[^)\s#]+)\)", lambda m: _unlinked(source, m), part)
        return _LINK.sub(link, part)

    return _outside_code(text, outside)


def _unlinked(source: Path, match: re.Match[str]) -> str:
    return match[1] if (source.parent / match[2]).is_dir() else match[0]


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """`change` made to all but code."""
    parts, at = [], 0
    for code in _CODE.finditer(text):
        parts += [change(text[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*parts, change(text[at:])])


# --- what MkDocs calls ------------------------------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    config.nav = navigation()
    config.watch += [str(ROOT / "pygpt"), str(ROOT / "CONTRIBUTING.md")]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the notebooks, the pages from outside of docs/, and those that they link to."""
    from mkdocs.structure.files import File

    waiting = [DOCS / file.src_uri for file in files.documentation_pages()]
    seen = set(waiting)
    while waiting:
        source = waiting.pop()
        text = _page(source)
        if not source.is_relative_to(DOCS) or source.suffix == ".ipynb":
            files.append(File.generated(config, _uri(source), content=text))
        if source.suffix in _PAGES:
            new = [path for path in _linked(source, text) if path.suffix in _PAGES or not path.is_relative_to(DOCS)]
            waiting += [path for path in dict.fromkeys(new) if path not in seen]
            seen |= set(new)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    source = _source(page.file.src_uri)
    return _relinked(source, markdown) if source.suffix in _PAGES else markdown
