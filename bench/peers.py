"""pygpt beside other engines: the same GPT-2 checkpoint, float32, in interleaved runs.

    python bench/make_gpt2.py gpt2-124M --size 124M
    python bench/peers.py gpt2-124M --engine pygpt --engine ort=ort-venv/bin/python --engine openvino

An engine is NAME or NAME=PYTHON, the interpreter that has it; without --engine all of them are tried with this one,
and those that cannot be imported are left out. They need, beside numpy and safetensors:

    pygpt      pip install .                          ort       pip install onnx onnxruntime
    openvino   pip install openvino                   torch     pip install torch transformers

openvino_paged is OpenVINO again, in the form that reads prompts faster and decodes slower.

Each engine runs in its own process. A machine's speed drifts, so only ratios of neighbouring runs count: every round
runs each task on each engine in turn, forwards and backwards by turns, on random tokens that no round has seen. The
result is the median of the rounds and the median of the ratios within a round. Before anything is timed, all engines
must continue the same prompts with the same tokens. `foreign` is the share of the machine's CPU time that went to
other processes while an engine ran, `stolen` what a hypervisor kept for others. A task in which an engine met more than
FOREIGN is run again on all engines, up to TRIES times; where the table shows more, the figures are worth little.

Loading is timed in a fresh process with the files in the page cache, to the first token: `load` from after the imports,
`process` from the start of the process. `peak` is the process's peak resident memory by then, in MiB.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ENGINES = ("pygpt", "ort", "openvino", "openvino_paged", "torch")
TASKS = {  # tokens in one call; steps 0: the reading itself is timed
    "prefill 512": {"batch": 1, "context": 512, "steps": 0},
    "decode at 16": {"batch": 1, "context": 16, "steps": 128},
    "decode at 900": {"batch": 1, "context": 896, "steps": 48},
    "8 together": {"batch": 8, "context": 16, "steps": 64},
}
CHECK = {"batch": 2, "context": 100, "steps": 32, "seed": 0}
FOREIGN, TRIES = 0.04, 5
SETTLE = 0.3  # seconds between two engines, in which the threads of the one before stop spinning


class Worker:
    """An engine's process: one JSON object a line in, one out."""

    def __init__(self, name: str, python: str, args: argparse.Namespace, *more: str) -> None:
        self.name = name
        begin = time.perf_counter()
        command = [python, str(HERE / "peer_worker.py"), name, args.checkpoint, args.cache, str(args.threads), *more]
        environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.ready = self._answer()
        self.ready["process"] = time.perf_counter() - begin

    def ask(self, **command: int) -> dict[str, Any]:
        """Run one command of peer_worker.py; adds the shares of CPU time that others took meanwhile."""
        assert self.process.stdin is not None
        time.sleep(SETTLE)
        before = cpu_seconds(self.process.pid)
        print(json.dumps(command), file=self.process.stdin, flush=True)
        answer = self._answer()
        busy, own, stolen, total = (b - a for a, b in zip(before, cpu_seconds(self.process.pid), strict=True))
        answer["foreign"] = max(0.0, busy - own) / total if total else 0.0
        answer["stolen"] = stolen / total if total else 0.0
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} failed; its message stands above")
        return dict(json.loads(line))


def cpu_seconds(pid: int) -> tuple[float, float, float, float]:
    """CPU time of all processes, of one, stolen, and in all (with idle time); zeros where there is no /proc."""
    try:
        user, nice, system, idle, iowait, irq, softirq, stolen = (
            int(x) / os.sysconf("SC_CLK_TCK") for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
        )
        one = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0, 0.0, 0.0, 0.0
    busy = user + nice + system + irq + softirq
    own = (int(one[11]) + int(one[12])) / os.sysconf("SC_CLK_TCK")
    return busy, own, stolen, busy + stolen + idle + iowait


def available(args: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """The engines that can be imported, converted for once: name -> (interpreter, version)."""
    found = {}
    for engine in args.engine or ENGINES:
        name, _, python = engine.partition("=")
        if name not in ENGINES:
            raise SystemExit(f"--engine {name}: must be one of {', '.join(ENGINES)}")
        worker = Worker(name, python or sys.executable, args, "prepare")
        worker.close()
        if "missing" in worker.ready:
            print(f"{name} is left out: {worker.ready['missing']}")
        else:
            found[name] = (python or sys.executable, worker.ready["version"])
    if not found:
        raise SystemExit("no engine can be imported")
    return found


def loads(engines: dict[str, tuple[str, str]], args: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """What each fresh process says of its loading, `args.rounds` times; one more round warms the page cache."""
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in engines}
    for number in range(args.rounds + 1):
        for name, (python, _) in engines.items():
            time.sleep(SETTLE)
            worker = Worker(name, python, args)
            worker.close()
            if number:
                samples[name].append(worker.ready)
    return samples


def check(workers: dict[str, Worker]) -> None:
    """Stop unless all engines choose the same tokens."""
    tokens = {name: worker.ask(**CHECK)["tokens"] for name, worker in workers.items()}
    first = next(iter(tokens))
    for name, rows in tokens.items():
        for row, (ours, theirs) in enumerate(zip(tokens[first], rows, strict=True)):
            differ = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
            if differ:
                raise SystemExit(f"{name} disagrees with {first} from token {differ[0]} of row {row}: same weights?")


def rates(workers: dict[str, Worker], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Tokens per second of each task, engine and round."""
    samples = []
    seeds = itertools.count(args.seed)
    for shape in TASKS.values():
        for worker in workers.values():  # warm up: some engines compile for a length they have not seen
            worker.ask(**{**shape, "steps": min(2, shape["steps"])}, seed=next(seeds))
    for number in range(args.rounds):
        order = list(workers.items())[:: -1 if number % 2 else 1]
        for task, shape in TASKS.items():
            for _ in range(TRIES):
                seed = next(seeds)
                answers = {name: worker.ask(**shape, seed=seed) for name, worker in order}
                if max(answer["foreign"] for answer in answers.values()) <= FOREIGN:
                    break
            for name, answer in answers.items():
                rate = shape["batch"] * (shape["steps"] or shape["context"]) / answer["seconds"]
                sample = {"round": number, "task": task, "engine": name, "tokens_per_s": round(rate, 2)}
                samples.append({**sample, **{key: round(answer[key], 3) for key in ("foreign", "stolen")}})
    return samples


def summary(engines: dict[str, tuple[str, str]], loading: Any, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians, and the ratios of the first engine to each other one: (lowest, median, highest) of the rounds."""
    rate = {(s["engine"], s["task"], s["round"]): s["tokens_per_s"] for s in samples}
    rounds = sorted({s["round"] for s in samples})
    first = next(iter(engines))
    result: dict[str, Any] = {}
    for name, (_, version) in engines.items():
        median = {key: statistics.median(x[key] for x in loading[name]) for key in ("load", "process", "peak_mib")}
        result[name] = {"version": version, **{key: round(value, 3) for key, value in median.items()}}
        for key in ("foreign", "stolen"):
            result[name][key] = round(statistics.fmean(s[key] for s in samples if s["engine"] == name), 3)
        for task in TASKS:
            ratios = sorted(rate[first, task, r] / rate[name, task, r] for r in rounds)
            spread = [round(x, 3) for x in (ratios[0], statistics.median(ratios), ratios[-1])]
            value = statistics.median(rate[name, task, r] for r in rounds)
            result[name][task] = {"tokens_per_s": value, "ratio": spread}
    return result


def show(result: dict[str, Any]) -> None:
    """The two tables."""
    first = next(iter(result))
    print(
        f"\n{'tokens/s':<24}" + "".join(f"{task:>16}" for task in TASKS),
        "   load s  process s   peak MiB  foreign  stolen",
    )
    for row in result.values():
        cells = "".join(f"{row[task]['tokens_per_s']:16.1f}" for task in TASKS)
        tail = f"{row['load']:9.2f} {row['process']:10.2f} {row['peak_mib']:10.0f}"
        print(f"{row['version']:<24}{cells} {tail} {row['foreign']:8.1%} {row['stolen']:7.1%}")
    print(f"\n{first + ' / ...':<24}" + "".join(f"{task:>22}" for task in TASKS))
    for name, row in result.items():
        if name != first:
            ratios = ("{1:.2f} ({0:.2f} to {2:.2f})".format(*row[task]["ratio"]) for task in TASKS)
            print(f"{name:<24}" + "".join(f"{cell:>22}" for cell in ratios))


def machine() -> dict[str, Any]:
    """What the figures depend on, as far as the system says."""
    cpu = platform.processor()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()}


def main() -> None:
    parser = argparse.ArgumentParser(description="pygpt beside other engines, in interleaved runs.")
    parser.add_argument("checkpoint", help="a GPT-2 folder, as bench/make_gpt2.py writes it")
    parser.add_argument("--engine", action="append", metavar="NAME[=PYTHON]", help=f"of {', '.join(ENGINES)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "pygpt-peers"), help="converted models")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "peers.json")
    args = parser.parse_args()

    engines = available(args)
    loading = loads(engines, args)
    workers: dict[str, Worker] = {}
    try:
        for name, (python, _) in engines.items():
            workers[name] = Worker(name, python, args)
        check(workers)
        samples = rates(workers, args)
    finally:
        for worker in workers.values():
            worker.close()
    result = summary(engines, loading, samples)
    show(result)
    about = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "threads": args.threads, "weights": "float32"}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({**about, "engines": result, "samples": samples}, indent=1) + "\n")


if __name__ == "__main__":
    main()
