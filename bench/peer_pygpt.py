"""pygpt itself, as the other engines of peers.py: tokens in, logits out, no tokenizer.

`int8` quantises while it loads, `int8-saved` maps what `Model.save` wrote, with the same logits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from peer_common import link

import pygpt

VERSION = f"pygpt {pygpt.__version__}"
CODE = [*sorted(Path(pygpt.__file__).parent.rglob("*.py")), Path(pygpt._core.__file__)]  # it may change under a version
FORMATS = {"int8": 8.25, "int8-saved": 8.25, "bfloat16": 16.0, "float32": 32.0}


class PygptEngine:
    """A model and a session for each sequence."""

    def __init__(self, folder: Path, threads: int, weights: str) -> None:
        path, given = (folder / "saved", None) if weights == "int8-saved" else (source(folder), weights)
        # The public API steps one session at a time; the engine behind it steps several together.
        self.engine = pygpt.Model.load(path, weights=given, threads=threads)._engine

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


load = PygptEngine


def source(cache: Path) -> Path:
    """The checkpoint that `prepare` linked."""
    return cache / "model.gguf" if (cache / "model.gguf").exists() else cache


def prepare(checkpoint: Path, cache: Path, weights: str) -> None:
    """The checkpoint without its tokenizer, which the peers do not load either."""
    link(checkpoint, cache)
    if weights == "int8-saved":
        pygpt.Model.load(source(cache), weights="int8").save(cache / "saved")
