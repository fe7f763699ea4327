"""Engines made of checkpoints and of arrays: the options of `Model.load` and the packing of tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from pygpt import _core, checkpoint
from pygpt.checkpoint import Weights
from pygpt.config import ModelConfig
from pygpt.errors import CheckpointError
from pygpt.tokenizer import Tokenizer

KvFormat = Literal["float32", "float16", "int8"]
ThreadsBackend = Literal["own", "openmp"]

_MAX_THREADS = 1024  # as csrc/threads/parallel.h


class Made(NamedTuple):
    """An engine, and what it was made of."""

    config: ModelConfig
    tokenizer: Tokenizer | None
    engine: _core.Engine
    weights: Weights
    kv: KvFormat


def of_checkpoint(
    path: Path,
    weights: Weights | None,
    kv: KvFormat | None,
    threads: int,
    isa: str,
    n_ctx: int | None,
    progress: Callable[[int, int], object] | None,
    threads_backend: str | None = None,
) -> Made:
    """The engine of a checkpoint's weights: mapped, if they were saved in the format that is asked for, else packed.
    Raises what `Model.load` does."""
    saved = checkpoint.open_saved(path)
    if saved is not None and weights in (None, saved.weights):
        saved, weights, kv = saved.with_context(n_ctx), saved.weights, kv or _default_kv(saved.weights)
        builder = _new_builder(saved.config, weights, kv, threads, isa, threads_backend, adopts=True)
        try:
            builder.adopt(saved.arrays(builder.packed(saved.blocks())))
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from None
        if progress is not None:
            progress(saved.config.n_params(), saved.config.n_params())
        return Made(saved.config, saved.tokenizer, builder.build(), weights, kv)
    config, tensors, tokenizer = checkpoint.read(path, n_ctx)
    weights = weights or "int8"
    kv = kv or _default_kv(weights)
    builder = _new_builder(config, weights, kv, threads, isa, threads_backend)
    _pack(builder, tensors, config.n_params(), progress)
    return Made(config, tokenizer, builder.build(), weights, kv)


def of_arrays(
    config: ModelConfig,
    arrays: Mapping[str, ArrayLike],
    weights: Weights | None,
    kv: KvFormat | None,
    threads: int,
    isa: str,
    threads_backend: str,
) -> Made:
    """The engine of arrays by the names of ``config.tensor_shapes()``. Raises what `Model.from_tensors` does."""
    weights = weights or "int8"
    kv = kv or _default_kv(weights)
    builder = _new_builder(config, weights, kv, threads, isa, threads_backend)
    for name in _in_order(arrays):
        builder.add(name, np.asarray(arrays[name], np.float32), "float32")
    return Made(config, None, builder.build(), weights, kv)


def _new_builder(
    config: ModelConfig,
    weights: Weights,
    kv: KvFormat,
    threads: int,
    isa: str,
    threads_backend: str | None,
    *,
    adopts: bool = False,
) -> _core.EngineBuilder:
    """An engine that waits for the tensors of ``config.tensor_shapes()``; or, if it `adopts`, for packed ones."""
    builder = _core.EngineBuilder(
        config.for_core(), weights=weights, kv=kv, threads=threads, isa=isa, threads_backend=threads_backend
    )
    if config.sinusoidal_positions and not adopts:  # packed ones hold the table
        builder.add("pos.weight", config.sinusoids().astype(np.float32), "float32")
    return builder


def _in_order(names: Iterable[str]) -> list[str]:
    """The core balances matrices with what feeds them. What feeds others has to be there first; and of the matrices
    that read a norm the first decides about it, which is best one whose results pass through no softmax or gate."""

    def order(name: str) -> tuple[int, int]:
        block = re.match(r"blocks\.(\d+)\.", str(name))
        at = int(block[1]) if block else -1
        ranks = {".attn.v.weight": 0, ".up.weight": 1, ".attn.out.weight": 3, ".down.weight": 3}
        return at, next((rank for end, rank in ranks.items() if str(name).endswith(end)), 2)

    return sorted(names, key=order)


def _pack(
    builder: _core.EngineBuilder,
    tensors: Mapping[str, checkpoint.Tensor],
    total: int,
    progress: Callable[[int, int], object] | None,
) -> None:
    """Pack tensor after tensor; what was read leaves memory as soon as it can."""
    done = 0
    for name in _in_order(tensors):
        tensor = tensors[name]
        values = tensor.raw()
        try:
            builder.add(name, values, tensor.dtype, file=checkpoint.file_of(values))
        except ValueError as error:
            raise CheckpointError(f"{tensor.source}: {error}") from None
        done += math.prod(tensor.shape)
        if progress is not None:
            progress(done, total)


def check_options(
    weights: str | None, kv: str | None, threads: int | None, isa: str | None, threads_backend: str | None
) -> tuple[int, str, str]:
    """The number of threads, the instruction set and the threads' backend to use, once all options are what
    `Model.load` says."""
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
    if threads_backend is not None:
        _check_choice("threads_backend", threads_backend, get_args(ThreadsBackend))
    return threads, _core.select_isa(isa), _core.select_threads_backend(threads_backend)


def _default_kv(weights: Weights) -> KvFormat:
    """The format of cached keys and values that fits that of the weights."""
    return "float32" if weights == "float32" else "float16"


def _check_choice(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
