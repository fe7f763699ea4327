"""Fine-tuning with pygpt beside transformers and peft: the same checkpoint, batches, threads, float32, in turn.

    python bench/finetune.py SmolLM2-135M/ --torch torch-venv/bin/python --threads 2

Times single steps (forward, backward, clipping, AdamW) of all parameters and of adapters of q and v, on batches of
random tokens. Each engine has a process of its own, and a round times each in turn, forwards and backwards by turns;
the result is the median of the rounds' ratios. Before that, the losses of the first steps must agree; adapters begin
with the same A. `peak` is the peak memory of a step, without what the process took before there was a model.

--torch: the Python that has torch, transformers and peft, by default this one; it needs no pygpt. Adds to the file of
--json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from worker import Worker, WorkerError

HERE = Path(__file__).resolve().parent
ENGINES = ("torch", "pygpt")
CHECKED, AGREEMENT = 2, 2e-4  # steps whose losses must agree, and how well: float32 sums in another order
LEARNING_RATE = 1e-4


def prepare(folder: Path, rank: int, options: argparse.Namespace) -> None:
    """The files that both engines read."""
    from pygpt import checkpoint
    from pygpt.training import lora

    config, _, _ = checkpoint.read(Path(options.model))
    settings = {
        "model": str(Path(options.model).absolute()),
        "rank": rank,
        "learning_rate": LEARNING_RATE,
        "gradient_checkpointing": options.gradient_checkpointing,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    random = np.random.default_rng(0)
    np.save(
        folder / "batches.npy", random.integers(0, config.n_vocab, (8, options.batch, options.tokens + 1), np.int32)
    )
    if rank:
        names = lora.adapted_names(config, lora.DEFAULT_TARGETS)
        shapes = {name: (rank, config.tensor_shapes()[name][1]) for name in names}
        first = {name: random.standard_normal(s, np.float32) / np.float32(s[1] ** 0.5) for name, s in shapes.items()}
        np.savez(folder / "a.npz", **first)


def measure(rank: int, options: argparse.Namespace) -> dict[str, Any]:
    """Check, time and measure one kind of fine-tuning on both engines."""
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), rank, options)
        workers = []
        for engine in options.engine:
            python = options.torch if engine == "torch" else sys.executable
            command = [python, str(HERE / "finetune_worker.py"), engine, name, str(options.threads)]
            threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads))
            workers.append(Worker(engine, command, threads))
        losses = {w.name: w.ask(steps=CHECKED)["losses"] for w in workers}
        samples: dict[str, list[float]] = {w.name: [] for w in workers}
        foreign = []
        for turn in range(options.rounds):
            for worker in workers[:: -1 if turn % 2 else 1]:
                answer = worker.ask(steps=1)
                samples[worker.name].append(answer["seconds"][0])
                foreign.append(answer["foreign"])
        peaks = {w.name: w.ask(memory=1)["peak"] for w in workers}
        versions = {w.name: w.ready["version"] for w in workers}
        for worker in workers:
            worker.close()
    first = options.engine[0]
    for engine, found in losses.items():
        if not np.allclose(found, losses[first], rtol=AGREEMENT, atol=0):
            raise SystemExit(f"{engine}: losses {found} but {first} {losses[first]}")
    result: dict[str, Any] = {"versions": versions, "foreign": statistics.median(foreign), "engines": {}}
    for engine, seconds in samples.items():
        result["engines"][engine] = {
            "milliseconds": 1e3 * statistics.median(seconds),
            "of_first": statistics.median(own / other for own, other in zip(seconds, samples[first], strict=True)),
            "peak_bytes": peaks[engine],
            "losses": losses[engine],
            "samples": seconds,
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder in Hugging Face's layout")
    parser.add_argument("--torch", default=sys.executable, help="the Python that has torch, transformers and peft")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--engine", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--rank", nargs="+", type=int, default=[8, 0], help="of adapters; 0: all parameters")
    parser.add_argument("--batch", type=int, default=2, help="sequences")
    parser.add_argument("--tokens", type=int, default=512, help="of each sequence")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="add the results to this file")
    options = parser.parse_args()
    results = {}
    for rank in options.rank:
        name = f"lora {rank}" if rank else "whole"
        name += ", gradient checkpointing" if options.gradient_checkpointing else ""
        results[name] = measure(rank, options)
        print(f"{name}: foreign {results[name]['foreign']:.0%}")
        for engine, r in results[name]["engines"].items():
            peak = f"{r['peak_bytes'] / 2**20:6.0f} MiB"
            print(f"    {engine:6} {r['milliseconds']:8.0f} ms a step, {r['of_first']:.2f} of the first; peak {peak}")
    if options.json:
        known = json.loads(options.json.read_text()) if options.json.exists() else {}
        about = {"machine": machine(), "threads": options.threads, "batch": [options.batch, options.tokens]}
        options.json.write_text(json.dumps(known | about | results, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except WorkerError as error:
        raise SystemExit(str(error)) from None
