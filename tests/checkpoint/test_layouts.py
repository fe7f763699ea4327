"""`Source`: the layouts in which a canonical module may be stored, read by `canonical` and written by `stored`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pygpt.checkpoint.canonical import canonical, stored
from pygpt.checkpoint.tensor import Dtype, Stored
from pygpt.config import LayerConfig, ModelConfig
from pygpt.errors import CheckpointError
from pygpt.families import Source
from pygpt.families.base import fused_qkv

Array = NDArray[Any]
WHERE = Path("x.safetensors")
CONFIG = ModelConfig(
    n_vocab=11, n_ctx=5, n_embd=8, n_head=4, n_kv_head=2, head_dim=6, n_inner=9, norm="layer_norm", norm_eps=1e-5,
    activation="silu", gated_mlp=True, qkv_bias=True, attn_out_bias=False, mlp_bias=True, learned_positions=True,
    layers=LayerConfig(attn_scale=0.5).repeated(2), tied_head=False,
)  # fmt: skip
PLAIN = {
    "embed": Source("wte"),
    "pos": Source("wpe"),
    "blocks.{i}.attn_norm": Source("h.{i}.ln_1"),
    "blocks.{i}.attn.q": Source("h.{i}.q"),
    "blocks.{i}.attn.k": Source("h.{i}.k"),
    "blocks.{i}.attn.v": Source("h.{i}.v"),
    "blocks.{i}.attn.out": Source("h.{i}.out"),
    "blocks.{i}.mlp_norm": Source("h.{i}.ln_2"),
    "blocks.{i}.mlp.gate": Source("h.{i}.gate"),
    "blocks.{i}.mlp.up": Source("h.{i}.up"),
    "blocks.{i}.mlp.down": Source("h.{i}.down"),
    "norm": Source("ln_f"),
    "head": Source("lm_head"),
}


def drawn(config: ModelConfig) -> dict[str, Array]:
    rng = np.random.default_rng(1)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in config.tensor_shapes().items()}


def in_file(arrays: Mapping[str, Array], kind: Dtype = "float32") -> dict[str, Stored]:
    return {name: Stored(WHERE, name, kind, a.shape, kind, lambda a=a: a) for name, a in arrays.items()}


def back(config: ModelConfig, arrays: Mapping[str, Array], sources: Mapping[str, Source]) -> dict[str, Array]:
    tensors = canonical(WHERE, config, in_file(arrays), sources, "model.")
    assert list(tensors) == list(config.tensor_shapes())
    return {name: np.asarray(tensor) for name, tensor in tensors.items()}


def check_both_ways(config: ModelConfig, sources: Mapping[str, Source]) -> dict[str, Array]:
    """What is stored comes back with the same values; the stored arrays."""
    tensors = drawn(config)
    arrays = stored(config, tensors, sources, "model.")
    for name, array in back(config, arrays, sources).items():
        np.testing.assert_array_equal(array, tensors[name], err_msg=name)
    return arrays


def test_sections_of_different_sizes() -> None:
    """Queries are twice as many as keys here, and values come first."""
    sections = {f"blocks.{{i}}.attn.{x}": Source("h.{i}.qkv") for x in "vqk"}
    rest = {module: source for module, source in PLAIN.items() if module not in sections}
    arrays = check_both_ways(CONFIG, sections | rest)
    tensors = drawn(CONFIG)
    for kind in ("weight", "bias"):
        expected = np.concatenate([tensors[f"blocks.1.attn.{x}.{kind}"] for x in "vqk"])
        np.testing.assert_array_equal(arrays[f"model.h.1.qkv.{kind}"], expected)


def test_fused_gate_and_up_transposed() -> None:
    fused = {f"blocks.{{i}}.mlp.{x}": Source("h.{i}.gate_up", transposed=True) for x in ("gate", "up")}
    arrays = check_both_ways(CONFIG, PLAIN | fused)
    assert arrays["model.h.0.gate_up.weight"].shape == (8, 18)
    np.testing.assert_array_equal(arrays["model.h.0.gate_up.weight"][:, 9:].T, drawn(CONFIG)["blocks.0.mlp.up.weight"])


def test_groups_of_a_key_value_head() -> None:
    arrays = check_both_ways(CONFIG, PLAIN | fused_qkv("h.{i}.qkv", groups="n_kv_head"))
    tensors = drawn(CONFIG)
    fused = arrays["model.h.1.qkv.weight"].reshape(2, 4, 6, 8)  # (kv head, [q, q, k, v], head_dim, inputs)
    np.testing.assert_array_equal(fused[:, :2], tensors["blocks.1.attn.q.weight"].reshape(2, 2, 6, 8))
    np.testing.assert_array_equal(fused[:, 2], tensors["blocks.1.attn.k.weight"].reshape(2, 6, 8))
    np.testing.assert_array_equal(fused[:, 3], tensors["blocks.1.attn.v.weight"].reshape(2, 6, 8))


def test_interleaved_rows_of_a_head() -> None:
    arrays = check_both_ways(CONFIG, PLAIN | {"blocks.{i}.attn.q": Source("h.{i}.q", interleaved=True)})
    rows, plain = arrays["model.h.0.q.bias"].reshape(4, 6), drawn(CONFIG)["blocks.0.attn.q.bias"].reshape(4, 6)
    np.testing.assert_array_equal(rows, plain[:, [0, 3, 1, 4, 2, 5]])


def test_rows_that_are_never_read() -> None:
    sources = PLAIN | {"pos": Source("wpe", skip=2)}
    arrays = check_both_ways(CONFIG, sources)
    assert arrays["model.wpe.weight"].shape == (7, 8)
    assert not arrays["model.wpe.weight"][:2].any()
    arrays["model.wpe.weight"][:2] = np.nan
    assert np.isfinite(back(CONFIG, arrays, sources)["pos.weight"]).all()


def test_a_norm_stored_as_its_difference_from_one() -> None:
    sources = PLAIN | {"norm": Source("ln_f", minus_one=True)}
    tensors = drawn(CONFIG)
    tensors["norm.weight"] = np.arange(8, dtype=np.float32) / 4
    arrays = stored(CONFIG, tensors, sources)
    np.testing.assert_array_equal(arrays["ln_f.weight"], tensors["norm.weight"] - 1)
    np.testing.assert_array_equal(arrays["ln_f.bias"], tensors["norm.bias"])  # of a weight alone
    for kind, values in {
        "float16": arrays["ln_f.weight"].astype(np.float16),
        "bfloat16": (arrays["ln_f.weight"].view(np.uint32) >> 16).astype(np.uint16),
    }.items():
        found = in_file(arrays) | {"ln_f.weight": Stored(WHERE, "ln_f.weight", kind, (8,), kind, lambda a=values: a)}  # type: ignore[arg-type]
        gain = canonical(WHERE, CONFIG, found, sources)["norm.weight"]
        assert (gain.dtype, gain.raw().dtype) == ("float32", np.float32)
        np.testing.assert_array_equal(np.asarray(gain), tensors["norm.weight"])


def test_a_bias_that_is_not_stored_is_zero() -> None:
    sources = PLAIN | {"norm": Source("ln_f", zero_bias=True)}
    tensors = drawn(CONFIG)
    assert "ln_f.bias" in stored(CONFIG, tensors, sources)
    tensors["norm.bias"][:] = 0
    arrays = stored(CONFIG, tensors, sources)
    assert "ln_f.bias" not in arrays
    np.testing.assert_array_equal(back(CONFIG, arrays, sources)["norm.bias"], np.zeros(8))
    del arrays["ln_f.weight"]
    with pytest.raises(CheckpointError, match=r"x\.safetensors: lacks the tensor 'ln_f\.weight'"):
        canonical(WHERE, CONFIG, in_file(arrays), sources)


def test_another_name_for_the_same() -> None:
    """The usual name goes before it. One module's other name may be another's usual one (Falcon's GGUF)."""
    sources = PLAIN | {"norm": Source("ln_f", also="blk.1.ln"), "blocks.{i}.mlp_norm": Source("blk.{i}.ln")}
    tensors = drawn(CONFIG)
    arrays = stored(CONFIG, tensors, sources)
    np.testing.assert_array_equal(back(CONFIG, arrays, sources)["norm.weight"], tensors["norm.weight"])
    for kind in ("weight", "bias"):
        del arrays[f"ln_f.{kind}"]
    np.testing.assert_array_equal(back(CONFIG, arrays, sources)["norm.bias"], tensors["blocks.1.mlp_norm.bias"])


@pytest.mark.parametrize("name", ["lm_head.weight", "embed_out.weight"])
def test_a_tied_head_under_another_name(name: str) -> None:
    config, sources = replace(CONFIG, tied_head=True), PLAIN | {"head": Source("lm_head", also="embed_out")}
    arrays = stored(config, drawn(config), sources)
    back(config, arrays | {name: arrays["wte.weight"]}, sources)
    with pytest.raises(CheckpointError, match=f"'{name}' differs from 'wte.weight'"):
        back(config, arrays | {name: arrays["wte.weight"] + 1}, sources)


def test_a_fused_tensor_of_another_size() -> None:
    sources = PLAIN | fused_qkv("h.{i}.qkv", groups="n_kv_head")
    arrays = stored(CONFIG, drawn(CONFIG), sources)
    arrays["h.1.qkv.weight"] = arrays["h.1.qkv.weight"][:-1]
    with pytest.raises(CheckpointError, match=r"'h\.1\.qkv\.weight' has shape \[47, 8\], but .* asks for \[48, 8\]"):
        canonical(WHERE, CONFIG, in_file(arrays), sources)


@given(
    n_kv_head=st.integers(1, 3),
    n_rep=st.integers(1, 3),
    half=st.integers(1, 3),
    n_inner=st.integers(1, 5),
    skip=st.integers(0, 3),
    transposed=st.booleans(),
    grouped=st.booleans(),
    interleaved=st.booleans(),
)
def test_whatever_is_stored_comes_back(
    n_kv_head: int, n_rep: int, half: int, n_inner: int, skip: int, transposed: bool, grouped: bool, interleaved: bool
) -> None:
    config = replace(CONFIG, n_head=n_kv_head * n_rep, n_kv_head=n_kv_head, head_dim=2 * half, n_inner=n_inner)
    groups = "n_kv_head" if grouped else None
    qkv = Source("h.{i}.qkv", transposed=transposed, groups=groups, interleaved=interleaved and not grouped)
    fused = {f"blocks.{{i}}.attn.{x}": qkv for x in "qkv"}
    fused |= {
        f"blocks.{{i}}.mlp.{x}": Source("h.{i}.gu", transposed=transposed, groups="n_inner") for x in ("gate", "up")
    }
    check_both_ways(config, PLAIN | fused | {"pos": Source("wpe", skip=skip)})
