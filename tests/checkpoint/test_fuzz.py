"""Whatever stands in a file: a valid result or an error of pygpt's own, and no memory by the file's numbers."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pygpt import checkpoint
from pygpt.errors import CheckpointError, ConfigError, PygptError
from pygpt.families import Settings, by_model_type, keys, model_config, settings_for

ROPE: dict[str, Any] = {
    "rope_type": "llama3", "type": "llama3", "factor": 2.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16, "rope_theta": 1e4, "partial_rotary_factor": 1,
}  # fmt: skip
TABLES: dict[str, dict[str, Any]] = {
    "openai-gpt": {
        "vocab_size": 11, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2, "afn": "gelu",
        "layer_norm_epsilon": 1e-5, "n_ctx": 8, "n_inner": 32, "n_special": 0, "predict_special_tokens": True,
        "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": [2],
    },
    "gpt2": {
        "vocab_size": 11, "n_positions": 8, "n_embd": 8, "n_layer": 2, "n_head": 2, "activation_function": "gelu",
        "layer_norm_epsilon": 1e-5, "n_ctx": 8, "n_inner": 32, "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": False, "tie_word_embeddings": True,
    },
    "llama": {
        "vocab_size": 11, "max_position_embeddings": 8, "hidden_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 2, "intermediate_size": 8, "hidden_act": "silu",
        "rms_norm_eps": 1e-5, "rope_theta": 1e4, "rope_scaling": ROPE, "rope_parameters": ROPE, "mlp_bias": True,
        "attention_bias": False, "sliding_window": 8, "layer_types": [], "pretraining_tp": 1, "rope_interleaved": False,
        "max_sequence_length": 8, "use_sliding_window": False, "is_llama_config": True,
    },
}  # fmt: skip

NUMBERS = st.sampled_from([0, -1, 1, 2, 8, 2**31, 2**64, 10**400, 1e-320, 1e300, -0.5, math.nan, math.inf])
LEAVES = st.none() | st.booleans() | NUMBERS | st.integers() | st.floats() | st.text(max_size=9)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4)
)
MANY = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """A configuration of which up to three known keys hold anything; some are taken out."""
    kind = draw(st.sampled_from(sorted(TABLES)))
    table = {"model_type": kind, **TABLES[kind]}
    for key in draw(st.lists(st.sampled_from([*table, *keys.CONFIG]), min_size=1, max_size=3)):
        inner = table.get(key)
        if isinstance(inner, dict) and draw(st.booleans()):
            table[key] = inner | {draw(st.sampled_from(sorted(ROPE))): draw(VALUES)}
        else:
            table[key] = draw(VALUES)
    for key in draw(st.lists(st.sampled_from(sorted(table)), max_size=2)):
        table.pop(key, None)
    return table


@MANY
@given(table=tables())
def test_any_value_of_any_known_key(table: dict[str, Any]) -> None:
    """ConfigError, or a configuration that can be computed with and that the family can say again."""
    values = Settings(table, "config.json")
    try:
        family = by_model_type(values)
        config = model_config(family, values)
        keys.refuse_unknown(values.rest(), {**keys.CONFIG, **family.harmless}, "config.json")
    except ConfigError as error:
        assert len(message := str(error)) < 5000  # noqa: PT017
        assert "config.json" in message
        return
    assert settings_for(config)[0].name == family.name
    for layer in config.layers[:3]:
        if layer.rope is not None and layer.rope.dim < 100:
            assert np.isfinite(layer.rope.inv_freq()).all()


GOLDENS = sorted(Path(__file__).parents[1].glob("data/parity/*/config.json"))


@MANY
@given(data=st.data())
def test_any_value_in_a_configuration_of_any_family(data: st.DataObject) -> None:
    """ConfigError, or a configuration that can be computed with and that some family can say again."""
    table = json.loads(data.draw(st.sampled_from(GOLDENS)).read_text(encoding="utf-8"))
    for _ in range(data.draw(st.integers(1, 3))):
        at = table
        *way, last = data.draw(st.sampled_from(places(table)))
        for key in way:
            at = at[key]
        at[last] = data.draw(VALUES)
    values = Settings(table, "config.json")
    try:
        family = by_model_type(values)
        config = model_config(family, values)
        keys.refuse_unknown(values.rest(), {**keys.CONFIG, **family.harmless}, "config.json")
    except ConfigError as error:
        assert "config.json" in str(error)  # noqa: PT017
        return
    settings_for(config)
    for layer in config.layers[:3]:
        if layer.rope is not None and layer.rope.dim < 100:
            assert np.isfinite((*layer.rope.inv_freq(), layer.rope.attention_factor())).all()


@MANY
@given(key=st.text(max_size=9), value=VALUES)
def test_any_unknown_key(key: str, value: object) -> None:
    for known in (keys.CONFIG, keys.GENERATION, keys.INDEX):
        if key not in known and value is not None:
            with pytest.raises(ConfigError):
                keys.refuse_unknown({key: value}, known, "x.json")


def read(path: Path) -> None:
    """Read a checkpoint and all of its tensors, within 20 MB."""
    tracemalloc.start()
    try:
        _, tensors, _ = checkpoint.read(path)
        for tensor in tensors.values():
            np.asarray(tensor)
    except PygptError as error:
        assert str(path.parent) in str(error)  # noqa: PT017
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 20_000_000


@MANY
@given(data=st.data())
def test_spoilt_gguf_files(writer: Any, tmp_path: Path, llama: Any, data: st.DataObject) -> None:
    path = tmp_path / "x.gguf"
    if not path.exists():
        writer.write_llama(path, llama, {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0})
        (tmp_path / "whole").write_bytes(path.read_bytes())
    spoilt = bytearray((tmp_path / "whole").read_bytes())
    header = len(spoilt) - 4 * sum(array.size for array in llama.tensors.values())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, header))
        new = data.draw(st.binary(min_size=1, max_size=8) | st.sampled_from([b"\xff" * 8, bytes(8), bytes(4) + b"\1"]))
        spoilt[at : at + (len(new) if data.draw(st.booleans()) else 0)] = new
    path.write_bytes(spoilt)
    read(path)


@MANY
@given(data=st.data())
def test_spoilt_safetensors(tmp_path: Path, gpt2: Any, data: st.DataObject) -> None:
    folder = gpt2.write(tmp_path)
    path = folder / "model.safetensors"
    spoilt = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(spoilt[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, header))
        new = data.draw(st.binary(min_size=1, max_size=4) | st.sampled_from([b"9" * 18, b"[", b"]", b"0", b'"']))
        spoilt[at : at + len(new)] = new
    path.write_bytes(spoilt)
    read(folder)


def places(table: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value of a nested table."""
    items = table.items() if isinstance(table, dict) else enumerate(table) if isinstance(table, list) else ()
    return [place for key, value in items for place in [(*path, key), *places(value, (*path, key))]]


@MANY
@given(data=st.data())
def test_any_value_in_a_saved_configuration(tmp_path: Path, data: st.DataObject) -> None:
    source = checkpoint.locate("tiny")
    link = tmp_path / "model.safetensors"
    if not link.exists():
        link.symlink_to(source / "model.safetensors")
    table = json.loads((source / "config.json").read_text(encoding="utf-8"))
    at = table
    *way, last = data.draw(st.sampled_from(places(table)))
    for key in way:
        at = at[key]
    at[last] = data.draw(VALUES)
    (tmp_path / "config.json").write_text(json.dumps(table), encoding="utf-8")
    try:
        saved = checkpoint.open_saved(tmp_path)
    except (CheckpointError, ConfigError) as error:
        assert str(tmp_path) in str(error)  # noqa: PT017
        return
    assert saved is None or saved.config.for_core().n_params() > 0
