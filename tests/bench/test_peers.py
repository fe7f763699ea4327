"""bench/peers.py with engines that are only Python: what happens when one dies, and after an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ENGINE = """
import os, signal, sys, pathlib
import numpy as np

VERSION = "fake 1"
FORMATS = {"float32": 32.0, "float32-too": 32.0, "other": 32.0, "dying": 32.0, "raising": 32.0}


class load:
    def __init__(self, folder, threads, weights):
        self.weights = weights

    def start(self, tokens):
        self.last = tokens[:, -1]
        return self.logits()

    def step(self, tokens):
        if self.weights == "dying":
            print("a word before the end", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.weights == "raising":
            raise ArithmeticError("no such number")
        self.last = tokens
        return self.logits()

    def logits(self):
        logits = np.sin(np.arange(50)[None] * (1 + self.last[:, None]))
        return -logits if self.weights == "other" else logits


def prepare(checkpoint, cache, weights):
    with (pathlib.Path(__file__).parent / "prepared").open("a") as file:
        print(weights, file=file)
"""
Peers = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def peers(scripts: Path, tmp_path: Path) -> Peers:
    """Starts peers.py with the options given and engines of the module above."""
    (tmp_path / "peer_fake.py").write_text(ENGINE)

    def start(*options: str) -> subprocess.Popen[str]:
        folders = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
        command = [sys.executable, str(scripts / "peers.py"), "--smoke", "--threads", "1", *folders, *options]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=tmp_path
        )

    return start


def samples(path: Path) -> list[tuple[int, str, str]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [(s["round"], s["task"], s["engine"]) for s in (line["sample"] for line in lines if "sample" in line)]


def test_an_engine_that_fails_is_left_out_and_the_others_go_on(peers: Peers, tmp_path: Path) -> None:
    names = ["float32", "dying", "raising", "other", "unknown"]
    output, _ = (run := peers(*(f"--engine=fake:{name}" for name in names), "--engine=absent:int8")).communicate()
    assert run.returncode == 0, output
    assert "absent:int8 is left out: No module named 'peer_absent'" in output
    assert "fake:unknown is left out: its formats are float32," in output
    assert "fake:dying, warm up: fake:dying was killed by SIGKILL; its last lines:\n    a word before the end" in output
    assert "ArithmeticError: no such number" in output
    assert "fake:other, check: logits are" in output
    (path,) = (tmp_path / "out").iterdir()
    assert path.name.endswith("-cores-1-threads.jsonl")
    measured = samples(path)
    assert [engine for _, task, engine in measured if task == "decode at 16"] == ["fake:float32"]
    assert '"end"' in path.read_text().splitlines()[-1]


def test_an_interrupted_run_loses_nothing(peers: Peers, tmp_path: Path) -> None:
    options = ["--engine=fake:float32", "--engine=fake:float32-too", "--rounds=12"]
    run = peers(*options)
    assert run.stdout is not None
    said = []
    for line in run.stdout:
        said.append(line)
        if line.startswith("round 2 of 12, decode"):
            run.send_signal(signal.SIGINT)
            break
    rest, _ = run.communicate()
    assert run.returncode == 130, said
    assert "the same command with --resume goes on" in rest
    assert "Traceback" not in rest
    (path,) = (tmp_path / "out").iterdir()
    before = path.read_text()
    assert len(samples(path)) >= 10
    with path.open("a") as file:
        file.write('{"sample": {"rou')  # as if it had been killed while it wrote

    wrong = peers("--engine=fake:float32", "--rounds=3", "--resume")
    output, _ = wrong.communicate()
    assert wrong.returncode == 1
    assert "does not end with an interrupted run" in output

    output, _ = (again := peers(*options, "--resume")).communicate()
    assert again.returncode == 0, output
    assert path.read_text().startswith(before)
    measured = samples(path)
    assert len(measured) == len(set(measured)) == 12 * 3 * 2
    assert (tmp_path / "prepared").read_text().split() == ["float32", "float32-too"]


def test_a_conversion_is_made_again_when_its_code_changes(peers: Peers, tmp_path: Path) -> None:
    for text in (ENGINE, ENGINE, ENGINE + "\n# another way\n"):
        (tmp_path / "peer_fake.py").write_text(text)
        peers("--engine=fake:float32").communicate()
    assert (tmp_path / "prepared").read_text().split() == ["float32", "float32"]
