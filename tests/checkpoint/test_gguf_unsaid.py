"""What GGUF files leave out or put in another way, as llama.cpp reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pygpt import checkpoint
from pygpt.checkpoint.canonical import stored
from pygpt.checkpoint.gguf_parts import parse_parts
from pygpt.config import ModelConfig
from pygpt.errors import ConfigError
from pygpt.families import by_architecture
from pygpt.families.base import fused_qkv

DATA = Path(__file__).parents[1] / "data" / "gguf"


def file_of(architecture: str) -> Path:
    return next(DATA.glob(f"{architecture}.*.gguf"))


def rewritten(writer: Any, target: Path, architecture: str, fused: bool = False, **changes: object) -> Path:
    """The file of an architecture with other metadata (None: without a key), or with q, k and v as one."""
    path = file_of(architecture)
    config, tensors, _ = checkpoint.read(path)
    sources = {**by_architecture(architecture, "")[1].sources, **(fused_qkv("blk.{i}.attn_qkv") if fused else {})}
    arrays = stored(config, {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}, sources)
    metadata = {k: v for k, v in parse_parts(path).metadata.items() if k.startswith(f"{architecture}.")}
    metadata |= {f"{architecture}.{key.replace('__', '.')}": value for key, value in changes.items()}
    known = {key: value for key, value in metadata.items() if value is not None}
    written: Path = writer.write(target / "x.gguf", architecture, known, arrays, {})
    return written


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "phi2", "gemma3", "starcoder2"])
def test_queries_keys_and_values_may_be_one(architecture: str, tmp_path: Path, writer: Any) -> None:
    config, tensors, _ = checkpoint.read(file_of(architecture))
    found, same, _ = checkpoint.read(rewritten(writer, tmp_path, architecture, fused=True))
    assert found == config
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(np.asarray(same[name], np.float32), np.asarray(tensor, np.float32), err_msg=name)


def read(writer: Any, target: Path, architecture: str, **changes: object) -> ModelConfig:
    return checkpoint.read(rewritten(writer, target, architecture, **changes))[0]


@pytest.mark.parametrize("scale", [None, 0.0])
def test_granite_scales_scores_as_others_do_unless_the_file_says(scale: object, tmp_path: Path, writer: Any) -> None:
    config = read(writer, tmp_path, "granite", attention__scale=scale)
    assert {layer.attn_scale for layer in config.layers} == {config.head_dim**-0.5}


def test_no_default_takes_the_place_of_a_cap_of_0(tmp_path: Path, writer: Any) -> None:
    assert read(writer, tmp_path, "gemma2", final_logit_softcapping=0.0).logit_cap is None


@pytest.mark.parametrize("bias", [None, 0.0])
def test_mpt_has_alibi_where_the_file_says_so(bias: object, tmp_path: Path, writer: Any) -> None:
    with pytest.raises(ConfigError, match=r"alibi.* is False, but must be true"):
        read(writer, tmp_path, "mpt", attention__max_alibi_bias=bias)
