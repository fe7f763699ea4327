"""SentencePiece's vocabulary as GGUF, tokenizer.model and llama2.c's files have it: pieces with types and scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import TokenizerError
from pygpt.tokenizer.character_level import BYTE_TOKENS, SPACE
from pygpt.tokenizer.vocabulary import AddedToken

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Types of pieces."""


def by_type(
    texts: Sequence[str], types: NDArray[np.int64], source: str, *, prefix_space: bool
) -> tuple[dict[str, int], tuple[AddedToken, ...]]:
    """The tokens that merging may give or that stand for bytes, and those that are found in a text before."""
    kept = np.flatnonzero((types == CONTROL) | (types == UNKNOWN) | (types == USER_DEFINED))
    added = []
    for i in kept.tolist():
        text, special = texts[i], bool(types[i] != USER_DEFINED)
        # SentencePiece finds the symbols that a user defined after it has spelled the spaces.
        normalized = not special and not prefix_space and (" " in text or SPACE in text)
        added.append(AddedToken(text=text, id=i, special=special, normalized=normalized))
    if len({t.text for t in added}) < len(added):
        raise TokenizerError(f"{source}: two of its added tokens have the same text")
    return {texts[i]: i for i in np.flatnonzero((types == NORMAL) | (types == BYTE)).tolist()}, tuple(added)


def by_score(tokens: Mapping[str, int], scores: NDArray[np.float32]) -> list[str]:
    """The tokens of several characters, those of the greatest score first; `scores` by id."""
    several = [t for t in tokens if len(t) > 1 and t not in _BYTE_TOKENS]
    order = np.argsort(-scores[[tokens[t] for t in several]], kind="stable")
    return [several[i] for i in order.tolist()]


_BYTE_TOKENS = frozenset(BYTE_TOKENS)
