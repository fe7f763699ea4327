"""One engine of `train.py`, in a process of its own: a JSON object a line in, one out.

    python bench/train_worker.py ENGINE FOLDER THREADS

ENGINE is torch, pygpt (on the compiled kernels), pygpt-bf16 or numpy. FOLDER holds settings.json (sizes and recipe),
weights.npz (the initial values by pygpt's names) and batches.npy, (steps, batch, n_ctx + 1) ids. Commands:

    {"losses": n}       of the first n steps from the initial values
    {"time": n}         seconds of each of the next n steps
    {"memory": 0}       bytes: at the peak of a step more than before there was a model; kept for the backward pass
    {"run": seed, "text": FILE, "data": FOLDER, "out": FOLDER}
                        a whole run of the recipe on the text, prepared in data: seconds and validation losses
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pygpt import ModelConfig

Batch = NDArray[np.int32]


def config(sizes: Mapping[str, int]) -> ModelConfig:
    """A GPT-2 of these sizes."""
    from pygpt.training.architecture import architecture

    return architecture("gpt2", **sizes)


class Engine(Protocol):
    def restart(self, tensors: Mapping[str, NDArray[np.float32]]) -> None: ...
    def step(self, ids: Batch, targets: Batch) -> float: ...
    def run(self, text: Path, data: Path, seed: int, folder: Path) -> dict[str, float]: ...


class Pygpt:
    """pygpt's trainer."""

    def __init__(self, sizes: Mapping[str, int], recipe: Mapping[str, Any], threads: int, name: str) -> None:
        from pygpt.training import functions
        from pygpt.training.network import Network
        from pygpt.training.parameters import Parameters
        from pygpt.training.primitives import Primitives
        from pygpt.training.recipe import Recipe

        self.config, self.recipe, self.threads = config(sizes), Recipe(**recipe), threads
        self.primitives: Primitives = functions
        if name != "numpy":
            from pygpt.training.kernels import Kernels

            self.primitives = Kernels(threads, precision="bfloat16" if name == "pygpt-bf16" else "float32")
        self.network = Network(self.config, self.primitives)
        self.params, self.grads = Parameters(self.config), Parameters(self.config)

    def restart(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        from pygpt.training.optimizer import AdamW

        self.params.fill(tensors)
        self.optimizer = AdamW(self.primitives, self.params.flat, self.params.n_decayed, self.recipe)
        self.steps = 0

    def step(self, ids: Batch, targets: Batch) -> float:
        self.steps += 1
        self.grads.flat[...] = 0.0
        nats, n = self.network.loss_and_gradients(self.params, self.grads, ids, targets)
        self.optimizer.update(self.grads.flat, self.optimizer.norm(self.grads.flat), self.steps)
        return nats / n

    def activations(self, ids: Batch) -> int:
        """Bytes that the forward pass keeps for the backward pass."""
        sizes: dict[int, int] = {}
        todo: list[Any] = [self.network.hidden(self.params, ids)]
        while todo:
            item = todo.pop()
            if isinstance(item, np.ndarray):
                whole = item if item.base is None else item.base
                sizes[id(whole)] = whole.nbytes
            elif isinstance(item, (tuple, list)):
                todo.extend(item)
        return sum(sizes.values())

    def run(self, text: Path, data: Path, seed: int, folder: Path) -> dict[str, float]:
        """What `pygpt train` does once the data is prepared."""
        from pygpt.training.data import prepare
        from pygpt.training.language_model import LanguageModel
        from pygpt.training.loop import train
        from pygpt.training.run_folder import RunFolder

        begin = time.perf_counter()
        recipe = dataclasses.replace(self.recipe, seed=seed)
        dataset = prepare(text, data, tokenizer="char", validation=0.1, split="tail")
        self.params.initialise(seed)
        with RunFolder.create(folder, dataclasses.asdict(recipe)) as run:
            objective = LanguageModel(self.network, self.params, dataset, recipe, self.threads)
            best = train(objective, recipe, self.primitives, run).best_loss
        seconds = time.perf_counter() - begin
        assert best is not None
        losses = objective.evaluate()["validation_loss"]
        all_of_it = dataclasses.replace(recipe, eval_windows=len(dataset.validation))
        everything = LanguageModel(self.network, self.params, dataset, all_of_it).evaluate()["validation_loss"]
        return {"seconds": seconds, "loss": losses, "best_loss": best, "loss_of_all": everything}


def memory(field: str) -> int:
    """A figure of /proc/self/status in bytes: VmRSS, or VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def answer(engine: Engine, folder: Path, command: dict[str, Any], batches: Iterator[Batch]) -> dict[str, Any]:
    """Do one command."""

    def steps(n: int) -> tuple[list[float], list[float]]:
        losses, seconds = [], []
        for batch in itertools.islice(batches, n):
            ids, targets = (np.ascontiguousarray(part) for part in (batch[:, :-1], batch[:, 1:]))
            begin = time.perf_counter()
            losses.append(engine.step(ids, targets))
            seconds.append(time.perf_counter() - begin)
        return losses, seconds

    if "losses" in command:
        with np.load(folder / "weights.npz") as weights:
            engine.restart(dict(weights))
        return {"losses": steps(command["losses"])[0]}
    if "time" in command:
        return {"seconds": steps(command["time"])[1]}
    if "memory" in command:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        steps(1)
        result = {"peak": memory("VmHWM") - command["memory"]}
        if isinstance(engine, Pygpt):
            result["activations"] = engine.activations(np.ascontiguousarray(next(batches)[:, :-1]))
        return result
    return engine.run(*(Path(command[name]) for name in ("text", "data")), command["run"], Path(command["out"]))


def main() -> None:
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    settings = json.loads((folder / "settings.json").read_text())
    engine: Engine
    if name == "torch":
        import torch_gpt2

        version, before = torch_gpt2.torch.__version__, memory("VmRSS")
        engine = torch_gpt2.Trainer(settings["sizes"], settings["recipe"], threads)
    else:
        import pygpt
        import pygpt.training.network
        import pygpt.training.optimizer
        from pygpt.training.memory import keep_freed_memory

        keep_freed_memory()  # as `pygpt train` does
        version, before = pygpt.__version__, memory("VmRSS")
        engine = Pygpt(settings["sizes"], settings["recipe"], threads, name)
    batches = itertools.cycle(np.load(folder / "batches.npy"))
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if "memory" in command:
            command["memory"] = before
        print(json.dumps(answer(engine, folder, command, batches)), flush=True)


if __name__ == "__main__":
    main()
