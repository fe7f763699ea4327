"""What a person types into `pygpt chat`: lines with editing and a history, messages of several lines."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

QUOTES = '"""'
_PROMPT, _MORE = ">>> ", "... "
_KEPT = 1000  # lines of history


class Messages:
    """Reads messages from standard input, one a line. A line that ends with a backslash goes on with the next, and
    what stands between lines of three quotes is one message."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdin is not None and sys.stdin.isatty()
        self._shows = self.is_terminal and sys.stdout is not None and sys.stdout.isatty()

    def read(self) -> str:
        """The next message. EOFError: there is none; ValueError: it is not UTF-8; KeyboardInterrupt."""
        text = self._line(_PROMPT)
        if text.lstrip().startswith(QUOTES):
            text = text.lstrip()[len(QUOTES) :]
            while not text.rstrip().endswith(QUOTES) and (more := self._more()) is not None:
                text += f"\n{more}"
            return text.rstrip().removesuffix(QUOTES).strip("\n")
        while text.endswith("\\"):
            more = self._more()
            text = text[:-1] if more is None else f"{text[:-1]}\n{more}"
        return text

    def _more(self) -> str | None:
        try:
            return self._line(_MORE)
        except EOFError:
            return None

    def _line(self, prompt: str) -> str:
        if self.is_terminal:
            return input(prompt if self._shows else "")
        if sys.stdin is None:
            raise EOFError
        line = sys.stdin.buffer.readline()
        if not line:
            raise EOFError
        try:
            return line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"standard input is not UTF-8: a line has the byte 0x{line[error.start]:02x}") from None


@contextlib.contextmanager
def history() -> Iterator[None]:
    """Line editing, and the lines of earlier conversations, which are kept for this user alone. Where Python has no
    readline, as on Windows, the terminal's own editing."""
    try:
        import readline
    except ImportError:
        yield
        return
    state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    path = state / "pygpt" / "chat-history"
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(_KEPT)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            readline.write_history_file(path)
