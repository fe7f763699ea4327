"""Every field of a configuration comes back from what `save` writes of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pygpt import Model, checkpoint
from pygpt.checkpoint import saved
from pygpt.config import Experts, LayerConfig, ModelConfig
from pygpt.errors import ConfigError


def test_the_fields_of_a_layer_come_back(gpt2_folder: Path) -> None:
    config = checkpoint.read(gpt2_folder)[0]
    experts = Experts(n_expert=4, n_used=2, n_inner=9, normalized=False, shared_inner=5, shared_gate=True)
    config = config.with_layers(window=7, score_cap=2.5, alibi_slopes=(0.5, 0.25), sinks=True, experts=experts)
    plain = LayerConfig(attn_scale=1.0)
    changed = {f.name for f in dataclasses.fields(plain) if getattr(config.layers[0], f.name) != getattr(plain, f.name)}
    assert changed >= {f.name for f in dataclasses.fields(plain)} - {"rope"}
    table = json.loads(json.dumps(dataclasses.asdict(config)))
    assert saved._from_table(ModelConfig, table, "config") == config
    table["layers"][0]["alibi_slopes"] = [0.5, "a"]
    with pytest.raises(ConfigError, match="must be numbers"):
        saved._from_table(ModelConfig, table, "config")


ALL = {
    "embed_dim": 5,
    "embed_scale": 1.5,
    "embed_norm": True,
    "qk_norm": "whole",
    "branch_scale": 0.5,
    "head_bias": True,
    "logit_scale": 2.0,
    "logit_cap": 3.0,
    "norm_placement": "sandwich",
    "branches": "parallel",
    "activation": "swiglu_clamped",
    "gated_mlp": True,
}


def test_the_fields_of_a_model_come_back_with_its_tensors(gpt2_folder: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(checkpoint.read(gpt2_folder)[0], **ALL)  # type: ignore[arg-type]
    optional = {f.name for f in dataclasses.fields(config) if f.default is not dataclasses.MISSING}
    assert optional - {"tied_head", "sinusoidal_positions", "bos_id", "eos_ids"} <= ALL.keys()
    rng = np.random.default_rng(1)
    tensors = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in config.tensor_shapes().items()}
    ids = np.arange(9)
    for weights in ("int8", "float32"):
        model = Model.from_tensors(config, tensors, weights=weights)  # type: ignore[arg-type]
        model.save(tmp_path / weights)
        loaded = Model.load(tmp_path / weights, weights=weights)  # type: ignore[arg-type]
        assert loaded.config == config
        assert np.array_equal(loaded.logits(ids), model.logits(ids))
    _, unpacked, _ = checkpoint.read(tmp_path / "float32")
    assert all(np.array_equal(np.asarray(unpacked[name]), tensor) for name, tensor in tensors.items())


def test_a_file_from_before_a_field_gets_its_default(gpt2_folder: Path, tmp_path: Path) -> None:
    model = Model.load(gpt2_folder)
    model.save(tmp_path / "old")
    path = tmp_path / "old" / "config.json"
    table = json.loads(path.read_text())
    for name in ALL.keys() - {"norm_placement", "branches", "activation", "gated_mlp"}:
        del table["config"][name]
    path.write_text(json.dumps(table))
    loaded = Model.load(tmp_path / "old")
    assert loaded.config == model.config
    assert np.array_equal(loaded.logits([1, 2]), model.logits([1, 2]))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("embed_dim", 0, "embed_dim must be a positive integer"),
        ("embed_dim", True, "embed_dim must be a positive integer"),
        ("embed_scale", 0.0, "embed_scale must be a positive number"),
        ("branch_scale", float("nan"), "branch_scale must be a positive number"),
        ("logit_scale", -1.0, "logit_scale must be a positive number"),
        ("logit_cap", 0.0, "logit_cap must be a positive number"),
        ("qk_norm", "all", "qk_norm 'all' is not one of head, whole"),
        ("embed_norm", 1, "embed_norm must be True or False, not 1"),
        ("head_bias", None, "head_bias must be True or False, not None"),
        ("activation", "swiglu_clamped", "activation swiglu_clamped is that of a gate"),
    ],
)
def test_a_field_is_checked(gpt2_folder: Path, field: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(checkpoint.read(gpt2_folder)[0], **{field: value})  # type: ignore[arg-type]
