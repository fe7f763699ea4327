"""Training and fine-tuning: backward passes in NumPy, the papers' recipes, data, and the loop.

`pretrain` and `finetune` do all of it; `resume` goes on with a run, and a `Watcher` sees and stops one. What they are
made of is here too, for training that they do not know:

    from pygpt.training import LanguageModel, Network, Parameters, RunFolder, prepare, preset, train
    from pygpt.training.architecture import architecture
    from pygpt.training.kernels import Kernels

    with RunFolder.create(Path("run"), {"kind": "mine"}) as run:
        data = prepare(Path("text.txt"), run.data, tokenizer="char")
        config = architecture("gpt2", n_vocab=data.n_vocab, n_ctx=64, n_layer=4, n_head=4, n_embd=128)
        recipe = preset("gpt3", n_params=config.n_params(), n_ctx=config.n_ctx, n_tokens=len(data.train))
        kernels, params = Kernels(), Parameters(config)
        params.initialise(recipe.seed)
        objective = LanguageModel(Network(config, kernels, recipe.dropout), params, data, recipe)
        train(objective, recipe, kernels, run)

The names below are loaded when they are first used; other modules of this package are how they are made.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pygpt.training.data import Dataset, prepare
    from pygpt.training.finetuning import finetune
    from pygpt.training.language_model import LanguageModel
    from pygpt.training.loop import Objective, train
    from pygpt.training.network import Network
    from pygpt.training.parameters import Parameters
    from pygpt.training.plan import Plan
    from pygpt.training.presets import preset
    from pygpt.training.pretraining import pretrain
    from pygpt.training.recipe import Recipe
    from pygpt.training.resuming import resume
    from pygpt.training.run_folder import RunFolder
    from pygpt.training.runs import TrainingResult
    from pygpt.training.state import Progress
    from pygpt.training.watch import Watcher

__all__ = [
    "Dataset",
    "LanguageModel",
    "Network",
    "Objective",
    "Parameters",
    "Plan",
    "Progress",
    "Recipe",
    "RunFolder",
    "TrainingResult",
    "Watcher",
    "finetune",
    "prepare",
    "preset",
    "pretrain",
    "resume",
    "train",
]

_MODULES = {
    "Dataset": "data",
    "LanguageModel": "language_model",
    "Network": "network",
    "Objective": "loop",
    "Parameters": "parameters",
    "Plan": "plan",
    "Progress": "state",
    "Recipe": "recipe",
    "RunFolder": "run_folder",
    "TrainingResult": "runs",
    "Watcher": "watch",
    "finetune": "finetuning",
    "prepare": "data",
    "preset": "presets",
    "pretrain": "pretraining",
    "resume": "resuming",
    "train": "loop",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
