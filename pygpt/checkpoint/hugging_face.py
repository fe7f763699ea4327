"""Checkpoints in Hugging Face's layout: read, and written for training to go on from and for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from numpy.typing import ArrayLike

from pygpt._json import read_table, shown
from pygpt.checkpoint.canonical import canonical, stored
from pygpt.checkpoint.folder import (
    CLASSIFIER,
    CONFIG,
    INDEX,
    PICKLED_INDEX,
    WEIGHTS,
    Extra,
    check_free,
    models_own,
    partial_folder,
    sync,
    sync_all,
    write_settings,
)
from pygpt.checkpoint.mxfp4 import with_scales
from pygpt.checkpoint.safetensors import PYTORCH, read_file, read_sharded, write_file
from pygpt.checkpoint.tensor import Stored, Tensor
from pygpt.config import ModelConfig
from pygpt.errors import CheckpointError, ConfigError, check_type
from pygpt.families import Family, Settings, by_model_type, by_own_form, keys, model_config, settings_for
from pygpt.tokenizer import Tokenizer, saved_files

GENERATION, ADAPTER = "generation_config.json", "adapter_config.json"
_ENDS = ("bos_token_id", "eos_token_id")


def read_folder(weights: Path) -> tuple[ModelConfig, Mapping[str, Tensor], Tokenizer | None]:
    """The checkpoint of a .safetensors or .bin file, or of an index of several, with config.json beside it.

    Raises CheckpointError and ConfigError, as `pygpt.checkpoint.read` says.
    """
    folder = weights.parent
    if (folder / ADAPTER).is_file():
        raise CheckpointError(
            f"{folder / ADAPTER}: an adapter changes this model, and pygpt does not apply it: merge it"
        )
    family, config = _configuration(folder)
    head_source = family.sources_of(config)["head"]
    head = tuple(f"{name}.weight" for name in (head_source.module, head_source.also))
    read = _read_pickled if weights.name.endswith((PICKLED_INDEX, ".bin", ".pt", ".pth")) else read_file
    if weights.name.endswith((INDEX, PICKLED_INDEX)):
        found = read_sharded(weights, head if config.tied_head else (), read)
    else:
        found = read(weights)
    own = with_scales(models_own(folder, found))
    tensors = canonical(weights, config, own, family.sources_of(config, own), family.prefix, family.ignored)
    eos_id = config.eos_ids[0] if config.eos_ids else None
    return config, tensors, Tokenizer.from_folder(folder, bos_id=config.bos_id, eos_id=eos_id)


def _read_pickled(path: Path) -> dict[str, Stored]:
    from pygpt.checkpoint.pytorch import read_pytorch, tensors_of  # here, because few checkpoints need it

    return tensors_of(path, read_pytorch(path))


def read_pickled(path: Path) -> tuple[ModelConfig, Mapping[str, Tensor], Tokenizer | None]:
    """The checkpoint of a file of `torch.save`: in the form of the program that trained it, or with a config.json
    beside it that says what model it is. Raises CheckpointError and ConfigError, as `pygpt.checkpoint.read` says."""
    from pygpt.checkpoint.pytorch import read_pytorch, tensors_of

    beside = path.parent / CONFIG
    values = read_table(beside, ConfigError) if beside.is_file() else {}
    if "model_type" in values:
        return read_folder(path)
    table = read_pytorch(path)
    found = by_own_form(table, values, str(path))
    if found is None:
        raise CheckpointError(f"{path}: holds {shown(list(table))}, and {beside} does not say what model that is")
    family, (own_settings, own_tensors) = found
    settings = Settings(own_settings, str(path))
    config = model_config(family, settings)
    keys.refuse_unknown(settings.rest(), family.harmless, settings.file)
    found_tensors = tensors_of(path, own_tensors)
    tensors = canonical(path, config, found_tensors, family.sources_of(config), family.prefix, family.ignored)
    return config, tensors, Tokenizer.from_folder(path.parent)


def _configuration(folder: Path) -> tuple[Family, ModelConfig]:
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file, and the weights cannot be read without it")
    values = read_table(path, ConfigError)
    if (folder / GENERATION).is_file():  # where a chat model lists all the tokens that end its turn
        generation = Settings(read_table(folder / GENERATION, ConfigError), str(folder / GENERATION))
        values |= {key: generation.get(key) for key in _ENDS if generation.has(key)}
        keys.refuse_unknown(generation.rest(), keys.GENERATION, generation.file)
    settings = Settings(values, str(path))
    family = by_model_type(settings)
    config = model_config(family, settings)
    keys.refuse_unknown(settings.rest(), {**keys.CONFIG, **family.harmless}, settings.file)
    return family, config


def write(
    folder: Path,
    config: ModelConfig,
    tensors: Mapping[str, ArrayLike],
    tokenizer: Tokenizer | None = None,
    extra: Extra | None = None,
    family: str | None = None,
) -> None:
    """Write config.json, model.safetensors in float32, the tokenizer's files and a classifier's.

    `tensors` are those of ``config.tensor_shapes()``. `folder` is new or empty, or was written before with the same
    configuration, tokenizer and labels: then its weights are replaced. All this happens in one rename, so whoever is
    killed meanwhile leaves the folder as it was before or as it is after. One process at a time may write a folder.

    family: which one's config.json and names it has where several can say the same (`family_of`); None: a common one.

    Raises ConfigError where no family can say what `config` says, ValueError for tensors that do not fit it, and
    CheckpointError where the folder holds something else or cannot be written.
    """
    check_type("folder", folder, Path)
    check_type("config", config, ModelConfig)
    check_type("tensors", tensors, Mapping)
    check_type("tokenizer", tokenizer, Tokenizer, type(None))
    check_type("extra", extra, Extra, type(None))
    check_type("family", family, str, type(None))
    chosen, values = settings_for(config, family)
    arrays = stored(config, tensors, chosen.sources_of(config), chosen.prefix)
    named = {name: ("float32", array) for name, array in arrays.items()}
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
    for name in dict.fromkeys((CONFIG, CLASSIFIER, *saved_files(folder), *saved_files(partial))):
        old, new = ((f / name).read_bytes() if (f / name).is_file() else None for f in (folder, partial))
        if old != new:
            raise CheckpointError(
                f"{folder}: holds a checkpoint whose {name} differs: only the weights of one with the same "
                "configuration, tokenizer and labels are replaced"
            )
