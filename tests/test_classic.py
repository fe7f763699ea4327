"""examples/classic/: the snippets that articles show, as twins that are short, run, and do what they say."""

from __future__ import annotations

import re
import runpy
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pygpt

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "classic"
SNIPPETS = sorted(FOLDER.glob("*.py"))


@pytest.fixture
def printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Runs a snippet in an empty folder; the lines that it prints."""

    def run(name: str, *arguments: str) -> list[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of a server of "tiny"."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    command = [str(Path(sys.executable).with_name("pygpt")), "serve", "tiny", "--port", str(port)]
    process = subprocess.Popen([*command, "--threads", "1", "--log-level", "error"], cwd=tmp_path)
    try:
        for _ in range(600):
            assert process.poll() is None
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
                break
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.parametrize("path", SNIPPETS, ids=lambda p: p.stem)
def test_they_are_short_and_need_no_framework(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 40
    imported = set(re.findall(r"^(?:from|import) (\w+)", text, re.M))
    assert imported - set(sys.stdlib_module_names) <= {"numpy", "openai", "pygpt"}


def test_every_letter_is_there() -> None:
    letters = [re.match(r'"""\((\w)\) ', path.read_text(encoding="utf-8")) for path in SNIPPETS]
    assert sorted(letter[1] for letter in letters if letter) == list("abcdefg")


def test_completion(printed: Callable[..., list[str]], served: str) -> None:
    lines = printed("completion", served)
    prompt = "Once upon a time in a land far, far away,"
    same = pygpt.Model.load("tiny").generate(prompt, max_tokens=150, temperature=0.7, top_p=None, seed=1)
    assert "\n".join(lines[:-1]) == prompt + same.text
    assert lines[-1].endswith(f"+ {len(same.tokens)} tokens")


def test_layers(printed: Callable[..., list[str]]) -> None:
    text = "\n".join(printed("layers"))
    found = re.search(r"validation loss (\d\.\d+) nats", text)
    assert found is not None
    assert float(found[1]) < 2.6  # the frequencies of characters alone give 2.9
    assert "blocks.0-1.attn.q" in text


def test_not_an_lstm(printed: Callable[..., list[str]]) -> None:
    changes = [re.findall(r"by (\S+) in the LSTM, (\S+) in GPT-2", line) for line in printed("not_an_lstm")]
    lstm, gpt = zip(*((float(a), float(b)) for found in changes for a, b in found), strict=True)
    assert lstm[0] > gpt[0]
    assert lstm[-1] < 1e-8
    assert gpt[-1] > 1e-3


def test_continuations(printed: Callable[..., list[str]]) -> None:
    lines = printed("continuations")
    heads = [line for line in lines if " tokens: " in line]
    assert len(heads) == 5
    assert len(set(heads)) == 5
    for line in heads:
        n_prompt, n_new = map(int, re.findall(r"(\d+) \+ (\d+) tokens: The old house", line)[0])
        assert n_prompt + n_new <= 50


def test_continuations_of_chinese(printed: Callable[..., list[str]]) -> None:
    """Whole characters come back as they went in, whatever the model then writes."""
    text = "今天天气很好，"
    assert sum(text in line for line in printed("continuations", text)) == 5


def test_finetuning_loop(printed: Callable[..., list[str]]) -> None:
    losses = [float(line.split()[-1]) for line in printed("finetuning_loop") if line.startswith("epoch ")]
    best = losses.index(min(losses))
    assert len(losses) in (best + 3, 8)  # two worse ones end it


def test_two_classes(printed: Callable[..., list[str]]) -> None:
    assert printed("two_classes") == ["Transformer True", "GPT True"]


def test_attention_by_hand(printed: Callable[..., list[str]]) -> None:
    lines = printed("attention_by_hand")
    assert lines[-1].endswith("True")
    for line in lines[:-1]:
        assert sum(map(float, re.findall(r"(\d\.\d+) at", line))) == pytest.approx(1, abs=0.002)
