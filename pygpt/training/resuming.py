"""Going on with a run of either kind."""

from __future__ import annotations

from pygpt.training import finetuning, pretraining, runs
from pygpt.training.runs import StrPath, TrainingResult
from pygpt.training.watch import Watcher


def resume(
    out: StrPath,
    *,
    steps: int | None = None,
    threads: int | None = None,
    save_seconds: float = 60.0,
    watcher: Watcher | None = None,
) -> TrainingResult:
    """Go on with the run in a folder, with its own settings, as if it had never stopped.

    steps: extends the run to so many, also a finished one; see `pygpt.training.Recipe.extended` for what becomes of the
    learning rate. threads, save_seconds, watcher: as for `pygpt.pretrain`.

    TrainingError: no run, one that another process trains in, or data that changed; ValueError: steps that are fewer.
    """
    kinds = {pretraining.KIND: pretraining.prepare_run, finetuning.KIND: finetuning.prepare_run}
    return runs.go_on(out, kinds, steps, runs.Session(threads, save_seconds, Watcher() if watcher is None else watcher))
