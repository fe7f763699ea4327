"""Write a checkpoint folder of random weights, in the layout that Hugging Face transformers v5 saves.

    python bench/make_random.py OUT --shape gpt2-124M --seed 0

The weights are float32 draws of N(0, 0.02) (norm gains 1 + N(0, 0.02)), so speed and memory are those of the real
model while the text is noise. Tensors are written one at a time: memory stays at the largest of them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np

# n_embd, n_layer, n_head: Radford et al. 2019, table 2, as released
GPT2 = {"gpt2-124M": (768, 12, 12), "gpt2-355M": (1024, 24, 16), "gpt2-774M": (1280, 36, 20)}
GPT2["gpt2-smoke"] = (128, 2, 2)  # of no model: to see that something runs
# hidden, inner, layers, heads, key-value heads: Allal et al. 2025, arXiv:2502.02737
LLAMA = {"smollm2-135M": (576, 1536, 30, 9, 3)}
GPT2_VOCAB, GPT2_POSITIONS, LLAMA_VOCAB = 50257, 1024, 49152

Shapes = dict[str, tuple[int, ...]]


def gpt2_config(name: str) -> dict[str, Any]:
    """The config.json of one size of GPT-2."""
    n_embd, n_layer, n_head = GPT2[name]
    return {
        "activation_function": "gelu_new",
        "add_cross_attention": False,
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": GPT2_VOCAB - 1,
        "dtype": "float32",
        "embd_pdrop": 0.1,
        "eos_token_id": GPT2_VOCAB - 1,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_embd": n_embd,
        "n_head": n_head,
        "n_inner": None,
        "n_layer": n_layer,
        "n_positions": GPT2_POSITIONS,
        "pad_token_id": None,
        "reorder_and_upcast_attn": False,
        "resid_pdrop": 0.1,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": GPT2_VOCAB,
    }


def gpt2_tensors(name: str) -> Shapes:
    """Every tensor of the file; Conv1D matrices are (inputs, outputs)."""
    d, n_layer, _ = GPT2[name]
    shapes: Shapes = {"wte.weight": (GPT2_VOCAB, d), "wpe.weight": (GPT2_POSITIONS, d)}
    for i in range(n_layer):
        for part, n_in, n_out in (
            ("attn.c_attn", d, 3 * d),
            ("attn.c_proj", d, d),
            ("mlp.c_fc", d, 4 * d),
            ("mlp.c_proj", 4 * d, d),
        ):
            shapes[f"h.{i}.{part}.weight"] = (n_in, n_out)
            shapes[f"h.{i}.{part}.bias"] = (n_out,)
        for norm in ("ln_1", "ln_2"):
            shapes[f"h.{i}.{norm}.weight"] = shapes[f"h.{i}.{norm}.bias"] = (d,)
    shapes["ln_f.weight"] = shapes["ln_f.bias"] = (d,)
    return {f"transformer.{key}": shapes[key] for key in sorted(shapes)}


def llama_config(name: str) -> dict[str, Any]:
    """The config.json of one size of SmolLM2, whose architecture is Llama's."""
    hidden, inner, n_layer, n_head, n_kv_head = LLAMA[name]
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 0,
        "dtype": "float32",
        "eos_token_id": 0,
        "head_dim": hidden // n_head,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": inner,
        "max_position_embeddings": 8192,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": n_head,
        "num_hidden_layers": n_layer,
        "num_key_value_heads": n_kv_head,
        "rms_norm_eps": 1e-05,
        "rope_parameters": {"rope_theta": 100000, "rope_type": "default"},
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": LLAMA_VOCAB,
    }


def llama_tensors(name: str) -> Shapes:
    """Every tensor of the file; matrices are (outputs, inputs)."""
    d, inner, n_layer, n_head, n_kv_head = LLAMA[name]
    n_kv = d // n_head * n_kv_head
    shapes: Shapes = {"embed_tokens.weight": (LLAMA_VOCAB, d), "norm.weight": (d,)}
    for i in range(n_layer):
        for part, n_out in (("q", d), ("k", n_kv), ("v", n_kv), ("o", d)):
            shapes[f"layers.{i}.self_attn.{part}_proj.weight"] = (n_out, d)
        shapes[f"layers.{i}.mlp.gate_proj.weight"] = shapes[f"layers.{i}.mlp.up_proj.weight"] = (inner, d)
        shapes[f"layers.{i}.mlp.down_proj.weight"] = (d, inner)
        shapes[f"layers.{i}.input_layernorm.weight"] = (d,)
        shapes[f"layers.{i}.post_attention_layernorm.weight"] = (d,)
    return {f"model.{key}": shapes[key] for key in sorted(shapes)}


def write_safetensors(path: Path, shapes: Shapes, seed: int) -> None:
    """One float32 safetensors file: 8 bytes of header length, the JSON header, the data without holes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, shape in shapes.items():
        end = offset + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            values = rng.standard_normal(shape, dtype=np.float32)
            values *= np.float32(0.02)
            if len(shape) == 1 and name.endswith(".weight"):  # a norm's gains
                values += np.float32(1)
            file.write(values.astype("<f4", copy=False).data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a checkpoint folder of random weights.")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--shape", choices=[*GPT2, *LLAMA], default="gpt2-124M")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocabulary", type=Path, help="a folder of vocab.json and merges.txt, to be copied")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt") if args.vocabulary else ():
        if not (args.vocabulary / name).is_file():
            parser.error(f"--vocabulary {args.vocabulary} has no {name}")
        shutil.copyfile(args.vocabulary / name, args.out / name)
    if args.shape in GPT2:
        config, shapes = gpt2_config(args.shape), gpt2_tensors(args.shape)
    else:
        config, shapes = llama_config(args.shape), llama_tensors(args.shape)
    write_safetensors(args.out / "model.safetensors", shapes, args.seed)
    (args.out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
