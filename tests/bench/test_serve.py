"""bench/serve.py runs, and counts what it says it counts."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pygpt


@pytest.fixture
def serve(script: Callable[[str], ModuleType]) -> Any:
    return script("serve")


@pytest.fixture
def load(serve: Any) -> Any:
    return serve.load


def test_an_answer_in_chunks(load: Any) -> None:
    events = [{"choices": [{"text": text}]} for text in ("a", "", "b")]
    events.append({"choices": [], "usage": {"completion_tokens": 4}})
    lines = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events] + [b"data: [DONE]\n\n"]
    chunks = [f"{len(line):x}\r\n".encode() + line + b"\r\n" for line in lines]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    arrivals = [
        (0.5, head),
        (1.0, chunks[0]),
        (2.0, chunks[1] + chunks[2]),
        (3.0, chunks[3] + chunks[4] + b"0\r\n\r\n"),
    ]
    answer = load.Answer(0.0, arrivals)
    assert answer.status == 200
    assert answer.is_whole()
    assert answer.text() == "ab"
    assert answer.n_tokens() == 4
    assert answer.token_times() == [(1.0, 2.0), (2.0, 2.0)]  # two events with text, for four tokens
    assert not load.Answer(0.0, arrivals[:-1], closed=True).is_whole()


def test_a_piece_without_a_token_is_no_token(serve: Any) -> None:
    model = pygpt.Model.load("tiny")
    inside = serve.Inside(model, 1, serve.Prompts(model, "Once upon a time there was a fox. " * 200, 0))
    number, _ = inside.next()
    inside.take(number, pygpt.Piece(" the", 262, 0, None, None))
    inside.take(number, pygpt.Piece("", None, 0, "cancelled", None))
    ((at, n),) = inside.times[number]
    assert n == 1.0
    assert at <= inside.begin < math.inf  # the answer ended all the same


def test_figures_of_a_window(load: Any) -> None:
    tokens = [[(1.0, 1.0), (2.0, 1.0), (4.0, 1.0)], [(9.0, 1.0)]]
    found = load.figures(tokens, [0.5, 8.0], 0.0, 5.0)
    assert found["tokens_per_second"] == 3 / 5
    assert found["first_ms"]["p50"] == 500
    assert found["between_ms"]["p50"] == 1500
    assert found["requests"] == 1


def run(scripts: Path, elsewhere: dict[str, Any], out: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(scripts / "serve.py"), "tiny", "--threads", "1", "--out", str(out), *options]
    done = subprocess.run(command, **elsewhere, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.iterdir()
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert list(lines[0]) == ["run"]
    return {str(key): value for line in lines[1:] for key, value in line.items()} | {"n": len(lines)}


def test_a_load(scripts: Path, elsewhere: dict[str, Any], tmp_path: Path) -> None:
    found = run(scripts, elsewhere, tmp_path, "--bare", "--clients", "2", "--seconds", "0.3", "--rounds", "1")
    assert found["n"] == 4
    assert found["sample"]["server"] == "bare"
    assert found["sample"]["tokens_per_second"] > 0


def test_a_soak(scripts: Path, elsewhere: dict[str, Any], tmp_path: Path) -> None:
    found = run(scripts, elsewhere, tmp_path, "--soak", "100")["soak"]
    assert found["faults"] == 0
    assert found["whole"] > 50
    assert found["malformed"] > 0
