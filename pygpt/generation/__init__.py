"""Text from a model: the options, the loop over a batch of sequences, streams and sessions. `pygpt.Model` drives it."""

from pygpt.generation.loop import decode
from pygpt.generation.params import SamplingOptions, SamplingParams, lists_options
from pygpt.generation.results import Completion, FinishReason, Piece, TokenLogprob
from pygpt.generation.session import Session, as_ids
from pygpt.generation.stream import CancelToken, Stream, collect, fresh_seed

__all__ = [
    "CancelToken",
    "Completion",
    "FinishReason",
    "Piece",
    "SamplingOptions",
    "SamplingParams",
    "Session",
    "Stream",
    "TokenLogprob",
    "as_ids",
    "collect",
    "decode",
    "fresh_seed",
    "lists_options",
]
