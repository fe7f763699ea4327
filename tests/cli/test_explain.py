"""`pygpt explain`: the page that it writes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import pygpt
from pygpt.cli._app import app


def explain(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["explain", *map(str, arguments), "--threads", "1"], input=stdin)


def test_it_writes_the_page_of_the_trace(tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    out.write_text("before", encoding="utf-8")
    result = explain("Once upon a time", "--html", out, "--top", 3)
    assert result.exit_code == 0, result.output
    trace = pygpt.Model.load("tiny", threads=1).trace("Once upon a time", attention=True, top=3)
    n, n_layer = len(trace.ids), len(trace.layers)
    assert re.fullmatch(rf"{re.escape(str(out))}: {n} tokens, {n_layer} layers, \d+ KiB\n", result.stdout)
    assert out.read_text(encoding="utf-8") == trace.html("tiny", top=3)
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]


def test_its_options_are_those_of_the_trace(tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    result = explain("--layers", "0,-1", "--no-attention", "--special", "--html", out, stdin="a<|endoftext|>b\n")
    assert result.exit_code == 0, result.output
    model = pygpt.Model.load("tiny", threads=1)
    ids = model.tokenizer.encode("a<|endoftext|>b", allow_special=True)
    assert len(ids) == 3
    assert out.read_text(encoding="utf-8") == model.trace(ids, layers=[0, -1]).html("tiny")


def test_a_model_of_ones_own_has_its_name(tmp_path: Path, gpt2_folder: Path) -> None:
    out = tmp_path / "out.html"
    assert explain("in the", "--model", gpt2_folder, "--html", out, "--top", 100).exit_code == 0
    assert f"<title>Inside {gpt2_folder.name}</title>" in out.read_text(encoding="utf-8")


def test_where_nothing_is_said_it_is_explain_html(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert explain("Once", "--no-attention").exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["explain.html"]


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["x", "--html", "nowhere/out.html"], "does not exist", 2),
        (["x", "--html", "."], "is no file", 2),
        (["x", "--layers", "one"], "'one' is not numbers", 2),
        (["x", "--layers", "99"], "layer", 1),
        ([""], "must not be empty", 1),
        (["word " * 600], "context", 1),
    ],
)
def test_what_cannot_be_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str, status: int
) -> None:
    monkeypatch.chdir(tmp_path)
    result = explain(*arguments)
    assert result.exit_code == status
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """A pipe, a terminal: the page would take its place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    result = explain("x", "--html", pipe)
    assert result.exit_code == 2
    assert "is no file" in " ".join(result.stderr.replace("│", " ").split())
    assert pipe.is_fifo()
