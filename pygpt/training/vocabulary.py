"""The tokenizer that a training run takes from elsewhere."""

from __future__ import annotations

from pathlib import Path

from pygpt import checkpoint
from pygpt.errors import CheckpointError, TrainingError
from pygpt.tokenizer import Tokenizer
from pygpt.tokenizer.vocabulary import END_OF_TEXT


def existing(path: Path) -> Tokenizer:
    """The tokenizer of a checkpoint, or of a folder with a tokenizer's files alone, which then ends a text with
    ``<|endoftext|>`` if it has that. TrainingError where there is none; see `pygpt.checkpoint.read` for the others.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such file or folder: a tokenizer is bpe, char, or where there is one")
    alone = Tokenizer.from_folder(path)
    if alone is not None and not any(path.glob("*.safetensors")):
        end = alone.special_tokens.get(END_OF_TEXT)
        return Tokenizer.from_folder(path, bos_id=end, eos_id=end) or alone
    saved = checkpoint.open_saved(path)
    tokenizer = checkpoint.read(path)[2] if saved is None else saved.tokenizer
    if tokenizer is None:
        raise TrainingError(f"{path}: has no tokenizer that pygpt can read")
    return tokenizer
