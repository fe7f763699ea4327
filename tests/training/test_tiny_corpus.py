"""How the embedded model's texts are cleaned and split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def corpus(example: Callable[[str], ModuleType]) -> ModuleType:
    return example("tiny_corpus")


NOVEL = """\
THE FOX

By Nobody



CHAPTER I

It was _late_; the fox had been OUT OF A HOLE, and *never* looked-
for rain--
nor storm.  `What is "it" to the fox's mother?' said the crow.

    A verse about foxes,
    all of it indented.

* A footnote about crows.

[A stage direction.]

CROW. I speak my part.

CHAPTER II. The Fox at Home

Nobody came.

THE END

A note by the editor.
"""


def test_a_novel_becomes_chapters_of_plain_paragraphs(corpus: ModuleType) -> None:
    first = (
        "It was late; the fox had been out of a hole, and never looked-for rain--nor storm. "
        "\"What is 'it' to the fox's mother?\" said the crow."
    )
    assert [chapter for chapter in corpus.novel(NOVEL) if chapter] == [[first], ["Nobody came."]]


def test_verses_become_paragraphs_of_whole_sentences(corpus: ModuleType) -> None:
    verses = [f"In the year {number} the king went out, and the people of the land" for number in range(8)]
    names = ["Adam, Seth, Enosh, Kenan, Mahalalel, Jared, Enoch, Methuselah, Lamech, Noah."] * 6
    text = "\n".join(["An introduction. " * 100, *verses, "saw him.", *names, "“Amen,” they said.", "x" * 399 + "."])
    first, last = corpus.bible(text)[0]
    assert first == " ".join([*verses, "saw him."])
    assert last.startswith('"Amen," they said. xxx')


def test_the_tail_is_held_out(corpus: ModuleType) -> None:
    documents = [
        [f"Paragraph {chapter}-{number} " + "of some length. " * 8 for number in range(25)] for chapter in "ab"
    ]
    train, held_out = corpus.split([*documents, ["too short to be a document"]])
    assert train.count(corpus.END) == 2
    assert held_out.count(corpus.END) == 1
    whole = [paragraph for document in documents for paragraph in document]
    parts = [text.replace(corpus.END, "\n\n").strip("\n").split("\n\n") for text in (train, held_out)]
    assert parts[0] + parts[1] == whole
    assert len(parts[1]) == 2  # 5% of 50, to the next paragraph


def test_the_files_hold_the_copies_and_one_held_out_part(corpus: ModuleType, tmp_path: Path) -> None:
    story = "CHAPTER I\n\n" + "\n\n".join(
        f"The fox came {number} times, and then went home again." for number in range(400)
    )
    for source in corpus.SOURCES:
        file = tmp_path / "data" / source.files.replace("*", "emma")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(story.replace("\n\n", "\n") if source.read is corpus.bible else story, encoding="utf-8")
    texts = corpus.read(tmp_path / "data")
    corpus.write(texts, tmp_path / "out")
    train, validation = ((tmp_path / "out" / f"{name}.txt").read_text() for name in ("train", "validation"))
    assert train.count("The fox came 5 times") == sum(source.copies for source in corpus.SOURCES)
    assert validation.count("The fox came 395 times") == len(corpus.SOURCES) == validation.count(corpus.END)
    assert "The fox came 395 times" not in train
    with pytest.raises(FileNotFoundError, match=r"alice\.txt"):
        corpus.read(tmp_path)
