"""Logs: what the server does, and one line a request. Prompts and answers are never in them."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

from pygpt.server.settings import LogFormat, LogLevel

server = logging.getLogger("pygpt.server")
requests = logging.getLogger("pygpt.server.requests")


def configure(form: LogFormat, level: LogLevel) -> None:
    """Send the logs of pygpt's server, and the warnings of uvicorn, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    for name, least in (("pygpt.server", level.upper()), ("uvicorn", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(least)


def request(fields: Mapping[str, Any]) -> None:
    """The line of a request that has ended. Fields that are None are left out."""
    if requests.isEnabledFor(logging.INFO):
        known = {name: value for name, value in fields.items() if value is not None}
        requests.info("request", extra={"fields": known})


class _Text(logging.Formatter):
    """2026-11-26T18:00:00.000Z INFO request id=... status=200 ..."""

    def format(self, record: logging.LogRecord) -> str:
        fields: Mapping[str, Any] = getattr(record, "fields", {})
        words = [f"{name}={_word(value)}" for name, value in fields.items()]
        line = " ".join([_stamp(record), record.levelname, _one_line(record.getMessage()), *words])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _Json(logging.Formatter):
    """The same as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields: Mapping[str, Any] = getattr(record, "fields", {})
        table = {"time": _stamp(record), "level": record.levelname.lower(), "message": record.getMessage(), **fields}
        if record.exc_info:
            table["exception"] = self.formatException(record.exc_info)
        return json.dumps(table, ensure_ascii=False)


def _stamp(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"


def _word(value: object) -> str:
    """A value without spaces and line breaks, which others could take for the end of it."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return json.dumps(text) if any(c.isspace() or not c.isprintable() or c in '"=' for c in text) else text


def _one_line(text: str) -> str:
    return text.replace("\n", "\\n").replace("\r", "\\r")
