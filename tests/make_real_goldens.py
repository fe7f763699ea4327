"""Makes tests/data/real: what the original implementation says of a text, for the models of tests/real_models.py.

    python tests/make_real_goldens.py NAME MODEL.gguf TEXT

MODEL.gguf is read by transformers, whose dequantisation is that of the package gguf, and computed with in float64. The
text is the first part of TEXT; its tokens are those of transformers' reading of the file's vocabulary. Takes torch,
transformers, accelerate and gguf, in an environment of their own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

DATA = Path(__file__).parent / "data" / "real"
CHARACTERS = 3000


def main(name: str, path: Path, text: str) -> None:
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    ids = AutoTokenizer.from_pretrained(**where)(text)["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, attn_implementation="eager").double()
    print(model.config)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
    assert logits.dtype == torch.float64
    log_probs = logits[:-1].log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    DATA.mkdir(exist_ok=True)
    expected = log_probs.numpy().astype(np.float32)
    np.savez_compressed(DATA / f"{name}.npz", text=np.array(text), ids=np.array(ids, np.int32), log_probs=expected)
    print(f"{len(ids)} tokens, {-expected.mean():.4f} nats a token")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]).read_text(encoding="utf-8").strip()[:CHARACTERS])
