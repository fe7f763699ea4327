"""Requests that are wrong, too large, too slow or given up, on real sockets; and that nobody else is disturbed."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import httpx
import pytest

Server: TypeAlias = Any  # of conftest.py
Start: TypeAlias = Callable[..., AbstractContextManager[Server]]

LONG = {"model": "tiny", "prompt": "Once upon a time", "max_tokens": 500, "temperature": 1.5, "n": 8, "stream": True}
SHORT = {"model": "tiny", "prompt": "Once upon a time", "max_tokens": 8, "seed": 1}


@pytest.fixture(scope="module")
def server(start: Start) -> Iterator[Server]:
    limits = ("--body-timeout", 0.4, "--max-body", 20_000, "--write-timeout", 0.3, "--request-timeout", 30)
    with start(*limits) as started:
        yield started


def post(body: bytes, *fields: bytes, length: int | None = None) -> bytes:
    size = b"content-length: %d" % (len(body) if length is None else length)
    own = fields if any(field.startswith(b"transfer-encoding") for field in fields) else (size, *fields)
    head = [b"POST /v1/completions HTTP/1.1", b"host: localhost", b"content-type: application/json", *own, b"", b""]
    return b"\r\n".join(head) + body


def status_and_error(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["message"]


def completion(server: Server) -> str:
    text: str = httpx.post(f"{server.url}/v1/completions", json=SHORT, timeout=60).json()["choices"][0]["text"]
    return text


def wait_until(condition: Callable[[], bool]) -> None:
    """Returns once it holds; a minute is for ever."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def value(server: Server, name: str) -> float:
    """A number of /metrics."""
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", httpx.get(f"{server.url}/metrics").text, re.M)
    assert found is not None
    return float(found[1])


def line_of(server: Server, request_id: str) -> dict[str, str]:
    """The fields of a request's line in the log, once it is there."""

    def lines() -> list[dict[str, str]]:
        fields = (dict(re.findall(r"(\w+)=(\S+)", line)) for line in server.log.read_text().splitlines())
        return [line for line in fields if line.get("id") == request_id]

    wait_until(lambda: bool(lines()))
    return lines()[0]


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"{", 400, "the body is not valid JSON"),
        (b"", 400, "the body is not valid JSON"),
        (b"[1]", 400, "the body"),
        (b'{"model": "tiny"}', 400, "missing parameter: prompt"),
        (b'{"model": "tiny", "prompt": "a", "temprature": 1}', 400, "unknown parameter: temprature"),
        (b'{"model": "tiny", "prompt": "a", "temperature": NaN}', 400, "temperature"),
        (b'{"model": "tiny", "prompt": "a", "max_tokens": "8"}', 400, "max_tokens"),
        (b'{"model": "tiny", "prompt": "a", "seed": ' + b"9" * 5000 + b"}", 400, ""),
        (b'{"model": "tiny", "prompt": ' + b"[" * 5000 + b"}", 400, ""),
        (b'{"model": "tiny", "prompt": "\xff"}', 400, ""),
        (b'{"model": "tiny", "prompt": "\\ud800"}', 400, ""),
        (b'{"model": "large", "prompt": "a"}', 404, "the model 'large' does not exist; this server has tiny"),
        (b'{"model": "tiny", "prompt": "' + b"a " * 2000 + b'"}', 400, "context of 512"),
        (b'{"model": "tiny", "prompt": "a", "n": 1000}', 400, "128"),
        (b" " * 20_001, 413, "the body is larger than 20000 bytes"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_wrong_body_is_told(server: Server, body: bytes, status: int, message: str) -> None:
    """On one connection, which stays usable."""
    with httpx.Client(base_url=server.url) as client:
        for _ in range(2):
            headers = {"content-type": "application/json"}
            answer = client.post("/v1/completions", content=body, headers=headers)
            assert answer.status_code == status
            assert message in answer.json()["error"]["message"]
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_body_must_say_that_it_is_json(server: Server) -> None:
    """A page of another website can send any other type without asking."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = httpx.post(
            f"{server.url}/v1/completions", content=b"{}", headers={"content-type": kind} if kind else {}
        )
        assert answer.status_code == 415


def test_a_large_body_in_chunks_is_refused_while_it_comes(server: Server) -> None:
    with server.connect() as connection:
        connection.sendall(post(b"", b"transfer-encoding: chunked"))
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 200:  # 2 MB, or until nobody takes it any more
                connection.sendall(b"2710\r\n" + b" " * 10_000 + b"\r\n")
                sent += 1
        connection.shutdown(socket.SHUT_WR)
        answer = server.rest_of(connection)
    assert status_and_error(answer) == (413, "the body is larger than 20000 bytes")


def test_a_body_that_does_not_come_is_given_up(server: Server) -> None:
    slow = "the body took longer than 0.4 seconds"
    assert status_and_error(server.talk(post(b'{"model"', length=100))) == (408, slow)
    assert status_and_error(server.talk(post(b"5\r\n{", b"transfer-encoding: chunked"))) == (408, slow)


def test_half_a_request_leaves_nothing_behind(server: Server) -> None:
    for data in (b"POST /v1/comp", post(b"{", length=100), post(b"", b"expect: 100-continue", length=9)):
        with server.connect() as connection:
            connection.sendall(data)
    assert completion(server) == completion(server)


def test_a_client_that_goes_away_frees_its_place(server: Server) -> None:
    """In a stream, and before an answer that comes at once."""
    for number, stream in enumerate((True, False)):
        request_id = f"gone-{number}"
        body = json.dumps({**LONG, "n": 64, "stream": stream}).encode()
        with server.connect() as connection:
            connection.sendall(post(body, b"x-request-id: " + request_id.encode()))
            if stream:
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
            else:
                wait_until(lambda: value(server, "pygpt_scheduler_running") > 0)
        line = line_of(server, request_id)
        assert "gone" in line["finish"]
        assert line["status"] == ("200" if stream else "499")
        assert int(line["new_tokens"]) < 64 * 500
        wait_until(lambda: value(server, "pygpt_scheduler_running") == 0)


def test_a_client_that_goes_away_with_a_second_request_in_the_queue(server: Server) -> None:
    """The first one's place is free as well."""
    with server.connect() as connection:
        first = post(json.dumps({**LONG, "n": 64}).encode(), b"x-request-id: first")
        connection.sendall(first + b"GET /health HTTP/1.1\r\nhost: localhost\r\nx-request-id: second\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
    assert "gone" in line_of(server, "first")["finish"]
    wait_until(lambda: value(server, "pygpt_scheduler_running") == 0)


def test_a_client_that_does_not_read_is_cut_off(server: Server) -> None:
    """What the system does not take is not kept for long, and others are served meanwhile."""
    n = 2000
    before = completion(server)
    with server.connect() as connection:
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * n)
        assert completion(server) == before
        time.sleep(1.5)  # the client's own pause, not a bound on the server's
        read = 0
        with contextlib.suppress(ConnectionError):
            while chunk := connection.recv(1 << 20):
                read += len(chunk)
    assert server.log.read_text().count("path=/openapi.json") < n
    assert read < n * len(httpx.get(f"{server.url}/openapi.json").content)


def test_an_answer_that_takes_too_long_ends(start: Start) -> None:
    with start("--request-timeout", 0.3) as server:
        message = "the answer took longer than 0.3 seconds"
        answer = httpx.post(f"{server.url}/v1/completions", json={**LONG, "stream": False, "n": 64}, timeout=60)
        assert (answer.status_code, answer.json()["error"]["message"]) == (504, message)
        streamed = httpx.post(f"{server.url}/v1/completions", json={**LONG, "n": 64}, timeout=60)
        events = [event for event in streamed.text.split("\n\n") if event]
        assert streamed.status_code == 200
        assert json.loads(events[-1].removeprefix("data: "))["error"]["message"] == message


def test_more_requests_than_may_wait_are_told_to_come_back(start: Start) -> None:
    with start("--max-running", 8, "--max-waiting", 1) as server, contextlib.ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=server.url, timeout=60))
        first = stack.enter_context(client.stream("POST", "/v1/completions", json=LONG))
        lines = first.iter_lines()
        assert next(lines)  # it has all places
        waiting = server.connect()
        stack.enter_context(waiting)
        waiting.sendall(post(json.dumps(LONG).encode()))
        wait_until(lambda: value(server, "pygpt_scheduler_waiting") == 1)
        answer = client.post("/v1/completions", json=SHORT)
        assert answer.status_code == 429
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert int(answer.headers["retry-after"]) >= 1
