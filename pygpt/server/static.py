"""The page at `/`: its files, read once, and what a browser may do with them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "cache-control": "no-cache",  # kept, but asked for again: names do not change from version to version
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class _File(NamedTuple):
    body: bytes
    headers: dict[str, str]


def _read() -> dict[str, _File]:
    folder = Path(__file__).with_name("page")
    bodies = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in _TYPES}
    # A tag of the content: files of a wheel may all have one time.
    tags = {name: f'"{hashlib.sha256(body).hexdigest()[:32]}"' for name, body in bodies.items()}
    return {
        name: _File(body, {**_HEADERS, "content-type": _TYPES[Path(name).suffix], "etag": tags[name]})
        for name, body in bodies.items()
    }


_FILES = _read()


async def _page(request: Request) -> Response:
    """A file of the page, or 304 to a browser that has it."""
    name = request.path_params.get("name", "index.html")
    file = _FILES.get(name)
    if file is None:
        raise HTTPException(404)
    known = request.headers.get("if-none-match", "")
    if file.headers["etag"] in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=file.headers)
    return Response(file.body, headers=file.headers)


ROUTES: list[BaseRoute] = [Route("/", _page), Route("/page/{name}", _page)]
