"""Byte-level BPE: GPT-2's, and that of nearly every GPT since.

Such files spell each byte of a token with one printable character (Radford et al. 2019, `bytes_to_unicode`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pygpt.errors import TokenizerError
from pygpt.tokenizer.vocabulary import Vocabulary


def _byte_letters() -> list[str]:
    """The character that spells each byte: itself where it is printable in Latin-1, else the next one from 256 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b if b in printable else next(others)) for b in range(256)]


BYTE_LETTERS = _byte_letters()
_BYTE_OF = np.full(0x110000, -1, np.int16)  # by code point
_BYTE_OF[[ord(letter) for letter in BYTE_LETTERS]] = range(256)


def spelled(tokens: Iterable[str]) -> dict[str, bytes]:
    """The bytes of each token that is spelled in byte letters. All at once: a loop over 50,000 tokens' characters would
    take a tenth of a second."""
    tokens = list(tokens)
    values = _BYTE_OF[np.frombuffer("".join(tokens).encode("utf-32-le", "surrogatepass"), np.uint32)]
    joined = values.astype(np.uint8).tobytes()
    ends = np.cumsum([len(token) for token in tokens])
    odd = {*np.searchsorted(ends, np.flatnonzero(values < 0), side="right").tolist()}
    parts = enumerate(zip(tokens, [0, *ends.tolist()], ends.tolist(), strict=False))
    return {token: joined[a:b] for i, (token, a, b) in parts if i not in odd}


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteLevel(Vocabulary):
    """A byte-level BPE vocabulary; its tokens are spelled in byte letters. `prefix_space` puts none before a space."""

    merges: str  # "left right" lines, the first merged first
    splits: tuple[str, ...]  # each cuts the pieces of the one before: what it matches and what lies between
    fuse_unk: bool = False  # one unknown token for several bytes in a row that the vocabulary lacks
    normal_forms: tuple[str, ...] = ()  # Unicode's, applied to the text in this order: "NFC", ...
    whole_words: bool = False  # a piece that is a token is never split, even where no merge gives it


def _merge_text(v: ByteLevel) -> str:
    text = v.merges.replace("\r", "").rstrip("\n")
    return text.partition("\n")[2] if text.startswith("#version") else text


def merge_lines(v: ByteLevel) -> list[str]:
    """The merges one by one, without merges.txt's version line."""
    text = _merge_text(v)
    return text.split("\n") if text else []


def merge_pairs(v: ByteLevel) -> tuple[list[str], list[str]]:
    """The left and the right tokens of the merges, the first merge first. TokenizerError for a line that is none."""
    text = _merge_text(v)
    units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), "<u2")
    separators = units[(units == ord(" ")) | (units == ord("\n"))]
    if (
        np.any(separators[0::2] != ord(" "))
        or np.any(separators[1::2] != ord("\n"))
        or len(separators) % 2 != bool(text)
    ):
        lines = enumerate(text.split("\n"), start=1)
        number, line = next((n, line) for n, line in lines if line.count(" ") != 1)
        raise TokenizerError(f"{v.source}: merge {number} is {line[:80]!r}, but must be two tokens and a space")
    words = text.replace("\n", " ").split(" ") if text else []
    return words[0::2], words[1::2]
