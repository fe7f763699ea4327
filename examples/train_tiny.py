"""Make the model that ships inside pygpt, with pygpt itself, from a folder of public-domain texts.

    python examples/train_tiny.py DATA RUN

1. RUN/text: clean prose and its held-out part (tiny_corpus.py).
2. RUN/run: `pygpt train` with the settings below. Ctrl-C or a kill loses no more than a minute; the same command goes
   on where it stopped, and its result is the same, bit for bit.
3. RUN/tiny: the checkpoint with the lowest validation loss in int8, with its card (tiny_card.py): what
   `pygpt.Model.load("tiny")` loads from pygpt/models/tiny.

Needs `pip install ".[train]"`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import tiny_card
import tiny_corpus
from typer.main import get_command

from pygpt import Model
from pygpt.cli import app

SETTINGS = {  # of `pygpt train`
    "tokenizer": "bpe",
    "vocab": 4096,
    "arch": "gpt2",
    "layers": 6,
    "heads": 4,
    "width": 256,
    "context": 512,
    "steps": 4000,
    "decay-steps": 4000,
    "batch": 8,
    "accumulate": 1,
    "ramp-steps": 0,
    "learning-rate": 1.5e-3,
    "min-learning-rate": 0.0,
    "warmup": 150,
    "stable": 2550,
    "schedule": "linear",
    "beta2": 0.98,
    "weight-decay": 0.1,
    "clip": 1.0,
    "dropout": 0.1,
    "eval-interval": 500,
    "eval-windows": 250,
    "sample-interval": 1000,
    "seed": 1729,
}


def train(text: Path, run: Path, backend: str, threads: int | None) -> None:
    """Begin a run, or go on with the one that is there. SystemExit where it does not reach its end."""
    if (run / "run.json").is_file():
        arguments = ["--resume", str(run)]
    else:
        arguments = ["--data", str(text / "train.txt"), "--validation", str(text / "validation.txt"), "--out", str(run)]
        arguments += [f"--{name}={value}" for name, value in SETTINGS.items()] + [f"--backend={backend}"]
    if threads is not None:
        arguments += ["--threads", str(threads)]
    if code := get_command(app)(["train", *arguments], standalone_mode=False):
        raise SystemExit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the texts")
    parser.add_argument("run", type=Path, help="folder for everything that is made")
    parser.add_argument(
        "--backend", default="kernels-bf16", help="kernels on CPUs without AMX: two thirds of the speed"
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
