"""The text that the model inside pygpt learns from: clean English prose, stories first, and held-out text.

    python examples/tiny_corpus.py DATA OUT

DATA is a folder of public-domain texts. Writes OUT/train.txt and OUT/validation.txt: documents (a chapter, a story, or
all of a book without chapters) that end in `<|endoftext|>`, one paragraph a line, blank lines between.

Held out are whole books of the ebooks (`BOOKS_HELD_OUT`), of which the training text has nothing, and, as since the
first version of this model, the last 5% of each older file, from a paragraph's start on; the ebooks of the same works
are left out (`LEFT_OUT`), for they hold these parts too.

The model is to tell stories, so those for children are repeated: two copies against one of the other books and of the
Bible, whose narrative has short, plain sentences but whose laws and names would take over otherwise. Left out: the
plays and Paradise Lost, which are verse and teach the model to break lines and to name speakers; the State of the Union
addresses, whose officials and sums of money would turn up in the middle of a story; and each chapter or story with a
word that no model should learn to use of people (`OFFENSIVE`). From what is kept go headings, title pages, footnotes,
poems, stage directions, lists of names, and marks of emphasis.
"""

from __future__ import annotations

import argparse
import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

END = "<|endoftext|>"
HELD_OUT = 0.05  # of the characters of each file
SHORTEST = 500  # characters of a document
PARAGRAPH = 400  # characters, where the text comes a verse a line

ASCII = str.maketrans(
    {"“": '"', "”": '"', "‘": "'", "’": "'", "—": "--", "–": "-", "_": None, "*": None, "[": None, "]": None}
    | {"⸺": "--", "⸻": "--", "‑": "-", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe"}
)
HEADING = re.compile(r"(chapter|volume|epilogue|etymology|extracts|advertisement)\b", re.IGNORECASE)
END_OF_BOOK = re.compile(r"\n(FINIS|Finis|THE END|A NOTE ON THE TEXT)\n")
PROSE = re.compile(r"[a-z].*[.,:;!?\"')-]$")  # titles end in a letter
VERSE_LINES, VERSE_WIDTH = 4, 60  # at least so many lines of at most so many characters, in ebooks
OFFENSIVE = re.compile(r"\b(nigger|negro|negress|dark(?:y|ies)\b|dagoe?s?\b|squaw)", re.IGNORECASE)
SHOUTED = re.compile(r"\b(?![IVXLC]+\b)[A-Z]{2,}(?:'[A-Z]+)?\b|(?<=\bI')[A-Z]+\b|(?<=[A-Z] )A(?= [A-Z]{2})")


def novel(text: str) -> list[list[str]]:
    """The chapters of a novel, as lists of paragraphs."""
    text = END_OF_BOOK.split(text + "\n")[0]
    single = r"`((?:[^`']|'(?=\w))*)'(?!\w)"  # Alice's `single quotes'
    text = re.sub(single, lambda m: '"' + m[1].replace('"', "'") + '"', text).replace("`", '"')
    text = re.sub(r"(?<=[A-Za-z])-\n\s*(?=[a-zA-Z])|--\n\s*", lambda m: m[0].rstrip(), text)  # cut at a line's end
    chapters: list[list[str]] = [[]]
    for block in re.split(r"\n\s*\n", text):
        paragraph = " ".join(block.translate(ASCII).split())
        if HEADING.match(paragraph) and len(paragraph) < 100:
            chapters.append([])
        elif not _is_apparatus(block) and PROSE.search(paragraph):
            chapters[-1].append(_without_shouting(paragraph))
    return chapters


def ebook(text: str) -> list[list[str]]:
    """The chapters or stories of an ebook: a title without indentation, paragraphs of one indented line each."""
    chapters = []
    for section in text.split("\n\n"):
        lines = [" ".join(line.translate(ASCII).split()) for line in section.splitlines() if line.startswith(" ")]
        if not OFFENSIVE.search(section):
            chapters.append([_without_shouting(line) for line in _without_verse(lines) if PROSE.search(line)])
    return chapters


def _without_verse(lines: list[str]) -> Iterator[str]:
    """The lines but for runs of short ones that nobody says and most of which end no sentence."""
    for short, group in itertools.groupby(lines, lambda line: len(line) <= VERSE_WIDTH and not line.startswith('"')):
        run = list(group)
        ends = sum(line.endswith((".", "!", "?", '"', "'", "-")) for line in run)
        if not short or len(run) < VERSE_LINES or 2 * ends > len(run):
            yield from run


def _is_apparatus(block: str) -> bool:
    """Whether a block of lines is a footnote or stage direction, a poem (all lines indented), or a speaker's part."""
    lines = block.strip("\n").splitlines()
    verse = len(lines) > 1 and all(line.startswith("    ") for line in lines)
    return verse or bool(re.match(r"\s*([*\[(]|BOOK [IV]+\.|[A-Z0-9' -]{3,}\.)", block))


def _without_shouting(paragraph: str) -> str:
    """WORDS in capitals, which stand for italics, as ordinary ones."""

    def quiet(match: re.Match[str]) -> str:
        first = re.search(r"(^|[.!?])[\"' ]*$", paragraph[: match.start()])
        return match[0].capitalize() if first else match[0].lower()

    return SHOUTED.sub(quiet, paragraph)


def bible(text: str) -> list[list[str]]:
    """One document, from a file with a verse a line: verses joined to paragraphs that end with a sentence."""
    paragraphs = [""]
    for line in text.translate(ASCII).splitlines():
        if 0 < len(line) < 1500 and "Deuterocanonical" not in line:  # longer ones are introductions and a glossary
            paragraphs[-1] += (" " if paragraphs[-1] else "") + line.strip()
        if len(paragraphs[-1]) > PARAGRAPH and paragraphs[-1].endswith((".", "!", "?", '"')):
            paragraphs.append("")
    return [[p for p in paragraphs if p and not _is_list_of_names(p)]]


def _is_list_of_names(paragraph: str) -> bool:
    words = re.findall(r"[A-Za-z]+", paragraph)
    return len([word for word in words if word[0].isupper()]) >= 0.3 * len(words)


EBOOKS = "standard-ebooks/"
CHILDREN = (
    *("a-a-milne_*", "aesop_*", "anna-sewell_*", "beatrix-potter_*", "e-nesbit_five-*", "eleanor-h-porter_*"),
    *("frances-hodgson-burnett_*", "george-macdonald_*", "hugh-lofting_*", "j-m-barrie_*", "jack-london_*"),
    *("jacob-grimm_*", "kenneth-grahame_*", "l-frank-baum_the-wonderful-*", "l-m-montgomery_*"),
    *("lewis-carroll_through-*", "louisa-may-alcott_*", "mark-twain_the-adventures-of-tom-*"),
    *("rudyard-kipling_just-*",),
)
BOOKS_HELD_OUT = (
    *("e-nesbit_the-railway-*", "l-frank-baum_the-marvelous-*", "robert-louis-stevenson_*"),
    *("rudyard-kipling_the-jungle-*",),
)
LEFT_OUT = ("herman-melville_*", "jane-austen_*", "lewis-carroll_alices-*")
SHORT = ("anton-chekhov_*", "arthur-conan-doyle_*", "g-k-chesterton_*", "*_short-fiction.txt")


class Source(NamedTuple):
    """Files of the data folder, how often their training text is repeated, and how they are read."""

    files: tuple[str, ...]
    copies: int
    read: Callable[[str], list[list[str]]]
    title: str
    held_out: float = HELD_OUT  # of the characters of each file


SOURCES = (
    Source(("alice.txt",), 2, novel, "Lewis Carroll: Alice's Adventures in Wonderland"),
    Source(("austen/*.txt",), 1, novel, "Jane Austen: six novels"),
    Source(("moby_dick.txt",), 1, novel, "Herman Melville: Moby-Dick"),
    Source(("world_english_bible.txt",), 1, bible, "World English Bible"),
    Source(tuple(EBOOKS + name for name in CHILDREN), 2, ebook, "Standard Ebooks: for children", 0.0),
    Source(tuple(EBOOKS + name for name in SHORT), 1, ebook, "Standard Ebooks: short fiction", 0.0),
    Source((EBOOKS + "*.txt",), 1, ebook, "Standard Ebooks: other novels", 0.0),
    Source(tuple(EBOOKS + name for name in BOOKS_HELD_OUT), 0, ebook, "Standard Ebooks: four books", 1.0),
)


class Text(NamedTuple):
    """What one source gives."""

    source: Source
    train: str  # one copy
    held_out: str


def split(documents: list[list[str]], share: float = HELD_OUT) -> tuple[str, str]:
    """The text of a file up to a paragraph's end, and the last share after it; each document ends in `END`."""
    plain = [[unicodedata.normalize("NFKD", p).encode("ascii", "ignore").decode() for p in d] for d in documents]
    kept = [d for d in plain if sum(map(len, d)) > SHORTEST]
    total, seen = sum(len(p) for d in kept for p in d), 0
    parts: tuple[list[str], list[str]] = ([], [])
    for document in kept:
        halves: tuple[list[str], list[str]] = ([], [])
        for paragraph in document:
            halves[seen >= total * (1 - share)].append(paragraph)
            seen += len(paragraph)
        for half, texts in zip(halves, parts, strict=True):
            if half:
                texts.append("\n\n".join(half) + END)
    return "".join(parts[0]), "".join(parts[1])


def read(data: Path) -> list[Text]:
    """The texts of all sources; a file counts for the first that names it. FileNotFoundError where one is missing."""
    texts = []
    taken = {file for name in (*LEFT_OUT, *BOOKS_HELD_OUT) for file in data.glob(EBOOKS + name)}
    for source in SOURCES:
        if source.copies == 0:
            taken = set()
        files: list[Path] = []
        for name in source.files:
            found = sorted(data.glob(name))
            if not found:
                raise FileNotFoundError(f"{data / name}: no such file")
            files += [file for file in found if file not in taken]
            taken |= set(found)
        pairs = [split(source.read(file.read_text(encoding="utf-8")), source.held_out) for file in files]
        texts.append(Text(source, "".join(first for first, _ in pairs), "".join(second for _, second in pairs)))
    return texts


def write(texts: list[Text], out: Path) -> None:
    """Write train.txt and validation.txt into a folder."""
    out.mkdir(parents=True, exist_ok=True)
    train = "".join(text.train * text.source.copies for text in texts)
    for name, text in (("train.txt", train), ("validation.txt", "".join(text.held_out for text in texts))):
        (out / name).write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "data",
        type=Path,
        help=f"folder with alice.txt, austen/, moby_dick.txt, world_english_bible.txt, {EBOOKS}",
    )
    parser.add_argument("out", type=Path, help="folder to write to")
    options = parser.parse_args()
    texts = read(options.data)
    write(texts, options.out)
    for text in texts:
        sizes = f"{text.source.copies} x {len(text.train):9,} bytes, held out {len(text.held_out):9,}"
        print(f"{text.source.title:48} {sizes}")


if __name__ == "__main__":
    main()
