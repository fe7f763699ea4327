"""Makes the GGUF files of tests/data/gguf: the small checkpoints of tests/data/parity as llama.cpp's own converter
writes them, so that names, keys and orders of rows are its own and not what pygpt takes them for.

    python tests/make_gguf.py LLAMA_CPP [NAME ...]

LLAMA_CPP is a folder of llama.cpp's sources (the source archive of llama-cpp-python 0.3.36 has one in vendor/). Takes
torch and transformers, in an environment of their own. NAME: only these checkpoints; else those that are there, anew.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"


def convert(folder: Path, out: Path, converter: Any) -> None:
    """Without a vocabulary, which these checkpoints lack: but for the file that says how many tokens there are."""
    tokens = json.loads((folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    tokenizer = {"model": {"vocab": dict.fromkeys(map(str, range(tokens)), 0)}, "added_tokens": []}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    hparams = converter.ModelBase.load_hparams(folder, False)
    # Keys of the checkpoints on the hub, which transformers writes no longer.
    hparams.setdefault("n_ctx", hparams.get("n_positions"))
    hparams.setdefault("rotary_pct", (hparams.get("rope_parameters") or {}).get("partial_rotary_factor"))
    hparams["architectures"] = [name.replace("Mpt", "MPT") for name in hparams["architectures"]]
    kind = converter.get_model_class(converter.get_model_architecture(hparams, converter.ModelType.TEXT))
    kind.set_vocab = lambda self: None
    path = out / f"{converter.gguf.MODEL_ARCH_NAMES[kind.model_arch]}.{folder.name}.gguf"
    f16 = converter.gguf.LlamaFileType.MOSTLY_F16
    kind(folder, f16, path, eager=True, model_name=folder.name, hparams=hparams).write()


def main(sources: Path, names: list[str]) -> None:
    sys.path[:0] = [str(sources / "gguf-py"), str(sources)]
    import convert_hf_to_gguf as converter  # type: ignore[import-not-found]
    import torch

    (DATA / "gguf").mkdir(exist_ok=True)
    for name in names or [path.stem.split(".")[1] for path in (DATA / "gguf").glob("*.gguf")]:
        with tempfile.TemporaryDirectory() as temporary, torch.inference_mode():
            folder = Path(temporary) / name
            shutil.copytree(DATA / "parity" / name, folder)
            convert(folder, DATA / "gguf", converter)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
