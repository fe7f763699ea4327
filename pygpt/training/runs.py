"""What all runs have in common: their options and result, how they begin, go on and are extended."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from pygpt.classification import TaskMetrics, task_metrics
from pygpt.errors import check_type
from pygpt.model import Model
from pygpt.training.loop import Objective, train
from pygpt.training.metrics import Metrics
from pygpt.training.plan import Plan
from pygpt.training.primitives import Primitives
from pygpt.training.recipe import Recipe, check
from pygpt.training.run_folder import RunFolder
from pygpt.training.state import Progress, peek
from pygpt.training.tasks import TaskData
from pygpt.training.watch import Stopped, Watcher

Backend = Literal["kernels", "kernels-bf16", "numpy"]
StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What came of a run, or of the part of it that is done."""

    path: Path
    """The run's folder."""
    best: Path
    """The checkpoint with the lowest validation loss, which `pygpt.Model.load` takes."""
    finished: bool
    """Whether the run reached its end; if it was stopped, `pygpt.training.resume` goes on."""
    step: int
    """Steps that are done."""
    best_step: int
    """The step that `best` is of."""
    validation_loss: float | None
    """Its loss, in nats; None before the first evaluation."""
    losses: Mapping[int, float]
    """The loss of each step's batch, in nats."""
    validation_losses: Mapping[int, float]
    """That of the validation data, by step."""
    labels: tuple[str, ...] = ()
    """Of a task: the names of the classes; none for a choice."""
    metrics: TaskMetrics | None = None
    """Of a task: how `best` does on the validation examples, computed by the core as users of the model will see it."""


@dataclass(frozen=True, slots=True)
class Session:
    """How this process works on a run; none of it changes what comes out."""

    threads: int | None
    save_seconds: float
    watcher: Watcher

    def __post_init__(self) -> None:
        check_type("watcher", self.watcher, Watcher)
        check_type("save_seconds", self.save_seconds, int, float)
        if not self.save_seconds >= 0:
            raise ValueError(f"save_seconds must be at least 0, not {self.save_seconds}")


class Job(NamedTuple):
    """A run that is ready for its first step, or its next one."""

    objective: Objective
    recipe: Recipe
    primitives: Primitives
    plan: Plan
    examples: TaskData | None = None
    add: Callable[[Path, float], None] | None = None
    """Adds a data set with its share of the sequences from here on; None: the run has no use for one."""


Prepare = Callable[[RunFolder, Session], Job]


def load_primitives(backend: Backend, threads: int | None) -> Primitives:
    """The functions that compute. ValueError: a backend that there is not, or that this machine cannot run."""
    if backend == "numpy":
        from pygpt.training import functions

        return functions
    if backend not in ("kernels", "kernels-bf16"):
        raise ValueError(f'backend must be "kernels", "kernels-bf16" or "numpy", not {backend!r}')
    from pygpt.training.kernels import Kernels

    return Kernels(threads, precision="bfloat16" if backend == "kernels-bf16" else "float32")


def share_or_file(validation: float | StrPath) -> float | str:
    """What is held out, for run.json: a number, or the absolute path of a file."""
    if isinstance(validation, (int, float)):
        return float(validation)
    return str(Path(validation).absolute())


def held_out(settings: Mapping[str, Any]) -> float | Path:
    """The same, read from run.json."""
    value = settings["validation"]
    return value if isinstance(value, float) else Path(value)


def check_recipe(recipe: Mapping[str, Any]) -> None:
    """ValueError, TypeError: a field that recipes do not have, or a value that it may not have by itself."""
    known = [field.name for field in dataclasses.fields(Recipe)]
    for name, value in recipe.items():
        if name not in known:
            raise TypeError(f"a recipe has no field {name!r}; it has {', '.join(known)}")
        check(name, value)


def begin(out: StrPath, settings: dict[str, Any], prepare: Prepare, session: Session) -> TrainingResult:
    """Start a run in a new folder, which disappears again if it cannot begin."""
    with RunFolder.create(Path(out), settings) as run:
        try:
            job = prepare(run, session)
        except Stopped:
            return _not_trained(run)
        except Exception:
            run.discard()
            raise
        return _carry_out(run, job, session)


def go_on(
    out: StrPath,
    kinds: Mapping[str, Prepare],
    steps: int | None,
    session: Session,
    added: tuple[Path, float] | None = None,
) -> TrainingResult:
    """Go on with a run of one of some kinds from its state, with more steps if `steps` says so, and with a data set
    that is `added`, and its share."""
    with RunFolder.open(Path(out), *kinds) as run:
        prepare = kinds[run.settings["kind"]]
        try:
            if steps is not None and "recipe" not in run.settings:
                prepare(run, session)  # it was ended before its recipe was known
            longer = _extended(run, steps)
            if added is not None:  # first: data that does not serve leaves the run as it was
                _add(run, prepare(run, session), longer, *added)
            if longer is not None:
                run.extend(dataclasses.asdict(longer))
            job = prepare(run, session)
        except Stopped:
            return _not_trained(run)
        return _carry_out(run, job, session)


def _extended(run: RunFolder, steps: int | None) -> Recipe | None:
    """The run's recipe with so many steps, where these are not those that it has."""
    if steps is None or steps == run.settings["recipe"]["steps"]:
        return None
    return Recipe(**run.settings["recipe"]).extended(steps)


def _add(run: RunFolder, job: Job, longer: Recipe | None, path: Path, weight: float) -> None:
    if job.add is None:
        raise ValueError("data can be added to a run on text or chats, but not to one on labelled examples")
    steps = (longer or job.recipe).steps
    if peek(run.state).step >= steps:
        raise ValueError(f"the run is at its end: data that is added needs more steps than {steps}")
    job.add(path, weight)


def _not_trained(run: RunFolder) -> TrainingResult:
    """Of a run that was stopped before this process could train: it is where its state is."""
    p = peek(run.state)
    return TrainingResult(run.path, run.best, False, p.step, p.best_step, p.best_loss, losses={}, validation_losses={})


def _carry_out(run: RunFolder, job: Job, session: Session) -> TrainingResult:
    plan, n_done = job.plan, min(peek(run.state).tokens, job.plan.n_read)
    left = 1.0 - n_done / max(plan.n_read, 1)
    session.watcher.planned(dataclasses.replace(plan, n_done=n_done, seconds=left * plan.seconds))
    progress = train(
        job.objective,
        job.recipe,
        job.primitives,
        run,
        save_seconds=session.save_seconds,
        report=session.watcher.stepped,
        should_stop=session.watcher.stop,
    )
    return _result(run, progress, job.examples, session.threads)


def _result(run: RunFolder, progress: Progress, examples: TaskData | None, threads: int | None) -> TrainingResult:
    metrics = Metrics(run.metrics, progress.step)
    metrics.close()
    result = TrainingResult(
        path=run.path,
        best=run.best,
        finished=progress.finished,
        step=progress.step,
        best_step=progress.best_step,
        validation_loss=progress.best_loss,
        losses=metrics.losses,
        validation_losses=metrics.validation_losses,
    )
    if examples is None or not progress.finished:
        return result
    found = Model.load(run.best, weights="float32", threads=threads).classify([item for item, _ in examples.validation])
    truth = np.array([label for _, label in examples.validation])
    predicted = np.array([list(c.probabilities).index(c.label) for c in found])
    n_classes = len(examples.labels) or 1 + int(max(truth.max(), predicted.max()))
    return dataclasses.replace(result, labels=examples.labels, metrics=task_metrics(truth, predicted, n_classes))
