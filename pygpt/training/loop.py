"""The training loop, for every kind of training: pre-training, fine-tuning, classification, adapters.

The loop knows steps, the learning rate, the optimiser, evaluation, checkpoints and the saved state. What is trained and
on what is an `Objective`: it owns the trained values and their gradients, two flat arrays, and

    gradients(step)   fills the gradients for one step's batch, and returns its loss and how many tokens that took
    evaluate()        measures the values as they are; "validation_loss" decides what is best
    sample()          writes a text with them
    write(folder)     saves them as a checkpoint

All of these must be functions of the values and, for `gradients`, of the step: then a run that was killed and goes on
from its state computes, bit for bit, what it would have computed. `train` runs it in a `RunFolder`; its caller puts all
settings into run.json, from which the state file takes a fingerprint.

A state, like a checkpoint, is written only when the loss and the gradients, or the evaluation, of its values were seen
to be finite (where a run is stopped between them: its values). So after an error, on disk is the last good one.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from pygpt.errors import CheckpointError, TrainingError
from pygpt.training import plot
from pygpt.training.metrics import Metrics, Record
from pygpt.training.optimizer import AdamW
from pygpt.training.primitives import Array, Primitives
from pygpt.training.recipe import Recipe
from pygpt.training.run_folder import RunFolder
from pygpt.training.state import Progress, read_state, write_state
from pygpt.training.watch import Stopped

_PLOT_SECONDS = 30.0  # between two loss curves, at least; drawing one takes some tenths of a second ...
_PLOT_SHARE = 100  # ... so this many times as long as the last one took


class Objective(Protocol):
    """What is trained, and on what; see the top of this file."""

    values: Array
    """(n,) float32: the trained values, which the optimiser changes in place."""
    grads: Array
    """(n,) float32: their gradients."""
    n_decayed: int
    """Weight decay is for the first so many values."""

    def gradients(self, step: int) -> tuple[float, int]:
        """Set `grads` to the gradient of the mean loss over the batch of a step, counted from 1; returns that loss
        in nats and the number of tokens it read. `recipe.batch_at(step)` sequences, `recipe.part` at a time."""
        ...

    def evaluate(self) -> dict[str, Any]:
        """Figures of the values as they are, without dropout: "validation_loss" in nats, and any that JSON can hold."""
        ...

    def sample(self) -> str | None:
        """A text that the model writes; None where it writes none."""
        ...

    def write(self, folder: Path) -> None:
        """Write a checkpoint, in place of the one that is there (`pygpt.checkpoint.write`)."""
        ...


def train(
    objective: Objective,
    recipe: Recipe,
    primitives: Primitives,
    run: RunFolder,
    *,
    save_seconds: float = 60.0,
    report: Callable[[Record, Progress], object] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Progress:
    """Train to the end of the recipe, or until early stopping; from the state in the run's folder, if there is one.

    Parameters
    ----------
    objective
        Holds the values to start from.
    run
        Where everything is written: see `pygpt.training.run_folder`.
    save_seconds
        Between two saved states; one is also saved at each evaluation.
    report
        Called after each step and after the evaluation before the first, with the line of metrics.jsonl.
    should_stop
        Asked in each step: True saves the state and ends the call. The result is not `finished` then. An objective
        whose functions are `pygpt.training.watch.stoppable` is left in the middle of a step, or of an evaluation.

    Returns how far the run is. Raises TrainingError where a loss or gradient is not finite and where a file cannot be
    written or is damaged; the last good state and checkpoints stay.
    """
    trainer = _Trainer(objective, recipe, primitives, run, report or (lambda record, progress: None))
    try:
        return trainer.run(save_seconds, should_stop or (lambda: False))
    finally:
        trainer.metrics.close()


class _Trainer:
    def __init__(
        self,
        objective: Objective,
        recipe: Recipe,
        primitives: Primitives,
        run: RunFolder,
        report: Callable[[Record, Progress], object],
    ) -> None:
        self._objective, self._recipe, self._run, self._report = objective, recipe, run, report
        self._optimizer = AdamW(primitives, objective.values, objective.n_decayed, recipe)
        self._arrays = {"params": objective.values, "m": self._optimizer.m, "v": self._optimizer.v}
        self._fingerprint = run.fingerprint
        self._progress = Progress(pending={})  # the evaluation before the first step
        if run.state.exists():
            self._progress = read_state(run.state, self._fingerprint, self._arrays)
        if self._progress.finished and recipe.steps > self._progress.n_steps:  # it was extended
            self._progress = dataclasses.replace(self._progress, finished=False, since_best=0)
        self._started = time.monotonic() - self._progress.seconds
        self._updating = False
        self._drawn, self._draw_seconds = time.monotonic(), 0.0
        self.metrics = Metrics(run.metrics, self._progress.step - (self._progress.pending is not None))

    def run(self, save_seconds: float, should_stop: Callable[[], bool]) -> Progress:
        saved = time.monotonic()
        try:
            while not self._progress.finished:
                if self._progress.pending is not None:
                    saved = time.monotonic() if self._complete(self._progress.pending) else saved
                    continue
                began = time.monotonic()
                loss, n_tokens, norm = self._gradients()
                if should_stop():
                    raise Stopped  # noqa: TRY301
                if time.monotonic() - saved >= save_seconds:  # the values of the step before are good, then
                    self._save()
                    saved = time.monotonic()
                self._update(loss, n_tokens, norm, began)
        except Stopped:
            self._save_stopped()
        except KeyboardInterrupt:  # where nobody asks for it, as in a notebook
            if not self._updating:
                self._save_stopped()
            raise
        return self._progress

    def _gradients(self) -> tuple[float, int, float]:
        """The next step's loss, its number of tokens, and the norm of its gradients; the values stay as they are."""
        step = self._progress.step + 1
        loss, n_tokens = self._objective.gradients(step)
        norm = self._optimizer.norm(self._objective.grads)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(f"step {step}: the loss is {loss} and the norm of the gradients {norm}. {self._kept()}")
        return loss, n_tokens, norm

    def _update(self, loss: float, n_tokens: int, norm: float, began: float) -> None:
        """Change the values; what follows is pending then."""
        step, tokens = self._progress.step + 1, self._progress.tokens + n_tokens
        self._updating = True
        self._optimizer.update(self._objective.grads, norm, step)
        figures: Record = {
            "loss": loss,
            "learning_rate": self._recipe.learning_rate_at(step),
            "grad_norm": norm,
            "tokens": tokens,
            "tokens_per_second": n_tokens / max(time.monotonic() - began, 1e-9),
        }
        self._progress = dataclasses.replace(self._progress, step=step, tokens=tokens, pending=figures)
        self._updating = False

    def _complete(self, pending: Record) -> bool:
        """What follows the update of a step, or stands before the first: evaluation, checkpoints, the line of metrics.
        Whether the state was saved. Until the end nothing counts as done, so that it can be stopped and done again."""
        r, progress, step = self._recipe, self._progress, self._progress.step
        figures = dict(pending)
        last = step == r.steps
        evaluates = last or step % r.eval_interval == 0
        best = last_now = False
        if evaluates:
            measured = self._objective.evaluate()
            figures |= measured
            progress = self._judged(measured["validation_loss"])
            best = progress.best_step == step and progress.since_best == 0
            last = last or bool(r.patience and progress.since_best >= r.patience)
            last_now = last or not r.checkpoint_interval
        if r.checkpoint_interval and step % r.checkpoint_interval == 0:
            last_now = True
        if r.sample_interval and (last or step % r.sample_interval == 0):
            text = self._objective.sample()
            figures |= {} if text is None else {"sample": text}
        progress = dataclasses.replace(progress, seconds=self._seconds(), finished=last, n_steps=r.steps, pending=None)
        record: Record = {"step": step, **figures, "seconds": progress.seconds}
        self.metrics.append(record)
        for wanted, folder in ((best, self._run.best), (last_now, self._run.last)):
            if wanted:
                self._checkpoint(folder)
        self._progress = progress
        if evaluates:
            self._draw(now=last)
            self._save()
        self._report(record, self._progress)
        return evaluates

    def _judged(self, loss: float) -> Progress:
        """The progress with a validation loss of its step taken in."""
        step, known = self._progress.step, self._progress.best_loss
        if not math.isfinite(loss):
            raise TrainingError(f"step {step}: the validation loss is {loss}. {self._kept()}")
        if known is None or loss < known:
            return dataclasses.replace(self._progress, best_loss=loss, best_step=step, since_best=0)
        return dataclasses.replace(self._progress, since_best=self._progress.since_best + 1)

    def _checkpoint(self, folder: Path) -> None:
        try:
            self._objective.write(folder)
        except CheckpointError as error:
            raise TrainingError(str(error)) from error

    def _draw(self, now: bool) -> None:
        """At the end, and on the way where it takes little of the time."""
        began = time.monotonic()
        if now or began - self._drawn >= max(_PLOT_SECONDS, _PLOT_SHARE * self._draw_seconds):
            plot.draw(self._run.plot, self.metrics)
            self._drawn = time.monotonic()
            self._draw_seconds = self._drawn - began

    def _seconds(self) -> float:
        return time.monotonic() - self._started

    def _save(self) -> None:
        self.metrics.sync()
        write_state(self._run.state, self._fingerprint, self._progress, self._arrays)

    def _save_stopped(self) -> None:
        """The values as they are, if they are finite: their loss is not known yet."""
        if math.isfinite(self._optimizer.norm(self._objective.values)):
            self._progress = dataclasses.replace(self._progress, seconds=self._seconds())
            self._save()

    def _kept(self) -> str:
        if not self._run.state.exists():
            return "Nothing was saved"
        return f"{self._run.path} keeps what was saved before: try a lower learning rate, or a longer warm-up"
