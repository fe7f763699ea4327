"""`pygpt train`: a run from the first step to the last, killed and resumed, and what it refuses."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

from pygpt import Model
from pygpt.cli._app import app
from pygpt.training import plot
from pygpt.training.recipe import Recipe

SHAPE = ("--tokenizer", "char", "--layers", 1, "--heads", 2, "--width", 16, "--context", 16, "--threads", 1)
RECIPE = ("--steps", 40, "--batch", 4, "--learning-rate", 0.01, "--dropout", 0.1, "--eval-interval", 10)
RECIPE = (*RECIPE, "--eval-windows", 8, "--accumulate", 2)


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing one takes longer than a test."""
    monkeypatch.setattr(plot, "draw", lambda path, metrics: None)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few thousand words out of ten."""
    rng = np.random.default_rng(0)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "some", "rain"]
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(" ".join(words[i] for i in rng.integers(0, len(words), 3000)) + "\n")
    return path


def pygpt(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, text: Path) -> Path:
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    result = pygpt("--data", text, "--out", folder, *SHAPE, *RECIPE)
    assert result.exit_code == 0, result.output
    return folder


def records(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl, without what depends on the clock."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in ("seconds", "tokens_per_second")} for record in found]


def same(folder: Path, whole: Path) -> None:
    """Equal parameters and moments, metrics and checkpoints, to the last bit."""
    got, wanted = load_file(folder / "state.safetensors"), load_file(whole / "state.safetensors")
    assert {name: array.tobytes() for name, array in got.items()} == {n: a.tobytes() for n, a in wanted.items()}
    assert records(folder) == records(whole)
    for name in ("best", "last"):
        files = sorted(p.name for p in (whole / name).iterdir())
        assert sorted(p.name for p in (folder / name).iterdir()) == files
        for file in files:
            assert (folder / name / file).read_bytes() == (whole / name / file).read_bytes(), f"{name}/{file}"


# --- a run ----------------------------------------------------------------------------------------------------------


def test_it_learns(whole: Path) -> None:
    first, last = records(whole)[0], records(whole)[-1]
    assert first["validation_loss"] == pytest.approx(math.log(15), rel=0.05)  # of as many characters
    assert last["validation_loss"] < 0.8 * first["validation_loss"]
    assert last["step"] == 40
    recipe = Recipe(**json.loads((whole / "run.json").read_text())["recipe"])
    assert last["tokens"] == sum(recipe.batch_at(step) for step in range(1, 41)) * 16
    assert len(last["sample"]) == 16


def test_the_checkpoints_load(whole: Path) -> None:
    model = Model.load(whole / "best", weights="float32", threads=1)
    n_ctx = model.config.n_ctx
    tokens = np.fromfile(whole / "data" / "validation.tokens", np.uint16)
    starts = np.arange(8) * (len(tokens) - n_ctx - 1) // 7  # the evaluation's windows
    scores = [model.score(tokens[at : at + n_ctx + 1][:n_ctx]) for at in starts]
    found = min(record["validation_loss"] for record in records(whole) if "validation_loss" in record)
    assert -np.mean(scores) == pytest.approx(found, rel=0.1)  # one target of each window is not scored
    assert isinstance(model.generate("the", max_tokens=5, seed=0).text, str)


def test_standard_output_is_the_result_alone(tmp_path: Path, text: Path) -> None:
    result = pygpt("--data", text, "--out", tmp_path / "run", *SHAPE, *RECIPE, "--steps", 10)
    assert result.stdout == f"{tmp_path / 'run' / 'best'}: validation loss {best(tmp_path / 'run'):.4f} at step 10\n"
    lines = result.stderr.splitlines()
    assert [line.split()[0] for line in lines[:6]] == ["model", "data", "steps", "recipe", "memory", "time"]
    assert [line.split(":")[0] for line in lines[6:]] == ["step 0 of 10", "step 1 of 10", "step 10 of 10"]
    assert "tokens/s" in lines[7]


def best(folder: Path) -> float:
    return min(record["validation_loss"] for record in records(folder) if "validation_loss" in record)


def test_without_matplotlib_it_says_so_once(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "is_available", lambda: False)
    result = pygpt("--data", text, "--out", tmp_path / "run", *SHAPE, *RECIPE, "--steps", 10)
    assert result.exit_code == 0
    assert result.stderr.count("matplotlib is not installed") == 1


@pytest.mark.parametrize("arch", ["gpt1", "gpt2", "llama"])
def test_every_architecture_trains(tmp_path: Path, text: Path, arch: str) -> None:
    folder = tmp_path / "run"
    heads = ("--heads", 4, "--kv-heads", 2) if arch == "llama" else ()
    result = pygpt("--data", text, "--out", folder, *SHAPE, *RECIPE, "--arch", arch, *heads)
    assert result.exit_code == 0, result.output
    assert best(folder) < 0.9 * records(folder)[0]["validation_loss"]
    assert Model.load(folder / "last", threads=1).config.n_kv_head == 2


def test_a_vocabulary_is_learnt_and_a_folder_of_texts_read(tmp_path: Path, text: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "texts" / name).write_bytes(text.read_bytes())
    shape = ("--vocab", 270, *SHAPE[2:])
    result = pygpt("--data", tmp_path / "texts", "--out", tmp_path / "run", *shape, *RECIPE, "--preset", "gpt2")
    assert result.exit_code == 0, result.output
    assert Model.load(tmp_path / "run" / "best", threads=1).config.n_vocab == 270


# --- interrupted ----------------------------------------------------------------------------------------------------

# The process sends itself a signal at the n-th call of a function of `os`: fsync is in the middle of whatever is being
# written, write adds a line to metrics.jsonl.
SIGNALLED = """
import os, signal, pygpt.cli
left, function = {n}, os.{name}
def call(*arguments):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.{signal})
    return function(*arguments)
os.{name} = call
pygpt.cli.main()
"""
PLAIN = "import pygpt.cli; pygpt.cli.main()"


def process(elsewhere: dict[str, Any], script: str, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", script, "train", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **elsewhere)


def wait_for_lines(running: subprocess.Popen[bytes], path: Path, n: int) -> None:
    deadline = time.monotonic() + 60
    while running.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= n:
            return
        time.sleep(0.002)


@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_run_goes_on_bit_for_bit(
    tmp_path: Path, text: Path, whole: Path, elsewhere: dict[str, Any], seed: int
) -> None:
    rng, folder = np.random.default_rng(seed), tmp_path / "run"
    start = ("--data", text, "--out", folder, *SHAPE, *RECIPE, "--save-every", 0.01)
    go_on = ("--resume", folder, "--threads", 1, "--save-every", 0.01)
    for arguments, n in ((start, rng.integers(20, 40)), (go_on, rng.integers(1, 10))):  # while it writes
        running = process(elsewhere, SIGNALLED.format(n=n, name="fsync", signal="SIGKILL"), *arguments)
        errors = running.communicate()[1]
        assert running.returncode == -signal.SIGKILL, errors
    for n_lines in (12, 25):  # at a moment that chance decides
        running = process(elsewhere, PLAIN, *go_on)
        wait_for_lines(running, folder / "metrics.jsonl", n_lines)
        time.sleep(rng.uniform(0, 0.02))
        running.kill()
        errors = running.communicate()[1]
        assert running.returncode in (-signal.SIGKILL, 0), errors
    result = pygpt(*go_on)
    assert result.exit_code == 0, result.output
    same(folder, whole)


@pytest.mark.parametrize("n", [1, 4])
def test_a_run_killed_before_its_first_step_begins_anew(
    tmp_path: Path, text: Path, whole: Path, elsewhere: dict[str, Any], n: int
) -> None:
    """While it writes the settings, or the text as tokens."""
    folder = tmp_path / "run"
    start = ("--data", text, "--out", folder, *SHAPE, *RECIPE)
    running = process(elsewhere, SIGNALLED.format(n=n, name="fsync", signal="SIGKILL"), *start)
    running.communicate()
    assert running.returncode == -signal.SIGKILL
    assert not (folder / "data").exists()
    assert (folder / "run.json").exists() == (n == 4)
    result = pygpt("--resume", folder) if n == 4 else pygpt(*start)
    assert result.exit_code == 0, result.output
    same(folder, whole)


def test_control_c_saves_and_the_run_goes_on(
    tmp_path: Path, text: Path, whole: Path, elsewhere: dict[str, Any]
) -> None:
    folder = tmp_path / "run"
    script = SIGNALLED.format(n=5, name="write", signal="SIGINT")
    running = process(elsewhere, script, "--data", text, "--out", folder, *SHAPE, *RECIPE)
    errors = running.communicate()[1].decode()
    assert running.returncode == 130, errors
    assert f"go on with --resume {folder}" in errors
    assert pygpt("--resume", folder).exit_code == 0
    same(folder, whole)


def test_a_finished_run_is_left_as_it_is(whole: Path) -> None:
    before = (whole / "metrics.jsonl").read_bytes()
    result = pygpt("--resume", whole)
    assert result.exit_code == 0
    assert "validation loss" in result.stdout
    assert (whole / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("call", [3, 18, 24, 29, 40])
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_room(
    tmp_path: Path, text: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """At the n-th time that something must be on the disk."""
    folder, fsync, calls = tmp_path / "run", os.fsync, iter(range(1, 1000))

    def full(fd: int) -> None:
        if next(calls) >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(fd)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        result = pygpt("--data", text, "--out", folder, *SHAPE, *RECIPE)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert str(folder) in result.stderr
    if folder.exists():
        assert pygpt("--resume", folder).exit_code == 0
    else:  # it was full before the first step
        assert pygpt("--data", text, "--out", folder, *SHAPE, *RECIPE).exit_code == 0
    same(folder, whole)


# --- refused --------------------------------------------------------------------------------------------------------


def refused(*arguments: object) -> str:
    result = pygpt(*arguments)
    assert result.exit_code in (1, 2), result.output
    assert isinstance(result.exception, SystemExit)
    return result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", 0), "steps must be an integer >= 1"),
        (("--dropout", 1), "dropout must be a finite number >= 0 and < 1"),
        (("--warmup", 50), "warmup must be at most steps (40), not 50"),
        (("--width", 15), "the width (15) must be a multiple of the number of heads (2)"),
        (("--kv-heads", 1), "key and value heads must be as many as heads (2) in gpt2"),
        (("--context", 2000), "but a context of 2000 needs at least 2001"),
        (("--tokenizer", "bpe", "--vocab", 256), "n_vocab must be at least 257"),
        (("--tokenizer", "bpe", "--vocab", 5000), "supports a vocabulary of at most"),
        (("--vocab", 300), "n_vocab must be given for"),
        (("--validation", 1.5), "validation must be a Path or a share between 0 and 1"),
        (("--validation", "nowhere.txt"), "nowhere.txt"),
        (("--tokenizer", "nowhere"), "nowhere"),
        (("--data", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_wrong_options_leave_no_folder(tmp_path: Path, text: Path, arguments: tuple[object, ...], message: str) -> None:
    errors = refused("--data", text, "--out", tmp_path / "run", *SHAPE, *RECIPE, *arguments)
    assert message in " ".join(errors.split())
    assert list(tmp_path.iterdir()) == []


def test_bad_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"fine\xff")
    assert "bad.txt" in refused("--data", tmp_path / "bad.txt", "--out", tmp_path / "run", *SHAPE)
    (tmp_path / "empty.txt").write_bytes(b"")
    assert "empty.txt" in refused("--data", tmp_path / "empty.txt", "--out", tmp_path / "run", *SHAPE)
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_run_is_not_overwritten(text: Path, whole: Path) -> None:
    before = {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    assert "holds a run already" in refused("--data", text, "--out", whole, *SHAPE)
    assert {p: p.read_bytes() for p in whole.rglob("*") if p.is_file()} == before


def test_a_run_goes_on_with_its_own_settings_only(whole: Path, text: Path) -> None:
    assert "with --resume one data set is added" in refused("--resume", whole, "--data", text, "--weights", "1,2")
    for option in (("--batch", 2), ("--packed",), ("--backend", "numpy"), ("--preset", "gpt3")):
        assert "cannot be used with --resume" in " ".join(refused("--resume", whole, *option).split())


def test_changed_settings_and_damaged_files_are_refused(tmp_path: Path, text: Path) -> None:
    folder = tmp_path / "run"
    assert pygpt("--data", text, "--out", folder, *SHAPE, *RECIPE, "--steps", 2).exit_code == 0
    settings = (folder / "run.json").read_text()
    (folder / "run.json").write_text(settings.replace('"seed": 0', '"seed": 1'))
    assert "belongs to another run, or to other settings" in refused("--resume", folder)
    (folder / "run.json").write_text(settings)
    state = (folder / "state.safetensors").read_bytes()
    (folder / "state.safetensors").write_bytes(state[:-9])
    assert "the run cannot go on from it" in refused("--resume", folder)
    (folder / "state.safetensors").write_bytes(state)
    os.truncate(folder / "data" / "train.tokens", 100)
    assert "damaged" in refused("--resume", folder)


def test_data_and_out_are_needed(tmp_path: Path, text: Path) -> None:
    assert "pygpt train --data TEXT --out RUN (or --resume RUN)" in refused("--out", tmp_path / "run")
    assert "pygpt train --data TEXT --out RUN (or --resume RUN)" in refused("--data", text)
    assert "holds no run to go on with" in refused("--resume", tmp_path)
