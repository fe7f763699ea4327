"""pygpt beside other engines: the same checkpoint in interleaved runs. How to install them: bench/README.md.

    python bench/peers.py --smoke
    python bench/make_random.py gpt2-124M --shape gpt2-124M
    python bench/peers.py gpt2-124M --engine pygpt:int8 --engine ort:int8=ort-venv/bin/python --engine openvino:int8
    python bench/peers.py model.gguf --engine pygpt:int8 --engine llamacpp:file --engine llamacpp:q8_0

An engine is NAME:FORMAT or NAME:FORMAT=PYTHON, the interpreter that has it; without --engine all of ENGINES are tried
with this one. An engine that cannot be imported, or fails later, is left out, with the reason, and the others go on.

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

Every measurement is written to a file of the folder --out before the next begins, and the table is that of all its runs
on this machine, checkpoint, threads and --isa. The file is named after the CPU and the threads. After an interruption
the same command with --resume goes on with the task that was not finished.
"""

from __future__ import annotations

import argparse
import math
import shutil
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
from peer_results import RunFile, file_name, read
from worker import SETTLE, Worker, WorkerError

import pygpt

HERE = Path(__file__).resolve().parent
CACHE = Path(tempfile.gettempdir()) / "pygpt-peers"
ENGINES = ["pygpt:int8", "pygpt:int8-saved", "llamacpp:q8_0", "llamacpp:q8_0-fa", "llamacpp:q4_0"]
ENGINES += ["ctranslate2:int8", "ort:int8", "ort:int4", "openvino:int8", "openvino:int8-paged", "openvino:int8-bf16"]
ENGINES += ["openvino:bf16", "torch:bf16", "torch:int8"]
TASKS = {  # tokens in one call; steps 0: the reading itself is timed
    "prefill 512": {"batch": 1, "context": 512, "steps": 0},
    "decode at 16": {"batch": 1, "context": 16, "steps": 128},
    "decode at 900": {"batch": 1, "context": 896, "steps": 48},
    "8 together": {"batch": 8, "context": 16, "steps": 64},
    "32 together": {"batch": 32, "context": 16, "steps": 24},
}
SMOKE_TASKS = {
    "prefill 64": {"batch": 1, "context": 64, "steps": 0},
    "decode at 16": {"batch": 1, "context": 16, "steps": 4},
    "2 together": {"batch": 2, "context": 16, "steps": 4},
}
CHECK = {"batch": 2, "context": 100, "seed": 0}
CHECK_STEPS, LIMIT, FLOAT32_LIMIT = 8, 0.5, 0.001
FOREIGN, TRIES = 0.1, 3


def start(name: str, python: str, args: argparse.Namespace, *more: str) -> Worker:
    """The process of an engine: see peer_worker.py."""
    command = [python, str(HERE / "peer_worker.py"), name, str(args.checkpoint), str(args.cache), str(args.threads)]
    environment = {"OMP_NUM_THREADS": str(args.threads)} | ({"PYGPT_ISA": args.isa} if args.isa else {})
    return Worker(name, [*command, *more], environment, args.settle)


class Run:
    """One run of all tasks on some engines, written to `file` as it goes; `known` is what an interrupted run left."""

    def __init__(self, file: RunFile, known: dict[str, Any], args: argparse.Namespace) -> None:
        self.file, self.known, self.args = file, known, args
        self.pythons: dict[str, str] = {}
        self.bits: dict[str, float] = {}
        self.workers: dict[str, Worker] = {}

    def prepare(self) -> None:
        """Convert for each engine once; those that cannot are left out."""
        for engine in self.args.engine or ENGINES:
            name, _, python = engine.partition("=")
            if name in self.known["failed"]:
                say(f"{name} failed before the interruption and stays out")
                continue
            python = python or sys.executable
            begin = time.perf_counter()
            try:
                worker = start(name, python, self.args, "prepare")
            except WorkerError as error:
                say(f"{name} is left out: {error}")
                continue
            worker.close()
            if "missing" in worker.ready:
                say(f"{name} is left out: {worker.ready['missing']}")
                continue
            about = {key: worker.ready[key] for key in ("version", "bits")}
            if self.known["engines"].setdefault(name, about) != about:
                raise SystemExit(f"{name} was {self.known['engines'][name]}, now it is {about}: start a new run")
            self.file.add("engine", {"name": name, **about})
            self.pythons[name], self.bits[name] = python, about["bits"]
            say(f"{name}: {about['version']}, prepared in {time.perf_counter() - begin:.1f} s")
        if not self.pythons:
            raise SystemExit("no engine can be used")

    def fail(self, name: str, when: str, error: WorkerError | str) -> None:
        """Go on without an engine."""
        message = f"{name}, {when}: {error}"
        say(f"{message}\nThe others go on.")
        self.file.add("failed", {"engine": name, "message": message})
        self.pythons.pop(name, None)
        if name in self.workers:
            self.workers.pop(name).close()
        if not self.pythons:
            raise SystemExit("no engine is left")

    def ask(self, name: str, when: str, **command: Any) -> dict[str, Any] | None:
        """An engine's answer; None if it failed."""
        try:
            return self.workers[name].ask(**command)
        except WorkerError as error:
            self.fail(name, when, error)
            return None

    def load(self) -> None:
        """Time loading, in as many fresh processes as there are rounds, and keep the last ones."""
        counts = [sample["engine"] for sample in self.known["loading"]]
        missing = {name: max(1, self.args.rounds - counts.count(name)) for name in self.pythons}
        for number in range(max(missing.values())):
            for name in [name for name in self.pythons if number < missing[name]]:
                time.sleep(self.args.settle)
                if name in self.workers:
                    self.workers.pop(name).close()
                try:
                    self.workers[name] = worker = start(name, self.pythons[name], self.args)
                except WorkerError as error:
                    self.fail(name, "loading", error)
                    continue
                sample = {key: round(worker.ready[key], 3) for key in ("load", "process", "peak_mib")}
                self.file.add("loading", {"engine": name, **sample})
                say(f"load {name}: {sample['load']:.2f} s, {sample['peak_mib']:.0f} MiB")

    def check(self) -> None:
        """How far each engine's logits are from the first one's; those with other weights fail."""
        answers = {name: self.ask(name, "check", **CHECK) for name in list(self.workers)}
        logits = {name: np.array(answer["logits"]) for name, answer in answers.items() if answer}
        exact = [name for name in logits if name.split(":")[1].startswith("float32")]
        distances = {name: distance(logits[name], logits[next(iter(logits))]) for name in logits}
        for name in exact[1:]:
            if not (far := distance(logits[name], logits[exact[0]])) <= FLOAT32_LIMIT:
                self.fail(name, "check", f"logits are {far:.3g} standard deviations from {exact[0]}'s: same weights?")
        for name in logits:
            if not distances[name] <= LIMIT and name in self.workers:
                self.fail(name, "check", f"logits are {distances[name]:.3g} standard deviations off: same weights?")
        answers = {name: self.ask(name, "check", **CHECK, steps=CHECK_STEPS) for name in exact if name in self.workers}
        tokens = {name: answer["tokens"] for name, answer in answers.items() if answer}
        for name in tokens:
            if tokens[name] != tokens[next(iter(tokens))]:
                self.fail(name, "check", f"continues a prompt otherwise than {next(iter(tokens))}: same weights?")
        self.file.add("distance", {name: round(far, 4) for name, far in distances.items()})

    def measure(self, roof: ReadRoof) -> None:
        """Tokens per second of each task, engine and round, but for what an interrupted run has."""
        done = {(sample["round"], sample["task"]) for sample in self.known["samples"]}
        for number, shape in enumerate(
            self.args.tasks.values()
        ):  # some engines compile for a length they have not seen
            for name in list(self.workers):
                self.ask(name, "warm up", **{**shape, "steps": min(2, shape["steps"])}, seed=[self.args.seed, number])
        for number in range(self.args.rounds):
            missing = [task for task in self.args.tasks if (number, task) not in done]
            if missing:
                self.file.add("roof", roof.measure())
            for task in missing:
                self.measure_task(number, task)

    def measure_task(self, number: int, task: str) -> None:
        """One task of one round on all engines, again if other processes took part in it."""
        place, shape = list(self.args.tasks).index(task), self.args.tasks[task]
        when = f"round {number + 1} of {self.args.rounds}, {task}"
        for attempt in range(TRIES):
            answers = {}
            for name in list(self.workers)[:: -1 if number % 2 else 1]:
                answers[name] = self.ask(name, when, **shape, seed=[self.args.seed, number, place, attempt])
            kept = {name: answer for name, answer in answers.items() if answer}
            if max(answer["foreign"] for answer in kept.values()) <= FOREIGN:
                break
        rates = []
        for name, answer in kept.items():
            rate = round(shape["batch"] * (shape["steps"] or shape["context"]) / answer["seconds"], 2)
            sample = {"round": number, "task": task, "engine": name, "tokens_per_s": rate}
            self.file.add("sample", sample | {key: round(answer[key], 3) for key in ("foreign", "stolen")})
            rates.append(f"{name} {rate:.0f}")
        say(f"{when}: " + ", ".join(rates))

    def close(self) -> None:
        """End the engines."""
        for worker in self.workers.values():
            worker.close()


class ReadRoof:
    """Read bandwidth in GB/s over a buffer of `size` bytes, by read_roof.c."""

    def __init__(self, size: int, args: argparse.Namespace) -> None:
        program = args.cache / "read_roof"
        source = str(HERE / "read_roof.c")
        subprocess.run(["cc", "-O3", "-pthread", "-o", str(program), source], check=True)
        self.command, self.settle = [str(program), str(size), str(args.threads)], args.settle

    def measure(self) -> float:
        """One sample."""
        time.sleep(self.settle)
        return float(subprocess.run(self.command, check=True, capture_output=True, text=True).stdout)


def say(text: str) -> None:
    """Progress, at once also where it goes to a file."""
    print(text, flush=True)


def distance(values: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """The standard deviation of the difference, in standard deviations of the reference."""
    return float((values - reference).std() / reference.std())


def matrix_weights(checkpoint: Path) -> int:
    """How many weights one token is multiplied with: all matrices but the positions and an embedding that is not the
    head as well."""
    config, _, _ = pygpt.checkpoint.read(checkpoint)
    looked_up = {"pos.weight"} if config.tied_head else {"pos.weight", "embed.weight"}
    matrices = (shape for name, shape in config.tensor_shapes().items() if len(shape) == 2 and name not in looked_up)
    return sum(math.prod(shape) for shape in matrices)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, nargs="?", help="a GGUF file, or a folder of bench/make_random.py")
    parser.add_argument("--engine", action="append", metavar="NAME:FORMAT[=PYTHON]", help=f"such as {ENGINES}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--isa", default="", help="the instruction set that pygpt is held to, such as avx2")
    parser.add_argument("--rounds", type=int, help="5 unless said otherwise")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--note", default="", help="what tells this run from others; kept apart in the tables")
    parser.add_argument("--cache", type=Path, default=CACHE, help="converted models")
    parser.add_argument("--out", type=Path, help="a folder, peers-results unless said otherwise")
    parser.add_argument("--resume", action="store_true", help="go on with the last run, which was interrupted")
    parser.add_argument("--smoke", action="store_true", help="try every engine on a tiny model; times mean nothing")
    args = parser.parse_args()
    for engine in args.engine or ():
        if engine.partition("=")[0].count(":") != 1:
            parser.error(f"--engine {engine}: must be NAME:FORMAT, such as {', '.join(ENGINES)}")
    args.cache.mkdir(parents=True, exist_ok=True)
    args.tasks, args.rounds, args.settle = (
        (SMOKE_TASKS, args.rounds or 1, 0.0) if args.smoke else (TASKS, args.rounds or 5, SETTLE)
    )
    args.out = args.out or (args.cache / "smoke" if args.smoke else Path("peers-results"))
    if args.smoke and not args.checkpoint:
        args.checkpoint = args.cache / "gpt2-smoke"
        if not (args.checkpoint / "config.json").is_file():  # the last file that is written
            command = [sys.executable, str(HERE / "make_random.py"), str(args.checkpoint), "--shape", "gpt2-smoke"]
            subprocess.run(command, check=True)
    if not args.checkpoint:
        parser.error("say which checkpoint (bench/make_random.py writes one), or --smoke")
    if not args.checkpoint.is_file() and not (args.checkpoint / "model.safetensors").is_file():
        parser.error(f"{args.checkpoint} is no file, and has no model.safetensors")
    if shutil.which("cc") is None:
        parser.error("a C compiler, cc, is needed: it builds the program that measures read bandwidth")
    return args


def main() -> None:
    args = options()
    weights = matrix_weights(args.checkpoint)
    about = {
        "machine": machine(),
        "threads": args.threads,
        "isa": args.isa,
        "checkpoint": args.checkpoint.resolve().name,
    }
    about |= {"matrix_weights": weights, "rounds": args.rounds, "seed": args.seed, "note": args.note}
    file = RunFile(args.out / file_name(about["machine"], args.threads))
    if args.resume:
        known = (read(file.path) or [{"end": "never began"}])[-1]
        if known["end"] or any(known[key] != value for key, value in about.items()):
            raise SystemExit(f"{file.path} does not end with an interrupted run of this machine and these options")
    else:
        file.add("run", {"date": time.strftime("%Y-%m-%d %H:%M"), **about})
        known = read(file.path)[-1]
    say(f"results: {file.path}")
    run = Run(file, known, args)
    try:
        run.prepare()
        roof = ReadRoof(int(weights * next(iter(run.bits.values())) / 8), args)
        run.load()
        run.check()
        run.measure(roof)
        file.add("end", time.strftime("%Y-%m-%d %H:%M"))
    except KeyboardInterrupt:
        say(f"\ninterrupted; what was measured is in {file.path}, and the same command with --resume goes on")
        raise SystemExit(130) from None
    finally:
        run.close()
    runs = read(file.path)
    show(runs, runs[-1])


if __name__ == "__main__":
    main()
