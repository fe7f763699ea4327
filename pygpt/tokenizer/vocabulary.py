"""What one checkpoint says about its tokens, whichever files said it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pygpt.errors import TokenizerError

END_OF_TEXT = "<|endoftext|>"


class InexpressibleError(TokenizerError):
    """What a file says is not what tiktoken does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedToken:
    """A token that is found in the text before anything is cut up or merged."""

    text: str
    id: int
    special: bool = True  # plain text unless the caller allows special tokens; others count always
    normalized: bool = False  # looked for after the text is normalised, itself normalised
    single_word: bool = False  # counts only where no word character stands beside it
    lstrip: bool = False  # takes the whitespace before it
    rstrip: bool = False  # and after it


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What every kind of vocabulary has besides its tokens. An added token may be one of these too."""

    source: str  # the file, for messages
    added: tuple[AddedToken, ...] = ()
    prefix: tuple[int, ...] = ()  # begin every text
    suffix: tuple[int, ...] = ()  # end it
    bos_id: int | None = None
    eos_id: int | None = None
    unk_id: int | None = None  # stands for what the vocabulary lacks
    prefix_space: bool = False  # a space is put before a text, and before what follows an added token

    @property
    def special(self) -> dict[str, int]:
        """The ids of the special added tokens by their text."""
        return {t.text: t.id for t in self.added if t.special}


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary(Rules):
    """What every kind of vocabulary has. Ids may have gaps and any order."""

    tokens: Mapping[str, int]  # as the files spell them -> id

    def __post_init__(self) -> None:
        ids = [*self.tokens.values(), *(t.id for t in self.added)]
        if not set(map(type, ids)) <= {int} or (ids and not 0 <= min(ids) <= max(ids) < 2**31):
            raise TokenizerError(f"{self.source}: token ids must be integers from 0 to 2**31 - 1")
        if not self.tokens or any(not t.text for t in self.added):
            raise TokenizerError(f"{self.source}: no tokens, or one without text")
        texts = dict(self.tokens)
        for token in self.added:
            if texts.setdefault(token.text, token.id) != token.id:
                raise TokenizerError(
                    f"{self.source}: the token {token.text[:80]!r} has two ids, {texts[token.text]} and {token.id}"
                )
        if len(set(texts.values())) != len(texts):
            raise TokenizerError(f"{self.source}: two tokens have the same id")
        for i in (*self.prefix, *self.suffix):
            if i not in set(texts.values()):
                raise TokenizerError(f"{self.source}: every text gets the id {i}, which no token has")
