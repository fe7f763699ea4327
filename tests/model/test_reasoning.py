"""Reasoning is told from the answer, however the text is cut into pieces."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from pygpt.generation import Splitter
from pygpt.generation.reasoning import FORMATS, Marks, find_marks

THINK, HARMONY = FORMATS[0], FORMATS[3]


def split(marks: Marks | None, pieces: Sequence[str], prompt: str = "") -> tuple[str, str]:
    """The reasoning and the answer."""
    splitter = Splitter(marks, prompt)
    sections = [*itertools.chain.from_iterable(map(splitter.feed, pieces)), *splitter.finish()]
    assert all(section.text for section in sections)
    return tuple("".join(s.text for s in sections if s.part == part) for part in ("reasoning", "answer"))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("marks", "text", "expected"),
    [
        (None, " <think>a</think> b ", ("", " <think>a</think> b ")),
        (THINK, "<think>\na <b>\n\nc\n</think>\n\nd\n e ", ("a <b>\n\nc", "d\n e ")),
        (THINK, "\n<think></think>x", ("", "x")),
        (THINK, "<think>\n\n</think>\n\nx", ("", "x")),
        (THINK, "  plain <think>x</think>", ("", "  plain <think>x</think>")),
        (THINK, "<thin", ("", "<thin")),
        (THINK, "<think>cut off </thi", ("cut off </thi", "")),
        (THINK, "<think>cut off \n", ("cut off", "")),
        (THINK, "", ("", "")),
        (THINK, "<think>a</think>b</think>c", ("a", "b</think>c")),
        (
            HARMONY,
            "<|channel|>analysis<|message|>a b<|end|><|start|>assistant<|channel|>commentary<|message|>c<|end|>"
            "<|start|>assistant<|channel|>final<|message|>d",
            ("a bc", "d"),
        ),
        (HARMONY, "<|channel|>final<|message|> d", ("", "d")),
        (HARMONY, " to=functions.f<|channel|>", ("", " to=functions.f<|channel|>")),
    ],
)
def test_a_reply_is_taken_apart(marks: Marks | None, text: str, expected: tuple[str, str]) -> None:
    assert split(marks, [text]) == expected
    assert split(marks, list(text)) == expected
    for n in range(1, len(text)):
        assert split(marks, [text[:n], text[n:]]) == expected


def test_a_prompt_may_begin_the_reasoning() -> None:
    assert split(THINK, ["\na</think>b"], "...<think>\n") == ("a", "b")
    assert split(THINK, ["\nb"], "...<think>\n\n</think>\n\n") == ("", "\nb")


def test_text_is_given_out_as_soon_as_it_is_certain() -> None:
    splitter = Splitter(THINK, "")
    found = [[s.text for s in splitter.feed(text)] for text in ("<think>", "\n", "a", " b", "<", "c", "</think> d")]
    assert found == [[], [], ["a"], [" b"], [], ["<c"], ["d"]]


def test_marks_are_found_in_the_template_or_the_vocabulary() -> None:
    assert find_marks("... '<think>' ...", lambda mark: False) is THINK
    assert find_marks("... <|channel|>analysis<|message|> ...", lambda mark: False) is HARMONY
    assert find_marks("plain", lambda mark: mark == "<think>") is THINK
    assert find_marks("plain", lambda mark: False) is None
