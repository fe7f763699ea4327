"""Text from a model: the options, the loop over a batch of sequences, streams and sessions. `pygpt.Model` drives it."""

from pygpt.generation.cache_account import CacheAccount, share_memory
from pygpt.generation.cancel import CancelToken, cancel_token
from pygpt.generation.constrain import Grammars
from pygpt.generation.draft import Parts, speculator
from pygpt.generation.loop import Batch, Outcome
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
from pygpt.generation.prefix import PrefixTree
from pygpt.generation.prompt import Prompt, check_fits, is_several, read_prompt, read_prompts
from pygpt.generation.reading import Found, Reading, ReadOutput
from pygpt.generation.reasoning import Section, Splitter
from pygpt.generation.results import Completion, FinishReason, Piece, Progress, TokenLogprob, collect, one_or_all
from pygpt.generation.reuse import PrefixCache
from pygpt.generation.scheduling import Scheduling
from pygpt.generation.sequence import Request
from pygpt.generation.session import Session, load_session
from pygpt.generation.speculate import Speculate, Speculation, Speculator
from pygpt.generation.stream import Stream, make_requests, start
from pygpt.generation.turn import ChatOptions, GenerateOptions, Layout, Message, Turn, read_turn
from pygpt.generation.worker import Listener, Worker

__all__ = [
    "CHAT",
    "CONSTRAINTS",
    "Batch",
    "CacheAccount",
    "CancelToken",
    "ChatOptions",
    "Completion",
    "FinishReason",
    "Found",
    "GenerateOptions",
    "Grammars",
    "Layout",
    "Listener",
    "LogitsProcessor",
    "Message",
    "Outcome",
    "Parts",
    "Piece",
    "PrefixCache",
    "PrefixTree",
    "Progress",
    "Prompt",
    "ReadOutput",
    "Reading",
    "Request",
    "SamplingOptions",
    "SamplingParams",
    "Scheduling",
    "Section",
    "Session",
    "Speculate",
    "Speculation",
    "Speculator",
    "Splitter",
    "Stream",
    "TokenLogprob",
    "Turn",
    "Worker",
    "cancel_token",
    "check_fits",
    "collect",
    "is_several",
    "load_session",
    "make_requests",
    "one_or_all",
    "read_prompt",
    "read_prompts",
    "read_turn",
    "resolve",
    "share_memory",
    "speculator",
    "start",
    "takes_chat_options",
    "takes_options",
]
