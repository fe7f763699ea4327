"""`pygpt info`: what this machine and this build can do; or what a model is and needs."""

from __future__ import annotations

import collections
from typing import Annotated

import typer

import pygpt
from pygpt import _core, checkpoint
from pygpt.cli._common import MODEL, Isa, Threads, find_model
from pygpt.config import LayerConfig, ModelConfig
from pygpt.inspection import Inspection, inspect


def info(
    model: Annotated[str | None, typer.Argument(help=f"{MODEL} Left out: this machine.")] = None,
    threads: Threads = None,
    isa: Isa = None,
) -> None:
    """Print the CPU's features, the chosen kernels and threads; or, with a model, its family, sizes, memory in each
    format, tokenizer, and whether it runs. Of a model only the headers are read; one that is not on this machine is not
    downloaded."""
    if model is not None:
        _describe(inspect(checkpoint.locate(find_model(model), download=False)))
        return
    build = _core.build_info()
    cores, why = _core.usable_cores()
    _row("pygpt", pygpt.__version__)
    _row("compiler", build["compiler"])
    _row("CPU features", " ".join(name for name, usable in _core.cpu_features().items() if usable) or "none asked for")
    _row("kernels", f"{_core.select_isa(isa)} (this machine runs {', '.join(_core.isa_names())})")
    backends = _core.threads_backends()
    _row("backend", f"{_core.select_threads_backend(None)} (of threads; this machine runs {', '.join(backends)})")
    _row("threads", f"{cores} ({why})" if threads is None else f"{threads} (as asked; usable: {cores}, {why})")


def _describe(found: Inspection) -> None:
    _row("model", str(found.path))
    _row("family", found.family or "unknown")
    if found.config is not None:
        _describe_config(found, found.config)
    _row("tokenizer", found.tokenizer or "none")
    _row("chat template", ", ".join(found.chat_templates).replace("default", "yes") or "no")
    _row("runs", "yes" if found.problem is None else f"no: {found.problem}")


def _describe_config(found: Inspection, c: ModelConfig) -> None:
    _row("parameters", f"{c.n_params():,}")
    _row("layers", f"{c.n_layer} of width {c.n_embd:,}, inner width {c.n_inner:,}")
    _row(
        "heads",
        f"{c.n_head} of width {c.head_dim}" + (f", {c.n_kv_head} of keys and values" * (c.n_kv_head < c.n_head)),
    )
    if (experts := next((layer.experts for layer in c.layers if layer.experts is not None), None)) is not None:
        _row("experts", f"{experts.n_used} of {experts.n_expert} for a token, of inner width {experts.n_inner:,}")
    _row("vocabulary", f"{c.n_vocab:,}")
    longer = f", or up to {c.max_n_ctx:,} with --n-ctx" if c.max_n_ctx > c.n_ctx else ""
    _row("context", f"{c.n_ctx:,} tokens{longer}")
    windows = collections.Counter(_window(layer, c.n_ctx) for layer in c.layers)
    for window, n in sorted(windows.items()):
        if window:
            _row("window", f"{window:,} tokens in {n} of {c.n_layer} layers")
    for weights, n_bytes in found.weight_bytes().items():
        _row("weights", f"{_size(n_bytes)} in memory as {weights}")
    for kv, (first, full) in found.cache_bytes().items():
        _row("cache", f"{_size(first)} a token, {_size(full)} when full as {kv}")


def _window(layer: LayerConfig, n_ctx: int) -> int:
    """How many tokens a layer sees; 0: all."""
    return layer.window if layer.window is not None and layer.window < n_ctx else 0


def _row(name: str, value: str) -> None:
    typer.echo(f"{name:<14}{value}")


def _size(n_bytes: int) -> str:
    """Bytes for people: three digits and a binary unit."""
    size = float(n_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
