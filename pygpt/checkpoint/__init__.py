"""Checkpoints: files in, (configuration, canonical tensors, tokenizer) out. Nothing is copied before it is used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pygpt.checkpoint.canonical import canonical
from pygpt.checkpoint.folder import CONFIG, WEIGHTS, Extra, check_free, models_own
from pygpt.checkpoint.hub import locate
from pygpt.checkpoint.hugging_face import write
from pygpt.checkpoint.safetensors import read_file, read_sharded
from pygpt.checkpoint.saved import Weights, open_saved, save
from pygpt.checkpoint.tensor import Dtype, Stored, Tensor, forget
from pygpt.config import ModelConfig
from pygpt.errors import CheckpointError, ConfigError
from pygpt.families import Settings, by_model_type, model_config
from pygpt.tokenizer import Tokenizer

__all__ = [
    "Dtype",
    "Extra",
    "Tensor",
    "Weights",
    "check_free",
    "forget",
    "locate",
    "open_saved",
    "read",
    "save",
    "write",
]

INDEX, GENERATION = "model.safetensors.index.json", "generation_config.json"


def read(path: str | Path) -> tuple[ModelConfig, Mapping[str, Tensor], Tokenizer | None]:
    """Open a checkpoint: a folder in Hugging Face's layout, a .safetensors file with config.json beside it, a .gguf
    file, a folder that holds one, or what `save` wrote.

    The tensors are those of ``config.tensor_shapes()``, in its order and with its shapes, and stay in their files until
    they are asked for. The tokenizer is None where the checkpoint has none that pygpt knows to look for.
    Raises CheckpointError for a missing or damaged file and for tensors that disagree with the configuration, and
    ConfigError for a configuration that pygpt cannot run.
    """
    path = Path(path)
    try:
        path.stat()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: no such file or folder, or not to be looked up: {error}") from error
    if (saved := open_saved(path)) is not None:
        from pygpt.checkpoint.packed import unpacked

        return saved.config, unpacked(saved), saved.tokenizer
    if path.is_file() and path.suffix == ".gguf":
        from pygpt.checkpoint.gguf import read_gguf

        return read_gguf(path)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise CheckpointError(f"{path}: expected a .safetensors or .gguf file, or a folder")
        return _read_hugging_face(path.parent, read_file(path), path)
    if (path / WEIGHTS).is_file():
        return _read_hugging_face(path, read_file(path / WEIGHTS), path / WEIGHTS)
    if (path / INDEX).is_file():
        return _read_hugging_face(path, read_sharded(path / INDEX), path / INDEX)
    found = sorted(path.glob("*.gguf"))
    if len(found) == 1:
        return read(found[0])
    if found:
        names = ", ".join(f.name for f in found)
        raise CheckpointError(f"{path}: holds several GGUF files ({names}): give the path of one")
    pickles = sorted([*path.glob("*.bin"), *path.glob("*.pt"), *path.glob("*.pth")])
    hint = f"; {pickles[0].name} is a pickle, which can run code: convert it to safetensors" if pickles else ""
    raise CheckpointError(f"{path}: no checkpoint here: looked for {WEIGHTS}, {INDEX} and *.gguf{hint}")


def _read_hugging_face(
    folder: Path, stored: Mapping[str, Stored], where: Path
) -> tuple[ModelConfig, Mapping[str, Tensor], Tokenizer | None]:
    values = _json_table(folder / CONFIG)
    family = by_model_type(values, str(folder / CONFIG))
    if (folder / GENERATION).is_file():  # where a chat model lists all the tokens that end its turn
        generation = _json_table(folder / GENERATION)
        values |= {k: generation[k] for k in ("bos_token_id", "eos_token_id") if generation.get(k) is not None}
    config = model_config(family, Settings(values=values, file=str(folder / CONFIG)))
    own = models_own(folder, stored)
    tensors = canonical(where, config, own, family.sources, family.prefix, family.ignored)
    eos_id = config.eos_ids[0] if config.eos_ids else None
    return config, tensors, Tokenizer.from_folder(folder, bos_id=config.bos_id, eos_id=eos_id)


def _json_table(path: Path) -> dict[str, object]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file, and the weights cannot be read without it") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: not a JSON table")
    return values
