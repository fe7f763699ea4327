"""Going on with a run of either kind."""

from __future__ import annotations

import os
from pathlib import Path

from pygpt.errors import check_type
from pygpt.training import finetuning, pretraining, runs
from pygpt.training.runs import StrPath, TrainingResult
from pygpt.training.watch import Watcher


def resume(
    out: StrPath,
    *,
    steps: int | None = None,
    data: StrPath | None = None,
    weight: float = 0.5,
    threads: int | None = None,
    save_seconds: float = 60.0,
    watcher: Watcher | None = None,
) -> TrainingResult:
    """Go on with the run in a folder, with its own settings, as if it had never stopped.

    steps: extends the run to so many, also a finished one; see `pygpt.training.Recipe.extended` for what becomes of the
    learning rate.
    data: adds a text (or, where a model is fine-tuned, chats), with the run's tokenizer. From here on `weight`, above 0
    and below 1, is the share of the sequences that come from it, and the shares of the others shrink alike. What the
    validation loss is measured on stays as it was.
    threads, save_seconds, watcher: as for `pygpt.pretrain`.

    TrainingError: no run, one that another process trains in, or data that changed; ValueError: steps that are fewer, a
    weight out of range, data for labelled examples or for a run that is at its end.
    """
    check_type("data", data, str, os.PathLike, type(None))
    check_type("weight", weight, int, float)
    if not 0.0 < weight < 1.0:
        raise ValueError(f"weight must be a share above 0 and below 1, not {weight}")
    added = None if data is None else (Path(data), float(weight))
    session = runs.Session(threads, save_seconds, Watcher() if watcher is None else watcher)
    kinds = {pretraining.KIND: pretraining.prepare_run, finetuning.KIND: finetuning.prepare_run}
    return runs.go_on(out, kinds, steps, session, added)
