"""What `pygpt chat` shows: plain text where nobody sees colours, Markdown on a terminal."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from pygpt import Section

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.live import Live

_INTERVAL = 0.05  # seconds
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_CODE_OR_LESS = re.compile(r"(`+)(.*?[^`])\1(?!`)|<", re.DOTALL)


class Screen:
    """Prints the answer alone, as it comes."""

    def show(self, section: Section) -> None:
        """The next piece of an answer."""
        if section.part == "answer":
            typer.echo(section.text, nl=False)

    def end(self) -> None:
        """The answer is complete, or was cut short."""
        typer.echo()

    def note(self, text: str) -> None:
        """Something that is no part of the conversation."""
        typer.echo(text, err=True)


class Terminal(Screen):
    """Shows reasoning dim, and an answer as it comes: as Markdown, block by block, if wanted."""

    def __init__(self, markdown: bool) -> None:
        from rich.console import Console  # here: what it takes to load is saved in a pipe

        self._console = Console(highlight=False)
        self._markdown = markdown
        self._part: str | None = None
        self._blocks = Blocks()
        self._live: Live | None = None
        self._next = 0.0  # when the open block is drawn again at the earliest

    def show(self, section: Section) -> None:
        if self._part == "reasoning" != section.part:
            self._console.print("\n")
        self._part = section.part
        text = section.text.replace("\x1b", "\u241b")  # a model's text gives the terminal no orders
        if section.part == "reasoning":
            self._print(text, "dim")
        elif self._markdown:
            for block in self._blocks.feed(text):
                self._settle(block)
            self._draw()
        else:
            self._print(text)

    def end(self) -> None:
        if self._part == "answer" and self._markdown:
            for block in self._blocks.finish():
                self._settle(block)
        elif self._part is not None:
            self._console.print()
        self._stop()
        self._part = None

    def note(self, text: str) -> None:
        self._console.print(text, style="dim", markup=False)

    def _print(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, end="", markup=False, soft_wrap=True)

    def _draw(self) -> None:
        """The block that is not complete yet. Drawing a long one takes longer than a token: it may take a quarter of
        the time."""
        from rich.live import Live

        started = time.monotonic()
        if not self._blocks.open.strip() or started < self._next:
            return
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=True, vertical_overflow="visible")
            self._live.start()
        self._live.update(_Tail(self._blocks.open), refresh=True)
        self._next = time.monotonic() + max(3 * (time.monotonic() - started), _INTERVAL)

    def _settle(self, block: str) -> None:
        """A complete block, which stays as it is."""
        from rich.markdown import Markdown

        self._stop()
        self._console.print(Markdown(for_rich(block)))
        self._console.print()

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


class _Tail:
    """As much of the end of a Markdown text as the terminal has lines: what has left it upwards cannot be redrawn."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.markdown import Markdown
        from rich.segment import Segment

        lines = console.render_lines(Markdown(for_rich(self._text)), options, pad=False)
        for line in lines[-max(console.height - 2, 1) :]:
            yield from line
            yield Segment.line()


class Blocks:
    """Cuts Markdown into blocks as it comes, at empty lines outside code."""

    def __init__(self) -> None:
        self.open = ""  # the block that is not complete yet
        self._line = ""  # its last line, without an end yet
        self._fence: str | None = None

    def feed(self, text: str) -> Iterator[str]:
        """The blocks that are complete now."""
        for line in text.splitlines(keepends=True):
            self.open += line
            self._line += line
            if not self._line.endswith("\n"):
                continue
            ended, self._line = self._line, ""
            mark = _FENCE.match(ended)
            if self._fence is not None:
                if mark is None or not mark[1].startswith(self._fence) or ended.strip() != mark[1]:
                    continue
                self._fence = None
            elif mark is not None:
                self._fence = mark[1]
                continue
            elif ended.strip():
                continue
            yield from self.finish()

    def finish(self) -> Iterator[str]:
        """What is left, once no more text comes."""
        block, self.open, self._line, self._fence = self.open, "", "", None
        if block.strip():
            yield block.strip("\n")


def for_rich(block: str) -> str:
    """A block of Markdown for a terminal: ends of lines stay where they are, and what looks like HTML is text."""
    if _FENCE.match(block):
        return block
    escaped = _CODE_OR_LESS.sub(lambda m: m[0] if m[1] else r"\<", block)
    return "\n".join(f"{line}  " if line.strip() else line for line in escaped.split("\n"))


def open_screen(markdown: bool | None) -> Screen:
    """Where standard output is a terminal, its own; `markdown`: None means yes there."""
    if sys.stdout is None or not sys.stdout.isatty():
        return Screen()
    return Terminal(markdown is not False)
