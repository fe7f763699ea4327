"""`checkpoint.read`: layouts, names, and agreement between configuration and tensors."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pygpt import _core, checkpoint
from pygpt.checkpoint.tensor import MappedFile
from pygpt.errors import CheckpointError, ConfigError, TokenizerError

Array = NDArray[Any]
ATTENTION = "h.1.attn.c_attn"


def values(path: Path) -> dict[str, Array]:
    """Every canonical tensor as float32."""
    config, tensors, _ = checkpoint.read(path)
    assert {name: t.shape for name, t in tensors.items()} == config.tensor_shapes()
    arrays = {name: np.asarray(t) for name, t in tensors.items()}
    assert {name: a.shape for name, a in arrays.items()} == config.tensor_shapes()
    assert all(a.dtype == np.float32 for a in arrays.values())
    return arrays


def same(a: dict[str, Array], b: dict[str, Array]) -> None:
    assert list(a) == list(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_gpt2_bare_names(tmp_path: Path, gpt2: Any) -> None:
    got, t = values(gpt2.write(tmp_path)), gpt2.tensors
    np.testing.assert_array_equal(got["embed.weight"], t["wte.weight"])
    np.testing.assert_array_equal(got["pos.weight"], t["wpe.weight"])
    for part, letter in enumerate("qkv"):
        columns = slice(6 * part, 6 * part + 6)
        np.testing.assert_array_equal(got[f"blocks.1.attn.{letter}.weight"], t[f"{ATTENTION}.weight"][:, columns].T)
        np.testing.assert_array_equal(got[f"blocks.1.attn.{letter}.bias"], t[f"{ATTENTION}.bias"][columns])
    for name, module in {"attn.out": "attn.c_proj", "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}.items():
        np.testing.assert_array_equal(got[f"blocks.0.{name}.weight"], t[f"h.0.{module}.weight"].T)
        np.testing.assert_array_equal(got[f"blocks.0.{name}.bias"], t[f"h.0.{module}.bias"])
    for name, module in {"blocks.1.attn_norm": "h.1.ln_1", "blocks.1.mlp_norm": "h.1.ln_2", "norm": "ln_f"}.items():
        for kind in ("weight", "bias"):
            np.testing.assert_array_equal(got[f"{name}.{kind}"], t[f"{module}.{kind}"])


def test_gpt2_prefixed_names_buffers_and_tied_head(tmp_path: Path, gpt2: Any) -> None:
    bare = values(gpt2.write(tmp_path / "bare"))
    buffers = {f"transformer.h.{i}.attn.bias": np.ones((1, 1, 5, 5), bool) for i in range(2)}
    buffers |= {f"transformer.h.{i}.attn.masked_bias": np.array(-1e4, np.float32) for i in range(2)}
    head = {"lm_head.weight": gpt2.tensors["wte.weight"]}
    same(bare, values(gpt2.write(tmp_path / "prefixed", gpt2.prefixed())))
    same(bare, values(gpt2.write(tmp_path / "all", gpt2.prefixed() | buffers | head)))
    bare_buffers = {name.removeprefix("transformer."): array for name, array in buffers.items()}
    same(bare, values(gpt2.write(tmp_path / "hub", gpt2.tensors | bare_buffers)))


def test_gpt2_untied_head(tmp_path: Path, gpt2: Any) -> None:
    gpt2.config["tie_word_embeddings"] = False
    head = np.random.default_rng(3).standard_normal((11, 6), dtype=np.float32)
    got = values(gpt2.write(tmp_path / "with", gpt2.prefixed() | {"lm_head.weight": head}))
    np.testing.assert_array_equal(got["head.weight"], head)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: lacks the tensor 'lm_head.weight'"):
        checkpoint.read(gpt2.write(tmp_path / "without"))


def test_llama_names(tmp_path: Path, llama: Any) -> None:
    got, t = values(llama.write(tmp_path / "a")), llama.tensors
    modules = {
        "attn.q": "self_attn.q_proj", "attn.k": "self_attn.k_proj", "attn.v": "self_attn.v_proj",
        "attn.out": "self_attn.o_proj", "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj",
        "mlp.down": "mlp.down_proj", "attn_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm",
    }  # fmt: skip
    for name, module in modules.items():
        np.testing.assert_array_equal(got[f"blocks.1.{name}.weight"], t[f"model.layers.1.{module}.weight"])
    np.testing.assert_array_equal(got["norm.weight"], t["model.norm.weight"])
    buffers = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2, np.float32)}
    same(got, values(llama.write(tmp_path / "b", t | buffers)))
    same(got, values(llama.write(tmp_path / "c", {k.removeprefix("model."): v for k, v in t.items()})))


def test_llama_untied_with_biases(tmp_path: Path, llama: Any) -> None:
    llama.config |= {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}
    biases = {
        name.replace(".weight", ".bias"): np.full(array.shape[0], 0.5, np.float32)
        for name, array in llama.tensors.items()
        if "_proj" in name
    }
    head = {"lm_head.weight": llama.tensors["model.embed_tokens.weight"] + 1}
    got = values(llama.write(tmp_path, llama.tensors | biases | head))
    np.testing.assert_array_equal(got["head.weight"], head["lm_head.weight"])
    assert got["blocks.1.attn.out.bias"].tolist() == [0.5] * 8


def test_sixteen_bit_types(tmp_path: Path, gpt2: Any, to_bfloat16: Callable[[Array], Array]) -> None:
    half = {name: array.astype(np.float16) for name, array in gpt2.tensors.items()}
    _, tensors, _ = checkpoint.read(gpt2.write(tmp_path / "half", half))
    q = tensors["blocks.0.attn.q.weight"]
    assert (q.dtype, q.raw().dtype) == ("float16", np.float16)
    np.testing.assert_array_equal(np.asarray(q), half["h.0.attn.c_attn.weight"][:, :6].T.astype(np.float32))
    brain = {name: to_bfloat16(array) for name, array in gpt2.tensors.items()}
    _, tensors, _ = checkpoint.read(gpt2.write(tmp_path / "brain", brain))
    q = tensors["blocks.0.attn.q.weight"]
    assert (q.dtype, q.raw().dtype) == ("bfloat16", np.uint16)
    whole = (brain["h.0.attn.c_attn.weight"].astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(np.asarray(q), whole[:, :6].T)
    np.testing.assert_allclose(np.asarray(q, np.float64), gpt2.tensors["h.0.attn.c_attn.weight"][:, :6].T, rtol=2**-7)


def test_raw_is_a_view_of_the_file(tmp_path: Path, gpt2: Any) -> None:
    _, tensors, _ = checkpoint.read(gpt2.write(tmp_path))
    for name, tensor in tensors.items():
        raw = tensor.raw()
        assert not raw.flags.owndata, name
        assert not raw.flags.writeable, name
    q = tensors["blocks.0.attn.q.weight"].raw()
    assert q.strides == (4, 4 * 18)  # GPT-2's Conv1D, transposed in place
    assert tensors["blocks.0.attn.q.weight"].__array__(copy=True).flags.writeable
    assert not tensors["blocks.0.attn.q.weight"].__array__(copy=False).flags.writeable
    with pytest.raises(ValueError, match="float64 takes a copy"):
        tensors["blocks.0.attn.q.weight"].__array__(np.float64, copy=False)


def test_tensors_from_several_threads(tmp_path: Path, gpt2: Any) -> None:
    path = gpt2.write(tmp_path)
    expected = values(path)
    _, tensors, _ = checkpoint.read(path)
    names = [*tensors] * 20
    with ThreadPoolExecutor(4) as pool:
        for name, array in zip(names, pool.map(lambda name: np.asarray(tensors[name]), names), strict=True):
            np.testing.assert_array_equal(array, expected[name])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files through /proc")
def test_nothing_stays_open(tmp_path: Path, gpt2: Any) -> None:
    path = gpt2.write(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    values(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# Layouts


def test_folder_file_and_shards_agree(
    tmp_path: Path, llama: Any, packed: Callable[..., bytes], header_of: Callable[..., Any]
) -> None:
    folder = llama.write(tmp_path / "whole")
    expected = values(folder)
    same(expected, values(folder / "model.safetensors"))
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    same(expected, values(folder / "other.safetensors"))
    names = list(llama.tensors)
    weight_map = {name: f"model-{1 + (i % 3)}-of-3.safetensors" for i, name in enumerate(names)}
    (folder / "other.safetensors").unlink()
    for shard in set(weight_map.values()):
        part = {name: llama.tensors[name] for name in names if weight_map[name] == shard}
        (folder / shard).write_bytes(packed(*header_of(part)))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    same(expected, values(folder))


def test_a_folder_without_a_tokenizer(tmp_path: Path, gpt2: Any) -> None:
    assert checkpoint.read(gpt2.write(tmp_path))[2] is None


def test_a_tokenizer_is_read_when_it_is_used(tmp_path: Path, gpt2: Any) -> None:
    gpt2.config |= {"bos_token_id": 7, "eos_token_id": 5}
    folder = gpt2.write(tmp_path)
    (folder / "tokenizer.json").write_text('{"model": {"type": "Unigram"}}', encoding="utf-8")
    _, tensors, tokenizer = checkpoint.read(folder)
    assert np.asarray(tensors["norm.weight"]).shape == (6,)  # ids still work
    assert tokenizer is not None
    with pytest.raises(TokenizerError, match="to be a table"):
        tokenizer.encode("a")


def test_generation_config_names_the_end_tokens(tmp_path: Path, gpt2: Any) -> None:
    gpt2.config["eos_token_id"] = 5
    folder = gpt2.write(tmp_path)
    assert checkpoint.read(folder)[0].eos_ids == (5,)
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 6], "bos_token_id": null}', encoding="utf-8")
    assert checkpoint.read(folder)[0].eos_ids == (5, 6)


# What cannot be read


def spoil(gpt2: Any, change: str, array: Array | None) -> dict[str, Array]:
    tensors = dict(gpt2.tensors)
    if array is None:
        del tensors[change]
    else:
        tensors[change] = array
    return tensors


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("ln_f.bias", None, "lacks the tensor 'ln_f.bias', which its configuration asks for"),
        ("h.1.attn.c_attn.weight", None, r"lacks the tensor 'h.1.attn.c_attn.weight'"),
        ("h.2.ln_1.weight", np.ones(6, np.float32), "holds the tensor 'h.2.ln_1.weight', which this architecture"),
        ("mystery", np.ones(6, np.float32), "holds the tensor 'mystery'"),
        ("wte.weight", np.ones((12, 6), np.float32), r"'wte.weight' has shape \[12, 6\], but .* asks for \[11, 6\]"),
        ("h.0.attn.c_attn.weight", np.ones((18, 6), np.float32), r"has shape \[18, 6\], but .* asks for \[6, 18\]"),
        ("h.0.attn.c_attn.bias", np.ones((1, 18), np.float32), r"has shape \[1, 18\], but .* asks for \[18\]"),
        ("h.0.mlp.c_fc.weight", np.ones((6, 24), np.float32), r"has shape \[6, 24\], but .* asks for \[6, 10\]"),
        ("ln_f.weight", np.ones(6, np.float64), "'ln_f.weight' has dtype F64, but weights must be F32, F16 or BF16"),
        ("ln_f.weight", np.ones(6, np.int64), "'ln_f.weight' has dtype I64"),
        ("transformer.wte.weight", np.ones((11, 6), np.float32), "holds both 'wte.weight' and 'transformer.wte"),
    ],
)
def test_tensors_that_disagree_with_the_configuration(
    tmp_path: Path, gpt2: Any, name: str, array: Array | None, message: str
) -> None:
    folder = gpt2.write(tmp_path, spoil(gpt2, name, array))
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.read(folder)
    assert str(folder / "model.safetensors") in str(caught.value)


def test_many_missing_tensors_are_listed_briefly(tmp_path: Path, gpt2: Any) -> None:
    gpt2.config["n_layer"] = 20
    with pytest.raises(CheckpointError, match=r"lacks the tensors 'h.2.ln_1.weight', .* and 211 more"):
        checkpoint.read(gpt2.write(tmp_path))


def test_absurdly_many_layers_make_no_names(tmp_path: Path, gpt2: Any) -> None:
    gpt2.config["n_layer"] = 2**31 - 1  # a name for each would take hours
    with pytest.raises(ConfigError, match=r"n_layer must be .* at most 65536, not 2147483647"):
        checkpoint.read(gpt2.write(tmp_path))


def test_a_llama_under_gpt2s_configuration(tmp_path: Path, gpt2: Any, llama: Any) -> None:
    with pytest.raises(CheckpointError, match=r"lacks the tensors 'wte.weight'"):
        checkpoint.read(gpt2.write(tmp_path, llama.tensors))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000])
def test_config_that_is_not_a_table(tmp_path: Path, gpt2: Any, text: str) -> None:
    folder = gpt2.write(tmp_path)
    (folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.json: not"):
        checkpoint.read(folder)


def test_missing_config(tmp_path: Path, gpt2: Any) -> None:
    folder = gpt2.write(tmp_path)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json: no such file"):
        checkpoint.read(folder)


def test_a_folder_without_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint here: looked for model\.safetensors, model\.safetensors"):
        checkpoint.read(tmp_path)
    (tmp_path / "adapter_config.json").touch()
    with pytest.raises(CheckpointError, match=r"\*\.pt; this is an adapter: merge it"):
        checkpoint.read(tmp_path)


def test_a_path_that_is_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file or folder"):
        checkpoint.read(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"aaa: cannot be read: File name too long$"):
        checkpoint.read(tmp_path / ("a" * 999))
    (tmp_path / "x.onnx").touch()
    with pytest.raises(
        CheckpointError, match=r"x\.onnx: expected a \.safetensors, \.gguf, \.bin or \.pt file, or a folder"
    ):
        checkpoint.read(tmp_path / "x.onnx")


def test_what_is_forgotten_comes_back_from_the_file(tmp_path: Path, gpt2: Any) -> None:
    """Views, transposed ones and copies; a file that pygpt only reads cannot lose a value."""
    _, tensors, _ = checkpoint.read(gpt2.write(tmp_path))
    for name in ("embed.weight", "blocks.1.attn.k.weight", "norm.bias"):
        values = tensors[name].raw()
        before = values.copy()
        checkpoint.forget(values)
        checkpoint.forget(before)  # ordinary memory is left alone
        np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("section", [slice(None), slice(0, 16 * 21), slice(100, 16 * 21 + 3)])
def test_a_view_of_a_file_is_packed_as_its_values_are(tmp_path: Path, gpt2: Any, order: Any, section: slice) -> None:
    """Stored by rows, or by columns; whole, or a part of a file's tensor."""
    array = np.random.default_rng(0).standard_normal((1000, 200), np.float32)
    path = tmp_path / "values"
    path.write_bytes(bytes(12) + array.tobytes(order))
    stored = MappedFile(path).array(12, array.shape[:: 1 if order == "C" else -1], array.dtype, "values")
    view = (stored if order == "C" else stored.T)[section]
    config, _, _ = checkpoint.read(gpt2.write(tmp_path))
    config = dataclasses.replace(config, n_vocab=len(view), n_embd=200, n_head=2, head_dim=100)
    packed = []
    for values, file in ((array[section], None), (view, checkpoint.file_of(view))):
        assert (file is None) == (values is not view)
        builder = _core.EngineBuilder(config, weights="int8", kv="float16", threads=2, isa=None)
        for name, shape in config.tensor_shapes().items():
            if name == "embed.weight":
                builder.add(name, values, "float32", file=file)
            else:
                builder.add(name, np.zeros(shape, np.float32), "float32")
        packed.append(builder.build().tensors())
    for name, (_, found) in packed[1].items():
        np.testing.assert_array_equal(found, packed[0][name][1])


def test_a_file_that_is_cut_while_it_is_packed_is_an_error(tmp_path: Path, gpt2: Any) -> None:
    config, tensors, _ = checkpoint.read(gpt2.write(tmp_path))
    values = tensors["embed.weight"].raw()
    (tmp_path / "model.safetensors").write_bytes(b"")
    builder = _core.EngineBuilder(config, weights="int8", kv="float16", threads=2, isa=None)
    with pytest.raises(ValueError, match="has become shorter"):
        builder.add("embed.weight", values, "float32", file=checkpoint.file_of(values))
