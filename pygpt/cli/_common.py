"""What the subcommands share: the options that choose and load a model, the progress bar, the texts."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pygpt import Model, Speculation, checkpoint
from pygpt.errors import CheckpointError

if TYPE_CHECKING:
    from rich.progress import Progress

NAME = "A short name (`pygpt list --all`), or of the Hugging Face hub ORG/NAME, ORG/NAME:QUANT or ORG/NAME/FILE.gguf."
MODEL = 'A folder or file of a model, its name, as `pygpt pull` takes it, or "tiny" (built in).'
Source = Annotated[str, typer.Option("--model", "-m", help=MODEL)]
Weights = Annotated[
    Literal["int8", "bfloat16", "float32"] | None,
    typer.Option(help="The format of the weights in memory.", show_default="int8, or as the model was saved"),
]
Kv = Annotated[
    Literal["float32", "float16", "int8"] | None,
    typer.Option(help="The format of cached keys and values.", show_default="as float32 weights, else float16"),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads to compute with.", show_default="physical cores")]
Isa = Annotated[
    str | None, typer.Option(help="Force an instruction set; `pygpt info` lists them.", show_default="the best")
]

NCtx = Annotated[
    int | None, typer.Option(min=1, help="The context in tokens.", show_default="as the checkpoint has it")
]
Speculate = Annotated[
    Literal["prompt"] | None,
    typer.Option(
        help="Propose tokens, several for a step: the same text, sooner where it repeats itself or the prompt.",
        show_default="one at a time",
    ),
]
Draft = Annotated[
    str | None,
    typer.Option(
        help="A smaller model of the same vocabulary, which proposes tokens within its own context: the same text, "
        "sooner.",
        show_default="none",
    ),
]


class ProgressBar:
    """A bar on standard error, as wide as the terminal allows, if that is one and the work takes half a second."""

    _DELAY, _INTERVAL = 0.5, 0.1  # seconds

    def __init__(self, label: str) -> None:
        self.label = label
        self.enabled = sys.stderr is not None and sys.stderr.isatty()
        self._next = time.monotonic() + self._DELAY
        self._bar: Progress | None = None

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` is finished, and the note as far as the terminal is wide."""
        if not self.enabled or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._INTERVAL
        if self._bar is None:
            self._bar = _rich_bar()
            self._bar.start()
            self._bar.add_task(self.label, note="")
        self._bar.update(self._bar.task_ids[0], description=self.label, completed=done, total=total, note=note)
        self._bar.refresh()

    def clear(self) -> None:
        """Remove the bar from the screen."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _rich_bar() -> Progress:
    from rich.console import Console  # here: what it takes to load is saved where there is no bar
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    return Progress(
        TextColumn("{task.description}", table_column=Column(no_wrap=True)),
        BarColumn(bar_width=None, table_column=Column(min_width=4, max_width=32, ratio=1)),
        TextColumn("{task.percentage:3.0f}%", table_column=Column(no_wrap=True)),
        TextColumn("{task.fields[note]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        console=Console(stderr=True, highlight=False),
        auto_refresh=False,
        transient=True,
    )


def find_model(source: str) -> str:
    """The same name of a model. CheckpointError, which says what to do, for one that is easily mistaken."""
    path = Path(source)
    if not path.exists() and source != "tiny" and source.lower() == "tiny":
        raise CheckpointError(f'no file or folder {source}: the built-in model is called "tiny"')
    if (path / "run.json").is_file() and not (path / "config.json").exists():
        if (path / "best").is_dir():
            raise CheckpointError(f"{source}: the folder of a training run; its model is {path / 'best'}")
        raise CheckpointError(f"{source}: the folder of a training run, which has no model yet")
    return source


@contextlib.contextmanager
def downloading(source: str) -> Iterator[ProgressBar]:
    """A bar for what comes over the network, in the place of the hub's client's own."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    bar = ProgressBar(f"downloading {source}")
    try:
        yield bar
    finally:
        bar.clear()


def fetch_model(source: str) -> Path:
    """Where a model is, once it was downloaded if it must be, with a progress bar."""
    with downloading(source) as progress:
        return checkpoint.locate(find_model(source), progress)


def load_model(source: str, weights: Weights, kv: Kv, threads: Threads, isa: Isa, n_ctx: NCtx = None) -> Model:
    """Load a model with a progress bar, and one before it if it must be downloaded first."""
    path = fetch_model(source)
    bar = ProgressBar(f"loading {source}")
    try:
        return Model.load(path, weights=weights, kv=kv, threads=threads, isa=isa, n_ctx=n_ctx, progress=bar)
    finally:
        bar.clear()


def template_of(argument: str | None) -> str | None:
    """The chat template that an argument stands for: what is in the file of that name, or else itself. ValueError: a
    file that is not UTF-8."""
    if argument is None or not os.path.isfile(argument):  # noqa: PTH113 - Path.is_file raises where a text is too long
        return argument
    try:
        return Path(argument).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{argument}: is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}") from None


def read_text(argument: str | None, what: str = "TEXT") -> str:
    """The text that an argument stands for: itself, or all of standard input (UTF-8) for "-", or where there is no
    argument and something is piped in. BadParameter: neither."""
    if argument not in (None, "-"):
        return argument
    if sys.stdin is None:
        raise ValueError("standard input is closed")
    if argument is None and sys.stdin.isatty():
        raise typer.BadParameter("is missing; it may also be piped in", param_hint=what)
    content = sys.stdin.buffer.read()
    if argument is None and not content:
        raise typer.BadParameter("is missing, and standard input is empty", param_hint=what)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"standard input is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}"
        ) from None


def check_file(path: Path, option: str) -> None:
    """BadParameter where the path, which an option gives, cannot be that of a file to write. For before the work."""
    folder = path.absolute().parent
    if not folder.is_dir():
        raise typer.BadParameter(f"the folder {folder} does not exist", param_hint=option)
    if path.exists() and not path.is_file():  # a folder, a pipe or a terminal, such as /dev/stdout
        raise typer.BadParameter(f"{path} is no file that another could take the place of", param_hint=option)


def check_proposals(speculate: Speculate, draft: Draft) -> None:
    """BadParameter for both at once."""
    if speculate is not None and draft is not None:
        raise typer.BadParameter("cannot be used beside --speculate", param_hint="--draft")


def load_draft(source: str | None, weights: Weights, kv: Kv, threads: Threads, isa: Isa) -> Model | None:
    """The model that --draft names."""
    return None if source is None else load_model(source, weights, kv, threads, isa)


def describe_speculation(speculation: Speculation) -> str:
    """For --stats: how often what was proposed came; nothing where nothing was."""
    s = speculation
    if not s.n_proposed:
        return ""
    share = s.n_accepted / s.n_proposed
    rate = s.n_tokens / s.n_steps
    return f"; {s.n_accepted} of {s.n_proposed} proposed tokens accepted ({share:.0%}), {rate:.2f} tokens a step"
