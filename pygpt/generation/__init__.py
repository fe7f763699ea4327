"""Text from a model: the options, the loop over a batch of sequences, streams and sessions. `pygpt.Model` drives it."""

from pygpt.generation.cancel import CancelToken
from pygpt.generation.draft import Parts, speculator
from pygpt.generation.loop import Batch, Request
from pygpt.generation.params import (
    CHAT,
    CONSTRAINTS,
    LogitsProcessor,
    SamplingOptions,
    SamplingParams,
    resolve,
    takes_chat_options,
    takes_options,
)
from pygpt.generation.prompt import Prompt, check_fits, is_several, read_prompt, read_prompts
from pygpt.generation.reasoning import Section, Splitter
from pygpt.generation.results import Completion, FinishReason, Piece, TokenLogprob, collect
from pygpt.generation.reuse import PrefixCache
from pygpt.generation.session import Session
from pygpt.generation.speculate import Speculate, Speculation, Speculator
from pygpt.generation.stream import Stream, start
from pygpt.generation.turn import ChatOptions, GenerateOptions, Layout, Message, Turn, read_turn

__all__ = [
    "CHAT",
    "CONSTRAINTS",
    "Batch",
    "CancelToken",
    "ChatOptions",
    "Completion",
    "FinishReason",
    "GenerateOptions",
    "Layout",
    "LogitsProcessor",
    "Message",
    "Parts",
    "Piece",
    "PrefixCache",
    "Prompt",
    "Request",
    "SamplingOptions",
    "SamplingParams",
    "Section",
    "Session",
    "Speculate",
    "Speculation",
    "Speculator",
    "Splitter",
    "Stream",
    "TokenLogprob",
    "Turn",
    "check_fits",
    "collect",
    "is_several",
    "read_prompt",
    "read_prompts",
    "read_turn",
    "resolve",
    "speculator",
    "start",
    "takes_chat_options",
    "takes_options",
]
