"""Make the goldens in tests/data/parity: tiny random checkpoints and the logits of the original implementation.

Run once, in an environment of its own, since no test needs torch; which models are made says tests/parity:

    pip install torch==2.13.0 transformers==5.24.0 accelerate numpy
    python tests/make_parity.py [BEGINNING OF A NAME ...]

Each folder is a checkpoint as Hugging Face writes it, and ``expected.npz`` with ``ids`` (T,) and ``logits``
(T, n_vocab) in float64. The logits come from the transformers classes, reading that same folder, with every step
in float64, also those that the classes would do in float32 (see `widened`): what is left is rounding at 2**-53.
"""

from __future__ import annotations

import json
import shutil
import sys
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from parity import Golden, goldens
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedModel

FOLDER = Path(__file__).parent / "data" / "parity"


def fill(model: PreTrainedModel, rng: np.random.Generator) -> None:
    """Random weights that leave no step without effect: gains and biases too, and logits several units apart."""
    for name, parameter in model.named_parameters():
        values = rng.standard_normal(tuple(parameter.shape))
        if parameter.ndim == 1:
            stored = 0.0 if model.config.model_type.startswith("gemma") else 1.0  # of which 1 is taken off
            values = stored + 0.3 * values if name.endswith("weight") else 0.4 * values
        else:
            values *= 0.4 if "embed" in name or "wte" in name or "wpe" in name else 1.2 * values.shape[-1] ** -0.5
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(values))


def write(golden: Golden, model: PreTrainedModel, folder: Path) -> None:
    """The checkpoint folder, as this or an earlier transformers would write it."""
    model.save_pretrained(folder, max_shard_size=golden.max_shard_size)
    (folder / "generation_config.json").unlink()
    if golden.edit is not None:
        path, weights = folder / "config.json", folder / "model.safetensors"
        config, tensors = json.loads(path.read_text()), load_file(weights)
        golden.edit(config, tensors)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        save_file(tensors, weights, metadata={"format": "pt"})


def widened() -> ExitStack:
    """A context that makes the classes' explicit float32 steps (norms, softmax, rotary angles) float64."""
    stack = ExitStack()
    stack.callback(torch.set_default_dtype, torch.get_default_dtype())
    torch.set_default_dtype(torch.float64)
    stack.enter_context(patch.multiple(torch, float=torch.float64, float32=torch.float64))
    stack.enter_context(patch.object(torch.Tensor, "float", torch.Tensor.double))
    return stack


def recompute_rotary(model: PreTrainedModel) -> None:
    """The frequencies anew, in float64 where `widened`: a model computes them when it is made."""
    for module in model.modules():
        if (rotary := getattr(module, "rotary_emb", None)) is not None:
            module.rotary_emb = type(rotary)(rotary.config)


def expected_logits(golden: Golden, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The logits (T, n_vocab) of the original implementation for the checkpoint in the golden's folder."""
    model = AutoModelForCausalLM.from_pretrained(
        FOLDER / golden.name, dtype=torch.float64, attn_implementation=golden.attention
    )
    with widened(), torch.no_grad():
        recompute_rotary(model)
        if golden.mend is not None:
            golden.mend(model)
        logits = model(torch.from_numpy(ids)[None]).logits[0]
    assert logits.dtype == torch.float64
    return np.asarray(logits)


def make(golden: Golden) -> None:
    folder = FOLDER / golden.name
    shutil.rmtree(folder, ignore_errors=True)
    rng = np.random.default_rng(zlib.crc32(golden.name.encode()))
    model = AutoModelForCausalLM.from_config(golden.config, dtype=golden.dtype)
    fill(model, rng)
    write(golden, model, folder)
    text = golden.config.get_text_config()
    ids = rng.integers(text.vocab_size, size=golden.n_ctx or text.max_position_embeddings)
    logits = expected_logits(golden, ids)
    np.savez_compressed(folder / "expected.npz", ids=ids, logits=logits)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(
        f"{golden.name}: logits of {logits.std():.2f} standard deviation, largest {np.abs(logits).max():.1f}; "
        f"{size / 1000:.0f} KB"
    )


if __name__ == "__main__":
    for golden in goldens():
        if golden.name.startswith(tuple(sys.argv[1:]) or ""):
            make(golden)
