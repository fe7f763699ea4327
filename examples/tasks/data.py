"""What the examples of this folder read: data sets as their publishers give them, from one folder.

docs/tasks.md names the files and where they come from. A reader's FileNotFoundError names the one that is missing.
"""

from __future__ import annotations

import csv
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

Rows = list[tuple[str, str]]  # (text, label), or for texts to be written (source, target)


class Classes(NamedTuple):
    """A data set with labels."""

    read: Callable[[Path], tuple[Rows, int]]
    """All rows of a folder, and how many at the end are the publisher's test part; 0: there is none."""
    prompt: str
    """How a text is put to a language model, which answers with the label's words."""
    words: Mapping[str, str]
    """The words of each label; a label that is not there is its own, with spaces for underscores."""

    def asked(self, text: str) -> str:
        """The prompt with a text."""
        return self.prompt.format(text)

    def answer(self, label: str) -> str:
        """What the model would have to say, with the space before it."""
        return " " + self.words.get(label, label.replace("_", " "))


def read_polarity(folder: Path) -> tuple[Rows, int]:
    """Pang and Lee 2005: 10,662 sentences of film reviews."""
    files = {"negative": "sentence_polarity/rt-polarity.neg", "positive": "sentence_polarity/rt-polarity.pos"}
    return _zipped(folder / "nltk_sentence_polarity.zip", files), 0


def read_subjectivity(folder: Path) -> tuple[Rows, int]:
    """Pang and Lee 2004: 5000 sentences of reviews and 5000 of plots."""
    files = {"objective": "subjectivity/plot.tok.gt9.5000", "subjective": "subjectivity/quote.tok.gt9.5000"}
    return _zipped(folder / "nltk_subjectivity.zip", files), 0


def read_sms(folder: Path) -> tuple[Rows, int]:
    """Almeida, Gomez Hidalgo and Yamakami 2011: 5574 messages, of which 747 are spam."""
    lines = (folder / "sms_spam.tsv").read_text(encoding="utf-8").splitlines()
    return [(text, label) for label, _, text in (line.partition("\t") for line in lines) if text.strip()], 0


def read_banking(folder: Path) -> tuple[Rows, int]:
    """Casanueva et al. 2020: 13,083 questions to a bank in 77 classes, 3080 of them for testing."""
    parts = []
    for name in ("banking77_train.csv", "banking77_test.csv"):
        with (folder / name).open(encoding="utf-8", newline="") as file:
            parts.append([(row["text"], row["category"]) for row in csv.DictReader(file)])
    return parts[0] + parts[1], len(parts[1])


def read_vader(folder: Path) -> tuple[Rows, int]:
    """Hutto and Gilbert 2014: 15,392 tweets and sentences of reviews and editorials, each rated by 20 people from -4 to
    4; above 1 is positive, below -1 negative, the rest is left out, and so is what occurs twice. In the source archive
    of vaderSentiment 3.3.2: `pip download --no-deps --no-binary :all: vaderSentiment==3.3.2`."""
    rated: dict[str, float] = {}
    with tarfile.open(folder / "vaderSentiment-3.3.2.tar.gz") as outer:
        name = next(name for name in outer.getnames() if name.endswith("hutto_ICWSM_2014.tar.gz"))
        with tarfile.open(fileobj=io.BytesIO(_bytes(outer, name))) as inner:
            for name in sorted(n for n in inner.getnames() if n.endswith("_GroundTruth.txt")):
                for line in _bytes(inner, name).decode("utf-8").splitlines():
                    _, rating, text = line.split("\t", 2)
                    if text.strip():
                        rated.setdefault(text.strip(), float(rating))
    labels = ("negative", "positive")
    return [(text, labels[rating > 0]) for text, rating in rated.items() if abs(rating) > 1], 0


CLASSES: dict[str, Classes] = {
    "polarity": Classes(
        read_polarity,
        "Movie review: {}\nThe reviewer thought the film was",
        {"negative": "bad", "positive": "good"},
    ),
    "vader": Classes(read_vader, "Text: {}\nThe feeling in this text is", {}),
    "subjectivity": Classes(
        read_subjectivity, "Sentence: {}\nThis sentence is from a", {"objective": "plot", "subjective": "review"}
    ),
    "sms": Classes(read_sms, "Text message: {}\nIs this message spam?", {"ham": "No", "spam": "Yes"}),
    "banking77": Classes(read_banking, "Question: {}\nThis question is about", {}),
}


class Question(NamedTuple):
    """One of SQuAD's form."""

    context: str
    question: str
    answers: tuple[str, ...]


def read_questions(folder: Path) -> list[Question]:
    """XQuAD in English (Artetxe et al. 2020): 1190 questions on 240 paragraphs of SQuAD."""
    table = json.loads((folder / "xquad.en.json").read_text(encoding="utf-8"))
    return [
        Question(paragraph["context"], asked["question"], tuple(answer["text"] for answer in asked["answers"]))
        for article in table["data"]
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
    ]


def read_summaries(folder: Path, part: str) -> list[tuple[str, list[str]]]:
    """SciTLDR (Cachola et al. 2020), from abstracts: each with one or more summaries of a sentence; part: "train",
    "dev" or "test"."""
    lines = (folder / f"scitldr_a_{part}.jsonl").read_text(encoding="utf-8").splitlines()
    papers = [json.loads(line) for line in lines]
    return [(" ".join(" ".join(paper["source"]).split()), [t.strip() for t in paper["target"]]) for paper in papers]


def read_pairs(folder: Path, language: str) -> Rows:
    """1000 sentences of Tatoeba and their English translations (Artetxe and Schwenk 2019); language: "deu", "fra"."""
    sides = [
        (folder / f"tatoeba.{language}-eng.{side}").read_text(encoding="utf-8").splitlines()
        for side in (language, "eng")
    ]
    return list(zip(*sides, strict=True))


def shuffled(n: int, seed: int) -> list[int]:
    """The numbers below n in an order of chance."""
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return order


def folds_of(labels: Sequence[str], n_folds: int, seed: int) -> list[int]:
    """The fold of each example; every label is spread evenly over all of them."""
    folds = [0] * len(labels)
    seen: dict[str, int] = {}
    for i in shuffled(len(labels), seed):
        folds[i] = seen.get(labels[i], 0) % n_folds
        seen[labels[i]] = folds[i] + 1
    return folds


def _zipped(archive: Path, files: Mapping[str, str]) -> Rows:
    """A line an example, from a file a label."""
    with zipfile.ZipFile(archive) as opened:
        return [
            (line.strip(), label)
            for label, name in files.items()
            for line in opened.read(name).decode("latin-1").splitlines()
            if line.strip()
        ]


def _bytes(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()
