"""Make tests/data/gradients: tiny random checkpoints with the loss and the gradients that PyTorch computes for them.

Run once, in the environment of tests/make_parity.py, since no test needs torch:

    python tests/make_gradients.py [NAME ...]

Each folder is a checkpoint as Hugging Face writes it, and ``expected.npz`` in float64: ``ids`` and
``targets`` (B, T), where a target of -1 does not count, ``loss``, the mean cross-entropy in nats, and under each
parameter's own name its gradient. Everything is computed in float64, without dropout, by the transformers classes and
PyTorch's automatic differentiation.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_parity import fill, recompute_rotary, widened
from parity.gpt import gpt1, gpt2
from parity.gptj_bloom_opt import bloom, exact_gelu_tanh, gptj, opt
from parity.llama import llama
from parity.llama_kin import small
from parity.neox_kin import gpt_neox, rope
from transformers import AutoModelForCausalLM, Gemma2Config, GraniteConfig, Olmo2Config, PretrainedConfig, Qwen3Config

FOLDER = Path(__file__).parent / "data" / "gradients"
N_BATCH, N_TOKEN = 3, 7
TINY = {"vocab_size": 23, "max_position_embeddings": 9, "hidden_size": 16, "intermediate_size": 17}

CONFIGS: dict[str, PretrainedConfig] = {
    "gpt1": gpt1(vocab_size=23, n_positions=9, n_embd=10, n_head=2),
    "gpt2": gpt2(vocab_size=23, n_positions=9, n_embd=12, n_head=3, n_inner=17),
    "llama-untied": llama(
        100.0, vocab_size=23, max_position_embeddings=9, hidden_size=12, num_attention_heads=6,
        num_key_value_heads=2, head_dim=4, intermediate_size=17,
    ),
    "llama-tied-biases": llama(
        100.0, vocab_size=23, max_position_embeddings=9, hidden_size=12, num_attention_heads=4,
        num_key_value_heads=1, head_dim=4, intermediate_size=17, tie_word_embeddings=True, attention_bias=True,
        mlp_bias=True, hidden_act="gelu",
    ),
    "qwen3": small(Qwen3Config, **TINY, head_dim=4),
    "gemma2": small(
        Gemma2Config, **TINY, head_dim=4, query_pre_attn_scalar=3, sliding_window=3, attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
    ),
    "olmo2": small(Olmo2Config, **TINY),
    "granite": small(
        GraniteConfig, **TINY, embedding_multiplier=3.5, logits_scaling=0.75, residual_multiplier=0.6,
        attention_multiplier=0.5,
    ),
    "gpt_neox": gpt_neox(
        rope(100.0, partial_rotary_factor=0.5), vocab_size=23, max_position_embeddings=9, hidden_size=16,
        intermediate_size=17,
    ),
    "gptj": gptj(vocab_size=23, n_positions=9, n_embd=12, n_head=2),
    "bloom": bloom(vocab_size=23, seq_length=9, hidden_size=12, n_head=2),
    "opt-projected": opt(
        vocab_size=23, max_position_embeddings=9, hidden_size=12, num_attention_heads=2, ffn_dim=17,
        word_embed_proj_dim=10, do_layer_norm_before=False, pad_token_id=None,
    ),
}  # fmt: skip


def loss_and_gradients(
    folder: Path, ids: np.ndarray[Any, Any], targets: np.ndarray[Any, Any]
) -> dict[str, np.ndarray[Any, Any]]:
    """The loss and each parameter's gradient by its name, for the checkpoint in the folder."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    with widened():
        recompute_rotary(model)
        if model.config.model_type == "bloom":
            exact_gelu_tanh(model)
        logits = model(torch.from_numpy(ids)).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.from_numpy(targets).flatten(), ignore_index=-1
        )
        loss.backward()
    assert loss.dtype == torch.float64
    gradients = {name: np.asarray(parameter.grad) for name, parameter in model.named_parameters()}
    return {"loss": np.asarray(loss.detach()), **gradients}


def main() -> None:
    for seed, (name, config) in enumerate(CONFIGS.items()):
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        folder = FOLDER / name
        shutil.rmtree(folder, ignore_errors=True)
        rng = np.random.default_rng(seed)
        # Gains that are stored less 1 have few digits, so that they are the same in float32 when 1 is added.
        dtype = torch.bfloat16 if config.model_type.startswith("gemma") else torch.float32
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
        fill(model, rng)
        model.save_pretrained(folder)
        (folder / "generation_config.json").unlink()
        ids = rng.integers(config.vocab_size, size=(N_BATCH, N_TOKEN))
        targets = rng.integers(-1, config.vocab_size, size=(N_BATCH, N_TOKEN))
        targets[0, 0] = -1
        expected = loss_and_gradients(folder, ids, targets)
        np.savez(folder / "expected.npz", ids=ids, targets=targets, **expected)
        print(f"{name}: loss {expected['loss']:.3f}, {len(expected) - 1} gradients")


if __name__ == "__main__":
    main()
