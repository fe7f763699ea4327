"""SIGTERM and Ctrl-C: what runs is finished, nothing new is taken, and a second one ends the process."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import httpx
import pytest

Start: TypeAlias = Callable[..., AbstractContextManager[Any]]

LONG = {"model": "tiny", "prompt": "Once upon a time", "max_tokens": 500, "temperature": 1.5, "n": 8, "stream": True}


def wait_until_draining(client: httpx.Client) -> None:
    end = time.monotonic() + 60
    while client.get("/health").status_code == 200:
        assert time.monotonic() < end


def events_of(lines: Any) -> list[str]:
    return [line.removeprefix("data: ") for line in lines if line]


@pytest.mark.parametrize(("kind", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_first_signal_lets_answers_finish(start: Start, kind: int, status: int) -> None:
    with start("--grace", 600) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        with client.stream("POST", "/v1/completions", json=LONG) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: ")
            server.process.send_signal(kind)
            wait_until_draining(client)
            assert client.get("/health").json() == {"status": "draining"}
            assert client.get("/live").json() == {"status": "alive"}
            assert 'pygpt_scheduler_running{model="tiny"}' in client.get("/metrics").text
            refused = client.post("/v1/completions", json=LONG)
            assert refused.status_code == 503
            assert "retry-after" in refused.headers
            assert "shutting down" in refused.json()["error"]["message"]
            events = events_of(lines)
        assert events[-1] == "[DONE]"
        ends = [choice["finish_reason"] for event in events[:-1] for choice in json.loads(event)["choices"]]
        assert sum(end is not None for end in ends) == 8
        assert server.process.wait(timeout=30) == status
        assert "Traceback" not in server.log.read_text()


def test_an_idle_server_stops_at_once_whoever_is_connected(start: Start) -> None:
    with start("--grace", 600) as server, server.connect() as idle, httpx.Client(base_url=server.url) as client:
        assert client.get("/health").status_code == 200
        assert server.stop()[0] == 0
        assert idle.recv(1) == b""


def test_answers_that_outlast_the_grace_are_told_so(start: Start) -> None:
    with start("--grace", 0.1) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        with client.stream("POST", "/v1/completions", json={**LONG, "n": 64}) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: ")
            server.process.send_signal(signal.SIGTERM)
            last = json.loads(events_of(lines)[-1])
        assert "shutting down" in last["error"]["message"]
        assert server.process.wait(timeout=30) == 0
        assert "1 requests are cut off" in server.log.read_text()


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_the_process(start: Start, kind: int) -> None:
    with (
        start("--grace", 600) as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
        client.stream("POST", "/v1/completions", json={**LONG, "n": 64}) as answer,
    ):
        lines = answer.iter_lines()  # held: httpx closes the connection where nobody does
        assert next(lines).startswith("data: ")
        server.process.send_signal(signal.SIGTERM)
        wait_until_draining(client)
        server.process.send_signal(kind)
        assert server.process.wait(timeout=30) == -kind
