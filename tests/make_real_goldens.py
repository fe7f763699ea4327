"""Makes tests/data/real: what the original implementation says of a text, for real models.

    python tests/make_real_goldens.py NAME MODEL.gguf TEXT
    python tests/make_real_goldens.py stories260k stories260K.bin IDS

A GGUF file is read by transformers, whose dequantisation is that of the package gguf; the text is the first part of the
file TEXT, and its tokens are those of transformers' reading of the vocabulary. It does not read llama2.c's format: the
weights become its Llama here, and IDS is a file of token ids. All is computed in float64. Takes torch, transformers,
accelerate and gguf, in an environment of their own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedModel

DATA = Path(__file__).parent / "data" / "real"
CHARACTERS = 3000


def of_gguf(path: Path, text: str) -> tuple[PreTrainedModel, list[int]]:
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    ids = AutoTokenizer.from_pretrained(**where)(text)["input_ids"]
    return AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, attn_implementation="eager"), ids


def of_llama2c(path: Path) -> PreTrainedModel:
    """The format of llama2.c's first version: 7 sizes, then float32 (its run.c, memory_map_weights)."""
    d, inner, n_layer, n_head, n_kv, n_vocab, n_ctx = np.fromfile(path, np.int32, 7).tolist()
    rest = torch.from_numpy(np.fromfile(path, np.float32, offset=28))
    kv = d // n_head * n_kv

    def take(*shape: int) -> torch.Tensor:
        nonlocal rest
        values, rest = rest[: int(np.prod(shape))].reshape(shape), rest[int(np.prod(shape)) :]
        return values

    def halves(w: torch.Tensor, heads: int) -> torch.Tensor:
        """Rows that are turned in neighbouring pairs, in transformers' order."""
        return w.reshape(n_layer, heads, -1, 2, d).transpose(2, 3).reshape(w.shape)

    embed, attn_norm = take(n_vocab, d), take(n_layer, d)
    q, k, v, out = take(n_layer, d, d), take(n_layer, kv, d), take(n_layer, kv, d), take(n_layer, d, d)
    mlp_norm, gate, down = take(n_layer, d), take(n_layer, inner, d), take(n_layer, d, inner)
    layers = {
        "self_attn.q_proj": halves(q, n_head), "self_attn.k_proj": halves(k, n_kv), "self_attn.v_proj": v,
        "self_attn.o_proj": out, "input_layernorm": attn_norm, "post_attention_layernorm": mlp_norm,
        "mlp.gate_proj": gate, "mlp.down_proj": down, "mlp.up_proj": take(n_layer, inner, d),
    }  # fmt: skip
    state = {"model.embed_tokens.weight": embed, "lm_head.weight": embed, "model.norm.weight": take(d)}
    state |= {f"model.layers.{i}.{name}.weight": w[i] for name, w in layers.items() for i in range(n_layer)}
    config = {
        "vocab_size": n_vocab, "hidden_size": d, "intermediate_size": inner, "num_hidden_layers": n_layer,
        "num_attention_heads": n_head, "num_key_value_heads": n_kv, "max_position_embeddings": n_ctx,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "attn_implementation": "eager",
    }  # fmt: skip
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(state)
    return model


def main(name: str, path: Path, given: str) -> None:
    if path.suffix == ".gguf":
        given = given.strip()[:CHARACTERS]
        model, ids = of_gguf(path, given)
    else:
        model, ids = of_llama2c(path), list(map(int, given.split()))
    print(model.config)
    with torch.no_grad():
        logits = model.double()(torch.tensor([ids])).logits[0]
    assert logits.dtype == torch.float64
    log_probs = logits[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    DATA.mkdir(exist_ok=True)
    expected = log_probs.numpy().astype(np.float32)
    np.savez_compressed(DATA / f"{name}.npz", text=np.array(given), ids=np.array(ids, np.int32), log_probs=expected)
    print(f"{len(ids)} tokens, {-expected.mean():.4f} nats a token")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]).read_text(encoding="utf-8"))
