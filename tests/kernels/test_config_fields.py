"""The configuration on both sides: the core reads the fields that pygpt.config has, and no others."""

from __future__ import annotations

import dataclasses

import pytest

from pygpt import _core
from pygpt.config import Experts, LayerConfig, ModelConfig, Rope
from pygpt.training.architecture import architecture


def test_a_configurations_fields_are_the_same_on_both_sides() -> None:
    fields = _core.config_fields()
    pythons_own = {  # tokens are the sampler's business, and the core sees a sinusoid as learned positions
        ModelConfig: {"bos_id", "eos_ids", "sinusoidal_positions"},
        LayerConfig: set(),
        Experts: set(),
        Rope: {"theta", "dim", "scaling"},  # what its methods are made of
    }
    for cls, own in pythons_own.items():
        derived = {name for name in fields[cls.__name__] if callable(getattr(cls, name, None))}
        assert derived == ({"inv_freq", "attention_factor"} if cls is Rope else set())
        mirrored = [field.name for field in dataclasses.fields(cls) if field.name not in own]
        assert [name for name in fields[cls.__name__] if name not in derived] == mirrored


def test_the_core_refuses_what_it_does_not_know() -> None:
    config = architecture("gpt2", n_vocab=7, n_ctx=5, n_layer=1, n_head=2, n_embd=8)
    object.__setattr__(config, "norm", "batch_norm")  # past the configuration's own check
    with pytest.raises(ValueError, match="norm='batch_norm' is not one of 'layer_norm', 'rms_norm'"):
        _core.EngineBuilder(config, weights="float32", kv="float32", threads=1, isa=None)
