"""What the peers' modules share: the checkpoint under one set of names, and the int8 of two of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

N_CTX = 1024  # tokens that every engine makes room for
Weights = dict[str, NDArray[np.float32]]


class UnsuitableError(Exception):
    """A checkpoint that a peer cannot run."""


@dataclass(frozen=True)
class Shape:
    """GPT-2's and Llama's sizes under one name each; `theta` 0: learned positions."""

    n_vocab: int
    n_layer: int
    n_embd: int
    n_head: int
    n_kv_head: int
    n_inner: int
    eps: float
    theta: float

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_head


def read(checkpoint: Path) -> tuple[Shape, Weights]:
    """The sizes, and the tensors without their common prefix."""
    from safetensors.numpy import load_file

    if checkpoint.is_file():
        raise UnsuitableError("this peer reads no GGUF file")
    c = json.loads((checkpoint / "config.json").read_text())
    tensors = load_file(checkpoint / "model.safetensors")
    weights = {name.removeprefix("transformer.").removeprefix("model."): t for name, t in tensors.items()}
    if c["model_type"] == "gpt2":
        sizes = c["vocab_size"], c["n_layer"], c["n_embd"], c["n_head"], c["n_head"], 4 * c["n_embd"]
        return Shape(*sizes, c["layer_norm_epsilon"], 0.0), weights
    sizes = c["vocab_size"], c["num_hidden_layers"], c["hidden_size"], c["num_attention_heads"]
    inner = c["num_key_value_heads"], c["intermediate_size"]
    return Shape(*sizes, *inner, c["rms_norm_eps"], c["rope_parameters"]["rope_theta"]), weights


def read_gpt2(checkpoint: Path) -> tuple[Shape, Weights]:
    """The same, for the engines whose graph is built here for GPT-2 only."""
    shape, weights = read(checkpoint)
    if shape.theta:
        raise UnsuitableError("this peer runs GPT-2's shapes only")
    return shape, weights


def link(checkpoint: Path, cache: Path) -> None:
    """A folder of the checkpoint's two files, or of a GGUF file, for engines that read it as it is."""
    if checkpoint.is_file():
        return (cache / "model.gguf").symlink_to(checkpoint.resolve())
    shutil.copyfile(checkpoint / "config.json", cache / "config.json")
    return (cache / "model.safetensors").symlink_to((checkpoint / "model.safetensors").resolve())


def int8_rows(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 with one scale a row: (N, K) and (N, 1)."""
    scale = np.abs(weight).max(1, keepdims=True) / np.float32(127)
    return np.rint(weight / scale).astype(np.int8), scale
