"""How pygpt's speed grows: tokens/s against context, prompt, batch and threads, measured and drawn.

    python bench/plots.py gpt2-124M gpt2-355M gpt2-774M --threads 1 2
    python bench/plots.py                                               # only draws what --out holds

A run is added to the file of --out, and the pictures show the medians of all its runs. Needs matplotlib.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from machine import machine
from peers import CACHE, HERE, start
from worker import SETTLE, WorkerError

CONTEXTS, PROMPTS, BATCHES = (16, 128, 256, 384, 512, 640, 768, 896), (64, 128, 256, 512, 768, 1023), (1, 2, 4, 8, 16)
TASKS: dict[tuple[str, int], dict[str, int]] = {
    **{("decode", x): {"batch": 1, "context": x, "steps": 24} for x in CONTEXTS},
    **{("prefill", x): {"batch": 1, "context": x, "steps": 0} for x in PROMPTS},
    **{("batch", x): {"batch": x, "context": 16, "steps": 24} for x in BATCHES},
}
LABELS = {"decode": "tokens of context", "prefill": "tokens of the prompt", "batch": "sequences decoded together"}


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Tokens per second of each task, in rounds over all checkpoints and numbers of threads."""
    workers = {}
    for checkpoint, threads in itertools.product(args.checkpoints, args.threads):
        one = argparse.Namespace(
            checkpoint=Path(checkpoint), threads=threads, cache=args.cache, isa=args.isa, settle=SETTLE
        )
        start(args.engine, sys.executable, one, "prepare").close()
        workers[Path(checkpoint).resolve().name, threads] = start(args.engine, sys.executable, one)
    samples = []
    seeds = itertools.count(args.seed)
    for _ in range(args.rounds):
        for (task, x), shape in TASKS.items():
            for (checkpoint, threads), worker in workers.items():
                seconds = worker.ask(**shape, seed=next(seeds))["seconds"]
                rate = shape["batch"] * (shape["steps"] or shape["context"]) / seconds
                sample = {"checkpoint": checkpoint, "threads": threads, "task": task, "x": x}
                samples.append({**sample, "tokens_per_s": round(rate, 2)})
    for worker in workers.values():
        worker.close()
    return samples


def medians(samples: list[dict[str, Any]]) -> dict[tuple[str, str, int, int], float]:
    """Tokens per second by (task, checkpoint, threads, x)."""
    values: dict[tuple[str, str, int, int], list[float]] = {}
    for s in samples:
        values.setdefault((s["task"], s["checkpoint"], s["threads"], s["x"]), []).append(s["tokens_per_s"])
    return {key: statistics.median(rates) for key, rates in values.items()}


def draw(samples: list[dict[str, Any]], folder: Path) -> None:
    """One picture for each task with all threads, and one against threads."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rates = medians(samples)
    checkpoints = list(dict.fromkeys(s["checkpoint"] for s in samples))
    threads = sorted({s["threads"] for s in samples})
    folder.mkdir(parents=True, exist_ok=True)

    def picture(name: str, axes: list[tuple[str, str, dict[str, list[tuple[int, float]]]]]) -> None:
        figure, panels = plt.subplots(1, len(axes), figsize=(5.5 * len(axes), 4), layout="constrained", squeeze=False)
        for panel, (title, label, lines) in zip(panels[0], axes, strict=True):
            for line, points in lines.items():
                panel.plot(*zip(*sorted(points), strict=True), marker="o", label=line)
            panel.set(title=title, xlabel=label, ylabel="tokens/s", ylim=(0, None), xlim=(0, None))
            panel.grid(alpha=0.3)
            panel.legend()
        figure.savefig(folder / name, dpi=110)
        plt.close(figure)

    for task, label in LABELS.items():
        lines = {c: [(k[3], v) for k, v in rates.items() if k[:3] == (task, c, threads[-1])] for c in checkpoints}
        picture(f"{task}.png", [(f"{task}, {threads[-1]} threads", label, lines)])
    axes = []
    for task, x, title in (("decode", 16, "decode after 16 tokens"), ("prefill", 512, "reading 512 tokens")):
        lines = {c: [(k[2], v) for k, v in rates.items() if k[:2] == (task, c) and k[3] == x] for c in checkpoints}
        axes.append((title, "threads", lines))
    picture("threads.png", axes)


def main() -> None:
    parser = argparse.ArgumentParser(description="pygpt's tokens/s against context, prompt, batch and threads.")
    parser.add_argument("checkpoints", nargs="*", help="folders, as bench/make_random.py writes them")
    parser.add_argument("--engine", default="pygpt:int8", help="of peers.py")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--isa", default="", help="the instruction set that pygpt is held to, such as avx2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=CACHE, help="converted models")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "scaling.json")
    parser.add_argument("--pictures", type=Path, default=HERE.parent / "docs" / "images", help="folder of the PNGs")
    args = parser.parse_args()

    runs = json.loads(args.out.read_text()) if args.out.is_file() else []
    if args.checkpoints:
        about = {"date": time.strftime("%Y-%m-%d %H:%M"), "machine": machine(), "engine": args.engine}
        runs.append({**about, "samples": measure(args)})
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(runs, indent=1) + "\n")
    draw([sample for run in runs for sample in run["samples"]], args.pictures)


if __name__ == "__main__":
    try:
        main()
    except WorkerError as error:
        raise SystemExit(str(error)) from None
