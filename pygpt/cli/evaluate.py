"""`pygpt eval`: the metrics of a model over task files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from pygpt.checkpoint.folder import replacing
from pygpt.cli._common import MODEL, Isa, Kv, NCtx, ProgressBar, Threads, Weights, check_file, load_model
from pygpt.harness import TaskResult
from pygpt.harness import evaluate as evaluate_model


def evaluate(
    model: Annotated[str, typer.Argument(help=MODEL)],
    tasks: Annotated[
        str,
        typer.Option(help="Files (.jsonl, .json as SQuAD, .txt) or names of those in --data, with commas between."),
    ],
    data: Annotated[
        Path | None, typer.Option(help="A folder with task files, such as arc_easy.jsonl.", show_default="none")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Of each file, the first so many examples.", show_default="all")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer that is written.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a task.")] = False,
    answers: Annotated[
        Path | None,
        typer.Option(help="A file for what the model chose or wrote, one JSON object an example.", show_default="none"),
    ] = None,
    weights: Weights = None,
    kv: Kv = None,
    threads: Threads = None,
    isa: Isa = None,
    n_ctx: NCtx = None,
) -> None:
    """Measure a model: accuracy, perplexity, exact match and F1 with 95% intervals, each of tasks in turn."""
    if answers is not None:
        check_file(answers, "--answers")
    loaded = load_model(model, weights, kv, threads, isa, n_ctx)
    bar = ProgressBar("evaluating")

    def show(task: str, done: int, total: int) -> None:
        bar.label = f"evaluating {task}"
        bar(done, total)

    try:
        names = [task.strip() for task in tasks.split(",")]
        results = evaluate_model(loaded, names, data=data, limit=limit, max_tokens=max_tokens, progress=show)
    finally:
        bar.clear()
    if answers is not None:
        with replacing(answers) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
            for result in results.values():
                file.writelines(
                    json.dumps({"task": result.task, **a}, ensure_ascii=False) + "\n" for a in result.answers
                )
    if as_json:
        how = {"model": model, "weights": loaded.weights, "threads": loaded.threads}
        for result in results.values():
            typer.echo(json.dumps({**how, **result.summary()}, ensure_ascii=False))
    else:
        typer.echo(_table(results))


def _table(results: Mapping[str, TaskResult]) -> str:
    """A line a metric."""
    lines = [("task", "n", "metric", "value", "95% interval", "seconds")]
    for result in results.values():
        for name, estimate in result.metrics.items():
            values = (_number(x) for x in (estimate.value, estimate.low, estimate.high))
            value, low, high = values
            seconds = f"{result.seconds:.1f}" if name == next(iter(result.metrics)) else ""
            lines.append((result.task, str(result.n), name, value, f"{low} to {high}", seconds))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
