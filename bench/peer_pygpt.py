"""pygpt itself, as the other engines of peers.py: tokens in, logits out, no tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import pygpt

VERSION = f"pygpt {pygpt.__version__}"


class PygptEngine:
    """A model and a session for each sequence."""

    def __init__(self, folder: Path, threads: int) -> None:
        # The public API steps one session at a time; the engine behind it steps several together.
        self.engine = pygpt.Model.load(folder, weights="float32", threads=threads)._engine

    def start(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Forget everything and read (B, T) tokens; the logits (B, V) after the last."""
        self.sessions = [self.engine.session() for _ in tokens]
        return self._run(tokens)

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read one more token of each sequence (B,); the logits (B, V) after it."""
        return self._run(tokens[:, None])

    def _run(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        rows = tokens.astype(np.int32)
        return np.stack(self.engine.forward(list(zip(self.sessions, rows, strict=True))))


def load(cache: Path, threads: int) -> PygptEngine:
    """The checkpoint without its tokenizer, which the peers do not load either."""
    return PygptEngine(cache, threads)


def prepare(checkpoint: Path, cache: Path) -> None:
    """A folder of the same two files; nothing is converted."""
    shutil.copyfile(checkpoint / "config.json", cache / "config.json")
    (cache / "model.safetensors").symlink_to((checkpoint / "model.safetensors").resolve())
