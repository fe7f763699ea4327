"""PyTorch with Hugging Face transformers as a peer, as its users run it: `from_pretrained`, the dynamic cache, SDPA.

int8 is PyTorch's dynamic quantisation of every nn.Linear, the head among them; GPT-2's Conv1D becomes one first.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peer_common import link
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

VERSION = f"torch {torch.__version__.split('+')[0]}"
FORMATS = {"float32": 32.0, "bf16": 16.0, "int8": 8.0}


class TorchEngine:
    """A model and the cache of the sequences it reads."""

    def __init__(self, folder: Path, threads: int, weights: str) -> None:
        torch.set_num_threads(threads)
        logging.disable_progress_bar()
        dtype = torch.bfloat16 if weights == "bf16" else torch.float32
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        if weights == "int8":
            quantize(self.model)

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
        return out.logits[:, -1].float().numpy()


def quantize(model: nn.Module) -> None:
    """Turn every matrix product of the model into PyTorch's int8 one, in place."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Conv1D):
                linear = nn.Linear(*child.weight.shape)
                linear.weight, linear.bias = nn.Parameter(child.weight.t().contiguous()), child.bias
                setattr(module, name, linear)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8, inplace=True)


load = TorchEngine


def prepare(checkpoint: Path, cache: Path, weights: str) -> None:
    """The checkpoint as it is."""
    link(checkpoint, cache)
