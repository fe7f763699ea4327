"""The script that writes GPT-2 checkpoints of random weights for the benchmarks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from pygpt import checkpoint

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "make_gpt2.py"
TOKENS = Path(__file__).resolve().parents[1] / "data" / "tokens"


@pytest.mark.skipif(not SCRIPT.is_file(), reason="bench/ is not here: the tests run outside the repository")
def test_make_gpt2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("make_gpt2", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert sum(int(np.prod(shape)) for shape in script.tensor_shapes("124M").values()) == 124_439_808
    monkeypatch.setattr(script, "N_VOCAB", 1200)
    monkeypatch.setattr(script, "N_POSITIONS", 16)
    monkeypatch.setattr(script, "SIZES", {"124M": (8, 2, 2)})
    arrays = []
    for folder, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        args = ["make_gpt2.py", str(tmp_path / folder), "--seed", seed, "--vocabulary", str(TOKENS)]
        monkeypatch.setattr(sys, "argv", args)
        script.main()
        config, tensors, tokenizer = checkpoint.read(tmp_path / folder)
        arrays.append(np.asarray(tensors["blocks.1.attn.k.weight"]))
        assert (config.n_embd, config.n_layer, config.n_ctx) == (8, 2, 16)
        assert tokenizer is not None
        assert tokenizer.decode(tokenizer.encode("Hello")) == "Hello"
    np.testing.assert_array_equal(arrays[0], arrays[1])
    assert not np.array_equal(arrays[0], arrays[2])
