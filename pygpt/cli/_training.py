"""What the training commands share: the options of a recipe, what is shown meanwhile, and Ctrl-C."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import inspect
import signal
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Annotated, Any, Literal

import typer

from pygpt.cli._common import ProgressBar
from pygpt.tokenizer import Tokenizer
from pygpt.training import plot
from pygpt.training.data import Dataset, prepare, reopen
from pygpt.training.loop import Objective, train
from pygpt.training.metrics import Record
from pygpt.training.primitives import Primitives
from pygpt.training.recipe import Recipe, Schedule
from pygpt.training.run_folder import RunFolder
from pygpt.training.state import Progress
from pygpt.training.text import Split

Backend = Annotated[
    Literal["kernels", "kernels-bf16", "numpy"],
    typer.Option(
        help="What computes: the compiled core; the same with factors of matrix products in bfloat16, faster on CPUs "
        "with AMX; or the readable NumPy functions, half as fast."
    ),
]
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
SaveEvery = Annotated[float, typer.Option(min=0, help="Seconds between saves of the state that --resume goes on from.")]

_RECIPE_OPTIONS: dict[str, tuple[object, str]] = {  # of `Recipe`'s fields
    "steps": (int, "Updates of the parameters."),
    "batch": (int, "Sequences in one update."),
    "accumulate": (int, "Parts that a batch is cut into: more of them take less memory."),
    "learning_rate": (float, "The largest one, after the warm-up."),
    "min_learning_rate": (float, "The last one."),
    "warmup": (int, "Steps in which the learning rate rises."),
    "stable": (int, "Steps between the warm-up and the decay."),
    "decay_steps": (int, "The step at which the learning rate is at its last value."),
    "schedule": (Schedule, "How it falls."),
    "beta1": (float, "AdamW's mean of the gradients."),
    "beta2": (float, "AdamW's mean of their squares."),
    "eps": (float, "AdamW's epsilon."),
    "weight_decay": (float, "Of the matrices."),
    "clip": (float, "The largest norm of the gradients; 0: no limit."),
    "dropout": (float, "The share of values dropped."),
    "ramp_steps": (int, "Steps in which the batch grows; 0: none."),
    "ramp_from": (int, "Sequences in the first batch, if it grows."),
    "seed": (int, "Of everything random."),
    "eval_interval": (int, "Steps between evaluations."),
    "eval_windows": (int, "Sequences of the validation text in one of them."),
    "sample_interval": (int, "Steps between sample texts; 0: none."),
    "checkpoint_interval": (int, "Steps between writes of last/; 0: one at each evaluation."),
    "patience": (int, "Stop after so many evaluations without a better one; 0: never."),
}


def with_recipe(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command an option for each field of a recipe, in the place of its argument `given`, which gets those that
    were used. `default` is shown as the value of the others."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**options: Any) -> None:
            fields = {name: options.pop(name) for name in _RECIPE_OPTIONS}
            function(**options, given={name: value for name, value in fields.items() if value is not None})

        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "given"]
        added = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kind | None, typer.Option(help=text, show_default=default)],  # type: ignore[operator]
            )
            for name, (kind, text) in _RECIPE_OPTIONS.items()
        ]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + added
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


def primitives(backend: str, threads: int | None) -> Primitives:
    """The functions that compute."""
    if backend == "numpy":
        from pygpt.training import functions

        return functions
    from pygpt.training.kernels import Kernels

    return Kernels(threads, precision="bfloat16" if backend == "kernels-bf16" else "float32")


def share_or_file(text: str) -> float | str:
    """What --validation says, for run.json: a number, or the absolute path of a file."""
    try:
        return float(text)
    except ValueError:
        return str(Path(text).absolute())


def validation(settings: Mapping[str, Any]) -> float | Path:
    """The same, read from run.json."""
    value = settings["validation"]
    return value if isinstance(value, float) else Path(value)


def dataset(
    run: RunFolder,
    tokenizer: Tokenizer | Literal["bpe", "char"] | Path,
    n_vocab: int | None = None,
    split: Split = "tail",
) -> Dataset:
    """The text in tokens: as it was prepared when the run began, or now, if it was not."""
    if "fingerprint" in run.settings:
        return reopen(run.data)
    bar = ProgressBar("reading the text")
    try:
        return prepare(
            Path(run.settings["data"]),
            run.data,
            tokenizer=tokenizer,
            n_vocab=n_vocab,
            validation=validation(run.settings),
            split=split,
            progress=bar,
        )
    finally:
        bar.clear()


def refuse_with_resume(context: typer.Context, allowed: set[str]) -> None:
    """BadParameter if an option beside --resume was used that is not one of `allowed`."""
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in allowed | {"resume"} and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                "cannot be used with --resume: a run goes on with its own settings", param_hint=parameter.opts[0]
            )


def keep_freed_memory() -> None:
    """Let the process hold on to the arrays that a step frees, for the next one: mapping and clearing them anew takes a
    fifth of a small model's step. For glibc; this is a command's own process, so nobody else is concerned."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 1 << 25)  # the most it takes
        mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def run(objective: Objective, recipe: Recipe, functions: Primitives, folder: RunFolder, save_every: float) -> None:
    """Train, show it, and say what came of it. KeyboardInterrupt after Ctrl-C, when the state is saved."""
    keep_freed_memory()
    display = Display(recipe)
    with Interrupt() as interrupt:
        try:
            progress = train(
                objective,
                recipe,
                functions,
                folder,
                save_seconds=save_every,
                report=display,
                should_stop=interrupt.asked,
            )
        finally:
            display.clear()
    if not progress.finished:
        typer.echo(f"saved at step {progress.step}: go on with --resume {folder.path}", err=True)
        raise KeyboardInterrupt
    typer.echo(f"{folder.best}: validation loss {progress.best_loss:.4f} at step {progress.best_step}")


class Display:
    """Shows a run on standard error: a bar and the samples on a terminal, and everywhere a line an evaluation."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._bar = ProgressBar("training")
        self._begun = time.monotonic()
        self._first: int | None = None
        if not plot.is_available():
            typer.echo("no loss.png: matplotlib is not installed (pip install 'pygpt-cpu[train]')", err=True)

    def __call__(self, record: Record, progress: Progress) -> None:
        """The `report` of `pygpt.training.loop.train`."""
        step = progress.step
        if self._first is None:
            self._first, self._begun = step, time.monotonic()
        loss = f"loss {record['loss']:.4f}" if "loss" in record else ""
        speed = f"{record['tokens_per_second']:,.0f} tokens/s" if "loss" in record else ""
        done = step - self._first
        left = ""
        if done:
            seconds = (time.monotonic() - self._begun) / done * (self._recipe.steps - step)
            left = f"{_clock(seconds)} left"
        if "validation_loss" in record:
            self._bar.clear()
            validation = f"validation {record['validation_loss']:.4f} (best {progress.best_loss:.4f})"
            parts = [f"step {step} of {self._recipe.steps}: {validation}", loss, speed, left]
            typer.echo(", ".join(filter(None, parts)), err=True)
        if "sample" in record and self._bar.enabled:
            self._bar.clear()
            typer.echo(f"\n{textwrap.indent(str(record['sample']).strip(), '    ')}\n", err=True)
        self._bar(step, self._recipe.steps, "  ".join(filter(None, [loss, speed, left])))

    def clear(self) -> None:
        """Remove the bar."""
        self._bar.clear()


class Interrupt:
    """In a ``with`` block, Ctrl-C is a question that `asked` answers; a second one ends the process at once."""

    def __init__(self) -> None:
        self._asked = False

    def asked(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._asked

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
        typer.echo("\nsaving after this step; Ctrl-C again to stop at once", err=True)

    def __enter__(self) -> Interrupt:
        self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        signal.signal(signal.SIGINT, self._before)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
