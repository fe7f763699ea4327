"""`pygpt batch`: a file of requests, answered once each, however often it is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pygpt.cli._app import app


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["batch", *map(str, arguments), "--threads", "1"])


def write(path: Path, n: int, **body: Any) -> Path:
    rows = (
        {
            "custom_id": f"r{i}",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"model": "tiny", "prompt": f"Number {i}", "max_tokens": 30, **body},
        }
        for i in range(n)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def records(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def choices(path: Path) -> dict[str, Any]:
    """What was said to whom: identifiers and times differ from run to run."""
    found = {record["custom_id"]: record["response"]["body"]["choices"] for record in records(path)}
    assert len(found) == len(records(path))
    return found


def test_requests_are_answered_as_the_server_does(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", 5), tmp_path / "out.jsonl"
    row = json.loads(source.read_text().splitlines()[0])
    with source.open("a") as file:
        file.write(json.dumps({**row, "custom_id": "hot", "body": {**row["body"], "temperature": -1}}) + "\n")
        file.write(json.dumps({**row, "custom_id": "other", "body": {**row["body"], "model": "gpt"}}) + "\n")
        file.write("{\n")
    result = run(source, target, "-m", "tiny")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("8 of 8 requests answered in ")
    assert "3 with an error" in result.stderr
    found = {record["custom_id"]: record for record in records(target)}
    assert len(found) == 8
    body = found["r0"]["response"]["body"]
    assert body["object"] == "text_completion"
    assert body["usage"]["completion_tokens"] > 0
    assert found["r0"]["response"]["request_id"]
    assert found["hot"]["response"]["status_code"] == 400
    assert found["hot"]["response"]["body"]["error"]["param"] == "temperature"
    assert found["other"]["response"]["status_code"] == 404
    assert found[None]["error"]["line"] == 8
    again = run(source, target, "-m", "tiny")
    assert (again.exit_code, again.stderr) == (0, "all 8 requests were answered before\n")


def test_oversights_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", 2), tmp_path / "out.jsonl"
    twice = tmp_path / "twice.jsonl"
    twice.write_text(source.read_text() * 2)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text('{"model_type": "gpt2"')
    for arguments, message in (
        ((source, target, "-m", "big=tiny"), "asks for the model 'tiny', but there is big"),
        ((twice, target, "-m", "tiny"), "lines 1 and 3 have the same custom_id 'r0'"),
        ((source, source, "-m", "tiny"), "is the input"),
        ((tmp_path / "missing", target, "-m", "tiny"), "No such file"),
        ((source, target, "-m", str(tmp_path / "no")), str(tmp_path / "no")),
        ((source, target, "-m", f"tiny={damaged}"), "damaged: no checkpoint here"),
        ((source, target, "-m", "tiny", "-m", "tiny"), "two models have the name 'tiny'"),
        ((source, tmp_path / "no" / "out.jsonl", "-m", "tiny"), "No such file"),
    ):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
        assert not target.exists() or not target.read_bytes()
    assert run(source, target).exit_code == 2


def test_what_is_missing_for_a_cluster_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name == "pygpt.ray" or name.startswith("pygpt.ray.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run(write(tmp_path / "in.jsonl", 1), tmp_path / "out.jsonl", "-m", "tiny", "--ray", "auto")
    assert result.exit_code == 1
    assert result.stderr == "pygpt: error: pygpt batch needs ray: pip install 'pygpt-cpu[ray,server]'\n"


def test_stopped_and_killed_it_goes_on(tmp_path: Path, elsewhere: dict[str, Any]) -> None:
    source, alone, target = write(tmp_path / "in.jsonl", 120), tmp_path / "alone.jsonl", tmp_path / "out.jsonl"
    assert run(source, alone, "-m", "tiny").exit_code == 0
    start = [sys.executable, "-m", "pygpt", "batch", str(source), str(target), "-m", "tiny"]
    command = [*start, "--threads", "1", "--max-running", "4"]
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        before = len(records(target)) if target.exists() else 0
        with subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            text=True,
            **elsewhere,
        ) as process:
            while not target.exists() or target.read_bytes().count(b"\n") < before + 10:
                assert process.poll() is None, process.communicate()
                time.sleep(0.002)
            process.send_signal(number)
            _, message = process.communicate()
        assert process.returncode == (130 if number == signal.SIGINT else -number), message
        assert "Traceback" not in message
    n_before = target.read_bytes().count(b"\n")
    assert 30 <= n_before < 120
    result = run(source, target, "-m", "tiny")
    assert f", {n_before} before" in result.stderr
    assert choices(target) == choices(alone)
