"""An application that answers at once, and files of requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from pygpt.jobs.asgi import App


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes lines, tables or as they are, to in.jsonl."""

    def write_lines(rows: Iterable[dict[str, Any] | bytes]) -> Path:
        path = tmp_path / "in.jsonl"
        path.write_bytes(b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in rows))
        return path

    return write_lines


@pytest.fixture
def echo() -> App:
    """Answers with what it was asked; "status" in it is the status, and "busy" is how often it has no room first."""
    asked: dict[str, int] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        body = json.loads((await receive())["body"])
        await asyncio.sleep(0)
        asked[str(body)] = asked.get(str(body), 0) + 1
        status = 503 if asked[str(body)] <= body.get("busy", 0) else body.get("status", 200)
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        content = json.dumps({"path": scope["path"], "asked": body, "usage": usage}).encode()
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-request-id", b"r1")]})
        await send({"type": "http.response.body", "body": content[:5], "more_body": True})
        await send({"type": "http.response.body", "body": content[5:]})

    return app
