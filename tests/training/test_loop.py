"""The loop, on an objective small enough to say what must come out."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from pygpt.errors import TrainingError
from pygpt.training import functions, plot
from pygpt.training.loop import train
from pygpt.training.metrics import Record
from pygpt.training.primitives import Primitives
from pygpt.training.recipe import Recipe
from pygpt.training.run_folder import RunFolder
from pygpt.training.state import Progress

N = 6
RECIPE = Recipe(
    steps=20, batch=2, learning_rate=0.1, warmup=3, weight_decay=0.01, eval_interval=5, sample_interval=10, seed=7
)


class Parabola:
    """Finds the minimum of the mean of (x - target)^2, from gradients with noise that depends on the step alone."""

    def __init__(self, seed: int = 7) -> None:
        self.values = np.full(N, 5.0, np.float32)
        self.grads = np.zeros(N, np.float32)
        self.n_decayed = N // 2
        self.target = np.arange(N, dtype=np.float32)
        self.seed = seed
        self.losses: dict[int, float] = {}  # that a test puts in the place of the true ones
        self.validation_losses: list[float] = []
        self.steps: list[int] = []

    def gradients(self, step: int) -> tuple[float, int]:
        self.steps.append(step)
        off = self.values - self.target + np.random.default_rng((self.seed, step)).normal(0, 0.1, N).astype(np.float32)
        self.grads[...] = 2 * off / N
        return self.losses.get(step, float(np.mean(off**2))), 10

    def evaluate(self) -> dict[str, float]:
        loss = float(np.mean((self.values - self.target) ** 2))
        return {"validation_loss": self.validation_losses.pop(0) if self.validation_losses else loss}

    def sample(self) -> str:
        return f"{self.values[0]:.3f}"

    def write(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "values.npy").write_bytes(self.values.tobytes())


def run(
    folder: Path, objective: Parabola, recipe: Recipe = RECIPE, primitives: Primitives = functions, **options: Any
) -> Progress:
    """Train in a new folder, or go on in one."""
    settings = {"kind": "test", "recipe": dataclasses.asdict(recipe)}
    with RunFolder.open(folder, "test") if folder.exists() else RunFolder.create(folder, settings) as held:
        return train(objective, recipe, primitives, held, **options)


def lines(folder: Path) -> list[Record]:
    """metrics.jsonl, without what depends on the clock."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in ("seconds", "tokens_per_second")} for record in records]


def checkpoints(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "best" / "values.npy").read_bytes(), (folder / "last" / "values.npy").read_bytes()


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing one takes longer than a test."""
    monkeypatch.setattr(plot, "is_available", lambda: False)


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, Parabola]:
    """A run without interruption."""
    objective = Parabola()
    assert run(tmp_path / "whole", objective).finished
    return tmp_path / "whole", objective


def same(folder: Path, objective: Parabola, whole: tuple[Path, Parabola]) -> None:
    """Equal values, metrics and checkpoints."""
    assert objective.values.tobytes() == whole[1].values.tobytes()
    assert lines(folder) == lines(whole[0])
    assert checkpoints(folder) == checkpoints(whole[0])


def test_it_learns_and_writes_everything_down(whole: tuple[Path, Parabola]) -> None:
    folder, objective = whole
    records = lines(folder)
    assert [r["step"] for r in records] == list(range(21))
    assert [r["step"] for r in records if "validation_loss" in r] == [0, 5, 10, 15, 20]
    assert [r["step"] for r in records if "sample" in r] == [0, 10, 20]
    assert records[20]["tokens"] == 200
    assert records[7]["learning_rate"] == RECIPE.learning_rate_at(7)
    assert float(records[20]["validation_loss"]) < 0.7 * float(records[0]["validation_loss"])
    assert checkpoints(folder)[1] == objective.values.tobytes()
    assert not list(folder.glob(".*"))


def test_the_report_gets_each_line(tmp_path: Path) -> None:
    seen: list[tuple[Record, int]] = []
    run(tmp_path / "run", Parabola(), report=lambda record, progress: seen.append((record, progress.step)))
    assert [step for _, step in seen] == list(range(21))
    written = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [record for record, _ in seen] == written


@pytest.mark.parametrize("stop_at", [1, 5, 6, 13, 20])
def test_a_run_that_was_stopped_goes_on_with_the_same_numbers(
    tmp_path: Path, whole: tuple[Path, Parabola], stop_at: int
) -> None:
    folder, first = tmp_path / "run", Parabola()
    progress = run(folder, first, should_stop=lambda: len(first.steps) == stop_at)
    assert (progress.step, progress.finished) == (stop_at - 1, False)
    again = Parabola()
    assert run(folder, again).finished
    assert again.steps == list(range(stop_at, 21))
    same(folder, again, whole)


def test_a_run_whose_mean_is_in_bfloat16_goes_on_with_the_same_numbers(tmp_path: Path) -> None:
    primitives: Any = SimpleNamespace(**{**vars(functions), "precision": "bfloat16"})
    folder, first, whole, again = tmp_path / "run", Parabola(), Parabola(), Parabola()
    assert run(tmp_path / "whole", whole, primitives=primitives).finished
    run(folder, first, primitives=primitives, should_stop=lambda: len(first.steps) == 13)
    with safe_open(folder / "state.safetensors", "numpy") as state:
        assert [state.get_slice(name).get_dtype() for name in ("params", "m", "v")] == ["F32", "BF16", "F32"]
    assert run(folder, again, primitives=primitives).finished
    same(folder, again, (tmp_path / "whole", whole))


def test_a_finished_run_has_nothing_left_to_do(whole: tuple[Path, Parabola]) -> None:
    again = Parabola()
    assert run(whole[0], again).finished
    assert again.steps == []
    same(whole[0], again, whole)


@pytest.mark.parametrize("call", range(1, 37, 3))
def test_a_full_disk_keeps_what_was_saved(
    tmp_path: Path, whole: tuple[Path, Parabola], monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """The disk is full at the n-th time that something must be on it, or that a line of metrics is written."""
    folder, n_calls = tmp_path / "run", 0
    fsync, write = os.fsync, os.write

    def refuse() -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls >= call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_fsync(fd: int) -> None:
        refuse()
        fsync(fd)

    def full_write(fd: int, data: bytes) -> int:
        refuse()
        return write(fd, data)

    settings = {"kind": "test", "recipe": dataclasses.asdict(RECIPE)}
    RunFolder.create(folder, settings).close()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_fsync)
        patch.setattr(os, "write", full_write)
        with pytest.raises(TrainingError, match=rf"{folder.name}.*: cannot be written: No space left on device"):
            run(folder, Parabola())
    assert not list(folder.glob(".*"))
    again = Parabola()
    assert run(folder, again).finished
    same(folder, again, whole)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run_and_is_never_saved(tmp_path: Path, bad: float) -> None:
    folder, objective = tmp_path / "run", Parabola()
    objective.losses[13] = bad
    with pytest.raises(TrainingError, match=rf"step 13: the loss is {bad} .*keeps what was saved"):
        run(folder, objective, save_seconds=0.0)
    kept = checkpoints(folder)
    again = Parabola()
    again.losses[13] = bad
    with pytest.raises(TrainingError, match="step 13"):
        run(folder, again)
    assert again.steps == [12, 13]  # the state of step 11 was written once step 12's loss was known
    assert checkpoints(folder) == kept
    assert np.isfinite(again.values).all()


def test_gradients_that_are_not_finite_end_the_run(tmp_path: Path) -> None:
    class Broken(Parabola):
        def gradients(self, step: int) -> tuple[float, int]:
            result = super().gradients(step)
            if step == 3:
                self.grads[1] = np.nan
            return result

    with pytest.raises(TrainingError, match=r"step 3: the loss is .* the norm of the gradients nan"):
        run(tmp_path / "run", Broken())


def test_a_validation_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    objective = Parabola()
    objective.validation_losses = [2.0, math.nan]
    with pytest.raises(TrainingError, match="step 5: the validation loss is nan"):
        run(tmp_path / "run", objective)
    assert checkpoints(tmp_path / "run")[0] == np.full(N, 5.0, np.float32).tobytes()


def test_it_stops_early_and_keeps_the_best(tmp_path: Path) -> None:
    folder, objective = tmp_path / "run", Parabola()
    objective.validation_losses = [3.0, 2.0, 2.5, 2.0]  # an equal one is no better
    progress = run(folder, objective, dataclasses.replace(RECIPE, patience=2))
    assert (progress.step, progress.best_step, progress.best_loss, progress.finished) == (15, 5, 2.0, True)
    best, last = checkpoints(folder)
    assert last == objective.values.tobytes() != best
    again = Parabola()
    assert run(folder, again, dataclasses.replace(RECIPE, patience=2)).step == 15
    assert again.steps == []


def test_checkpoints_at_their_own_interval(tmp_path: Path) -> None:
    objective, seen = Parabola(), []

    def report(record: Record, progress: Progress) -> None:
        seen.append((tmp_path / "run" / "last" / "values.npy").read_bytes() == objective.values.tobytes())

    run(tmp_path / "run", objective, dataclasses.replace(RECIPE, checkpoint_interval=8), report=report)
    assert [step for step, is_now in enumerate(seen) if is_now] == [0, 8, 16, 20]


def test_the_loss_curve_is_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.undo()
    run(tmp_path / "run", Parabola())
    picture = (tmp_path / "run" / "loss.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    width, height = (int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (960, 600)
