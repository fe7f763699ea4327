"""Write a GPT-2 checkpoint folder of random weights, in the layout that Hugging Face transformers v5 saves.

    python bench/make_gpt2.py OUT --size 124M --seed 0

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

import numpy as np

SIZES = {  # n_embd, n_layer, n_head (Radford et al. 2019, table 2, as released)
    "124M": (768, 12, 12),
    "355M": (1024, 24, 16),
    "774M": (1280, 36, 20),
}
N_VOCAB, N_POSITIONS, END_OF_TEXT = 50257, 1024, 50256
VOCABULARY = Path(__file__).resolve().parents[2] / "shared" / "data" / "gpt2-bpe"


def config(size: str) -> dict[str, object]:
    """The config.json of one size."""
    n_embd, n_layer, n_head = SIZES[size]
    return {
        "activation_function": "gelu_new",
        "add_cross_attention": False,
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": END_OF_TEXT,
        "dtype": "float32",
        "embd_pdrop": 0.1,
        "eos_token_id": END_OF_TEXT,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_embd": n_embd,
        "n_head": n_head,
        "n_inner": None,
        "n_layer": n_layer,
        "n_positions": N_POSITIONS,
        "pad_token_id": None,
        "reorder_and_upcast_attn": False,
        "resid_pdrop": 0.1,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
        "use_cache": True,
        "vocab_size": N_VOCAB,
    }


def tensor_shapes(size: str) -> dict[str, tuple[int, ...]]:
    """Every tensor of the file; Conv1D matrices are (inputs, outputs)."""
    d, n_layer, _ = SIZES[size]
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (N_VOCAB, d), "wpe.weight": (N_POSITIONS, d)}
    for i in range(n_layer):
        for name, n_in, n_out in (
            ("attn.c_attn", d, 3 * d),
            ("attn.c_proj", d, d),
            ("mlp.c_fc", d, 4 * d),
            ("mlp.c_proj", 4 * d, d),
        ):
            shapes[f"h.{i}.{name}.weight"] = (n_in, n_out)
            shapes[f"h.{i}.{name}.bias"] = (n_out,)
        for norm in ("ln_1", "ln_2"):
            shapes[f"h.{i}.{norm}.weight"] = shapes[f"h.{i}.{norm}.bias"] = (d,)
    shapes["ln_f.weight"] = shapes["ln_f.bias"] = (d,)
    return {f"transformer.{name}": shapes[name] for name in sorted(shapes)}


def write_safetensors(path: Path, shapes: dict[str, tuple[int, ...]], seed: int) -> None:
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
            if ".ln_" in name and name.endswith(".weight"):
                values += np.float32(1)
            file.write(values.astype("<f4", copy=False).data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a GPT-2 checkpoint folder of random weights.")
    parser.add_argument("out", type=Path, help="the folder to write")
    parser.add_argument("--size", choices=list(SIZES), default="124M")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocabulary", type=Path, default=VOCABULARY, help="a folder with vocab.json and merges.txt")
    args = parser.parse_args()
    for name in ("vocab.json", "merges.txt"):
        if not (args.vocabulary / name).is_file():
            parser.error(f"--vocabulary {args.vocabulary} has no {name}")
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ("vocab.json", "merges.txt"):
        shutil.copyfile(args.vocabulary / name, args.out / name)
    write_safetensors(args.out / "model.safetensors", tensor_shapes(args.size), args.seed)
    (args.out / "config.json").write_text(json.dumps(config(args.size), indent=2) + "\n", encoding="utf-8")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
