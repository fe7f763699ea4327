"""The page at `/`: what is served, with which headers, and what its files may hold. What it does is tested in a
browser, by tests/clients/page/."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import pygpt.server

Serving = Callable[..., Any]

PAGE = Path(pygpt.server.__file__).parent / "page"
NAMES = sorted(path.name for path in PAGE.iterdir())
SCRIPTS = [name for name in NAMES if name.endswith(".js")]
FILE_LINES = 350  # of a script, as of the rest of the code


def text(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def served(serving: Serving, *paths: str, **options: Any) -> list[httpx.Response]:
    async def use(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get(path, **options) for path in paths]

    return list(serving(use))


def test_every_file_is_served_as_what_it_is(serving: Serving) -> None:
    types = {"css": "text/css", "html": "text/html", "js": "text/javascript", "svg": "image/svg+xml"}
    root, *files = served(serving, "/", *(f"/page/{name}" for name in NAMES))
    assert len(NAMES) > 10
    assert root.content == (PAGE / "index.html").read_bytes()
    for name, file in zip(NAMES, files, strict=True):
        assert file.status_code == 200
        assert file.content == (PAGE / name).read_bytes()
        assert file.headers["content-type"].split(";")[0] == types[name.rpartition(".")[2]]


def test_a_browser_may_do_what_the_page_needs_and_no_more(serving: Serving) -> None:
    for response in served(serving, "/", "/page/main.js"):
        policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
        assert policy.pop("default-src") == "'none'"
        assert {name for name, value in policy.items() if value == "'self'"} == {
            "script-src",
            "style-src",
            "img-src",
            "connect-src",
        }
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert "unsafe" not in response.headers["content-security-policy"]
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"


def test_what_a_browser_has_is_not_sent_again(serving: Serving) -> None:
    (first,) = served(serving, "/page/main.js")
    tag = first.headers["etag"]
    assert first.headers["cache-control"] == "no-cache"
    for known in (tag, f'"other", W/{tag}'):
        (again,) = served(serving, "/page/main.js", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    (changed,) = served(serving, "/page/main.js", headers={"if-none-match": '"other"'})
    assert changed.status_code == 200
    tags = {response.headers["etag"] for response in served(serving, *(f"/page/{name}" for name in NAMES))}
    assert len(tags) == len(NAMES)


def test_only_the_pages_own_files_are_served(serving: Serving) -> None:
    paths = ["/page/", "/page/none.js", "/page/..%2fapp.py", "/page/%2e%2e/app.py", "/page/__init__.py", "/app.py"]
    for response in served(serving, *paths):
        assert response.status_code == 404
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_the_page_needs_no_key(serving: Serving) -> None:
    async def use(client: httpx.AsyncClient) -> list[int]:
        return [(await client.get(path)).status_code for path in ("/", "/page/main.js")]

    assert serving(use, api_key=["secret"]) == [200, 200]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_comes_from_elsewhere(name: str) -> None:
    """No address but of names and of documents, which no browser asks for; and addresses are relative, so that the page
    works below a path of a proxy."""
    addresses = re.findall(r"https?://[^\s\"'`)]*", text(name))
    documents = r"http://www\.w3\.org/2000/svg|https://html\.spec\.whatwg\.org/.*|https://platform\.openai\.com/docs/.*"
    assert [address for address in addresses if not re.fullmatch(documents, address)] == []
    assert re.findall(r"""(?:src|href|from|fetch\(|call\(|stream\()=?\s*["'`]/[^"'`]*""", text(name)) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith((".js", ".html"))])
def test_text_never_becomes_html_or_code(name: str) -> None:
    """The policy forbids it as well; the page is not to need that."""
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|DOMParser|createContextualFragment|\beval\b|"
    ways += r"new Function|javascript:|\son\w+=\"|\sstyle=\"|<style"
    assert re.findall(ways, text(name)) == []


def test_what_the_page_names_is_there() -> None:
    html = text("index.html")
    named = set(re.findall(r'(?:src|href)="page/([^"]+)"', html))
    for name in SCRIPTS:
        named |= set(re.findall(r'from "\./([^"]+)"', text(name)))
    assert named == set(NAMES) - {"index.html"}
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    used = {one for name in SCRIPTS for one in re.findall(r'byId\("([^"]+)"\)', text(name))}
    assert used <= set(ids)
    drawings = {
        one for name in SCRIPTS for one in re.findall(r'(?:button|copyButton)\([^()\n]*?, "([a-z]+)"', text(name))
    }
    assert {f"icon-{drawing}" for drawing in drawings} <= set(ids)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_have_one_subject(name: str) -> None:
    lines = text(name).splitlines()
    assert lines[0].startswith("// ")
    assert len(lines) <= FILE_LINES
    assert [line for line in lines if len(line) > 130] == []
