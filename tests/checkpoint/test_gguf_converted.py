"""GGUF files that llama.cpp's own converter made of the small checkpoints of tests/data/parity (tests/make_gguf.py):
read, they are those checkpoints again, to the bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from pygpt import checkpoint
from pygpt.families import families

DATA = Path(__file__).parents[1] / "data"
FILES = sorted((DATA / "gguf").glob("*.gguf"))


def test_there_is_a_file_of_each_architecture() -> None:
    architectures = {f.gguf.architecture for f in families() if f.gguf is not None}
    found = {path.name.split(".")[0] for path in FILES}
    assert found == architectures


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_converted_checkpoint_is_the_same(path: Path) -> None:
    """What the file cannot say: special tokens, which come with a vocabulary."""
    config, tensors, _ = checkpoint.read(DATA / "parity" / path.stem.split(".")[1])
    got_config, got, tokenizer = checkpoint.read(path)
    assert tokenizer is None
    assert got_config == dataclasses.replace(config, bos_id=None, eos_ids=())
    assert list(got) == list(tensors)
    for name, tensor in tensors.items():
        expected = np.asarray(tensor)
        if got[name].dtype == "float16":
            expected = expected.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(np.asarray(got[name]), expected, err_msg=name)
