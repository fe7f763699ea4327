"""How fast pygpt reads and writes, how fast it loads, and how much memory loading takes.

    python bench/generate.py gpt2-124M --threads 2 --json bench/results/generate.json

Before anything is timed, logits through the cache and in a batch of 8 must equal those of one pass, bit for bit, and a
NumPy computation up to rounding. Every run uses random tokens that no run has seen; the runs of all tasks alternate,
and the median counts. `load` is a fresh process with the files in the page cache, from its start to its first token;
`after import` leaves out Python's own start and its imports.

Memory is that of a fresh process at its first token, over (packed weights + the largest single tensor). `anonymous` is
what the process itself needs (RssAnon, looked at every millisecond, Python and NumPy included); `resident` is VmHWM,
which also counts pages of the mapped checkpoint that the system keeps in its cache and may drop at any time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import Others, machine
from numpy.typing import NDArray

Ids = NDArray[np.int32]
BATCH = 8
TASKS = {  # sequences, tokens read, tokens decoded; nothing decoded: the reading is timed
    "prefill 512": (1, 512, 0),
    "decode at 16": (1, 16, 64),
    "decode at 900": (1, 884, 32),
    "batch of 8 at 16": (BATCH, 16, 32),
}


def read(engine: Any, sessions: list[Any], rows: Ids) -> NDArray[np.float32]:
    """Append (B, T) tokens to B sessions; the logits (B, V) after each."""
    return np.stack(engine.forward(list(zip(sessions, rows, strict=True))))


def check(model: Any, source: str) -> None:
    """Stop unless the cache, a batch and one pass give the same logits, and NumPy nearly the same."""
    from pygpt import checkpoint, reference

    engine, n_vocab = model._engine, model.config.n_vocab
    tokens = np.random.default_rng(0).integers(0, n_vocab, (BATCH, 40), np.int32)
    whole = np.stack([read(engine, [engine.session()], row[None])[0] for row in tokens])
    sessions = [engine.session() for _ in tokens]
    read(engine, sessions, tokens[:, :30])
    for i in range(30, 40):
        cached = read(engine, sessions, tokens[:, i : i + 1])
    if not np.array_equal(whole, cached):
        raise SystemExit(f"cached logits differ from recomputed ones by {np.abs(whole - cached).max()}")
    config, tensors, _ = checkpoint.read(checkpoint.locate(source))
    want = reference.forward(config, tensors, tokens[0].astype(np.int64))[-1]
    bound = (1e-4 if (model.weights, model.kv) == ("float32", "float32") else 5e-2) * np.abs(want).max()
    if np.abs(whole[0] - want).max() > bound:
        raise SystemExit(f"logits differ from the reference by {np.abs(whole[0] - want).max()}, more than {bound}")


def rate(engine: Any, tokens: Ids, steps: int) -> float:
    """Tokens per second of one run of a task."""
    sessions = [engine.session() for _ in tokens]
    begin = time.perf_counter()
    logits = read(engine, sessions, tokens)
    if steps:
        begin = time.perf_counter()
        for _ in range(steps):
            logits = read(engine, sessions, logits.argmax(1).astype(np.int32)[:, None])
    return (steps * len(tokens) or tokens.size) / (time.perf_counter() - begin)


def rates(model: Any, runs: int) -> dict[str, dict[str, Any]]:
    """Each task's median, all runs, and the shares of CPU time that others took; a first run warms up."""
    rng = np.random.default_rng()
    samples: dict[str, list[float]] = {
        task: [] for task, (_, n, steps) in TASKS.items() if n + steps <= model.config.n_ctx
    }
    others = Others(os.getpid())
    for number in range(runs + 1):
        for task, values in samples.items():
            batch, n, steps = TASKS[task]
            value = rate(model._engine, rng.integers(0, model.config.n_vocab, (batch, n), np.int32), steps)
            if number:
                values.append(round(value, 2))
    return {
        **{task: {"tokens_per_s": statistics.median(values), "runs": values} for task, values in samples.items()},
        "others": {name: round(share, 3) for name, share in others.shares().items()},
    }


def probe(options: dict[str, Any]) -> None:
    """The fresh process: load and compute one token, and say when that begins and how long it took."""
    import pygpt

    print(json.dumps({}), flush=True)
    begin = time.perf_counter()
    model = pygpt.Model.load(**options)
    model.session().append([0]).argmax()
    print(json.dumps({"after_import": time.perf_counter() - begin, "weight_bytes": model.weight_bytes}), flush=True)
    sys.stdin.read()  # its memory is still to be looked at


def status(pid: int) -> dict[str, int]:
    """Bytes of the process's Rss... and Vm... entries; empty where there is no /proc."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
    return {}


def load_once(options: dict[str, Any], watch: bool) -> dict[str, float]:
    """One fresh process. With `watch` its memory is looked at all the time, so its times count for nothing."""
    command = [sys.executable, str(Path(__file__).resolve()), "--probe", json.dumps(options)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    anonymous = 0
    try:
        process.stdout.readline()
        while watch and not select.select([process.stdout], [], [], 0.001)[0]:
            anonymous = max(anonymous, status(process.pid).get("RssAnon", 0))
        line = process.stdout.readline()
        seconds = time.perf_counter() - begin
        if not line:
            raise SystemExit("the loading process failed; its message stands above")
        now = status(process.pid)
        anonymous = max(anonymous, now.get("RssAnon", 0))
        return {"load": seconds, "anonymous": anonymous, "resident": now.get("VmHWM", 0), **json.loads(line)}
    finally:
        process.stdin.close()
        process.wait()


def loading(options: dict[str, Any], runs: int) -> dict[str, float]:
    """Medians of the times, the largest memory, and the ratios to (packed weights + largest tensor)."""
    from pygpt import checkpoint

    watched = [load_once(options, watch=True) for _ in range(2)]  # they also warm the page cache
    timed = [load_once(options, watch=False) for _ in range(runs)]
    tensors = checkpoint.read(checkpoint.locate(options["source"]))[1]
    need = timed[0]["weight_bytes"] + max(tensor.raw().nbytes for tensor in tensors.values())
    result = {key: round(statistics.median(x[key] for x in timed), 3) for key in ("load", "after_import")}
    result |= {"weight_bytes": timed[0]["weight_bytes"], "weights_and_largest_tensor": need}
    for key in ("anonymous", "resident"):
        result[key] = max(x[key] for x in watched)
        result[f"{key}_ratio"] = round(result[key] / need, 3)
    return result


def show(result: dict[str, Any]) -> None:
    """The table."""
    load, others = result["loading"], result["tasks"]["others"]
    print(f"{result['weights']} weights, {result['kv']} cache, {result['threads']} threads, {result['isa']}")
    for task, value in result["tasks"].items():
        if task != "others":
            low, high = min(value["runs"]), max(value["runs"])
            print(f"{task:<20}{value['tokens_per_s']:10.1f} tokens/s   ({low:.1f} to {high:.1f})")
    print(f"{'load':<20}{load['load']:10.2f} s          ({load['after_import']:.2f} after import)")
    for key in ("anonymous", "resident"):
        ratio = load[f"{key}_ratio"]
        print(f"{'memory, ' + key:<20}{load[key] / 2**20:10.0f} MiB        ({ratio:.3f} of weights + largest tensor)")
    print(f"CPU time taken by other processes {others['foreign']:.1%}, stolen {others['stolen']:.1%}")


def main() -> None:
    if sys.argv[1:2] == ["--probe"]:
        return probe(json.loads(sys.argv[2]))
    parser = argparse.ArgumentParser(description="pygpt's speed, load time and memory.")
    parser.add_argument("checkpoint", help="a folder or file that pygpt loads, as bench/make_random.py writes it")
    parser.add_argument("--weights", choices=["int8", "float32", "bfloat16"], default="int8")
    parser.add_argument(
        "--kv", choices=["float32", "float16", "int8"], help="default: as pygpt chooses for the weights"
    )
    parser.add_argument("--threads", type=int, help="default: as pygpt chooses")
    parser.add_argument("--isa", help="default: the machine's best")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results here")
    args = parser.parse_args()

    import pygpt

    options = {"source": args.checkpoint, "weights": args.weights, "kv": args.kv}
    options |= {"threads": args.threads, "isa": args.isa}
    load = loading(options, args.runs)
    model = pygpt.Model.load(**options)
    check(model, args.checkpoint)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "versions": {"pygpt": pygpt.__version__, "numpy": np.__version__, **pygpt._core.build_info()},
        **{key: getattr(model, key) for key in ("weights", "kv", "threads", "isa")},
        "tasks": rates(model, args.runs),
        "loading": load,
    }
    show(result)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
