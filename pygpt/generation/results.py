"""What a generation gives back: the pieces of a stream, the completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The natural log-probability of one generated token under the model itself: before the repetition penalty,
    temperature and filters."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """The likeliest tokens at this place and their log-probabilities, likeliest first (equal ones: lowest id first)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one step adds to one sequence of a stream."""

    text: str
    """Whole characters only. Empty while a character is incomplete or the text could still become a stop string."""
    token: int | None
    """The token of this step; None only where the stream was cancelled before there was one."""
    index: int
    """Which of the n sequences this belongs to."""
    finish_reason: FinishReason | None
    """None, except in the last piece of a sequence."""
    logprob: TokenLogprob | None


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished generation."""

    text: str
    """The new text, without the prompt, the stop string and the end-of-text token."""
    tokens: tuple[int, ...]
    """Every new token in order, with those of a stop string and the end-of-text token."""
    finish_reason: FinishReason
    """"stop": a stop string or an end-of-text token; "length": max_tokens, or the context is full; "cancelled"."""
    logprobs: tuple[TokenLogprob, ...] | None
    """One for each of `tokens`, if asked for."""
    seed: int
    """The seed that was used, also where none was given."""
