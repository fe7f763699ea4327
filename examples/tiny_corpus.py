"""The text and the byte-pair vocabulary of the small model that ships with pygpt.

Chapters become documents that end in `<|endoftext|>`, paragraphs lose their line wraps, quotes become plain ASCII, and
headings, footnotes and emphasis marks go. The tail of each file is held out.
"""

from __future__ import annotations

import re
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

# Files of the data folder, and the share of the training windows drawn from each.
SOURCES = {"austen/*.txt": 0.58, "moby_dick.txt": 0.20, "alice.txt": 0.04, "world_english_bible.txt": 0.18}
END = "<|endoftext|>"
HELD_OUT = 0.05

HEADING = re.compile(r"(chapter|volume|epilogue|etymology|extracts|advertisement)\b", re.IGNORECASE)
PLAIN = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "—": "--", "_": None, "*": None, "\ufeff": None})


def clean(text: str) -> list[str]:
    """The documents (chapters) of a book: paragraphs without line wraps, separated by blank lines."""
    text = re.sub(r"`((?:[^`']|'(?=\w))*)'(?!\w)", r'"\1"', text).replace("`", '"')  # Alice's `single quotes'
    documents: list[list[str]] = [[]]
    for block in re.split(r"\n\s*\n", text):
        footnote = block.lstrip().startswith(("*", "["))
        paragraph = " ".join(block.translate(PLAIN).split())
        if HEADING.match(paragraph) and len(paragraph) < 100:
            documents.append([])
        elif not footnote and re.search(r"[a-z].*[.,:;!?\"')-]$", paragraph):  # titles and signatures end in a letter
            documents[-1].append(paragraph)
    return ["\n\n".join(d) for d in documents if sum(map(len, d)) > 500]


def clean_verses(text: str) -> list[str]:
    """One document, in paragraphs of about 400 characters, from a file with one verse a line."""
    paragraphs, current = [], ""
    for line in text.translate(PLAIN).splitlines():
        if 0 < len(line) < 1500:  # longer ones are front matter
            current += (" " if current else "") + line.strip()
        if len(current) > 400 and current.endswith((".", "!", "?", '"')):
            paragraphs.append(current)
            current = ""
    return ["\n\n".join(paragraphs)]


def read_sources(folder: Path) -> dict[str, tuple[str, str]]:
    """Training and held-out text of each source: the head and the tail of each of its files."""
    texts: dict[str, tuple[str, str]] = {}
    for pattern in SOURCES:
        files = sorted(folder.glob(pattern))
        if not files:
            raise FileNotFoundError(f"{folder / pattern}: no such file")
        train, held_out = "", ""
        for file in files:
            text = file.read_text(encoding="utf-8")
            documents = clean_verses(text) if "bible" in file.name else clean(text)
            joined = "".join(document + END for document in documents)
            cut = joined.rindex("\n\n", 0, int(len(joined) * (1 - HELD_OUT)))
            train, held_out = train + joined[:cut] + END, held_out + joined[cut:].lstrip()
        texts[pattern] = (train, held_out)
    return texts


def train_tokenizer(texts: dict[str, tuple[str, str]], n_vocab: int) -> Tokenizer:
    """A byte-level BPE of GPT-2's kind from the training texts, none used for more than its share in `SOURCES`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=n_vocab - 1, initial_alphabet=alphabet, show_progress=False)
    total = sum(len(train) for train, _ in texts.values())
    parts = (train[: round(SOURCES[name] * total)].replace(END, "\n\n") for name, (train, _) in texts.items())
    tokenizer.train_from_iterator(parts, trainer)
    tokenizer.add_special_tokens([END])  # takes the last id, as in GPT-2
    if tokenizer.get_vocab_size() != n_vocab:
        raise ValueError(f"the data gives a vocabulary of {tokenizer.get_vocab_size()} tokens, {n_vocab} wanted")
    return tokenizer
