"""The checkpoints that tests/make_parity.py makes: a module for each group of families, with a list `GOLDENS`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

Edit = Callable[[dict[str, Any], dict[str, torch.Tensor]], None]


@dataclass(frozen=True)
class Golden:
    """One checkpoint: its folder, its configuration, the dtype it is stored in and the way it is written.

    `mend` changes the class's instance where it is not what pygpt takes for the original: the list says why.
    `edit` turns config.json and the tensors that this transformers writes into what another version wrote; the original
    implementation reads what comes of it.
    """

    name: str
    config: PretrainedConfig
    dtype: torch.dtype
    max_shard_size: str = "1GB"
    edit: Edit | None = None
    mend: Callable[[PreTrainedModel], None] | None = None
    attention: str = "eager"  # the class's own implementation of it that runs
    n_ctx: int | None = None  # of the text; None: what the configuration calls max_position_embeddings


def goldens() -> list[Golden]:
    """Those of all groups."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [golden for name in names for golden in importlib.import_module(f"{__name__}.{name}").GOLDENS]


def old_dtype(config: dict[str, Any]) -> None:
    """The type of the weights as transformers 4 wrote it; the class's own default stands for tied weights."""
    config["torch_dtype"] = config.pop("dtype")
    del config["tie_word_embeddings"]


def old_rope(config: dict[str, Any]) -> None:
    """Rotary positions as transformers 4 wrote them."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    if (kind := rope.pop("rope_type")) != "default":
        config["rope_scaling"] = {"type": kind, **rope}


def without_prefix(tensors: dict[str, torch.Tensor], prefix: str) -> None:
    """Names as in a checkpoint of the model without its head."""
    for name in [name for name in tensors if name.startswith(prefix)]:
        tensors[name.removeprefix(prefix)] = tensors.pop(name)


def causal_mask(n_ctx: int) -> torch.Tensor:
    """The mask that older checkpoints hold as a tensor of each layer."""
    return torch.ones(n_ctx, n_ctx).tril().view(1, 1, n_ctx, n_ctx)
