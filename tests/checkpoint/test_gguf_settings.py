"""GGUF's metadata as the config.json that a family reads, whatever the family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt.checkpoint.gguf_keys import Metadata
from pygpt.checkpoint.gguf_rope import RopeTensors
from pygpt.checkpoint.gguf_settings import settings
from pygpt.checkpoint.tensor import Stored
from pygpt.errors import CheckpointError, ConfigError
from pygpt.families import Gguf, Settings

SIZES = {"block_count": 4, "embedding_length": 32, "attention.head_count": 4, "context_length": 4096}
S = "rope.scaling."
NO_TENSORS = RopeTensors(None, None, None)


def metadata(values: Mapping[str, object]) -> Metadata:
    own = {f"x.{key}": value for key, value in (SIZES | dict(values)).items()}
    return Metadata({"general.architecture": "x", **own}, "x.gguf")


def read(values: Mapping[str, object], rope: RopeTensors = NO_TENSORS, **gguf: Any) -> Settings:
    shapes = dict.fromkeys(gguf.pop("tensors", ()), (1,))
    return settings(metadata(values), Gguf("x", {}, **gguf), shapes, rope)


def tensor(*values: float, name: str = "rope_freqs.weight") -> Stored:
    array = np.array(values, np.float32)
    return Stored(Path("x.gguf"), name, "F32", array.shape, "float32", lambda: array)


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ({"embedding_length": 64}, "hidden_size", 64),
        ({"embedding_length": 64}, "n_embd", 64),
        ({"attention.sliding_window": 512}, "sliding_window", 512),
        ({"attention.sliding_window": 0}, "sliding_window", None),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping", 50.0),
        ({"final_logit_softcapping": 0.0}, "final_logit_softcapping", None),
        ({"embedding_scale": 12.0}, "embedding_multiplier", 12.0),
        ({"residual_scale": 0.22}, "residual_multiplier", 0.22),
        ({"logit_scale": 8.0}, "logits_scaling", 8.0),
        ({"attention.scale": 0.0078125}, "attention_multiplier", 0.0078125),
        ({"use_parallel_residual": False}, "use_parallel_residual", False),
        ({"expert_count": 8, "expert_used_count": 2}, "num_local_experts", 8),
        ({"expert_count": 0}, "num_experts", None),
        ({"attention.head_count_kv": [2, 2, 2, 2]}, "num_key_value_heads", 2),
        ({"attention.head_count_kv": [2, 2]}, "num_key_value_heads", [2, 2]),
        ({"rope.freq_base_swa": 1e4}, "rope_local_base_freq", 1e4),
        ({}, "rope_theta", 10000.0),
        ({"rope.freq_base": 5e5}, "rope_theta", 5e5),
        ({}, "head_dim", 8),
        ({"attention.key_length": 16}, "head_dim", 16),
        ({}, "partial_rotary_factor", 1.0),
        ({"rope.dimension_count": 2}, "rotary_pct", 0.25),
        ({"rope.dimension_count": 6}, "rotary_dim", 6),
        ({"attention.sliding_window_pattern": 2}, "layer_types", ["sliding_attention", "full_attention"] * 2),
        (
            {"attention.sliding_window_pattern": [True, True, False, True]},
            "layer_types",
            ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
        ),
    ],
)
def test_what_a_family_finds(given: dict[str, object], key: str, value: object) -> None:
    assert read(given).get(key) == value


@pytest.mark.parametrize("width", range(2, 257, 2))
def test_a_part_of_a_head_comes_out_whole(width: int) -> None:
    """int(share * width), as the families compute it, is the dimension that the file names."""
    for turned in range(2, width + 1, 2):
        s = read({"attention.key_length": width, "rope.dimension_count": turned})
        assert int(s.number("partial_rotary_factor") * width) == turned


def test_what_the_tensors_show() -> None:
    s = read({}, tensors=("blk.0.attn_qkv.bias", "output.weight"))
    assert (s.get("attention_bias"), s.get("no_bias"), s.get("mlp_bias")) == (True, False, False)
    assert s.get("tie_word_embeddings") is False
    assert read({}).get("tie_word_embeddings") is True


def test_a_table_of_a_familys_own() -> None:
    """Its keys come before the known ones; what it says is unsaid, after those of the file."""

    def unsaid(s: Settings, tensors: Any) -> dict[str, object]:
        return {"d": s.integer("num_hidden_layers") * 2, "attn_config": {"alibi": True, "clip_qkv": 1.0}, "n_embd": 5}

    s = read({"odd": 3, "attention.clamp_kqv": 6.0}, keys={"a.b": "odd", "hidden_size": "odd"}, unsaid=unsaid)
    table, inner = s.table("attn_config"), s.table("a")
    assert table is not None
    assert inner is not None
    assert (table.get("alibi"), table.get("clip_qkv"), inner.get("b")) == (True, 6.0, 3)
    assert (s.get("hidden_size"), s.get("n_embd"), s.get("d")) == (3, 32, 8)
    assert "x.odd" in s.asked()
    assert str(inner.error("b", "2")) == "x.gguf: x.odd is 3, but must be 2"


def scaling(given: dict[str, object], rope: RopeTensors = NO_TENSORS) -> object:
    return read(given, rope).get("rope_scaling")


def test_no_rope_scaling() -> None:
    assert scaling({}) is None
    assert scaling({S + "type": "none", S + "factor": 4.0}) is None
    assert scaling({S + "factor": 0.0}) is None
    assert scaling({S + "original_context_length": 4096}) is None


def test_linear() -> None:
    assert scaling({"rope.scale_linear": 4.0}) == {"rope_type": "linear", "factor": 4.0}


def test_yarn() -> None:
    given: dict[str, object] = {S + "type": "yarn", S + "factor": 4.0}
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
    assert scaling(given) == yarn
    given |= {S + "original_context_length": 512, S + "yarn_beta_fast": 16.0, S + "yarn_beta_slow": 2.0}
    yarn |= {"original_max_position_embeddings": 512, "beta_fast": 16.0, "beta_slow": 2.0}
    assert scaling(given) == yarn
    for usual in (1.0, float(str(np.float32(0.1 * np.log(4.0) + 1)))):
        assert scaling(given | {S + "yarn_attn_factor": usual}) == yarn
    factor = 0.5 * (0.1 * np.log(4.0) + 1)
    assert scaling(given | {S + "attn_factor": 0.5}) == yarn | {"attention_factor": pytest.approx(factor, rel=1e-15)}
    assert scaling(given | {S + "yarn_attn_factor": 2.0}) == yarn | {"attention_factor": 2.0}
    with pytest.raises(ConfigError, match=r"attn_factor is 0.5, but must be 1, because yarn_attn_factor is not"):
        scaling(given | {S + "attn_factor": 0.5, S + "yarn_attn_factor": 2.0})


def test_longrope() -> None:
    """As Phi-3's converter writes it, without a type."""
    given: dict[str, object] = {S + "original_context_length": 512, S + "attn_factor": 1.19}
    rope = RopeTensors(None, tensor(1.0, 1.05), tensor(1.0, 4.2))
    assert scaling(given, rope) == {
        "rope_type": "longrope", "short_factor": [1.0, 1.05], "long_factor": [1.0, 4.2],
        "original_max_position_embeddings": 512, "attention_factor": 1.19,
    }  # fmt: skip
    usual = float(str(np.float32(np.sqrt(1 + np.log(4096 / 512) / np.log(512)))))
    assert "attention_factor" not in scaling(given | {S + "attn_factor": usual}, rope)  # type: ignore[operator]
    for some in (RopeTensors(None, tensor(1.0), None), RopeTensors(None, None, tensor(1.0))):
        with pytest.raises(ConfigError, match=r"longrope needs rope_factors_short.weight and rope_factors_long.weight"):
            scaling(given, some)
    with pytest.raises(ConfigError, match=r"longrope needs"):
        scaling({S + "type": "longrope"})
    odd = RopeTensors(None, tensor(1.0)._replace(kind=None), tensor(1.0))
    with pytest.raises(CheckpointError, match=r"does not fit the heads"):
        scaling(given, odd)


def test_llama3() -> None:
    """What `test_gguf.py` does through a whole file, under the names that a family asks for."""
    table = scaling({"rope.freq_base": 1e9, "attention.key_length": 4}, RopeTensors(tensor(1.0, 32.0), None, None))
    assert table == {
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip


def test_other_divisors() -> None:
    """They hold for every context."""
    table = scaling({"attention.key_length": 4}, RopeTensors(tensor(1.0, 3.1), None, None))
    assert table == {
        "rope_type": "longrope", "short_factor": [1.0, 3.1], "long_factor": [1.0, 3.1],
        "original_max_position_embeddings": 4096,
    }  # fmt: skip


@pytest.mark.parametrize("pattern", [-1, True, "2", [True], 1.5])
def test_odd_patterns_of_windows(pattern: object) -> None:
    with pytest.raises(ConfigError, match=r"x.attention.sliding_window_pattern is .*, but must be a number of layers"):
        read({"attention.sliding_window_pattern": pattern})
