"""Text from a model: the options, the loop over a batch of sequences, streams and sessions. `pygpt.Model` drives it."""

from pygpt.generation.cancel import CancelToken
from pygpt.generation.loop import Batch, Request
from pygpt.generation.params import SamplingOptions, SamplingParams, resolve, takes_options
from pygpt.generation.prompt import Prompt, check_fits, is_several, read_prompt, read_prompts
from pygpt.generation.results import Completion, FinishReason, Piece, TokenLogprob, collect
from pygpt.generation.session import Session
from pygpt.generation.stream import Stream, start

__all__ = [
    "Batch",
    "CancelToken",
    "Completion",
    "FinishReason",
    "Piece",
    "Prompt",
    "Request",
    "SamplingOptions",
    "SamplingParams",
    "Session",
    "Stream",
    "TokenLogprob",
    "check_fits",
    "collect",
    "is_several",
    "read_prompt",
    "read_prompts",
    "resolve",
    "start",
    "takes_options",
]
