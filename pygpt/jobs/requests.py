"""The input of a job: one request a line, ``{"custom_id": ..., "method": "POST", "url": ..., "body": {...}}``, as
https://platform.openai.com/docs/api-reference/batch/request-input describes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pygpt._json import shown

URLS = ("/v1/completions", "/v1/chat/completions", "/v1/embeddings")
"""What may be asked."""

_SEEDED = URLS[:2]


class Item(NamedTuple):
    """A line of the input: a request, or what is wrong with it."""

    line: int
    """From 1."""

    custom_id: str | None
    """The request's own name; None where the line has none."""

    url: str
    """One of `URLS`."""

    body: dict[str, Any]
    """The request. Where it draws and names no seed, its `custom_id` gives one, so that an answer does not depend on
    when the job was interrupted."""

    fault: str | None = None
    """What is wrong with the line, instead of a request."""

    offset: int = 0
    """Bytes before the line."""

    @property
    def key(self) -> bytes:
        """(16,) bytes that tell it from all others: by its `custom_id`, or its line where it has none."""
        return key_of(self.line if self.custom_id is None else self.custom_id)


def key_of(name: int | str) -> bytes:
    """A digest, because a million names of any length would not fit in memory."""
    kind = "line" if isinstance(name, int) else "id"
    return hashlib.blake2b(f"{kind} {name}".encode("utf-8", "surrogatepass"), digest_size=16).digest()


def read(path: Path) -> Iterator[Item]:
    """The lines of a file one by one, without those that are blank. OSError where it cannot be read."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield parse(number, line)._replace(offset=offset)
            offset += len(line)


def scan(path: Path) -> tuple[set[bytes], set[str]]:
    """The keys of all lines, and the models that they ask for. ValueError, with both lines, where two requests have one
    `custom_id`: their answers could not be told apart."""
    keys: set[bytes] = set()
    models: set[str] = set()
    for item in read(path):
        if item.key in keys:
            first = next(other.line for other in read(path) if other.key == item.key)
            raise ValueError(f"{path}: lines {first} and {item.line} have the same custom_id {shown(item.custom_id)}")
        keys.add(item.key)
        if item.fault is None:
            models.add(str(item.body.get("model")))
    return keys, models


def parse(number: int, line: bytes) -> Item:
    """A line."""
    try:
        table = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Item(number, None, "", {}, f"not valid JSON: {error}")
    if not isinstance(table, dict):
        return Item(number, None, "", {}, "not a JSON object")
    custom_id, url, body = table.get("custom_id"), table.get("url"), table.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        return Item(number, None, "", {}, f"custom_id must be a text of its own, not {shown(custom_id)}")
    if unknown := table.keys() - {"custom_id", "method", "url", "body"}:
        fault = f"unknown key {shown(min(unknown))}: there are custom_id, method, url and body"
    elif table.get("method") != "POST":
        fault = f'method must be "POST", not {shown(table.get("method"))}'
    elif url not in URLS:
        fault = f"url must be one of {', '.join(URLS)}, not {shown(url)}"
    elif not isinstance(body, dict):
        fault = f"body must be a JSON object, not {shown(body)}"
    elif body.get("stream"):
        fault = "body: a batch has no stream"
    else:
        return Item(number, custom_id, url, _with_seed(url, body, custom_id))
    return Item(number, custom_id, "", {}, fault)


def _with_seed(url: str, body: dict[str, Any], custom_id: str) -> dict[str, Any]:
    if url not in _SEEDED or body.get("seed") is not None:
        return body
    return {**body, "seed": int.from_bytes(key_of(custom_id)[:4], "big")}
