"""The shapes of new models."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from pygpt import ModelConfig, checkpoint
from pygpt.families import families
from pygpt.training.architecture import Architecture, architecture
from pygpt.training.parameters import Parameters

SIZES = {"n_vocab": 7, "n_ctx": 3, "n_layer": 1, "n_head": 2}


@pytest.mark.parametrize("head_dim", [6, 8, 12, 32, 48, 64, 80])
@pytest.mark.parametrize("name", get_args(Architecture))
def test_a_checkpoint_can_say_it(tmp_path: Path, name: Architecture, head_dim: int) -> None:
    """Whatever the root of head_dim rounds to, the scale of the scores is the one that families give."""
    config = architecture(name, **SIZES, n_embd=2 * head_dim, bos_id=6, eos_id=6)
    params = Parameters(config)
    params.initialise(0)
    checkpoint.write(tmp_path / "out", config, params.tensors, None)
    found: ModelConfig = checkpoint.read(tmp_path / "out")[0]
    assert found == config


def test_every_family_that_makes_new_models_can_be_chosen() -> None:
    assert [family.name for family in families() if family.new is not None] == list(get_args(Architecture))


def test_sizes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"the width \(9\) must be a multiple of the number of heads \(2\)"):
        architecture("gpt2", **SIZES, n_embd=9)
    with pytest.raises(ValueError, match=r"rotary positions need an even width of a head, not 3"):
        architecture("llama", **SIZES, n_embd=6)
    with pytest.raises(ValueError, match=r"must be as many as heads \(2\) in gpt2, not 1"):
        architecture("gpt2", **SIZES, n_embd=8, n_kv_head=1)
