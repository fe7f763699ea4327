"""What `pygpt train` and `pygpt finetune` read: several data sets, packed documents, chats, and data that is added."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from pygpt import Model
from pygpt.cli._app import app
from pygpt.training import plot

SHAPE = ("--tokenizer", "char", "--layers", 1, "--heads", 2, "--width", 16, "--context", 16, "--threads", 1)
RECIPE = ("--steps", 3, "--batch", 4, "--learning-rate", 0.01, "--eval-windows", 4, "--eval-interval", 3)


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing one takes longer than a test."""
    monkeypatch.setattr(plot, "draw", lambda path, metrics: None)


@pytest.fixture
def texts(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "one.txt", tmp_path / "two.txt"
    for path in paths:
        path.write_text("<|endoftext|>".join(["the cat sat", "on a mat", "and saw some rain"] * 20))
    return paths


def pygpt(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_several_texts_packed_and_one_added(texts: tuple[Path, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    both = ("--data", texts[0], "--data", texts[1])
    result = pygpt("train", *both, "--weights", "3,1", "--packed", "--out", run, *SHAPE, *RECIPE)
    assert result.exit_code == 0, result.output
    settings = json.loads((run / "run.json").read_text())
    assert (settings["packed"], settings["weights"], settings["more"]) == (True, [3.0, 1.0], [str(texts[1])])
    result = pygpt("train", "--resume", run, "--data", texts[0], "--weights", "0.25", "--steps", 5, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert json.loads((run / "run.json").read_text())["added"][0]["weight"] == 0.25
    result = pygpt("train", *both, "--weights", "a,b", "--out", tmp_path / "other", *SHAPE, *RECIPE)
    assert (result.exit_code, "'a,b' is not numbers with commas" in result.output) == (2, True)


def test_chats_with_a_template_of_ones_own(gpt2_folder: Path, tmp_path: Path) -> None:
    data, template = tmp_path / "chats.jsonl", tmp_path / "template.jinja"
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
    data.write_text((json.dumps({"messages": chat}) + "\n") * 4)
    template.write_text("{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}")
    options = ("--steps", 1, "--batch", 2, "--threads", 1)
    run = tmp_path / "run"
    result = pygpt("finetune", gpt2_folder, "--data", data, "--out", run, "--chat-template", template, *options)
    assert result.exit_code == 0, result.output
    assert Model.load(run / "best", threads=1).render(chat[:1]) == "Hi<|endoftext|>"
    long = template.read_text() + "{# nothing, but longer than a path may be #}" * 10
    (tmp_path / "bytes.jinja").write_bytes(b"{{ \xff }}")
    for given, status, message in ((long, 0, "validation loss"), (tmp_path / "bytes.jinja", 1, "is not UTF-8: byte 3")):
        command = (
            "finetune",
            gpt2_folder,
            "--data",
            data,
            "--out",
            tmp_path / f"run{status}",
            "--chat-template",
            given,
        )
        result = pygpt(*command, *options)
        assert (result.exit_code, message in result.output) == (status, True), result.output
    result = pygpt("finetune", gpt2_folder, "--data", data, "--out", tmp_path / "x", "--task", "choice", "--packed")
    assert (result.exit_code, "cannot be used with --task" in result.output) == (2, True)
