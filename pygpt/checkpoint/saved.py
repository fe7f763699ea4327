"""Checkpoints that pygpt saves: the packed weights as plain safetensors, config.json, the tokenizer's files.

Loading one is a memory map. The layout is described in docs/formats.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from pygpt._json import read_table, shown
from pygpt.checkpoint import vocabulary
from pygpt.checkpoint.folder import (
    CONFIG,
    WEIGHTS,
    Extra,
    check_free,
    models_own,
    partial_folder,
    sync,
    sync_all,
    write_settings,
)
from pygpt.checkpoint.safetensors import PACKED, Opened, open_file, write_file
from pygpt.config import MAX_LAYERS, Experts, LayerConfig, ModelConfig, Rope, RopeScaling
from pygpt.errors import CheckpointError, ConfigError, TokenizerError
from pygpt.tokenizer import Tokenizer

Weights = Literal["int8", "bfloat16", "float32"]

MODEL_TYPE = "pygpt"
POSITIONS = "pos.weight"  # (n_ctx, n_embd), which is not packed
VERSION = 4
_VERSIONS = (1, 2, 3, VERSION)
INT8_GROUP = 128
_KEYS = ("model_type", "version", "weights", "int8_group", "config")

_TYPES: dict[str, tuple[type, ...]] = {  # of the annotations in pygpt.config; bool is no int here
    "int": (int,),
    "int | None": (int, type(None)),
    "float": (int, float),
    "float | None": (int, float, type(None)),
    "bool": (bool,),
    "tuple[int, ...]": (list,),
    "tuple[float, ...]": (list,),
    **dict.fromkeys(("Norm", "Activation", "NormPlacement", "Branches", "RopeScalingKind"), (str,)),
    "QkNorm | None": (str, type(None)),
}
_NESTED = {"Rope | None": Rope, "RopeScaling | None": RopeScaling, "Experts | None": Experts}
_LISTS = {"tuple[LayerConfig, ...]": LayerConfig}


class Saved(NamedTuple):
    """A saved checkpoint, opened; its weights are not read yet."""

    config: ModelConfig
    weights: Weights
    file: Opened
    tokenizer: Tokenizer | None

    def with_context(self, n_ctx: int | None) -> Saved:
        """The same checkpoint for another context, as `ModelConfig.with_context` says; None: its own."""
        return self if n_ctx is None else self._replace(config=self.config.with_context(n_ctx))

    def blocks(self) -> set[str]:
        """The names of the matrices that are in MXFP4."""
        return {name for name, entry in self.file.entries.items() if entry.dtype == "U8"}

    def arrays(self, wanted: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, NDArray[np.generic]]:
        """The packed tensors, as views of one memory map. `wanted` gives each one's (dtype, shape); CheckpointError
        unless the file holds these and no others. Of the positions it may hold more than the context takes."""
        path, entries = self.file.file.path, self.file.entries
        for name, (dtype, shape) in wanted.items():
            if name not in entries:
                raise CheckpointError(f"{path}: lacks the tensor {name!r}, which its configuration asks for")
            found = entries[name]
            held = (
                (min(found.shape[0], shape[0]), *found.shape[1:]) if name == POSITIONS and found.shape else found.shape
            )
            if (found.dtype, held) != (PACKED[dtype][0], tuple(shape)):
                raise CheckpointError(
                    f"{path}: tensor {name!r} is {found.dtype} of shape {list(found.shape)}, but the configuration "
                    f"asks for {PACKED[dtype][0]} of shape {list(shape)}"
                )
        for name in models_own(path.parent, entries):
            if name not in wanted:
                raise CheckpointError(f"{path}: holds the tensor {name!r}, which its configuration does not have")
        arrays = self.file.arrays({name: PACKED[dtype][1] for name, (dtype, _) in wanted.items()})
        if POSITIONS in wanted:
            arrays[POSITIONS] = arrays[POSITIONS][: wanted[POSITIONS][1][0]]
        return arrays


def open_saved(path: Path) -> Saved | None:
    """A folder that `save` wrote, or its weights' file; None where `path` is something else.

    Raises CheckpointError or ConfigError for a damaged one, before memory is taken by its numbers.
    """
    is_file = path.suffix.lower() == ".safetensors" and path.is_file()
    folder, weights = (path.parent, path) if is_file else (path, path / WEIGHTS)
    where = folder / CONFIG
    try:
        values: dict[str, Any] = read_table(where, ConfigError)
    except ConfigError:  # whoever reads other checkpoints says what is wrong
        return None
    if values.get("model_type") != MODEL_TYPE:
        return None
    for key, allowed in (
        ("version", _VERSIONS),
        ("weights", get_args(Weights)),
        ("int8_group", (INT8_GROUP,)),
    ):
        if values.get(key) not in allowed or isinstance(values.get(key), bool):
            known = ", ".join(map(repr, allowed))
            raise CheckpointError(f"{where}: {key} is {shown(values.get(key))}; this version of pygpt reads {known}")
    if odd := sorted(values.keys() - _KEYS):
        raise CheckpointError(f"{where}: holds the key {shown(odd[0])}; this version of pygpt reads {', '.join(_KEYS)}")
    try:
        table = values.get("config")
        if values["version"] < VERSION and isinstance(table, dict):
            table = _with_layers(table)
        config: ModelConfig = _from_table(ModelConfig, table, "config")
        n_params = config.for_core().n_params()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    file = open_file(weights)
    if config.n_layer > len(file.entries) or n_params > 2 * file.file.size:  # half a byte each
        raise CheckpointError(f"{weights}: too small for the model that {CONFIG} describes")
    return Saved(config, values["weights"], file, vocabulary.of_folder(folder, *_ends(config)))


def _ends(config: ModelConfig) -> tuple[int | None, int | None]:
    """The ids of bos and eos."""
    return config.bos_id, config.eos_ids[0] if config.eos_ids else None


def _with_layers(old: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a version before the fourth, in which one field stood for all layers."""
    table = dict(old)
    n_layer, scale, rope = table.pop("n_layer", None), table.pop("attn_scale", None), table.pop("rope", None)
    by_inverse_layer, post_norm = table.pop("attn_scale_by_inverse_layer", False), table.pop("post_norm", False)
    if type(n_layer) is not int or not 1 <= n_layer <= MAX_LAYERS:
        raise ConfigError(f"config.n_layer is {shown(n_layer)}, but must be an integer from 1 to {MAX_LAYERS}")
    if type(scale) not in (int, float) or type(by_inverse_layer) is not bool or type(post_norm) is not bool:
        raise ConfigError(
            "config must hold a number attn_scale, and of attn_scale_by_inverse_layer and post_norm flags"
        )
    scales = (scale / (i + 1) if by_inverse_layer else scale for i in range(n_layer))
    table["layers"] = [{"attn_scale": s, "rope": rope} for s in scales]
    table["norm_placement"] = "after_sum" if post_norm else "before_branch"
    return table


def _from_table(cls: Callable[..., Any], values: object, name: str) -> Any:
    """A dataclass of pygpt.config from its JSON table, which must hold each field without a default, and no others."""
    if not isinstance(values, dict):
        raise ConfigError(f"{name} is {shown(values)}, but must be a table")
    known = dataclasses.fields(cls)  # type: ignore[arg-type]
    fields = {field.name: str(field.type) for field in known}
    needed = {field.name for field in known if field.default is dataclasses.MISSING}
    if not needed <= values.keys() <= fields.keys():
        odd = sorted((needed - values.keys()) | (values.keys() - fields.keys()))
        raise ConfigError(f"{name} must have just the fields {', '.join(fields)}: check {', '.join(odd)}")
    out: dict[str, object] = {}
    for key, value in values.items():
        annotation = fields[key]
        if annotation in _LISTS:
            if not isinstance(value, list):
                raise ConfigError(f"{name}.{key} is {shown(value)}, but must be a list")
            value = tuple(_from_table(_LISTS[annotation], v, f"{name}.{key}[{i}]") for i, v in enumerate(value))
        elif annotation in _NESTED:
            value = None if value is None else _from_table(_NESTED[annotation], value, f"{name}.{key}")
        elif type(value) not in _TYPES[annotation]:
            raise ConfigError(f"{name}.{key} is {shown(value)}, but must be {annotation}")
        elif isinstance(value, list):
            kind = annotation.removeprefix("tuple[").removesuffix(", ...]")
            if any(type(v) not in _TYPES[kind] for v in value):
                raise ConfigError(
                    f"{name}.{key} is {shown(value)}, but must be {'integers' if kind == 'int' else 'numbers'}"
                )
            value = tuple(value)
        out[key] = value
    return cls(**out)


def save(
    folder: Path,
    config: ModelConfig,
    weights: Weights,
    tensors: Mapping[str, tuple[str, NDArray[np.generic]]],
    tokenizer: Tokenizer | None,
    extra: Extra | None = None,
) -> None:
    """Write a checkpoint as a whole or not at all: into a folder beside it, which is renamed when all is on the disk.

    A tokenizer that pygpt cannot read is left out. Raises CheckpointError; see `check_free`.
    """
    check_free(folder)
    folder = folder.absolute()
    table = {
        "model_type": MODEL_TYPE,
        "version": VERSION,
        "weights": weights,
        "int8_group": INT8_GROUP,
        "config": dataclasses.asdict(config),
    }
    with partial_folder(folder, f".{os.urandom(4).hex()}") as partial:
        write_settings(partial, table, tokenizer, extra)
        with contextlib.suppress(TokenizerError):  # as it is left out itself
            vocabulary.write(partial, *_ends(config))
        write_file(partial / WEIGHTS, {**tensors, **(extra.stored() if extra else {})})
        sync_all(partial)
        partial.rename(folder)
        sync(folder.parent)
