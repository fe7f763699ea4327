"""Makes tests/data/pickles: tiny files of `torch.save`, and the logits that the original implementations give for them.

Run it with torch and transformers installed: python tests/make_pickles.py. nanoGPT's and minGPT's model.py compute what
transformers' GPT-2 does with the exact GELU and with the tanh form; their matrices are stored (outputs, inputs).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

ROOT = Path(__file__).parent / "data" / "pickles"
IDS = [3, 16, 0, 7, 7, 12, 1]


def model(seed: int, activation: str = "gelu_new", tied: bool = True, bias: bool = True) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=17, n_positions=8, n_embd=12, n_layer=2, n_head=3, activation_function=activation,
        tie_word_embeddings=tied, bos_token_id=None, eos_token_id=None, attn_implementation="eager",
    )  # fmt: skip
    made = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for name, p in made.named_parameters():
            torch.nn.init.normal_(p, 1.0 if ".ln_" in name and name.endswith("weight") else 0.0, 0.4)
            if name.endswith("bias") and not bias:
                p.zero_()
    return made


def write_logits(folder: Path, made: GPT2LMHeadModel) -> None:
    with torch.no_grad():
        logits = made.double()(torch.tensor([IDS])).logits[0].numpy()
    np.savez_compressed(folder / "expected.npz", ids=np.array(IDS), logits=logits)


def linears(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same with the matrices of Conv1D as those of Linear."""
    return {k: v.T.contiguous() if v.ndim == 2 and ".h." in k else v for k, v in state.items()}


def hugging_face() -> None:
    made = model(1)
    state = {k: v.clone() for k, v in made.state_dict().items()}
    state["lm_head.weight"] = state["transformer.wte.weight"]  # one storage under two names
    for i in range(2):
        state[f"transformer.h.{i}.attn.bias"] = torch.tril(torch.ones(8, 8, dtype=torch.uint8)).view(1, 1, 8, 8)
    names = sorted(state)
    for kind in ("zip", "legacy", "sharded"):
        folder = ROOT / f"gpt2-{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        made.config.save_pretrained(folder)
        if kind != "sharded":
            torch.save(state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=kind == "zip")
            continue
        weight_map = {}
        for part in (0, 1):
            file = f"pytorch_model-0000{part + 1}-of-00002.bin"
            torch.save({k: state[k] for k in names[part::2]}, folder / file)
            weight_map |= dict.fromkeys(names[part::2], file)
        index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    write_logits(ROOT / "gpt2-zip", made)


def nanogpt() -> None:
    made = model(2, "gelu", bias=False)
    folder = ROOT / "nanogpt"
    folder.mkdir(parents=True, exist_ok=True)
    state = linears({k: v.clone() for k, v in made.state_dict().items()})
    state = {f"_orig_mod.{k}": v for k, v in state.items() if not k.endswith("bias")}
    moments = {0: {"step": torch.tensor(3.0), "exp_avg": torch.zeros(2, 3)}}
    checkpoint = {
        "model": state,
        "optimizer": {"state": moments, "param_groups": [{"lr": 6e-4, "betas": (0.9, 0.95), "params": [0]}]},
        "model_args": {
            "n_layer": 2, "n_head": 3, "n_embd": 12, "block_size": 8, "bias": False, "vocab_size": 17, "dropout": 0.0,
        },
        "iter_num": 5,
        "best_val_loss": torch.tensor(1.5),
        "config": {"out_dir": "out", "compile": True, "learning_rate": 1e-3},
    }  # fmt: skip
    torch.save(checkpoint, folder / "ckpt.pt")
    write_logits(folder, made)


def mingpt() -> None:
    made = model(3, tied=False)
    folder = ROOT / "mingpt"
    folder.mkdir(parents=True, exist_ok=True)
    state = linears({k: v.clone() for k, v in made.state_dict().items()})
    for i in range(2):
        state[f"transformer.h.{i}.attn.bias"] = torch.tril(torch.ones(8, 8)).view(1, 1, 8, 8)
    torch.save(state, folder / "model.pt")
    config = {"system": {"seed": 3407}, "model": {"model_type": "gpt-nano", "n_head": None, "vocab_size": None}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_logits(folder, made)


def views() -> None:
    """Tensors of each type and layout; expected.npz has the values."""
    base = torch.arange(24, dtype=torch.float32).view(4, 6) / 7
    tensors = {
        "whole": base, "transposed": base.T, "part": base[1:3, ::2], "scalar": torch.tensor(2.5), "none": base[:0],
        "half": base.half(), "bfloat16": base.bfloat16(), "double": base.double(), "long": torch.arange(3),
        "bool": torch.tensor([True, False]), "parameter": torch.nn.Parameter(base[0].clone()),
    }  # fmt: skip
    folder = ROOT / "views"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tensors, folder / "zip.pt")
    torch.save(tensors, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(tensors, folder / "protocol4.pt", pickle_protocol=4)
    np.savez_compressed(folder / "expected.npz", **{k: v.detach().float().numpy() for k, v in tensors.items()})


if __name__ == "__main__":
    hugging_face()
    nanogpt()
    mingpt()
    views()
