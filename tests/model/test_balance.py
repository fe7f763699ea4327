"""int8 balances the channels of two matrices of which one feeds the other (csrc/model/balance.h)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import _core
from pygpt.config import ModelConfig
from pygpt.engine import of_arrays

Floats = NDArray[np.float32]


def _tensors(config: ModelConfig) -> dict[str, Floats]:
    rng = np.random.default_rng(4)
    return {
        name: (rng.standard_normal(shape) * 0.15 + ("norm.weight" in name)).astype(np.float32)
        for name, shape in config.tensor_shapes().items()
    }


def _spread(config: ModelConfig, tensors: Mapping[str, Floats]) -> dict[str, Floats]:
    """The same function of the tokens, with channels of very different sizes: a power of two for each."""
    out, rng = dict(tensors), np.random.default_rng(5)

    def powers(n: int) -> Floats:
        return np.exp2(rng.integers(-4, 5, n)).astype(np.float32)

    def spread(first: str, second: str, factors: Floats, columns: Floats) -> None:
        out[f"{first}.weight"] = out[f"{first}.weight"] * factors[:, None]
        if f"{first}.bias" in out:
            out[f"{first}.bias"] = out[f"{first}.bias"] * factors
        out[f"{second}.weight"] = out[f"{second}.weight"] / columns

    for name in tensors:
        if name.endswith("attn.v.weight"):
            factors = powers(len(tensors[name]))
            heads = factors.reshape(config.n_kv_head, config.head_dim)
            columns = heads.repeat(config.n_head // config.n_kv_head, axis=0).ravel()
            spread(name.removesuffix(".weight"), name.removesuffix("v.weight") + "out", factors, columns)
        if name.endswith(".up.weight"):
            factors = powers(len(tensors[name]))
            spread(name.removesuffix(".weight"), name.removesuffix("up.weight") + "down", factors, factors)
    return out


def _logits(config: ModelConfig, tensors: Mapping[str, Floats], weights: Any, isa: str = "") -> Floats:
    isa, threads_backend = isa or _core.select_isa(None), _core.select_threads_backend(None)
    engine = of_arrays(config, tensors, weights, "float32", 2, isa, threads_backend).engine
    ids = np.random.default_rng(6).integers(0, config.n_vocab, 50, dtype=np.int32)
    return engine.forward([(engine.session(), ids)], output="all")[0]


def _unbalanced(config: ModelConfig, tensors: Mapping[str, Floats]) -> Floats:
    """What feeds others comes after them, too late."""
    builder = _core.EngineBuilder(config, weights="int8", kv="float32", threads=2, isa=None)
    for name in sorted(tensors, key=lambda name: not name.endswith(("attn.out.weight", "down.weight"))):
        builder.add(name, tensors[name], "float32")
    engine = builder.build()
    ids = np.random.default_rng(6).integers(0, config.n_vocab, 50, dtype=np.int32)
    return engine.forward([(engine.session(), ids)], output="all")[0]


# Grouped heads and a gate with biases; heads that share one, and relu; experts.
@pytest.mark.parametrize("name", ["llama", "multi-query", "experts"])
def test_channels_of_different_sizes_cost_nothing(cores: Any, name: str) -> None:
    config: ModelConfig = cores.configs[name]
    tensors = _tensors(config)
    exact = _logits(config, tensors, "float32")
    spread = _spread(config, tensors)
    np.testing.assert_array_equal(_logits(config, spread, "float32"), exact)

    def error(logits: Floats) -> float:
        return float(np.sqrt(np.square(logits - exact).mean()))

    even = error(_logits(config, tensors, "int8"))
    assert error(_logits(config, spread, "int8")) < 1.15 * even
    assert error(_unbalanced(config, spread)) > 1.5 * even, "the test would not notice"


def test_every_instruction_set_balances_alike(cores: Any) -> None:
    config: ModelConfig = cores.configs["interleaved"]
    spread = _spread(config, _tensors(config))
    expected = _logits(config, spread, "int8", "scalar")
    for isa in _core.isa_names():
        np.testing.assert_array_equal(_logits(config, spread, "int8", isa), expected)


def test_matrices_without_a_size_are_left_alone(cores: Any) -> None:
    config: ModelConfig = cores.configs["llama"]
    tensors = _tensors(config)
    for name in ("blocks.0.attn.v.weight", "blocks.0.mlp.down.weight", "blocks.1.mlp.up.weight"):
        tensors[name] = np.zeros_like(tensors[name])
    tensors["blocks.1.attn.out.weight"][:, 3] = 0
    exact, found = (_logits(config, tensors, weights) for weights in ("float32", "int8"))
    assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max()
