"""Who is let in: keys that clients show, and names by which they may address the server."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request

from pygpt.server.errors import ApiError
from pygpt.server.settings import Settings


class Keys:
    """The keys that are let in; none lets everyone in."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = [key.encode() for key in keys]

    @classmethod
    def of(cls, settings: Settings) -> Keys:
        """Those of the settings and of their file. ValueError for a file without any: that would let everyone in."""
        keys = list(settings.api_key)
        if settings.api_key_file is not None:
            keys += _read(settings.api_key_file)
        if not all(key.strip() for key in keys):
            raise ValueError("api_key must not be empty")
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def check(self, request: Request) -> str | None:
        """Which key the request shows, by its number; None where no key is needed. ApiError 401.

        All keys are compared, each in constant time: how long it takes tells nothing about them.
        """
        if not self._keys:
            return None
        kind, _, shown = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            shown = request.headers.get("x-api-key", "")
        given = shown.strip(" \t").encode("latin-1")  # the bytes that came: a key may be of other letters than ASCII's
        found = [number for number, key in enumerate(self._keys) if hmac.compare_digest(key, given)]
        if not found:
            what = "a key is needed: Authorization: Bearer KEY" if not given else "the key is not valid"
            raise ApiError(401, what, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
        return f"key {found[0] + 1}"


class Hosts:
    """The names by which requests may address the server.

    A page of another website can make its own name point at this machine, and is to a browser then a part of this
    server, which it may ask anything (DNS rebinding). Where a key is needed it has none, and a server that listens to
    the network cannot know its names: only one at the loopback looks at them.
    """

    def __init__(self, settings: Settings, keys: Keys) -> None:
        is_open = bool(keys) or "*" in settings.allowed_host or settings.uds is not None
        self._names = (
            None if is_open or not _is_local(settings.host) else {name.lower() for name in settings.allowed_host}
        )

    def check(self, request: Request) -> None:
        """ApiError 403."""
        if self._names is None:
            return
        name = request.headers.get("host", "").lower()
        name = name.partition("]")[0].lstrip("[") if name.startswith("[") else name.partition(":")[0]
        if not (name in self._names or _is_local(name) or _is_address(name)):
            message = f"this server is not {name[:100]!r}: it is addressed as localhost, or as --allowed-host says"
            raise ApiError(403, message, code="wrong_host")


def _is_local(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _read(path: Path) -> list[str]:
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise ValueError(f"api_key_file must have a key in a line: {path}")
    return keys
