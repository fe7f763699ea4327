"""PyTorch with Hugging Face transformers as a peer, as its users run it: `from_pretrained`, the dynamic cache, SDPA."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPT2LMHeadModel
from transformers.utils import logging

VERSION = f"torch {torch.__version__.split('+')[0]}"


class TorchEngine:
    """A model and the cache of the sequences it reads."""

    def __init__(self, folder: Path, threads: int) -> None:
        torch.set_num_threads(threads)
        logging.disable_progress_bar()
        self.model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()

    def start(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Forget everything and read (B, T) tokens; the logits (B, V) after the last."""
        self.cache = None
        return self._run(tokens)

    def step(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read one more token of each sequence (B,); the logits (B, V) after it."""
        return self._run(tokens[:, None])

    def _run(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.inference_mode():
            ids = torch.from_numpy(np.ascontiguousarray(tokens))
            out = self.model(ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.cache = out.past_key_values
        return out.logits[:, -1].numpy()


def load(cache: Path, threads: int) -> TorchEngine:
    """The checkpoint as it is."""
    return TorchEngine(cache, threads)


def prepare(checkpoint: Path, cache: Path) -> None:
    """A folder of the same two files; nothing is converted."""
    shutil.copyfile(checkpoint / "config.json", cache / "config.json")
    (cache / "model.safetensors").symlink_to((checkpoint / "model.safetensors").resolve())
