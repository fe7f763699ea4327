"""`pygpt serve` as a process: its address, its limits on connections, its settings, its end."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest
from typer.testing import CliRunner

from pygpt import Scheduler
from pygpt.cli._app import app
from pygpt.server.settings import Settings

Server: TypeAlias = Any  # of conftest.py
Start: TypeAlias = Callable[..., AbstractContextManager[Server]]
LIMITS = ("--header-timeout", 0.4, "--body-timeout", 0.4, "--max-headers", 4096, "--max-body", 20_000)


@pytest.fixture(scope="module")
def limited(start: Start) -> Iterator[Server]:
    with start(*LIMITS, "--max-connections", 200) as server:
        yield server


# --- limits -----------------------------------------------------------------------------------------------------------


def status_and_error(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["message"]


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 5000,
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\n" + b"a: b\r\n" * 5000,
    ],
    ids=["one field", "without end", "path", "many fields"],
)
def test_a_large_head_is_refused(limited: Server, head: bytes) -> None:
    """Of a first request and of a second one."""
    assert status_and_error(limited.talk(head)) == (431, "the head of the request is larger than 4096 bytes")
    with limited.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(head)
        assert status_and_error(limited.rest_of(connection))[0] == 431


def test_half_a_head_is_given_up(limited: Server) -> None:
    answer = limited.talk(b"GET /health HTTP/1.1\r\nhost: localhost\r\n")
    assert status_and_error(answer) == (408, "the head of the request took longer than 0.4 seconds")
    assert limited.talk(b"") == b""
    assert limited.talk(b"\r\n").startswith(b"HTTP/1.1 408")


def test_a_head_that_trickles_in_is_given_up(limited: Server) -> None:
    with limited.connect() as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        connection.settimeout(0.1)
        for _ in range(100):
            connection.sendall(b"a")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(65536)
                assert answer.startswith(b"HTTP/1.1 408")
                return
    pytest.fail("it was waited for")


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_no_http_is_told_so(limited: Server, garbage: bytes) -> None:
    assert status_and_error(limited.talk(garbage)) == (400, "this is no valid HTTP request")


def test_more_connections_than_allowed_are_turned_away(limited: Server) -> None:
    """The one that was there before is served meanwhile, and the places are free again once the others gave up."""
    with contextlib.ExitStack() as stack, httpx.Client(base_url=limited.url) as client:
        assert client.get("/health").status_code == 200
        others = [stack.enter_context(limited.connect()) for _ in range(250)]
        assert client.get("/health").status_code == 200
        answers = [limited.rest_of(other) for other in others[::-1]]
        turned_away = [status_and_error(answer) for answer in answers if answer]
        assert set(turned_away) == {(503, "there are 200 connections already")}
        assert len(turned_away) == 51
    assert httpx.get(f"{limited.url}/health").status_code == 200


def test_a_thousand_connections(start: Start) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    request = b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    try:
        with start() as server, contextlib.ExitStack() as stack:
            several = [stack.enter_context(server.connect()) for _ in range(1000)]
            for connection in several:
                connection.sendall(request)
            assert {server.rest_of(connection)[:15] for connection in several} == {b"HTTP/1.1 200 OK"}
            status, log = server.stop()
            assert (status, log.count("path=/v1/models status=200")) == (0, 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# --- where it listens -------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_a_clear_error(limited: Server, start: Start) -> None:
    with start("--port", limited.port) as second:
        assert second.process.wait(timeout=30) == 1
        assert (
            second.log.read_text()
            == f"pygpt: error: cannot listen at 127.0.0.1, port {limited.port}: Address already in use\n"
        )


def test_a_unix_socket(start: Start, tmp_path: Path) -> None:
    place = tmp_path / "s"
    for _ in range(2):  # the second finds the socket of one that was killed
        with start("--uds", place):
            transport = httpx.HTTPTransport(uds=str(place))
            with httpx.Client(transport=transport) as client:
                assert client.get("http://localhost/health").json() == {"status": "ok"}
        assert place.exists()
    with start("--uds", place) as server:
        assert server.stop()[0] == 0
    assert not place.exists()


# --- settings ---------------------------------------------------------------------------------------------------------


def test_flags_stand_above_the_environment_and_that_above_the_file(start: Start, tmp_path: Path) -> None:
    config = tmp_path / "pygpt.toml"
    config.write_text('models = ["a=tiny", "b=tiny"]\napi_key = "file"\nlog_format = "json"\nheader_timeout = 60\n')
    env = {"PYGPT_SERVE_API_KEY": "environment other", "PYGPT_SERVE_LOG_FORMAT": "text"}
    with start("--config", config, "--log-format", "json", models=(), env=env) as server:

        def status(key: str) -> int:
            return httpx.get(f"{server.url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code

        assert [status(key) for key in ("environment", "other", "file", "x")] == [200, 200, 401, 401]
        headers = {"authorization": "Bearer other", "x-request-id": "mine"}
        answer = httpx.get(f"{server.url}/v1/models", headers=headers)
        assert [one["id"] for one in answer.json()["data"]] == ["a", "b"]
        assert answer.headers["x-request-id"] == "mine"
        status_, log = server.stop()
        assert status_ == 0
    lines = [json.loads(line) for line in log.splitlines()]
    (line,) = [line for line in lines if line.get("id") == "mine"]
    assert (line["client"], line["status"], line["path"]) == ("key 2", 200, "/v1/models")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pot = 1", "unknown setting 'pot': did you mean 'port'?"),
        ("port = [", "pygpt.toml: "),
        ("port = 70000", "port must be from 0 to 65535, not 70000"),
        ("models = []\nport = 1", "MODEL"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    config = tmp_path / "pygpt.toml"
    config.write_text(text)
    models = () if "models" in text else ("tiny",)
    result = CliRunner().invoke(app, ["serve", *models, "--config", str(config)])
    assert result.exit_code in (1, 2)
    assert message in result.stderr


def test_a_first_model_that_cannot_be_loaded_is_a_clear_error(start: Start, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with start(models=(f"broken={tmp_path}",)) as server:
        assert server.process.wait(timeout=30) == 1
        last = server.log.read_text().splitlines()[-1]
        assert last.startswith(f"pygpt: error: {tmp_path}")
        assert "Traceback" not in server.log.read_text()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("pygpt.server.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(app, ["serve", "tiny"])
    assert result.exit_code == 1
    assert "pip install 'pygpt-cpu[server]'" in result.stderr
    assert CliRunner().invoke(app, ["serve", "--help"]).exit_code == 0


def test_a_scheduler_has_the_defaults_that_the_settings_show() -> None:
    parameters = inspect.signature(Scheduler).parameters
    for name in ("max_running", "max_waiting", "max_step_tokens"):
        assert getattr(Settings(models=["tiny"]), name) == parameters[name].default


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"models": []}, "models must name at least one model"),
        ({"port": -1}, "port must be from 0 to 65535, not -1"),
        ({"max_running": 0}, "max_running must be at least 1, not 0"),
        ({"grace": float("nan")}, "grace must be a finite number >= 0, not nan"),
        ({"cache_memory": -1.0}, "cache_memory must be a finite number >= 0, not -1.0"),
    ],
)
def test_wrong_settings_are_named(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Settings(**{"models": ["tiny"], **wrong})
