"""BPE over characters, as SentencePiece makes it (Kudo & Richardson 2018, arXiv:1808.06226): Llama 1 and 2, Gemma.

A space is spelled ▁ in its tokens, and a character that the vocabulary lacks becomes tokens for its bytes, <0x00> to
<0xFF>. Of the neighbours that together are a token, those of the greatest score are merged first; of equal ones, the
leftmost.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pygpt.tokenizer.vocabulary import Vocabulary

SPACE = "\u2581"
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]


@dataclass(frozen=True, slots=True, kw_only=True)
class CharacterLevel(Vocabulary):
    """A BPE vocabulary over characters; its tokens are spelled as text, but for the space and the bytes."""

    merged: Sequence[str]  # the tokens that merging may give, the first merged first
    byte_fallback: bool = True  # what the vocabulary lacks becomes bytes, if it has tokens for all of them
    fuse_unk: bool = True  # one unknown token for several unknown characters in a row


def splits(merged: Sequence[str], tokens: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """The merges of Hugging Face's library that are these tokens' order: all ways to make each of two tokens."""
    for token in merged:
        for n in range(1, len(token)):
            if token[:n] in tokens and token[n:] in tokens:
                yield token[:n], token[n:]
