"""A trained GPT-2 in pytorch_model.bin, from the package microformer-mgm (MIT); its words are microbes.

The package index is asked for its wheel once; the file is kept in a cache folder. Skipped only where there is none.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from pygpt import Model
from pygpt.checkpoint.names import Package
from pygpt.checkpoint.wheel import Packaged, fetch
from pygpt.errors import CheckpointError

PACKAGED = Packaged(
    "microformer",
    Package(
        requirement="microformer-mgm==0.5.8",
        member="mgm/resources/general_model/pytorch_model.bin",
        n_bytes=33_453_947,
        sha256="210891685565022ea869e88a7452769dc6fbe3f699d2a133e15338d1e30eb92b",
    ),
)
CONFIG = {
    "model_type": "gpt2", "activation_function": "gelu_new", "n_embd": 256, "n_head": 8, "n_layer": 8,
    "n_positions": 512, "vocab_size": 9669, "layer_norm_epsilon": 1e-5, "bos_token_id": 2, "eos_token_id": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYGPT_CACHE", str((Path(root) if root else Path.home() / ".cache") / "pygpt-tests"))
        try:
            file = fetch(PACKAGED)
        except CheckpointError as error:
            pytest.skip(f"the package index does not give it: {error}")
    folder = tmp_path_factory.mktemp("microformer")
    shutil.copy(file, folder)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return folder


def test_the_log_probabilities_of_transformers(folder: Path) -> None:
    """GPT2LMHeadModel in float64; issue 10's bound for float32 on real models."""
    ids = [2, 5, 77, 300, 9000, 12, 4021, 1]
    expected = [-8.68767, -15.362045, -27.975857, -15.920885, -17.59886, -13.170655, -16.682374]
    model = Model.load(folder, weights="float32")
    assert np.abs(model.score(ids) - expected).max() < 5e-4
    assert model.logits(ids).argmax(axis=1).tolist() == [964, 8570, 5240, 1817, 8796, 302, 1002, 1002]
