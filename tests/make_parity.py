"""Make the goldens in tests/data/parity: tiny random checkpoints and the logits of the original implementation.

Run once, in an environment of its own, since no test needs torch:

    pip install torch==2.13.0 transformers==5.23.0 numpy
    python tests/make_parity.py

Each folder is a checkpoint as Hugging Face writes it, and ``expected.npz`` with ``ids`` (n_ctx,) and ``logits``
(n_ctx, n_vocab) in float64. The logits come from the transformers classes, reading that same folder, with every step
in float64, also those that the classes would do in float32 (see `widened`): what is left is rounding at 2**-53.
"""

from __future__ import annotations

import json
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    OpenAIGPTConfig,
    PretrainedConfig,
    PreTrainedModel,
)

FOLDER = Path(__file__).parent / "data" / "parity"


@dataclass(frozen=True)
class Golden:
    """One checkpoint: its folder, its configuration, the dtype it is stored in and the way it is written."""

    name: str
    config: PretrainedConfig
    dtype: torch.dtype
    max_shard_size: str = "1GB"
    bare_names: bool = (
        False  # GPT-1 and GPT-2 as first published: no "transformer." prefix, and the causal mask as a tensor
    )
    old_keys: bool = False  # config.json as transformers 4 wrote it


def gpt2(**changes: Any) -> GPT2Config:
    """A small GPT-2 of 2 layers; special tokens lie inside the small vocabulary."""
    base = {"vocab_size": 112, "n_positions": 24, "n_embd": 40, "n_layer": 2, "n_head": 5, "n_inner": 64}
    return GPT2Config(**{**base, "bos_token_id": 0, "eos_token_id": 1, **changes})


def gpt1(**changes: Any) -> OpenAIGPTConfig:
    """A small GPT-1 of 2 layers."""
    base = {"vocab_size": 107, "n_positions": 24, "n_embd": 28, "n_layer": 2, "n_head": 4}
    return OpenAIGPTConfig(**{**base, **changes})


def llama(theta: float, scaling: dict[str, Any] | None = None, **changes: Any) -> LlamaConfig:
    """A small Llama of 2 layers with grouped queries; special tokens lie inside the small vocabulary."""
    base = {"vocab_size": 112, "max_position_embeddings": 40, "hidden_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "intermediate_size": 80}
    rope = {"rope_type": "default", "rope_theta": theta, **(scaling or {})}
    tokens = {"bos_token_id": 0, "eos_token_id": 1}
    return LlamaConfig(**{**base, **heads, **tokens, "rope_parameters": rope, **changes})


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}

GOLDENS = [
    Golden("gpt2-head20", gpt2(n_head=2, n_inner=None), torch.float32),
    Golden(
        "gpt2-vocab101-gelu-inverse-layer",
        gpt2(
            vocab_size=101,
            activation_function="gelu",
            scale_attn_by_inverse_layer_idx=True,
            reorder_and_upcast_attn=True,
        ),
        torch.float16,
    ),
    Golden(
        "gpt2-inner77-untied-unscaled",
        gpt2(n_embd=48, n_head=3, n_inner=77, tie_word_embeddings=False, scale_attn_weights=False),
        torch.bfloat16,
    ),
    Golden("gpt2-bare-relu", gpt2(activation_function="relu"), torch.float32, bare_names=True, old_keys=True),
    Golden("llama-tied", llama(10000.0, tie_word_embeddings=True), torch.bfloat16),
    Golden(
        "llama-untied-sharded-multi-query",
        llama(100000.0, num_attention_heads=4, num_key_value_heads=1, head_dim=14, vocab_size=107),
        torch.float16,
        max_shard_size="30KB",
    ),
    Golden(
        "llama-llama3-rope-biases",
        llama(
            10000.0,
            {**LLAMA3, "original_max_position_embeddings": 32},
            num_attention_heads=3,
            num_key_value_heads=1,
            attention_bias=True,
            mlp_bias=True,
        ),
        torch.float32,
    ),
    Golden(
        "llama-linear-rope-gelu-multi-head",
        llama(
            500000.0,
            {"rope_type": "linear", "factor": 4.0},
            num_key_value_heads=6,
            intermediate_size=75,
            hidden_act="gelu_pytorch_tanh",
            rms_norm_eps=1e-3,
        ),
        torch.bfloat16,
        old_keys=True,
    ),
    Golden("gpt1", gpt1(), torch.float16),
    Golden("gpt1-bare-relu-untied", gpt1(afn="relu", tie_word_embeddings=False), torch.bfloat16, bare_names=True),
]


def fill(model: PreTrainedModel, rng: np.random.Generator) -> None:
    """Random weights that leave no step without effect: gains and biases too, and logits several units apart."""
    for name, parameter in model.named_parameters():
        values = rng.standard_normal(tuple(parameter.shape))
        if parameter.ndim == 1:
            values = 1.0 + 0.3 * values if name.endswith("weight") else 0.4 * values
        else:
            values *= 0.4 if "embed" in name or "wte" in name or "wpe" in name else 1.2 * values.shape[-1] ** -0.5
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(values))


def write(golden: Golden, model: PreTrainedModel, folder: Path) -> None:
    """The checkpoint folder, as this or an earlier transformers would write it."""
    model.save_pretrained(folder, max_shard_size=golden.max_shard_size)
    (folder / "generation_config.json").unlink()
    if golden.bare_names:
        tensors = load_file(folder / "model.safetensors")
        bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        n_ctx = golden.config.n_positions
        for layer in range(golden.config.n_layer):
            bare[f"h.{layer}.attn.bias"] = torch.ones(n_ctx, n_ctx).tril().view(1, 1, n_ctx, n_ctx)
            if golden.config.model_type == "gpt2":
                bare[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
        save_file(bare, folder / "model.safetensors", metadata={"format": "pt"})
    if golden.old_keys:
        path = folder / "config.json"
        config = json.loads(path.read_text())
        config["torch_dtype"] = config.pop("dtype")
        del config["tie_word_embeddings"]  # the class's own default stands for it
        if "n_positions" in config:
            config["n_ctx"] = config["n_positions"]
        if "rope_parameters" in config:
            rope = config.pop("rope_parameters")
            config["rope_theta"] = rope.pop("rope_theta")
            config["rope_scaling"] = {"type": rope.pop("rope_type"), **rope}
            del config["head_dim"]  # hidden_size / num_attention_heads here
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def widened() -> ExitStack:
    """A context that makes the classes' explicit float32 steps (norms, softmax, rotary angles) float64."""
    stack = ExitStack()
    stack.enter_context(patch.multiple(torch, float=torch.float64, float32=torch.float64))
    stack.enter_context(patch.object(torch.Tensor, "float", torch.Tensor.double))
    return stack


def expected_logits(folder: Path, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The logits (T, n_vocab) of the original implementation for the checkpoint in the folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager")
    with widened(), torch.no_grad():
        if model.config.model_type == "llama":
            model.model.rotary_emb = type(model.model.rotary_emb)(model.config)  # frequencies anew, in float64
        logits = model(torch.from_numpy(ids)[None]).logits[0]
    assert logits.dtype == torch.float64
    return np.asarray(logits)


def main() -> None:
    for seed, golden in enumerate(GOLDENS):
        folder = FOLDER / golden.name
        shutil.rmtree(folder, ignore_errors=True)
        rng = np.random.default_rng(seed)
        model = AutoModelForCausalLM.from_config(golden.config, dtype=golden.dtype)
        fill(model, rng)
        write(golden, model, folder)
        ids = rng.integers(golden.config.vocab_size, size=golden.config.max_position_embeddings)
        logits = expected_logits(folder, ids)
        np.savez(folder / "expected.npz", ids=ids, logits=logits)
        print(f"{golden.name}: logits of {logits.std():.2f} standard deviation, largest {np.abs(logits).max():.1f}")


if __name__ == "__main__":
    main()
