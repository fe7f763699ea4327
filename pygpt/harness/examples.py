"""The forms that an example of a benchmark may have, as a row of its file says by its columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from pygpt._json import shown

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Example:
    where: str = field(default="", kw_only=True, compare=False)
    """The file and the line, for messages."""


@dataclass(frozen=True, slots=True)
class Choice(_Example):
    """Which of several (context, continuation) pairs is likeliest."""

    pairs: tuple[tuple[str, str], ...]
    gold: int
    lengths: tuple[int, ...] | None
    """Characters of each answer, which its log-probability is divided by for acc_norm; None: there is no such metric,
    because it is the context that differs, or because sentences are compared as they are."""


@dataclass(frozen=True, slots=True)
class Cloze(_Example):
    """Whether a model would write just this continuation."""

    context: str
    continuation: str


@dataclass(frozen=True, slots=True)
class Question(_Example):
    """What a model writes up to the end of the line, and what would be right."""

    prompt: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Document(_Example):
    """A text, all of which is foretold."""

    text: str

    @property
    def n_words(self) -> int:
        """As lm-evaluation-harness counts them: the parts between white space, empty ones at both ends included."""
        return len(re.split(r"\s+", self.text))

    @property
    def n_bytes(self) -> int:
        """Of its UTF-8."""
        return len(self.text.encode("utf-8", "replace"))


Example: TypeAlias = Choice | Cloze | Question | Document


class Form(NamedTuple):
    """A form of a file's rows."""

    columns: tuple[str, ...]
    read: Callable[[Row, str], Example]  # a row that has these columns, and what stands between query and answers


def _of_query(row: Row, suffix: str) -> Choice:
    choices = _texts(row, "choices", 2)
    query = _text(row, "query") + suffix
    pairs = tuple((query, _after(query, choice)) for choice in choices)
    return Choice(pairs, _index(row, len(choices)), tuple(map(len, choices)))


def _of_contexts(row: Row, _: str) -> Choice:
    contexts = _texts(row, "context_options", 2)
    continuation = _text(row, "continuation")
    return Choice(tuple((c, _after(c, continuation)) for c in contexts), _index(row, len(contexts)), None)


def _of_sentences(row: Row, _: str) -> Choice:
    return Choice((("", _text(row, "sentence_good")), ("", _text(row, "sentence_bad"))), 0, None)


def _of_question(row: Row, _: str) -> Question:
    prompt = f"Context: {_text(row, 'context')}\n\nQuestion: {_text(row, 'question')}\n\nAnswer:"
    return Question(prompt, _texts(row, "answers", 1))


def _of_continuation(row: Row, _: str) -> Cloze:
    context = _text(row, "context")
    return Cloze(context, _after(context, _text(row, "continuation")))


DOCUMENT = Form(("text",), lambda row, _: Document(_text(row, "text")))
FORMS = (
    Form(("query", "choices", "gold"), _of_query),
    Form(("context_options", "continuation", "gold"), _of_contexts),
    Form(("sentence_good", "sentence_bad"), _of_sentences),
    Form(("context", "question", "answers"), _of_question),
    Form(("context", "continuation"), _of_continuation),
    DOCUMENT,
)


def form_of(row: Row) -> Form:
    """The first form whose columns a row has. ValueError: there is none."""
    found = next((form for form in FORMS if row.keys() >= {*form.columns}), None)
    if found is None:
        known = "; or ".join(", ".join(form.columns) for form in FORMS)
        raise ValueError(f"has the columns {', '.join(map(str, row)) or '(none)'}, but needs {known}")
    return found


def read_row(form: Form, row: Row, suffix: str) -> Example:
    """A row of a file whose first row has this form. ValueError: a column that it lacks, or that holds another kind of
    value."""
    for column in form.columns:
        if column not in row:
            raise ValueError(f"lacks the column {column!r}, which the first line has")
    return form.read(row, suffix)


def _after(context: str, continuation: str) -> str:
    """With a space between the two, unless there is white space."""
    return continuation if not context or context[-1:].isspace() or continuation[:1].isspace() else f" {continuation}"


def _text(row: Row, column: str) -> str:
    value = row[column]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{column} must be a text that is not empty, not {shown(value)}")
    return value


def _texts(row: Row, column: str, least: int) -> tuple[str, ...]:
    values = row[column]
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) < least:
        raise ValueError(f"{column} must be a list of at least {least} texts, not {shown(values)}")
    if not all(isinstance(value, str) and value for value in values):
        raise ValueError(f"{column} must hold texts that are not empty, not {shown(values)}")
    return tuple(values)


def _index(row: Row, n: int) -> int:
    gold = row["gold"]
    if type(gold) is not int or not 0 <= gold < n:
        raise ValueError(f"gold must be the number of one of {n} choices, from 0 to {n - 1}, not {shown(gold)}")
    return gold
