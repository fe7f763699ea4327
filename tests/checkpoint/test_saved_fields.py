"""Every field of a configuration comes back from what `save` writes of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from pygpt import checkpoint
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
