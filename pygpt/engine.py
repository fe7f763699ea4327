"""Engines made: the options of `Model.load` and `Model.from_tensors`, and the packing of tensors."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import numpy as np

from pygpt import _core, checkpoint
from pygpt.checkpoint import Weights
from pygpt.config import ModelConfig
from pygpt.errors import CheckpointError

KvFormat = Literal["float32", "float16"]

_MAX_THREADS = 1024  # as csrc/threads/parallel.h


def new_builder(
    config: ModelConfig, *, weights: Weights, kv: KvFormat, threads: int, isa: str, adopts: bool = False
) -> _core.EngineBuilder:
    """An engine that waits for the tensors of ``config.tensor_shapes()``; or, if it `adopts`, for packed ones."""
    builder = _core.EngineBuilder(config.for_core(), weights=weights, kv=kv, threads=threads, isa=isa)
    if config.sinusoidal_positions and not adopts:  # packed ones hold the table
        builder.add("pos.weight", config.sinusoids().astype(np.float32), "float32")
    return builder


def pack(
    builder: _core.EngineBuilder,
    tensors: Mapping[str, checkpoint.Tensor],
    total: int,
    progress: Callable[[int, int], object] | None,
) -> None:
    """Pack tensor after tensor; what was read leaves memory as soon as it can."""
    done = 0
    for name, tensor in tensors.items():
        values = tensor.raw()
        try:
            builder.add(name, values, tensor.dtype, functools.partial(checkpoint.forget, values))
        except ValueError as error:
            raise CheckpointError(f"{tensor.source}: {error}") from None
        done += math.prod(tensor.shape)
        if progress is not None:
            progress(done, total)


def check_options(weights: str | None, kv: str | None, threads: int | None, isa: str | None) -> tuple[int, str]:
    """The number of threads and the instruction set to use, once all options are what `Model.load` says."""
    if weights is not None:
        _check_choice("weights", weights, get_args(Weights))
    if kv is not None:
        _check_choice("kv", kv, get_args(KvFormat))
    if threads is None:
        threads = _core.usable_cores()[0]
    elif isinstance(threads, bool) or not isinstance(threads, int):
        raise TypeError(f"threads must be an integer >= 1, or None, not {threads!r}")
    elif not 1 <= threads <= _MAX_THREADS:
        raise ValueError(f"threads must be an integer >= 1 and <= {_MAX_THREADS}, or None, not {threads}")
    return threads, _core.select_isa(isa)


def default_kv(weights: Weights) -> KvFormat:
    """The format of cached keys and values that fits that of the weights."""
    return "float32" if weights == "float32" else "float16"


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
