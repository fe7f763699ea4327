"""The reference against the original implementations, and the core against the reference.

The checkpoints and their expected logits in tests/data/parity were made by tests/make_parity.py
from the lists in tests/parity.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

import pygpt
from pygpt import checkpoint, reference
from pygpt.config import LayerConfig, ModelConfig, Rope, RopeScaling
from pygpt.families import families

GOLDENS = sorted(path.parent for path in Path(__file__).parents[1].glob("data/parity/*/expected.npz"))
Tensors = Mapping[str, ArrayLike]
Compute = Callable[[ModelConfig, Tensors, NDArray[np.int64]], NDArray[Any]]
UNIT_FLOAT32, UNIT_FLOAT64 = 2.0**-24, 2.0**-53  # the largest relative error of one rounding


def rounding_bound(
    config: ModelConfig, tensors: Tensors, ids: NDArray[np.int64], unit: float, compute: Compute = reference.forward
) -> float:
    """How far what `compute` gives may lie from the exact values when every step rounds with relative error `unit`.

    A sum of k products, in whatever order, is the exact sum with each product changed by a relative error of at most
    gamma_k = k unit / (1 - k unit) (Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 3.1).
    So a forward pass with rounding is an exact one with slightly different weights, and what such a change does can be
    measured: every weight is moved by gamma_k, up or down at random, k being the longest sum. The sums over keys and
    head values are no longer than k either, and exp, tanh and the norms err by a few units. As true errors grow like
    the square root of k, the largest move seen in a few draws is a bound with room to spare, about that root.
    """
    longest = max(config.n_embd, config.n_inner, config.n_head * config.head_dim, len(ids))
    gamma = longest * unit / (1.0 - longest * unit)
    exact = compute(config, tensors, ids)
    rng = np.random.default_rng(0)
    largest = 0.0
    for _ in range(4):
        moved = {}
        for name in config.tensor_shapes():
            values = np.asarray(tensors[name], np.float64)
            moved[name] = values * (1.0 + gamma * rng.choice((-1.0, 1.0), size=values.shape))
        largest = max(largest, float(np.abs(compute(config, moved, ids) - exact).max()))
    return largest


@pytest.fixture(params=GOLDENS, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def expected(golden: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The ids (T,) and the logits (T, n_vocab) of the original implementation."""
    with np.load(golden / "expected.npz") as arrays:
        return arrays["ids"], arrays["logits"]


def test_every_family_has_a_golden() -> None:
    found = {json.loads((golden / "config.json").read_text(encoding="utf-8"))["model_type"] for golden in GOLDENS}
    own = {"nanogpt", "llama2.c"}  # written by other programs than transformers
    assert found | own == {name for family in families() for name in family.model_types}


def test_reference_equals_original(golden: Path) -> None:
    ids, logits = expected(golden)
    config, tensors, _ = checkpoint.read(golden, n_ctx=len(ids))
    bound = rounding_bound(config, tensors, ids, UNIT_FLOAT64)
    assert bound < 1e-11
    difference = np.abs(reference.forward(config, tensors, ids) - logits).max()
    assert difference <= bound


def test_core_in_float32_equals_reference(golden: Path) -> None:
    ids, _ = expected(golden)
    config, tensors, _ = checkpoint.read(golden, n_ctx=len(ids))
    logits = pygpt.Model.load(golden, weights="float32", n_ctx=len(ids)).logits(ids)
    assert logits.dtype == np.float32
    bound = rounding_bound(config, tensors, ids, UNIT_FLOAT32)
    assert bound < 1e-3
    assert np.abs(logits - reference.forward(config, tensors, ids)).max() <= bound


def to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest number whose lower 16 bits are 0; of two equally near, the one whose last bit left is 0."""
    bits = values.view(np.uint32)
    kept: NDArray[np.uint32] = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return kept.view(np.float32)


def test_core_in_bfloat16_equals_reference_with_rounded_matrices(golden: Path) -> None:
    """bfloat16 is how matrices are stored; what is computed with them is float32, so the same bound holds."""
    ids, _ = expected(golden)
    config, tensors, _ = checkpoint.read(golden, n_ctx=len(ids))
    rounded = {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}
    for name, values in rounded.items():
        if values.ndim == 2 and name != "pos.weight":
            rounded[name] = to_bfloat16(np.ascontiguousarray(values))
    logits = pygpt.Model.load(golden, weights="bfloat16", kv="float32", n_ctx=len(ids)).logits(ids)
    bound = rounding_bound(config, rounded, ids, UNIT_FLOAT32)
    assert np.abs(logits - reference.forward(config, rounded, ids)).max() <= bound


BASE = ModelConfig(
    n_vocab=61,
    n_ctx=40,
    n_embd=36,
    n_head=6,
    n_kv_head=3,
    head_dim=10,
    n_inner=45,
    norm="layer_norm",
    norm_eps=1e-5,
    activation="gelu",
    gated_mlp=False,
    qkv_bias=True,
    attn_out_bias=False,
    mlp_bias=True,
    learned_positions=False,
    layers=LayerConfig(attn_scale=0.4, rope=Rope(theta=1000.0, dim=10)).repeated(2),
)


def layers(*ropes: Rope | None, scale: float = 0.4) -> tuple[LayerConfig, ...]:
    """A layer for each rope, of falling scales, or two of one."""
    ropes = ropes * 2 if len(ropes) == 1 else ropes
    return tuple(LayerConfig(attn_scale=scale / (i + 1), rope=rope) for i, rope in enumerate(ropes))


# What no golden has; each is one difference from BASE.
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "interleaved": {"layers": layers(Rope(theta=1000.0, dim=10, interleaved=True))},
    "partial": {"layers": layers(Rope(theta=1000.0, dim=4))},
    "partial interleaved": {"layers": layers(Rope(theta=1000.0, dim=6, interleaved=True))},
    "scaled partial": {"layers": layers(Rope(theta=1000.0, dim=6, scaling=RopeScaling(kind="linear", factor=2.5)))},
    "no positions": {"layers": layers(None)},
    "both positions": {"learned_positions": True},
    "sinusoidal": {"sinusoidal_positions": True, "layers": layers(None), "n_embd": 35},
    "gated relu": {"gated_mlp": True, "activation": "relu"},
    "plain silu": {"activation": "silu"},
    "rms norm": {"norm": "rms_norm"},
    "post-norm": {"norm_placement": "after_sum"},
    "post-norm of rms, gated, untied": {
        "norm_placement": "after_sum",
        "norm": "rms_norm",
        "gated_mlp": True,
        "tied_head": False,
    },
    "windows": {"layers": tuple(replace(layers(None)[0], window=w) for w in (1, 7, 30, 4000))},
    "sinks": {"layers": tuple(replace(layers(None)[0], sinks=True, window=w) for w in (None, 5))},
    "capped scores": {"layers": tuple(replace(layers(None, scale=3.0)[0], score_cap=c) for c in (0.7, 20.0))},
    "slopes": {"layers": (replace(layers(None)[0], alibi_slopes=tuple(0.5**i for i in range(6)), window=20),)},
    "norm after the branch": {"norm_placement": "after_branch"},
    "sandwich": {"norm_placement": "sandwich", "norm": "rms_norm"},
    "parallel": {"branches": "parallel"},
    "parallel, one norm": {"branches": "parallel_one_norm", "gated_mlp": True},
    "parallel sandwich": {"branches": "parallel", "norm_placement": "sandwich"},
    "norm of heads": {"qk_norm": "head", "norm": "rms_norm"},
    "norm of queries": {"qk_norm": "whole", "norm_placement": "after_branch"},
    "norm of heads, no positions": {"qk_norm": "head", "layers": layers(None)},
    "scales": {"embed_scale": 6.0, "branch_scale": 0.22, "logit_scale": 0.125, "learned_positions": True},
    "scaled sum normed": {"branch_scale": 0.7, "norm_placement": "after_sum"},
    "capped logits": {"logit_scale": 3.0, "logit_cap": 2.0},
    "cap far away": {"logit_cap": 1e6},
    "head bias": {"head_bias": True, "logit_scale": 0.5},
    "head bias, untied": {"head_bias": True, "tied_head": False},
    "norm of embeddings": {"embed_norm": True, "learned_positions": True},
    "narrow embeddings": {"embed_dim": 20, "learned_positions": True, "embed_scale": 0.5, "embed_norm": True},
    "wide embeddings": {"embed_dim": 50, "tied_head": False, "head_bias": True, "norm_placement": "after_sum"},
    "clamped gate": {"activation": "swiglu_clamped", "gated_mlp": True},
    "output bias": {"attn_out_bias": True, "qkv_bias": False},
    "layers that differ": {"layers": layers(Rope(theta=1000.0, dim=10), None, Rope(theta=50.0, dim=4), scale=0.3)},
    "one of everything": {"n_vocab": 1, "n_embd": 1, "n_head": 1, "n_kv_head": 1, "n_inner": 1, "norm": "rms_norm"},
    "head of 2": {"head_dim": 2, "layers": layers(Rope(theta=1000.0, dim=2))},
    "wide head": {"head_dim": 130, "layers": layers(Rope(theta=1000.0, dim=130)), "n_head": 2, "n_kv_head": 1},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=list(VARIANTS))
def test_core_equals_reference_for_configs_of_no_family(changes: dict[str, Any]) -> None:
    config = replace(BASE, **changes)
    rng = np.random.default_rng(1)
    tensors = {}
    for name, shape in config.tensor_shapes().items():
        values = rng.standard_normal(shape) * (shape[-1] ** -0.5 if len(shape) == 2 else 0.4)
        tensors[name] = (values + ("norm.weight" in name)).astype(np.float32)  # gains around 1
    model = pygpt.Model.from_tensors(config, tensors, weights="float32", kv="float32", threads=1)
    ids = rng.integers(config.n_vocab, size=config.n_ctx)
    computes: tuple[tuple[NDArray[np.float32], Compute], ...] = (
        (model.logits(ids), reference.forward),
        (model.hidden_states(ids), reference.hidden),
    )
    for values, compute in computes:
        bound = rounding_bound(config, tensors, ids, UNIT_FLOAT32, compute)
        assert bound < 1e-2
        assert np.abs(values - compute(config, tensors, ids)).max() <= bound
