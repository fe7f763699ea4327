"""Prompts from outside: text or token ids, one or several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pygpt.errors import ContextOverflowError

if TYPE_CHECKING:
    from pygpt.config import ModelConfig

Prompt: TypeAlias = str | Sequence[int] | NDArray[np.integer]
"""Text, or a flat sequence of token ids."""


def is_several(prompts: object) -> bool:
    """Whether this is a list or tuple of prompts: of texts or of sequences. A flat one of token ids is one prompt."""
    if not isinstance(prompts, (list, tuple)) or not prompts:
        return False
    first = prompts[0]
    return isinstance(first, (str, list, tuple)) or (isinstance(first, np.ndarray) and first.ndim > 0)


def as_ids(ids: object, n_vocab: int, argument: str, *, or_text: bool = False) -> NDArray[np.int32]:
    """Token ids from outside as a contiguous (T,) array, T >= 1. `or_text`: a text would have been allowed too.

    TypeError unless it is a flat sequence of integers; ValueError if it is empty or an id is outside the vocabulary.
    """
    try:
        array = np.asarray(ids)
    except ValueError:  # rows of different lengths
        array = np.empty((0, 0))
    if array.shape == (0,):
        raise ValueError(f"{argument} must not be empty")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        allowed = f"{'text or ' if or_text else ''}a flat sequence of integer token ids"
        raise TypeError(f"{argument} must be {allowed}, not {ids!r:.80}")
    outside = np.flatnonzero((array < 0) | (array >= n_vocab))
    if len(outside):
        at = outside[0]
        raise ValueError(f"token id {array[at]} at position {at} of {argument} is outside the vocabulary of {n_vocab}")
    return np.ascontiguousarray(array, np.int32)


def read_prompt(
    prompt: object, encode: Callable[[str], list[int]], n_vocab: int, name: str = "the prompt"
) -> NDArray[np.int32]:
    """A prompt's tokens (T,), T >= 1. `name` is what errors call it."""
    if isinstance(prompt, str):
        ids = encode(prompt)
        if not prompt:  # even where the tokenizer begins every text with a token of its own
            raise ValueError(f"{name} must not be empty")
        return as_ids(ids, n_vocab, name)
    return as_ids(prompt, n_vocab, name, or_text=True)


def read_prompts(prompts: object, encode: Callable[[str], list[int]], n_vocab: int) -> dict[str, NDArray[np.int32]]:
    """The tokens of one prompt or of each of several, in their order, by the name that errors give it."""
    if isinstance(prompts, (list, tuple)) and is_several(prompts):
        names = [f"prompt {i}" for i in range(len(prompts))]
        return {name: read_prompt(p, encode, n_vocab, name) for name, p in zip(names, prompts, strict=True)}
    return {"the prompt": read_prompt(prompts, encode, n_vocab)}


def check_fits(tokens: NDArray[np.int32], config: ModelConfig, name: str = "the prompt") -> None:
    """ContextOverflowError unless the context holds these tokens."""
    if len(tokens) > config.n_ctx:
        raise overflow(f"{name}'s {len(tokens)} tokens do not fit the context of {config.n_ctx} tokens", config)


def overflow(text: str, config: ModelConfig) -> ContextOverflowError:
    """The error, with how to load the model for a longer context where it has one."""
    longer = f" (n_ctx= or --n-ctx gives this model up to {config.max_n_ctx})"
    return ContextOverflowError(text + (longer if config.max_n_ctx > config.n_ctx else ""))
