"""How a token is written where a person reads it: spaces and line ends to be seen, bytes that are no text by
themselves, and nothing that hides or turns what stands beside it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

from pygpt.tokenizer import Tokenizer

# Controls but for line ends, marks that join or turn the direction of writing, and what is not a character by itself.
_UNSEEN = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(text: str) -> str:
    """A text with what is not seen written as its number; line ends stay."""
    return _UNSEEN.sub(lambda found: f"⟨{ord(found[0]):04X}⟩", text)


def line(text: str) -> str:
    """A text in one line, spaces and line ends to be seen."""
    return visible(text).replace(" ", "␣").replace("\n", "↵") or "∅"


def text_of(tokenizer: Tokenizer | None, token: int) -> tuple[str, bool]:
    """A token's text, and whether it is text: one that is a part of a character is written as Python writes bytes, one
    of no tokenizer as its number."""
    if tokenizer is None:
        return f"#{token}", True
    data = tokenizer.token_bytes(token)
    try:
        return data.decode(), True
    except UnicodeDecodeError:
        return data.decode("utf-8", "backslashreplace"), False


def completed(tokenizer: Tokenizer | None, ids: Sequence[int]) -> dict[int, str]:
    """Of tokens that end a character which others began: the text that each completes, by the token's place."""
    found: dict[int, str] = {}
    if tokenizer is None:
        return found
    decoder, is_open = codecs.getincrementaldecoder("utf-8")("replace"), False
    for place, token in enumerate(ids):
        text = decoder.decode(tokenizer.token_bytes(token))
        if is_open and text:
            found[place] = text
        is_open = bool(decoder.getstate()[0])
    return found


def names(tokenizer: Tokenizer | None, ids: Sequence[int]) -> list[str]:
    """The tokens of a text in one line each, as axes name them: characters where they end."""
    whole = completed(tokenizer, ids)
    return [line(whole[i] if i in whole else text_of(tokenizer, token)[0]) for i, token in enumerate(ids)]
