"""Contexts chosen at load: shorter than a checkpoint's own, and longer where rotary frequencies follow the context."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pygpt
from pygpt import checkpoint, reference
from pygpt.config import LayerConfig, ModelConfig, Rope, RopeScaling
from pygpt.errors import ConfigError, ContextOverflowError

LONGROPE = RopeScaling(
    kind="longrope", factor=4.0, original_n_ctx=16, short_factor=(1.0, 1.5, 2.0), long_factor=(1.0, 3.0, 8.0)
)
DYNAMIC = RopeScaling(kind="dynamic", factor=3.0, original_n_ctx=16)
IDS = np.arange(40) * 7 % 31


def model_of(scaling: RopeScaling | None, **changes: Any) -> ModelConfig:
    sizes = {"n_vocab": 31, "n_ctx": 16, "n_embd": 24, "n_head": 4, "n_kv_head": 2, "head_dim": 6, "n_inner": 32}
    layer = LayerConfig(attn_scale=6**-0.5, rope=Rope(theta=100.0, dim=6, scaling=scaling))
    config = ModelConfig(
        **sizes, norm="rms_norm", norm_eps=1e-5, activation="silu", gated_mlp=True, qkv_bias=False,
        attn_out_bias=False, mlp_bias=False, learned_positions=False, layers=layer.repeated(2),
    )  # fmt: skip
    return replace(config, **changes)


def tensors_of(config: ModelConfig) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return {n: rng.standard_normal(s).astype(np.float32) * 0.3 for n, s in config.tensor_shapes().items()}


def test_longrope_takes_the_long_factors_for_every_position_of_a_longer_context() -> None:
    config = model_of(LONGROPE)
    rope = config.layers[0].rope
    assert rope is not None
    plain = np.array(Rope(theta=100.0, dim=6).inv_freq())
    np.testing.assert_allclose(rope.inv_freq(), plain / LONGROPE.short_factor, rtol=1e-15)
    assert rope.attention_factor() == math.sqrt(1 + math.log(4) / math.log(16))
    assert config.max_n_ctx == 64
    longer = config.with_context(17).layers[0].rope
    assert longer is not None
    np.testing.assert_allclose(longer.inv_freq(), plain / LONGROPE.long_factor, rtol=1e-15)
    assert config.with_context(17).with_context(16) == config
    assert config.with_context(5).layers == config.layers


def test_dynamic_frequencies_are_those_of_the_whole_context() -> None:
    config = model_of(DYNAMIC)
    plain = Rope(theta=100.0, dim=6)
    assert config.layers[0].rope is not None
    assert config.layers[0].rope.inv_freq() == plain.inv_freq()
    longer = config.with_context(48).layers[0].rope
    assert longer is not None
    theta = 100.0 * (3.0 * 48 / 16 - 2.0) ** (6 / 4)
    np.testing.assert_allclose(longer.inv_freq(), Rope(theta=theta, dim=6).inv_freq(), rtol=1e-14)
    assert longer.inv_freq()[-1] == pytest.approx(plain.inv_freq()[-1] / 7.0)  # the longest wave is 7 times as long
    with pytest.raises(ValueError, match="n_ctx must be from 1 to 48, the longest context of this model, not 49"):
        config.with_context(49)


def test_yarn_keeps_fast_pairs_divides_slow_ones_and_rounds_outward() -> None:
    scaling = RopeScaling(kind="yarn", factor=4.0, original_n_ctx=64, beta_fast=4.0, beta_slow=1.0)
    plain = Rope(theta=1000.0, dim=16)
    rope = replace(plain, scaling=scaling)
    kept = (np.divide(rope.inv_freq(), plain.inv_freq()) - 0.25) / 0.75
    first, last = (16 * math.log(64 / (turns * 2 * math.pi)) / (2 * math.log(1000)) for turns in (4, 1))
    np.testing.assert_allclose(
        kept, 1 - np.clip((np.arange(8) - math.floor(first)) / (math.ceil(last) - math.floor(first)), 0, 1), atol=1e-14
    )
    exact = replace(plain, scaling=replace(scaling, truncate=False))
    kept = (np.divide(exact.inv_freq(), plain.inv_freq()) - 0.25) / 0.75
    np.testing.assert_allclose(kept, 1 - np.clip((np.arange(8) - first) / (last - first), 0, 1), atol=1e-14)
    assert rope.attention_factor() == 0.1 * math.log(4) + 1
    assert replace(plain, scaling=replace(scaling, attention_factor=0.5)).attention_factor() == 0.5


@pytest.mark.parametrize("scaling", [LONGROPE, DYNAMIC], ids=["longrope", "dynamic"])
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_the_context_is_chosen_at_load(tmp_path: Path, scaling: RopeScaling, weights: Any) -> None:
    config = model_of(scaling)
    tensors = tensors_of(config)
    checkpoint.write(tmp_path / "llama", config, tensors)
    assert checkpoint.read(tmp_path / "llama")[0] == config
    pygpt.Model.load(tmp_path / "llama", weights=weights).save(tmp_path / "saved")
    for folder in (tmp_path / "llama", tmp_path / "saved"):
        short = pygpt.Model.load(folder, weights=weights)
        longer = re.escape(f"context of 16 tokens (n_ctx= or --n-ctx gives this model up to {config.max_n_ctx})")
        with pytest.raises(ContextOverflowError, match=longer):
            short.logits(IDS[:17])
        with pytest.raises(ContextOverflowError, match=longer):
            short.session().append(IDS[:17])
        with pytest.raises(ContextOverflowError, match=r"in the context of 16 \(n_ctx= or --n-ctx gives"):
            short.generate(IDS[:16].tolist())
        model = pygpt.Model.load(folder, weights=weights, n_ctx=40)
        assert model.config == config.with_context(40)
        given = pygpt.Model.from_tensors(config.with_context(40), tensors, weights=weights)
        np.testing.assert_array_equal(model.logits(IDS), given.logits(IDS))
        with pytest.raises(ValueError, match=f"n_ctx must be from 1 to {config.max_n_ctx}"):
            pygpt.Model.load(folder, weights=weights, n_ctx=65)
    config40, stored, _ = checkpoint.read(tmp_path / "llama", n_ctx=40)
    expected = reference.forward(config40, stored, IDS)
    logits = pygpt.Model.load(tmp_path / "llama", weights="float32", n_ctx=40).logits(IDS)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


@pytest.mark.parametrize("sinusoidal", [False, True])
@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_a_shorter_context_keeps_the_first_positions(tmp_path: Path, sinusoidal: bool, weights: Any) -> None:
    config = model_of(None, learned_positions=not sinusoidal, sinusoidal_positions=sinusoidal)
    tensors = tensors_of(config)
    model = pygpt.Model.from_tensors(config, tensors, weights=weights)
    model.save(tmp_path / "saved")
    shorter = pygpt.Model.load(tmp_path / "saved", n_ctx=5)
    np.testing.assert_array_equal(shorter.logits(IDS[:5]), model.logits(IDS[:5]))
    assert shorter.config == replace(config, n_ctx=5)
    with pytest.raises(ContextOverflowError, match=r"the context of 5 tokens$"):
        shorter.logits(IDS[:6])
    with pytest.raises(ValueError, match="n_ctx must be from 1 to 16"):
        pygpt.Model.load(tmp_path / "saved", n_ctx=17)
    _, read, _ = checkpoint.read(tmp_path / "saved", n_ctx=5)
    assert {name: tensor.shape for name, tensor in read.items()} == shorter.config.tensor_shapes()
    if not sinusoidal:
        np.testing.assert_array_equal(np.asarray(read["pos.weight"]), tensors["pos.weight"][:5])


def test_a_shorter_context_of_a_folder(tmp_path: Path) -> None:
    gpt2 = model_of(
        None, learned_positions=True, norm="layer_norm", qkv_bias=True, attn_out_bias=True, mlp_bias=True,
        gated_mlp=False, n_kv_head=4, layers=LayerConfig(attn_scale=6**-0.5).repeated(2),
    )  # fmt: skip
    checkpoint.write(tmp_path / "gpt2", gpt2, tensors_of(gpt2))
    whole, shorter = (pygpt.Model.load(tmp_path / "gpt2", n_ctx=n) for n in (None, 5))
    np.testing.assert_array_equal(whole.logits(IDS[:5]), shorter.logits(IDS[:5]))
    for wrong in ("5", 5.0, True):
        with pytest.raises(TypeError, match="n_ctx must be an integer"):
            pygpt.Model.load(tmp_path / "gpt2", n_ctx=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factor": 0.5}, "factor must be at least 1"),
        ({"factor": 1e30}, r"factor must be at most 2\*\*31"),
        ({"beta_fast": 0.5}, r"beta_slow \(1.0\) must be below beta_fast \(0.5\)"),
        ({"attention_factor": 0.0}, "attention_factor must be a positive number"),
        ({"truncate": 1}, "truncate must be True or False"),
        ({"short_factor": [1.0]}, "short_factor must be a tuple"),
        ({"long_factor": (0.5, 1.0, 1.0)}, "each of rope scaling's long_factor must be at least 1"),
        ({"n_ctx": 16}, r"n_ctx must be above original_n_ctx \(16\)"),
        ({"kind": "yarn", "n_ctx": 17}, "n_ctx must be above original_n_ctx"),
        ({"original_n_ctx": 1}, "original_n_ctx must be at least 2"),
    ],
)
def test_a_stretch_that_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(LONGROPE, **changes)


def test_a_stretch_that_does_not_fit_its_model() -> None:
    with pytest.raises(ConfigError, match="short_factor must be one for each of 3 frequencies, not 2"):
        model_of(replace(LONGROPE, short_factor=(1.0, 2.0)))
    with pytest.raises(ConfigError, match=r"n_ctx \(40\) must follow the model's \(16\)"):
        model_of(replace(LONGROPE, n_ctx=40))
    with pytest.raises(ConfigError, match="theta must be above 1 in yarn"):
        model_of(None).with_layers(rope=Rope(theta=1.0, dim=6, scaling=RopeScaling(kind="yarn", factor=2.0)))
