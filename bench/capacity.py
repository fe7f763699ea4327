"""How many nodes a load needs: a model of a step's time, fitted on this machine, and a fleet that is simulated with it.

    python bench/capacity.py fit MODEL --threads 2 --out capacity.json
    python bench/capacity.py fleet capacity.json TRACE.jsonl --times 50 --first-p99 2 --between-p99 0.1

`fit` runs loads through a `pygpt.Scheduler` in this process, fits the model on half of them, and says how far its
tokens a second are off for the others, which it has not seen, and its times to the first token for requests that come
at random times. `fleet` says how many nodes a trace needs, or with --nodes, what its requests get. A line of a trace is

    {"at": 12.5, "prompt": 300, "answer": 120, "conversation": "c17"}

seconds, tokens of the prompt (with all that the conversation held before), tokens of the answer; `conversation` may be
missing. --times N is N such loads at once. With --router conversation the turns of a conversation go to one node, which
has its prefix; with --router load each request goes to the least busy one.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from capacity_fleet import Arrival, Figures, Node, by_conversation, by_load, figures, nodes_for, read_trace, simulate
from capacity_load import Load, Measured, measure, predict, replay
from capacity_model import StepModel, fit
from machine import Others, machine

import pygpt

FITTED = [
    Load(1, (16, 64), (64, 64)),
    Load(1, (512, 1024), (8, 8)),
    Load(4, (32, 512), (64, 64)),
    Load(16, (64, 256), (32, 96)),
    Load(48, (16, 64), (32, 64)),
]
UNSEEN = [
    Load(2, (100, 700), (32, 64)),
    Load(8, (32, 512), (64, 64)),
    Load(32, (16, 128), (32, 96)),
    Load(24, (16, 32), (100, 100)),
    Load(12, (200, 400), (16, 32)),
]
QUIET = 0.05  # of the machine's CPU time may go elsewhere while a load is measured
ROUTERS = {"conversation": by_conversation, "load": by_load}


def at_random(rate: float, seconds: float, seed: int) -> list[Arrival]:
    """Requests that come at random times, `rate` a second in the mean, with prompts of 32 to 512 tokens."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, max(1, int(rate * seconds))))
    return [Arrival(float(t), int(rng.integers(32, 513)), int(rng.integers(16, 65))) for t in times]


def conversations(rate: float, seconds: float, seed: int) -> list[Arrival]:
    """Conversations of three turns that begin at random times, each turn a third of the time after the last one."""
    arrivals = []
    for number, first in enumerate(at_random(rate / 3, seconds / 3, seed)):
        for turn in range(3):
            arrival = first._replace(at=first.at + turn * seconds / 3, prompt=first.prompt + turn * (first.answer + 40))
            arrivals.append(arrival._replace(conversation=f"{number}"))
    return sorted(arrivals)


def replayed(model: pygpt.Model, rate: float, seconds: float) -> Iterator[tuple[str, list[Arrival], Figures]]:
    """What loads came to whose requests do not wait for one another."""
    for name, make in (("requests at random times", at_random), ("conversations", conversations)):
        arrivals, others = make(rate, seconds, 99), Others(os.getpid())
        found = figures(replay(model, arrivals, 99), 1)
        yield f"{name}, {rate:.1f} a second, foreign {others.shares()['foreign']:.1%}", arrivals, found


def run_fit(args: argparse.Namespace) -> None:
    model = pygpt.Model.load(args.model, threads=args.threads)
    rate = 0.6 * measure(model, FITTED[3], 1.0, 0).tokens_per_second / 40  # of what a node can do with answers of 40
    replays = list(replayed(model, rate, 2 * args.seconds))
    # In turns, forwards and backwards, so that a machine whose speed drifts is as fast for the one as for the other.
    loads = [load for pair in zip(FITTED, UNSEEN, strict=True) for load in pair]
    runs: dict[Load, list[Measured]] = {load: [] for load in loads}
    for n in range(args.rounds):
        for load in loads[:: 1 if n % 2 == 0 else -1]:
            runs[load].append(measure(model, load, args.seconds, loads.index(load)))
    for load, found in runs.items():
        least = min(run.foreign for run in found)
        runs[load] = [run for run in found if run.foreign <= max(QUIET, least)]
    step_model = fit([step for load in FITTED for run in runs[load] for step in run.steps])
    errors = []
    for load, found in runs.items():
        measured = statistics.mean(run.tokens_per_second for run in found)
        expected = predict(step_model, load, args.seconds, loads.index(load))
        error = expected / measured - 1
        print(
            f"{'fitted' if load in FITTED else 'unseen'}  {load.n_clients:3} clients, prompts {load.prompt}, answers "
            f"{load.answer}: {measured:7.1f} tokens/s, predicted {expected:7.1f} ({error:+.1%}), "
            f"foreign {max(run.foreign for run in found):.1%} in {len(found)} runs"
        )
        if load in UNSEEN:
            errors.append(abs(error))
    print(f"unseen loads: off by {statistics.median(errors):.1%} in the median, {max(errors):.1%} at most")
    for name, arrivals, real in replays:
        simulated = simulate(arrivals, 1, lambda: Node(step_model, prefix_tokens=10**9), by_load)
        print(f"{name}\n    measured:  {real.text()}\n    predicted: {simulated.text()}")
    table = {
        "machine": machine(),
        "model": args.model.name,
        "weights": model.weights,
        "threads": model.threads,
        "isa": model.isa,
        "weight_bytes": model.weight_bytes,
        "kv_bytes_per_token": model.kv_bytes_per_token,
        "bandwidth": step_model.bandwidth(model.kv_bytes_per_token),
        "step": dataclasses.asdict(step_model),
    }
    args.out.write_text(json.dumps(table, indent=2) + "\n")


def run_fleet(args: argparse.Namespace) -> None:
    table = json.loads(args.capacity.read_text())
    step_model = StepModel(**table["step"])
    arrivals = read_trace(args.trace, args.times)
    prefix_tokens = int(args.prefix_memory * 2**30 / table["kv_bytes_per_token"])

    def run(n_nodes: int) -> Figures:
        node: dict[str, Any] = {"max_running": args.max_running, "prefix_tokens": prefix_tokens}
        return simulate(arrivals, n_nodes, lambda: Node(step_model, **node), ROUTERS[args.router])

    found = run(args.nodes) if args.nodes else nodes_for(run, args.first_p99, args.between_p99)
    print(f"{found.n_nodes} nodes of {table['threads']} threads: {found.text()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("fit", help="measure this machine")
    one.add_argument("model", type=Path)
    one.add_argument("--threads", type=int)
    one.add_argument("--seconds", type=float, default=1.5, help="of each load (default: 1.5)")
    one.add_argument("--rounds", type=int, default=2, help="of all loads; the undisturbed count (default: 2)")
    one.add_argument("--out", type=Path, default=Path("capacity.json"))
    one.set_defaults(run=run_fit)
    two = commands.add_parser("fleet", help="simulate nodes of its kind")
    two.add_argument("capacity", type=Path, help="what `fit` wrote")
    two.add_argument("trace", type=Path)
    two.add_argument("--times", type=int, default=1, help="so many loads like the trace (default: 1)")
    two.add_argument("--nodes", type=int, help="(default: the fewest that keep the limits)")
    two.add_argument("--first-p99", type=float, default=2.0, help="seconds to the first token (default: 2)")
    two.add_argument("--between-p99", type=float, default=0.1, help="seconds between tokens (default: 0.1)")
    two.add_argument("--router", choices=ROUTERS, default="conversation")
    two.add_argument("--max-running", type=int, default=64)
    two.add_argument("--prefix-memory", type=float, default=4.0, help="GiB of a node (default: 4)")
    two.set_defaults(run=run_fleet)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
