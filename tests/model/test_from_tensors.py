"""`Model.from_tensors`: arrays in memory give the model that a checkpoint of them gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pygpt import Model, checkpoint, reference
from pygpt.errors import TokenizerError

TEXT = "the man and the one in an inn on the hill"


def test_a_model_of_tensors_is_the_loaded_one(gpt2_folder: Path) -> None:
    config, tensors, tokenizer = checkpoint.read(gpt2_folder)
    arrays = {name: np.array(tensor, np.float32) for name, tensor in tensors.items()}
    for weights, kv in ((None, None), ("bfloat16", None), ("float32", None), ("int8", "float32"), (None, "int8")):
        loaded = Model.load(gpt2_folder, weights=weights, kv=kv, threads=1)
        made = Model.from_tensors(config, arrays, tokenizer, weights=weights, kv=kv, threads=2)
        assert (made.weights, made.kv, made.config, made.threads) == (loaded.weights, loaded.kv, loaded.config, 2)
        np.testing.assert_array_equal(made.logits(TEXT), loaded.logits(TEXT))
    expected = made.logits(TEXT)
    for array in arrays.values():
        array[:] = 0  # as training goes on
    np.testing.assert_array_equal(made.logits(TEXT), expected)
    assert "from tensors: " in repr(made)


def test_the_order_of_the_tensors_does_not_matter(gpt2_folder: Path) -> None:
    config, _, tokenizer = checkpoint.read(gpt2_folder)
    config = replace(config, n_embd=40, n_head=4, n_kv_head=4, head_dim=10)  # 40 channels: two panels and a half
    rng = np.random.default_rng(8)
    arrays = {name: rng.normal(0.0, 0.3, shape) for name, shape in config.tensor_shapes().items()}
    for weights in ("int8", "bfloat16", "float32"):
        expected = Model.from_tensors(config, arrays, tokenizer, weights=weights, threads=2).logits(TEXT)
        for order in (sorted(arrays), sorted(arrays, reverse=True)):
            given = {name: arrays[name] for name in order}
            found = Model.from_tensors(config, given, tokenizer, weights=weights, threads=2).logits(TEXT)
            np.testing.assert_array_equal(found, expected)
    close = reference.forward(config, arrays, tokenizer.encode(TEXT))
    np.testing.assert_allclose(found, close, rtol=0.0, atol=1e-4 * np.abs(close).max())


def test_tensors_that_make_no_model_are_refused(gpt2_folder: Path) -> None:
    config, tensors, _ = checkpoint.read(gpt2_folder)
    arrays = {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}
    for given, message in (
        ({}, "tensors are missing"),
        ({k: v for k, v in arrays.items() if k != "norm.bias"}, "1 tensors are missing, first of them 'norm.bias'"),
        (arrays | {"head.weight": arrays["embed.weight"]}, "no tensor 'head.weight'"),
        (arrays | {"norm.bias": np.zeros(3, np.float32)}, r"'norm.bias' must have shape \(32,\), not \(3,\)"),
        (arrays | {"embed.weight": np.full_like(arrays["embed.weight"], np.nan)}, "cannot be stored as int8"),
    ):
        with pytest.raises(ValueError, match=message):
            Model.from_tensors(config, given, threads=1)
    with pytest.raises(ValueError, match="weights must be one of int8"):
        Model.from_tensors(config, arrays, weights="int4")  # type: ignore[arg-type]
    with pytest.raises(TokenizerError, match="made from tensors and no tokenizer"):
        Model.from_tensors(config, arrays, threads=1).generate("text")
