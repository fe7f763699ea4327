"""One engine of `finetune.py`, in a process of its own: a JSON object a line in, one out.

    python bench/finetune_worker.py ENGINE FOLDER THREADS

ENGINE is torch (transformers, with peft for adapters), pygpt or pygpt-bf16. FOLDER holds settings.json (the checkpoint,
the rank of the adapters or 0, the learning rate, whether to checkpoint gradients), batches.npy, (steps, batch,
n_ctx + 1) ids, and of adapters a.npz, the initial A of each matrix by pygpt's names. The one command:

    {"steps": n}     the next n steps: losses, seconds, and "peak", the bytes at their peak more than before there was a
                     model
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray
from train_worker import memory

if TYPE_CHECKING:
    from pygpt.training.primitives import Precision

Batch = NDArray[np.int32]
BETAS, EPS, DECAY, CLIP = (0.9, 0.999), 1e-8, 0.01, 1.0


class Engine(Protocol):
    def step(self, ids: Batch, targets: Batch) -> float: ...


class Torch:
    """A model of transformers, its loss, peft's adapters of q and v, fused AdamW."""

    def __init__(self, settings: dict[str, Any], folder: Path, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self.torch = torch
        self.model: Any = AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32)
        if rank := settings["rank"]:
            from peft import LoraConfig, get_peft_model

            options = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=["q_proj", "v_proj"])
            self.model = get_peft_model(self.model, options)
            with np.load(folder / "a.npz") as initial, torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    if "lora_A" in name:  # base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight
                        layer, matrix = name.split(".")[4], name.split(".")[6][0]
                        parameter.copy_(torch.from_numpy(initial[f"blocks.{layer}.attn.{matrix}.weight"]))
        self.model.train()
        if settings["gradient_checkpointing"]:
            self.model.enable_input_require_grads()  # without which adapters get no gradients
            self.model.gradient_checkpointing_enable()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in self.trained if p.ndim == 2], "weight_decay": DECAY},
            {"params": [p for p in self.trained if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings["learning_rate"], betas=BETAS, eps=EPS, fused=True)

    def step(self, ids: Batch, targets: Batch) -> float:
        self.optimizer.zero_grad()
        logits = self.model(input_ids=self.torch.from_numpy(ids).long(), use_cache=False).logits
        wanted = self.torch.from_numpy(targets).long().flatten()
        loss = self.torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted)
        loss.backward()
        self.torch.nn.utils.clip_grad_norm_(self.trained, CLIP)
        self.optimizer.step()
        return float(loss.item())


class Pygpt:
    """What `pygpt finetune` does in a step, on the benchmark's batches and without dropout, as peft has none here."""

    def __init__(self, settings: dict[str, Any], folder: Path, threads: int, precision: Precision) -> None:
        from pygpt.training import lora
        from pygpt.training.base import load_base
        from pygpt.training.kernels import Kernels
        from pygpt.training.network import Network
        from pygpt.training.optimizer import AdamW
        from pygpt.training.parameters import FlatTensors, Parameters
        from pygpt.training.recipe import Recipe

        base = load_base(settings["model"])
        kernels = Kernels(threads, precision=precision)
        checkpoints = settings["gradient_checkpointing"]
        self.network = Network(base.config, kernels, gradient_checkpointing=checkpoints)
        self.params = Parameters(base.config)
        self.params.fill(base.tensors)
        trained: FlatTensors = self.params
        self.lora = None
        if rank := settings["rank"]:
            names = lora.adapted_names(base.config, lora.DEFAULT_TARGETS)
            self.lora = lora.Lora(self.params, names, rank, 2.0 * rank)
            trained = self.lora.trained
            with np.load(folder / "a.npz") as initial:
                for name in names:
                    trained.tensors[f"{name}.lora_a"][...] = initial[name]
        self.grads = Parameters(base.config) if self.lora is None else self.lora.gradients()
        recipe = Recipe(
            steps=10**6,
            batch=1,
            learning_rate=settings["learning_rate"],
            warmup=0,
            min_learning_rate=settings["learning_rate"],
            beta1=BETAS[0],
            beta2=BETAS[1],
            eps=EPS,
            weight_decay=DECAY,
            clip=CLIP,
        )
        self.optimizer = AdamW(kernels, trained.flat, trained.n_decayed, recipe)
        self.steps = 0

    def step(self, ids: Batch, targets: Batch) -> float:
        self.steps += 1
        if self.lora is not None:
            self.lora.materialise()
        self.grads.flat[...] = 0.0
        nats, n = self.network.loss_and_gradients(self.params, self.grads, ids, targets)
        self.optimizer.update(self.grads.flat, self.optimizer.norm(self.grads.flat), self.steps)
        return nats / n


def answer(engine: Engine, command: dict[str, int], batches: Iterator[Batch], before: int) -> dict[str, Any]:
    """Do one command."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    losses, seconds = [], []
    for batch in itertools.islice(batches, command["steps"]):
        ids, targets = (np.ascontiguousarray(part) for part in (batch[:, :-1], batch[:, 1:]))
        begin = time.perf_counter()
        losses.append(engine.step(ids, targets))
        seconds.append(time.perf_counter() - begin)
    return {"losses": losses, "seconds": seconds, "peak": memory("VmHWM") - before}


def main() -> None:
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    settings = json.loads((folder / "settings.json").read_text())
    engine: Engine
    if name == "torch":
        import torch
        import transformers  # noqa: F401

        if settings["rank"]:
            import peft  # noqa: F401
        version, before = torch.__version__, memory("VmRSS")
        engine = Torch(settings, folder, threads)
    else:
        import pygpt
        import pygpt.training.network
        import pygpt.training.optimizer
        from pygpt.training.memory import keep_freed_memory

        keep_freed_memory()  # as `pygpt finetune` does
        version, before = pygpt.__version__, memory("VmRSS")
        engine = Pygpt(settings, folder, threads, "bfloat16" if name == "pygpt-bf16" else "float32")
    batches = itertools.cycle(np.load(folder / "batches.npy"))
    print(json.dumps({"version": version}), flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(engine, json.loads(line), batches, before)), flush=True)


if __name__ == "__main__":
    main()
