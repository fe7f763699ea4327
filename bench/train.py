"""pygpt's trainer beside PyTorch: the same GPT-2, the same batches, the same threads, in turn; in float32, and with
`--engine torch pygpt pygpt-bf16` pygpt also with `--backend kernels-bf16`, where the processor has it.

    python bench/train.py step --torch torch-venv/bin/python --threads 2
    python bench/train.py run tinyshakespeare.txt --torch torch-venv/bin/python --threads 2

`step` times single steps (forward, backward, clipping, AdamW) of two models: that of nanoGPT's recipe for CPUs, and the
one that ships with pygpt. Each engine has a process of its own, and a round times each engine in turn, forwards and
backwards by turns; the result is the median of the rounds' ratios, since a machine's speed drifts. Before that, the
losses of the first steps from the same initial values must agree. `peak` is the peak memory of a step, without what the
process took before there was a model, beside the sum of parameters, gradients, two moments, and what the
forward pass keeps for the backward pass.

`run` trains nanoGPT's model on a text by characters, 2000 steps with an evaluation (the same 240 windows of the last
tenth) every 250 and the best state written to a file, from 3 seeds, and compares losses and total times.

--torch: the Python that has PyTorch, by default this one; it needs no pygpt. Both add to the file of --json.
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
from numpy.typing import NDArray
from train_worker import config
from worker import Worker, WorkerError

HERE = Path(__file__).resolve().parent
ENGINES = ("torch", "pygpt", "pygpt-bf16", "numpy")
USUAL = ("torch", "pygpt", "numpy")
SHAPES = {  # sizes, sequences in a batch, steps of one sample
    "nanogpt": ({"n_vocab": 65, "n_ctx": 64, "n_layer": 4, "n_embd": 128, "n_head": 4}, 12, 20),
    "tiny": ({"n_vocab": 4096, "n_ctx": 512, "n_layer": 6, "n_embd": 256, "n_head": 4}, 8, 1),
}
RECIPE = {  # of nanoGPT's README, "I only have a macbook (or other cheap computer)"
    "steps": 2000,
    "batch": 12,
    "learning_rate": 1e-3,
    "min_learning_rate": 1e-4,
    "warmup": 100,
    "beta1": 0.9,
    "beta2": 0.99,
    "eps": 1e-8,
    "weight_decay": 0.1,
    "clip": 1.0,
    "eval_interval": 250,
    "eval_windows": 240,
}
CHECKED = 5  # steps whose losses must agree, and how well: float32 sums in another order, or factors of 8 bits
AGREEMENT = dict.fromkeys(ENGINES, 2e-4) | {"pygpt-bf16": 5e-3}


def start(engine: str, folder: Path, options: argparse.Namespace) -> Worker:
    """The process of an engine: see train_worker.py."""
    python = options.torch if engine == "torch" else sys.executable
    command = [python, str(HERE / "train_worker.py"), engine, str(folder), str(options.threads)]
    return Worker(engine, command, dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(options.threads)))


def prepare(folder: Path, shape: str, recipe: dict[str, Any]) -> None:
    """The files that every engine reads. A token often decides the next one, so that there is something to learn."""
    from pygpt.training.parameters import Parameters

    sizes, batch, _ = SHAPES[shape]
    (folder / "settings.json").write_text(json.dumps({"sizes": sizes, "recipe": recipe}))
    params = Parameters(config(sizes))
    params.initialise(0)
    np.savez(folder / "weights.npz", **params.tensors)
    random = np.random.default_rng(0)
    batches = random.integers(0, sizes["n_vocab"], (20, batch, sizes["n_ctx"] + 1), np.int32)
    following = random.permutation(sizes["n_vocab"]).astype(np.int32)
    for i in range(1, batches.shape[2]):
        kept = random.random(batches.shape[:2]) < 0.8
        batches[..., i] = np.where(kept, following[batches[..., i - 1]], batches[..., i])
    np.save(folder / "batches.npy", batches)


def step(shape: str, options: argparse.Namespace) -> dict[str, Any]:
    """Check, time and measure one shape on all engines."""
    constant = {"steps": 10**6, "warmup": 0, "min_learning_rate": RECIPE["learning_rate"]}
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), shape, RECIPE | constant)
        workers = [start(engine, Path(name), options) for engine in options.engine]
        losses = {w.name: np.array(w.ask(losses=CHECKED)["losses"]) for w in workers}
        check(losses)
        samples: dict[str, list[float]] = {w.name: [] for w in workers}
        foreign = []
        for turn in range(options.rounds):
            for worker in workers[:: -1 if turn % 2 else 1]:
                answer = worker.ask(time=SHAPES[shape][2])
                samples[worker.name].append(statistics.median(answer["seconds"]))
                foreign.append(answer["foreign"])
        memory = {w.name: w.ask(memory=0) for w in workers}
        versions = {w.name: w.ready["version"] for w in workers}
        for worker in workers:
            worker.close()
    result: dict[str, Any] = {"versions": versions, "foreign": statistics.median(foreign), "engines": {}}
    kept = [m["activations"] for m in memory.values() if "activations" in m]
    total = 16 * config(SHAPES[shape][0]).n_params() + max(kept, default=0)
    for engine, seconds in samples.items():
        ratios = [own / torch for own, torch in zip(seconds, samples["torch"], strict=True)]
        result["engines"][engine] = {
            "milliseconds": 1e3 * statistics.median(seconds),
            "of_torch": statistics.median(ratios),
            "peak_bytes": memory[engine]["peak"],
            "of_sum": memory[engine]["peak"] / total,
            "losses": losses[engine].tolist(),
            "samples": seconds,
        }
    return result


def check(losses: dict[str, NDArray[np.float64]]) -> None:
    """SystemExit unless all engines have PyTorch's losses."""
    for engine, found in losses.items():
        off = np.abs(found / losses["torch"] - 1).max()
        if not off <= AGREEMENT[engine]:
            raise SystemExit(f"{engine}: losses {found} but torch {losses['torch']}")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Whole runs of nanoGPT's recipe, the engines in turn within each seed."""
    from pygpt.training.data import prepare as tokenise

    result: dict[str, Any] = {engine: [] for engine in options.engine}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, "nanogpt", RECIPE)
        dataset = tokenise(options.text, folder / "data", tokenizer="char", validation=0.1, split="tail")
        if dataset.n_vocab != SHAPES["nanogpt"][0]["n_vocab"]:
            raise SystemExit(f"{options.text} has {dataset.n_vocab} characters, not those of tinyshakespeare")
        for seed in range(options.seeds):
            for engine in options.engine[:: -1 if seed % 2 else 1]:
                worker = start(engine, folder, options)
                where = {
                    "text": str(options.text),
                    "data": str(folder / "data"),
                    "out": str(folder / f"{engine}{seed}"),
                }
                answer = worker.ask(run=seed, **where)
                worker.close()
                result[engine].append(answer)
                print(f"{engine:6} seed {seed}: {answer['seconds']:6.1f} s, validation loss {answer['loss']:.4f}")
    for engine, answers in result.items():
        ratio = statistics.median(a["seconds"] / t["seconds"] for a, t in zip(answers, result["torch"], strict=True))
        losses = [a["loss"] for a in answers]
        print(f"{engine:6} {ratio:.2f} of torch's time, loss {statistics.mean(losses):.4f}, at most {max(losses):.4f}")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("step", "run"):
        command = commands.add_parser(name)
        command.add_argument("--torch", default=sys.executable, help="the Python that has PyTorch")
        command.add_argument("--threads", type=int, default=os.cpu_count())
        command.add_argument("--engine", nargs="+", default=list(USUAL), choices=ENGINES, help="torch must be there")
        command.add_argument("--json", type=Path, help="add the results to this file")
        if name == "step":
            command.add_argument("--shape", nargs="+", default=list(SHAPES), choices=SHAPES)
            command.add_argument("--rounds", type=int, default=7)
        else:
            command.add_argument("text", type=Path)
            command.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    results = {"run": run(options)} if options.command == "run" else {}
    for shape in options.shape if options.command == "step" else ():
        results[shape] = step(shape, options)
        print(f"{shape}: foreign {results[shape]['foreign']:.0%}")
        for engine, r in results[shape]["engines"].items():
            peak = f"{r['peak_bytes'] / 2**20:6.0f} MiB, {r['of_sum']:.2f} of the sum"
            print(f"    {engine:10} {r['milliseconds']:8.2f} ms a step, {r['of_torch']:.2f} of torch; peak {peak}")
    if options.json:
        known = json.loads(options.json.read_text()) if options.json.exists() else {}
        known |= {"machine": machine(), "threads": options.threads} | results
        options.json.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    try:
        main()
    except WorkerError as error:
        raise SystemExit(str(error)) from None
