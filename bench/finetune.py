"""Fine-tuning with pygpt beside transformers and peft: the same checkpoint, batches and threads, in turn.

    python bench/finetune.py SmolLM2-135M/ --torch torch-venv/bin/python --threads 2

Times single steps (forward, backward, clipping, AdamW) of all parameters and of adapters of q and v, on batches of
random tokens: transformers and pygpt in float32, and with `--engine torch pygpt pygpt-bf16` pygpt also with `--backend
kernels-bf16`, where the processor has it. Each engine has a process of its own, and a round times each in turn,
forwards and backwards by turns; the result is the median of the rounds' ratios. The losses of the first steps must
agree; adapters begin with the same A. `peak` is the peak memory of a step, without what the process took before there
was a model.

--torch: the Python that has torch, transformers and peft, by default this one; it needs no pygpt. Adds to the file of
--json, and its rounds to those of the same kind, if the file is of this model and machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from machine import machine
from worker import Worker, WorkerError

HERE = Path(__file__).resolve().parent
ENGINES = ("torch", "pygpt", "pygpt-bf16")
USUAL = ("torch", "pygpt")
CHECKED = 2  # steps whose losses must agree, the one before the rounds among them
AGREEMENT = {"torch": 2e-4, "pygpt": 2e-4, "pygpt-bf16": 1e-2}  # and how well: sums in another order, or 8-bit factors
LEARNING_RATE = 1e-4
ROUNDS = ("samples", "peaks", "foreign")  # of each round, by engine: seconds, bytes, the share of CPU time of others
MOST_FOREIGN = 0.1  # in a round that counts


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
    """Check, time and measure one kind of fine-tuning on all engines: the rounds of each."""
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), rank, options)
        workers = []
        for engine in options.engine:
            python = options.torch if engine == "torch" else sys.executable
            command = [python, str(HERE / "finetune_worker.py"), engine, name, str(options.threads)]
            threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads))
            workers.append(Worker(engine, command, threads))
        engines = {w.name: {"losses": w.ask(steps=1)["losses"]} | {what: [] for what in ROUNDS} for w in workers}
        for turn in range(options.rounds):
            for worker in workers[:: -1 if turn % 2 else 1]:
                answer = worker.ask(steps=1)
                engines[worker.name]["losses"] += answer["losses"]
                engines[worker.name]["samples"] += answer["seconds"]
                engines[worker.name]["peaks"].append(answer["peak"])
                engines[worker.name]["foreign"].append(answer["foreign"])
        versions = {w.name: w.ready["version"] for w in workers}
        for worker in workers:
            worker.close()
    first = engines[options.engine[0]]["losses"]
    for engine, found in engines.items():
        if not np.allclose(found["losses"][:CHECKED], first[:CHECKED], rtol=AGREEMENT[engine], atol=0):
            raise SystemExit(f"{engine}: losses {found['losses']} but {options.engine[0]} {first}")
    return {"versions": versions, "engines": engines}


def joined(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The rounds of both, if they are of the same engines."""
    if before["versions"] != now["versions"]:
        return now
    for engine, found in now["engines"].items():
        for what in ROUNDS:
            found[what] = before["engines"][engine][what] + found[what]
    return now


class Figures(NamedTuple):
    """Medians, and of peaks the largest."""

    n_rounds: int
    milliseconds: float
    ratio: float  # to the first engine's time in the same round
    peak: int
    share: float  # of the first engine's


def figures(result: dict[str, Any], engine: str, first: str) -> Figures:
    """What came of the rounds in which others left the machine alone."""
    others = [max(shares) for shares in zip(*(e["foreign"] for e in result["engines"].values()), strict=True)]
    most = max(MOST_FOREIGN, min(others))
    rounds = [i for i, share in enumerate(others) if share <= most]
    own, other = ([result["engines"][name]["samples"][i] for i in rounds] for name in (engine, first))
    ratio = statistics.median(a / b for a, b in zip(own, other, strict=True))
    peak, first_peak = (max(result["engines"][name]["peaks"]) for name in (engine, first))
    return Figures(len(rounds), 1e3 * statistics.median(own), ratio, peak, peak / first_peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a folder in Hugging Face's layout")
    parser.add_argument("--torch", default=sys.executable, help="the Python that has torch, transformers and peft")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--engine", nargs="+", default=list(USUAL), choices=ENGINES)
    parser.add_argument("--rank", nargs="+", type=int, default=[8, 0], help="of adapters; 0: all parameters")
    parser.add_argument("--batch", type=int, default=2, help="sequences")
    parser.add_argument("--tokens", type=int, default=512, help="of each sequence")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="add the results to this file")
    options = parser.parse_args()
    known: dict[str, Any] = {}
    if options.json and options.json.exists():
        known = json.loads(options.json.read_text())
    about = {
        "model": Path(options.model).name,
        "machine": machine(),
        "threads": options.threads,
        "batch": [options.batch, options.tokens],
    }
    if known and {name: known.get(name) for name in about} != about:
        raise SystemExit(f"{options.json}: is of another model, machine, batch or number of threads")
    known = known or about
    for rank in options.rank:
        name = f"lora {rank}" if rank else "whole"
        name += ", gradient checkpointing" if options.gradient_checkpointing else ""
        found = measure(rank, options)
        known[name] = joined(known[name], found) if name in known else found
        print(name)
        for engine in options.engine:
            n, time, ratio, peak, share = figures(known[name], engine, options.engine[0])
            against = f"{ratio:.2f} of the first; peak {peak / 2**20:6.0f} MiB, {share:.2f}"
            print(f"    {engine:10} {time:8.0f} ms in {n} rounds, {against}")
    if options.json:
        options.json.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except WorkerError as error:
        raise SystemExit(str(error)) from None
