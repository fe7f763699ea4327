"""Chats for fine-tuning: JSON lines whose "messages" the model's chat template lays out, and whose answers are learnt.

A line is an object {"messages": [{"role": ..., "content": ...}, ...]}, as `Chat.save` writes one, with "tools" if there
are any. What the assistant says is predicted, with the token that ends its turn, unless it speaks first; all else is
read alone. Each answer follows the tokens that `Model.chat` would give the model to answer, so training is as use is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pygpt.config import ModelConfig
from pygpt.errors import TokenizerError, TrainingError
from pygpt.generation.turn import read_turn
from pygpt.tokenizer import Tokenizer
from pygpt.training.batches import shuffled
from pygpt.training.data import Progress
from pygpt.training.sequences import Document, Listed, Packed
from pygpt.training.tables import Record, read_records

_SEED = 0  # of the split: the same file is always divided alike


class Chats(NamedTuple):
    """Chats in tokens, split."""

    train: list[Document]
    validation: list[Document]
    n_cut: int  # that were longer than the context ...
    n_left_out: int  # ... and that have no token to predict within it
    fingerprint: str

    def reader(self, n_ctx: int) -> Packed:
        """Chats side by side in sequences of at most n_ctx tokens, none of which sees another."""
        return Packed(Listed(self.train), Listed(self.validation), n_ctx)


def read(
    path: Path,
    tokenizer: Tokenizer,
    config: ModelConfig,
    n_ctx: int,
    *,
    validation: float | Path,
    progress: Progress | None = None,
) -> Chats:
    """Read and split a file of chats, cut to n_ctx tokens; validation: the share that is held out, at least one, or a
    file of its own. `progress` as for `pygpt.training.data.prepare`, of chats.

    TrainingError names the file and the line: no messages, no answer, or messages that the template refuses or lays out
    otherwise once more of them follow; fewer than two chats.
    """
    tell = progress or (lambda what, done, total: None)
    found, n_cut, n_out = _read_file(path, tokenizer, config, n_ctx, tell)
    if isinstance(validation, Path):
        held_out, *more = _read_file(validation, tokenizer, config, n_ctx, tell)
        train, n_cut, n_out = found, n_cut + more[0], n_out + more[1]
    else:
        order = shuffled(len(found), _SEED)
        n = min(max(1, round(validation * len(found))), len(found) - 1)
        if n < 1:
            raise TrainingError(f"{path}: a single chat cannot be split: give a validation file")
        held_out = [found[i] for i in sorted(order[:n])]
        train = [found[i] for i in sorted(order[n:])]
    digest = hashlib.sha256()
    for part in (train, held_out):
        for document in part:
            digest.update(document.ids.tobytes() + document.targets.tobytes())
    return Chats(train, held_out, n_cut, n_out, digest.hexdigest())


def _read_file(
    path: Path, tokenizer: Tokenizer, config: ModelConfig, n_ctx: int, tell: Progress
) -> tuple[list[Document], int, int]:
    found, n_cut, n_out = [], 0, 0
    records = read_records(path, ("messages",))
    for done, record in enumerate(records):
        tell("reading the chats", done, len(records))
        document = _document(record, tokenizer, config)
        n_cut += len(document.ids) > n_ctx
        document = Document(*(array[:n_ctx] for array in document))
        if np.any(document.targets >= 0):
            found.append(document)
        else:
            n_out += 1
    if not found:
        raise TrainingError(f"{path}: no chat with an answer within {n_ctx} tokens")
    return found, n_cut, n_out


def _document(record: Record, tokenizer: Tokenizer, config: ModelConfig) -> Document:
    try:
        ids, counted = encode(tokenizer, config, record.values["messages"], record.values.get("tools"))
    except (ValueError, TypeError, TokenizerError) as error:
        raise TrainingError(f"{record.place}: {error}") from error
    return Document(ids[:-1], np.where(counted[1:], ids[1:], np.int32(-1)))


def encode(tokenizer: Tokenizer, config: ModelConfig, messages: Any, tools: Any = None) -> tuple[Any, Any]:
    """A chat's tokens (T,) up to the end of its last answer, and which of them are answers (T,). ValueError, TypeError,
    TokenizerError: see `read`."""
    if not isinstance(messages, list) or not all(isinstance(m, Mapping) for m in messages):
        raise TypeError("messages must be a list of objects")
    answers = [i for i, message in enumerate(messages) if i and message.get("role") == "assistant"]
    if not answers:
        raise ValueError("there is no answer, a message of the assistant's that is not the first, to learn from")
    parts: list[Any] = []
    counted: list[Any] = []
    done = ""
    for i in answers:
        turn = read_turn(tokenizer, config, messages[:i], {"tools": tools})
        whole = tokenizer.render(messages[: i + 1], tools=tools, add_generation_prompt=False)
        if not (turn.text.startswith(done) and whole.startswith(turn.text)):
            raise ValueError(f"the chat template lays out otherwise what stands before message {i + 1}, an answer")
        for text, is_answer in ((turn.text[len(done) :], False), (whole[len(turn.text) :], True)):
            ids = np.array(
                tokenizer.encode(text, allow_special=True, add_special=False, continues=bool(parts)), np.int32
            )
            parts.append(ids)
            counted.append(_up_to_the_end(ids, turn.eos_ids) if is_answer else np.zeros(len(ids), bool))
        done = whole
    return np.concatenate(parts), np.concatenate(counted)


def _up_to_the_end(ids: Any, ends: frozenset[int]) -> Any:
    """Which tokens of an answer the model is to write: all, up to the last that ends a turn, if there is one."""
    at = np.flatnonzero(np.isin(ids, list(ends)))
    return np.arange(len(ids)) <= (at[-1] if len(at) else len(ids))
