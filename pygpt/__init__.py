"""pygpt runs GPT models on the CPU in front of you. `Model.load` is where to start."""

try:
    from pygpt._core import build_info as _build_info
except ModuleNotFoundError as error:
    if error.name != "pygpt._core":
        raise
    raise ImportError(
        f"{__file__} is pygpt's source, without its compiled core. Install it (pip install .) and import pygpt from "
        "another folder; run its tests as `pytest`, not as `python -m pytest`."
    ) from None

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pygpt import errors
    from pygpt.async_stream import AsyncStream
    from pygpt.asynchronous import AsyncModel
    from pygpt.chat import Chat
    from pygpt.classification import Classification
    from pygpt.config import ModelConfig
    from pygpt.generation import (
        CancelToken,
        Completion,
        Piece,
        SamplingParams,
        Section,
        Session,
        Speculation,
        Stream,
        TokenLogprob,
    )
    from pygpt.harness import TaskResult, evaluate
    from pygpt.likelihood import Likelihood
    from pygpt.metrics import Estimate
    from pygpt.model import Model
    from pygpt.reply import Reply, ReplyStream
    from pygpt.scheduler import Scheduler, SchedulerStats, Ticket
    from pygpt.sites import Site
    from pygpt.tokenizer import Tokenizer
    from pygpt.tool_calls import ToolCall
    from pygpt.trace import Candidates, Trace
    from pygpt.training import TrainingResult, finetune, pretrain

__version__ = _build_info()["version"]

_HOMES = {  # of the names, which are imported when they are first used
    "async_stream": ("AsyncStream",),
    "asynchronous": ("AsyncModel",),
    "chat": ("Chat",),
    "classification": ("Classification",),
    "config": ("ModelConfig",),
    "generation": (
        *("CancelToken", "Completion", "Piece", "SamplingParams", "Section", "Session", "Speculation", "Stream"),
        "TokenLogprob",
    ),
    "harness": ("TaskResult", "evaluate"),
    "likelihood": ("Likelihood",),
    "metrics": ("Estimate",),
    "model": ("Model",),
    "reply": ("Reply", "ReplyStream"),
    "scheduler": ("Scheduler", "SchedulerStats", "Ticket"),
    "sites": ("Site",),
    "tokenizer": ("Tokenizer",),
    "tool_calls": ("ToolCall",),
    "trace": ("Candidates", "Trace"),
    "training": ("TrainingResult", "finetune", "pretrain"),
}

__all__ = [
    "AsyncModel",
    "AsyncStream",
    "CancelToken",
    "Candidates",
    "Chat",
    "Classification",
    "Completion",
    "Estimate",
    "Likelihood",
    "Model",
    "ModelConfig",
    "Piece",
    "Reply",
    "ReplyStream",
    "SamplingParams",
    "Scheduler",
    "SchedulerStats",
    "Section",
    "Session",
    "Site",
    "Speculation",
    "Stream",
    "TaskResult",
    "Ticket",
    "TokenLogprob",
    "Tokenizer",
    "ToolCall",
    "Trace",
    "TrainingResult",
    "__version__",
    "errors",
    "evaluate",
    "finetune",
    "pretrain",
]


if not TYPE_CHECKING:  # checkers see the imports above, and no names beside them

    def __getattr__(name: str) -> object:
        """A name of `__all__`, or a module of the package."""
        home = next((module for module, names in _HOMES.items() if name in names), None)
        try:
            found: object = importlib.import_module(f"{__name__}.{home or name}") if name[:1] != "_" else None
        except ModuleNotFoundError as error:
            if home is not None or error.name != f"{__name__}.{name}":
                raise
            found = None
        if found is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if home is not None:
            globals()[name] = found = getattr(found, name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
