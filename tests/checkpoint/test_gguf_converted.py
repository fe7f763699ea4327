"""GGUF files that llama.cpp's own converter made of the small checkpoints of tests/data/parity (tests/make_gguf.py):
read, they are those checkpoints again, to the bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest

from pygpt import checkpoint
from pygpt.config import ModelConfig
from pygpt.families import families

DATA = Path(__file__).parents[1] / "data"
FILES = sorted((DATA / "gguf").glob("*.gguf"))
LOST = {"falcon-grouped-two-norms": {"n_ctx"}, "gemma2": {"attn_scale"}, "gemma3": {"attn_scale"}}
"""What the converter leaves out of these, and takes for what the released models have."""


def test_there_is_a_file_of_each_architecture() -> None:
    architectures = {f.gguf.architecture for f in families() if f.gguf is not None}
    found = {path.name.split(".")[0] for path in FILES}
    assert found == architectures


def kept(config: ModelConfig, lost: Collection[str]) -> ModelConfig:
    """The configuration but for what is lost, and for special tokens, which come with a vocabulary."""
    config = dataclasses.replace(config, bos_id=None, eos_ids=(), n_ctx=1 if "n_ctx" in lost else config.n_ctx)
    return config.with_layers(attn_scale=1.0) if "attn_scale" in lost else config


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_converted_checkpoint_is_the_same(path: Path) -> None:
    name = path.stem.split(".")[1]
    config, tensors, _ = checkpoint.read(DATA / "parity" / name)
    got_config, got, tokenizer = checkpoint.read(path)
    assert tokenizer is None
    assert kept(got_config, LOST.get(name, ())) == kept(config, LOST.get(name, ()))
    assert list(got) == list(tensors)
    for key, tensor in tensors.items():
        expected = np.asarray(tensor)
        if got[key].dtype == "float16":
            expected = expected.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(np.asarray(got[key]), expected, err_msg=key)
