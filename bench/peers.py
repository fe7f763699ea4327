"""pygpt beside other engines: the same checkpoint in interleaved runs.

    python bench/make_random.py gpt2-124M --shape gpt2-124M
    python bench/peers.py gpt2-124M --engine pygpt:int8 --engine ort:int8=ort-venv/bin/python --engine openvino:int8

An engine is NAME:FORMAT or NAME:FORMAT=PYTHON, the interpreter that has it; without --engine all of ENGINES are tried
with this one, and those that cannot be imported are left out. They need, beside numpy, safetensors and a C compiler:

    pygpt      pip install .                          ctranslate2  pip install ctranslate2
    ort        pip install onnx onnxruntime           torch        pip install torch transformers
    openvino   pip install openvino                   llamacpp     pip install llama-cpp-python gguf

llama-cpp-python's wheels use AVX2 at most. Built from source (`--no-binary llama-cpp-python`) it takes all that the
machine has, but 0.3.36 built by GCC 12 dies on AMX: `asm volatile("" : : "r"(&tc) : "memory");` must stand before
`_tile_loadconfig(&tc)` in ggml-cpu/amx/mmq.cpp. `LLAMA_CPP_LIB_PATH` chooses between builds.

Each engine runs in its own process. A machine's speed drifts, so only ratios of neighbouring runs count: every round
runs each task on each engine in turn, forwards and backwards by turns, on random tokens that no round has seen. The
result is the median of the rounds and the median of the ratios within a round. `foreign` is the share of the machine's
CPU time that went to other processes while an engine ran, `stolen` what a hypervisor kept for others. A task in which
an engine met more than FOREIGN is run again on all engines, up to TRIES times; where the table shows more, the figures
are worth little.

Before anything is timed, all float32 engines must have the same logits, but for FLOAT32_LIMIT, and continue the same
prompts with the same tokens, and no engine's logits may be further than LIMIT from those of the first, in standard
deviations; the table shows how far.

Loading is timed in a fresh process with the files in the page cache, to the first token: `load` from after the imports,
`process` from the start of the process. `peak` is the process's peak resident memory by then, in MiB. `of roof` is what
"decode at 16" reads of weights a second, as a share of the machine's read bandwidth, measured in every round.

A run is added to the file of --out, and the table is that of all its runs on this checkpoint, threads and --isa.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from numpy.typing import NDArray
from peer_report import show
from worker import SETTLE, Worker

HERE = Path(__file__).resolve().parent
ENGINES = ["pygpt:int8", "pygpt:int8-saved", "llamacpp:q8_0", "llamacpp:q4_0", "ctranslate2:int8", "ort:int8"]
ENGINES += ["ort:int4", "openvino:int8", "openvino:int8-paged", "openvino:int8-bf16", "openvino:bf16"]
ENGINES += ["torch:bf16", "torch:int8"]
TASKS = {  # tokens in one call; steps 0: the reading itself is timed
    "prefill 512": {"batch": 1, "context": 512, "steps": 0},
    "decode at 16": {"batch": 1, "context": 16, "steps": 128},
    "decode at 900": {"batch": 1, "context": 896, "steps": 48},
    "8 together": {"batch": 8, "context": 16, "steps": 64},
}
CHECK = {"batch": 2, "context": 100, "seed": 0}
CHECK_STEPS, LIMIT, FLOAT32_LIMIT = 8, 0.5, 0.001
FOREIGN, TRIES = 0.1, 3


def start(name: str, python: str, args: argparse.Namespace, *more: str) -> Worker:
    """The process of an engine: see peer_worker.py."""
    command = [python, str(HERE / "peer_worker.py"), name, args.checkpoint, args.cache, str(args.threads), *more]
    environment = {"OMP_NUM_THREADS": str(args.threads)} | ({"PYGPT_ISA": args.isa} if args.isa else {})
    return Worker(name, command, environment)


def available(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The engines that can be imported, converted for once: name -> python, version, bits a weight."""
    found = {}
    for engine in args.engine or ENGINES:
        name, _, python = engine.partition("=")
        if name.count(":") != 1:
            raise SystemExit(f"--engine {engine}: must be NAME:FORMAT, such as {', '.join(ENGINES)}")
        worker = start(name, python or sys.executable, args, "prepare")
        worker.close()
        if "missing" in worker.ready:
            print(f"{name} is left out: {worker.ready['missing']}")
        else:
            found[name] = {"python": python or sys.executable, **worker.ready}
    if not found:
        raise SystemExit("no engine can be imported")
    return found


def loads(
    engines: dict[str, dict[str, Any]], args: argparse.Namespace
) -> tuple[list[dict[str, Any]], dict[str, Worker]]:
    """What each fresh process says of its loading, `args.rounds` times, and the processes of the last time."""
    samples = []
    workers: dict[str, Worker] = {}
    for _ in range(args.rounds):
        for name, engine in engines.items():
            time.sleep(SETTLE)
            if name in workers:
                workers[name].close()
            workers[name] = start(name, engine["python"], args)
            rounded = {key: round(workers[name].ready[key], 3) for key in ("load", "process", "peak_mib")}
            samples.append({"engine": name, **rounded})
    return samples, workers


def check(workers: dict[str, Worker]) -> dict[str, float]:
    """How far each engine's logits are from the first one's; stops if the weights cannot be the same."""

    def distance(values: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
        return float((values - reference).std() / reference.std())

    def agree(names: list[str], limit: float) -> dict[str, float]:
        result = {name: distance(logits[name], logits[names[0]]) for name in names}
        for name, value in result.items():
            if not value <= limit:
                raise SystemExit(
                    f"{name}'s logits are {value:.3g} standard deviations from {names[0]}'s: same weights?"
                )
        return result

    logits = {name: np.array(worker.ask(**CHECK)["logits"]) for name, worker in workers.items()}
    exact = [name for name in workers if name.split(":")[1].startswith("float32")]
    agree(exact, FLOAT32_LIMIT)
    tokens = {name: workers[name].ask(**CHECK, steps=CHECK_STEPS)["tokens"] for name in exact}
    for name in exact:
        if tokens[name] != tokens[exact[0]]:
            raise SystemExit(f"{name} continues a prompt otherwise than {exact[0]}: same weights?")
    return agree(list(workers), LIMIT)


def rates(workers: dict[str, Worker], args: argparse.Namespace, roof: ReadRoof) -> list[dict[str, Any]]:
    """Tokens per second of each task, engine and round."""
    samples = []
    seeds = itertools.count(args.seed)
    for shape in TASKS.values():
        for worker in workers.values():  # warm up: some engines compile for a length they have not seen
            worker.ask(**{**shape, "steps": min(2, shape["steps"])}, seed=next(seeds))
    for number in range(args.rounds):
        roof.measure()
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


class ReadRoof:
    """Read bandwidth in GB/s over a buffer of `size` bytes, by read_roof.c."""

    def __init__(self, size: int, args: argparse.Namespace) -> None:
        program = Path(args.cache) / "read_roof"
        source = str(HERE / "read_roof.c")
        subprocess.run(["cc", "-O3", "-pthread", "-o", str(program), source], check=True)
        self.command = [str(program), str(size), str(args.threads)]
        self.samples: list[float] = []

    def measure(self) -> None:
        """Add one sample."""
        time.sleep(SETTLE)
        self.samples.append(float(subprocess.run(self.command, check=True, capture_output=True, text=True).stdout))


def matrix_weights(checkpoint: Path) -> int:
    """How many weights one token is multiplied with: all matrices but the learned positions. The head is tied."""
    with (checkpoint / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    shapes = (t["shape"] for name, t in header.items() if name != "__metadata__" and not name.endswith("wpe.weight"))
    return sum(shape[0] * shape[1] for shape in shapes if len(shape) == 2)


def main() -> None:
    parser = argparse.ArgumentParser(description="pygpt beside other engines, in interleaved runs.")
    parser.add_argument("checkpoint", help="a folder, as bench/make_random.py writes it")
    parser.add_argument("--engine", action="append", metavar="NAME:FORMAT[=PYTHON]", help=f"such as {ENGINES}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", default="", help="the instruction set that pygpt is held to, such as avx2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cache", default=str(Path(tempfile.gettempdir()) / "pygpt-peers"), help="converted models")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "peers.json")
    args = parser.parse_args()

    engines = available(args)
    weights = matrix_weights(Path(args.checkpoint))
    roof = ReadRoof(int(weights * next(iter(engines.values()))["bits"] / 8), args)
    loading, workers = loads(engines, args)
    distance = check(workers)
    samples = rates(workers, args, roof)
    for worker in workers.values():
        worker.close()
    about = {name: {**engine, "distance": round(distance[name], 4)} for name, engine in engines.items()}
    for engine in about.values():
        del engine["python"], engine["process"]
    run = {"date": time.strftime("%Y-%m-%d %H:%M"), "machine": machine(), "threads": args.threads, "isa": args.isa}
    run |= {"checkpoint": Path(args.checkpoint).resolve().name, "matrix_weights": weights, "read_roof": roof.samples}
    runs = json.loads(args.out.read_text()) if args.out.is_file() else []
    runs.append({**run, "engines": about, "loading": loading, "samples": samples})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(runs, indent=1) + "\n")
    show(runs, runs[-1], TASKS)


if __name__ == "__main__":
    main()
