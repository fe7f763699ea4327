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
    name = path.stem.split(".")[1]
    config, tensors, _ = checkpoint.read(DATA / "parity" / name)
    got_config, got, tokenizer = checkpoint.read(path)
    assert tokenizer is None
    lost = {"bos_id": None, "eos_ids": ()}  # which come with a vocabulary
    if name.startswith("falcon"):
        lost["n_ctx"] = 2048  # the converter's word for all of them
    assert got_config == dataclasses.replace(config, **lost)  # type: ignore[arg-type]
    assert list(got) == list(tensors)
    for key, tensor in tensors.items():
        expected = np.asarray(tensor)
        if got[key].dtype == "float16":
            expected = expected.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(np.asarray(got[key]), expected, err_msg=key)
