"""Byte-level BPE: GPT-2's, and that of nearly every GPT since.

Such files spell each byte of a token with one printable character (Radford et al. 2019, `bytes_to_unicode`).
"""

from __future__ import annotations

from dataclasses import dataclass

from pygpt.tokenizer.vocabulary import Vocabulary


def _byte_letters() -> list[str]:
    """The character that spells each byte: itself where it is printable in Latin-1, else the next one from 256 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b if b in printable else next(others)) for b in range(256)]


BYTE_LETTERS = _byte_letters()


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteLevel(Vocabulary):
    """A byte-level BPE vocabulary; its tokens are spelled in byte letters. `prefix_space` puts none before a space."""

    merges: str  # "left right" lines, the first merged first
    splits: tuple[str, ...]  # each cuts the pieces of the one before: what it matches and what lies between
    fuse_unk: bool = False  # one unknown token for several bytes in a row that the vocabulary lacks
    normal_forms: tuple[str, ...] = ()  # Unicode's, applied to the text in this order: "NFC", ...
    whole_words: bool = False  # a piece that is a token is never split, even where no merge gives it


def merge_text(v: ByteLevel) -> str:
    """The lines of the merges, without merges.txt's version line."""
    text = v.merges.replace("\r", "").rstrip("\n")
    return text.partition("\n")[2] if text.startswith("#version") else text


def merge_lines(v: ByteLevel) -> list[str]:
    """The merges one by one."""
    text = merge_text(v)
    return text.split("\n") if text else []
