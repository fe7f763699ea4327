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


EBOOK = """\
The Fox
 I
 It was late—the “fox” had been out, had he⸺?
 No, it had been out of its hole for hours, and for hours, and nobody knew.
 Where foxes go, nobody knows,
 And nobody wants to know,
 For over the hill
 All foxes are still,
 They go where the foxes go.
 “Well?” said he.
 “Well?” said she.
 “Oh.”
 “Ah.”

The Squaw
 A word that is not for a model to learn.

The Hen
 In Which There Is a Hen
 She was a hen.
"""


def test_an_ebook_becomes_chapters_without_titles_and_verse(corpus: ModuleType) -> None:
    long = "No, it had been out of its hole for hours, and for hours, and nobody knew."
    fox = [
        'It was late--the "fox" had been out, had he--?',
        long,
        '"Well?" said he.',
        '"Well?" said she.',
        '"Oh."',
        '"Ah."',
    ]
    assert corpus.ebook(EBOOK) == [fox, ["She was a hen."]]


def test_the_files_hold_the_copies_and_one_held_out_part(corpus: ModuleType, tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    numbers: dict[Path, int] = {}  # of the files
    for source in corpus.SOURCES:
        for pattern in source.files:
            file = data / pattern.replace("*", "x" if source.read is corpus.ebook else "emma")
            if file in numbers:  # more than one source names it
                continue
            numbers[file] = len(numbers)
            lines = [f"The fox {numbers[file]} came {number} times, and then went home." for number in range(400)]
            story = {corpus.novel: "CHAPTER I\n\n" + "\n\n".join(lines), corpus.bible: "\n".join(lines)}
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(story.get(source.read, "\n ".join(["The Fox", *lines])), encoding="utf-8")
    same = data / corpus.EBOOKS / "jane-austen_emma.txt"
    same.write_text("Emma\n " + "The fox is held out elsewhere. " * 20 + "\n", encoding="utf-8")
    texts = corpus.read(data)
    corpus.write(texts, out)
    train, validation = ((out / f"{name}.txt").read_text() for name in ("train", "validation"))
    assert "elsewhere" not in train + validation
    for text in texts:
        share = text.source.held_out
        for pattern in text.source.files:
            file = data / pattern.replace("*", "x" if text.source.read is corpus.ebook else "emma")
            first, last = (f"The fox {numbers[file]} came {n} times" for n in (5, 395))
            assert train.count(first) == text.source.copies
            assert validation.count(last) == (share > 0)
            assert train.count(last) == (text.source.copies if share == 0 else 0)
    with pytest.raises(FileNotFoundError, match=r"alice\.txt"):
        corpus.read(tmp_path)
