"""Mixtures of experts: the choice, and that what is computed with it is what dense models compute."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from pygpt import Model, _core, checkpoint, reference
from pygpt.checkpoint.safetensors import read_file
from pygpt.checkpoint.tensor import numbers
from pygpt.config import Experts, LayerConfig, ModelConfig, Rope
from pygpt.errors import ConfigError
from pygpt.training.network import Network

Tensors = dict[str, NDArray[np.float32]]
DENSE = ModelConfig(
    n_vocab=61, n_ctx=400, n_embd=70, n_head=5, n_kv_head=5, head_dim=14, n_inner=150, norm="rms_norm", norm_eps=1e-5,
    activation="silu", gated_mlp=True, qkv_bias=False, attn_out_bias=False, mlp_bias=True, learned_positions=False,
    layers=LayerConfig(attn_scale=0.25, rope=Rope(theta=1e4, dim=14)).repeated(2),
)  # fmt: skip
ONE_OF_SIX = Experts(n_expert=6, n_used=1, n_inner=150)
IDS = np.random.default_rng(3).integers(0, 61, 300).astype(np.int32)
PARITY = Path(__file__).parents[1] / "data" / "parity"
WITH_EXPERTS = sorted(path for path in PARITY.glob("*/config.json") if "experts" in path.read_text(encoding="utf-8"))
FORMATS = ("float32", "bfloat16", "int8")


def rounded_alike(weights: str) -> ModelConfig:
    """A dense model whose matrices are rounded as those of experts: int8 balances what an RMSNorm gives, where no
    router reads it."""
    return replace(DENSE, norm="layer_norm") if weights == "int8" else DENSE


def tensors_of(config: ModelConfig, seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    return {
        name: (rng.standard_normal(shape) * 0.15 + ("norm.weight" in name)).astype(np.float32)
        for name, shape in config.tensor_shapes().items()
    }


def logits(config: ModelConfig, tensors: Tensors, weights: str, isa: str | None = None) -> NDArray[np.float32]:
    builder = _core.EngineBuilder(config, weights=weights, kv="float32", threads=2, isa=isa)  # type: ignore[arg-type]
    for name, values in tensors.items():
        builder.add(name, values, "float32")
    engine = builder.build()
    return engine.forward([(engine.session(), IDS)], output="all")[0]


def with_experts(config: ModelConfig, dense: Tensors) -> Tensors:
    """The tensors of a model whose experts are all the dense model's MLP."""
    tensors = tensors_of(config, seed=9)
    for name in tensors:
        block, _, rest = name.partition(".mlp.experts.")
        if not rest:
            tensors[name] = dense.get(name, tensors[name])
        else:
            tensors[name] = dense[f"{block}.mlp.{rest.partition('.')[2]}"]
    return tensors


@pytest.mark.parametrize("weights", FORMATS)
@pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])
def test_one_of_equal_experts_is_the_dense_model(weights: str, gated: bool) -> None:
    """Its weight is 1, so whichever expert a token runs, among whatever other tokens, the bits are the same."""
    dense = replace(rounded_alike(weights), gated_mlp=gated)
    routed = dense.with_layers(experts=ONE_OF_SIX)
    tensors = tensors_of(dense)
    mixed = with_experts(routed, tensors)
    scores = reference.linear(np.eye(70, dtype=np.float32), mixed, "blocks.0.mlp.router")
    assert len(set(scores.argmax(axis=1))) > 1
    expected = logits(dense, tensors, weights)
    assert np.isfinite(expected).all()
    for isa in _core.isa_names() if weights != "bfloat16" else ("avx2", "scalar"):
        if isa in _core.isa_names():
            assert np.array_equal(logits(routed, mixed, weights, isa), expected)


@pytest.mark.parametrize("weights", FORMATS)
def test_a_shared_expert_without_others_scores_is_the_dense_model(weights: str) -> None:
    """The routed expert's output is 0, and the shared one's weight is 1."""
    dense = rounded_alike(weights)
    routed = dense.with_layers(experts=Experts(n_expert=2, n_used=1, n_inner=9, shared_inner=150))
    tensors, mixed = tensors_of(dense), tensors_of(routed)
    for name in mixed:
        if ".experts." in name:
            mixed[name] = np.zeros_like(mixed[name])
        else:
            mixed[name] = tensors.get(name.replace(".shared.", "."), mixed[name])
    assert np.array_equal(logits(routed, mixed, weights), logits(dense, tensors, weights))


def test_equal_scores_choose_the_first_experts() -> None:
    routed = DENSE.with_layers(experts=replace(ONE_OF_SIX, n_used=2))
    tensors = tensors_of(routed)
    for layer in range(2):
        tensors[f"blocks.{layer}.mlp.router.weight"][:] = 0.0
        for expert in range(2, 6):  # is read by nobody
            for part in ("gate", "up", "down"):
                tensors[f"blocks.{layer}.mlp.experts.{expert}.{part}.weight"][:] = np.nan
    found = logits(routed, tensors, "float32")
    assert np.isfinite(found).all()
    assert np.isfinite(reference.forward(routed, tensors, IDS[:20])).all()
    chosen, weights = reference.route(np.zeros((3, 6)), 2, normalized=True)
    assert (chosen == [0, 1]).all()
    assert (weights == 0.5).all()


@pytest.mark.parametrize("normalized", [True, False])
def test_core_equals_reference(normalized: bool) -> None:
    """Also with all experts at once. Bounds of rounding are those of the goldens, in test_parity."""
    routed = DENSE.with_layers(
        experts=Experts(n_expert=6, n_used=4, n_inner=40, normalized=normalized, router_bias=True, shared_inner=30,
                        shared_gate=True)
    )  # fmt: skip
    tensors = tensors_of(routed)
    expected = reference.forward(routed, tensors, IDS[:120])
    assert np.abs(logits(routed, tensors, "float32")[:120] - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_saved_model_comes_back(tmp_path) -> None:  # type: ignore[no-untyped-def]
    routed = DENSE.with_layers(experts=replace(ONE_OF_SIX, n_used=2, shared_inner=20, shared_gate=True))
    tensors = tensors_of(routed)
    for weights in FORMATS:
        model = Model.from_tensors(routed, tensors, weights=weights)  # type: ignore[arg-type]
        model.save(tmp_path / weights)
        again = Model.load(tmp_path / weights)
        assert again.config == routed
        assert again.weight_bytes == model.weight_bytes
        assert np.array_equal(again.logits(IDS[:50]), model.logits(IDS[:50]))


def test_training_refuses_experts_by_name() -> None:
    with pytest.raises(ConfigError, match="layer 0 has experts Experts\\(n_expert=6"):
        Network(DENSE.with_layers(experts=ONE_OF_SIX), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_expert": 0}, r"experts\.n_expert must be a positive integer below 2\*\*31, not 0"),
        ({"n_inner": True}, r"experts\.n_inner must be a positive integer"),
        ({"shared_inner": 0.5}, r"experts\.shared_inner must be a positive integer"),
        ({"n_used": 7}, r"experts\.n_used \(7\) must be at most n_expert \(6\)"),
        ({"normalized": 1}, r"experts\.normalized must be True or False, not 1"),
        ({"shared_gate": True}, r"experts\.shared_gate must be False where there is no shared expert"),
    ],
)
def test_impossible_experts_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(ONE_OF_SIX, **changes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="experts must be Experts or None, not 3"):
        DENSE.with_layers(experts=3)


def test_more_experts_than_any_model_has_are_refused_before_memory_is_taken() -> None:
    many = DENSE.with_layers(experts=replace(ONE_OF_SIX, n_expert=2**31 - 1))
    with pytest.raises(ConfigError, match="the number of experts in all layers"):
        many.tensor_shapes()


@pytest.mark.parametrize("golden", WITH_EXPERTS, ids=lambda path: path.parent.name)
def test_the_goldens_run_every_expert(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no token chooses would prove nothing."""
    seen: list[NDArray[np.int64]] = []

    def route(
        scores: NDArray[np.float64], n_used: int, normalized: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        chosen, shares = original(scores, n_used, normalized)
        seen.append(chosen)
        return chosen, shares

    original = reference.route
    monkeypatch.setattr(reference, "route", route)
    config, tensors, _ = checkpoint.read(golden.parent)
    with np.load(golden.parent / "expected.npz") as arrays:
        reference.forward(config, tensors, arrays["ids"])
    routed = [layer.experts for layer in config.layers if layer.experts is not None]
    assert len(seen) == len(routed) > 0
    for chosen, experts in zip(seen, routed, strict=True):
        assert len(np.unique(chosen)) == experts.n_expert


def test_a_shared_experts_gate_may_be_a_vector(tmp_path: Path) -> None:
    """As in GGUF files that were quantised after they were converted."""
    folder = PARITY / "qwen2-moe"
    shutil.copytree(folder, tmp_path / "flat")
    found = read_file(folder / "model.safetensors").items()
    arrays = {name: np.ascontiguousarray(numbers(stored.read(), str(stored.kind))) for name, stored in found}
    flat = {name: array[0] if "shared_expert_gate" in name else array for name, array in arrays.items()}
    save_file(flat, tmp_path / "flat" / "model.safetensors")
    ids = np.arange(20)
    assert np.array_equal(Model.load(tmp_path / "flat").logits(ids), Model.load(folder).logits(ids))
