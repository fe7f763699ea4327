"""The script that writes checkpoints of random weights for the benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pygpt import checkpoint

TOKENS = Path(__file__).resolve().parents[1] / "data" / "tokens"


@pytest.fixture
def make_random(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("make_random")


def test_gpt2(make_random: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(int(np.prod(shape)) for shape in make_random.gpt2_tensors("gpt2-124M").values()) == 124_439_808
    monkeypatch.setattr(make_random, "GPT2_VOCAB", 1200)
    monkeypatch.setattr(make_random, "GPT2_POSITIONS", 16)
    monkeypatch.setattr(make_random, "GPT2", {"gpt2-124M": (8, 2, 2)})
    arrays = []
    for folder, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        args = ["make_random.py", str(tmp_path / folder), "--seed", seed, "--vocabulary", str(TOKENS)]
        monkeypatch.setattr(sys, "argv", args)
        make_random.main()
        config, tensors, tokenizer = checkpoint.read(tmp_path / folder)
        arrays.append(np.asarray(tensors["blocks.1.attn.k.weight"]))
        assert (config.n_embd, config.n_layer, config.n_ctx) == (8, 2, 16)
        assert tokenizer is not None
        assert tokenizer.decode(tokenizer.encode("Hello")) == "Hello"
    np.testing.assert_array_equal(arrays[0], arrays[1])
    assert not np.array_equal(arrays[0], arrays[2])


def test_llama(make_random: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(int(np.prod(shape)) for shape in make_random.llama_tensors("smollm2-135M").values()) == 134_515_008
    monkeypatch.setattr(make_random, "LLAMA_VOCAB", 20)
    monkeypatch.setattr(make_random, "LLAMA", {"smollm2-135M": (12, 20, 2, 6, 2)})
    monkeypatch.setattr(sys, "argv", ["make_random.py", str(tmp_path), "--shape", "smollm2-135M"])
    make_random.main()
    config, tensors, tokenizer = checkpoint.read(tmp_path)
    assert (config.n_embd, config.n_inner, config.n_layer, config.n_kv_head, config.head_dim) == (12, 20, 2, 2, 2)
    assert config.layers[0].rope is not None
    assert config.layers[0].rope.theta == 100000
    assert np.asarray(tensors["blocks.0.attn.k.weight"]).shape == (4, 12)
    assert tokenizer is None
