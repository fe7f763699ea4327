"""Several data sets in one run, and data that is added to it on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import pygpt
from pygpt.errors import TokenizerError, TrainingError
from pygpt.training import Progress, Recipe, Watcher, plot, resume
from pygpt.training.metrics import Record
from pygpt.training.mixture import Mixture, Phase, check_weights
from pygpt.training.sequences import Document

SHAPE: dict[str, Any] = {"tokenizer": "char", "n_layer": 1, "n_head": 2, "n_embd": 16, "n_ctx": 16, "threads": 1}
RECIPE: dict[str, Any] = {"steps": 6, "batch": 4, "learning_rate": 0.01, "eval_interval": 3, "eval_windows": 8}


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing one takes longer than a test."""
    monkeypatch.setattr(plot, "draw", lambda path, metrics: None)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Of letters of their own, so that a token tells where it is from."""
    folder = tmp_path_factory.mktemp("texts")
    found = []
    for name, letters in (("first", "abcd "), ("second", "wxyz "), ("third", "abwx ")):
        found.append(folder / f"{name}.txt")
        chosen = "".join(letters[i] for i in np.random.default_rng(0).integers(0, 5, 600))
        found[-1].write_text("<|endoftext|>".join(chosen[at : at + 30] for at in range(0, 600, 30)))
    return found


class StopAfter(Watcher):
    """Stops a run when a step is done."""

    def __init__(self, step: int) -> None:
        self.step, self.done = step, -1

    def stepped(self, record: Record, progress: Progress) -> None:
        self.done = progress.step

    def stop(self) -> bool:
        return self.done >= self.step


def same(folder: Path, other: Path) -> None:
    states = [load_file(path / "state.safetensors") for path in (folder, other)]
    assert {n: a.tobytes() for n, a in states[0].items()} == {n: a.tobytes() for n, a in states[1].items()}
    losses = [
        [json.loads(line).get("loss") for line in (p / "metrics.jsonl").read_text().splitlines()]
        for p in (folder, other)
    ]
    assert losses[0] == losses[1]


class Letters:
    """A data set whose sequences tell which they are."""

    n_train, n_validation, n_sequences, tokens_per_byte = 10, 10, 10.0, 1.0

    def __init__(self, number: int) -> None:
        self.number = number

    def sequence(self, draw: int, number: int, seed: int) -> list[Document]:
        return [Document(np.array([self.number], np.int32), np.array([number], np.int32))]

    def held_out(self, n: int) -> list[list[Document]]:
        return [self.sequence(0, k, 0) for k in range(n)]


TOKENIZER: Any = None  # that no test here asks for


@pytest.mark.parametrize(
    "weights", [(0.5, 0.3, 0.2), (0.7, 0.3), (1 / 3, 2 / 3), (0.01, 0.99), (0.9, 0.05, 0.04, 0.01)]
)
def test_weights_hold_in_every_stretch(weights: tuple[float, ...]) -> None:
    recipe = Recipe(steps=400, batch=3, learning_rate=0.1)
    mixture = Mixture([Letters(k) for k in range(len(weights))], [Phase(0, weights)], TOKENIZER)
    counts = np.zeros(len(weights), int)
    for step in range(1, 401):
        for k, number in mixture.sources(step, recipe):
            assert number == counts[k]  # each set's sequences are counted without gaps
            counts[k] += 1
        assert np.all(counts <= np.array(weights) * counts.sum() + 1)
        assert np.all(counts >= np.array(weights) * counts.sum() - len(weights) + 1)
    assert mixture.draw(7, recipe).ids.tolist() == [[k] for k, _ in mixture.sources(7, recipe)]


def test_a_phase_begins_after_its_step() -> None:
    recipe = Recipe(steps=20, batch=10, learning_rate=0.1)
    readers = [Letters(0), Letters(1)]
    mixture = Mixture(readers, [Phase(0, (1.0,)), Phase(5, (0.5, 0.5))], TOKENIZER)
    shares = [sum(k for k, _ in mixture.sources(step, recipe)) for step in range(1, 21)]
    assert shares == [0] * 5 + [5] * 15
    again = Mixture(readers, [Phase(0, (1.0,)), Phase(5, (0.5, 0.5))], TOKENIZER)
    assert again.sources(12, recipe) == mixture.sources(12, recipe)  # as whoever resumes there
    assert [(weight, len(rows.ids)) for weight, _, rows in mixture.held_out(8)] == [(1.0, 8)]


def test_weights_are_checked() -> None:
    assert check_weights([3, 1], 2) == (0.75, 0.25)
    for wrong in ([1], [1, 0], [1, -1], [1, float("nan")]):
        with pytest.raises(ValueError, match="weights must be 2 finite numbers above 0, one for each data set"):
            check_weights(wrong, 2)
    assert check_weights([1e308, 1e308], 2) == (0.5, 0.5)
    for odd in ("12", [1, "2"], [True, 1], 2):
        with pytest.raises(TypeError, match="weights must be numbers"):
            check_weights(odd, 2)  # type: ignore[arg-type]


def test_a_run_on_two_texts_stops_and_goes_on(texts: list[Path], tmp_path: Path) -> None:
    """Bit for bit, packed or in windows; the vocabulary is that of both."""
    for packed in (False, True):
        options: dict[str, Any] = {"weights": [3, 1], "packed": packed, **SHAPE, **RECIPE}
        whole = pygpt.pretrain(texts[:2], tmp_path / f"whole{packed}", **options)
        part = tmp_path / f"part{packed}"
        assert not pygpt.pretrain(texts[:2], part, watcher=StopAfter(2), **options).finished
        assert resume(part, threads=1).finished
        same(part, whole.path)
        tokenizer = pygpt.Model.load(whole.best, threads=1).tokenizer
        assert tokenizer.decode(tokenizer.encode("abcd wxyz")) == "abcd wxyz"
        last = json.loads((whole.path / "metrics.jsonl").read_text().splitlines()[-1])
        each = [last[f"validation_loss_{k}"] for k in (1, 2)]
        assert last["validation_loss"] == pytest.approx(0.75 * each[0] + 0.25 * each[1], rel=1e-12)


def test_without_weights_texts_count_as_their_tokens(texts: list[Path], tmp_path: Path) -> None:
    long = tmp_path / "long.txt"
    long.write_text(texts[1].read_text() * 3)
    result = pygpt.pretrain([texts[0], long], tmp_path / "run", **SHAPE, **RECIPE | {"steps": 1})
    last = json.loads((result.path / "metrics.jsonl").read_text().splitlines()[-1])
    each = [last[f"validation_loss_{k}"] for k in (1, 2)]
    assert last["validation_loss"] == pytest.approx(0.25 * each[0] + 0.75 * each[1], rel=1e-2)


def test_data_is_added_on_the_way(texts: list[Path], tmp_path: Path) -> None:
    """And the run that goes on with it, stopped again or not, ends with the same bits."""
    for name in ("once", "twice"):
        assert not pygpt.pretrain(texts[0], tmp_path / name, watcher=StopAfter(2), **SHAPE, **RECIPE).finished
    added: dict[str, Any] = {"data": texts[2], "weight": 0.25}
    with pytest.raises(TokenizerError, match=r"'[wx]'"):  # its characters are no tokens of this run
        resume(tmp_path / "once", threads=1, **added)
    third = tmp_path / "third.txt"
    third.write_text(texts[0].read_text()[::-1].replace(">|txetfodne|<", "<|endoftext|>"))
    added["data"] = third
    assert resume(tmp_path / "once", threads=1, **added).finished
    assert not resume(tmp_path / "twice", threads=1, watcher=StopAfter(4), **added).finished
    with pytest.raises(TrainingError, match="was added after step 2: the run goes on without --data"):
        resume(tmp_path / "twice", threads=1, **added)
    third.unlink()  # its tokens are kept
    assert resume(tmp_path / "twice", threads=1).finished
    same(tmp_path / "twice", tmp_path / "once")
    entry = json.loads((tmp_path / "once" / "run.json").read_text())["added"][0]
    assert (entry["weight"], entry["after"]) == (0.25, 2)
    with pytest.raises(ValueError, match="the run is at its end: data that is added needs more steps than 6"):
        resume(tmp_path / "once", threads=1, data=texts[0])
    result = resume(tmp_path / "once", steps=9, threads=1, data=texts[0])
    assert (result.step, list(result.losses)) == (9, list(range(1, 10)))


def test_added_data_that_does_not_serve_changes_nothing(texts: list[Path], tmp_path: Path) -> None:
    """Not the run, which goes on without it, nor how long that is."""
    run = tmp_path / "run"
    assert not pygpt.pretrain(texts[0], run, watcher=StopAfter(2), **SHAPE, **RECIPE).finished
    before = (run / "run.json").read_text()
    short, missing = tmp_path / "short.txt", tmp_path / "missing.txt"
    short.write_text("abcd" * 4)
    for path, message in ((short, "a context of 16 needs at least 17"), (missing, "no such file")):
        with pytest.raises(TrainingError, match=message):
            resume(run, threads=1, steps=9, data=path)
        assert ((run / "run.json").read_text(), (run / "data-2").exists()) == (before, False)
    stopped = resume(run, threads=1, data=texts[0], watcher=StopAfter(-1))
    assert (stopped.step, stopped.finished, (run / "run.json").read_text()) == (2, False, before)
    assert resume(run, threads=1).step == 6


def test_what_does_not_serve_is_named(texts: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError, match="weights must be 2 finite numbers"):
        pygpt.pretrain(texts[:2], out, weights=[1.0])
    with pytest.raises(ValueError, match="validation must be a share where there are several data sets"):
        pygpt.pretrain(texts[:2], out, validation=texts[2])
    with pytest.raises(ValueError, match="data must be a path, or paths, not none"):
        pygpt.pretrain([], out)
    for odd in (3, b"text", [texts[0], 3]):
        with pytest.raises(TypeError, match="data must be of type str or PathLike, not "):
            pygpt.pretrain(odd, out)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data must be of type str or PathLike or None, not list"):
        resume(out, data=[texts[0]])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="packed must be True or False, not 1"):
        pygpt.pretrain(texts[0], out, packed=1)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="no such file"):
        pygpt.pretrain([texts[0], tmp_path / "nothing.txt"], out, **SHAPE, **RECIPE)
    with pytest.raises(ValueError, match="weight must be a share above 0 and below 1, not 1"):
        resume(out, data=texts[0], weight=1)
    assert not out.exists()
