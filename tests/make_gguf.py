"""Makes the GGUF files of tests/data/gguf: the small checkpoints of tests/data/parity as llama.cpp's own converter
writes them, so that its names, keys and orders of rows are its own and not what pygpt takes them for.

    python tests/make_gguf.py LLAMA_CPP [NAME ...]

LLAMA_CPP is a folder of llama.cpp's sources (the source archive of llama-cpp-python 0.3.36 has one in vendor/). Takes
torch and transformers, in an environment of their own. NAME: only these checkpoints; else one of each architecture.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
CHECKPOINTS = (
    "bloom", "gemma", "gemma2", "gemma3", "gpt2-head20", "gpt_bigcode", "granite", "llama-untied-sharded-multi-query",
    "llama-yarn", "mpt", "olmo2-multi-head", "phi-half", "phi3-long", "phi3-short-partial", "phi3-window", "qwen2-tied",
    "qwen3-head14", "smollm3",
)  # fmt: skip


def convert(folder: Path, out: Path, converter: Any) -> None:
    """Without a vocabulary, which these checkpoints lack: but for the file that says how many tokens there are. The
    converter reads GPT-2's and MPT's config.json as those on the hub are, which transformers writes no longer."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["n_ctx"] = config.get("n_positions")
    config["architectures"] = [name.replace("Mpt", "MPT") for name in config["architectures"]]
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    tokenizer = {"model": {"vocab": dict.fromkeys(map(str, range(config["vocab_size"])), 0)}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    hparams = converter.ModelBase.load_hparams(folder, False)
    kind = converter.get_model_class(converter.get_model_architecture(hparams, converter.ModelType.TEXT))
    kind.set_vocab = lambda self: None
    path = out / f"{converter.gguf.MODEL_ARCH_NAMES[kind.model_arch]}.{folder.name}.gguf"
    kind(folder, converter.gguf.LlamaFileType.MOSTLY_F16, path, eager=True, model_name=folder.name).write()


def main(sources: Path, names: list[str]) -> None:
    sys.path[:0] = [str(sources / "gguf-py"), str(sources)]
    import convert_hf_to_gguf as converter  # type: ignore[import-not-found]
    import torch

    (DATA / "gguf").mkdir(exist_ok=True)
    for name in names or CHECKPOINTS:
        with tempfile.TemporaryDirectory() as temporary, torch.inference_mode():
            folder = Path(temporary) / name
            shutil.copytree(DATA / "parity" / name, folder)
            convert(folder, DATA / "gguf", converter)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
