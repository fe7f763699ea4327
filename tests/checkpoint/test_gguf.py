"""GGUF files: written here byte by byte or by the package gguf, read by pygpt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pygpt import Model, checkpoint
from pygpt.config import RopeScaling
from pygpt.errors import CheckpointError, ConfigError

gguf = pytest.importorskip("gguf")

Array = NDArray[Any]


def test_llama_equals_its_hugging_face_folder(writer: Any, tmp_path: Path, llama: Any) -> None:
    """The same configuration and, q and k put back in order, the same tensors."""
    llama.config |= {"tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2}
    llama.tensors["lm_head.weight"] = llama.tensors["model.embed_tokens.weight"] + 1
    config, tensors, _ = checkpoint.read(llama.write(tmp_path / "hf"))
    got_config, got, tokenizer = checkpoint.read(writer.write_llama(tmp_path / "x.gguf", llama))
    assert got_config == config
    assert tokenizer is None
    assert list(got) == list(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(np.asarray(got[name]), np.asarray(tensor), err_msg=name)


def test_gpt2_equals_its_hugging_face_folder(writer: Any, tmp_path: Path, gpt2: Any) -> None:
    config, tensors, _ = checkpoint.read(gpt2.write(tmp_path / "hf"))
    metadata = {
        "gpt2.block_count": 2, "gpt2.context_length": 5, "gpt2.embedding_length": 6, "gpt2.feed_forward_length": 10,
        "gpt2.attention.head_count": 2, "gpt2.attention.layer_norm_epsilon": 1e-5,
    }  # fmt: skip
    path = writer.write(tmp_path / "x.gguf", "gpt2", metadata, writer.gpt2_tensors(gpt2.tensors), {})
    got_config, got, _ = checkpoint.read(tmp_path / "x.gguf")
    assert got_config == config
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(np.asarray(got[name]), np.asarray(tensor), err_msg=name)
    (tmp_path / "folder").mkdir()
    path.rename(tmp_path / "folder" / "x.gguf")
    assert checkpoint.read(tmp_path / "folder")[0] == config  # a folder that holds one
    (tmp_path / "folder" / "y.gguf").touch()
    with pytest.raises(
        CheckpointError, match=r"holds several files of a model \(x\.gguf, y\.gguf\): give the path of one"
    ):
        checkpoint.read(tmp_path / "folder")


@pytest.mark.parametrize("kind", ["F16", "BF16"])
def test_sixteen_bits(writer: Any, tmp_path: Path, llama: Any, kind: str) -> None:
    arrays = writer.llama_tensors(llama.tensors, 4, 2)
    types = {name: kind for name, array in arrays.items() if array.ndim == 2}
    _, tensors, _ = checkpoint.read(
        writer.write(tmp_path / "x.gguf", "llama", writer.llama_metadata(llama.config), arrays, types)
    )
    tensor = tensors["blocks.1.mlp.up.weight"]
    assert tensor.dtype == {"F16": "float16", "BF16": "bfloat16"}[kind]
    np.testing.assert_allclose(np.asarray(tensor), llama.tensors["model.layers.1.mlp.up_proj.weight"], rtol=2**-8)
    np.testing.assert_allclose(
        np.asarray(tensors["blocks.1.attn.q.weight"]),
        llama.tensors["model.layers.1.self_attn.q_proj.weight"],
        rtol=2**-8,
    )


def test_quantised_tensors(writer: Any, tmp_path: Path) -> None:
    """Through `read`: rows of 32 values, so that q and k are dequantised before their rows change places."""
    rng = np.random.default_rng(6)
    hf = {
        "model.embed_tokens.weight": (11, 32), "model.norm.weight": (32,),
        **{f"model.layers.0.self_attn.{p}_proj.weight": (32 if p in "qo" else 16, 32) for p in "qkvo"},
        **{f"model.layers.0.mlp.{p}_proj.weight": (64, 32) for p in ("gate", "up")},
        "model.layers.0.mlp.down_proj.weight": (32, 64),
        **{f"model.layers.0.{n}_layernorm.weight": (32,) for n in ("input", "post_attention")},
    }  # fmt: skip
    tensors = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in hf.items()}
    config = {
        "num_hidden_layers": 1, "max_position_embeddings": 8, "hidden_size": 32, "intermediate_size": 64, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rope_theta": 1e4, "rms_norm_eps": 1e-6,
    }  # fmt: skip
    arrays = writer.llama_tensors(tensors, 4, 2)
    types = {name: "Q8_0" for name, array in arrays.items() if array.ndim == 2} | {"blk.0.attn_v.weight": "Q5_1"}
    _, got, _ = checkpoint.read(
        writer.write(tmp_path / "x.gguf", "llama", writer.llama_metadata(config), arrays, types)
    )
    for canonical, name in {
        "embed": "model.embed_tokens", "blocks.0.attn.q": "model.layers.0.self_attn.q_proj",
        "blocks.0.attn.k": "model.layers.0.self_attn.k_proj", "blocks.0.attn.v": "model.layers.0.self_attn.v_proj",
        "blocks.0.mlp.down": "model.layers.0.mlp.down_proj",
    }.items():  # fmt: skip
        tensor = got[f"{canonical}.weight"]
        assert tensor.dtype == "Q5_1" if canonical.endswith(".v") else "Q8_0"
        np.testing.assert_allclose(np.asarray(tensor), tensors[f"{name}.weight"], atol=0.15)


# Configuration


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"llama.block_count": None}, "x.gguf lacks the key 'llama.block_count'"),
        ({"llama.attention.layer_norm_rms_epsilon": None}, "lacks the key 'llama.attention.layer_norm_rms_epsilon'"),
        ({"llama.attention.head_count": [4, 2]}, "llama.attention.head_count is"),
        ({"llama.attention.value_length": 2}, "llama.attention.value_length is 2, but must be 4"),
        ({"llama.attention.key_length_swa": 2}, "llama.attention.key_length_swa is 2, but must be 4"),
        ({"llama.rope.dimension_count_swa": 2}, "llama.rope.dimension_count_swa is 2, but must be 4"),
        ({"llama.attention.scale": 0.25}, "llama.attention.scale is 0.25"),
        ({"llama.expert_group_count": 8}, "llama.expert_group_count is 8, but must be 0 or 1"),
        ({"llama.attention.sliding_window": 8}, "llama.attention.sliding_window is 8"),
        (
            {"llama.rope.dimension_count": 2},
            "rope.dimension_count / llama.attention.key_length is 0.5",
        ),
        ({"llama.rope.scaling.type": "su", "llama.rope.scaling.factor": 2.0}, "llama.rope.scaling.type is 'su'"),
        ({"llama.rope.scaling.type": "linear"}, "lacks the key 'llama.rope.scaling.factor'"),
    ],
)
def test_metadata_that_pygpt_refuses(
    writer: Any, tmp_path: Path, llama: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        checkpoint.read(writer.write_llama(tmp_path / "x.gguf", llama, changes))
    assert "x.gguf" in str(caught.value)


def test_metadata_that_the_tensors_contradict(writer: Any, tmp_path: Path, llama: Any) -> None:
    with pytest.raises(CheckpointError, match=r"'blk.0.attn_k.weight' has shape \[8, 8\], but .* asks for \[16, 8\]"):
        checkpoint.read(writer.write_llama(tmp_path / "x.gguf", llama, {"llama.attention.head_count_kv": 4}))
    with pytest.raises(CheckpointError, match=r"lacks the tensors 'blk.2.attn_norm.weight'"):
        checkpoint.read(writer.write_llama(tmp_path / "x.gguf", llama, {"llama.block_count": 3}))
    with pytest.raises(CheckpointError, match=r"holds the tensor 'blk.0.attn_q_norm.weight'"):
        checkpoint.read(
            writer.write_llama(tmp_path / "x.gguf", llama, blk__0__attn_q_norm__weight=np.ones(4, np.float32))
        )


def test_another_architecture(writer: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"general.architecture is 'mamba'"):
        checkpoint.read(writer.write(tmp_path / "x.gguf", "mamba", {}, {"a": np.ones(1, np.float32)}, {}))


def test_linear_rope_scaling(writer: Any, tmp_path: Path, llama: Any) -> None:
    changes = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    config, _, _ = checkpoint.read(writer.write_llama(tmp_path / "x.gguf", llama, changes))
    assert config.layers[1].rope is not None
    assert config.layers[1].rope.scaling == RopeScaling(kind="linear", factor=4.0)


def test_llama3_frequencies(writer: Any, tmp_path: Path, llama: Any) -> None:
    """GGUF holds Llama 3's schedule as one divisor for each frequency."""
    llama.config |= {"rope_theta": 1e9}  # with which even two frequencies reach the whole factor
    scaling = {
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    plain, _, _ = checkpoint.read(llama.write(tmp_path / "plain"))
    llama.config["rope_scaling"] = scaling
    scaled, _, _ = checkpoint.read(llama.write(tmp_path / "scaled"))
    before, after = plain.layers[0].rope, scaled.layers[0].rope
    assert before is not None
    assert after is not None
    divisors = np.divide(before.inv_freq(), after.inv_freq()).astype(np.float32)
    config, _, _ = checkpoint.read(writer.write_llama(tmp_path / "x.gguf", llama, rope_freqs__weight=divisors))
    assert config.layers == scaled.layers
    other = np.array([2.0, 3.0], np.float32)
    config, _, _ = checkpoint.read(writer.write_llama(tmp_path / "x.gguf", llama, rope_freqs__weight=other))
    assert config.layers[0].rope is not None
    np.testing.assert_allclose(config.layers[0].rope.inv_freq(), np.divide(before.inv_freq(), [2, 3]), rtol=1e-15)
    assert config.layers[0].rope.attention_factor() == 1
    assert config.n_ctx == plain.n_ctx
    less = np.array([1.0, 0.5], np.float32)
    with pytest.raises(ConfigError, match=r"each of rope scaling's short_factor must be at least 1"):
        checkpoint.read(writer.write_llama(tmp_path / "x.gguf", llama, rope_freqs__weight=less))
    with pytest.raises(CheckpointError, match=r"rope_freqs.weight has shape \[5\]"):
        checkpoint.read(writer.write_llama(tmp_path / "x.gguf", llama, rope_freqs__weight=np.ones(5, np.float32)))


# Damage


@pytest.fixture
def good(writer: Any, tmp_path: Path, llama: Any) -> bytes:
    return writer.write_llama(tmp_path / "good.gguf", llama).read_bytes()


def test_truncations_are_noticed(tmp_path: Path, good: bytes) -> None:
    path = tmp_path / "x.gguf"
    for size in range(0, len(good) - 31, 97):  # up to 31 bytes of padding may end the file
        path.write_bytes(good[:size])
        with pytest.raises(CheckpointError):
            checkpoint.read(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 2000), value=st.binary(min_size=1, max_size=8))
def test_spoilt_bytes_never_escape_as_another_error(tmp_path: Path, good: bytes, where: int, value: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(good[:where] + value + good[where + len(value) :])
    try:
        _, tensors, _ = checkpoint.read(path)
        for t in tensors.values():
            t.raw()
    except (CheckpointError, ConfigError):
        pass


def test_tokenizer_from_the_metadata(writer: Any, tmp_path: Path, llama: Any) -> None:
    tokens = [chr(i) for i in range(ord("a"), ord("a") + 9)] + ["ab", "<|end|>"]
    changes = {
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 10 + [3], "tokenizer.ggml.merges": ["a b"],
    }  # fmt: skip
    _, _, tokenizer = checkpoint.read(writer.write_llama(tmp_path / "x.gguf", llama, changes))
    assert tokenizer is not None
    assert tokenizer.encode("cab<|end|>", allow_special=True) == [2, 9, 10]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.n_vocab) == (1, 2, 11)


@pytest.mark.parametrize("key", ["unknown_token_id", "bos_token_id", "eos_token_id"])
@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6])
def test_a_token_of_any_type_may_be_put_to_use(llama: Any, writer: Any, tmp_path: Path, key: str, kind: int) -> None:
    """Also one whose type says that it is unused: it can be written, and means the same when it is read again."""
    tokens = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*"abcdefghi", "ab", "[X]"],
        "tokenizer.ggml.token_type": [1] * 10 + [kind],
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": True,
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
    }
    model = Model.load(
        writer.write_llama(tmp_path / "m.gguf", llama, tokens | {f"tokenizer.ggml.{key}": 10}), threads=1
    )
    model.save(tmp_path / "out")
    assert Model.load(tmp_path / "out", threads=1).tokenizer.encode("abc") == model.tokenizer.encode("abc")
