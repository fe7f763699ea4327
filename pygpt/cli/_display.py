"""What the training commands show, Ctrl-C, and the options that they share."""

from __future__ import annotations

import contextlib
import signal
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from pygpt.classification import format_confusion
from pygpt.cli._common import ProgressBar
from pygpt.training import plot, resume
from pygpt.training.memory import keep_freed_memory
from pygpt.training.metrics import Record
from pygpt.training.plan import Plan
from pygpt.training.runs import Backend, TrainingResult
from pygpt.training.state import Progress
from pygpt.training.watch import Watcher

BackendOption = Annotated[
    Backend,
    typer.Option(
        help="What computes: the compiled core; the same with factors of matrix products in bfloat16, faster on CPUs "
        "with AVX512_BF16; or the readable NumPy functions, half as fast."
    ),
]
Out = Annotated[Path | None, typer.Option(help="The folder of the run: a new or an empty one.")]
Resume = Annotated[Path | None, typer.Option(help="Go on with the run in this folder; with --steps, for longer.")]
SaveEvery = Annotated[float, typer.Option(min=0, help="Seconds between saves of the state that --resume goes on from.")]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Of several --data: the share of each, with commas between; with --resume that of the one that is added.",
        show_default="as they have tokens; 0.5 with --resume",
    ),
]
Packed = Annotated[
    bool, typer.Option("--packed", help="Keep documents apart, several in a sequence, instead of windows of the text.")
]
_WITH_RESUME = {"resume", "steps", "threads", "save_every", "data", "weights"}
_PATIENCE = 1.0  # seconds of preparation without a word


class Display(Watcher):
    """Shows a run on standard error: what it will do, a bar and the samples on a terminal, a line an evaluation.

    Between the first step and the end, Ctrl-C asks the run to stop; a second one ends the process at once.
    """

    def __init__(self) -> None:
        self._bar = ProgressBar("training")
        self._begun = time.monotonic()
        self._expected: list[tuple[str, str]] = []  # what may be shown ...
        self._shown: list[tuple[str, str]] = []  # ... and what has been
        self._plan: Plan | None = None
        self._first: Progress | None = None
        self._asked = False

    def preparing(self, what: str, done: int, total: int) -> None:
        """A bar; and what is expected, if that takes a while."""
        if self._expected and time.monotonic() - self._begun > _PATIENCE:
            self._print(self._expected)
            self._shown, self._expected = self._expected, []
        self._bar.label = what
        self._bar(done, max(total, 1))

    def planned(self, plan: Plan) -> None:
        """A table; what was expected before is not repeated where it is the same."""
        self._bar.clear()
        lines = describe(plan)
        if not plan.is_exact:
            self._expected = lines
            return
        self._print([line for line in lines if line not in self._shown])
        self._expected, self._plan = [], plan
        self._bar = ProgressBar("training")
        self._begun = time.monotonic()
        if not plot.is_available():
            self.noticed("no loss.png: matplotlib is not installed (pip install 'pygpt-cpu[train]')")

    def noticed(self, message: str) -> None:
        """A line."""
        typer.echo(message, err=True)

    def stepped(self, record: Record, progress: Progress) -> None:
        """The bar; at evaluations and after the first step a line."""
        step, steps = progress.step, self._plan.recipe.steps if self._plan else progress.step
        first = self._first is not None and step == self._first.step + 1
        if self._first is None:
            self._first, self._begun = progress, time.monotonic()
        loss = f"loss {record['loss']:.4f}" if "loss" in record else ""
        speed = f"{record['tokens_per_second']:,.0f} tokens/s" if "loss" in record else ""
        left = ""
        if self._plan and (done := progress.tokens - self._first.tokens):  # not by steps: a batch may grow
            to_read = max(0, self._plan.n_read - progress.tokens)
            left = f"{clock((time.monotonic() - self._begun) / done * to_read)} left"
        validation = ""
        if "validation_loss" in record:
            validation = f"validation {record['validation_loss']:.4f} (best {progress.best_loss:.4f})"
        if validation or first:
            self._bar.clear()
            typer.echo(f"step {step} of {steps}: " + ", ".join(filter(None, [validation, loss, speed, left])), err=True)
        if "sample" in record and self._bar.enabled:
            self._bar.clear()
            typer.echo(f"\n{textwrap.indent(str(record['sample']).strip(), '    ')}\n", err=True)
        self._bar(step, steps, "  ".join(filter(None, [loss, speed, left])))

    def stop(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._asked

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked or self._plan is None:  # before the first step there is nothing to save
            raise KeyboardInterrupt
        self._asked = True
        self._bar.clear()
        typer.echo("saving; Ctrl-C again to stop at once", err=True)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Handles Ctrl-C in a ``with`` block, and removes the bar at its end."""
        before = signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
            self._bar.clear()

    @staticmethod
    def _print(lines: list[tuple[str, str]]) -> None:
        for name, text in lines:
            typer.echo(f"{name:<10}{text}", err=True)


def carry_out(folder: Path, start: Callable[[Watcher], TrainingResult]) -> None:
    """Train with a display, and say what came of it. KeyboardInterrupt after Ctrl-C, when the state is saved."""
    keep_freed_memory()
    display = Display()
    try:
        with display.shown():
            result = start(display)
    except KeyboardInterrupt:
        if (folder / "run.json").is_file():
            typer.echo(f"stopped: go on with --resume {folder}", err=True)
        raise
    if not result.finished:
        typer.echo(f"saved at step {result.step}: go on with --resume {folder}", err=True)
        raise KeyboardInterrupt
    typer.echo(f"{result.best}: validation loss {result.validation_loss:.4f} at step {result.best_step}")
    _print_metrics(result)


def describe(plan: Plan) -> list[tuple[str, str]]:
    """A plan as lines, each with its name."""
    about = "" if plan.is_exact else "about "
    c, r = plan.config, plan.recipe
    part = f" in {r.accumulate} parts" if r.accumulate > 1 else ""
    done = f", of which {plan.n_done:,} are read" if plan.n_done else ""
    trained = "" if plan.n_trained >= c.n_params() else f", of which {plan.n_trained:,} are trained, as adapters"
    checkpoints = ", with gradient checkpointing" if plan.gradient_checkpointing else ""
    return [
        ("model", f"{c.n_params():,} parameters{trained}: {c.n_layer} layers, width {c.n_embd}, context {c.n_ctx}"),
        ("data", f"{about}{plan.n_train:,} {plan.unit} for training, {about}{plan.n_validation:,} for validation"),
        ("steps", f"{about}{r.steps:,} of {r.batch} sequences{part}: {plan.n_read:,} tokens{done}"),
        ("recipe", f"learning rate {r.learning_rate:.3g} ({r.schedule}), warm-up {r.warmup}, dropout {r.dropout:g}"),
        ("memory", f"about {plan.memory_bytes / 2**20:,.0f} MiB{checkpoints}"),
        ("time", f"about {clock(plan.seconds)}, to be known better after the first step"),
    ]


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours as well."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def _print_metrics(result: TrainingResult) -> None:
    """Of the best checkpoint of a task."""
    if (metrics := result.metrics) is None:
        return
    names = result.labels or tuple(map(str, range(len(metrics.confusion))))
    n_examples = int(metrics.confusion.sum())
    typer.echo(f"accuracy {metrics.accuracy:.4f}, macro F1 {metrics.macro_f1:.4f} on {n_examples} validation examples")
    typer.echo(format_confusion(metrics.confusion, names))


def share_or_path(text: str) -> float | str:
    """What --validation says: a number, or a file."""
    try:
        return float(text)
    except ValueError:
        return text


def numbers(weights: str | None) -> list[float] | None:
    """What --weights says."""
    try:
        return None if weights is None else [float(weight) for weight in weights.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{weights!r} is not numbers with commas between", param_hint="--weights") from None


def go_on(
    context: typer.Context,
    folder: Path,
    steps: int | None,
    threads: int | None,
    save_every: float,
    data: Sequence[Path],
    weights: str | None,
) -> None:
    """Do what --resume says. BadParameter if an option was used that a run which goes on cannot take."""
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in _WITH_RESUME and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                "cannot be used with --resume: a run goes on with its own settings", param_hint=parameter.opts[0]
            )
    shares = numbers(weights)
    if len(data) > 1 or len(shares or []) > len(data):
        raise typer.BadParameter("with --resume one data set is added, with one weight", param_hint="--data, --weights")
    added: dict[str, Any] = {"data": data[0]} if data else {}
    if shares:
        added["weight"] = shares[0]
    carry_out(
        folder,
        lambda watcher: resume(folder, steps=steps, threads=threads, save_seconds=save_every, watcher=watcher, **added),
    )
