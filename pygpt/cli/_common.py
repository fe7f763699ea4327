"""What the subcommands share: the options that choose and load a model, the progress bar, the prompt."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Annotated, Literal

import typer

from pygpt import Model

Source = Annotated[
    str, typer.Option("--model", "-m", help='A folder, .safetensors or .gguf file, hub id, or "tiny" (built in).')
]
Weights = Annotated[
    Literal["int8", "bfloat16", "float32"] | None,
    typer.Option(help="The format of the weights in memory.", show_default="int8, or as the model was saved"),
]
Kv = Annotated[
    Literal["float32", "float16"] | None,
    typer.Option(help="The format of cached keys and values.", show_default="as float32 weights, else float16"),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads to compute with.", show_default="physical cores")]
Isa = Annotated[
    str | None, typer.Option(help="Force an instruction set; `pygpt info` lists them.", show_default="the best")
]


class ProgressBar:
    """A bar on standard error, if that is a terminal and the work takes longer than half a second."""

    _DELAY, _INTERVAL, _WIDTH = 0.5, 0.05, 30  # seconds, seconds, characters

    def __init__(self, label: str) -> None:
        self._label = label
        self.enabled = sys.stderr.isatty()
        self._next = time.monotonic() + self._DELAY
        self._shown = 0  # characters on the line now

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` is finished, and the note as far as the terminal is wide."""
        if not self.enabled or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._INTERVAL
        filled = self._WIDTH * done // total
        line = (
            f"{self._label} [{'#' * filled}{'.' * (self._WIDTH - filled)}] {100 * done // total:3d}%  {note}".rstrip()
        )
        line = line[: shutil.get_terminal_size().columns - 1]
        self._write(line.ljust(self._shown))
        self._shown = len(line)

    def clear(self) -> None:
        """Remove the bar from the screen."""
        if self._shown:
            self._write(" " * self._shown)
            self._write("")
            self._shown = 0

    @staticmethod
    def _write(line: str) -> None:
        sys.stderr.write(f"\r{line}")
        sys.stderr.flush()


def load_model(source: str, weights: Weights, kv: Kv, threads: Threads, isa: Isa) -> Model:
    """Load a model with a progress bar."""
    bar = ProgressBar(f"loading {source}")
    try:
        return Model.load(source, weights=weights, kv=kv, threads=threads, isa=isa, progress=bar)
    finally:
        bar.clear()


def read_text(argument: str) -> str:
    """The text that an argument stands for: itself, or all of standard input (UTF-8) for "-"."""
    if argument != "-":
        return argument
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"standard input is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}"
        ) from None
