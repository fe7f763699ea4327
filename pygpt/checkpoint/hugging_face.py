"""Checkpoints in Hugging Face's layout, written: for training to go on from, and for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from numpy.typing import ArrayLike

from pygpt.checkpoint.canonical import stored
from pygpt.checkpoint.folder import (
    CLASSIFIER,
    CONFIG,
    WEIGHTS,
    Extra,
    check_free,
    partial_folder,
    sync,
    sync_all,
    write_settings,
)
from pygpt.checkpoint.safetensors import PYTORCH, write_file
from pygpt.config import ModelConfig
from pygpt.errors import CheckpointError
from pygpt.families import settings_for
from pygpt.tokenizer import EXTRA_FILES, FILES, Tokenizer


def write(
    folder: Path,
    config: ModelConfig,
    tensors: Mapping[str, ArrayLike],
    tokenizer: Tokenizer | None = None,
    extra: Extra | None = None,
) -> None:
    """Write config.json, model.safetensors in float32, the tokenizer's files and a classifier's.

    `tensors` are those of ``config.tensor_shapes()``. `folder` is new or empty, or was written before with the same
    configuration, tokenizer and labels: then its weights are replaced. All this happens in one rename, so whoever is
    killed meanwhile leaves the folder as it was before or as it is after. One process at a time may write a folder.

    Raises ConfigError where no family can say what `config` says, ValueError for tensors that do not fit it, and
    CheckpointError where the folder holds something else or cannot be written.
    """
    family, values = settings_for(config)
    named = {name: ("float32", array) for name, array in stored(config, tensors, family.sources, family.prefix).items()}
    folder = folder.absolute()
    replaces = (folder / CONFIG).is_file()
    if not replaces:
        check_free(folder)
    with partial_folder(folder) as partial:
        write_settings(partial, values, tokenizer, extra)
        if replaces:
            _check_same_settings(folder, partial)
        write_file(partial / WEIGHTS, named | (extra.stored() if extra else {}), PYTORCH)
        sync_all(partial)
        if replaces:
            (partial / WEIGHTS).replace(folder / WEIGHTS)
            sync(folder)
        else:
            partial.rename(folder)
            sync(folder.parent)


def _check_same_settings(folder: Path, partial: Path) -> None:
    """CheckpointError unless the files beside the weights are equal."""
    for name in (CONFIG, CLASSIFIER, *FILES, *EXTRA_FILES):
        old, new = ((f / name).read_bytes() if (f / name).is_file() else None for f in (folder, partial))
        if old != new:
            raise CheckpointError(
                f"{folder}: holds a checkpoint whose {name} differs: only the weights of one with the same "
                "configuration, tokenizer and labels are replaced"
            )
