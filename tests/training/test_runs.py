"""`pretrain`, `finetune` and `resume` as functions: results, plans, stopping anywhere, extending."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import pygpt
from pygpt.errors import TrainingError
from pygpt.training import Plan, Recipe, Watcher, plot, preset, resume
from pygpt.training.base import learning_rate_of
from pygpt.training.presets import evaluations
from pygpt.training.recipe import RecipeOptions
from pygpt.training.watch import stoppable

SHAPE: dict[str, Any] = {"tokenizer": "char", "n_layer": 1, "n_head": 2, "n_embd": 16, "n_ctx": 16, "threads": 1}
RECIPE: dict[str, Any] = {"steps": 12, "batch": 4, "accumulate": 2, "learning_rate": 0.01, "dropout": 0.1}
RECIPE |= {"eval_interval": 4, "eval_windows": 8, "sample_interval": 6}


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing one takes longer than a test."""
    monkeypatch.setattr(plot, "draw", lambda path, metrics: None)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "some", "rain"]
    path = tmp_path_factory.mktemp("text") / "words.txt"
    path.write_text(" ".join(words[i] for i in np.random.default_rng(0).integers(0, 10, 1000)) + "\n")
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, text: Path) -> pygpt.TrainingResult:
    """A run that nothing stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "draw", lambda path, metrics: None)
        return pygpt.pretrain(text, tmp_path_factory.mktemp("whole") / "run", **SHAPE, **RECIPE)


def same(folder: Path, other: Path) -> None:
    """Equal parameters and moments, metrics and checkpoints, to the last bit."""
    states = [load_file(path / "state.safetensors") for path in (folder, other)]
    assert {n: a.tobytes() for n, a in states[0].items()} == {n: a.tobytes() for n, a in states[1].items()}
    lines = [[json.loads(line) for line in (p / "metrics.jsonl").read_text().splitlines()] for p in (folder, other)]
    timeless = [[{k: v for k, v in r.items() if "second" not in k} for r in run] for run in lines]
    assert timeless[0] == timeless[1]
    for name in ("best", "last"):
        weights = [(path / name / "model.safetensors").read_bytes() for path in (folder, other)]
        assert weights[0] == weights[1]


class StopAt(Watcher):
    """Asks a run to stop when it is asked for the n-th time after the plan is exact."""

    def __init__(self, n: int) -> None:
        self.left = n
        self.plans: list[Plan] = []

    def planned(self, plan: Plan) -> None:
        self.plans.append(plan)

    def stop(self) -> bool:
        if not self.plans or not self.plans[-1].is_exact:
            return False
        self.left -= 1
        return self.left <= 0


def test_pretrain_says_what_came_of_it(whole: pygpt.TrainingResult) -> None:
    assert (whole.finished, whole.step, list(whole.losses)) == (True, 12, list(range(1, 13)))
    assert list(whole.validation_losses) == [0, 4, 8, 12]
    assert whole.validation_loss == min(whole.validation_losses.values())
    assert whole.validation_losses[whole.best_step] == whole.validation_loss
    assert pygpt.Model.load(whole.best, threads=1).config.n_embd == 16
    assert whole.metrics is None


def test_finetune_goes_on_from_a_model(whole: pygpt.TrainingResult, text: Path, tmp_path: Path) -> None:
    result = pygpt.finetune(whole.best, text, tmp_path / "text", steps=2, batch=2, threads=1)
    assert result.finished
    table = tmp_path / "examples.csv"
    table.write_text("text,label\n" + "the cat,a\nsome rain,b\n" * 4)
    rated = pygpt.finetune(whole.best, table, tmp_path / "task", task="classification", steps=2, threads=1)
    assert rated.labels == ("a", "b")
    assert rated.metrics is not None
    assert rated.metrics.confusion.sum() == 2
    with pytest.raises(ValueError, match="labels need a task"):
        pygpt.finetune(whole.best, table, tmp_path / "x", labels=["a"])
    with pytest.raises(TypeError, match="a recipe has no field 'momentum'"):
        pygpt.finetune(whole.best, table, tmp_path / "x", momentum=1)  # type: ignore[call-arg]
    assert not (tmp_path / "x").exists()


def test_nothing_is_printed(text: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pygpt.pretrain(text, tmp_path / "run", **SHAPE, **RECIPE | {"steps": 1})
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("n", [1, 5, 12, 40, 77, 100, 160, 200, 333])
def test_a_run_stops_in_the_middle_of_a_step_or_an_evaluation(
    whole: pygpt.TrainingResult, text: Path, tmp_path: Path, n: int
) -> None:
    """And goes on bit for bit, also when it is stopped again."""
    stopped = pygpt.pretrain(text, tmp_path / "run", **SHAPE, **RECIPE, watcher=StopAt(n))
    assert not stopped.finished
    assert (tmp_path / "run" / "state.safetensors").is_file()
    resume(tmp_path / "run", threads=1, watcher=StopAt(n // 2 + 1))
    assert resume(tmp_path / "run", threads=1).finished
    same(tmp_path / "run", whole.path)


def test_ctrl_c_in_a_step_saves_without_a_watcher(
    whole: pygpt.TrainingResult, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pygpt.training.blocks import Blocks

    calls, block = iter(range(1000)), Blocks.forward

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == 20:
            raise KeyboardInterrupt
        return block(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Blocks, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pygpt.pretrain(text, tmp_path / "run", **SHAPE, **RECIPE)
    assert resume(tmp_path / "run", threads=1).finished
    same(tmp_path / "run", whole.path)


def test_a_run_that_is_stopped_while_it_reads_goes_on(whole: pygpt.TrainingResult, text: Path, tmp_path: Path) -> None:
    for what in ("reading the text", "learning the vocabulary", "writing tokens"):

        class Interrupt(Watcher):
            def preparing(self, stage: str, done: int, total: int, what: str = what) -> None:
                if stage == what:
                    raise KeyboardInterrupt

        out = tmp_path / what.split()[0]
        with pytest.raises(KeyboardInterrupt):
            pygpt.pretrain(text, out, **SHAPE, **RECIPE, watcher=Interrupt())
        assert sorted(p.name for p in out.iterdir()) == ["lock", "run.json"]
        assert resume(out, threads=1).finished
        same(out, whole.path)


def test_a_watcher_stops_a_run_that_reads(whole: pygpt.TrainingResult, text: Path, tmp_path: Path) -> None:
    class Stop(Watcher):
        def stop(self) -> bool:
            return True

    for begin in (
        lambda out, w: pygpt.pretrain(text, out, **SHAPE, **RECIPE, watcher=w),
        lambda out, w: resume(out, watcher=w),
    ):
        result = begin(tmp_path / "run", Stop())
        assert (result.finished, result.step, result.validation_loss) == (False, 0, None)
        assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["lock", "run.json"]
    assert resume(tmp_path / "run", threads=1).finished
    same(tmp_path / "run", whole.path)


def test_a_run_is_extended_also_a_finished_one(text: Path, tmp_path: Path) -> None:
    for name in ("once", "twice"):
        pygpt.pretrain(text, tmp_path / name, **SHAPE, **RECIPE)
    result = resume(tmp_path / "once", steps=20, threads=1)
    assert (result.finished, result.step, list(result.losses)) == (True, 20, list(range(1, 21)))
    settings = json.loads((tmp_path / "once" / "run.json").read_text())
    assert Recipe(**settings["recipe"]) == Recipe(**settings["recipes_before"][0]).extended(20)
    assert not resume(tmp_path / "twice", steps=20, threads=1, watcher=StopAt(60)).finished
    watcher = StopAt(10**6)
    resume(tmp_path / "twice", threads=1, watcher=watcher)
    assert 12 * 64 <= watcher.plans[-1].n_done < 20 * 64
    same(tmp_path / "twice", tmp_path / "once")
    with pytest.raises(ValueError, match="steps must be more than the 20 that the run has, not 19"):
        resume(tmp_path / "once", steps=19)


def test_an_extended_recipe_stretches_its_decay() -> None:
    recipe = Recipe(steps=100, batch=1, learning_rate=1.0, warmup=10, decay_steps=80, schedule="linear")
    longer = recipe.extended(200)
    assert (longer.steps, longer.warmup, longer.decay_steps) == (200, 10, 160)
    stable = dataclasses.replace(recipe, stable=40, decay_steps=None).extended(200)
    assert (stable.stable, stable.decay_steps) == (140, None)
    assert [stable.learning_rate_at(s) for s in (150, 175, 200)] == pytest.approx([1.0, 0.5, 0.0])


def test_small_text_gets_a_vocabulary_that_fits(text: Path, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    shape = SHAPE | {"tokenizer": "bpe"}
    result = pygpt.pretrain(text, tmp_path / "run", **shape, **RECIPE | {"steps": 1})
    n_vocab = pygpt.Model.load(result.best, threads=1).config.n_vocab
    assert 257 < n_vocab < 2048
    with pytest.raises(TrainingError, match=f"at most {n_vocab}"):
        pygpt.pretrain(text, tmp_path / "other", **shape, n_vocab=2048)


def test_the_plan_is_there_before_the_text_is_read(text: Path, tmp_path: Path) -> None:
    watcher = StopAt(1)
    pygpt.pretrain(text, tmp_path / "run", **SHAPE, **RECIPE, watcher=watcher)
    expected, exact = watcher.plans
    assert (expected.is_exact, exact.is_exact) == (False, True)
    assert expected.n_train == pytest.approx(exact.n_train, rel=0.01)
    assert exact.n_read == 12 * 4 * 16
    assert exact.n_trained == exact.config.n_params()
    assert exact.memory_bytes > 16 * exact.n_trained
    assert exact.seconds > 0


def test_where_memory_is_short_gradients_are_checkpointed_and_nothing_else_changes(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = SHAPE | {"n_layer": 3}
    plenty, short = StopAt(3), StopAt(3)
    one = pygpt.pretrain(text, tmp_path / "one", **deep, **RECIPE, watcher=plenty)
    monkeypatch.setattr("pygpt._core.available_memory", lambda: 1 << 20)
    other = pygpt.pretrain(text, tmp_path / "other", **deep, **RECIPE, watcher=short)
    assert not plenty.plans[-1].gradient_checkpointing
    assert short.plans[-1].gradient_checkpointing
    assert short.plans[-1].memory_bytes < plenty.plans[-1].memory_bytes
    assert one.losses == other.losses


@pytest.mark.parametrize("n_sequences", [200, 3000, 10**5, 10**7])
@pytest.mark.parametrize("fixed", [{}, {"eval_windows": 128}, {"eval_interval": 7}])
def test_evaluation_takes_a_twentieth_of_the_time(n_sequences: int, fixed: dict[str, Any]) -> None:
    batch = 10
    steps = n_sequences // batch
    found = evaluations(n_sequences, steps, fixed)
    times = 1 + -(-steps // found["eval_interval"])
    evaluated = times * found["eval_windows"] / 3  # a forward pass is a third of a step
    assert evaluated <= 0.05 * n_sequences or found["eval_windows"] == 1 or times == 2
    assert {**found, **fixed} == found


def test_the_preset_evaluates_as_often_as_it_may() -> None:
    recipe = preset("gpt3", n_params=10**6, n_ctx=128, n_tokens=350_000)
    read = sum(recipe.batch_at(step) for step in range(1, recipe.steps + 1))
    times = 1 + -(-recipe.steps // recipe.eval_interval)
    assert 10 <= times <= 52
    assert times * recipe.eval_windows / 3 <= 0.05 * read


def test_the_learning_rate_of_fine_tuning_follows_the_size() -> None:
    assert learning_rate_of(117_000_000) == 6.25e-5
    assert 1e-3 < learning_rate_of(5_900_000) < 1.3e-3  # the embedded model's
    assert learning_rate_of(10_000) == preset("gpt3", n_params=10_000, n_ctx=1, n_tokens=1).learning_rate


def test_a_recipes_options_are_its_fields() -> None:
    assert list(RecipeOptions.__annotations__) == [field.name for field in dataclasses.fields(Recipe)]


def test_stoppable_functions_compute_the_same() -> None:
    from pygpt.training.kernels import Kernels

    kernels, rng = Kernels(1), np.random.default_rng(0)
    hidden, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((300, 8), (90_000, 8)))
    targets = rng.integers(0, 90_000, 300).astype(np.int32)
    found = []
    for functions in (kernels, stoppable(kernels, lambda: False)):
        dweight = np.zeros_like(weight)
        nats, dhidden = functions.cross_entropy(hidden, weight, targets, 0.5, dweight)
        assert dhidden is not None
        found.append((nats, dhidden.tobytes(), dweight.tobytes()))
    assert found[0][1:] == found[1][1:]
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)  # sums of sums


def test_importing_pygpt_does_not_import_training(elsewhere: dict[str, Any]) -> None:
    code = "import sys, pygpt; assert 'pygpt.training' not in sys.modules; assert callable(pygpt.pretrain)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, **elsewhere)
