"""The text that the model inside pygpt learns from: clean English prose, and a held-out part of every source.

    python examples/tiny_corpus.py DATA OUT

DATA is a folder of public-domain texts. Writes OUT/train.txt and OUT/validation.txt: documents (a chapter, or all of a
book without chapters) that end in `<|endoftext|>`, one paragraph a line, blank lines between. The last 5% of each
file is held out, from a paragraph's start on, once; none of it is in train.txt.

The model is to tell stories, so the novels are repeated: two copies against one of the Bible, whose narrative has
short, plain sentences but whose laws and names would take over otherwise. Left out: the plays and Paradise Lost, which
are verse and teach the model to break lines and to name speakers; and the State of the Union addresses, twice as long
as all the novels, whose officials and sums of money would turn up in the middle of a story (with them in its training
text an n-gram model predicts each of the held-out parts worse). From what is kept go headings, title pages, footnotes,
poems, stage directions, lists of names, and marks of emphasis.
"""

from __future__ import annotations

import argparse
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

END = "<|endoftext|>"
HELD_OUT = 0.05  # of the characters of each file
SHORTEST = 500  # characters of a document
PARAGRAPH = 400  # characters, where the text comes a verse a line

ASCII = str.maketrans(
    {"“": '"', "”": '"', "‘": "'", "’": "'", "—": "--", "–": "-", "_": None, "*": None, "[": None, "]": None}
)
HEADING = re.compile(r"(chapter|volume|epilogue|etymology|extracts|advertisement)\b", re.IGNORECASE)
END_OF_BOOK = re.compile(r"\n(FINIS|Finis|THE END|A NOTE ON THE TEXT)\n")
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
        elif not _is_apparatus(block) and re.search(r"[a-z].*[.,:;!?\"')-]$", paragraph):  # titles end in a letter
            chapters[-1].append(_without_shouting(paragraph))
    return chapters


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


class Source(NamedTuple):
    """Files of the data folder, how often their training text is repeated, and how they are read."""

    files: str
    copies: int
    read: Callable[[str], list[list[str]]]
    title: str


SOURCES = (
    Source("alice.txt", 2, novel, "Lewis Carroll: Alice's Adventures in Wonderland"),
    Source("austen/*.txt", 2, novel, "Jane Austen: six novels"),
    Source("moby_dick.txt", 2, novel, "Herman Melville: Moby-Dick"),
    Source("world_english_bible.txt", 1, bible, "World English Bible"),
)


class Text(NamedTuple):
    """What one source gives."""

    source: Source
    train: str  # one copy
    held_out: str


def split(documents: list[list[str]]) -> tuple[str, str]:
    """The text of a file up to a paragraph's end, and the last 5% after it; each document ends in `END`."""
    plain = [[unicodedata.normalize("NFKD", p).encode("ascii", "ignore").decode() for p in d] for d in documents]
    kept = [d for d in plain if sum(map(len, d)) > SHORTEST]
    total, seen = sum(len(p) for d in kept for p in d), 0
    parts: tuple[list[str], list[str]] = ([], [])
    for document in kept:
        halves: tuple[list[str], list[str]] = ([], [])
        for paragraph in document:
            halves[seen >= total * (1 - HELD_OUT)].append(paragraph)
            seen += len(paragraph)
        for half, texts in zip(halves, parts, strict=True):
            if half:
                texts.append("\n\n".join(half) + END)
    return "".join(parts[0]), "".join(parts[1])


def read(data: Path) -> list[Text]:
    """The texts of all sources. FileNotFoundError where one is missing."""
    texts = []
    for source in SOURCES:
        files = sorted(data.glob(source.files))
        if not files:
            raise FileNotFoundError(f"{data / source.files}: no such file")
        pairs = [split(source.read(file.read_text(encoding="utf-8"))) for file in files]
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
        "data", type=Path, help="folder with alice.txt, austen/, moby_dick.txt, world_english_bible.txt"
    )
    parser.add_argument("out", type=Path, help="folder to write to")
    options = parser.parse_args()
    texts = read(options.data)
    write(texts, options.out)
    for text in texts:
        sizes = f"{text.source.copies} x {len(text.train):9,} bytes, held out {len(text.held_out):9,}"
        print(f"{text.source.files:26} {sizes}")


if __name__ == "__main__":
    main()
