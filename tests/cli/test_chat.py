"""`pygpt chat`: in a pipe, with a message, on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from pygpt import Section
from pygpt.cli._app import app
from pygpt.cli._screen import Blocks, Screen, Terminal, for_rich

END = "<|endoftext|>"
FIRST = f"u:hi{END}a:"
SECOND = f"{FIRST}yo.{END}u:so{END}a:"
TURNS = ((FIRST, "yo."), (SECOND, "ok!"))


def chat(folder: Path, *arguments: object, stdin: str | bytes | None = None) -> Result:
    options = ("--threads", 1, "--temperature", 0)
    return CliRunner().invoke(app, [str(a) for a in ("chat", folder, *arguments, *options)], input=stdin)


# --- scripts ---------------------------------------------------------------------------------------------------------


def test_each_line_of_a_pipe_is_a_message(speaker_folder: Callable[..., Path]) -> None:
    result = chat(speaker_folder(*TURNS), stdin="hi\n\nso\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "yo.\nok!\n", "")


def test_one_message_has_one_answer(speaker_folder: Callable[..., Path]) -> None:
    folder = speaker_folder(*TURNS)
    assert chat(folder, "hi").stdout == "yo.\n"
    assert chat(folder, "-", stdin="hi").stdout == "yo.\n"
    several = speaker_folder((f"u:a\nb{END}a:", "yo."))
    for text in ('"""a\nb"""\n', '"""\na\nb\n"""\n', '"""\na\nb', "a\\\nb\n"):
        assert chat(several, stdin=text).stdout == "yo.\n"
    assert chat(several, "a\nb").stdout == "yo.\n"


def test_speculation_changes_nothing_but_the_speed(speaker_folder: Callable[..., Path]) -> None:
    folder = speaker_folder((FIRST, "ababababab"))
    for how in (("--speculate", "prompt"), ("--draft", folder)):
        result = chat(folder, "hi", "--stats", *how)
        assert result.stdout == "ababababab\n"
        assert "proposed tokens accepted" in result.stderr


def test_commands(speaker_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder, saved = speaker_folder(*TURNS), tmp_path / "my chat.json"
    script = f"hi\n/retry\nso\n/save '{saved}'\n/reset\nhi\n/load '{saved}'\n/help\n/system\n/exit\nso\n"
    result = chat(folder, stdin=script)
    assert (result.exit_code, result.stdout) == (0, "yo.\nyo.\nok!\nyo.\n")
    for word in ("saved to", "a new conversation", "4 messages", "/reset ", "system: (nothing)"):
        assert word in result.stderr
    assert [m["content"] for m in json.loads(saved.read_text())["messages"]] == ["hi", "yo.", "so", "ok!"]
    later = speaker_folder((f"{SECOND}ok!{END}u:x{END}a:", "z"))
    assert chat(later, "x", "--load", saved).stdout == "z\n"


def test_a_system_message(speaker_folder: Callable[..., Path]) -> None:
    folder = speaker_folder((f"s:S{END}{FIRST}", "yo."))
    assert chat(folder, "hi", "--system", "S").stdout == "yo.\n"
    assert chat(folder, stdin="/system S\nhi\n").stdout == "yo.\n"


def test_a_template_may_be_given_and_set(speaker_folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{{ a }}{{ b }}{{ messages[-1].content }}", encoding="utf-8")
    folder = speaker_folder(("[1]xhi", "yo."))
    assert chat(folder, "hi", "--template", tmp_path / "t.jinja", "--set", "a=[1]", "--set", "b=x").stdout == "yo.\n"
    result = chat(folder, "hi", "--set", "a")
    assert result.exit_code == 2
    assert "is not NAME=VALUE" in result.stderr


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("/nothing\n", "/nothing is no command: /help lists them"),
        ("/retry\n", "there is nothing to answer yet"),
        ("/save\n", "/save takes the name of one file"),
        ("/save a b\n", "/save takes the name of one file"),
        ("/load none.json\n", "none.json"),
        (b"a\xff\n", "standard input is not UTF-8: a line has the byte 0xff"),
        ("x" * 1000 + "\n", "the message is too long"),
    ],
)
def test_a_script_ends_with_its_first_mistake(
    speaker_folder: Callable[..., Path], script: str | bytes, message: str
) -> None:
    more = b"hi\n" if isinstance(script, bytes) else "hi\n"
    result = chat(speaker_folder(*TURNS), stdin=script + more)  # type: ignore[operator]
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_looks_like_a_path_is_a_message(speaker_folder: Callable[..., Path]) -> None:
    assert chat(speaker_folder((f"u:/etc/fstab{END}a:", "yo.")), stdin="/etc/fstab\n").stdout == "yo.\n"


def test_a_model_without_a_template_says_what_to_do(gpt2_folder: Path) -> None:
    result = chat(gpt2_folder, "hi")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "was not trained to answer" in result.stderr
    assert f"`pygpt generate -m {gpt2_folder}`" in result.stderr
    assert "`pygpt chat smollm2`" in result.stderr


def test_options_of_sampling_arrive(speaker_folder: Callable[..., Path]) -> None:
    folder = speaker_folder(*TURNS)
    assert chat(folder, "hi", "--stop", ".").stdout == "yo\n"
    cut = chat(folder, "hi", "--max-tokens", 2)
    assert cut.stdout == "yo\n"
    assert "cut short" in cut.stderr
    assert chat(folder, "hi", "--max-tokens", 0).exit_code == 2
    stats = chat(folder, "--stats", stdin="hi\nso\n/retry\n").stderr
    assert re.findall(r"(\d+) of (\d+) tokens read", stats) == [("7", "7"), ("8", "18"), ("1", "18")]


def test_reasoning_is_no_part_of_what_a_pipe_gets(speaker_folder: Callable[..., Path]) -> None:
    assert chat(speaker_folder((FIRST, "<think>\nhm\n</think>\n\nyo.")), "hi").stdout == "yo.\n"


def test_a_full_context_forgets_and_says_so(speaker_folder: Callable[..., Path]) -> None:
    script = "".join(f"{i}{'x' * 60}\n" for i in range(7))
    result = chat(speaker_folder(*TURNS), "--max-tokens", 1, stdin=script)
    assert result.exit_code == 0
    assert "(the context is full: the first" in result.stderr


def test_generate_says_that_chat_exists(speaker_folder: Callable[..., Path], gpt2_folder: Path) -> None:
    def generate(folder: Path, *options: str) -> Result:
        arguments = ["generate", "a", "--model", str(folder), "--threads", "1", "--max-tokens", "1", *options]
        return CliRunner().invoke(app, arguments)

    folder = speaker_folder(*TURNS)
    assert f"`pygpt chat {folder}` is a conversation with it" in generate(folder).stderr
    assert generate(folder, "--special").stderr == ""  # a layout of one's own
    assert generate(gpt2_folder).stderr == ""
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    assert generate(folder).stderr == ""


# --- a terminal ------------------------------------------------------------------------------------------------------


class Session:
    """A process on a pseudo-terminal."""

    def __init__(self, arguments: list[str], elsewhere: dict[str, Any], state: Path) -> None:
        self.leader, follower = pty.openpty()
        self.shown, self.raw = "", ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pygpt", "chat", *arguments, "--threads", "1", "--temperature", "0"],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            cwd=elsewhere["cwd"],
            env={**elsewhere["env"], "TERM": "xterm", "XDG_STATE_HOME": str(state), "COLUMNS": "80", "LINES": "24"},
            preexec_fn=self._own_terminal,
        )
        os.close(follower)

    @staticmethod
    def _own_terminal() -> None:
        import fcntl
        import termios

        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def type(self, text: str) -> None:
        os.write(self.leader, text.encode())

    def wait_for(self, text: str) -> str:
        """What is shown up to `text`, after what was waited for before; without the terminal's codes."""
        deadline = time.monotonic() + 60
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self.leader], [], [], 1)[0]:
                with contextlib.suppress(OSError):  # Linux says so when the other end is closed
                    raw = os.read(self.leader, 4096).decode("utf-8", "replace")
                    self.raw += raw
                    self.shown += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", raw)
        before, found, self.shown = self.shown.partition(text)
        return before + found

    def end(self) -> int:
        status = self.process.wait(timeout=60)
        os.close(self.leader)
        return status


@pytest.fixture
def terminal(elsewhere: dict[str, Any], tmp_path: Path) -> Iterator[Callable[..., Session]]:
    opened: list[Session] = []

    def start(*arguments: object) -> Session:
        opened.append(Session([str(a) for a in arguments], elsewhere, tmp_path / "state"))
        return opened[-1]

    yield start
    for session in opened:
        session.process.kill()


def test_ctrl_c_stops_an_answer_and_ctrl_d_leaves(
    scripted_folder: Callable[[Iterable[int]], Path],
    with_template: Callable[..., Path],
    terminal: Callable[..., Session],
    elsewhere: dict[str, Any],
    tmp_path: Path,
    vocab: Any,
) -> None:
    folder = with_template(scripted_folder(vocab.byte_ids("endless text ") * 1500), tmp_path / "m")
    session = terminal(folder, "--no-markdown")
    session.wait_for(">>> ")
    session.type("hi\n")
    session.wait_for("text endless text")
    session.type("\x03")
    session.wait_for(">>> ")
    session.type("half a line")
    session.wait_for("half a line")  # so the prompt is being read, and not only shown
    session.type("\x03")
    session.wait_for(">>> ")
    session.type("/save c.json\n")
    session.wait_for("saved to c.json")
    session.wait_for(">>> ")
    session.type("/nothing\n")
    session.wait_for("/nothing is no command")
    session.wait_for(">>> ")
    session.type("\x04")
    assert session.end() == 0
    saved = json.loads((elsewhere["cwd"] / "c.json").read_text())
    said = saved["messages"][1]["content"]
    assert [m["role"] for m in saved["messages"]] == ["user", "assistant"]
    assert said in "endless text " * 1500
    assert "text endless text" in said
    assert len(said) < 15_000
    kept = tmp_path / "state" / "pygpt" / "chat-history"
    assert kept.read_text().splitlines()[:1] == ["hi"]
    assert kept.stat().st_mode & 0o077 == 0


def test_markdown_and_reasoning_on_a_terminal(
    speaker_folder: Callable[..., Path], terminal: Callable[..., Session]
) -> None:
    folder = speaker_folder((FIRST, "<think>so it is</think>Well:\n\n**Bold** <b>\n\n- one\n- two"))
    session = terminal(folder, "hi")
    shown = session.wait_for("two")
    assert session.end() == 0
    assert "so it is" in shown
    assert "\x1b[2ms\x1b[0m\x1b[2mo" in session.raw  # dim
    assert "• one" in shown
    assert "**" not in shown[shown.index("Bold <b>") :]


# --- Markdown --------------------------------------------------------------------------------------------------------

MARKDOWN = "# T\n\npara\nmore\n\n```py\na\n\nb\n```\nafter\n\n~~~~\n```\n\n~~~\n~~~~\n1. x"
BLOCKS = ["# T", "para\nmore", "```py\na\n\nb\n```", "after", "~~~~\n```\n\n~~~\n~~~~", "1. x"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_markdown_is_cut_into_blocks(size: int) -> None:
    blocks = Blocks()
    pieces = [MARKDOWN[i : i + size] for i in range(0, len(MARKDOWN), size)]
    assert [*(b for piece in pieces for b in blocks.feed(piece)), *blocks.finish()] == BLOCKS
    assert blocks.open == ""


def test_markdown_for_a_terminal_loses_nothing() -> None:
    assert for_rich("a <b> `<c>` ``<`d>``\nnext") == "a \\<b> `<c>` ``<`d>``  \nnext  "
    assert for_rich("```\n<a>\n```") == "```\n<a>\n```"


def test_a_models_text_gives_the_terminal_no_orders(capsys: pytest.CaptureFixture) -> None:
    for markdown in (False, True):
        screen: Screen = Terminal(markdown)
        screen.show(Section("answer", "a\x1b[2Jb"))
        screen.end()
        assert "a\u241b[2Jb" in capsys.readouterr().out


def test_a_terminal_shows_all_of_a_long_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "6")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    screen: Screen = Terminal(markdown=True)
    for i in range(30):
        screen.show(Section("answer", f"line {i}\n"))
    screen.end()
    out = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    last = out[out.rindex("line 0 ") :]
    assert re.findall(r"line \d+", last) == [f"line {i}" for i in range(30)]
