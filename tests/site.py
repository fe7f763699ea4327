"""The documentation as a site: it builds without a warning, links and anchors lead somewhere, nothing is fetched from
elsewhere, and in a headless Chromium no page is wider than a phone or a desktop, in light and dark colours.

    pip install ".[clients,docs]" && pytest tests/site.py

Without Chromium the part that needs it is left out.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import pygpt

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
WIDTHS = {390: 844, 1280: 900}
SCHEMES = {"light": "default", "dark": "slate"}
LISTING = re.compile(r"^repository/.*\.\w+\.html$")  # code of the checkout: one page is like another


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = ["mkdocs", "build", "--strict", "--config-file", str(ROOT / "docs/site/mkdocs.yml"), "--site-dir", folder]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


class Read(HTMLParser):
    """What a page refers to, and what in it can be referred to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[key] for key in ("id", "name") if key in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        self.loaded += [given[key] for key in ("src", "data") if key in given and tag != "meta"]
        if tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(given["href"])


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Read]:
    return {path: Read(path) for path in sorted(site.rglob("*.html"))}


def test_links_and_anchors_lead_somewhere(pages: dict[Path, Read]) -> None:
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            ids = pages[target].ids if target in pages else set()
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in ids):
                broken.append(f"{path.name}: {link}")
    assert len(pages) > 30
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Read]) -> None:
    elsewhere = {link for page in pages.values() for link in page.loaded if urlsplit(link).scheme not in ("", "data")}
    assert elsewhere == set()


def test_every_public_name_can_be_linked_to(pages: dict[Path, Read]) -> None:
    ids = {name for path, page in pages.items() if path.parent.name == "api" for name in page.ids}
    public = {name for name in pygpt.__all__ if name != "__version__"}
    assert {f"pygpt.{name}" for name in public} <= ids
    assert {f"pygpt.Model.{name}" for name in vars(pygpt.Model) if not name.startswith("_")} <= ids


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_fit_their_window(site: Path, pages: dict[Path, Read], width: int) -> None:
    """Also: the colours are those that the system wants, no script fails, and nothing is asked of another server."""
    from playwright.sync_api import sync_playwright

    wrong: list[str] = []
    with served(site) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": WIDTHS[width]})
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("request", lambda asked: None if asked.url.startswith((address, "data:")) else wrong.append(asked.url))
        page.set_default_timeout(120_000)  # also on a machine that has other things to do
        names = [path.relative_to(site).as_posix() for path in pages]
        for name in (name for name in names if not LISTING.search(name)):
            page.goto(f"{address}/{name}")
            for colours, scheme in SCHEMES.items():
                page.emulate_media(color_scheme=colours)
                page.wait_for_function("scheme => document.body.dataset.mdColorScheme === scheme", arg=scheme)
                if (wide := page.evaluate("document.documentElement.scrollWidth")) > width:
                    wrong.append(f"{name}: {wide} instead of {width}, {colours}")
        page.goto(f"{address}/index.html")
        if width > 1000:
            page.get_by_role("textbox", name="Search").fill("perplexity")
            page.locator(".md-search-result__item").first.wait_for()
        browser.close()
    assert wrong == []
