"""`evaluate`: the metrics of a model over tasks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from pygpt.errors import check_type
from pygpt.fields import doc, documented
from pygpt.harness import files
from pygpt.harness.measure import Measured, measure
from pygpt.metrics import Estimate
from pygpt.model import Model

TaskProgress: TypeAlias = Callable[[str, int, int], object]
"""Called with a task, how many of its examples are done, and of how many."""


@documented
@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a model reached in a task."""

    task: str = field(metadata=doc("Its name, or its file."))
    metrics: Mapping[str, Estimate] = field(metadata=doc("By name, each with its interval."))
    n: int = field(metadata=doc("How many examples there were."))
    seconds: float = field(metadata=doc("What they took, without reading the files."))
    answers: Sequence[Mapping[str, Any]] = field(metadata=doc("One table an example: what the model chose or wrote."))

    def summary(self) -> dict[str, Any]:
        """The numbers as a table for JSON, without the answers."""
        metrics = {
            name: {"value": estimate.value, "low": estimate.low, "high": estimate.high}
            for name, estimate in self.metrics.items()
        }
        return {"task": self.task, "n": self.n, "seconds": round(self.seconds, 3), "metrics": metrics}


def evaluate(
    model: Model,
    tasks: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    data: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    max_tokens: int = 32,
    confidence: float = 0.95,
    progress: TaskProgress | None = None,
) -> dict[str, TaskResult]:
    """The metrics of a model over one or several tasks, by the task's name.

    tasks: files (.jsonl, .json in SQuAD's form, .txt), or names of those in the folder `data`, such as "arc_easy".
        docs/evaluation.md says which columns make which task.
    limit: of each file, the first so many examples; None: all.
    max_tokens: of an answer that is written.
    confidence: that the intervals hold the true value.
    progress: called with a task, how many of its examples are done, and of how many.

    ValueError names a file, line and column that is not as it must be, and a task that does not exist;
    ContextOverflowError the line whose continuation is longer than the model's context. TypeError, OSError. What a
    model without a tokenizer lacks raises TokenizerError.
    """
    check_type("model", model, Model)
    names = _names(tasks)
    if data is not None:
        check_type("data", data, str, os.PathLike)
    for option, value in (("max_tokens", max_tokens), *(() if limit is None else (("limit", limit),))):
        check_type(option, value, int)
        if isinstance(value, bool) or value < 1:
            raise ValueError(f"{option} must be an integer >= 1, not {value!r:.80}")
    if not isinstance(confidence, (int, float)) or not 0 < confidence < 1:
        raise ValueError(f"confidence must be a number between 0 and 1, not {confidence!r:.80}")
    folder = None if data is None else Path(data)
    found = [(name, files.read(name, files.find(name, folder), limit)) for name in names]  # before the first is done
    results: dict[str, TaskResult] = {}
    for name, examples in found:
        begun = time.perf_counter()
        measured: Measured = measure(
            model,
            examples,
            max_tokens,
            confidence,
            None if progress is None else lambda done, total, name=name: progress(name, done, total),  # type: ignore[misc]
        )
        seconds = time.perf_counter() - begun
        results[name] = TaskResult(name, measured.metrics, len(examples), seconds, measured.answers)
    return results


def _names(tasks: object) -> list[str]:
    several = [tasks] if isinstance(tasks, (str, os.PathLike)) else tasks
    if not isinstance(several, (list, tuple)):
        raise TypeError(f"tasks must be a name or a file, or a list of them, not {type(tasks).__name__}")
    for task in several:
        check_type("a task", task, str, os.PathLike)
    names = list(dict.fromkeys(os.fspath(task) for task in several))  # each once
    for name in names:
        if not isinstance(name, str) or not name or "\0" in name:
            raise ValueError(f"a task must be a name or a file, not {name!r:.80}")
    if not names:
        raise ValueError("tasks must name at least one task")
    return names
