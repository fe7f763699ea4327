"""A cache of the Hugging Face hub of its own, and a server that speaks the hub's protocol."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
VARIABLES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HF_HUB_OFFLINE", "HF_ENDPOINT")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no client to download with."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYGPT_CACHE", str(tmp_path / "pygpt"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # makes its import fail
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home" / "hub"


def _fill(
    cache: Path, name: str, files: dict[str, str] | None = None, revision: str = COMMIT, main: bool = True
) -> Path:
    model = cache / f"models--{name.replace('/', '--')}"
    snapshot = model / "snapshots" / revision
    blobs = model / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    for file, text in (files or dict.fromkeys(("config.json", "model.safetensors", "tokenizer.json"), "")).items():
        link = snapshot / file
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = blobs / hashlib.sha256(f"{file} {text}".encode()).hexdigest()
        blob.write_text(text, encoding="utf-8")
        link.symlink_to(os.path.relpath(blob, link.parent))
    if main:
        (model / "refs").mkdir(exist_ok=True)
        (model / "refs" / "main").write_text(revision + "\n", encoding="utf-8")
    return snapshot


@pytest.fixture
def fill(cache: Path) -> Callable[..., Path]:
    """Puts a snapshot into the cache, as links to blobs: (name, {file: text}, revision, main=whether main is it)."""
    return lambda *args, **options: _fill(cache, *args, **options)


class Stalling:
    """A stream whose long writes wait before the last byte."""

    def __init__(self, stream: Any, released: threading.Event) -> None:
        self.stream, self.released, self.closed = stream, released, False
        self.flush, self.close = stream.flush, stream.close

    def write(self, data: bytes) -> None:
        if len(data) > 1000:
            self.stream.write(data[:-1])
            self.released.wait(60)
            data = data[-1:]
        with contextlib.suppress(OSError):  # nobody waits for it any more
            self.stream.write(data)


class Hub:
    """Repositories by name: files by path. What is asked for is kept in `asked` (method, path, range)."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.asked: list[tuple[str, str, str | None]] = []
        self.drops: dict[str, int] = {}  # file -> after how many bytes the connection breaks, once
        self.stalls: set[str] = set()  # files that come to a halt before their last byte, until `released`
        self.released = threading.Event()
        self.refused: dict[str, int] = {}  # file -> status
        self.gated: set[str] = set()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            def do_HEAD(self) -> None:
                hub.answer(self)

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def bodies(self) -> list[str]:
        """The files whose contents were asked for."""
        return [path.rpartition("/")[2] for method, path, _ in self.asked if method == "GET" and "/resolve/" in path]

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = unquote(urlsplit(request.path).path)
        self.asked.append((request.command, path, request.headers.get("Range")))
        if path.startswith("/api/models/"):
            self._api(request, path.removeprefix("/api/models/").split("/"))
        else:
            repository, _, rest = path[1:].partition("/resolve/")
            self._file(request, repository, rest.partition("/")[2])

    def _api(self, request: BaseHTTPRequestHandler, parts: list[str]) -> None:
        name, what = "/".join(parts[:2]), parts[2] if len(parts) > 2 else ""
        if name not in self.repositories:
            self._send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif what == "revision" and parts[3] not in ("main", COMMIT):
            self._send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            files = self.repositories[name]
            table: Any = [
                {"type": "file", "path": n, "size": len(b), "oid": hashlib.sha1(b).hexdigest()}
                for n, b in files.items()
            ]
            if what != "tree":
                siblings = [{"rfilename": file["path"], "size": file["size"]} for file in table]
                table = {"_id": "1", "id": name, "sha": COMMIT, "siblings": siblings, "tags": []}
                table |= {"private": False, "disabled": False, "gated": False, "downloads": 0, "likes": 0}
            self._send(request, 200, json.dumps(table).encode(), {"Content-Type": "application/json"})

    def _file(self, request: BaseHTTPRequestHandler, repository: str, name: str) -> None:
        if repository in self.gated:
            self._send(request, 403, b"", {"X-Error-Code": "GatedRepo"})
            return
        body = self.repositories.get(repository, {}).get(name)
        if body is None or (name in self.refused and request.command == "GET"):
            self._send(request, 404 if body is None else self.refused[name], b"", {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        status, start = 200, 0
        if (wanted := request.headers.get("Range")) is not None:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            status, headers["Content-Range"] = 206, f"bytes {start}-{len(body) - 1}/{len(body)}"
        drop = self.drops.pop(name, None) if request.command == "GET" else None
        if name in self.stalls and request.command == "GET":
            request.wfile = Stalling(request.wfile, self.released)
        self._send(request, status, body[start:], headers, drop)

    def _send(
        self,
        request: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str],
        drop: int | None = None,
    ) -> None:
        request.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(key, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body[:drop])
        if drop is not None:
            request.close_connection = True


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.server.serve_forever, daemon=True)
    thread.start()
    yield hub
    hub.released.set()
    hub.server.shutdown()
    hub.server.server_close()
    thread.join()


@pytest.fixture
def command(hub: Hub, tmp_path: Path, elsewhere: dict[str, Any]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `pygpt ARGUMENTS` in a process of its own with the server as the hub, an empty cache and more variables.
    `interrupt`: SIGINT comes once this is true."""
    pytest.importorskip("huggingface_hub", reason="the hub's client is an extra")

    def run(
        *arguments: str,
        limit: int | None = None,
        module: bool = True,
        interrupt: Callable[[], bool] | None = None,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        environment = {k: v for k, v in elsewhere["env"].items() if k not in (*VARIABLES, "HTTP_PROXY", "http_proxy")}
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "PYGPT_CACHE": str(tmp_path / "own")}
        environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
        start = [sys.executable, *(("-m", "pygpt") if module else ())]
        if limit is not None:  # bytes a file may have: the disk is full after them
            set_limit = f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({limit}, {limit}))"
            start = [sys.executable, "-c", f"{set_limit}\nfrom pygpt.cli import main; main()"]
        with subprocess.Popen(
            [*start, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=elsewhere["cwd"],
            env=environment | variables,
        ) as process:
            while interrupt is not None and process.poll() is None and not interrupt():
                time.sleep(0.05)
            if interrupt is not None:
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run
