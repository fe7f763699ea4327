"""What a generation gives back: the pieces of a stream, the completion."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from pygpt.fields import doc, documented
from pygpt.generation.params import SamplingParams

Progress: TypeAlias = Callable[[int, int], object]
FinishReason = Literal["stop", "length", "cancelled"]


@documented
@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The natural log-probability of one generated token under the model itself: before the repetition penalty,
    temperature and filters."""

    token: int = field(metadata=doc("Its id."))
    logprob: float = field(metadata=doc("In nats, at most 0."))
    top: tuple[tuple[int, float], ...] = field(
        metadata=doc("The likeliest tokens at this place and their log-probabilities; of equals the lowest id first.")
    )


@documented
@dataclass(frozen=True, slots=True)
class Piece:
    """What one step adds to one sequence of a stream."""

    text: str = field(
        metadata=doc(
            "Whole characters only; empty while one is incomplete or the text could still become a stop string."
        )
    )
    token: int | None = field(
        metadata=doc("The token of this step.", none="the stream was cancelled before there was one")
    )
    index: int = field(metadata=doc("Which sequence this belongs to: the k-th of n of prompt p is number p * n + k."))
    finish_reason: FinishReason | None = field(
        metadata=doc("As a completion's, in the last piece of a sequence.", none="there are more pieces to come")
    )
    logprob: TokenLogprob | None = field(metadata=doc("Of `token`, if asked for.", none="not asked for"))


@documented
@dataclass(frozen=True, slots=True)
class Completion:
    """One finished generation."""

    text: str = field(metadata=doc("The new text, without the prompt, the stop string and the end-of-text token."))
    tokens: tuple[int, ...] = field(
        metadata=doc("Every new token in order, with those of a stop string and the end-of-text token.")
    )
    finish_reason: FinishReason = field(
        metadata=doc(
            '"stop": a stop string or an end-of-text token; "length": max_tokens, or the context is full; "cancelled".'
        )
    )
    logprobs: tuple[TokenLogprob, ...] | None = field(
        metadata=doc("One for each of `tokens`, if asked for.", none="not asked for")
    )
    seed: int = field(
        metadata=doc("The seed that was used, also where none was given; 0 if none was, and temperature is 0.")
    )


def collect(
    pieces: Iterable[Piece], params: SamplingParams, seeds: Sequence[int], progress: Progress | None = None
) -> list[Completion]:
    """Run a stream to its end: the completions of its sequences in their order, n for each prompt's seed. `progress` is
    called with (how many are finished, of how many) as they finish."""
    n, n_finished = params.n * len(seeds), 0
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be a function of two integers or None, not {type(progress).__name__}")
    texts: list[list[str]] = [[] for _ in range(n)]
    tokens: list[list[int]] = [[] for _ in range(n)]
    logprobs: list[list[TokenLogprob]] = [[] for _ in range(n)]
    reasons: list[FinishReason] = ["cancelled"] * n
    for piece in pieces:
        texts[piece.index].append(piece.text)
        if piece.token is not None:
            tokens[piece.index].append(piece.token)
        if piece.logprob is not None:
            logprobs[piece.index].append(piece.logprob)
        if piece.finish_reason is not None:
            reasons[piece.index] = piece.finish_reason
            n_finished += 1
            if progress is not None:
                progress(n_finished, n)
    return [
        Completion(
            "".join(texts[i]),
            tuple(tokens[i]),
            reasons[i],
            None if params.logprobs is None else tuple(logprobs[i]),
            seeds[i // params.n],
        )
        for i in range(n)
    ]


def one_or_all(completions: list[Completion], is_several: bool = False) -> Completion | list[Completion]:
    """The one that there is, or all; all where several prompts were given, be it a list of one."""
    return completions[0] if len(completions) == 1 and not is_several else completions
