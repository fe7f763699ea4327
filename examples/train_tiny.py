"""Make the model that ships inside pygpt, with pygpt itself, from a folder of public-domain texts.

    python examples/train_tiny.py DATA RUN

1. RUN/text: clean prose and its held-out part (tiny_corpus.py).
2. RUN/run: `pygpt.pretrain` with the settings below. Ctrl-C loses nothing and a kill no more than a minute; the same
   command goes on where it stopped, and its result is the same, bit for bit.
3. RUN/tiny: the checkpoint with the lowest validation loss in int8, with its card (tiny_card.py): what
   `pygpt.Model.load("tiny")` loads from pygpt/models/tiny.

Needs `pip install ".[train]"`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import tiny_card
import tiny_corpus

from pygpt import Model, pretrain
from pygpt.training import Progress, Watcher, resume
from pygpt.training.memory import keep_freed_memory

SETTINGS: dict[str, Any] = {  # of `pygpt.pretrain`
    "tokenizer": "bpe",
    "n_vocab": 8192,
    "arch": "gpt2",
    "n_layer": 6,
    "n_head": 4,
    "n_embd": 256,
    "n_ctx": 512,
    "steps": 15000,
    "decay_steps": None,
    "batch": 8,
    "accumulate": 1,
    "ramp_steps": 0,
    "learning_rate": 1e-3,
    "min_learning_rate": 0.0,
    "warmup": 300,
    "stable": 12300,
    "schedule": "linear",
    "beta2": 0.98,
    "weight_decay": 0.1,
    "clip": 1.0,
    "dropout": 0.0,
    "eval_interval": 250,
    "eval_windows": 128,
    "sample_interval": 1000,
    "seed": 1729,
}


class Printer(Watcher):
    """A line an evaluation."""

    def stepped(self, record: dict[str, Any], progress: Progress) -> None:
        if "validation_loss" in record:
            print(f"step {progress.step}: validation loss {record['validation_loss']:.4f}", flush=True)


def train(text: Path, run: Path, backend: str, threads: int | None) -> None:
    """Begin a run, or go on with the one that is there."""
    keep_freed_memory()
    if (run / "run.json").is_file():
        resume(run, threads=threads, watcher=Printer())
        return
    options = SETTINGS | {"validation": text / "validation.txt", "backend": backend, "threads": threads}
    pretrain(text / "train.txt", run, **options, watcher=Printer())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the texts")
    parser.add_argument("run", type=Path, help="folder for everything that is made")
    parser.add_argument(
        "--backend", default="kernels-bf16", help="kernels on CPUs without bfloat16: two thirds of the speed"
    )
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    text, run, out = (options.run / name for name in ("text", "run", "tiny"))
    texts = tiny_corpus.read(options.data)
    tiny_corpus.write(texts, text)
    train(text, run, options.backend, options.threads)
    shutil.rmtree(out, ignore_errors=True)
    Model.load(run / "best", weights="int8", threads=options.threads).save(out)
    tiny_card.write(out, run, texts)
    print(f"{out}: {sum(file.stat().st_size for file in out.iterdir()):,} bytes")


if __name__ == "__main__":
    main()
