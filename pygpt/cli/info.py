"""`pygpt info`: what this machine and this build can do, and what a model needs."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

import pygpt
from pygpt import Model, _core
from pygpt.cli._common import Isa, Kv, Threads, Weights, load_model


def info(
    model: Annotated[str | None, typer.Option("--model", "-m", help="Describe this model as well.")] = None,
    weights: Weights = None,
    kv: Kv = None,
    threads: Threads = None,
    isa: Isa = None,
) -> None:
    """Print the CPU's features, the chosen kernels and threads and, with --model, the model's size and shape."""
    build = _core.build_info()
    cores, why = _core.usable_cores()
    _row("pygpt", pygpt.__version__)
    _row("compiler", build["compiler"])
    _row("CPU features", " ".join(name for name, usable in _core.cpu_features().items() if usable) or "none asked for")
    _row("kernels", f"{_core.select_isa(isa)} (this machine runs {', '.join(_core.isa_names())})")
    _row("threads", f"{cores} ({why})" if threads is None else f"{threads} (as asked; usable: {cores}, {why})")
    if model is not None:
        _describe(model, load_model(model, weights, kv, threads, isa))


def _describe(source: str, model: Model) -> None:
    config = model.config
    per_token = model.kv_bytes_per_token
    _row("model", source)
    _row("parameters", f"{config.n_params():,}")
    _row("weights", f"{_size(model.weight_bytes)} in memory ({model.weights})")
    _row("cache", f"{_size(per_token)} a token, {_size(per_token * config.n_ctx)} when full ({model.kv})")
    _row("tokenizer", f"{model.tokenizer.n_vocab:,} tokens" if model.has_tokenizer else "none")
    for field in dataclasses.fields(config):
        _row(f"  {field.name}", str(getattr(config, field.name)))


def _row(name: str, value: str) -> None:
    typer.echo(f"{name:<30}{value}" if name.startswith(" ") else f"{name:<14}{value}")


def _size(n_bytes: int) -> str:
    """Bytes for people: three digits and a binary unit."""
    size = float(n_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
