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

from typing import TYPE_CHECKING

from pygpt import errors
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
from pygpt.model import Model
from pygpt.reply import Reply, ReplyStream
from pygpt.tokenizer import Tokenizer

if TYPE_CHECKING:
    from pygpt.training import TrainingResult, finetune, pretrain

__version__ = _build_info()["version"]

__all__ = [
    "CancelToken",
    "Chat",
    "Classification",
    "Completion",
    "Model",
    "ModelConfig",
    "Piece",
    "Reply",
    "ReplyStream",
    "SamplingParams",
    "Section",
    "Session",
    "Speculation",
    "Stream",
    "TokenLogprob",
    "Tokenizer",
    "TrainingResult",
    "__version__",
    "errors",
    "finetune",
    "pretrain",
]


def __getattr__(name: str) -> object:
    """Training is imported when it is first used."""
    if name not in ("TrainingResult", "finetune", "pretrain"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pygpt import training

    return getattr(training, name)
