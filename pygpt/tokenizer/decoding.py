"""From ids to text as they come."""

from __future__ import annotations

import codecs
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping


def integers(ids: Iterable[int]) -> list[int]:
    """Token ids from outside. TypeError for what is no integer, ValueError for a negative one."""
    try:
        found = [operator.index(i) for i in ids]
    except TypeError as error:
        raise TypeError(f"ids must be integers: {error}") from None
    if found and min(found) < 0:
        raise ValueError(f"ids must be 0 or more, not {min(found)}")
    return found


class StreamDecoder(ABC):
    """Gives out text as soon as its characters are complete. The pieces together are what `Tokenizer.decode` gives."""

    def push(self, token: int) -> str:
        """The characters that this id completes; often one word, sometimes nothing. Errors as of `decode`."""
        return self._push(integers([token])[0])

    @abstractmethod
    def _push(self, token: int) -> str: ...

    @abstractmethod
    def finish(self) -> str:
        """What is left of a character that was never completed: U+FFFD, or nothing. The decoder starts anew."""


class ByteDecoder(StreamDecoder):
    """For tokens that stand for bytes, whatever stands beside them."""

    def __init__(self, texts: Mapping[int, bytes], strips_space: bool) -> None:
        """With `strips_space`, the text's first character is left out if it is a space."""
        self._texts = texts
        self._strips_space = self._at_start = strips_space
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def _push(self, token: int) -> str:
        data = self._texts.get(token, b"")
        if self._at_start and data:
            data, self._at_start = data.removeprefix(b" "), False
        return self._decoder.decode(data)

    def finish(self) -> str:
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        self._at_start = self._strips_space
        return rest
